//! Integer reference of `mul`. `core` only: it can be deployed as it is.

use crate::arith::{Multiplier, requantize, strided_index};

/// Integer constants of one multiplication.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// `a_scale * b_scale / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in each input.
    pub zero_point: [i8; 2],
    /// Code of real 0 in the output.
    pub y_zero_point: i8,
    /// Output range; a fused ReLU raises the lower end to `y_zero_point`.
    pub clamp: (i8, i8),
    /// Shape of the output.
    pub shape: &'a [usize],
    /// Strides of each input along the axes of `shape`, 0 where it is broadcast.
    pub strides: [&'a [usize]; 2],
}

/// `y = requantize((a - za) * (b - zb))`.
pub fn mul_i8(a: &[i8], b: &[i8], p: &Params, y: &mut [i8]) {
    for (i, y) in y.iter_mut().enumerate() {
        let a = a[strided_index(i, p.shape, p.strides[0])] as i32 - p.zero_point[0] as i32;
        let b = b[strided_index(i, p.shape, p.strides[1])] as i32 - p.zero_point[1] as i32;
        *y = requantize(a * b, p.multiplier, p.y_zero_point, p.clamp);
    }
}
