//! Integer reference of `matmul`. `core` only: it can be deployed as it is.

use crate::arith::{Acc, Code, Multiplier, requantize, strided_index};

/// Integer constants of a batch of matrix products.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Sizes of the leading axes of the output.
    pub batch: &'a [usize],
    /// Strides of each input along them, 0 where it is broadcast.
    pub strides: [&'a [usize]; 2],
    /// Rows of `a`.
    pub m: usize,
    /// Columns of `a`, rows of `b`.
    pub k: usize,
    /// Columns of `b`.
    pub n: usize,
    /// `a_scale * b_scale / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in each input.
    pub zero_point: [i32; 2],
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
}

/// `y[i][j] = requantize(sum_k (a[i][k] - za) * (b[k][j] - zb))` for each matrix of the batch.
pub fn matmul<X: Code, Y: Code, A: Acc>(a: &[X], b: &[X], p: &Params, y: &mut [Y]) {
    for (i, y) in y.iter_mut().enumerate() {
        let (matrix, row, column) = (i / (p.m * p.n), i / p.n % p.m, i % p.n);
        let a = &a[strided_index(matrix, p.batch, p.strides[0]) + row * p.k..][..p.k];
        let b = &b[strided_index(matrix, p.batch, p.strides[1]) + column..];
        let mut acc = A::from(0);
        for (k, &a) in a.iter().enumerate() {
            let (a, b): (i32, i32) = (a.into(), b[k * p.n].into());
            acc += A::from(a - p.zero_point[0]) * A::from(b - p.zero_point[1]);
        }
        *y = requantize(acc, p.multiplier, p.y_zero_point, p.clamp);
    }
}
