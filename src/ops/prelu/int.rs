//! Integer reference of `prelu`. `core` only: it can be deployed as it is.

use crate::arith::{Code, Multiplier, rescale, strided_index};

/// Integer constants of one parametric ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a, W> {
    /// Slopes below 0, symmetric.
    pub slope: &'a [W],
    /// For each slope, `x_scale * slope_scale / y_scale`.
    pub negative: &'a [Multiplier],
    /// `x_scale / y_scale`.
    pub positive: Multiplier,
    /// Code of real 0 in the input.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
    /// Shape of input and output.
    pub shape: &'a [usize],
    /// Strides of the slopes along its axes, 0 where they are broadcast.
    pub strides: &'a [usize],
}

/// `y = clamp(round((x - zx) * positive) + zy)`, and with the slope where that is negative.
pub fn prelu<X: Code, Y: Code, W: Code>(x: &[X], p: &Params<W>, y: &mut [Y]) {
    for (i, (&x, y)) in x.iter().zip(y).enumerate() {
        let x: i32 = x.into();
        let x = (x - p.x_zero_point) as i64;
        let c = strided_index(i, p.shape, p.strides);
        let slope: i32 = p.slope[c].into();
        let q = match x < 0 {
            true => rescale(x * slope as i64, p.negative[c]),
            false => rescale(x, p.positive),
        };
        *y = Y::code(q, p.y_zero_point, p.clamp);
    }
}
