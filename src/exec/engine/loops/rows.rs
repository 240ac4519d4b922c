//! Results of any shape as rows along which each argument has one step.

use crate::arith::strided_index;
use crate::kernels::elementwise::Stored;

/// The most codes of a row that are gathered at a time.
const GATHERED: usize = 1024;

/// A result as rows along which each of `N` arguments has one step.
#[derive(Debug)]
pub struct Rows<const N: usize> {
    /// Codes in a row.
    pub len: usize,
    /// Codes that are computed at once: a row, or any part of the only one.
    pub unit: usize,
    /// From one code of a row to the next.
    pub steps: [usize; N],
    shape: Vec<usize>,
    strides: [Vec<usize>; N],
}

impl<const N: usize> Rows<N> {
    /// For a result of this shape, with the strides of the arguments along its axes.
    pub fn of(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let long = |list: &[usize]| -> Vec<usize> {
            let all = list.iter().zip(shape).filter(|(_, size)| **size != 1);
            all.map(|(&item, _)| item).collect()
        };
        let (shape, mut strides) = (long(shape), strides.map(long));
        let last = shape.len().saturating_sub(1);
        let joins = |axis: usize| {
            strides.iter().all(|strides| strides[axis - 1] == strides[axis] * shape[axis])
        };
        let outer = (1..=last).rev().find(|&axis| !joins(axis)).unwrap_or(0);
        let len = shape[outer..].iter().product::<usize>().max(1);
        let steps = std::array::from_fn(|i| strides[i].last().copied().unwrap_or(1));
        strides.iter_mut().for_each(|strides| strides.truncate(outer));
        let unit = if outer == 0 { super::UNIT } else { len };
        Self { len, unit, steps, shape: shape[..outer].to_vec(), strides }
    }

    /// Calls `f` for each row, or part of one, among `len` codes of the result from `first` on, with the places
    /// of the arguments' first codes, and the number of codes.
    pub fn places(&self, first: usize, len: usize, mut f: impl FnMut([usize; N], usize)) {
        let most = if self.steps == [1; N] { usize::MAX } else { GATHERED };
        let (mut at, end) = (first, first + len);
        while at < end {
            let (row, column) = (at / self.len, at % self.len);
            let len = (self.len - column).min(end - at).min(most);
            let from = std::array::from_fn(|i| {
                strided_index(row, &self.shape, &self.strides[i]) + column * self.steps[i]
            });
            f(from, len);
            at += len;
        }
    }

    /// The same, with these codes, which are all of `y`.
    pub fn each<Y>(&self, first: usize, y: &mut [Y], mut f: impl FnMut([usize; N], &mut [Y])) {
        let (len, mut rest) = (y.len(), y);
        self.places(first, len, |from, len| {
            let (y, more) = std::mem::take(&mut rest).split_at_mut(len);
            f(from, y);
            rest = more;
        });
    }
}

/// Room for a part of a row whose codes do not lie side by side.
pub struct Gathered<X>([X; GATHERED]);

impl<X: Stored> Gathered<X> {
    pub fn new() -> Self {
        Self([X::put(0, 0); GATHERED])
    }

    /// `len` codes of `x`, from `from` on.
    pub fn row<'a>(&'a mut self, x: &'a [X], from: usize, step: usize, len: usize) -> &'a [X] {
        let row = match step {
            1 => return &x[from..][..len],
            _ => &mut self.0[..len],
        };
        match step {
            0 => row.fill(x[from]),
            _ => row.iter_mut().zip(x[from..].iter().step_by(step)).for_each(|(y, &x)| *y = x),
        }
        row
    }
}
