//! Elements that others take the place of.

use super::arrange::{blocks, places};
use super::{Args, Numbers, axis, of_different_types};
use crate::error::{Result, bail};
use crate::ops::OnnxNode;
use crate::tensor::{Tensor, strides};

/// What is done where something is already.
#[derive(Clone, Copy)]
enum Reduction {
    None,
    Add,
    Mul,
    Min,
    Max,
}

fn take_reduction(args: &mut Args) -> Result<Reduction> {
    Ok(match args.node.take_string("reduction")?.as_deref() {
        None | Some("none") => Reduction::None,
        Some("add") => Reduction::Add,
        Some("mul") => Reduction::Mul,
        Some("min") => Reduction::Min,
        Some("max") => Reduction::Max,
        Some(other) => bail!(Invalid, "attribute \"reduction\" is \"{other}\""),
    })
}

/// Puts the elements of argument `index` where `places` says, into `x`.
fn scattered(
    args: &mut Args,
    x: Numbers,
    places: &[usize],
    index: usize,
    reduction: Reduction,
) -> Result<Numbers> {
    fn into<T: Copy + PartialOrd>(
        mut x: Tensor<T>,
        places: &[usize],
        updates: &Tensor<T>,
        f: impl Fn(T, T) -> T,
    ) -> Result<Tensor<T>> {
        if updates.data().len() != places.len() {
            bail!(Shape, "{} elements for {} places", updates.data().len(), places.len());
        }
        let y = x.data_mut();
        places.iter().zip(updates.data()).for_each(|(&i, &update)| y[i] = f(y[i], update));
        Ok(x)
    }
    args.room(x.shape())?;
    Ok(match (x, args.take(index)?) {
        (Numbers::Real(x), Numbers::Real(updates)) => {
            let f: fn(f32, f32) -> f32 = match reduction {
                Reduction::None => |_, new| new,
                Reduction::Add => |old, new| old + new,
                Reduction::Mul => |old, new| old * new,
                Reduction::Min => f32::min,
                Reduction::Max => f32::max,
            };
            Numbers::Real(into(x, places, &updates, f)?)
        }
        (Numbers::Ints(x, data_type), Numbers::Ints(updates, _)) => {
            let f: fn(i64, i64) -> i64 = match reduction {
                Reduction::None => |_, new| new,
                Reduction::Add => i64::saturating_add,
                Reduction::Mul => i64::saturating_mul,
                Reduction::Min => i64::min,
                Reduction::Max => i64::max,
            };
            Numbers::Ints(into(x, places, &updates, f)?, data_type)
        }
        _ => return of_different_types(args),
    })
}

pub(super) fn scatter_elements(args: &mut Args) -> Result<Numbers> {
    let reduction = take_reduction(args)?;
    let x = args.take(0)?;
    let axis = args.take_axis(x.shape(), 0)?;
    let indices = args.take_ints(1)?;
    args.room(indices.shape())?;
    let size = x.shape()[axis];
    let positions =
        indices.data().iter().map(|&i| OnnxNode::position(i, size)).collect::<Result<Vec<_>>>()?;
    let places = places(x.shape(), axis, indices.shape(), &positions)?;
    scattered(args, x, &places, 2, reduction)
}

pub(super) fn scatter_nd(args: &mut Args) -> Result<Numbers> {
    let reduction = take_reduction(args)?;
    let (x, indices) = (args.take(0)?, args.take_ints(1)?);
    args.room(indices.shape())?;
    let (firsts, block) = blocks(x.shape(), &indices, 0)?;
    args.room(&[firsts.len(), block])?;
    let places: Vec<usize> = firsts.into_iter().flat_map(|first| first..first + block).collect();
    scattered(args, x, &places, 2, reduction)
}

/// A new axis, with the second of two values at the place that an index names, else the first.
pub(super) fn one_hot(args: &mut Args) -> Result<Numbers> {
    let indices = match args.take(0)? {
        Numbers::Real(t) => t.map(|&x| x as i64),
        Numbers::Ints(t, _) => t,
        Numbers::Narrow(..) => return of_different_types(args),
    };
    let depth = match args.take(1)? {
        Numbers::Real(t) => t.map(|&x| x as i64),
        Numbers::Ints(t, _) => t,
        Numbers::Narrow(..) => return of_different_types(args),
    };
    let Some(depth) = depth.data().first().and_then(|&d| usize::try_from(d).ok()) else {
        bail!(Invalid, "depth {:?}", depth.data());
    };
    let named = args.node.take_int("axis")?.unwrap_or(-1);
    let mut shape = indices.shape().to_vec();
    let axis = axis(named, &[&shape[..], &[0]].concat())?;
    shape.insert(axis, depth);
    args.room(&shape)?;
    let inner = strides(&shape)[axis];
    let step = |(i, &index): (usize, &i64)| {
        let base = i / inner * inner * depth + i % inner;
        OnnxNode::position(index, depth).ok().map(|position| base + position * inner)
    };
    let places: Vec<usize> = indices.data().iter().enumerate().filter_map(step).collect();
    fn filled<T: Copy>(values: &Tensor<T>, places: &[usize], len: usize) -> Result<Vec<T>> {
        let &[off, on] = values.data() else {
            bail!(Invalid, "expected two values, got {}", values.data().len());
        };
        let mut y = vec![off; len];
        places.iter().for_each(|&i| y[i] = on);
        Ok(y)
    }
    let len = shape.iter().product();
    Ok(match args.take(2)? {
        Numbers::Real(t) => Numbers::Real(Tensor::new(shape, filled(&t, &places, len)?)?),
        Numbers::Ints(t, data_type) => {
            Numbers::Ints(Tensor::new(shape, filled(&t, &places, len)?)?, data_type)
        }
        Numbers::Narrow(..) => return of_different_types(args),
    })
}
