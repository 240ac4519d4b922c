//! Masks that are added before a softmax: what they take away has no share in it, whatever it was.

use super::Plan;
use crate::calibrate::Observer;
use crate::calibrate::histogram::Histogram;
use crate::error::{Context, Result, bail};
use crate::graph::{Graph, Index, Node, Value, ValueId};
use crate::ops::clip::Clip;
use crate::ops::{Op, OutputParams};
use crate::quant::{Range, Width};
use crate::tensor::Tensor;

/// What is added to take a number away is less than this.
const MASKED: f32 = -64.0;
/// As low as any: with 16 bits for the sum its steps are as fine as those of 8 bits for what it is added to, and the
/// exponential of what lies less than that above is nothing.
const LOWEST: f32 = -512.0;
/// The exponential of the rest is nothing.
const WIDEST: f32 = -LOWEST - 17.0;

/// Makes numbers of masks that have codes beside what they are added to: none is less than [`LOWEST`], and what
/// is no mask of a constant is added by itself.
pub(super) fn soften_masks(graph: &mut Graph) {
    let mut parts: Vec<Option<[ValueId; 2]>> = vec![None; graph.values.len()];
    let mut index = Index::new(graph);
    for (at, argument) in masked(graph).into_iter().rev() {
        let v = graph.nodes[at].inputs[argument];
        let Some(real) = graph.real_constant(v).cloned() else { continue };
        let [others, mask] = *parts[v].get_or_insert_with(|| {
            let others = real.map(|&x| if x < MASKED { 0.0 } else { x });
            let mask = real.map(|&x| if x < MASKED { x.max(LOWEST) } else { 0.0 });
            [("others", others), ("mask", mask)].map(|(what, tensor)| {
                let name = format!("{}.{what}", graph.values[v].name);
                index.add_value(graph, Value::real(name, tensor))
            })
        });
        graph.nodes[at].inputs[argument] = mask;
        if graph.real_constant(others).is_some_and(|t| t.data().iter().any(|&x| x != 0.0)) {
            add_before(graph, &mut index, at, 1 - argument, others);
        }
    }
    graph.remove_unused_values();
}

/// Adds `constant` to an argument of node `at`.
fn add_before(graph: &mut Graph, index: &mut Index, at: usize, argument: usize, constant: ValueId) {
    let Node { name, parts, op, inputs, output, .. } = graph.nodes[at].clone();
    let sum = Value { shape: graph.values[output].shape.clone(), ..Value::default() };
    let sum = index.add_value(graph, Value { name: format!("{name}.others"), ..sum });
    let name = graph.values[sum].name.clone();
    let inputs = vec![inputs[argument], constant];
    graph.nodes[at].inputs[argument] = sum;
    graph.nodes.insert(at, Node { name, parts, op, clamp: Clip::NONE, inputs, output: sum });
}

/// Sums that only a softmax reads, and which of their two arguments is a constant that takes numbers out of it.
fn masked(graph: &Graph) -> Vec<(usize, usize)> {
    let is_mask = |&v: &ValueId| {
        let all = graph.real_constant(v).map_or(&[][..], Tensor::data);
        all.iter().any(|&x| x < MASKED) && all.iter().any(|&x| x >= MASKED)
    };
    let before = before_softmax(graph);
    let nodes = graph.nodes.iter().enumerate().filter(|(_, node)| {
        node.op.takes_masks() && before[node.output] && graph.values[node.output].quant.is_none()
    });
    nodes.filter_map(|(at, node)| Some((at, node.inputs.iter().position(is_mask)?))).collect()
}

/// Whether each value is read by a softmax, and by nothing else but what moves it or adds a constant.
fn before_softmax(graph: &Graph) -> Vec<bool> {
    let mut readers: Vec<Option<bool>> = vec![None; graph.values.len()];
    graph.outputs.iter().for_each(|&v| readers[v] = Some(false));
    for node in graph.nodes.iter().rev() {
        let passes =
            node.op.output_params() == OutputParams::SameAsInput || adds_constant(graph, node);
        let leads = matches!(node.op, Op::Softmax(_))
            || passes && node.clamp == Clip::NONE && readers[node.output] == Some(true);
        for &v in &node.inputs {
            readers[v] = Some(readers[v].unwrap_or(true) && leads);
        }
    }
    readers.into_iter().map(|leads| leads == Some(true)).collect()
}

fn adds_constant(graph: &Graph, node: &Node) -> bool {
    matches!(node.op, Op::Add(_)) && node.inputs.iter().any(|&v| graph.real_constant(v).is_some())
}

/// Refuses what is so wide that a mask of [`LOWEST`] hides no part of it.
pub(super) fn check_masked(graph: &Graph, observer: &Observer) -> Result<()> {
    for (at, argument) in masked(graph) {
        let node = &graph.nodes[at];
        let lowest = graph.real_constant(node.inputs[argument]).into_iter().flat_map(Tensor::data);
        let seen = observer.histogram(node.inputs[1 - argument]).map(Histogram::range);
        let Some(Range { lo, hi }) = seen.filter(|_| lowest.into_iter().any(|&x| x == LOWEST))
        else {
            continue;
        };
        let check = || match hi - lo < WIDEST {
            true => Ok(()),
            false => bail!(
                Unsupported,
                "numbers of {lo:e} to {hi:e} beside a mask, which hides what is no further apart than {WIDEST}"
            ),
        };
        check().in_node(&node.name, node.op.name())?;
    }
    Ok(())
}

impl Plan {
    /// Gives 16 bits to sums with masks, and to what else is added to these. What has a scheme of its own keeps that.
    pub(super) fn widen_masked(&mut self, graph: &Graph) {
        let masked = masked(graph);
        let mut wide = vec![false; graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            let is_wide = node.inputs.iter().any(|&v| wide[v]);
            let moves = node.op.output_params() == OutputParams::SameAsInput;
            let sums =
                masked.iter().any(|&(at, _)| at == index) || is_wide && adds_constant(graph, node);
            wide[node.output] = sums || moves && is_wide;
            let scheme = self.of_node(index);
            if sums {
                let wide = scheme.with_widths(Width::W16, scheme.weight_width);
                self.nodes.entry(index).or_insert(wide);
            }
        }
    }
}
