//! Rows of a constant table at indices that are computed or given.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Gather.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::language::{ToValue, record};
use super::onnx_node::OnnxNode;
use super::recode::RecodeInt;
use super::{IntOp, IntOperator, Lowering, Operator, OutputParams, Role, expect_inputs};
use crate::codes::{CodeType, Codes};
use crate::error::{Result, bail};
use crate::quant::{QuantParams, Width};
use crate::tensor::{Shape, Tensor};

/// `y[n, …] = table[x[n], …]`; arguments are `x`, any indices, and the table, whose first axis they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding;

impl Operator for Embedding {
    // A Gather is one if its data are constant, and its indices are not.
    const ONNX: &'static [&'static str] = &[];
    type Int = EmbeddingInt;

    fn import(_: &mut OnnxNode) -> Result<Self> {
        Ok(Self)
    }

    /// The table comes first there, and the index is an integer.
    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("Gather")
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 2..=2)?;
        match inputs[1] {
            [1..=65536, row @ ..] if !row.contains(&0) => Ok([x, row].concat()),
            table => {
                bail!(Unsupported, "a table of shape {table:?}: only 1 to 65536 rows are known")
            }
        }
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let (x, table) = (inputs[0], inputs[1]);
        let rows = table.shape()[0];
        let row = table.data().len() / rows;
        let at = |&x: &f32| (x.max(0.0).round() as usize).min(rows - 1) * row;
        let y = x.data().iter().flat_map(|x| table.data()[at(x)..][..row].to_vec()).collect();
        Tensor::of([x.shape(), &table.shape()[1..]].concat(), y)
    }

    fn role(&self, index: usize) -> Role {
        if index == 1 { Role::Table } else { Role::Activation }
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::Table
    }

    fn lower(&self, node: &mut Lowering) -> Result<EmbeddingInt> {
        let (x, y) = (node.inputs[0], node.output);
        if x.scale() != 1.0 {
            bail!(Unsupported, "the scale of an index is {:e}, only 1 is known", x.scale());
        }
        let table = node.take_codes(1, "table")?;
        let from = node.inputs[1].quant;
        if from.scale.len() != 1 {
            bail!(Unsupported, "the table has {} scales, only one is known", from.scale.len());
        }
        let from = QuantParams { width: from.width.max(Width::W8), ..from.clone() };
        let mut codes = Codes::new(from.width, table.widened().into_data());
        if from != *y.quant || node.clamp != y.quant.code_range() {
            let recode = IntOp::Recode(RecodeInt::new(&from, y.quant, node.clamp));
            let zeros = Codes::zeros(y.quant.width, codes.len());
            let from = std::mem::replace(&mut codes, zeros);
            recode.eval(&[&from], &mut codes);
        }
        let row = node.inputs[1].shape[1..].iter().product();
        Ok(EmbeddingInt { table: codes, row, x_zero_point: x.zero_point() })
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct EmbeddingInt {
    pub table: Codes,
    pub row: usize,
    pub x_zero_point: i32,
}

impl EmbeddingInt {
    fn params<'a, Y>(&self, table: &'a [Y]) -> int::Params<'a, Y> {
        int::Params { table, row: self.row, x_zero_point: self.x_zero_point }
    }
}

record!(
    [Y: ToValue] int::Params<'_, Y>, "embedding::Params",
    table, row, x_zero_point
);

impl IntOperator for EmbeddingInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::embedding(inputs[0], &self.params(Y::slice(&self.table)), y);
    }
}
