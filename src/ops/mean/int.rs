//! Integer reference of `mean`. `core` only: it can be deployed as it is.

use crate::arith::{Multiplier, clamp, round_ratio, strided_index};

/// Integer constants of one mean.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Sizes of the axes that stay.
    pub kept: &'a [usize],
    /// Strides of the input along them.
    pub kept_strides: &'a [usize],
    /// Sizes of the axes that are averaged.
    pub reduced: &'a [usize],
    /// Strides of the input along them.
    pub reduced_strides: &'a [usize],
    /// Number of elements that are averaged.
    pub count: usize,
    /// `x_scale / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in the input.
    pub x_zero_point: i8,
    /// Code of real 0 in the output.
    pub y_zero_point: i8,
    /// Output range.
    pub clamp: (i8, i8),
}

/// `y = clamp(round(sum (x - zx) / count * multiplier) + zy)`, the division and the product rounded
/// once, together.
pub fn mean_i8(x: &[i8], p: &Params, y: &mut [i8]) {
    for (i, y) in y.iter_mut().enumerate() {
        let first = strided_index(i, p.kept, p.kept_strides);
        let mut sum = 0i32;
        for j in 0..p.count {
            let x = x[first + strided_index(j, p.reduced, p.reduced_strides)];
            sum += x as i32 - p.x_zero_point as i32;
        }
        let product = sum as i64 * p.multiplier.significand as i64;
        let q = round_ratio(product, p.count as i64, p.multiplier.shift);
        *y = clamp(q + p.y_zero_point as i64, p.clamp);
    }
}
