//! Softmax along one axis.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Softmax.html>.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Attribute, OnnxNode};
use super::{IntOperator, Lowering, Operator, OutputParams, expect_inputs};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y_i = exp(x_i) / Σ_j exp(x_j)` along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis, counted from the front.
    pub axis: usize,
}

impl Softmax {
    /// Number of elements that one softmax runs over, and the distance between them.
    fn size_and_stride(&self, shape: &[usize]) -> (usize, usize) {
        (shape[self.axis], shape[self.axis + 1..].iter().product())
    }
}

impl Operator for Softmax {
    const ONNX: &'static [&'static str] = &["Softmax"];
    type Int = SoftmaxInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let shape = node.input_shape(0)?.to_vec();
        let before_13 = node.opset < 13;
        let axis = node.take_int("axis")?.unwrap_or(if before_13 { 1 } else { -1 });
        let axis = OnnxNode::axis(axis, shape.len())?;
        if axis == shape.len() {
            bail!(Shape, "axis {axis} of a tensor of rank {}", shape.len());
        }
        // Until opset 12 the softmax ran over all axes from `axis` on.
        if before_13 && shape[axis + 1..].iter().any(|&d| d != 1) {
            bail!(
                Unsupported,
                "softmax over axes {axis}.. of shape {shape:?}, only one axis is known"
            );
        }
        Ok(Self { axis })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("Softmax").with("axis", Attribute::Int(self.axis as i64))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        if self.axis >= x.len() {
            bail!(Shape, "axis {} of shape {x:?}", self.axis);
        }
        Ok(x.to_vec())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let mut y = inputs[0].clone();
        let (size, stride) = self.size_and_stride(inputs[0].shape());
        for block in y.data_mut().chunks_exact_mut(size * stride) {
            for offset in 0..stride {
                let lane = || (0..size).map(|i| offset + i * stride);
                let max = lane().fold(f32::NEG_INFINITY, |max, i| max.max(block[i]));
                lane().for_each(|i| block[i] = libm::expf(block[i] - max));
                let sum: f32 = lane().map(|i| block[i]).sum();
                lane().for_each(|i| block[i] /= sum);
            }
        }
        y
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::Unit
    }

    fn lower(&self, node: &mut Lowering) -> Result<SoftmaxInt> {
        let (size, stride) = self.size_and_stride(node.inputs[0].shape);
        let (x_scale, y_scale) = (node.inputs[0].scale() as f64, node.output.scale());
        let Some(multiplier) = Multiplier::from_f32(1.0 / y_scale).filter(|m| m.shift <= 40) else {
            bail!(Range, "output scale {y_scale:e} is out of range");
        };
        if size >= 1 << 24 {
            bail!(Range, "the sum of {size} exponentials can exceed 47 bits");
        }
        // `libm` gives the same digits on every host; the system's `exp` need not.
        let exp = |len: usize, step: f64, one: i64| -> Vec<i32> {
            let entry = |i| libm::exp(-(i as f64) * step * x_scale) * one as f64;
            (0..len).map(|i| entry(i).round_ties_even() as i32).collect()
        };
        Ok(SoftmaxInt {
            fine: exp(256, 1.0, EXP_ONE),
            coarse: exp(1 << (node.inputs[0].quant.width.bits() - 8), 256.0, 1 << 30),
            multiplier,
            y_zero_point: node.output.zero_point(),
            clamp: node.clamp,
            size,
            stride,
        })
    }
}

/// What stands for `exp(0)` in the table.
const EXP_ONE: i64 = 1 << 23;

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct SoftmaxInt {
    pub fine: Vec<i32>,
    pub coarse: Vec<i32>,
    pub multiplier: Multiplier,
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub size: usize,
    pub stride: usize,
}

impl SoftmaxInt {
    fn params(&self) -> int::Params<'_> {
        int::Params {
            fine: &self.fine,
            coarse: &self.coarse,
            multiplier: self.multiplier,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
            size: self.size,
            stride: self.stride,
        }
    }
}

record!(
    int::Params<'_>,
    "softmax::Params",
    fine,
    coarse,
    multiplier,
    y_zero_point,
    clamp,
    size,
    stride
);

impl IntOperator for SoftmaxInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::softmax(inputs[0], &self.params(), y);
    }

    fn sums_are_64_bits(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.size as i64 * EXP_ONE)
    }
}
