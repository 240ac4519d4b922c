//! A function of one code as a table: what Clip, the functions of one number and each change of scale
//! become.

mod c;
pub mod int;
mod rust;
mod sv;

use super::{IntOperator, Lowering};
use crate::codes::{CodeType, Codes};
use crate::quant::QuantParams;

/// A function of one code, tabulated: an entry for each code, from the lowest on.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInt(pub Codes);

impl TableInt {
    /// The table of `f` from the codes of `node`'s argument to those of its result.
    pub fn new(node: &Lowering, f: impl Fn(f32) -> f32) -> Self {
        Self::of(node.inputs[0].quant, node.output.quant, node.clamp, f)
    }

    /// `quantize(f(dequantize(code)))` for each code, clamped to `lo..=hi`.
    pub fn of(
        x: &QuantParams,
        y: &QuantParams,
        (lo, hi): (i32, i32),
        f: impl Fn(f32) -> f32,
    ) -> Self {
        let (first, last) = x.code_range();
        let code = |code: i32| y.quantize(f(x.dequantize(code, 0)), 0).clamp(lo, hi);
        Self(Codes::new(y.width, (first..=last).map(code)))
    }

    /// The table of these results, one for each code, clamped to `lo..=hi`.
    pub fn of_all(y: &QuantParams, (lo, hi): (i32, i32), results: &[f32]) -> Self {
        let codes = results.iter().map(|&result| y.quantize(result, 0).clamp(lo, hi));
        Self(Codes::new(y.width, codes))
    }
}

impl IntOperator for TableInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::table(inputs[0], Y::slice(&self.0), y);
    }
}
