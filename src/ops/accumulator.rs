//! Integer constants of the operators that sum products, and the proof that their sums fit.

use super::{Lowering, Operand};
use crate::arith::Multiplier;
use crate::codes::Codes;
use crate::error::{Result, bail};
use crate::quant::QuantParams;
use crate::tensor::Tensor;

/// Constants of `y[o] = requantize(bias[o] + Σ (x − x_zero_point) · weight[o])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    /// `[out_ch, …]`, symmetric, contiguous for each output channel.
    pub weight: Codes,
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
    node: &Lowering,
    arrange: impl Fn(&Tensor<i32>) -> Tensor<i32>,
) -> Result<Accumulator> {
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let Some(weight) = w.codes.map(arrange) else {
        bail!(Unsupported, "the weight must be a constant");
    };
    if ![8, 16].contains(&w.quant.bits) {
        bail!(Unsupported, "weights need 8 or 16 bits, got {}", w.quant.bits);
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
        Some(b) => match b.codes {
            Some(codes) => {
                check_bias_scale(x, w, b, out_ch)?;
                codes.data().to_vec()
            }
            None => bail!(Unsupported, "the bias must be a constant"),
        },
    };
    let weight = weight_codes(&w, &weight);
    let per_channel = (weight.len() / out_ch.max(1)).max(1);
    let mut bound = 0;
    for (o, &bias) in bias.iter().enumerate() {
        let weight = (o * per_channel..(o + 1) * per_channel).map(|i| weight.get(i) as i64);
        bound = bound.max(acc_bound(weight, bias, x.quant));
    }
    check_bound(bound, &multiplier)?;
    Ok(Accumulator {
        weight,
        bias,
        multiplier,
        x_zero_point: x.zero_point(),
        y_zero_point: node.output.zero_point(),
        clamp: node.clamp,
        bound,
    })
}

/// The codes of a weight, made symmetric: a zero point is subtracted, for which 8-bit codes become
/// wider.
pub fn weight_codes(w: &Operand, codes: &Tensor<i32>) -> Codes {
    let zero_point = w.quant.zero_point;
    let bits = if zero_point == 0 { w.quant.bits } else { 16 };
    Codes::new(bits, codes.data().iter().map(|code| code - zero_point))
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
        let acc: &$crate::ops::accumulator::Accumulator = $acc;
        $crate::codes::with_codes!(&acc.weight, weight => {
            let $products = $crate::arith::Products {
                weight,
                bias: &acc.bias,
                multiplier: &acc.multiplier,
                x_zero_point: acc.x_zero_point,
                y_zero_point: acc.y_zero_point,
                clamp: acc.clamp,
            };
            if $crate::ops::accumulator::is_wide(acc.bound) {
                type $A = i64;
                $body
            } else {
                type $A = i32;
                $body
            }
        })
    }};
}
pub(super) use with_products;

/// A bias is added to the products as it is, so its codes must count in units of theirs.
fn check_bias_scale(x: Operand, w: Operand, b: &Operand, out_ch: usize) -> Result<()> {
    if b.quant.zero_point != 0 || b.quant.bits != 32 {
        let (bits, zero) = (b.quant.bits, b.quant.zero_point);
        bail!(Unsupported, "the bias needs 32 bits and zero point 0, got {bits} bits and {zero}");
    }
    let scale = |quant: &QuantParams, o: usize| quant.scale[o % quant.scale.len()];
    for o in 0..out_ch {
        let (expected, got) = (x.scale() * scale(w.quant, o), scale(b.quant, o));
        if expected != got {
            bail!(
                Unsupported,
                "the bias of channel {o} has scale {got:e}, expected {expected:e}: input times weight"
            );
        }
    }
    Ok(())
}

/// No partial sum, in any order, exceeds this for any input codes:
///
/// * of `bias + Σ (x − z) · w`: `|bias| + max(z − lo, hi − z) · Σ|w|`, with codes in `lo..=hi`;
/// * of `(bias − z · Σw) + Σ x · w`, the same with the zero point moved into the bias:
///   `|bias − z · Σw| − lo · Σ|w|`.
pub fn acc_bound(weight: impl Iterator<Item = i64>, bias: i32, x: &QuantParams) -> i64 {
    let (z, (lo, hi)) = (x.zero_point as i64, x.code_range());
    let (mut magnitudes, mut sum) = (0, 0);
    weight.for_each(|w| (magnitudes, sum) = (magnitudes + w.abs(), sum + w));
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
                        &QuantParams::per_tensor(1.0, zero_point, 8),
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
        for (bits, lowest) in [(8, 128), (16, 32768)] {
            let x = QuantParams::per_tensor(1.0, 0, bits);
            assert_eq!(acc_bound([127, -127].into_iter(), 10, &x), 10 + lowest * 254);
        }
    }
}
