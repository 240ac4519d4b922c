//! The same numbers in other codes: what stands between values of two widths, and what a file means by
//! DequantizeLinear and QuantizeLinear with other parameters behind it.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Identity.html>, between the two.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use self::int::Params;
use super::language::record;
use super::onnx_node::OnnxNode;
use super::table::TableInt;
use super::{IntOperator, Lowering, Operator, Wants, expect_inputs};
use crate::codes::{CodeType, Codes};
use crate::error::Result;
use crate::quant::{QuantParams, Width};
use crate::tensor::{Shape, Tensor};

/// `y = x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recode;

impl Operator for Recode {
    const ONNX: &'static [&'static str] = &["Identity"];
    const ORDER: Wants = Wants::Inherit;
    type Int = RecodeInt;

    fn import(_: &mut OnnxNode) -> Result<Self> {
        Ok(Self)
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        OnnxNode::new("Identity")
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        expect_inputs(inputs, 1..=1).map(<[_]>::to_vec)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        inputs[0].clone()
    }

    fn lower(&self, node: &mut Lowering) -> Result<RecodeInt> {
        Ok(RecodeInt::new(node.inputs[0].quant, node.output.quant, node.clamp))
    }
}

/// Codes of one value as those of another: a table from 8 bits, a multiplication or a division from 16.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum RecodeInt {
    Table(TableInt),
    Scaled(Params),
}

impl RecodeInt {
    /// `clamp(round_half_even((q − x_zero_point) · x_scale / y_scale) + y_zero_point)` for each code `q`, with
    /// the exact quotient of both scales.
    pub fn new(x: &QuantParams, y: &QuantParams, clamp: (i32, i32)) -> Self {
        match x.width {
            Width::W4 | Width::W8 => Self::Table(table(x, y, clamp)),
            Width::W16 | Width::W32 => Self::Scaled(scaled(x, y, clamp)),
        }
    }
}

/// The same as a table; codes of 4 bits lie in memory as those of 8.
pub fn table(x: &QuantParams, y: &QuantParams, clamp: (i32, i32)) -> TableInt {
    let (ratio, width) = (Ratio::new(x, y), x.width.max(Width::W8));
    let (first, last) = (width.lowest(), width.highest());
    TableInt(Codes::new(y.width, (first..=last).map(|q| ratio.code(q, x, y, clamp))))
}

/// `x_scale / y_scale = numerator / denominator · 2^exponent`, of the significands of the two scales.
#[derive(Clone, Copy)]
struct Ratio {
    numerator: i64,
    denominator: i64,
    exponent: i32,
}

/// Differences of codes have 17 bits, and beyond so many more every code is clamped, or the code of 0.
const FAR: i32 = 60;

impl Ratio {
    fn new(x: &QuantParams, y: &QuantParams) -> Self {
        let ((numerator, of_x), (denominator, of_y)) = (parts(x.scale[0]), parts(y.scale[0]));
        Self { numerator, denominator, exponent: (of_x - of_y).clamp(-FAR, FAR) }
    }

    /// The codes of `x` that may lie halfway between two codes of the result. A factor of 44 bits decides all others:
    /// with `a / b · 2^−k` in lowest terms, none that is not clamped is nearer to a tie than `2^−k / b`, and the
    /// product errs by less, as a difference of codes has 17 bits and `a` and `b` have 24; a shorter factor makes nothing
    /// but zeros. It decides these, too, if `b` is 1.
    fn ties(self, x: &QuantParams) -> impl Iterator<Item = i32> {
        let denominator = self.denominator / divisor(self.numerator, self.denominator);
        let half = match self.exponent {
            ..=-1 if denominator > 1 => denominator << (-self.exponent - 1).min(20),
            _ => 1 << 20,
        };
        let (zero, (first, last)) = (x.zero_point as i64, x.code_range());
        let many = (1 << 17) / half;
        let codes = (-many..=many).map(move |i| zero + (2 * i + 1) * half);
        codes.filter(move |&q| (first as i64..=last as i64).contains(&q)).map(|q| q as i32)
    }

    /// The code for code `q`.
    fn code(self, q: i32, x: &QuantParams, y: &QuantParams, (lo, hi): (i32, i32)) -> i32 {
        let numerator = (q - x.zero_point) as i128 * self.numerator as i128;
        let (up, down) = (self.exponent.max(0), (-self.exponent).max(0));
        let (numerator, denominator) = (numerator << up, (self.denominator as i128) << down);
        let (floor, rest) = (numerator.div_euclid(denominator), numerator.rem_euclid(denominator));
        let up = 2 * rest > denominator || (2 * rest == denominator && floor % 2 != 0);
        (floor + up as i128 + y.zero_point as i128).clamp(lo as i128, hi as i128) as i32
    }
}

/// The greatest common one.
fn divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// `x = significand · 2^exponent` with an odd significand, for a finite `x > 0`.
fn parts(x: f32) -> (i64, i32) {
    let bits = (x as f64).to_bits();
    let significand = (bits & ((1 << 52) - 1) | 1 << 52) as i64;
    let zeros = significand.trailing_zeros();
    (significand >> zeros, (bits >> 52) as i32 - 1075 + zeros as i32)
}

/// Constants with which each code of `x` gets the code of the exact quotient.
fn scaled(x: &QuantParams, y: &QuantParams, clamp: (i32, i32)) -> Params {
    let ratio = Ratio::new(x, y);
    let params = |numerator, denominator, shift| Params {
        numerator,
        denominator,
        shift,
        x_zero_point: x.zero_point,
        y_zero_point: y.zero_point,
        clamp,
    };
    // The longest factor that leaves the product below 2^62; one that is too large clamps all the same.
    const LARGEST: i128 = 1 << 44;
    let factor = |shift: u32| {
        let (up, down) =
            ((ratio.exponent + shift as i32).max(0), (-ratio.exponent - shift as i32).max(0));
        let denominator = (ratio.denominator as i128) << down;
        let numerator = ((ratio.numerator as i128) << up.min(100)) + denominator / 2;
        numerator / denominator
    };
    let shift = (1..=62).rev().find(|&shift| factor(shift) < LARGEST).unwrap_or(1);
    let product = params(factor(shift).min(LARGEST) as i64, 1, shift);
    let is_exact = |q: i32| {
        let mut got = [0_i16];
        int::recode(&[q as i16], &product, &mut got);
        ratio.code(q, x, y, clamp) == i32::from(got[0])
    };
    if ratio.ties(x).all(is_exact) {
        return product;
    }
    // Some code lies halfway between two others, and the quotient is no multiple of a power of two.
    match ratio.exponent {
        0.. => params(ratio.numerator << (ratio.exponent + 1), ratio.denominator, 1),
        exponent => params(ratio.numerator, ratio.denominator, (-exponent) as u32),
    }
}

record!(Params, "recode::Params", numerator, denominator, shift, x_zero_point, y_zero_point, clamp);

impl IntOperator for RecodeInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        match self {
            Self::Table(table) => table.eval(inputs, y),
            Self::Scaled(params) => int::recode(inputs[0], params, y),
        }
    }

    fn sums_are_64_bits(&self) -> bool {
        true
    }
}
