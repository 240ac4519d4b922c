//! Integer reference of `softmax`. `core` only: it can be deployed as it is.

use crate::arith::{Multiplier, clamp, round_ratio};

/// Integer constants of one softmax.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Entry `d` is `exp(-d * x_scale) * 2^23`, rounded.
    pub exp: &'a [i32; 256],
    /// `1 / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in the output.
    pub y_zero_point: i8,
    /// Output range.
    pub clamp: (i8, i8),
    /// Number of elements that one softmax runs over.
    pub size: usize,
    /// Distance between them.
    pub stride: usize,
}

/// `y_i = clamp(round(exp[max - x_i] / sum exp[max - x_j] * multiplier) + zy)`, the division and the
/// product rounded once, together.
pub fn softmax_i8(x: &[i8], p: &Params, y: &mut [i8]) {
    for first in 0..x.len() / p.size {
        let first = first / p.stride * p.stride * p.size + first % p.stride;
        let position = |i: usize| first + i * p.stride;
        let max = (0..p.size).fold(i8::MIN, |max, i| max.max(x[position(i)]));
        let exp = |i: usize| p.exp[(max as i16 - x[position(i)] as i16) as usize] as i64;
        let sum: i64 = (0..p.size).map(exp).sum();
        for i in 0..p.size {
            let q = round_ratio(exp(i) * p.multiplier.significand as i64, sum, p.multiplier.shift);
            y[position(i)] = clamp(q + p.y_zero_point as i64, p.clamp);
        }
    }
}
