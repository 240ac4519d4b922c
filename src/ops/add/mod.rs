//! Addition and subtraction with broadcasting.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Add.html>,
//! <https://onnx.ai/onnx/operators/onnx__Sub.html>.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::broadcast::{elementwise, strided};
use super::language::record;
use super::onnx_node::OnnxNode;
use super::{Channels, IntOperator, Lowering, Operator, Wants, expect_inputs};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, broadcast};

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

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new(if self.subtract { "Sub" } else { "Add" })
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        broadcast(expect_inputs(inputs, 2..=2)?, inputs[1])
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let sign = self.sign();
        elementwise(inputs[0], inputs[1], |a, b| a + sign * b)
    }

    fn takes_masks(&self) -> bool {
        !self.subtract
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        Channels::same(inputs, output)
    }

    fn lower(&self, node: &mut Lowering) -> Result<AddInt> {
        let operands = [node.inputs[0], node.inputs[1]];
        let y = node.output;
        let ratios = operands.map(|x| x.scale() / y.scale());
        let widest = operands.map(|x| x.widest());
        let Some(Sum { factors, shift, bound }) = Sum::of(ratios, widest) else {
            let [a, b] = operands.map(|x| x.scale());
            bail!(Range, "input scales {a:e}, {b:e} are too far from output scale {:e}", y.scale());
        };
        let (shape, strides) = strided(node);
        Ok(AddInt {
            factor: [factors[0], factors[1] * self.sign() as i64],
            shift,
            zero_point: operands.map(|x| x.zero_point()),
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
            shape,
            strides,
            bound,
        })
    }
}

/// `Σ x_i · factors_i · 2^-shift`, rounded once, for `|x_i| ≤ widest_i`: no more than `bound` before the shift.
#[derive(Debug, PartialEq)]
struct Sum {
    factors: [i64; 2],
    shift: u32,
    bound: i64,
}

impl Sum {
    /// That of these factors, exact; `None` if it does not fit 62 bits.
    fn of(ratios: [f32; 2], widest: [i64; 2]) -> Option<Self> {
        match ratios.map(Multiplier::from_f32) {
            [Some(a), Some(b)] => {
                let shift = a.shift.max(b.shift);
                let factor = |m: Multiplier| (m.significand as i128) << (shift - m.shift);
                let exact = Self::bounded([factor(a), factor(b)], shift, widest);
                exact
                    .or_else(|| Self::of_unequal(a, ratios[1], widest, 0))
                    .or_else(|| Self::of_unequal(b, ratios[0], widest, 1))
            }
            [Some(a), None] => Self::of_unequal(a, ratios[1], widest, 0),
            [None, Some(b)] => Self::of_unequal(b, ratios[0], widest, 1),
            [None, None] => None,
        }
    }

    /// All that the argument beside `large` adds is less than the last bit of the factor `large`: only its
    /// sign counts, where `large` times its argument is a tie. A bit below that bit has the same sign.
    fn of_unequal(large: Multiplier, small: f32, widest: [i64; 2], at: usize) -> Option<Self> {
        let most = small as f64 * widest[1 - at] as f64;
        if small < 0.0 || most >= 2f64.powi(-(large.shift as i32)) {
            return None;
        }
        let more = 64 - (widest[1 - at] as u64).leading_zeros();
        let mut factors = [1; 2];
        factors[at] = (large.significand as i128) << more;
        Self::bounded(factors, large.shift + more, widest).filter(|sum| sum.shift <= 62)
    }

    fn bounded(factors: [i128; 2], shift: u32, widest: [i64; 2]) -> Option<Self> {
        let bound = factors[0] * widest[0] as i128 + factors[1] * widest[1] as i128;
        let factors = factors.map(|factor| factor as i64);
        (bound < 1 << 62).then_some(Self { factors, shift, bound: bound as i64 })
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
}

record!(
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
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::add(inputs[0], inputs[1], &self.params(), y);
    }

    fn computes_first(&self) -> bool {
        true
    }

    fn sums_are_64_bits(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
