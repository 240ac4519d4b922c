//! Multiplication with broadcasting, and division by a constant.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Mul.html>,
//! <https://onnx.ai/onnx/operators/onnx__Div.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::broadcast::{elementwise, strided};
use super::language::record;
use super::onnx_node::{Input, OnnxNode};
use super::{IntOperator, Lowering, Operator, Wants, expect_inputs, multiplier};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, broadcast};

/// `y = a · b`. A division by a constant is a multiplication by its reciprocal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mul;

impl Operator for Mul {
    const ONNX: &'static [&'static str] = &["Mul", "Div"];
    const ORDER: Wants = Wants::Inherit;
    type Int = MulInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        if node.op_type == "Div" {
            let Some(Some(Input::Real(divisor))) = node.inputs.get(1) else {
                bail!(Unsupported, "division by anything but a constant");
            };
            let reciprocal = divisor.map(|&d| (1.0 / d as f64) as f32);
            node.replaced.insert(1, reciprocal);
        }
        Ok(Self)
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("Mul")
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        broadcast(expect_inputs(inputs, 2..=2)?, inputs[1])
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        elementwise(inputs[0], inputs[1], |a, b| a * b)
    }

    fn lower(&self, node: &mut Lowering) -> Result<MulInt> {
        let [a, b, y] = [node.inputs[0], node.inputs[1], node.output];
        let multiplier = multiplier((a.scale() * b.scale()) / y.scale())?;
        let (shape, strides) = strided(node);
        Ok(MulInt {
            multiplier,
            zero_point: [a.zero_point(), b.zero_point()],
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
            shape,
            strides,
            bound: a.widest() * b.widest(),
        })
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MulInt {
    pub multiplier: Multiplier,
    pub zero_point: [i32; 2],
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub shape: Shape,
    pub strides: [Vec<usize>; 2],
    pub bound: i64,
}

impl MulInt {
    fn params(&self) -> int::Params<'_> {
        int::Params {
            multiplier: self.multiplier,
            zero_point: self.zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
            shape: &self.shape,
            strides: [&self.strides[0], &self.strides[1]],
        }
    }
}

record!(
    int::Params<'_>,
    "mul::Params",
    multiplier,
    zero_point,
    y_zero_point,
    clamp,
    shape,
    strides
);

impl IntOperator for MulInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::mul(inputs[0], inputs[1], &self.params(), y);
    }

    fn computes_first(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
