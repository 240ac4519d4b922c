//! Elementwise operators of two tensors, broadcast to each other.

use super::language::c::Node;
use super::{Lowering, Operand, accepted};
use crate::tensor::{Shape, Tensor, broadcast, broadcast_strides, strided_indices, strides};

/// `f(a, b)` for each pair of elements after NumPy's broadcasting rule.
pub fn elementwise(a: &Tensor<f32>, b: &Tensor<f32>, f: impl Fn(f32, f32) -> f32) -> Tensor<f32> {
    if a.shape() == b.shape() {
        let data = a.data().iter().zip(b.data()).map(|(&a, &b)| f(a, b)).collect();
        return Tensor::of(a.shape(), data);
    }
    let shape = accepted(broadcast(a.shape(), b.shape()));
    let [ia, ib] = [a, b].map(|t| {
        let steps = broadcast_strides(t.shape(), &strides(t.shape()), &shape);
        strided_indices(shape.clone(), steps)
    });
    let data = ia.zip(ib).map(|(ia, ib)| f(a.data()[ia], b.data()[ib])).collect();
    Tensor::of(shape, data)
}

/// Shape of the result in memory and strides of both operands along it, 0 where one is broadcast.
///
/// Axes of size 1 are left out. Where all three lie alike the shape is one axis, so that positions need
/// no division.
pub fn strided(node: &Lowering) -> (Shape, [Vec<usize>; 2]) {
    let operands: [Operand; 2] = [node.inputs[0], node.inputs[1]];
    let stored = node.output.stored_shape();
    let long = |list: Vec<usize>| -> Vec<usize> {
        list.into_iter()
            .zip(&stored)
            .filter(|(_, size)| **size != 1)
            .map(|(item, _)| item)
            .collect()
    };
    let shape = long(stored.clone());
    let steps = operands.map(|x| long(x.broadcast_strides(&node.output)));
    if steps.iter().all(|s| *s == strides(&shape)) {
        return (vec![shape.iter().product()], [vec![1], vec![1]]);
    }
    (shape, steps)
}

/// What [`strided`] returned, as members of the constants in C; arguments that lie like the result need
/// none of it.
pub fn emit_strided(c: &mut Node, shape: &[usize], steps: &[Vec<usize>; 2]) {
    let same = dense_arguments(shape, steps).len() == 2;
    if !same {
        c.value("rank", shape.len().max(1)).sizes("shape", shape);
        c.sizes("strides[0]", &steps[0]).sizes("strides[1]", &steps[1]);
    }
    c.value("size", shape.iter().product::<usize>()).value("same_shape", same);
}

/// The arguments that lie like the result.
pub fn dense_arguments(shape: &[usize], steps: &[Vec<usize>; 2]) -> Vec<usize> {
    let dense = strides(shape);
    (0..2).filter(|&argument| steps[argument] == dense).collect()
}
