//! Addition and subtraction with broadcasting.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Add.html>,
//! <https://onnx.ai/onnx/operators/onnx__Sub.html>.

pub mod int;
#[cfg(test)]
mod tests;

use super::broadcast::{elementwise, emit_strided, strided};
use super::onnx_node::OnnxNode;
use super::source::{CNode, Kernel, RustNode, kernel, struct_in_rust};
use super::{IntOperator, Lowering, Operator, Wants, expect_inputs};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::quant::Width;
use crate::tensor::{Shape, Tensor, broadcast, strides};

/// `y = a + b`, or `y = a − b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add {
    /// The second argument is subtracted.
    pub subtract: bool,
}

impl Add {
    fn sign(self) -> f32 {
        if self.subtract { -1.0 } else { 1.0 }
    }
}

impl Operator for Add {
    const ONNX: &'static [&'static str] = &["Add", "Sub"];
    const ORDER: Wants = Wants::Inherit;
    type Int = AddInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        Ok(Self { subtract: node.op_type == "Sub" })
    }

    fn export(&self, _: &[&[usize]]) -> OnnxNode {
        OnnxNode::new(if self.subtract { "Sub" } else { "Add" })
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        broadcast(expect_inputs(inputs, 2..=2)?, inputs[1])
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let sign = self.sign();
        elementwise(inputs[0], inputs[1], |a, b| a + sign * b)
    }

    fn lower(&self, node: &mut Lowering) -> Result<AddInt> {
        let operands = [node.inputs[0], node.inputs[1]];
        let y = node.output;
        let multipliers = operands.map(|x| Multiplier::from_f32(x.scale() / y.scale()));
        let [Some(ma), Some(mb)] = multipliers else {
            let [a, b] = operands.map(|x| x.scale());
            bail!(Range, "input scales {a:e}, {b:e} are too far from output scale {:e}", y.scale());
        };
        let shift = ma.shift.max(mb.shift);
        let factors = [ma, mb].map(|m| (m.significand as i128) << (shift - m.shift));
        let widest = operands.map(|x| x.widest() as i128);
        let bound = factors[0] * widest[0] + factors[1] * widest[1];
        if bound >= 1 << 62 {
            bail!(
                Range,
                "the sum can reach {bound}, beyond 62 bits: input scales are too far apart"
            );
        }
        let (shape, strides) = strided(node);
        Ok(AddInt {
            factor: [factors[0] as i64, factors[1] as i64 * self.sign() as i64],
            shift,
            zero_point: operands.map(|x| x.zero_point()),
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
            shape,
            strides,
            bound: bound as i64,
        })
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct AddInt {
    pub factor: [i64; 2],
    pub shift: u32,
    pub zero_point: [i32; 2],
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub shape: Shape,
    pub strides: [Vec<usize>; 2],
    pub bound: i64,
}

impl AddInt {
    fn params(&self) -> int::Params<'_> {
        int::Params {
            factor: self.factor,
            shift: self.shift,
            zero_point: self.zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
            shape: &self.shape,
            strides: [&self.strides[0], &self.strides[1]],
        }
    }

    /// The formula of `add.c` with everything that does not depend on codes in one constant: factors,
    /// shift and constant, and what they reach; `None` where it does not apply.
    fn folded(&self, width: Width) -> Option<([i64; 2], u32, i64, i64)> {
        let spare = (self.factor[0] | self.factor[1]).trailing_zeros().min(self.shift - 1);
        let factor = self.factor.map(|f| f >> spare);
        let shift = self.shift - spare;
        let magnitudes = factor[0].checked_abs()?.checked_add(factor[1].checked_abs()?)?;
        let zeros = factor.iter().zip(self.zero_point).map(|(&f, z)| f as i128 * z as i128);
        let above = (self.y_zero_point - self.clamp.0) as i128;
        let offset = (above << shift) + (1 << (shift - 1)) - zeros.sum::<i128>();
        let reach = offset.abs() + ((magnitudes as i128) << (width.bits() - 1));
        let fits = factor.iter().all(|f| i32::try_from(*f).is_ok());
        (fits && reach < 1 << 62 && reach >> shift < 1 << 30).then_some((
            factor,
            shift,
            offset as i64,
            reach as i64,
        ))
    }

    /// Whether a pair of codes may be a tie: 8-bit codes are tried.
    fn ties(factor: [i64; 2], shift: u32, offset: i64, width: Width) -> bool {
        let tie =
            |a: i64, b: i64| (offset + a * factor[0] + b * factor[1]) & ((1 << shift) - 1) == 0;
        width > Width::W8 || (-128..128).any(|a| (-128..128).any(|b| tie(a, b)))
    }
}

struct_in_rust!(
    int::Params<'_>,
    "add::Params",
    factor,
    shift,
    zero_point,
    y_zero_point,
    clamp,
    shape,
    strides
);

impl IntOperator for AddInt {
    const KERNELS: &'static [Kernel] = &[kernel!("add")];

    fn eval<X: CodeType>(&self, inputs: &[&[X]], y: &mut [X]) {
        int::add(inputs[0], inputs[1], &self.params(), y);
    }

    fn writes_over(&self, argument: usize) -> bool {
        self.strides[argument] == strides(&self.shape)
    }

    fn sums_are_64_bits(&self) -> bool {
        true
    }

    fn emit_c(&self, c: &mut CNode) {
        let folded = self.folded(c.width);
        let (factor, shift, offset, bound) =
            folded.unwrap_or((self.factor, self.shift, 0, self.bound));
        c.value("factor", factor)
            .value("shift", shift)
            .value("zero_point", self.zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp);
        emit_strided(c, &self.shape, &self.strides);
        let narrow = folded.is_some() && bound < 1 << 31 && shift <= 30;
        let ties = folded.is_none() || Self::ties(factor, shift, offset, c.width);
        c.value("folded", folded.is_some())
            .value("offset", offset)
            .value("narrow", narrow)
            .value("ties", ties)
            .value("bound", bound)
            .read_by_shared_code(if folded.is_some() { 96 } else { 0 })
            .call("add", None);
    }

    fn emit_rust(&self, r: &mut RustNode) {
        let params = r.constant("", "add::Params", &self.params());
        r.call("add::add", format!("&{params}"), None);
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
