//! Integer reference of `transpose`. `core` only: it can be deployed as it is.

use crate::arith::{Code, strided_index};

/// `y[i] = x[j]`, where `j` is the position of element `i` of a tensor of shape `shape` whose axes
/// have `strides` in `x`.
pub fn transpose<X: Code>(x: &[X], shape: &[usize], strides: &[usize], y: &mut [X]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = x[strided_index(i, shape, strides)];
    }
}
