//! What a network does first to bytes that it is given becomes the way in which they are read.

use crate::graph::{Graph, Index, Node, Parts, Value, ValueId};
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::recode::Recode;
use crate::ops::reshape::Reshape;
use crate::ops::{Op, OutputParams, Window, image};
use crate::quant::QuantParams;
use crate::tensor::{Tensor, broadcast_strides, strides};

/// Sums and products with one number, where the codes stay the bytes, are folded into scale and zero point of the input;
/// those with a number for each channel behind them into the convolution that reads them, unless its padding is no
/// longer 0. Two or more of what is left, with one number for each channel, become one depthwise convolution.
pub fn fold_input(graph: &mut Graph) {
    for input in graph.inputs.clone() {
        if graph.values[input].given.is_some_and(|given| given.is_bytes()) {
            fold_scalars(graph, input);
            fold_channels(graph, input);
        }
    }
}

/// `y = x · factor + offset`, each one number for all elements or with one for each place along axes.
struct Affine {
    /// Numbers of the constant.
    numbers: Tensor<f32>,
    of: fn(f64) -> (f64, f64),
}

impl Affine {
    /// That of `node`, if it does nothing else to `x` and leaves its shape.
    fn of(graph: &Graph, node: &Node, x: ValueId) -> Option<Self> {
        let constant = node.inputs.iter().position(|&v| graph.real_constant(v).is_some())?;
        let of: fn(f64) -> (f64, f64) = match (&node.op, constant) {
            (Op::Mul(_), _) => |c| (c, 0.0),
            (Op::Add(Add { subtract: false }), _) => |c| (1.0, c),
            (Op::Add(_), 1) => |c| (1.0, -c),
            _ => return None,
        };
        let numbers = graph.real_constant(node.inputs[constant])?.clone();
        let fits = graph.values[node.output].shape == graph.values[x].shape
            && node.clamp == Clip::NONE
            && numbers.data().iter().all(|c| c.is_finite());
        fits.then_some(Self { numbers, of })
    }

    /// The one number, if it is the same for all.
    fn scalar(&self) -> Option<(f64, f64)> {
        let (&first, others) = self.numbers.data().split_first()?;
        others.iter().all(|&c| c == first).then(|| (self.of)(first as f64))
    }

    /// Those of each index along `axis` of a tensor of `shape`, if they depend on nothing else.
    fn channels(&self, shape: &[usize], axis: usize) -> Option<Vec<(f64, f64)>> {
        let along = broadcast_strides(self.numbers.shape(), &strides(self.numbers.shape()), shape);
        let only = (0..shape.len()).all(|a| a == axis || along[a] == 0);
        only.then(|| {
            let all = (0..shape[axis]).map(|c| self.numbers.data()[c * along[axis]]);
            all.map(|c| (self.of)(c as f64)).collect()
        })
    }
}

/// The one node that reads `v`, if nothing else does.
fn sole_reader(graph: &Graph, v: ValueId) -> Option<usize> {
    (Index::new(graph).uses(v) == 1)
        .then(|| graph.nodes.iter().position(|node| node.inputs.contains(&v)))
        .flatten()
}

/// Whether `node` only moves codes, and gives them no others.
fn moves(graph: &Graph, node: &Node) -> bool {
    node.op.output_params() == OutputParams::SameAsInput
        && node.clamp == Clip::NONE
        && graph.values[node.output].quant.is_none()
}

/// Removes node `at`: its readers read `v`.
fn bypass(graph: &mut Graph, at: usize, v: ValueId) {
    let Node { output, parts, .. } = graph.nodes.remove(at);
    let mut parts = Some(parts);
    for node in &mut graph.nodes {
        if node.inputs.contains(&output) {
            node.parts.0.extend(parts.take().unwrap_or_default().0);
        }
        node.inputs.iter_mut().filter(|x| **x == output).for_each(|x| *x = v);
    }
}

fn fold_scalars(graph: &mut Graph, input: ValueId) {
    let mut v = input;
    while let Some(at) = sole_reader(graph, v) {
        let node = &graph.nodes[at];
        if moves(graph, node) {
            v = node.output;
            continue;
        }
        let params = graph.values[input].quant.as_ref();
        let affine = Affine::of(graph, node, v).and_then(|affine| affine.scalar());
        let Some(new) = params.zip(affine).and_then(|(params, by)| read_as(params, by)) else {
            return;
        };
        let own = graph.values[node.output].quant.clone();
        graph.values[input].quant = Some(new.clone());
        if graph.outputs.contains(&node.output) || own.is_some_and(|own| own != new) {
            // It stays a value with codes of its own.
            let shape = graph.values[node.output].shape.clone();
            let copy = graph.values[node.output].quant.is_none();
            let node = &mut graph.nodes[at];
            node.op = if copy { Op::Reshape(Reshape { shape }) } else { Op::Recode(Recode) };
            node.inputs = vec![v];
            return;
        }
        bypass(graph, at, v);
    }
}

/// How the codes of `params` are read such that they stand for `factor` times as much and `offset` more, if they can be.
fn read_as(params: &QuantParams, (factor, offset): (f64, f64)) -> Option<QuantParams> {
    let scale = (params.scale[0] as f64 * factor) as f32;
    let steps = offset / params.scale[0] as f64;
    let zero_point = params.zero_point as f64 - steps.round();
    let (lowest, highest) = params.code_range();
    let fits = (2f32.powi(-60)..=2f32.powi(60)).contains(&scale)
        && (lowest as f64..=highest as f64).contains(&zero_point)
        // Scale and offset are rounded to 24 bits.
        && (steps - steps.round()).abs() <= steps.abs() * 2f64.powi(-22);
    fits.then(|| QuantParams::per_tensor(scale, zero_point as i32, params.width))
}

fn fold_channels(graph: &mut Graph, input: ValueId) {
    let (mut v, mut steps, mut moved) = (input, Vec::new(), Vec::new());
    while let Some(at) = sole_reader(graph, v) {
        let node = &graph.nodes[at];
        if let Some(affine) = Affine::of(graph, node, v).filter(|_| is_hidden(graph, node)) {
            steps.push((at, affine));
        } else if moves(graph, node) && matches!(node.op, Op::Transpose(_)) {
            moved.push(at);
        } else {
            break;
        }
        v = graph.nodes[at].output;
    }
    let shape = graph.values[v].shape.clone();
    let (Some([_, channels, ..]), Some(reader)) = (image(&shape), sole_reader(graph, v)) else {
        return;
    };
    let mut all = vec![(1.0, 0.0); channels];
    for (at, affine) in &steps {
        // The axis that becomes that of the channels.
        let axis = moved.iter().rev().filter(|moved| *moved > at).fold(1, |axis, &moved| {
            match &graph.nodes[moved].op {
                Op::Transpose(op) => op.perm[axis],
                _ => axis,
            }
        });
        let Some(by) = affine.channels(&graph.values[graph.nodes[*at].output].shape, axis) else {
            return;
        };
        all.iter_mut().zip(by).for_each(|((f, h), (by_f, by_h))| {
            (*f, *h) = (*f * by_f, *h * by_f + by_h);
        });
    }
    if steps.is_empty() {
        return;
    }
    if fold_into(graph, reader, v, &all).is_none() {
        // One number for all makes a table.
        if steps.len() < 2 || steps.iter().all(|(_, affine)| affine.scalar().is_some()) {
            return;
        }
        insert_depthwise(graph, reader, v, &all);
    }
    for &(at, _) in steps.iter().rev() {
        let x = graph.nodes[at].inputs.iter().copied().find(|&x| graph.real_constant(x).is_none());
        bypass(graph, at, x.unwrap_or(input));
    }
}

/// Whether nobody but the next node sees the result.
fn is_hidden(graph: &Graph, node: &Node) -> bool {
    graph.values[node.output].quant.is_none() && !graph.outputs.contains(&node.output)
}

/// Makes node `at`, if it is a convolution, compute from `x` what it would compute from `f · x + h`.
fn fold_into(graph: &mut Graph, at: usize, x: ValueId, channels: &[(f64, f64)]) -> Option<()> {
    let node = &graph.nodes[at];
    let Op::Conv(Conv { window, group }) = node.op else { return None };
    let offsets = channels.iter().any(|c| c.1 != 0.0);
    if node.inputs[0] != x || offsets && window.pads != [0; 4] {
        return None;
    }
    let weight = graph.real_constant(node.inputs[1])?;
    let [out_ch, in_ch] = [weight.shape()[0], weight.shape()[1]];
    let taps: usize = weight.shape()[2..].iter().product();
    let mut bias = match node.inputs.get(2) {
        Some(&bias) => graph.real_constant(bias)?.data().iter().map(|&b| b as f64).collect(),
        None => vec![0.0; out_ch],
    };
    let scaled = weight.data().iter().enumerate().map(|(i, &w)| {
        let o = i / taps / in_ch;
        let (f, h) = channels[o / (out_ch / group) * in_ch + i / taps % in_ch];
        bias[o] += w as f64 * h;
        (w as f64 * f) as f32
    });
    let weight = Tensor::new(weight.shape(), scaled.collect()).ok()?;
    let bias = offsets.then(|| bias.into_iter().map(|b| b as f32).collect());
    set_constants(graph, at, weight, bias.map(Tensor::from_vec));
    Some(())
}

/// Puts `f · x + h` before node `reader`, as a depthwise convolution.
fn insert_depthwise(graph: &mut Graph, reader: usize, x: ValueId, channels: &[(f64, f64)]) {
    let shape = graph.values[x].shape.clone();
    let name = format!("{}.channels", graph.values[x].name);
    let mut index = Index::new(graph);
    let y = index.add_value(graph, Value { name, shape: shape.clone(), ..Value::default() });
    graph.nodes[reader].inputs.iter_mut().filter(|v| **v == x).for_each(|v| *v = y);
    let op = Op::Conv(Conv { window: Window::new([1, 1]), group: channels.len() });
    let name = graph.values[y].name.clone();
    let (clamp, parts) = (Clip::NONE, Parts::default());
    graph.nodes.insert(reader, Node { name, parts, op, clamp, inputs: vec![x], output: y });
    let mut kernel = vec![1; shape.len()];
    kernel[0] = channels.len();
    let weight = Tensor::of(kernel, channels.iter().map(|c| c.0 as f32).collect());
    let bias = Tensor::from_vec(channels.iter().map(|c| c.1 as f32).collect());
    set_constants(graph, reader, weight, Some(bias));
}

/// Makes these the weight of node `at`, and the bias, if there is one.
fn set_constants(graph: &mut Graph, at: usize, weight: Tensor<f32>, bias: Option<Tensor<f32>>) {
    let name = graph.nodes[at].name.clone();
    let mut index = Index::new(graph);
    for (i, (what, tensor)) in [("weight", Some(weight)), ("bias", bias)].into_iter().enumerate() {
        let Some(tensor) = tensor else { continue };
        let value = Value::real(format!("{name}.folded_{what}"), tensor);
        let v = index.add_value(graph, value);
        graph.nodes[at].inputs.truncate(if i == 1 { 2 } else { 3 });
        match graph.nodes[at].inputs.get_mut(i + 1) {
            Some(old) => *old = v,
            None => graph.nodes[at].inputs.push(v),
        }
    }
}
