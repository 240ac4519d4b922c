//! An addition of one constant per channel behind a convolution or a linear layer becomes its bias.

use crate::graph::{Graph, Value};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::tensor::Tensor;

/// `Conv(x, w) + c` → `Conv(x, w, c)`, likewise for a linear layer; an existing bias is added to.
pub fn fuse_bias(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.nodes.len() {
        if fuse(graph, index).is_none() {
            index += 1;
        }
    }
}

/// Fuses node `index` into its producer, if it is such an addition.
fn fuse(graph: &mut Graph, index: usize) -> Option<()> {
    let add = &graph.nodes[index];
    if !matches!(&add.op, Op::Add(op) if !op.subtract) {
        return None;
    }
    let constant = add.inputs.iter().position(|&v| graph.real_constant(v).is_some())?;
    let x = *add.inputs.get(1 - constant)?;
    let producer = graph.sole_producer(x)?;
    let node = &graph.nodes[producer];
    let channel_axis = match &node.op {
        Op::Conv(_) => 1,
        // Of another rank ONNX has no linear layer with a bias to export it to.
        Op::Linear(_) if graph.values[x].shape.len() == 2 => 1,
        _ => return None,
    };
    let y_shape = &graph.values[add.output].shape;
    if node.clamp != Clip::NONE || *y_shape != graph.values[x].shape {
        return None;
    }
    let channels = y_shape[channel_axis];
    let added = graph.real_constant(add.inputs[constant])?;
    let from_end = y_shape.len() - 1 - channel_axis;
    let only_channels =
        added.shape().iter().rev().enumerate().all(|(i, &d)| d == 1 || i == from_end);
    if !only_channels {
        return None;
    }
    let old = match node.inputs.get(2) {
        Some(&v) => graph.real_constant(v)?.data().to_vec(),
        None => vec![0.0; channels],
    };
    let bias: Vec<f32> =
        old.iter().zip(added.data().iter().cycle()).map(|(old, added)| old + added).collect();
    let name = graph.fresh_name(format!("{}.bias", node.name));
    let bias = graph.add_value(Value::real(name, Tensor::from_vec(bias)));
    let add = graph.nodes.remove(index);
    let node = &mut graph.nodes[producer];
    node.inputs.truncate(2);
    node.inputs.push(bias);
    node.output = add.output;
    node.clamp = add.clamp;
    Some(())
}
