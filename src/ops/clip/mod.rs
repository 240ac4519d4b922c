//! Limits: ReLU, ReLU6, Clip. Usually fused into the node before.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Clip.html>,
//! <https://onnx.ai/onnx/operators/onnx__Relu.html>.

#[cfg(test)]
mod tests;

use super::onnx_node::OnnxNode;
use super::recode::RecodeInt;
use super::{Channels, Lowering, Operator, Wants, expect_inputs};
use crate::error::{Result, bail};
use crate::ops::onnx_node::Input;
use crate::quant::QuantParams;
use crate::tensor::{Shape, Tensor};

/// `y = min(max(x, lo), hi)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Lower limit, `-inf` for none.
    pub lo: f32,
    /// Upper limit, `inf` for none.
    pub hi: f32,
}

impl Clip {
    /// No limits.
    pub const NONE: Self = Self { lo: f32::NEG_INFINITY, hi: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { lo: 0.0, hi: f32::INFINITY };

    /// `min(max(x, lo), hi)`; a NaN stays one.
    pub fn apply(self, x: f32) -> f32 {
        if x > self.hi {
            self.hi
        } else if x < self.lo {
            self.lo
        } else {
            x
        }
    }
}

/// The codes to which `clamp` limits a result.
pub(crate) fn code_limits(clamp: Clip, quant: &QuantParams) -> (i32, i32) {
    let limit = |real: f32, none: i32| match real.is_finite() {
        true => quant.quantize(real, 0),
        false => none,
    };
    let (lowest, highest) = quant.code_range();
    (limit(clamp.lo, lowest), limit(clamp.hi, highest))
}

impl Operator for Clip {
    const ONNX: &'static [&'static str] = &["Relu", "Clip"];
    const ORDER: Wants = Wants::Inherit;
    type Int = RecodeInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        if node.op_type == "Relu" {
            return Ok(Self::RELU);
        }
        let (lo, hi) = if node.opset < 11 {
            (node.take_float("min")?, node.take_float("max")?)
        } else {
            (node.take_input_number(1)?, node.take_input_number(2)?)
        };
        let (lo, hi) = (lo.unwrap_or(f32::NEG_INFINITY), hi.unwrap_or(f32::INFINITY));
        if lo.is_nan() || hi.is_nan() || lo > hi || lo == f32::INFINITY || hi == f32::NEG_INFINITY {
            bail!(Unsupported, "limits {lo} and {hi}");
        }
        Ok(Self { lo, hi })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        if *self == Self::RELU {
            return OnnxNode::new("Relu");
        }
        let limit = |x: f32| x.is_finite().then(|| Input::Real(Tensor::of([], vec![x])));
        let mut node = OnnxNode::new("Clip");
        node.inputs = vec![limit(self.lo), limit(self.hi)];
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        expect_inputs(inputs, 1..=1).map(<[_]>::to_vec)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        inputs[0].map(|&x| self.apply(x))
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        match *self == Self::RELU || *self == Self::NONE {
            true => Channels::same(inputs, output),
            false => Channels::Fixed,
        }
    }

    fn lower(&self, node: &mut Lowering) -> Result<RecodeInt> {
        let (x, y) = (node.inputs[0].quant, node.output.quant);
        // Rounding is monotonic: limits may be codes.
        let ((lo, hi), (lowest, highest)) = (code_limits(*self, y), node.clamp);
        Ok(RecodeInt::new(x, y, (lo.clamp(lowest, highest), hi.clamp(lowest, highest))))
    }
}
