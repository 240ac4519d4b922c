//! Tensors one behind the other along an axis.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Concat.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::language::{ToValue, record};
use super::onnx_node::OnnxNode;
use super::recode;
use super::slice::with_axis;
use super::table::TableInt;
use super::{Channels, IntOperator, Lowering, Operator, OutputParams, Wants, accepted};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, strides};

/// Along `axis`; any number of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// Counted from the front.
    pub axis: usize,
}

impl Operator for Concat {
    const ONNX: &'static [&'static str] = &["Concat"];
    const ORDER: Wants = Wants::Inherit;
    type Int = ConcatInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let rank = node.input_shape(0)?.len();
        let Some(axis) = node.take_int("axis")? else {
            bail!(Invalid, "attribute \"axis\" is missing");
        };
        Ok(Self { axis: OnnxNode::axis(axis, rank)? })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        with_axis(OnnxNode::new("Concat"), self.axis)
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let [first, rest @ ..] = inputs else { bail!(Shape, "expected at least 1 input") };
        if self.axis >= first.len() {
            bail!(Shape, "axis {} of shape {first:?}", self.axis);
        }
        let mut shape = first.to_vec();
        for other in rest {
            let same = |axis: usize| axis == self.axis || other[axis] == first[axis];
            if other.len() != first.len() || !(0..first.len()).all(same) {
                bail!(Shape, "shapes {first:?} and {other:?} differ beside axis {}", self.axis);
            }
            shape[self.axis] += other[self.axis];
        }
        Ok(shape)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
        let shape = accepted(self.infer_shape(&shapes));
        let rows: usize = shape[..self.axis].iter().product();
        let mut y = Vec::with_capacity(shape.iter().product());
        for row in 0..rows {
            for x in inputs {
                let len = x.data().len() / rows;
                y.extend_from_slice(&x.data()[row * len..][..len]);
            }
        }
        Tensor::of(shape, y)
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::Shared
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        if self.axis != 1 {
            return Channels::same(inputs, output);
        }
        let of = inputs.iter().enumerate().flat_map(|(i, x)| (0..x[1]).map(move |c| vec![(i, c)]));
        Channels::Made { of: of.collect(), gain: 1.0 }
    }

    fn lower(&self, node: &mut Lowering) -> Result<ConcatInt> {
        let y = node.output;
        let y_strides = strides(&y.stored_shape());
        let mut begin = 0;
        let mut parts = Vec::new();
        for x in &node.inputs {
            let same = x.quant == y.quant && node.clamp == y.quant.code_range();
            let table = (!same).then(|| recode::table(x.quant, y.quant, node.clamp));
            parts.push(Part {
                shape: y.stored(x.shape),
                x_strides: y.stored(&x.strides()),
                y_strides: y_strides.clone(),
                offset: begin * y.strides()[self.axis],
                table,
            });
            begin += x.shape[self.axis];
        }
        Ok(ConcatInt(parts))
    }
}

/// One entry for each argument.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcatInt(pub Vec<Part>);

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Part {
    pub shape: Shape,
    pub x_strides: Vec<usize>,
    pub y_strides: Vec<usize>,
    pub offset: usize,
    pub table: Option<TableInt>,
}

impl Part {
    fn params<Y: CodeType>(&self) -> int::Params<'_, Y> {
        int::Params {
            shape: &self.shape,
            x_strides: &self.x_strides,
            y_strides: &self.y_strides,
            offset: self.offset,
            table: self.table.as_ref().map(|t| Y::slice(&t.0)),
        }
    }
}

record!(
    [Y: ToValue] int::Params<'_, Y>, "concat::Params",
    shape, x_strides, y_strides, offset, table
);

impl IntOperator for ConcatInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        for (x, part) in inputs.iter().zip(&self.0) {
            int::concat(x, &part.params(), y);
        }
    }

    fn moves_codes(&self) -> bool {
        self.0.iter().all(|part| part.table.is_none())
    }
}
