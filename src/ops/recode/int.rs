//! Integer reference of `recode`. `core` only: it can be deployed as it is.

use crate::arith::{Code, round_ratio, round_shift};

/// Integer constants of one change of codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// With `denominator` and `shift`, `x_scale / y_scale = numerator / denominator * 2^-shift`, or a number
    /// that gives the same code for each code of the input.
    pub numerator: i64,
    /// 1 where a multiplication does.
    pub denominator: i64,
    /// See `numerator`; 1..=62.
    pub shift: u32,
    /// Code of real 0 in the input.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
}

/// `y = clamp(round((x - zx) * x_scale / y_scale) + zy)`.
pub fn recode<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    for (&x, y) in x.iter().zip(y) {
        let x: i32 = x.into();
        let product = (x - p.x_zero_point) as i64 * p.numerator;
        let q = match p.denominator {
            1 => round_shift(product, p.shift),
            denominator => round_ratio(product, denominator, p.shift),
        };
        *y = Y::code(q, p.y_zero_point, p.clamp);
    }
}
