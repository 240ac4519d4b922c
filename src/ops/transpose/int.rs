//! Integer reference of `transpose`. `core` only: it can be deployed as it is.

use crate::arith::strided_index;

/// `y[i] = x[j]`, where `j` is the position of element `i` of a tensor of shape `shape` whose axes
/// have `strides` in `x`.
pub fn transpose_i8(x: &[i8], shape: &[usize], strides: &[usize], y: &mut [i8]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = x[strided_index(i, shape, strides)];
    }
}
