//! Batch normalization disappears into the weights before it.

use super::merge_nodes;
use crate::graph::{Copies, Graph, Index, Node, Parts, Value};
use crate::ops::add::Add;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::reshape::Reshape;
use crate::ops::{Op, Window, image};
use crate::tensor::{Shape, Tensor};

/// `BatchNorm(Conv(x, w, b))` → `Conv(x, w · factor, b · factor + offset)`, likewise for a linear
/// layer. A normalization of an image or a sequence with nothing to fold into becomes a depthwise 1×1
/// convolution; others wait for [`reshape_batch_norm`]. What would become too many constants stays.
///
/// Jacob et al. 2018, <https://arxiv.org/abs/1712.05877>, eq. 14.
pub fn fold_batch_norm(graph: &mut Graph) {
    let mut copies = Copies::new();
    merge_nodes(graph, |graph, index, node| {
        let Op::BatchNorm(op) = graph.nodes[node].op else { return None };
        let before = index.producer(graph.nodes[node].inputs[0]);
        for node in [Some(node), before].into_iter().flatten() {
            copies.take(graph, &graph.nodes[node]).ok()?;
        }
        let producer = fold_into_producer(graph, index, node, op);
        if producer.is_none() {
            to_depthwise(graph, index, node, op);
        }
        producer
    });
}

/// A normalization of another rank than 3 or 4 that is left becomes the same convolution between two reshapes: of
/// `[n, c, all others, 1]`.
pub fn reshape_batch_norm(graph: &mut Graph) {
    let (mut index, mut copies) = (Index::new(graph), Copies::new());
    for mut node in std::mem::take(&mut graph.nodes) {
        let shape = graph.values[node.inputs[0]].shape.clone();
        let (Op::BatchNorm(op), &[n, c, ref others @ ..]) = (&node.op, &shape[..]) else {
            graph.nodes.push(node);
            continue;
        };
        let op = *op;
        if image(&shape).is_some()
            || affine(graph, &node, op).is_none()
            || copies.take(graph, &node).is_err()
        {
            graph.nodes.push(node);
            continue;
        }
        let image = vec![n, c, others.iter().product(), 1];
        let [before, after] = ["before", "after"].map(|what| {
            let name = format!("{}.{what}", node.name);
            index.add_value(graph, Value { name, shape: image.clone(), ..Value::default() })
        });
        let reshape = |shape: Shape, from: usize, to: usize, name: &str| Node {
            name: name.into(),
            op: Op::Reshape(Reshape { shape }),
            clamp: Clip::NONE,
            inputs: vec![from],
            output: to,
            parts: Parts::default(),
        };
        let first = reshape(image, node.inputs[0], before, &graph.values[before].name);
        let last = reshape(shape, after, node.output, &graph.values[after].name);
        (node.inputs[0], node.output) = (before, after);
        graph.nodes.extend([first, node]);
        to_depthwise(graph, &mut index, graph.nodes.len() - 1, op);
        graph.nodes.push(last);
    }
}

fn affine(graph: &Graph, node: &Node, op: BatchNorm) -> Option<Vec<(f64, f64)>> {
    let parameters = [1, 2, 3, 4].map(|i| graph.real_constant(node.inputs[i]));
    let [Some(scale), Some(bias), Some(mean), Some(variance)] = parameters else { return None };
    Some(op.affine([scale, bias, mean, variance].map(Tensor::data)))
}

fn fold_into_producer(
    graph: &mut Graph,
    index: &mut Index,
    norm: usize,
    op: BatchNorm,
) -> Option<usize> {
    let channels = affine(graph, &graph.nodes[norm], op)?;
    let x = graph.nodes[norm].inputs[0];
    let producer = index.sole_producer(graph, x)?;
    // The channels of a batch norm are axis 1, those of a linear layer the last one.
    let linear = matches!(graph.nodes[producer].op, Op::Linear(_));
    if linear && graph.values[x].shape.len() != 2 {
        return None;
    }
    fold(graph, index, norm, producer, &channels)
}

/// `f · Conv(x, w, b) + h` → `Conv(x, f · w, f · b + h)` where a Mul, an Add or a Sub does that with a real constant
/// for all or for each channel; likewise for a linear layer.
pub fn fold_scale(graph: &mut Graph) {
    let mut copies = Copies::new();
    merge_nodes(graph, |graph, index, node| {
        let scaled = &graph.nodes[node];
        let &[a, b] = &scaled.inputs[..] else { return None };
        let constant = [a, b].iter().position(|&v| graph.values[v].constant.is_some())?;
        let x = scaled.inputs[1 - constant];
        let numbers = scaled.inputs[constant];
        let affine = |c: f64| match (&scaled.op, constant) {
            (Op::Mul(_), _) => Some((c, 0.0)),
            (Op::Add(Add { subtract: false }), _) => Some((1.0, c)),
            (Op::Add(_), 1) => Some((1.0, -c)),
            (Op::Add(_), _) => Some((-1.0, c)),
            _ => None,
        };
        affine(0.0)?;
        let producer = index.sole_producer(graph, x)?;
        let shape = &graph.values[x].shape;
        let axis = match &graph.nodes[producer].op {
            Op::Conv(_) => 1,
            Op::Linear(_) => shape.len() - 1,
            _ => return None,
        };
        let real = graph.real_constant(numbers)?;
        let last = shape.len() - 1 - axis;
        let mut sizes = real.shape().iter().rev().enumerate();
        if *shape != graph.values[scaled.output].shape
            || !sizes.all(|(i, &size)| size == 1 || i == last)
            || !real.data().iter().all(|x| x.is_finite())
        {
            return None;
        }
        let (numbers, all) = (real.data(), shape[axis]);
        let channels: Option<Vec<_>> =
            (0..all).map(|o| affine(numbers[o % numbers.len()] as f64)).collect();
        for node in [node, producer] {
            copies.take(graph, &graph.nodes[node]).ok()?;
        }
        fold(graph, index, node, producer, &channels?)
    });
}

/// Makes node `producer` compute what `last` does with its result: times the first and plus the second number of
/// each channel.
fn fold(
    graph: &mut Graph,
    index: &mut Index,
    last: usize,
    producer: usize,
    channels: &[(f64, f64)],
) -> Option<usize> {
    let (node, clamp) = (&graph.nodes[producer], graph.nodes[last].clamp);
    let axis = match &node.op {
        Op::Conv(_) => 0,
        Op::Linear(op) => !op.transposed as usize,
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
        old.iter().zip(channels).map(|(&b, (factor, offset))| (b as f64 * factor + offset) as f32);
    let bias = Tensor::from_vec(bias.collect());
    set_constants(graph, index, producer, weight, bias);
    graph.nodes[producer].clamp = clamp;
    Some(producer)
}

fn to_depthwise(graph: &mut Graph, index: &mut Index, norm: usize, op: BatchNorm) -> Option<()> {
    let shape = &graph.values[graph.nodes[norm].inputs[0]].shape;
    let [_, group, ..] = image(shape)?;
    let kernel: Shape = [&[group, 1], &vec![1; shape.len() - 2][..]].concat();
    let channels = affine(graph, &graph.nodes[norm], op)?;
    let weight = Tensor::new(kernel, channels.iter().map(|c| c.0 as f32).collect()).ok()?;
    let bias = Tensor::from_vec(channels.iter().map(|c| c.1 as f32).collect());
    set_constants(graph, index, norm, weight, bias);
    graph.nodes[norm].op = Op::Conv(Conv { window: Window::new([1, 1]), group });
    Some(())
}

/// Makes these the weight and the bias of node `node`.
fn set_constants(
    graph: &mut Graph,
    index: &mut Index,
    node: usize,
    weight: Tensor<f32>,
    bias: Tensor<f32>,
) {
    let name = graph.nodes[node].name.clone();
    let constants = [("weight", weight), ("bias", bias)].map(|(what, tensor)| {
        index.add_value(graph, Value::real(format!("{name}.folded_{what}"), tensor))
    });
    index.set_arguments(graph, node, 1, constants);
}
