//! Batch normalization with fixed statistics. A pass folds it into the node before, or turns it into
//! a depthwise 1×1 convolution; it has no integer form of its own.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__BatchNormalization.html>.

#[cfg(test)]
mod tests;

use std::convert::Infallible;

use super::onnx_node::{Attribute, OnnxNode};
use super::{Lowering, Operator, Wants, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y = (x − mean) / √(variance + epsilon) · scale + bias` for each channel; arguments
/// `x [n, c, ..]` and `scale`, `bias`, `mean`, `variance`, each `[c]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Keeps the square root away from 0.
    pub epsilon: f32,
}

impl BatchNorm {
    /// `(factor, offset)` for each channel, so that `y = x · factor + offset`.
    pub fn affine(&self, [scale, bias, mean, variance]: [&[f32]; 4]) -> Vec<(f64, f64)> {
        let channels = scale.iter().zip(bias).zip(mean.iter().zip(variance));
        channels
            .map(|((&scale, &bias), (&mean, &variance))| {
                let factor = scale as f64 / (variance as f64 + self.epsilon as f64).sqrt();
                (factor, bias as f64 - mean as f64 * factor)
            })
            .collect()
    }
}

impl Operator for BatchNorm {
    const ONNX: &'static [&'static str] = &["BatchNormalization"];
    const ORDER: Wants = Wants::Inherit;
    type Int = Infallible;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        if node.take_flag("training_mode")? {
            bail!(Unsupported, "attribute \"training_mode\" is 1: export the model for inference");
        }
        if node.opset < 9 && !node.take_flag_or("spatial", true)? {
            bail!(Unsupported, "attribute \"spatial\" is 0, only 1 is known");
        }
        node.take_float("momentum")?; // of training only
        Ok(Self { epsilon: node.take_float("epsilon")?.unwrap_or(1e-5) })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("BatchNormalization").with("epsilon", Attribute::Float(self.epsilon))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 5..=5)?;
        let Some(&channels) = x.get(1) else {
            bail!(Shape, "expected an input of [n, c, ..], got {x:?}");
        };
        if let Some(bad) = inputs[1..].iter().find(|s| ***s != [channels]) {
            bail!(Shape, "expected parameters of shape [{channels}], got {bad:?}");
        }
        Ok(x.to_vec())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let mut y = inputs[0].clone();
        let channels = self.affine([1, 2, 3, 4].map(|i| inputs[i].data()));
        let plane: usize = y.shape()[2..].iter().product();
        for (plane, (factor, offset)) in
            y.data_mut().chunks_exact_mut(plane.max(1)).zip(channels.into_iter().cycle())
        {
            plane.iter_mut().for_each(|x| *x = (*x as f64 * factor + offset) as f32);
        }
        y
    }

    fn lower(&self, _: &mut Lowering) -> Result<Infallible> {
        bail!(Unsupported, "batch normalization has no integer form: quantize the folded model")
    }
}
