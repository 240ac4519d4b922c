//! Whether what a file computes of several samples at once is what it computes of each of them: it may leave the first
//! axis of its inputs open, and have nodes that are for one sample.

use super::export::OPSET;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::normalize::Kind;
use crate::ops::{Op, Operator};
use crate::tensor::Shape;

/// What is for one sample, the first of it: with two of them its result is not twice as long along one axis, or each
/// half does not depend on one sample only. The samples lie one after the other along the first axis of all outputs.
pub(super) fn is_for_one(graph: &Graph) -> Option<String> {
    let mut axes: Vec<Option<usize>> = vec![None; graph.values.len()];
    graph.inputs.iter().for_each(|&v| axes[v] = Some(0));
    for node in &graph.nodes {
        if node.inputs.iter().all(|&v| axes[v].is_none()) {
            continue;
        }
        axes[node.output] = samples_of(graph, node, &axes);
        if axes[node.output].is_none() {
            return Some(format!("node \"{}\" ({})", node.name, node.op.name()));
        }
    }
    let other = graph.outputs.iter().find(|&&v| axes[v] != Some(0))?;
    Some(format!("output \"{}\"", graph.values[*other].name))
}

/// Along which axis of the result the samples lie, if it keeps them apart.
fn samples_of(graph: &Graph, node: &Node, axes: &[Option<usize>]) -> Option<usize> {
    let double = |v: ValueId| {
        let mut shape = graph.values[v].shape.clone();
        axes[v].iter().for_each(|&axis| shape[axis] *= 2);
        shape
    };
    let inputs: Vec<Shape> = node.inputs.iter().map(|&v| double(v)).collect();
    let inputs: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
    let of_inputs = || node.inputs.iter().filter_map(|&v| axes[v]);
    let first = of_inputs().all(|axis| axis == 0);
    let (one, two) =
        (&graph.values[node.output].shape, of_two(graph, node).infer_shape(&inputs).ok()?);
    let mut longer = (0..one.len()).filter(|&axis| one[axis] != two[axis]);
    let (axis, others) = (longer.next()?, longer.next());
    let apart = match &node.op {
        Op::Softmax(op) => op.axis != axis,
        Op::Concat(op) => op.axis != axis,
        Op::Normalize(op) => match op.kind {
            Kind::Layer { axis: from } | Kind::Rms { axis: from } | Kind::L2 { axis: from } => {
                axis < from
            }
            Kind::Groups(_) => first,
        },
        Op::Transpose(_) | Op::Linear(_) | Op::MatMul(_) => true,
        Op::Unary(_) | Op::Function(_) | Op::Clip(_) | Op::Add(_) | Op::Mul(_) => true,
        _ => first && axis == 0,
    };
    (apart && others.is_none() && two[axis] == 2 * one[axis]).then_some(axis)
}

/// The operator as it is written, in which sizes of the first axis that it does not change are left open.
fn of_two(graph: &Graph, node: &Node) -> Op {
    let mut op = node.op.clone();
    let inputs = graph.input_shapes(node);
    let size = inputs.first().and_then(|shape| shape.first());
    match &mut op {
        Op::Reshape(op) => op.shape.iter_mut().take(1).for_each(|size| *size *= 2),
        // By its scales, rather than by all sizes.
        Op::Resize(op) if op.export(&inputs, OPSET).inputs.len() < 3 => op.shape[0] *= 2,
        Op::Slice(op) if size == op.parts.first().map(|part| &part.len) => op.parts[0].len *= 2,
        _ => {}
    }
    op
}
