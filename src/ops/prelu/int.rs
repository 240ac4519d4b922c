//! Integer reference of `prelu`. `core` only: it can be deployed as it is.

use crate::arith::{Multiplier, requantize, strided_index};

/// Integer constants of one parametric ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Slopes below 0, symmetric.
    pub slope: &'a [i8],
    /// For each slope, `x_scale * slope_scale / y_scale`.
    pub negative: &'a [Multiplier],
    /// `x_scale / y_scale`.
    pub positive: Multiplier,
    /// Code of real 0 in the input.
    pub x_zero_point: i8,
    /// Code of real 0 in the output.
    pub y_zero_point: i8,
    /// Output range.
    pub clamp: (i8, i8),
    /// Shape of input and output.
    pub shape: &'a [usize],
    /// Strides of the slopes along its axes, 0 where they are broadcast.
    pub strides: &'a [usize],
}

/// `y = requantize(x - zx)`, times the slope where that is negative.
pub fn prelu_i8(x: &[i8], p: &Params, y: &mut [i8]) {
    for (i, (&x, y)) in x.iter().zip(y).enumerate() {
        let x = x as i32 - p.x_zero_point as i32;
        let c = strided_index(i, p.shape, p.strides);
        *y = match x < 0 {
            true => requantize(x * p.slope[c] as i32, p.negative[c], p.y_zero_point, p.clamp),
            false => requantize(x, p.positive, p.y_zero_point, p.clamp),
        };
    }
}
