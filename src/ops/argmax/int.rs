//! Integer reference of `argmax`. `core` only: it can be deployed as it is.

use crate::arith::Code;

/// Integer constants of one search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Number of elements among which the largest is sought.
    pub size: usize,
    /// Distance between them.
    pub stride: usize,
    /// Whether the last of several maxima counts, not the first.
    pub last: bool,
    /// Code of index 0 in the output, whose scale is 1.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
}

/// `y = clamp(i + zy)` with the first (or last) `i` at which `x_i` is largest.
pub fn argmax<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    for (n, y) in y.iter_mut().enumerate() {
        let first = n / p.stride * p.stride * p.size + n % p.stride;
        let at = |i: usize| x[first + i * p.stride];
        let better = |i: usize, best: usize| at(i) > at(best) || p.last && at(i) == at(best);
        let index = (1..p.size).fold(0, |best, i| if better(i, best) { i } else { best });
        *y = Y::code(index as i64, p.y_zero_point, p.clamp);
    }
}
