//! Factors of channels that equalization has put into a quantized network.

use std::borrow::Cow;

use crate::graph::{Constant, Graph, Index, Node};
use crate::ops::{Channels, Filters};
use crate::tensor::Tensor;

/// A factor counts if without it the weights of its channel are so much further from those of the float network.
const CLEARLY: f64 = 4.0;

/// `float` with channels (axis 1) that have the factors of those of `quantized`: as weights tell, layer by layer.
/// It computes the same, and its constants and values are those that `quantized` has codes of.
pub fn rescaled<'a>(float: &'a Graph, quantized: &Graph) -> Cow<'a, Graph> {
    let mut factors: Vec<Vec<f32>> = vec![vec![]; float.values.len()];
    for v in float.activations() {
        factors[v] = vec![1.0; float.values[v].shape.get(1).copied().unwrap_or(1)];
    }
    let mut rescaled = Cow::Borrowed(float);
    for (index, node) in float.nodes.iter().enumerate() {
        match node.op.channel_factors(&float.input_shapes(node), &float.values[node.output].shape) {
            Channels::Made { of, .. } => {
                let of_argument = |&(argument, c): &(usize, usize)| {
                    factors[node.inputs[argument]].get(c).copied().unwrap_or(1.0)
                };
                let made = of.iter().map(|made_of| made_of.first().map_or(1.0, of_argument));
                factors[node.output] = made.collect();
            }
            Channels::Weighted(filters) => {
                let x = factors[node.inputs[0]].clone();
                let y = of_weights(float, quantized, node, &filters, &x);
                if x.iter().chain(&y).any(|&factor| factor != 1.0) {
                    apply(rescaled.to_mut(), index, &filters, &x, &y);
                }
                factors[node.output] = y;
            }
            Channels::Fixed => {}
        }
        let twin = twin(quantized, float, node);
        if let Some(twin) = twin.filter(|_| factors[node.output].iter().any(|&f| f != 1.0)) {
            rescaled.to_mut().nodes[index].clamp = twin.clamp;
        }
    }
    rescaled
}

/// The node of `graph` that is called like `node`, or else whose result is.
pub fn twin<'a>(graph: &'a Graph, of: &Graph, node: &Node) -> Option<&'a Node> {
    let result = &of.values[node.output].name;
    let by_name = graph.nodes.iter().find(|twin| twin.name == node.name);
    by_name.or_else(|| graph.nodes.iter().find(|it| graph.values[it.output].name == *result))
}

/// The factors of the result of `node`, whose argument has those of `x`.
fn of_weights(
    float: &Graph,
    quantized: &Graph,
    node: &Node,
    filters: &Filters,
    x: &[f32],
) -> Vec<f32> {
    let channels = float.values[node.output].shape.get(1).copied().unwrap_or(1);
    let mut factors = vec![1.0; channels];
    let twin = twin(quantized, float, node).filter(|twin| twin.op == node.op);
    let Some(twin) = twin.filter(|twin| twin.inputs.len() >= node.inputs.len()) else {
        return factors;
    };
    let both = |argument: usize| {
        let real = float.real_constant(*node.inputs.get(argument)?)?;
        let rounded = quantized.values[twin.inputs[argument]].to_real()?;
        (real.shape() == rounded.shape()).then_some((real, rounded))
    };
    // Of each channel the products that the factor of least squares, and its error, follow from.
    let mut sums = vec![[0f64; 3]; channels];
    let mut add = |o: usize, real: f64, rounded: f64| {
        let sum = &mut sums[o];
        *sum = [sum[0] + real * real, sum[1] + real * rounded, sum[2] + rounded * rounded];
    };
    let Some((real, rounded)) = both(1) else { return factors };
    for (i, (&real, &rounded)) in real.data().iter().zip(rounded.data()).enumerate() {
        let (o, c) = filters.place(i);
        add(o, (real / x[c]) as f64, rounded as f64);
    }
    for (factor, [real, product, rounded]) in factors.iter_mut().zip(sums) {
        let nearest = product / real;
        let error = |f: f64| (rounded - 2.0 * f * product + f * f * real).max(0.0);
        if nearest.is_normal() && nearest > 0.0 && CLEARLY * error(nearest) < error(1.0) {
            *factor = nearest as f32;
        }
    }
    factors
}

/// Multiplies weights and biases of node `index` by factors of the result, and divides weights by those of the argument.
fn apply(graph: &mut Graph, index: usize, filters: &Filters, x: &[f32], y: &[f32]) {
    let mut uses = Index::new(graph);
    for argument in 1..graph.nodes[index].inputs.len() {
        let v = uses.own_argument(graph, index, argument);
        let Some(real) = graph.real_constant(v) else { continue };
        let factor = |i: usize| match (argument, filters.place(i)) {
            (1, (o, c)) => y[o] / x[c],
            _ => y[i % y.len().max(1)],
        };
        let scaled = real.data().iter().enumerate().map(|(i, &w)| w * factor(i)).collect();
        if let Ok(scaled) = Tensor::new(real.shape(), scaled) {
            graph.values[v].constant = Some(Constant::Real(scaled));
        }
    }
}
