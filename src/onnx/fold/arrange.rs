//! Elements in another order, or some of them.

use super::{Args, Numbers, axis, dt, of_different_types};
use crate::error::{Result, bail};
use crate::ops::pad::Pad;
use crate::ops::reshape::Reshape;
use crate::ops::slice::{Part, Slice, split_sizes};
use crate::ops::{Attribute, OnnxNode, Operator};
use crate::tensor::{
    Shape, Tensor, broadcast, broadcast_strides, checked_len, permuted, strided_indices, strides,
};

/// `x` with the elements at `indices`, under `shape`; 0 where there is none.
fn picked_or_zero(
    x: &Numbers,
    shape: Shape,
    indices: impl Iterator<Item = Option<usize>>,
) -> Result<Numbers> {
    Ok(match x {
        Numbers::Real(t) => {
            let all = t.data();
            let data = indices.map(|i| i.map_or(0.0, |i| all[i])).collect();
            Numbers::Real(Tensor::new(shape, data)?)
        }
        Numbers::Ints(t, data_type) => {
            let all = t.data();
            let data = indices.map(|i| i.map_or(0, |i| all[i])).collect();
            Numbers::Ints(Tensor::new(shape, data)?, *data_type)
        }
        Numbers::Narrow(..) => bail!(Unsupported, "codes as they are in the file"),
    })
}

pub(super) fn picked(
    x: &Numbers,
    shape: Shape,
    indices: impl Iterator<Item = usize>,
) -> Result<Numbers> {
    picked_or_zero(x, shape, indices.map(Some))
}

/// For each element of a tensor of as many axes as `offsets` the sum of one offset of each.
pub(super) fn grid(offsets: &[Vec<usize>]) -> Vec<usize> {
    let along = |sums: Vec<usize>, axis: &Vec<usize>| {
        sums.iter().flat_map(|sum| axis.iter().map(move |offset| sum + offset)).collect()
    };
    offsets.iter().fold(vec![0], along)
}

/// The elements of `x` at some positions of each axis.
fn at(args: &mut Args, x: &Numbers, positions: Vec<Vec<usize>>) -> Result<Numbers> {
    let shape: Shape = positions.iter().map(Vec::len).collect();
    args.room(&shape)?;
    let steps = strides(x.shape());
    let offset = |(axis, step): (&Vec<usize>, &usize)| axis.iter().map(|p| p * step).collect();
    let offsets: Vec<Vec<usize>> = positions.iter().zip(&steps).map(offset).collect();
    picked(x, shape, grid(&offsets).into_iter())
}

/// All positions of each axis.
fn all(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().map(|&size| (0..size).collect()).collect()
}

/// Argument `index` as positions on an axis of `size`.
fn take_positions(args: &mut Args, index: usize, size: usize) -> Result<(Shape, Vec<usize>)> {
    let indices = args.take_ints(index)?;
    args.room(indices.shape())?;
    let positions =
        indices.data().iter().map(|&i| OnnxNode::position(i, size)).collect::<Result<_>>()?;
    Ok((indices.shape().to_vec(), positions))
}

pub(super) fn gather(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let axis = args.take_axis(&shape, 0)?;
    let (of_indices, along) = take_positions(args, 1, shape[axis])?;
    let x = args.take(0)?;
    let mut positions = all(&shape);
    positions[axis] = along;
    let y = at(args, &x, positions)?;
    y.reshape([&shape[..axis], &of_indices, &shape[axis + 1..]].concat())
}

/// For each element of a tensor of shape `along`, the place in one of `shape` whose position on `axis` is the next of
/// `positions`.
pub(super) fn places(
    shape: &[usize],
    axis: usize,
    along: &[usize],
    positions: &[usize],
) -> Result<Vec<usize>> {
    let mut pairs = along.iter().zip(shape).enumerate();
    if along.len() != shape.len() || pairs.any(|(a, (here, there))| a != axis && here > there) {
        bail!(Shape, "indices of shape {along:?} for a tensor of shape {shape:?}");
    }
    let step = strides(shape)[axis];
    let mut others = strides(shape);
    others[axis] = 0;
    let bases = strided_indices(along.to_vec(), others);
    Ok(bases.zip(positions).map(|(base, p)| base + p * step).collect())
}

pub(super) fn gather_elements(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let axis = args.take_axis(&shape, 0)?;
    let (along, positions) = take_positions(args, 1, shape[axis])?;
    let places = places(&shape, axis, &along, &positions)?;
    picked(&args.take(0)?, along, places.into_iter())
}

/// Where the blocks begin that `indices` of shape `[.., k]` name in a tensor of `shape`, behind its first `batch` axes.
pub(super) fn blocks(
    shape: &[usize],
    indices: &Tensor<i64>,
    batch: usize,
) -> Result<(Vec<usize>, usize)> {
    let Some((&k, lead)) = indices.shape().split_last() else {
        bail!(Shape, "indices without an axis");
    };
    if batch + k > shape.len() || lead.len() < batch || lead[..batch] != shape[..batch] {
        bail!(Shape, "indices of shape {:?} for a tensor of {shape:?}", indices.shape());
    }
    let steps = strides(shape);
    let block: usize = shape[batch + k..].iter().product();
    let per_batch: usize = shape[batch..].iter().product();
    let in_batch: usize = lead[batch..].iter().product();
    let count: usize = lead.iter().product();
    let indices = indices.data();
    let first = |i: usize| {
        let tuple = &indices[i * k..(i + 1) * k];
        let axes = tuple.iter().zip(&shape[batch..]).zip(&steps[batch..]);
        let inside = axes.map(|((&i, &size), step)| Ok(OnnxNode::position(i, size)? * step));
        Ok(i / in_batch.max(1) * per_batch + inside.sum::<Result<usize>>()?)
    };
    Ok(((0..count).map(first).collect::<Result<_>>()?, block))
}

pub(super) fn gather_nd(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let batch = args.node.take_int("batch_dims")?.unwrap_or(0);
    let batch = usize::try_from(batch).unwrap_or(usize::MAX).min(shape.len());
    let indices = args.take_ints(1)?;
    args.room(indices.shape())?;
    let (firsts, block) = blocks(&shape, &indices, batch)?;
    let (k, lead) = indices.shape().split_last().unwrap_or((&0, &[]));
    let result = [lead, &shape[batch + k..]].concat();
    args.room(&result)?;
    picked(&args.take(0)?, result, firsts.into_iter().flat_map(|first| first..first + block))
}

pub(super) fn expand(args: &mut Args) -> Result<Numbers> {
    let (x, target) = (args.take(0)?, args.take_sizes(1)?);
    let shape = broadcast(x.shape(), &target)?;
    args.room(&shape)?;
    let steps = broadcast_strides(x.shape(), &strides(x.shape()), &shape);
    picked(&x, shape.clone(), strided_indices(shape, steps))
}

pub(super) fn tile(args: &mut Args) -> Result<Numbers> {
    let (x, repeats) = (args.take(0)?, args.take_sizes(1)?);
    if repeats.len() != x.shape().len() {
        bail!(Shape, "{} repeats of a tensor of shape {:?}", repeats.len(), x.shape());
    }
    let sizes = x.shape().iter().zip(&repeats).map(|(&size, &n)| size.saturating_mul(n));
    let sizes: Shape = sizes.collect();
    // Of nothing an axis may be of any size.
    if checked_len(&sizes)? == 0 {
        return picked(&x, sizes, std::iter::empty());
    }
    args.room(&sizes)?;
    let axis = |(&size, &n): (&usize, &usize)| (0..size * n).map(|i| i % size).collect();
    let positions = x.shape().iter().zip(&repeats).map(axis).collect();
    at(args, &x, positions)
}

pub(super) fn transpose(args: &mut Args) -> Result<Numbers> {
    let x = args.take(0)?;
    let shape = x.shape();
    let perm = match args.node.take_ints("perm")? {
        None => (0..shape.len()).rev().collect(),
        Some(perm) => perm.iter().map(|&p| p as usize).collect::<Vec<_>>(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..shape.len()) {
        bail!(Shape, "{perm:?} is no permutation of the axes of {shape:?}");
    }
    let (moved, steps) = (permuted(shape, &perm), permuted(&strides(shape), &perm));
    args.room(&moved)?;
    picked(&x, moved.clone(), strided_indices(moved, steps))
}

/// The elements stay where they are.
pub(super) fn reshape(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let shape = match args.node.op_type.as_str() {
        "Reshape" | "Flatten" => Reshape::import(args.node)?.infer_shape(&[&shape])?,
        _ => squeezed(args.node, &shape)?,
    };
    args.take(0)?.reshape(shape)
}

/// Axes named by an attribute until opset 12, by an argument from 13 on.
fn take_axes(node: &mut OnnxNode, rank: usize) -> Result<Option<Vec<usize>>> {
    let axes = if node.opset < 13 { node.take_ints("axes")? } else { node.take_input_ints(1)? };
    let axis = |a: i64| match OnnxNode::axis(a, rank)? {
        axis if axis < rank => Ok(axis),
        axis => bail!(Shape, "axis {axis} of a tensor of rank {rank}"),
    };
    axes.map(|axes| axes.into_iter().map(axis).collect()).transpose()
}

/// The shape that Squeeze or Unsqueeze gives a tensor of shape `x`.
pub(in super::super) fn squeezed(node: &mut OnnxNode, x: &[usize]) -> Result<Shape> {
    if node.op_type == "Squeeze" {
        let axes = take_axes(node, x.len())?;
        let axes = axes.unwrap_or_else(|| (0..x.len()).filter(|&a| x[a] == 1).collect());
        if let Some(axis) = axes.iter().find(|&&a| x[a] != 1) {
            bail!(Shape, "axis {axis} of shape {x:?} is not 1");
        }
        return Ok((0..x.len()).filter(|a| !axes.contains(a)).map(|a| x[a]).collect());
    }
    let count = match node.attributes.get("axes") {
        Some(Attribute::Ints(axes)) => axes.len(),
        _ => node.input_shape(1)?.iter().product(),
    };
    let rank = x.len() + count.min(64);
    let Some(axes) = take_axes(node, rank)? else { bail!(Invalid, "the axes are missing") };
    let mut sizes = x.iter();
    Ok((0..rank)
        .filter_map(|a| if axes.contains(&a) { Some(1) } else { sizes.next().copied() })
        .collect())
}

/// Lists may become empty.
pub(super) fn slice(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let mut positions = all(&shape);
    for (axis, [start, end, step]) in Slice::bounds(args.node, &shape)? {
        positions[axis] = match Slice::part(shape[axis], start, end, step) {
            Ok(Part { start, step, len }) => {
                (0..len as i64).map(|i| (start as i64 + i * step) as usize).collect()
            }
            Err(_) if step != 0 => Vec::new(),
            Err(e) => return Err(e),
        };
    }
    let x = args.take(0)?;
    at(args, &x, positions)
}

pub(super) fn split(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let (axis, sizes) = split_sizes(args.node, args.outputs)?;
    let x = args.take(0)?;
    let mut start = 0;
    let mut parts = Vec::new();
    for size in sizes {
        let mut positions = all(&shape);
        positions[axis] = (start..start + size).collect();
        parts.push(at(args, &x, positions)?);
        start += size;
    }
    args.more = parts.split_off(1);
    Ok(parts.remove(0))
}

pub(super) fn concat(args: &mut Args) -> Result<Numbers> {
    let Some(named) = args.node.take_int("axis")? else {
        bail!(Invalid, "attribute \"axis\" is missing");
    };
    let parts: Vec<Numbers> =
        (0..args.node.inputs.len()).map(|i| args.take(i)).collect::<Result<_>>()?;
    let mut shape = parts[0].shape().to_vec();
    let axis = axis(named, &shape)?;
    shape[axis] = 0;
    for part in &parts {
        let mut others = part.shape().to_vec();
        match others.get_mut(axis) {
            Some(size) => shape[axis] = shape[axis].saturating_add(std::mem::take(size)),
            None => bail!(Shape, "axis {axis} of shape {:?}", part.shape()),
        }
        if others.iter().enumerate().any(|(a, &size)| a != axis && shape.get(a) != Some(&size)) {
            bail!(Shape, "parts of shapes {:?} and {:?}", parts[0].shape(), part.shape());
        }
    }
    args.room(&shape)?;
    let outer: usize = shape[..axis].iter().product();
    /// One row of each part after the other.
    fn joined<T: Copy>(parts: &[&[T]], outer: usize) -> Vec<T> {
        let row = |o: usize| {
            parts.iter().flat_map(move |part| {
                let len = part.len() / outer.max(1);
                &part[o * len..(o + 1) * len]
            })
        };
        (0..outer).flat_map(row).copied().collect()
    }
    let reals =
        parts.iter().map(|part| if let Numbers::Real(t) = part { Some(t.data()) } else { None });
    if let Some(reals) = reals.collect::<Option<Vec<_>>>() {
        return Ok(Numbers::Real(Tensor::new(shape, joined(&reals, outer))?));
    }
    let ints =
        parts.iter().map(|part| if let Numbers::Ints(t, _) = part { Some(t.data()) } else { None });
    match (ints.collect::<Option<Vec<_>>>(), &parts[0]) {
        (Some(ints), Numbers::Ints(_, data_type)) => {
            Ok(Numbers::Ints(Tensor::new(shape, joined(&ints, outer))?, *data_type))
        }
        _ => of_different_types(args),
    }
}

/// Of integers.
pub(super) fn pad(args: &mut Args) -> Result<Numbers> {
    let Numbers::Ints(t, data_type) = args.take(0)? else { return of_different_types(args) };
    args.node.inputs[0] = Some(crate::ops::Input::Ints(t.clone()));
    let fill = match args.has(2) && args.node.opset >= 11 {
        true => args.take_one(2)?,
        false => 0,
    };
    let op = Pad::import(args.node)?;
    args.node.inputs[0] = None;
    let shape = op.infer_shape(&[t.shape()])?;
    args.room(&shape)?;
    let (indices, all) = (op.indices(t.shape()).into_iter(), t.data());
    let data = indices.map(|i| i.map_or(fill, |i| all[i])).collect();
    Ok(Numbers::Ints(Tensor::new(shape, data)?, data_type))
}

/// The upper or lower part of matrices.
pub(super) fn trilu(args: &mut Args) -> Result<Numbers> {
    let upper = args.node.take_flag_or("upper", true)?;
    let k = if args.has(1) { args.take_one(1)? } else { 0 };
    let x = args.take(0)?;
    let shape = x.shape().to_vec();
    let &[.., rows, columns] = &shape[..] else { bail!(Shape, "a part of shape {shape:?}") };
    let n = args.room(&shape)?;
    let stays = |i: usize| {
        let diagonal = ((i / columns % rows) as i64).saturating_add(k);
        let column = (i % columns) as i64;
        if upper { column >= diagonal } else { column <= diagonal }
    };
    picked_or_zero(&x, shape, (0..n).map(|i| stays(i).then_some(i)))
}

/// Where a list of truth values says so; without an axis of all elements.
pub(super) fn compress(args: &mut Args) -> Result<Numbers> {
    let axis = match args.node.attributes.contains_key("axis") {
        true => Some(args.shape(0).and_then(|shape| args.take_axis(&shape, 0))?),
        false => None,
    };
    let (mut x, condition) = (args.take(0)?, args.take_ints(1)?);
    if axis.is_none() {
        let len = x.len();
        x = x.reshape(vec![len])?;
    }
    let axis = axis.unwrap_or(0);
    let size = x.shape()[axis];
    let chosen = condition.data().iter().take(size).enumerate().filter(|(_, c)| **c != 0);
    let mut positions = all(x.shape());
    positions[axis] = chosen.map(|(i, _)| i).collect();
    at(args, &x, positions)
}

/// The first elements of each row along the time, as many as its length says, backwards.
pub(super) fn reverse_sequence(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let batch = axis(args.node.take_int("batch_axis")?.unwrap_or(1), &shape)?;
    let time = axis(args.node.take_int("time_axis")?.unwrap_or(0), &shape)?;
    let lengths = args.take_ints(1)?;
    let x = args.take(0)?;
    let n = args.room(&shape)?;
    let size = shape[time] as i64;
    let fits = |length: &i64| (0..=size).contains(length);
    if lengths.data().len() != shape[batch] || !lengths.data().iter().all(fits) || batch == time {
        bail!(Invalid, "lengths {:?} of sequences in shape {shape:?}", lengths.data());
    }
    let steps = strides(&shape);
    let lengths = lengths.data();
    let from = |i: usize| {
        let (row, t) = (i / steps[batch] % shape[batch], i / steps[time] % shape[time]);
        let length = lengths[row] as usize;
        if t < length { i + (length - 1 - t) * steps[time] - t * steps[time] } else { i }
    };
    picked(&x, shape.clone(), (0..n).map(from))
}

/// Indices as they are in files.
pub(super) fn indices(
    shape: impl Into<Shape>,
    data: impl Iterator<Item = usize>,
) -> Result<Numbers> {
    Ok(Numbers::Ints(Tensor::new(shape, data.map(|i| i as i64).collect())?, dt::INT64))
}
