//! Permutation of axes. Reshapes and changes of layout become one of these too: where nothing moves
//! it is a plain copy.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Transpose.html>.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::onnx_node::OnnxNode;
use super::{Channels, IntOperator, Lowering, Operator, OutputParams, Wants, expect_inputs};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, permuted, strides};

/// Axis `i` of the result is axis `perm[i]` of the argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// A permutation of the axes.
    pub perm: Vec<usize>,
}

impl Operator for Transpose {
    const ONNX: &'static [&'static str] = &["Transpose"];
    const ORDER: Wants = Wants::Transpose;
    type Int = TransposeInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let rank = node.input_shape(0)?.len();
        let perm = match node.take_ints("perm")? {
            None => (0..rank).rev().collect(),
            Some(perm) => perm.iter().map(|&p| usize::try_from(p).unwrap_or(usize::MAX)).collect(),
        };
        Ok(Self { perm })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("Transpose").with_ints("perm", &self.perm)
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.len()) {
            bail!(Shape, "{:?} is no permutation of the {} axes", self.perm, x.len());
        }
        Ok(permuted(x, &self.perm))
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        inputs[0].transpose(&self.perm)
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::SameAsInput
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        match self.perm.get(1) {
            Some(1) => Channels::same(inputs, output),
            _ => Channels::Fixed,
        }
    }

    fn lower(&self, node: &mut Lowering) -> Result<TransposeInt> {
        let steps = permuted(&node.inputs[0].strides(), &self.perm);
        Ok(TransposeInt::new(node.output.stored(&steps), node.output.stored_shape()))
    }
}

/// Moves codes.
#[derive(Clone, Debug, PartialEq)]
pub struct TransposeInt {
    /// Shape of the result in memory.
    pub shape: Shape,
    /// Strides of the argument along these axes.
    pub strides: Vec<usize>,
}

impl TransposeInt {
    /// Axes of size 1 are dropped, so that a permutation that moves nothing is seen as a copy.
    pub fn new(steps: Vec<usize>, shape: Shape) -> Self {
        let axes: Vec<(usize, usize)> =
            shape.iter().copied().zip(steps).filter(|&(size, _)| size != 1).collect();
        let (shape, steps): (Shape, Vec<usize>) = axes.into_iter().unzip();
        match steps == strides(&shape) {
            true => Self { shape: vec![shape.iter().product()], strides: vec![1] },
            false => Self { shape, strides: steps },
        }
    }
}

impl TransposeInt {
    /// Whether codes stay where they are.
    pub fn is_copy(&self) -> bool {
        self.strides == strides(&self.shape)
    }
}

impl IntOperator for TransposeInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::transpose(inputs[0], &self.shape, &self.strides, X::of(y));
    }

    fn moves_codes(&self) -> bool {
        true
    }
}
