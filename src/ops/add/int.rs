//! Integer reference of `add`. `core` only: it can be deployed as it is.

use crate::arith::{Code, round_shift, strided_index};

/// Integer constants of one addition.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// `input_scale / y_scale * 2^shift` for each input: exact integers.
    pub factor: [i64; 2],
    /// The common shift.
    pub shift: u32,
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

/// `y = clamp(round((a - za) * fa + (b - zb) * fb, shift) + zy)`: summed exactly, rounded once.
pub fn add<X: Code, Y: Code>(a: &[X], b: &[X], p: &Params, y: &mut [Y]) {
    for (i, y) in y.iter_mut().enumerate() {
        let a: i32 = a[strided_index(i, p.shape, p.strides[0])].into();
        let b: i32 = b[strided_index(i, p.shape, p.strides[1])].into();
        let (a, b) = ((a - p.zero_point[0]) as i64, (b - p.zero_point[1]) as i64);
        let sum = a * p.factor[0] + b * p.factor[1];
        *y = Y::code(round_shift(sum, p.shift), p.y_zero_point, p.clamp);
    }
}
