//! Position of the largest element along one axis.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__ArgMax.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Attribute, OnnxNode};
use super::{IntOperator, Lowering, Operator, OutputParams, accepted, expect_inputs};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::quant::Width;
use crate::tensor::{Shape, Tensor};

/// `y = i` with the largest `x_i` along `axis`, as a real number. ONNX has an integer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgMax {
    /// The axis, counted from the front.
    pub axis: usize,
    /// Whether the axis stays, with size 1.
    pub keepdims: bool,
    /// Whether the last of several maxima counts, not the first.
    pub last: bool,
}

impl ArgMax {
    /// Number of elements among which the largest is sought, and the distance between them.
    fn size_and_stride(&self, shape: &[usize]) -> (usize, usize) {
        (shape[self.axis], shape[self.axis + 1..].iter().product())
    }
}

impl Operator for ArgMax {
    const ONNX: &'static [&'static str] = &["ArgMax"];
    type Int = ArgMaxInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let rank = node.input_shape(0)?.len();
        let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(0), rank)?;
        let keepdims = node.take_flag_or("keepdims", true)?;
        Ok(Self { axis, keepdims, last: node.take_flag("select_last_index")? })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        let flag = |set: bool| Attribute::Int(set as i64);
        OnnxNode::new("ArgMax")
            .with("axis", Attribute::Int(self.axis as i64))
            .with("keepdims", flag(self.keepdims))
            .with("select_last_index", flag(self.last))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let mut shape = expect_inputs(inputs, 1..=1)?.to_vec();
        if self.axis >= shape.len() {
            bail!(Shape, "axis {} of shape {shape:?}", self.axis);
        }
        match self.keepdims {
            true => shape[self.axis] = 1,
            false => drop(shape.remove(self.axis)),
        }
        Ok(shape)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let (x, shape) = (inputs[0].data(), inputs[0].shape());
        let (size, stride) = self.size_and_stride(shape);
        let index = |n: usize| {
            let at = |i: usize| x[n / stride * stride * size + n % stride + i * stride];
            let better = |i: usize, best: usize| at(i) > at(best) || self.last && at(i) == at(best);
            (1..size).fold(0, |best, i| if better(i, best) { i } else { best }) as f32
        };
        let y = (0..x.len() / size).map(index).collect();
        Tensor::of(accepted(self.infer_shape(&[shape])), y)
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::Index
    }

    fn lower(&self, node: &mut Lowering) -> Result<ArgMaxInt> {
        let (size, stride) = self.size_and_stride(node.inputs[0].shape);
        let y = node.output;
        if y.scale() != 1.0 {
            bail!(Unsupported, "the scale of an index is {:e}, only 1 is known", y.scale());
        }
        let largest = y.zero_point() as i64 + size as i64 - 1;
        if largest > y.quant.code_range().1 as i64 {
            match (y.quant.width, size) {
                (Width::W8, ..=65536) => {
                    bail!(Range, "ArgMax over {size} classes needs 16-bit activations")
                }
                (bits, _) => bail!(Range, "ArgMax over {size} classes: codes have {bits} bits"),
            }
        }
        let (y_zero_point, clamp) = (y.zero_point(), node.clamp);
        Ok(ArgMaxInt(int::Params { size, stride, last: self.last, y_zero_point, clamp }))
    }
}

/// See [`int::Params`].
#[derive(Clone, Debug, PartialEq)]
pub struct ArgMaxInt(pub int::Params);

record!(int::Params, "argmax::Params", size, stride, last, y_zero_point, clamp);

impl IntOperator for ArgMaxInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::argmax(inputs[0], &self.0, y);
    }
}
