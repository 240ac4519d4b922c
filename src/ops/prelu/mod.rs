//! ReLU with a slope of its own for each channel below 0.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__PRelu.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::broadcast::elementwise;
use super::language::{ToValue, record};
use super::onnx_node::OnnxNode;
use super::product::weight_codes;
use super::{Channels, IntOperator, Lowering, Operator, Role, Wants, expect_inputs, multiplier};
use crate::arith::Multiplier;
use crate::codes::{CodeType, Codes, with_codes};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, broadcast};

/// `y = x` if `x ≥ 0`, else `slope · x`; `slope` is a constant that is broadcast to `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PRelu;

impl Operator for PRelu {
    const ONNX: &'static [&'static str] = &["PRelu"];
    const ORDER: Wants = Wants::Inherit;
    type Int = PReluInt;

    fn import(_: &mut OnnxNode) -> Result<Self> {
        Ok(Self)
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("PRelu")
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 2..=2)?;
        match broadcast(x, inputs[1])? {
            shape if shape == x => Ok(shape),
            _ => bail!(Shape, "slopes of shape {:?} do not broadcast to {x:?}", inputs[1]),
        }
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        elementwise(inputs[0], inputs[1], |x, slope| if x < 0.0 { x * slope } else { x })
    }

    fn role(&self, index: usize) -> Role {
        [Role::Activation, Role::Weight { axis: 0 }][index]
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        Channels::same(&inputs[..1], output)
    }

    fn lower(&self, node: &mut Lowering) -> Result<PReluInt> {
        let (x, slope, y) = (node.inputs[0], node.inputs[1], node.output);
        let slopes = weight_codes(&slope, node.take_codes(1, "slope")?)?;
        let per_scale = (slopes.len() / slope.quant.scale.len()).max(1);
        let negative = (0..slopes.len())
            .map(|c| multiplier((x.scale() * slope.quant.scale[c / per_scale]) / y.scale()));
        Ok(PReluInt {
            bound: x.widest() << 15,
            negative: negative.collect::<Result<_>>()?,
            slope: slopes,
            positive: multiplier(x.scale() / y.scale())?,
            x_zero_point: x.zero_point(),
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
            shape: y.stored_shape(),
            strides: slope.broadcast_strides(&y),
        })
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct PReluInt {
    pub slope: Codes,
    pub negative: Vec<Multiplier>,
    pub positive: Multiplier,
    pub x_zero_point: i32,
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub shape: Shape,
    pub strides: Vec<usize>,
    pub bound: i64,
}

impl PReluInt {
    fn params<'a, W>(&'a self, slope: &'a [W]) -> int::Params<'a, W> {
        int::Params {
            slope,
            negative: &self.negative,
            positive: self.positive,
            x_zero_point: self.x_zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
            shape: &self.shape,
            strides: &self.strides,
        }
    }
}

record!(
    [W: ToValue] int::Params<'_, W>, "prelu::Params",
    slope, negative, positive, x_zero_point, y_zero_point, clamp, shape, strides
);

impl IntOperator for PReluInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        with_codes!(&self.slope, slope => int::prelu(inputs[0], &self.params(slope), y));
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
