//! Operators that choose, repeat or compare numbers of activations: each becomes a few nodes that only move codes, but for
//! what is computed of sums.

use super::{Steps, reduce, sum};
use crate::error::{Result, bail};
use crate::graph::ValueId;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::embedding::Embedding;
use crate::ops::gather::Gather;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::slice::Slice;
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Input, OnnxNode, Op, OutputParams, Window, image};
use crate::tensor::{Shape, broadcast, broadcast_strides, checked_len, strided_indices, strides};

/// What is so low that it stands for −∞ in a mask.
const MASKED: f32 = -1e4;

/// Constant positions along one axis, or rows of a constant at positions that are computed.
pub(super) fn gather(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    if let Some((indices, _)) = steps.integers_at(1) {
        return embedding(steps, x, indices);
    }
    let shape = steps.shape(x).to_vec();
    let node = &mut *steps.node;
    let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(0), shape.len())?;
    let Some(&size) = shape.get(axis) else { bail!(Shape, "axis {axis} of shape {shape:?}") };
    let index_shape = node.input_shape(1)?.to_vec();
    let Some(indices) = node.take_input_ints(1)? else { bail!(Invalid, "no indices") };
    let positions = Gather::positions(&indices, size)?;
    let y = picked(steps, x, axis, positions)?;
    let shape = [&shape[..axis], &index_shape, &shape[axis + 1..]].concat();
    let node = steps.importer.graph.nodes.last();
    match node.is_some_and(|node| matches!(node.op, Op::Gather(_))) && *steps.shape(y) == shape {
        true => Ok(y),
        false => steps.reshape(y, shape),
    }
}

/// These positions along one axis: a slice, if they are evenly spaced.
fn picked(steps: &mut Steps, x: ValueId, axis: usize, positions: Vec<usize>) -> Result<ValueId> {
    steps.importer.folding.take(&[positions.len()], 0)?;
    let Some(&first) = positions.first() else { bail!(Shape, "no positions") };
    let step = positions.get(1).map_or(1, |&second| second as i64 - first as i64);
    let even = positions.iter().zip(0..).all(|(&p, i)| p as i64 == first as i64 + i * step);
    if !even || step == 0 {
        return steps.step(Op::Gather(Gather { axis, positions }), &[x]);
    }
    let mut slice = Slice::of(steps.shape(x), axis, first, positions.len());
    slice.parts[axis].step = step;
    steps.step(Op::Slice(slice), &[x])
}

fn embedding(steps: &mut Steps, table: ValueId, indices: ValueId) -> Result<ValueId> {
    let rank = steps.shape(table).len();
    let axis = OnnxNode::axis(steps.node.take_int("axis")?.unwrap_or(0), rank)?;
    if axis >= rank || steps.importer.graph.values[table].constant.is_none() {
        bail!(Unsupported, "indices that are computed or given: only into a constant");
    }
    let (turn, places) = (axis != 0, steps.shape(indices).len());
    let rows = [axis].into_iter().chain((0..rank).filter(|&a| a != axis)).collect();
    let table = match turn {
        true => steps.step(Op::Transpose(Transpose { perm: rows }), &[table])?,
        false => table,
    };
    let mut y = steps.step(Op::Embedding(Embedding), &[indices, table])?;
    if turn {
        let others = places + axis..places + rank - 1;
        let perm = (places..places + axis).chain(0..places).chain(others).collect();
        y = steps.step(Op::Transpose(Transpose { perm }), &[y])?;
    }
    // What is not in the table is refused where it comes from.
    let rows = steps.shape(table)[0];
    let graph = &mut steps.importer.graph;
    let mut v = indices;
    while let Some(node) = graph.nodes.iter().find(|node| node.output == v) {
        match (&node.op, node.op.output_params()) {
            (Op::ArgMax(op), _) => {
                let classes = graph.values[node.inputs[0]].shape[op.axis];
                if classes > rows {
                    bail!(Unsupported, "an index of {classes} into a table of {rows} rows");
                }
                return Ok(y);
            }
            (_, OutputParams::SameAsInput) => {}
            _ => bail!(Unsupported, "an index that is computed by {}", node.op.name()),
        }
        v = node.inputs[0];
    }
    if let Some(given) = &mut graph.values[v].given {
        given.highest = given.highest.min(rows as i32 - 1);
    }
    Ok(y)
}

pub(super) fn expand(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let Some(target) = steps.node.take_input_ints(1)? else { bail!(Invalid, "no shape") };
    let target = target.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX));
    let larger = broadcast(steps.shape(x), &target.collect::<Shape>())?;
    checked_len(&larger)?;
    expanded(steps, x, &larger)
}

/// `x` in `shape`, to which it can be broadcast.
fn expanded(steps: &mut Steps, mut x: ValueId, shape: &[usize]) -> Result<ValueId> {
    if let Some(real) = steps.importer.graph.real_constant(x) {
        let real = real.clone();
        steps.importer.folding.take(shape, checked_len(shape)? as u64)?;
        let places = broadcast_strides(real.shape(), &strides(real.shape()), shape);
        let places = strided_indices(shape.to_vec(), places);
        return steps.constant(shape.to_vec(), places.map(|i| real.data()[i]).collect());
    }
    let missing = shape.len() - steps.shape(x).len();
    if missing > 0 {
        x = steps.reshape(x, [&vec![1; missing], steps.shape(x)].concat())?;
    }
    for (axis, &size) in shape.iter().enumerate() {
        if steps.shape(x)[axis] != size {
            x = picked(steps, x, axis, vec![0; size])?;
        }
    }
    Ok(x)
}

pub(super) fn tile(steps: &mut Steps, mut x: ValueId) -> Result<ValueId> {
    let Some(repeats) = steps.node.take_input_ints(1)? else { bail!(Invalid, "no repeats") };
    let shape = steps.shape(x).to_vec();
    if repeats.len() != shape.len() {
        bail!(Shape, "{} repeats of {} axes", repeats.len(), shape.len());
    }
    for (axis, (&size, &count)) in shape.iter().zip(&repeats).enumerate() {
        let Some(count) = usize::try_from(count).ok().filter(|&n| n > 0) else {
            bail!(Unsupported, "repeats {repeats:?}");
        };
        if count > 1 {
            let Some(len) = size.checked_mul(count) else { bail!(Shape, "repeats {repeats:?}") };
            x = picked(steps, x, axis, (0..len).map(|i| i % size).collect())?;
        }
    }
    Ok(x)
}

/// One of two values, by a constant condition. What the condition masks is added to.
pub(super) fn select(steps: &mut Steps, _: ValueId) -> Result<ValueId> {
    let Some(Some(Input::Ints(condition))) = steps.node.inputs.first_mut().map(Option::take) else {
        bail!(Unsupported, "a condition that is no constant");
    };
    let [Some(a), Some(b)] = [steps.value(1)?, steps.value(2)?] else {
        bail!(Invalid, "an input is missing");
    };
    let shape = broadcast(condition.shape(), &broadcast(steps.shape(a), steps.shape(b))?)?;
    steps.importer.folding.take(&shape, checked_len(&shape)? as u64)?;
    let along =
        |of: &[usize]| strided_indices(shape.clone(), broadcast_strides(of, &strides(of), &shape));
    let masks = |v: ValueId| {
        let real = steps.importer.graph.real_constant(v)?;
        real.data().iter().all(|&x| x <= MASKED).then(|| real.clone())
    };
    let masked = [masks(a), masks(b)];
    if let [None, Some(mask)] | [Some(mask), None] = &masked {
        let kept = masked[1].is_some();
        let whole = broadcast(condition.shape(), mask.shape())?;
        let at = |of: &[usize]| {
            strided_indices(whole.clone(), broadcast_strides(of, &strides(of), &whole))
        };
        let numbers = at(condition.shape()).zip(at(mask.shape()));
        let numbers = numbers
            .map(|(c, m)| if (condition.data()[c] != 0) == kept { 0.0 } else { mask.data()[m] });
        let numbers = numbers.collect();
        let mask = steps.constant(whole.clone(), numbers)?;
        return steps.add(if kept { a } else { b }, mask);
    }
    let first = steps.shape(a).iter().product::<usize>();
    let places = along(condition.shape()).zip(along(steps.shape(a)).zip(along(steps.shape(b))));
    let positions: Vec<usize> =
        places.map(|(c, (a, b))| if condition.data()[c] != 0 { a } else { first + b }).collect();
    let both = [a, b].map(|v| {
        let len = steps.shape(v).iter().product();
        steps.reshape(v, vec![1, len])
    });
    let [a, b] = both;
    let joined = steps.step(Op::Concat(Concat { axis: 1 }), &[a?, b?])?;
    let chosen = picked(steps, joined, 1, positions)?;
    steps.reshape(chosen, shape)
}

/// The largest, or smallest, of values and of numbers, element by element.
pub(super) fn extremum(steps: &mut Steps, _: ValueId) -> Result<ValueId> {
    let least = steps.node.op_type == "Min";
    let (mut limits, mut values) = (Vec::new(), Vec::new());
    for index in 0..steps.proto.input.len() {
        let Some(v) = steps.value(index)? else { bail!(Invalid, "an input is missing") };
        match steps.importer.graph.real_constant(v) {
            Some(t) if t.data().len() == 1 && t.shape().len() <= 1 => limits.push(t.data()[0]),
            _ => values.push(v),
        }
    }
    steps.node.inputs.clear();
    let mut shape = vec![];
    for &v in &values {
        shape = broadcast(&shape, steps.shape(v))?;
    }
    let Some(mut y) = values.first().copied() else {
        bail!(Unsupported, "of numbers alone");
    };
    if values.len() > 1 {
        let len: usize = shape.iter().product();
        let mut rows = Vec::new();
        for v in values {
            let v = if least { steps.step(Op::Unary(Unary::Neg), &[v])? } else { v };
            let v = expanded(steps, v, &shape)?;
            rows.push(steps.reshape(v, vec![1, 1, 1, len])?);
        }
        let count = rows.len();
        let rows = steps.step(Op::Concat(Concat { axis: 2 }), &rows)?;
        y = steps.step(Op::MaxPool(MaxPool(Window::new([count, 1]))), &[rows])?;
        y = steps.reshape(y, shape)?;
        y = if least { steps.step(Op::Unary(Unary::Neg), &[y])? } else { y };
    }
    let Some(&first) = limits.first() else { return Ok(y) };
    let clip = match least {
        false => Clip { lo: limits.into_iter().fold(first, f32::max), hi: f32::INFINITY },
        true => Clip { lo: f32::NEG_INFINITY, hi: limits.into_iter().fold(first, f32::min) },
    };
    steps.step(Op::Clip(clip), &[y])
}

pub(super) fn largest(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| maximum(steps, x, &mean.reduced))
}

pub(super) fn smallest(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| {
        let negative = steps.step(Op::Unary(Unary::Neg), &[x])?;
        let y = maximum(steps, negative, &mean.reduced)?;
        steps.step(Op::Unary(Unary::Neg), &[y])
    })
}

/// The largest number of `x` along the axes that are reduced, which stay with size 1.
fn maximum(steps: &mut Steps, x: ValueId, reduced: &[bool]) -> Result<ValueId> {
    let shape = steps.shape(x).to_vec();
    if let (Some([_, _, h, w]), [false, false, true] | [false, false, true, true]) =
        (image(&shape), reduced)
    {
        return steps.step(Op::MaxPool(MaxPool(Window::new([h, w]))), &[x]);
    }
    let axes = |which: bool| (0..shape.len()).filter(move |&a| reduced[a] == which);
    let perm: Vec<usize> = axes(false).chain(axes(true)).collect();
    let count = |which: bool| axes(which).map(|a| shape[a]).product::<usize>();
    let rows = vec![1, 1, count(false), count(true)];
    let in_order = perm.iter().copied().eq(0..shape.len());
    let ordered = match in_order {
        true => x,
        false => steps.step(Op::Transpose(Transpose { perm }), &[x])?,
    };
    let window = Window::new([1, rows[3]]);
    let rows = steps.reshape(ordered, rows)?;
    let y = steps.step(Op::MaxPool(MaxPool(window)), &[rows])?;
    let kept = shape.iter().zip(reduced).map(|(&d, &r)| if r { 1 } else { d });
    steps.reshape(y, kept.collect())
}

pub(super) fn magnitudes(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| {
        let magnitude = steps.step(Op::Unary(Unary::Abs), &[x])?;
        steps.sum_along(mean, magnitude)
    })
}

pub(super) fn log_sum_exp(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| {
        let (_, largest, log) = log_of_sum(steps, x, mean)?;
        steps.add(largest, log)
    })
}

/// `x − max x`, `max x`, and the logarithm of the sum of the exponentials of the first.
fn log_of_sum(steps: &mut Steps, x: ValueId, mean: Mean) -> Result<(ValueId, ValueId, ValueId)> {
    let largest = maximum(steps, x, &mean.reduced)?;
    let below = steps.step(Op::Add(Add { subtract: true }), &[x, largest])?;
    let exp = steps.step(Op::Unary(Unary::Exp), &[below])?;
    let sum = steps.sum_along(mean, exp)?;
    let log = steps.step(Op::Unary(Unary::Log), &[sum])?;
    Ok((below, largest, log))
}

/// Until opset 12 all axes from one on were one.
pub(super) fn softmax(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let shape = steps.shape(x).to_vec();
    let axis = OnnxNode::axis(steps.node.take_int("axis")?.unwrap_or(1), shape.len())?;
    let Some(size) = shape.get(axis) else {
        bail!(Shape, "axis {axis} of a tensor of rank {}", shape.len());
    };
    let all: usize = shape[axis..].iter().product();
    if all == *size {
        return steps.step(Op::Softmax(Softmax { axis }), &[x]);
    }
    let flat = steps.reshape(x, [&shape[..axis], &[all]].concat())?;
    let y = steps.step(Op::Softmax(Softmax { axis }), &[flat])?;
    steps.reshape(y, shape)
}

pub(super) fn log_softmax(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let rank = steps.shape(x).len();
    let old = steps.node.opset < 13;
    let axis = steps.node.take_int("axis")?.unwrap_or(if old { 1 } else { -1 });
    let axis = OnnxNode::axis(axis, rank)?;
    // Until then all axes from this one on were one.
    let reduced: Vec<bool> = (0..rank).map(|a| a == axis || old && a > axis).collect();
    if !reduced.contains(&true) {
        bail!(Shape, "axis {axis} of shape {:?}", steps.shape(x));
    }
    let (below, _, log) = log_of_sum(steps, x, Mean { reduced })?;
    steps.step(Op::Add(Add { subtract: true }), &[below, log])
}

/// The mean of several values, element by element.
pub(super) fn mean_of_many(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let sum = sum(steps, x)?;
    let share = steps.constant(vec![], vec![1.0 / steps.proto.input.len() as f32])?;
    steps.step(Op::Mul(Mul), &[sum, share])
}
