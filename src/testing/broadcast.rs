//! NumPy's broadcasting rule: axes aligned at the end, those of size 1 repeated.

use crate::tensor::Tensor;

/// The shape that two tensors are broadcast to, if they can be.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let size = |x: &[usize], axis: usize| (axis + x.len()).checked_sub(rank).map_or(1, |i| x[i]);
    (0..rank).map(|axis| size(a, axis).max(size(b, axis))).collect()
}

/// The element of `x` at `position` of a tensor that it is broadcast to.
pub fn broadcast_at<T: Copy>(x: &Tensor<T>, position: &[usize]) -> T {
    let own = position[position.len() - x.shape().len()..].iter().zip(x.shape());
    super::at(x, &own.map(|(&p, &size)| p % size).collect::<Vec<_>>())
}
