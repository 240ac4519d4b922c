//! Matrix product over any leading axes, of two activations or of one and a constant. With a constant matrix behind
//! the activation it is a [`linear`](super::linear) layer.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__MatMul.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Input, OnnxNode};
use super::product::{check_bound, is_wide};
use super::{IntOperator, Lowering, Operator, expect_inputs, multiplier};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::kernels::float::{Matrix, add_matmul};
use crate::tensor::{Shape, Tensor, broadcast, broadcast_strides, strided_indices, strides};

/// `y = a · b`; `a [.., m, k]`, `b [.., k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul;

/// Leading axes of the result, strides of both arguments along them, and `[m, k, n]`.
type Batch = (Shape, [Vec<usize>; 2], [usize; 3]);

/// Refuses arguments that do not fit.
fn batch(a: &[usize], b: &[usize]) -> Result<Batch> {
    let (&[ref lead_a @ .., m, k], &[ref lead_b @ .., rows, n]) = (a, b) else {
        bail!(Unsupported, "a product of shapes {a:?} and {b:?}: rank 2 at least");
    };
    if rows != k {
        bail!(Shape, "a product of shapes {a:?} and {b:?}: {k} columns, {rows} rows");
    }
    let lead = broadcast(lead_a, lead_b)?;
    let steps = [(a, lead_a), (b, lead_b)]
        .map(|(shape, own)| broadcast_strides(own, &strides(shape)[..own.len()], &lead));
    Ok((lead, steps, [m, k, n]))
}

impl Operator for MatMul {
    const ONNX: &'static [&'static str] = &["MatMul"];
    type Int = MatMulInt;

    /// Any but an activation times a constant matrix.
    fn accepts(node: &OnnxNode) -> bool {
        let is_activation = |input: &Input| matches!(input, Input::Activation(_));
        match &node.inputs[..] {
            [Some(a), Some(b)] if is_activation(a) => is_activation(b) || b.shape().len() > 2,
            [Some(a), Some(b)] => a.shape().len() > 1 && b.shape().len() > 1,
            _ => false,
        }
    }

    fn import(_: &mut OnnxNode) -> Result<Self> {
        Ok(Self)
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("MatMul")
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let (mut shape, _, [m, _, n]) = batch(expect_inputs(inputs, 2..=2)?, inputs[1])?;
        shape.extend([m, n]);
        Ok(shape)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let (a, b) = (inputs[0], inputs[1]);
        let Ok((lead, [sa, sb], [m, k, n])) = batch(a.shape(), b.shape()) else {
            unreachable!("shapes are checked before evaluation");
        };
        let mut y = vec![0.0; lead.iter().product::<usize>() * m * n];
        let starts = strided_indices(lead.clone(), sa).zip(strided_indices(lead.clone(), sb));
        for ((ia, ib), y) in starts.zip(y.chunks_exact_mut(m * n)) {
            let a = Matrix { data: &a.data()[ia..], strides: (k, 1) };
            let b = Matrix { data: &b.data()[ib..], strides: (n, 1) };
            add_matmul([m, k, n], a, b, y);
        }
        let shape: Shape = lead.into_iter().chain([m, n]).collect();
        Tensor::of(shape, y)
    }

    fn macs(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let k = inputs[0].last().copied().unwrap_or(0);
        output.iter().product::<usize>() as u64 * k as u64
    }

    fn lower(&self, node: &mut Lowering) -> Result<MatMulInt> {
        let [a, b, y] = [node.inputs[0], node.inputs[1], node.output];
        let (batch, strides, [m, k, n]) = batch(a.shape, b.shape)?;
        let multiplier = multiplier((a.scale() * b.scale()) / y.scale())?;
        let bound = a.widest().saturating_mul(b.widest()).saturating_mul(k as i64);
        check_bound(bound, &[multiplier])?;
        Ok(MatMulInt {
            bound,
            batch,
            strides,
            sizes: [m, k, n],
            multiplier,
            zero_point: [a.zero_point(), b.zero_point()],
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
        })
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MatMulInt {
    pub batch: Shape,
    pub strides: [Vec<usize>; 2],
    /// `[m, k, n]`
    pub sizes: [usize; 3],
    pub multiplier: Multiplier,
    pub zero_point: [i32; 2],
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub bound: i64,
}

impl MatMulInt {
    fn params(&self) -> int::Params<'_> {
        let [m, k, n] = self.sizes;
        int::Params {
            batch: &self.batch,
            strides: [&self.strides[0], &self.strides[1]],
            m,
            k,
            n,
            multiplier: self.multiplier,
            zero_point: self.zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
        }
    }
}

record!(
    int::Params<'_>,
    "matmul::Params",
    batch,
    strides,
    m,
    k,
    n,
    multiplier,
    zero_point,
    y_zero_point,
    clamp
);

impl IntOperator for MatMulInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        match is_wide(self.bound) {
            false => int::matmul::<X, Y, i32>(inputs[0], inputs[1], &self.params(), y),
            true => int::matmul::<X, Y, i64>(inputs[0], inputs[1], &self.params(), y),
        }
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
