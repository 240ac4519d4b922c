//! Along axes: sums and the like, orders, places.

use std::cmp::Ordering;

use super::arrange::{indices, picked};
use super::{Args, Numbers, axis, of_different_types};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, strided_indices, strides};

/// Axes of an attribute, or of argument 1 from the version on in which it takes its place.
fn take_axes(args: &mut Args, shape: &[usize]) -> Result<Vec<bool>> {
    let as_argument = args.node.opset >= if args.op_type() == "ReduceSum" { 13 } else { 18 };
    let axes = match as_argument {
        true => args.node.take_input_ints(1)?,
        false => args.node.take_ints("axes")?,
    };
    let nothing = as_argument && args.node.take_flag("noop_with_empty_axes")?;
    let axes = axes.filter(|axes| !axes.is_empty());
    let mut reduced = vec![axes.is_none() && !nothing; shape.len()];
    for named in axes.unwrap_or_default() {
        reduced[axis(named, shape)?] = true;
    }
    Ok(reduced)
}

/// `shape` with the reduced axes as 1.
fn kept(shape: &[usize], reduced: &[bool]) -> Shape {
    shape.iter().zip(reduced).map(|(&size, &reduced)| if reduced { 1 } else { size }).collect()
}

/// For each element of a tensor of `shape` that of the result to which it belongs.
fn belongs(shape: &[usize], reduced: &[bool]) -> impl Iterator<Item = usize> + use<> {
    let steps = strides(&kept(shape, reduced));
    let steps = steps.iter().zip(reduced).map(|(&step, &reduced)| if reduced { 0 } else { step });
    strided_indices(shape.to_vec(), steps.collect())
}

pub(super) fn reduce(args: &mut Args) -> Result<Numbers> {
    let op_type = args.op_type();
    let keep = args.node.take_flag_or("keepdims", true)?;
    let shape = args.shape(0)?;
    let reduced = take_axes(args, &shape)?;
    args.room(&shape)?;
    let with_ones = kept(&shape, &reduced);
    let left = shape.iter().zip(&reduced).filter(|(_, r)| !**r).map(|(&d, _)| d);
    let result = if keep { with_ones.clone() } else { left.collect() };
    let len = args.room(&with_ones)?;
    let count: usize = shape.iter().zip(&reduced).filter(|(_, r)| **r).map(|(&d, _)| d).product();
    let none = || -> Result<Numbers> { bail!(Invalid, "{op_type} of no elements") };
    match args.take(0)? {
        Numbers::Real(t) => {
            let (start, f): (f64, fn(f64, f64) -> f64) = match op_type.as_str() {
                "ReduceMax" => (f64::NEG_INFINITY, f64::max),
                "ReduceMin" => (f64::INFINITY, f64::min),
                "ReduceProd" => (1.0, |sum, x| sum * x),
                "ReduceL1" => (0.0, |sum, x| sum + x.abs()),
                "ReduceL2" | "ReduceSumSquare" => (0.0, |sum, x| sum + x * x),
                "ReduceLogSumExp" => (0.0, |sum, x| sum + libm::exp(x)),
                _ => (0.0, |sum, x| sum + x),
            };
            if count == 0 && start.is_infinite() {
                return none();
            }
            let mut y = vec![start; len];
            let places = belongs(&shape, &reduced);
            t.data().iter().zip(places).for_each(|(&x, i)| y[i] = f(y[i], x.into()));
            let last = |y: f64| match op_type.as_str() {
                "ReduceMean" => y / count as f64,
                "ReduceL2" => y.sqrt(),
                "ReduceLogSum" | "ReduceLogSumExp" => libm::log(y),
                _ => y,
            };
            let y = y.into_iter().map(|y| last(y) as f32).collect();
            Ok(Numbers::Real(Tensor::new(result, y)?))
        }
        Numbers::Ints(t, data_type) => {
            let (start, f): (i64, Checked) = match op_type.as_str() {
                "ReduceMax" => (i64::MIN, |a, b| Some(a.max(b))),
                "ReduceMin" => (i64::MAX, |a, b| Some(a.min(b))),
                "ReduceProd" => (1, i64::checked_mul),
                "ReduceSum" | "ReduceMean" => (0, i64::checked_add),
                "ReduceL1" => (0, |sum, x| sum.checked_add(x.checked_abs()?)),
                "ReduceSumSquare" => (0, |sum, x| sum.checked_add(x.checked_mul(x)?)),
                _ => bail!(Unsupported, "{op_type} of integers"),
            };
            if count == 0 && !matches!(start, 0 | 1) {
                return none();
            }
            let mut y = vec![start; len];
            for (&x, i) in t.data().iter().zip(belongs(&shape, &reduced)) {
                let Some(next) = f(y[i], x) else { bail!(Invalid, "overflow in {op_type}") };
                y[i] = next;
            }
            if op_type == "ReduceMean" {
                y.iter_mut().for_each(|y| *y = y.checked_div(count as i64).unwrap_or(0));
            }
            Ok(Numbers::Ints(Tensor::new(result, y)?, data_type))
        }
        Numbers::Narrow(..) => of_different_types(args),
    }
}

/// One integer more; nothing beyond their range.
type Checked = fn(i64, i64) -> Option<i64>;

/// A line of a tensor along an axis: where it begins, how far its elements are apart, how many they are.
#[derive(Clone, Copy)]
struct Line {
    first: usize,
    step: usize,
    len: usize,
}

impl Line {
    fn places(self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.len).map(move |i| self.first + i * self.step)
    }
}

fn lines(shape: &[usize], axis: usize) -> Vec<Line> {
    let step = strides(shape)[axis];
    let mut others = shape.to_vec();
    let len = std::mem::replace(&mut others[axis], 1);
    strided_indices(others, strides(shape)).map(|first| Line { first, step, len }).collect()
}

/// Compares the elements of `x` at two places.
fn order(x: &Numbers) -> impl Fn(usize, usize) -> Ordering {
    let (reals, ints) = match x {
        Numbers::Real(t) => (t.data(), &[][..]),
        Numbers::Ints(t, _) => (&[][..], t.data()),
        Numbers::Narrow(..) => (&[][..], &[][..]),
    };
    // −0 and 0 are equal, not-a-numbers are larger than all others.
    let of_reals = |a: f32, b: f32| a.partial_cmp(&b).unwrap_or(a.is_nan().cmp(&b.is_nan()));
    move |i, j| if ints.is_empty() { of_reals(reals[i], reals[j]) } else { ints[i].cmp(&ints[j]) }
}

/// The places of a line, that of the largest or smallest element first; of equal ones the first one is.
fn ordered(order: &impl Fn(usize, usize) -> Ordering, line: Line, largest: bool) -> Vec<usize> {
    let mut places: Vec<usize> = line.places().collect();
    places.sort_by(|&i, &j| if largest { order(j, i) } else { order(i, j) });
    places
}

/// Steps to bring lines in order.
fn sorting(shape: &[usize], size: usize) -> u64 {
    let n: u64 = shape.iter().map(|&d| d as u64).product();
    n * (size as u64 + 2).ilog2() as u64
}

pub(super) fn arg(args: &mut Args) -> Result<Numbers> {
    let largest = args.op_type() == "ArgMax";
    let shape = args.shape(0)?;
    let along = args.take_axis(&shape, 0)?;
    let keep = args.node.take_flag_or("keepdims", true)?;
    let last = args.node.take_flag("select_last_index")?;
    let x = args.take(0)?;
    args.room_for(&shape, sorting(&shape, shape[along]))?;
    let order = order(&x);
    let place = |line: Line| -> Result<usize> {
        let places = ordered(&order, line, largest);
        let Some(&first) = places.first() else { bail!(Invalid, "the place of no element") };
        let mut same = places.iter().take_while(|&&i| order(i, first).is_eq());
        let best = if last { same.last() } else { same.next() }.unwrap_or(&first);
        Ok((best - line.first) / line.step.max(1))
    };
    let places = lines(&shape, along).into_iter().map(place).collect::<Result<Vec<_>>>()?;
    let mut result = shape;
    match keep {
        true => result[along] = 1,
        false => drop(result.remove(along)),
    }
    indices(result, places.into_iter())
}

pub(super) fn top_k(args: &mut Args) -> Result<Numbers> {
    let mut shape = args.shape(0)?;
    let along = args.take_axis(&shape, -1)?;
    let k = match args.node.opset < 10 {
        true => args.node.take_int("k")?.unwrap_or(-1),
        false => args.take_one(1)?,
    };
    let largest = args.node.take_flag_or("largest", true)?;
    args.node.take_flag_or("sorted", true)?; // They are sorted, whether they need be or not.
    let x = args.take(0)?;
    let Some(k) = usize::try_from(k).ok().filter(|&k| k <= shape[along]) else {
        bail!(Invalid, "the first {k} of {} elements", shape[along]);
    };
    args.room_for(&shape, sorting(&shape, shape[along]))?;
    let lines = lines(&shape, along);
    shape[along] = k;
    let len = args.room(&shape)?;
    let (mut from, mut positions) = (vec![0; len], vec![0; len]);
    let to = self::lines(&shape, along);
    let order = order(&x);
    for (line, to) in lines.into_iter().zip(to) {
        for (&place, to) in ordered(&order, line, largest).iter().zip(to.places()) {
            (from[to], positions[to]) = (place, (place - line.first) / line.step.max(1));
        }
    }
    args.more.push(indices(shape.clone(), positions.into_iter())?);
    picked(&x, shape, from.into_iter())
}

/// 1 at the first largest element of each line, else 0.
pub(super) fn hardmax(args: &mut Args) -> Result<Numbers> {
    let shape = args.shape(0)?;
    let before_13 = args.node.opset < 13;
    let along = args.take_axis(&shape, if before_13 { 1 } else { -1 })?;
    let x = args.take(0)?;
    let len = args.room_for(&shape, sorting(&shape, shape[along]))?;
    let of_lines = match before_13 {
        true => vec![shape[..along].iter().product(), shape[along..].iter().product()],
        false => shape.clone(),
    };
    let (mut y, order) = (vec![0.0; len], order(&x));
    for line in lines(&of_lines, if before_13 { 1 } else { along }) {
        ordered(&order, line, true).first().into_iter().for_each(|&i| y[i] = 1.0);
    }
    Ok(Numbers::Real(Tensor::new(shape, y)?))
}

/// Sums or products of all elements so far.
pub(super) fn cumulative(args: &mut Args) -> Result<Numbers> {
    let product = args.op_type() == "CumProd";
    let shape = args.shape(0)?;
    let (exclusive, reverse) = (args.node.take_flag("exclusive")?, args.node.take_flag("reverse")?);
    let along = axis(args.take_one(1)?, &shape)?;
    let x = args.take(0)?;
    args.room(&shape)?;
    fn run<T: Copy>(
        mut t: Tensor<T>,
        [exclusive, reverse]: [bool; 2],
        along: usize,
        start: T,
        f: fn(T, T) -> Option<T>,
    ) -> Result<Tensor<T>> {
        let lines = lines(t.shape(), along);
        let data = t.data_mut();
        for line in lines {
            let mut so_far = start;
            let mut step = |i: usize| {
                let next = f(so_far, data[i])?;
                data[i] = if exclusive { so_far } else { next };
                so_far = next;
                Some(())
            };
            let done = match reverse {
                true => line.places().rev().try_for_each(&mut step),
                false => line.places().try_for_each(&mut step),
            };
            if done.is_none() {
                bail!(Invalid, "overflow in a sum or product");
            }
        }
        Ok(t)
    }
    let flags = [exclusive, reverse];
    Ok(match (x, product) {
        (Numbers::Real(t), false) => Numbers::Real(run(t, flags, along, 0.0, |a, b| Some(a + b))?),
        (Numbers::Real(t), true) => Numbers::Real(run(t, flags, along, 1.0, |a, b| Some(a * b))?),
        (Numbers::Ints(t, data_type), false) => {
            Numbers::Ints(run(t, flags, along, 0, i64::checked_add)?, data_type)
        }
        (Numbers::Ints(t, data_type), true) => {
            Numbers::Ints(run(t, flags, along, 1, i64::checked_mul)?, data_type)
        }
        _ => return of_different_types(args),
    })
}

fn places_where<T>(data: &[T], is_one: impl Fn(&T) -> bool) -> Vec<usize> {
    data.iter().enumerate().filter(|(_, x)| is_one(x)).map(|(i, _)| i).collect()
}

/// Positions of the elements that are not 0, a row for each axis.
pub(super) fn non_zero(args: &mut Args) -> Result<Numbers> {
    let x = args.take(0)?;
    let shape = x.shape().to_vec();
    let found: Vec<usize> = match &x {
        Numbers::Real(t) => places_where(t.data(), |x| *x != 0.0),
        Numbers::Ints(t, _) => places_where(t.data(), |i| *i != 0),
        Numbers::Narrow(..) => return of_different_types(args),
    };
    args.room_for(&[shape.len(), found.len()], x.len() as u64)?;
    let axes = shape.iter().zip(strides(&shape));
    let rows = axes.flat_map(|(&size, step)| found.iter().map(move |i| i / step % size));
    indices(vec![shape.len(), found.len()], rows)
}

/// The elements that differ, in order or as they come; where each is first, which one each element is, how many are.
pub(super) fn unique(args: &mut Args) -> Result<Numbers> {
    if args.node.attributes.contains_key("axis") {
        bail!(Unsupported, "attribute \"axis\"");
    }
    let sorted = args.node.take_flag_or("sorted", true)?;
    let x = args.take(0)?;
    let n = x.len();
    args.room_for(&[n, 4], sorting(&[n], n))?;
    let order = order(&x);
    let places = ordered(&order, Line { first: 0, step: 1, len: n }, false);
    let mut groups: Vec<&[usize]> = places.chunk_by(|&i, &j| order(i, j).is_eq()).collect();
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let mut inverse = vec![0; n];
    for (number, group) in groups.iter().enumerate() {
        group.iter().for_each(|&i| inverse[i] = number);
    }
    let len = groups.len();
    args.more = vec![
        indices([len], groups.iter().map(|group| group[0]))?,
        indices([n], inverse.into_iter())?,
        indices([len], groups.iter().map(|group| group.len()))?,
    ];
    picked(&x, vec![len], groups.iter().map(|group| group[0]))
}
