//! Integer reference of `softmax`. `core` only: it can be deployed as it is.

use crate::arith::{Code, Multiplier, round_ratio, round_shift};

/// Integer constants of one softmax.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Entry `i` is `exp(-i * x_scale) * 2^23`, rounded; 256 entries.
    pub fine: &'a [i32],
    /// Entry `i` is `exp(-256 * i * x_scale) * 2^30`, rounded; one for 8-bit codes, 256 for 16.
    pub coarse: &'a [i32],
    /// `1 / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
    /// Number of elements that one softmax runs over.
    pub size: usize,
    /// Distance between them.
    pub stride: usize,
}

/// With `exp[d] = round(coarse[d / 256] * fine[d % 256] * 2^-30)`:
/// `y_i = clamp(round(exp[max - x_i] / sum exp[max - x_j] * multiplier) + zy)`, the division and the
/// product rounded once, together.
pub fn softmax<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    for first in 0..x.len() / p.size {
        let first = first / p.stride * p.stride * p.size + first % p.stride;
        let position = |i: usize| first + i * p.stride;
        let max = (0..p.size).fold(0, |max, i| x[position(i)].position().max(max));
        let exp = |i: usize| {
            let distance = max - x[position(i)].position();
            round_shift(p.coarse[distance >> 8] as i64 * p.fine[distance & 255] as i64, 30)
        };
        let sum: i64 = (0..p.size).map(exp).sum();
        for i in 0..p.size {
            let q = round_ratio(exp(i) * p.multiplier.significand as i64, sum, p.multiplier.shift);
            y[position(i)] = Y::code(q, p.y_zero_point, p.clamp);
        }
    }
}
