//! Arithmetic on shapes: what exporters write to compute sizes at run time is constant here, and is
//! computed while the file is read.

use super::importer::take_type;
use super::proto::data_type as dt;
use super::tensors::{Numbers, fits, narrowed};
use crate::error::{Result, bail};
use crate::graph::Folding;
use crate::ops::slice::{Part, Slice};
use crate::ops::{Attribute, Input, OnnxNode, Operator};
use crate::tensor::{
    MAX_RANK, Shape, Tensor, broadcast, broadcast_strides, checked_len, permuted, strided_indices,
    strides,
};

/// Largest number of elements of a shape computation.
const MAX_ELEMENTS: usize = 1 << 16;

/// Where results are made: each takes its part of what all may take.
struct Room<'a>(&'a mut Folding);

impl Room<'_> {
    /// Takes room for a result of `shape`; its number of elements.
    fn take(&mut self, shape: &[usize]) -> Result<usize> {
        let n = check(shape)?;
        self.as_large(shape).map(|()| n)
    }

    /// Takes room for a result that is as large as the argument, of `shape`.
    fn as_large(&mut self, shape: &[usize]) -> Result<()> {
        self.0.take(shape, checked_len(shape)? as u64)
    }
}

/// The result of `node`, if it depends on shapes and constants only; `None` if it is for others.
///
/// # Errors
/// [`Error`](crate::Error) if it is such a computation, but a broken or unknown one.
pub(super) fn fold(node: &mut OnnxNode, folding: &mut Folding) -> Option<Result<Numbers>> {
    let op_type = node.op_type.clone();
    let room = &mut Room(folding);
    match op_type.as_str() {
        "Shape" => return Some(shape(node, room)),
        "Size" => {
            let shape = node.input_shape(0).and_then(checked_len);
            return Some(shape.and_then(|n| ints([], vec![n as i64])));
        }
        "ConstantOfShape" => return Some(constant_of_shape(node, room)),
        "Range" => return Some(range(node, room)),
        _ => {}
    }
    let constant = |i: &Option<Input>| matches!(i, None | Some(Input::Real(_) | Input::Ints(_)));
    if node.inputs.is_empty() || !node.inputs.iter().all(constant) {
        return None;
    }
    let of_ints = matches!(node.inputs[0], Some(Input::Ints(_)));
    Some(match op_type.as_str() {
        "Cast" => cast(node, room),
        "Gather" => gather(node, room),
        "Expand" => moved(node, room),
        "Unsqueeze" | "Squeeze" | "Transpose" if of_ints => moved(node, room),
        "Reshape" | "Flatten" if of_ints => reshaped(node, room),
        "Slice" if of_ints => slice(node, room),
        "Concat" if of_ints => concat(node, room),
        "Where" => select(node, room),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" | "Equal" | "Greater" | "Less"
        | "And" | "Or"
            if of_ints =>
        {
            binary(node, room)
        }
        "Neg" | "Abs" | "Not" if of_ints => unary(node, room),
        "Div" => of_reals(node, room, |a, b| a / b),
        // One exponent for all is that of a function.
        "Pow" if matches!(&node.inputs[..], [_, Some(Input::Real(e))] if e.data().len() != 1) => {
            of_reals(node, room, |a, b| libm::pow(a.into(), b.into()) as f32)
        }
        "Floor" | "Ceil" | "Round" => real(node, room),
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" if of_ints => reduce(node),
        _ => return None,
    })
}

fn ints(shape: impl Into<Shape>, data: Vec<i64>) -> Result<Numbers> {
    Ok(Numbers::Ints(Tensor::new(shape, data)?, dt::INT64))
}

fn take_ints(node: &mut OnnxNode, index: usize) -> Result<Tensor<i64>> {
    match node.inputs.get_mut(index).and_then(Option::take) {
        Some(Input::Ints(t)) => Ok(t),
        _ => bail!(Unsupported, "input {index} of shape arithmetic must be made of integers"),
    }
}

fn number(node: &mut OnnxNode, index: usize) -> Result<i64> {
    match take_ints(node, index)?.data() {
        &[number] => Ok(number),
        other => bail!(Invalid, "input {index}: expected one integer, got {}", other.len()),
    }
}

/// The number of elements of a result of `shape`.
fn check(shape: &[usize]) -> Result<usize> {
    if shape.len() > MAX_RANK {
        bail!(Unsupported, "a computed constant of {} axes, more than {MAX_RANK}", shape.len());
    }
    match checked_len(shape)? {
        n if n <= MAX_ELEMENTS => Ok(n),
        n => bail!(Unsupported, "a computed constant of {n} elements, more than {MAX_ELEMENTS}"),
    }
}

fn shape(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let shape: Vec<i64> = node.input_shape(0)?.iter().map(|&d| d as i64).collect();
    let rank = shape.len() as i64;
    let clamped = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let start = clamped(node.take_int("start")?.unwrap_or(0));
    let end = clamped(node.take_int("end")?.unwrap_or(rank));
    room.take(&[shape.len()])?;
    Ok(Numbers::Ints(Tensor::from_vec(shape[start..end.max(start)].to_vec()), dt::INT64))
}

fn constant_of_shape(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let shape = take_ints(node, 0)?;
    let shape: Shape =
        shape.data().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    let n = room.take(&shape)?;
    match node.attributes.remove("value") {
        None => Ok(Numbers::Real(Tensor::new(shape, vec![0.0; n])?)),
        Some(Attribute::Tensor(Input::Real(t))) if t.data().len() == 1 => {
            Ok(Numbers::Real(Tensor::new(shape, vec![t.data()[0]; n])?))
        }
        Some(Attribute::Tensor(Input::Ints(t))) if t.data().len() == 1 => {
            ints(shape, vec![t.data()[0]; n])
        }
        Some(_) => bail!(Invalid, "attribute \"value\": expected a tensor of one element"),
    }
}

fn range(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let [start, limit, delta] = [0, 1, 2].map(|i| number(node, i));
    let (start, limit, delta) = (start? as i128, limit? as i128, delta? as i128);
    if delta == 0 {
        bail!(Invalid, "a range with step 0");
    }
    let span = if delta > 0 { limit - start } else { start - limit };
    let count = (span.max(0) as u128).div_ceil(delta.unsigned_abs());
    if count > MAX_ELEMENTS as u128 {
        bail!(Unsupported, "a range of {count} elements");
    }
    room.take(&[count as usize])?;
    let data: Vec<i64> = (0..count as i128).map(|i| (start + i * delta) as i64).collect();
    Ok(Numbers::Ints(Tensor::from_vec(data), dt::INT64))
}

fn cast(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let to = take_type(node, "to")?;
    node.take_flag_or("saturate", true)?; // of 8-bit floats only
    let x = node.inputs[0].take();
    if let (Some(Input::Real(t)), true) = (&x, to.is_some_and(dt::is_real)) {
        return Ok(Numbers::Real(t.clone()));
    }
    room.as_large(x.as_ref().map_or(&[], Input::shape))?;
    Ok(match (x, to) {
        (Some(Input::Ints(t)), Some(to)) if dt::is_real(to) => Numbers::Real(t.map(|&i| i as f32)),
        (Some(Input::Ints(t)), Some(dt::BOOL)) => {
            Numbers::Ints(t.map(|&i| (i != 0) as i64), dt::BOOL)
        }
        (Some(Input::Real(t)), Some(dt::BOOL)) => {
            Numbers::Ints(t.map(|&x| (x != 0.0) as i64), dt::BOOL)
        }
        (Some(Input::Ints(t)), Some(dt::INT32 | dt::INT64)) => Numbers::Ints(t, dt::INT64),
        (Some(Input::Real(t)), Some(dt::INT32 | dt::INT64)) => {
            Numbers::Ints(t.map(|&x| x as i64), dt::INT64)
        }
        (Some(Input::Real(t)), Some(to)) if fits(to, t.data().iter().map(|&x| x as i64)) => {
            narrowed(&t.map(|&x| x as i64), to)
        }
        (Some(Input::Ints(t)), Some(to)) if fits(to, t.data().iter().copied()) => narrowed(&t, to),
        // Others would wrap.
        (Some(_), Some(to)) => bail!(Unsupported, "a cast of constants to {}", dt::name(to)),
        (_, None) => bail!(Invalid, "attribute \"to\" is missing"),
        (None, _) => bail!(Invalid, "the input is missing"),
    })
}

/// The elements of argument 0 at `indices`, under `shape`.
fn pick(
    node: &mut OnnxNode,
    room: &mut Room,
    shape: Shape,
    indices: impl Iterator<Item = usize>,
) -> Result<Numbers> {
    room.take(&shape)?;
    Ok(match node.inputs[0].take() {
        Some(Input::Ints(t)) => {
            let all = t.data();
            let data = indices.map(|i| all[i]).collect();
            Numbers::Ints(Tensor::new(shape, data)?, dt::INT64)
        }
        Some(Input::Real(t)) => {
            let all = t.data();
            let data = indices.map(|i| all[i]).collect();
            Numbers::Real(Tensor::new(shape, data)?)
        }
        _ => bail!(Invalid, "the input is missing"),
    })
}

fn gather(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let x = node.input_shape(0)?.to_vec();
    let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(0), x.len())?;
    let Some(&size) = x.get(axis) else { bail!(Shape, "axis {axis} of shape {x:?}") };
    let indices = take_ints(node, 1)?;
    room.as_large(indices.shape())?;
    let positions = indices.data().iter().map(|&i| {
        let from_front = if i < 0 { i.saturating_add(size as i64) } else { i };
        match usize::try_from(from_front) {
            Ok(i) if i < size => Ok(i),
            _ => bail!(Invalid, "index {i} of an axis of {size}"),
        }
    });
    let positions = positions.collect::<Result<Vec<_>>>()?;
    let shape: Shape = [&x[..axis], indices.shape(), &x[axis + 1..]].concat();
    check(&shape)?;
    let inner: usize = x[axis + 1..].iter().product();
    let outer: usize = x[..axis].iter().product();
    let flat: Vec<usize> = (0..outer)
        .flat_map(|o| positions.iter().map(move |p| (o * size + p) * inner))
        .flat_map(|first| first..first + inner)
        .collect();
    pick(node, room, shape, flat.into_iter())
}

/// Axes named by an attribute until opset 12, by an argument from 13 on.
pub(super) fn take_axes(node: &mut OnnxNode, rank: usize) -> Result<Option<Vec<usize>>> {
    let axes = if node.opset < 13 { node.take_ints("axes")? } else { node.take_input_ints(1)? };
    let axis = |a: i64| match OnnxNode::axis(a, rank)? {
        axis if axis < rank => Ok(axis),
        axis => bail!(Shape, "axis {axis} of a tensor of rank {rank}"),
    };
    axes.map(|axes| axes.into_iter().map(axis).collect()).transpose()
}

/// The shape that Squeeze or Unsqueeze gives a tensor of shape `x`.
pub(super) fn squeezed(node: &mut OnnxNode, x: &[usize]) -> Result<Shape> {
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

fn moved(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let x = node.input_shape(0)?.to_vec();
    let steps = strides(&x);
    match node.op_type.as_str() {
        "Expand" => {
            let target = take_ints(node, 1)?;
            let target = target.data().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX));
            let shape = broadcast(&x, &target.collect::<Shape>())?;
            check(&shape)?;
            let steps = broadcast_strides(&x, &steps, &shape);
            pick(node, room, shape.clone(), strided_indices(shape, steps))
        }
        "Transpose" => {
            let perm = match node.take_ints("perm")? {
                None => (0..x.len()).rev().collect(),
                Some(perm) => perm.iter().map(|&p| p as usize).collect::<Vec<_>>(),
            };
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..x.len()) {
                bail!(Shape, "{perm:?} is no permutation of the axes of {x:?}");
            }
            let shape = permuted(&x, &perm);
            pick(node, room, shape.clone(), strided_indices(shape, permuted(&steps, &perm)))
        }
        _ => {
            let shape = squeezed(node, &x)?;
            pick(node, room, shape, 0..x.iter().product())
        }
    }
}

fn reshaped(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    use crate::ops::reshape::Reshape;
    let x = node.input_shape(0)?.to_vec();
    let shape = Reshape::import(node)?.infer_shape(&[&x])?;
    pick(node, room, shape, 0..x.iter().product())
}

fn slice(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let x = node.input_shape(0)?.to_vec();
    if x.len() != 1 {
        let op = Slice::import(node)?;
        return pick(node, room, op.infer_shape(&[&x])?, op.indices(&x).into_iter());
    }
    // A list may become empty.
    let old = node.opset < 10;
    let mut list = |name: &str, index| match old {
        true => node.take_ints(name),
        false => node.take_input_ints(index),
    };
    let (starts, ends, axes) = (list("starts", 1)?, list("ends", 2)?, list("axes", 3)?);
    let steps = if old { None } else { list("", 4)? };
    let (Some(&[start]), Some(&[end])) = (starts.as_deref(), ends.as_deref()) else {
        bail!(Invalid, "expected one start and one end for one axis");
    };
    if let Some(axes) = axes.filter(|axes| !matches!(axes[..], [0 | -1])) {
        bail!(Invalid, "axes {axes:?} of a shape");
    }
    let step = match steps.as_deref() {
        None => 1,
        Some(&[step]) => step,
        Some(steps) => bail!(Invalid, "steps {steps:?}"),
    };
    let positions = match Slice::part(x[0], start, end, step) {
        Ok(Part { start, step, len }) => {
            (0..len as i64).map(|i| (start as i64 + i * step) as usize).collect()
        }
        Err(_) if step != 0 => Vec::new(),
        Err(e) => return Err(e),
    };
    pick(node, room, vec![positions.len()], positions.into_iter())
}

fn concat(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let axis = node.take_int("axis")?;
    let mut data = Vec::new();
    for i in 0..node.inputs.len() {
        let part = take_ints(node, i)?;
        if part.shape().len() != 1 || !matches!(axis, Some(0 | -1)) {
            bail!(Unsupported, "a concatenation of integers of shape {:?}", part.shape());
        }
        data.extend_from_slice(part.data());
    }
    room.take(&[data.len()])?;
    Ok(Numbers::Ints(Tensor::from_vec(data), dt::INT64))
}

/// `f` of each pair of elements after NumPy's broadcasting rule.
fn elementwise<T: Copy, U: Copy, V>(
    room: &mut Room,
    a: &Tensor<T>,
    b: &Tensor<U>,
    f: impl Fn(T, U) -> Option<V>,
) -> Result<Tensor<V>> {
    let shape = broadcast(a.shape(), b.shape())?;
    room.take(&shape)?;
    let steps = |s: &[usize]| broadcast_strides(s, &strides(s), &shape);
    let ia = strided_indices(shape.clone(), steps(a.shape()));
    let ib = strided_indices(shape.clone(), steps(b.shape()));
    let (a, b) = (a.data(), b.data());
    let data: Option<Vec<V>> = ia.zip(ib).map(|(i, j)| f(a[i], b[j])).collect();
    match data {
        Some(data) => Tensor::new(shape, data),
        None => bail!(Invalid, "overflow, or a division by zero, in shape arithmetic"),
    }
}

fn binary(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let op_type = node.op_type.clone();
    let fmod = node.take_flag("fmod")?;
    let mut result = take_ints(node, 0)?;
    for i in 1..node.inputs.len() {
        let b = take_ints(node, i)?;
        result = elementwise(room, &result, &b, |a: i64, b| match op_type.as_str() {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            "Div" => a.checked_div(b),
            // The sign is that of the dividend with fmod, of the divisor without.
            "Mod" => a
                .checked_rem(b)
                .map(|r| if !fmod && r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            "Min" => Some(a.min(b)),
            "Max" => Some(a.max(b)),
            "Equal" => Some((a == b) as i64),
            "Greater" => Some((a > b) as i64),
            "Less" => Some((a < b) as i64),
            "And" => Some((a != 0 && b != 0) as i64),
            _ => Some((a != 0 || b != 0) as i64),
        })?;
    }
    Ok(Numbers::Ints(result, dt::INT64))
}

/// `f` of two constants. A quotient is a true division: a rounded reciprocal would make some too small to be whole.
fn of_reals(node: &mut OnnxNode, room: &mut Room, f: impl Fn(f32, f32) -> f32) -> Result<Numbers> {
    match (node.inputs[0].take(), node.inputs.get_mut(1).and_then(Option::take)) {
        (Some(Input::Real(a)), Some(Input::Real(b))) => {
            elementwise(room, &a, &b, |a, b| Some(f(a, b))).map(Numbers::Real)
        }
        _ => bail!(Unsupported, "{} of constants of different types", node.op_type),
    }
}

fn unary(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let op_type = node.op_type.clone();
    let x = take_ints(node, 0)?;
    room.as_large(x.shape())?;
    let result = x.map(|&i| match op_type.as_str() {
        "Neg" => i.saturating_neg(),
        "Abs" => i.saturating_abs(),
        _ => (i == 0) as i64,
    });
    Ok(Numbers::Ints(result, dt::INT64))
}

fn real(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let op_type = node.op_type.clone();
    let Some(Input::Real(x)) = node.inputs[0].take() else {
        bail!(Unsupported, "expected real numbers");
    };
    room.as_large(x.shape())?;
    Ok(Numbers::Real(x.map(|x| match op_type.as_str() {
        "Floor" => x.floor(),
        "Ceil" => x.ceil(),
        _ => x.round_ties_even(),
    })))
}

fn select(node: &mut OnnxNode, room: &mut Room) -> Result<Numbers> {
    let condition = take_ints(node, 0)?;
    if let (Some(Input::Real(a)), Some(Input::Real(b))) = (&node.inputs[1], &node.inputs[2]) {
        let pairs = elementwise(room, a, b, |a, b| Some((a, b)))?;
        let chosen = |c, (a, b)| Some(if c != 0 { a } else { b });
        return elementwise(room, &condition, &pairs, chosen).map(Numbers::Real);
    }
    let (a, b) = (take_ints(node, 1)?, take_ints(node, 2)?);
    let pairs = elementwise(room, &a, &b, |a, b| Some((a, b)))?;
    let chosen =
        elementwise(room, &condition, &pairs, |c, (a, b)| Some(if c != 0 { a } else { b }))?;
    Ok(Numbers::Ints(chosen, dt::INT64))
}

/// Reduction of all elements of a list.
fn reduce(node: &mut OnnxNode) -> Result<Numbers> {
    let x = take_ints(node, 0)?;
    let keep = node.take_flag_or("keepdims", true)?;
    let axes = match node.take_ints("axes")? {
        None => node.take_input_ints(1)?,
        axes => axes,
    };
    if x.shape().len() != 1 || !matches!(axes.as_deref(), None | Some([] | [0 | -1])) {
        bail!(Unsupported, "a reduction of integers of shape {:?}", x.shape());
    }
    let data = x.data().iter().copied();
    let result = match node.op_type.as_str() {
        "ReduceProd" => data.clone().try_fold(1i64, i64::checked_mul),
        "ReduceSum" => data.clone().try_fold(0i64, i64::checked_add),
        "ReduceMax" => data.max(),
        _ => data.min(),
    };
    match result {
        Some(result) => ints(if keep { vec![1] } else { vec![] }, vec![result]),
        None => bail!(Invalid, "overflow in shape arithmetic"),
    }
}
