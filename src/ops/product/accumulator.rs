//! Integer constants of the operators that sum products, and the proof that their sums fit.

use crate::arith::{Code, Multiplier, Products};
use crate::codes::{CodeTensor, Codes, with_codes};
use crate::error::{Result, bail};
use crate::ops::{Lowering, Operand};
use crate::quant::{QuantParams, Width};

/// Constants of `y[o] = requantize(bias[o] + Σ (x − x_zero_point) · weight[o])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    /// `[out_ch, …]`, symmetric, contiguous for each output channel.
    pub weight: Codes,
    /// Bits of a weight's code. Two of 4 bits share a byte where flash is scarce.
    pub width: Width,
    /// `[out_ch]`, in units of `x_scale · weight_scale[o]`.
    pub bias: Vec<i32>,
    /// `[out_ch]`, `x_scale · weight_scale[o] / y_scale`, evaluated in `f32` in this order.
    pub multiplier: Vec<Multiplier>,
    /// Code of real 0 in the input.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Range of the result's codes.
    pub clamp: (i32, i32),
    /// Largest magnitude of any partial sum; see [`acc_bound`].
    pub bound: i64,
}

/// Lowers arguments `x`, `weight` and, optionally, `bias`. `arrange` brings the weight codes into
/// the order `[out_ch, …]` that the kernel reads.
///
/// # Errors
/// [`Error::Range`](crate::Error::Range) if an accumulator could exceed 32 bits or a factor is out of range.
pub fn accumulators(
    node: &mut Lowering,
    arrange: impl Fn(CodeTensor) -> CodeTensor,
) -> Result<Accumulator> {
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let weight = arrange(node.take_codes(1, "weight")?);
    if w.quant.width == Width::W32 {
        bail!(Unsupported, "weights need 4, 8 or 16 bits, got {}", w.quant.width);
    }
    let out_ch = weight.shape()[0];
    let factors = (0..out_ch)
        .map(|o| (x.scale() * w.quant.scale[o % w.quant.scale.len()]) / node.output.scale());
    let multiplier = factors
        .enumerate()
        .map(|(o, factor)| match Multiplier::from_f32(factor) {
            Some(m) => Ok(m),
            None => {
                bail!(Range, "rescaling factor {factor:e} of channel {o} is not in 2^-39..2^23")
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let bias = match node.inputs.get(2) {
        None => vec![0; out_ch],
        Some(&b) => {
            let codes = node.take_codes(2, "bias")?.widened().into_data();
            check_bias_scale(x, w, b, &codes, out_ch)?;
            codes
        }
    };
    let weight = weight_codes(&w, weight)?;
    // Without its zero point a code may need more bits than the file says.
    let width = match weight.width() {
        Width::W8 => w.quant.width.min(Width::W8),
        wider => wider,
    };
    let bound = with_codes!(&weight, weight => largest_bound(weight, &bias, x.quant));
    check_bound(bound, &multiplier)?;
    Ok(Accumulator {
        weight,
        width,
        bias,
        multiplier,
        x_zero_point: x.zero_point(),
        y_zero_point: node.output.zero_point(),
        clamp: node.clamp,
        bound,
    })
}

/// The codes of a weight, made symmetric: a zero point is subtracted, for which 8-bit codes become
/// wider. Those of 16 bits may not.
pub fn weight_codes(w: &Operand, codes: CodeTensor) -> Result<Codes> {
    let zero_point = w.quant.zero_point;
    let codes = match codes {
        CodeTensor::I8(codes) if zero_point == 0 => return Ok(Codes::I8(codes.into_data())),
        CodeTensor::I16(codes) if zero_point == 0 => return Ok(Codes::I16(codes.into_data())),
        codes => codes.widened().into_data(),
    };
    let symmetric = codes.into_iter().map(|code| code - zero_point);
    if let Some(far) = symmetric.clone().find(|&code| i16::try_from(code).is_err()) {
        bail!(Unsupported, "a weight is {far} steps from its zero point, beyond 16 bits");
    }
    Ok(Codes::new(Width::W16, symmetric))
}

/// Whether an accumulator needs 64 bits.
pub fn is_wide(bound: i64) -> bool {
    bound > i32::MAX as i64
}

/// Whether an accumulator up to `bound` can be rescaled by all of `multipliers`.
pub fn check_bound(bound: i64, multipliers: &[Multiplier]) -> Result<()> {
    if bound >= 1 << 53 {
        bail!(Range, "the accumulator can reach {bound}, beyond 53 bits");
    }
    match multipliers.iter().find(|m| is_wide(bound) && m.shift < 17) {
        Some(m) => bail!(
            Range,
            "the accumulator can reach {bound}, and its factor {} * 2^-{} is beyond 2^7",
            m.significand,
            m.shift
        ),
        None => Ok(()),
    }
}

/// The bound of a sum of `count` codes of `x`, which is divided by `count`.
pub fn sum_bound(x: &Operand, count: usize) -> Result<i64> {
    match x.widest().checked_mul(count as i64).filter(|&bound| bound < 1 << 36) {
        Some(bound) => Ok(bound),
        None => bail!(Range, "the sum of {count} codes can exceed 36 bits"),
    }
}

/// Does `$body` with `$products` bound to what the kernel borrows from the [`Accumulator`] `$acc`, and
/// `$A` to the type of its sums.
macro_rules! with_products {
    ($acc:expr, $products:ident, $A:ident => $body:expr) => {{
        let acc: &$crate::ops::product::Accumulator = $acc;
        $crate::codes::with_codes!(&acc.weight, weight => {
            let $products = acc.products(weight);
            if $crate::ops::product::is_wide(acc.bound) {
                type $A = i64;
                $body
            } else {
                type $A = i32;
                $body
            }
        })
    }};
}
pub(in crate::ops) use with_products;

/// Does `$body` with `$products` bound to what is written into Rust code for the [`Accumulator`] `$acc`, and
/// `$weight` to the type of its weights.
macro_rules! with_written {
    ($acc:expr, $products:ident, $weight:ident => $body:expr) => {{
        let acc: &$crate::ops::product::Accumulator = $acc;
        if acc.width == $crate::quant::Width::W4 {
            let packed = $crate::ops::product::pairs(acc.weight.iter());
            let ($products, $weight) = (acc.products(&packed), "u8");
            $body
        } else {
            let $weight = acc.weight.type_name();
            $crate::codes::with_codes!(&acc.weight, weight => {
                let $products = acc.products(weight);
                $body
            })
        }
    }};
}
pub(in crate::ops) use with_written;

/// Two codes of 4 bits in each byte, the first in its low half, each plus 8; the last may stand alone.
pub fn pairs(codes: impl IntoIterator<Item = i32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, code) in codes.into_iter().enumerate() {
        let half = (code + 8) as u8;
        match (i % 2, bytes.last_mut()) {
            (1, Some(byte)) => *byte |= half << 4,
            _ => bytes.push(half),
        }
    }
    bytes
}

impl Accumulator {
    /// Products of each sum.
    pub(super) fn depth(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// What a kernel borrows, with `weight` in its type.
    pub fn products<'a, W>(&'a self, weight: &'a [W]) -> Products<'a, W> {
        Products {
            weight,
            bias: &self.bias,
            multiplier: &self.multiplier,
            x_zero_point: self.x_zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
        }
    }

    /// Type of the sums in Rust.
    pub fn type_name(&self) -> &'static str {
        if is_wide(self.bound) { "i64" } else { "i32" }
    }
}

/// A bias is added to the products as it is, so its codes must count in units of theirs. Others compute
/// that unit in another way: it may be off by a few roundings, if no code then stands for another real
/// number by more than half a unit.
fn check_bias_scale(
    x: Operand,
    w: Operand,
    b: Operand,
    codes: &[i32],
    out_ch: usize,
) -> Result<()> {
    if b.quant.zero_point != 0 || b.quant.width != Width::W32 {
        let (bits, zero) = (b.quant.width, b.quant.zero_point);
        bail!(Unsupported, "the bias needs 32 bits and zero point 0, got {bits} bits and {zero}");
    }
    let scale = |quant: &QuantParams, o: usize| quant.scale[o % quant.scale.len()];
    for o in 0..out_ch {
        let (expected, got) = (x.scale() * scale(w.quant, o), scale(b.quant, o));
        let code = codes[o % codes.len()];
        let excess = got as f64 / expected as f64 - 1.0;
        if excess.abs() > 1e-6 || (code as f64 * excess).abs() > 0.5 {
            bail!(
                Unsupported,
                "the bias of channel {o} has scale {got:e}, expected {expected:e}: input times weight"
            );
        }
    }
    Ok(())
}

/// The largest [`acc_bound`] of any channel.
fn largest_bound<W: Code>(weight: &[W], bias: &[i32], x: &QuantParams) -> i64 {
    let depth = (weight.len() / bias.len().max(1)).max(1);
    let of_channel = |(weight, &bias): (&[W], &i32)| {
        let (mut magnitudes, mut sum) = (0, 0);
        // Sums of so many codes fit 32 bits, of which the machine adds several at a time.
        for part in weight.chunks(1 << 15) {
            let (mut positive, mut all) = (0, 0);
            for &w in part {
                let w: i32 = w.into();
                positive += w.max(0);
                all += w;
            }
            magnitudes += 2 * positive as i64 - all as i64;
            sum += all as i64;
        }
        bound_of_sums(magnitudes, sum, bias, x)
    };
    weight.chunks_exact(depth).zip(bias).map(of_channel).max().unwrap_or(0)
}

/// No partial sum, in any order, exceeds this for any input codes:
///
/// * of `bias + Σ (x − z) · w`: `|bias| + max(z − lo, hi − z) · Σ|w|`, with codes in `lo..=hi`;
/// * of `(bias − z · Σw) + Σ x · w`, the same with the zero point moved into the bias:
///   `|bias − z · Σw| − lo · Σ|w|`.
pub fn acc_bound(weight: impl Iterator<Item = i64>, bias: i32, x: &QuantParams) -> i64 {
    let (mut magnitudes, mut sum) = (0, 0);
    weight.for_each(|w| (magnitudes, sum) = (magnitudes + w.abs(), sum + w));
    bound_of_sums(magnitudes, sum, bias, x)
}

/// [`acc_bound`] with `Σ|w|` and `Σw`.
fn bound_of_sums(magnitudes: i64, sum: i64, bias: i32, x: &QuantParams) -> i64 {
    let (z, (lo, hi)) = (x.zero_point as i64, x.code_range());
    let direct = (bias as i64).abs() + (z - lo as i64).max(hi as i64 - z) * magnitudes;
    let folded = (bias as i64 - z * sum).abs() - lo as i64 * magnitudes;
    direct.max(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of summation, every pair of extreme codes.
    #[test]
    fn no_partial_sum_exceeds_the_bound() {
        for zero_point in [-128, -5, 0, 127] {
            for weight in [[127i8, -128, 3], [-1, -1, -1], [100, 100, 100]] {
                for bias in [0, 1000, -77777] {
                    let bound = acc_bound(
                        weight.iter().map(|&w| w.into()),
                        bias,
                        &QuantParams::per_tensor(1.0, zero_point, Width::W8),
                    );
                    for codes in 0..8 {
                        let x = [0, 1, 2].map(|i| if codes >> i & 1 == 1 { 127_i64 } else { -128 });
                        let z = zero_point as i64;
                        let (mut direct, mut folded) = (bias as i64, bias as i64);
                        folded -= z * weight.iter().map(|&w| w as i64).sum::<i64>();
                        for (x, w) in x.iter().zip(weight) {
                            direct += (x - z) * w as i64;
                            folded += x * w as i64;
                            assert!(direct.abs() <= bound && folded.abs() <= bound);
                        }
                        assert_eq!(direct, folded);
                    }
                }
            }
        }
        for (width, lowest) in [(Width::W8, 128), (Width::W16, 32768)] {
            let x = QuantParams::per_tensor(1.0, 0, width);
            assert_eq!(acc_bound([127, -127].into_iter(), 10, &x), 10 + lowest * 254);
        }
    }
}
