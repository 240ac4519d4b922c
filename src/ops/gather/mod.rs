//! Elements at any constant positions along one axis.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Gather.html>.

#[cfg(test)]
mod tests;

use super::onnx_node::{Input, OnnxNode};
use super::pick::{PickInt, Picks};
use super::slice::with_axis;
use super::{Lowering, Operator, OutputParams, Wants, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y[…, i, …] = x[…, positions[i], …]` along `axis`. A list of positions: other shapes are made by a reshape behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis, counted from the front.
    pub axis: usize,
    /// Where each element of the result comes from.
    pub positions: Vec<usize>,
}

impl Gather {
    fn picks(&self, shape: &[usize]) -> Picks {
        let mut axes: Vec<Vec<_>> =
            shape.iter().map(|&size| (0..size).map(Some).collect()).collect();
        axes[self.axis] = self.positions.iter().map(|&p| Some(p)).collect();
        Picks { axes, fill: 0.0 }
    }

    /// `indices` as ONNX counts them, negative ones from behind, of an axis of `size`.
    ///
    /// # Errors
    /// One that is outside, or none.
    pub fn positions(indices: &[i64], size: usize) -> Result<Vec<usize>> {
        if indices.is_empty() {
            bail!(Shape, "no indices of an axis of {size}");
        }
        indices.iter().map(|&i| OnnxNode::position(i, size)).collect()
    }
}

impl Operator for Gather {
    const ONNX: &'static [&'static str] = &["Gather"];
    const ORDER: Wants = Wants::Inherit;
    type Int = PickInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let shape = node.input_shape(0)?.to_vec();
        let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(0), shape.len())?;
        let Some(&size) = shape.get(axis) else { bail!(Shape, "axis {axis} of shape {shape:?}") };
        if let other @ ([] | [_, _, ..]) = node.input_shape(1)? {
            bail!(Unsupported, "indices of shape {other:?} here, only a list is known");
        }
        let Some(indices) = node.take_input_ints(1)? else { bail!(Invalid, "no indices") };
        Ok(Self { axis, positions: Self::positions(&indices, size)? })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        let mut node = with_axis(OnnxNode::new("Gather"), self.axis);
        let positions = self.positions.iter().map(|&p| p as i64).collect();
        node.inputs = vec![Some(Input::Ints(Tensor::from_vec(positions)))];
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let mut shape = expect_inputs(inputs, 1..=1)?.to_vec();
        let Some(size) = shape.get_mut(self.axis) else {
            bail!(Shape, "axis {} of shape {shape:?}", self.axis);
        };
        if let Some(outside) = self.positions.iter().find(|p| *p >= size) {
            bail!(Shape, "position {outside} of an axis of {size}");
        }
        *size = self.positions.len();
        Ok(shape)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        self.picks(inputs[0].shape()).eval_f32(inputs[0])
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::SameAsInput
    }

    fn lower(&self, node: &mut Lowering) -> Result<PickInt> {
        self.picks(node.inputs[0].shape).lower(node)
    }
}
