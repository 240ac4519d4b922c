//! An addition of one constant per channel behind a convolution or a linear layer becomes its bias.

use super::merge_nodes;
use crate::graph::{Graph, Index, Value};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::tensor::Tensor;

/// `Conv(x, w) + c` → `Conv(x, w, c)`, likewise for a linear layer; an existing bias is added to.
pub fn fuse_bias(graph: &mut Graph) {
    merge_nodes(graph, fuse);
}

/// Fuses node `add` into its producer, if it is such an addition.
fn fuse(graph: &mut Graph, index: &mut Index, add: usize) -> Option<usize> {
    let add = &graph.nodes[add];
    if !matches!(&add.op, Op::Add(op) if !op.subtract) {
        return None;
    }
    let constant = add.inputs.iter().position(|&v| graph.values[v].constant.is_some())?;
    let x = *add.inputs.get(1 - constant)?;
    let producer = index.sole_producer(graph, x)?;
    let node = &graph.nodes[producer];
    let channel_axis = match &node.op {
        Op::Conv(_) => 1,
        Op::Linear(_) => graph.values[x].shape.len() - 1,
        _ => return None,
    };
    let y_shape = &graph.values[add.output].shape;
    if node.clamp != Clip::NONE || *y_shape != graph.values[x].shape {
        return None;
    }
    let channels = y_shape[channel_axis];
    let added = &graph.values[add.inputs[constant]];
    let from_end = y_shape.len() - 1 - channel_axis;
    let only_channels = added.shape.iter().rev().enumerate().all(|(i, &d)| d == 1 || i == from_end);
    // A mask is no bias: with −∞ no layer has an integer form.
    let finite = |t: &Tensor<f32>| t.data().iter().all(|x| x.is_finite());
    if !only_channels || !graph.real_constant(add.inputs[constant]).is_none_or(finite) {
        return None;
    }
    let mut bias = added.row(channels)?;
    if let Some(&old) = node.inputs.get(2) {
        let (old, added) = (graph.values[old].to_real()?, bias.to_real()?);
        let sum = old.data().iter().zip(added.data()).map(|(old, added)| old + added).collect();
        bias = Value::real("", Tensor::from_vec(sum));
    }
    bias.name = format!("{}.bias", node.name);
    let clamp = add.clamp;
    let bias = index.add_value(graph, bias);
    index.set_arguments(graph, producer, 2, [bias]);
    graph.nodes[producer].clamp = clamp;
    Some(producer)
}
