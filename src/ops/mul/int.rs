//! Integer reference of `mul`. `core` only: it can be deployed as it is.

use crate::arith::{Code, Multiplier, rescale, strided_index};

/// Integer constants of one multiplication.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// `a_scale * b_scale / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in each input.
    pub zero_point: [i32; 2],
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range; a fused ReLU raises the lower end to `y_zero_point`.
    pub clamp: (i32, i32),
    /// Shape of the output.
    pub shape: &'a [usize],
    /// Strides of each input along the axes of `shape`, 0 where it is broadcast.
    pub strides: [&'a [usize]; 2],
}

/// `y = clamp(round((a - za) * (b - zb) * multiplier) + zy)`.
pub fn mul<X: Code, Y: Code>(a: &[X], b: &[X], p: &Params, y: &mut [Y]) {
    for (i, y) in y.iter_mut().enumerate() {
        let a: i32 = a[strided_index(i, p.shape, p.strides[0])].into();
        let b: i32 = b[strided_index(i, p.shape, p.strides[1])].into();
        let product = (a - p.zero_point[0]) as i64 * (b - p.zero_point[1]) as i64;
        *y = Y::code(rescale(product, p.multiplier), p.y_zero_point, p.clamp);
    }
}
