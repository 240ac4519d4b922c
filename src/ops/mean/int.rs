//! Integer reference of `mean`. `core` only: it can be deployed as it is.

use crate::arith::{Code, Multiplier, round_ratio, strided_index};

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
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
}

/// `y = clamp(round(sum (x - zx) / count * multiplier) + zy)`, the division and the product rounded
/// once, together.
pub fn mean<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    for (i, y) in y.iter_mut().enumerate() {
        let first = strided_index(i, p.kept, p.kept_strides);
        let mut sum = 0;
        for j in 0..p.count {
            let x: i32 = x[first + strided_index(j, p.reduced, p.reduced_strides)].into();
            sum += (x - p.x_zero_point) as i64;
        }
        let product = sum * p.multiplier.significand as i64;
        let q = round_ratio(product, p.count as i64, p.multiplier.shift);
        *y = Y::code(q, p.y_zero_point, p.clamp);
    }
}
