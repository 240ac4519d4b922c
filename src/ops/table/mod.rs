//! A function of one code as a table: what Clip, the functions of one number and each change of scale
//! become.

pub mod int;

use super::source::{CNode, Kernel, RustNode, kernel};
use super::{IntOperator, Lowering};
use crate::codes::{CodeType, Codes, with_codes};
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
}

impl IntOperator for TableInt {
    const KERNELS: &'static [Kernel] = &[kernel!("clip")];

    fn eval<X: CodeType>(&self, inputs: &[&[X]], y: &mut [X]) {
        int::table(inputs[0], X::slice(&self.0), y);
    }

    fn writes_over(&self, _: usize) -> bool {
        true
    }

    fn emit_c(&self, c: &mut CNode) {
        let size = c.size;
        c.array("table", "code_t", self.0.iter()).value("size", size).call("table", None);
    }

    fn emit_rust(&self, r: &mut RustNode) {
        let of = format!("&[{}]", r.code);
        let table = with_codes!(&self.0, codes => r.constant("", &of, &codes.as_slice()));
        r.call("clip::table", table, None);
    }
}
