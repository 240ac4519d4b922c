//! Another shape for the same elements in the same order.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Reshape.html>,
//! <https://onnx.ai/onnx/operators/onnx__Flatten.html>.

#[cfg(test)]
mod tests;

use super::onnx_node::{Input, OnnxNode};
use super::transpose::TransposeInt;
use super::{Channels, Lowering, Operator, OutputParams, accepted, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, checked_len, strides};

/// The argument under the shape `shape`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// Shape of the result.
    pub shape: Shape,
}

impl Operator for Reshape {
    const ONNX: &'static [&'static str] = &["Reshape", "Flatten"];
    type Int = TransposeInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let x = node.input_shape(0)?.to_vec();
        if node.op_type == "Flatten" {
            let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(1), x.len())?;
            let shape = vec![x[..axis].iter().product(), x[axis..].iter().product()];
            return Ok(Self { shape });
        }
        let zero_is_zero = node.take_flag("allowzero")?;
        let Some(target) = node.take_input_ints(1)? else {
            bail!(Invalid, "the shape is missing");
        };
        let mut shape = Vec::new();
        for (axis, &size) in target.iter().enumerate() {
            shape.push(match (size, x.get(axis)) {
                (-1, _) => 1,
                (0, Some(&size)) if !zero_is_zero => size,
                (1.., _) => usize::try_from(size).unwrap_or(usize::MAX),
                _ => bail!(Invalid, "shape {target:?} for an input of shape {x:?}"),
            });
        }
        if let Some(inferred) = target.iter().position(|&size| size == -1) {
            let known = checked_len(&shape)?.max(1);
            shape[inferred] = checked_len(&x)? / known;
        }
        if target.iter().filter(|&&size| size == -1).count() > 1 {
            bail!(Invalid, "shape {target:?} has more than one -1");
        }
        Ok(Self { shape })
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let mut shape: Vec<i64> = self.shape.iter().map(|&d| d as i64).collect();
        if inputs[0].first() == self.shape.first() && !shape.is_empty() {
            // Copied from the input, so that it may be a batch of any size.
            shape[0] = 0;
        }
        let mut node = OnnxNode::new("Reshape");
        node.inputs = vec![Some(Input::Ints(Tensor::from_vec(shape)))];
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        if checked_len(x)? != checked_len(&self.shape)? {
            bail!(Shape, "an input of shape {x:?} does not fit the shape {:?}", self.shape);
        }
        Ok(self.shape.clone())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        accepted(inputs[0].clone().reshape(self.shape.clone()))
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::SameAsInput
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        Channels::reshaped(inputs[0], output)
    }

    fn lower(&self, _: &mut Lowering) -> Result<TransposeInt> {
        Ok(TransposeInt::new(strides(&self.shape), self.shape.clone()))
    }
}
