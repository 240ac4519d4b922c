//! Integer constants of the operators that sum products, and the proof that their sums fit.

use super::{Lowering, Operand};
use crate::arith::Multiplier;
use crate::error::{Result, bail};
use crate::quant::QuantParams;
use crate::tensor::Tensor;

/// Constants of `y[o] = requantize(bias[o] + Σ (x − x_zero_point) · weight[o])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    /// `[out_ch, …]`, symmetric, contiguous for each output channel.
    pub weight: Vec<i8>,
    /// `[out_ch]`, in units of `x_scale · weight_scale[o]`.
    pub bias: Vec<i32>,
    /// `[out_ch]`, `x_scale · weight_scale[o] / y_scale`, evaluated in `f32` in this order.
    pub multiplier: Vec<Multiplier>,
    /// Code of real 0 in the input.
    pub x_zero_point: i8,
    /// Code of real 0 in the output.
    pub y_zero_point: i8,
    /// Range of the result's codes.
    pub clamp: (i8, i8),
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
    if w.quant.zero_point != 0 || w.quant.bits != 8 {
        let (bits, zero) = (w.quant.bits, w.quant.zero_point);
        bail!(Unsupported, "weights need 8 bits and zero point 0, got {bits} bits and {zero}");
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
    let weight: Vec<i8> = weight.data().iter().map(|&code| code as i8).collect();
    let per_channel = (weight.len() / out_ch.max(1)).max(1);
    let mut bound = 0;
    for (o, w) in weight.chunks_exact(per_channel).enumerate() {
        let channel = acc_bound(w, bias[o], x.zero_point());
        if channel > i32::MAX as i64 {
            bail!(Range, "the accumulator of channel {o} can reach {channel}, beyond 32 bits");
        }
        bound = bound.max(channel);
    }
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
/// * of `bias + Σ (x − z) · w`: `|bias| + max(128 + z, 127 − z) · Σ|w|`;
/// * of `(bias − z · Σw) + Σ x · w`, the same with the zero point moved into the bias:
///   `|bias − z · Σw| + 128 · Σ|w|`.
pub fn acc_bound(weight: &[i8], bias: i32, zero_point: i8) -> i64 {
    let z = zero_point as i64;
    let magnitudes: i64 = weight.iter().map(|&w| (w as i64).abs()).sum();
    let sum: i64 = weight.iter().map(|&w| w as i64).sum();
    let direct = (bias as i64).abs() + (128 + z).max(127 - z) * magnitudes;
    let folded = (bias as i64 - z * sum).abs() + 128 * magnitudes;
    direct.max(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of summation, every pair of extreme codes.
    #[test]
    fn no_partial_sum_exceeds_the_bound() {
        for zero_point in [-128, -5, 0, 127] {
            for weight in [[127, -128, 3], [-1, -1, -1], [100, 100, 100]] {
                for bias in [0, 1000, -77777] {
                    let bound = acc_bound(&weight, bias, zero_point);
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
        assert_eq!(acc_bound(&[127, -127], 10, 0), 10 + 128 * 254);
    }
}
