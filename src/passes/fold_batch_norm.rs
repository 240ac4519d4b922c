//! Batch normalization disappears into the weights before it.

use crate::graph::{Graph, Node, Value};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::{Op, Window};
use crate::tensor::{Shape, Tensor};

/// `BatchNorm(Conv(x, w, b))` → `Conv(x, w · factor, b · factor + offset)`, likewise for a linear
/// layer. A normalization of `[n, c, h, w]` with nothing to fold into becomes a depthwise 1×1
/// convolution.
///
/// Jacob et al. 2018, <https://arxiv.org/abs/1712.05877>, eq. 14.
pub fn fold_batch_norm(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.nodes.len() {
        if let Op::BatchNorm(op) = graph.nodes[index].op {
            if fold_into_producer(graph, index, op).is_some() {
                continue;
            }
            to_depthwise(graph, index, op);
        }
        index += 1;
    }
}

fn affine(graph: &Graph, node: &Node, op: BatchNorm) -> Option<Vec<(f64, f64)>> {
    let parameters = [1, 2, 3, 4].map(|i| graph.real_constant(node.inputs[i]));
    let [Some(scale), Some(bias), Some(mean), Some(variance)] = parameters else { return None };
    Some(op.affine([scale, bias, mean, variance].map(Tensor::data)))
}

fn fold_into_producer(graph: &mut Graph, index: usize, op: BatchNorm) -> Option<()> {
    let norm = &graph.nodes[index];
    let channels = affine(graph, norm, op)?;
    let x = norm.inputs[0];
    let producer = graph.sole_producer(x)?;
    let node = &graph.nodes[producer];
    let axis = match &node.op {
        Op::Conv(_) => 0,
        // The channels of a batch norm are axis 1, those of a linear layer the last one.
        Op::Linear(op) if graph.values[x].shape.len() == 2 => !op.transposed as usize,
        _ => return None,
    };
    if node.clamp != Clip::NONE {
        return None;
    }
    let weight = graph.real_constant(node.inputs[1])?;
    let inner: usize = weight.shape()[axis + 1..].iter().product();
    let scaled = weight.data().iter().enumerate();
    let scaled = scaled.map(|(i, &w)| (w as f64 * channels[i / inner % channels.len()].0) as f32);
    let weight = Tensor::new(weight.shape(), scaled.collect()).ok()?;
    let old = match node.inputs.get(2) {
        Some(&bias) => graph.real_constant(bias)?.data().to_vec(),
        None => vec![0.0; channels.len()],
    };
    let bias =
        old.iter().zip(&channels).map(|(&b, (factor, offset))| (b as f64 * factor + offset) as f32);
    let bias = Tensor::from_vec(bias.collect());
    let constants = add_constants(graph, producer, weight, bias);
    let norm = graph.nodes.remove(index);
    let node = &mut graph.nodes[producer];
    node.inputs.splice(1.., constants);
    node.output = norm.output;
    node.clamp = norm.clamp;
    Some(())
}

fn to_depthwise(graph: &mut Graph, index: usize, op: BatchNorm) -> Option<()> {
    let node = &graph.nodes[index];
    let channels = affine(graph, node, op)?;
    let shape = &graph.values[node.inputs[0]].shape;
    if shape.len() != 4 {
        return None;
    }
    let group = shape[1];
    let kernel: Shape = vec![group, 1, 1, 1];
    let weight = Tensor::new(kernel, channels.iter().map(|c| c.0 as f32).collect()).ok()?;
    let bias = Tensor::from_vec(channels.iter().map(|c| c.1 as f32).collect());
    let constants = add_constants(graph, index, weight, bias);
    let node = &mut graph.nodes[index];
    node.inputs.splice(1.., constants);
    node.op = Op::Conv(Conv { window: Window::new([1, 1]), group });
    Some(())
}

fn add_constants(
    graph: &mut Graph,
    node: usize,
    weight: Tensor<f32>,
    bias: Tensor<f32>,
) -> [usize; 2] {
    let name = graph.nodes[node].name.clone();
    [("weight", weight), ("bias", bias)].map(|(what, tensor)| {
        let name = graph.fresh_name(format!("{name}.folded_{what}"));
        graph.add_value(Value::real(name, tensor))
    })
}
