//! Batch normalization disappears into the weights before it.

use super::merge_nodes;
use crate::codes::CodeTensor;
use crate::graph::{Constant, Copies, Graph, Index, Node, Parts, Value, ValueId};
use crate::ops::add::Add;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::reshape::Reshape;
use crate::ops::{Op, Window, image};
use crate::quant::{Granularity, QuantParams, Width};
use crate::tensor::{Shape, Tensor, broadcast_strides, permuted, strided_indices, strides};

/// `BatchNorm(Conv(x, w, b))` → `Conv(x, w · factor, b · factor + offset)`, likewise for a transposed convolution and a
/// linear layer, and through what only moves its result. A normalization of an image or a sequence with nothing to fold
/// into becomes a depthwise 1×1
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
    let shape = &graph.values[x].shape;
    let along: Vec<usize> = (0..shape.len()).map(|axis| (axis == 1) as usize).collect();
    let layer = Layer::behind(graph, index, x)?;
    fold(graph, index, norm, &layer, &channels, &along)
}

/// `f · Conv(x, w, b) + h` → `Conv(x, f · w, f · b + h)` where a Mul, an Add or a Sub does that with a real constant
/// for all or for each channel; likewise for a linear layer, and through what only moves its result.
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
        let layer = Layer::behind(graph, index, x)?;
        let real = graph.real_constant(numbers)?;
        let shape = &graph.values[x].shape;
        if *shape != graph.values[scaled.output].shape || !real.data().iter().all(|x| x.is_finite())
        {
            return None;
        }
        let channels: Option<Vec<_>> = real.data().iter().map(|&c| affine(c as f64)).collect();
        let along = broadcast_strides(real.shape(), &strides(real.shape()), shape);
        for node in [node, layer.node] {
            copies.take(graph, &graph.nodes[node]).ok()?;
        }
        fold(graph, index, node, &layer, &channels?, &along)
    });
}

/// A convolution, transposed or not, or a linear layer.
struct Layer {
    node: usize,
    /// What only moves its result, from the last one back.
    moves: Vec<usize>,
}

impl Layer {
    /// That from which `x` comes, if nobody else sees what lies between.
    fn behind(graph: &Graph, index: &Index, mut x: ValueId) -> Option<Self> {
        let mut moves = Vec::new();
        loop {
            let node = index.sole_producer(graph, x)?;
            let it = &graph.nodes[node];
            match it.op {
                _ if it.clamp != Clip::NONE => return None,
                Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) => {
                    return Some(Self { node, moves });
                }
                Op::Reshape(_) | Op::Transpose(_) => moves.push(node),
                _ => return None,
            }
            x = it.inputs[0];
        }
    }

    /// Of each channel the one index that `along`, strides for the axes of what the moves make of its result, gives all
    /// its elements, up to those that `are_same`.
    fn of_channels(
        &self,
        graph: &Graph,
        along: &[usize],
        are_same: impl Fn(usize, usize) -> bool,
    ) -> Option<Vec<usize>> {
        let shape = |node: usize| graph.values[graph.nodes[node].output].shape.clone();
        let last = self.moves.first().copied().unwrap_or(self.node);
        let mut indices: Vec<usize> = strided_indices(shape(last), along.to_vec()).collect();
        for &node in &self.moves {
            let Op::Transpose(op) = &graph.nodes[node].op else { continue };
            let mut moved = vec![0; indices.len()];
            let before = &graph.values[graph.nodes[node].inputs[0]].shape;
            let places = strided_indices(shape(node), permuted(&strides(before), &op.perm));
            places.zip(&indices).for_each(|(place, &index)| moved[place] = index);
            indices = moved;
        }
        let shape = shape(self.node);
        let axis = if let Op::Linear(_) = graph.nodes[self.node].op { shape.len() - 1 } else { 1 };
        let inner: usize = shape[axis + 1..].iter().product();
        let mut all = vec![None; shape[axis]];
        for (i, &index) in indices.iter().enumerate() {
            let known = &mut all[i / inner % shape[axis]];
            if !are_same(*known.get_or_insert(index), index) {
                return None;
            }
        }
        all.into_iter().collect()
    }
}

/// Makes `layer` compute what node `last` does with its result: times the first and plus the second number of that of
/// `numbers` which `along`, strides for the axes of its argument, says.
fn fold(
    graph: &mut Graph,
    index: &mut Index,
    last: usize,
    layer: &Layer,
    numbers: &[(f64, f64)],
    along: &[usize],
) -> Option<usize> {
    let (producer, clamp) = (layer.node, graph.nodes[last].clamp);
    if !layer.moves.is_empty() && clamp != Clip::NONE {
        return None;
    }
    let channels = layer.of_channels(graph, along, |a, b| numbers[a] == numbers[b])?;
    let channels: Vec<(f64, f64)> = channels.into_iter().map(|i| numbers[i]).collect();
    let node = &graph.nodes[producer];
    let weight = &graph.values[node.inputs[1]];
    let shape = &weight.shape;
    // Where the weights of each channel are.
    let (axis, group) = match &node.op {
        Op::Conv(_) => (0, 1),
        Op::ConvTranspose(op) => (1, op.group),
        Op::Linear(op) => (!op.transposed as usize, 1),
        _ => return None,
    };
    let weight = match (&weight.constant, &weight.quant) {
        (Some(Constant::Codes(codes)), Some(quant)) if group == 1 => {
            let factors: Vec<f64> = channels.iter().map(|c| c.0).collect();
            scaled_codes(codes, quant, axis, &factors)?
        }
        (Some(Constant::Real(weight)), _) => {
            let inner: usize = shape[axis + 1..].iter().product();
            let in_group = weight.data().len() / group;
            let channel =
                |i: usize| i / in_group * (channels.len() / group) + i / inner % shape[axis];
            let scaled = weight.data().iter().enumerate();
            let scaled = scaled.map(|(i, &w)| (w as f64 * channels[channel(i)].0) as f32);
            Value::real("", Tensor::new(shape.clone(), scaled.collect()).ok()?)
        }
        _ => return None,
    };
    let old = match node.inputs.get(2) {
        Some(&bias) => graph.values[bias].to_real()?.data().to_vec(),
        None => vec![0.0; channels.len()],
    };
    let bias = old.iter().zip(&channels);
    let bias = bias.map(|(&b, (factor, offset))| (b as f64 * factor + offset) as f32);
    let bias = Tensor::from_vec(bias.collect());
    set_constants(graph, index, producer, weight, bias);
    let Some(&before) = layer.moves.first() else {
        graph.nodes[producer].clamp = clamp;
        return Some(producer);
    };
    let parts = std::mem::take(&mut graph.nodes[last].parts.0);
    graph.nodes[producer].parts.0.extend(parts);
    Some(before)
}

/// A weight of codes with each channel along `axis` times its factor: its scale is. Where factors are negative, codes
/// change their sign.
fn scaled_codes(
    codes: &CodeTensor,
    quant: &QuantParams,
    axis: usize,
    factors: &[f64],
) -> Option<Value> {
    let shape = codes.shape();
    match quant.granularity {
        Granularity::PerChannel { axis: own } if own != axis && quant.scale.len() > 1 => {
            return None;
        }
        _ => {}
    }
    let scale = |(o, factor): (usize, &f64)| {
        (quant.scale[o % quant.scale.len()] as f64 * factor.abs()) as f32
    };
    let scale: Vec<f32> = factors.iter().enumerate().map(scale).collect();
    if !scale.iter().all(|scale| scale.is_normal()) {
        return None;
    }
    let granularity = Granularity::PerChannel { axis };
    let mut quant = QuantParams { scale, granularity, ..quant.clone() };
    let mut codes = codes.clone();
    if factors.iter().any(|&factor| factor < 0.0) {
        let inner: usize = shape[axis + 1..].iter().product();
        let sign = |i: usize| if factors[i / inner % shape[axis]] < 0.0 { -1 } else { 1 };
        let zero = std::mem::take(&mut quant.zero_point);
        let all = codes.widened();
        let signed: Vec<i32> =
            all.data().iter().enumerate().map(|(i, code)| sign(i) * (code - zero)).collect();
        let fits = |width: &Width| {
            signed.iter().all(|code| (width.lowest()..=width.highest()).contains(code))
        };
        quant.width = Width::OF_WEIGHTS.iter().copied().find(fits)?.max(quant.width);
        codes = CodeTensor::new(quant.width, Tensor::new(shape, signed).ok()?);
    }
    let (shape, constant) = (shape.to_vec(), Some(Constant::Codes(codes)));
    Some(Value { shape, constant, quant: Some(quant), ..Value::default() })
}

fn to_depthwise(graph: &mut Graph, index: &mut Index, norm: usize, op: BatchNorm) -> Option<()> {
    let shape = &graph.values[graph.nodes[norm].inputs[0]].shape;
    let [_, group, ..] = image(shape)?;
    let kernel: Shape = [&[group, 1], &vec![1; shape.len() - 2][..]].concat();
    let channels = affine(graph, &graph.nodes[norm], op)?;
    let weight = Tensor::new(kernel, channels.iter().map(|c| c.0 as f32).collect()).ok()?;
    let weight = Value::real("", weight);
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
    weight: Value,
    bias: Tensor<f32>,
) {
    let name = graph.nodes[node].name.clone();
    let constants = [("weight", weight), ("bias", Value::real("", bias))].map(|(what, value)| {
        index.add_value(graph, Value { name: format!("{name}.folded_{what}"), ..value })
    });
    index.set_arguments(graph, node, 1, constants);
}
