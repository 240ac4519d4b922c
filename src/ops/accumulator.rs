//! Integer constants of the operators that sum products, and the proof that their sums fit.

use super::source::CNode;
use super::{Lowering, Operand};
use crate::arith::{Code, Multiplier, Products};
use crate::codes::{CodeTensor, Codes, with_codes};
use crate::error::{Result, bail};
use crate::quant::QuantParams;

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
    node: &mut Lowering,
    arrange: impl Fn(CodeTensor) -> CodeTensor,
) -> Result<Accumulator> {
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let weight = arrange(node.take_codes(1, "weight")?);
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
        Some(&b) => {
            let codes = node.take_codes(2, "bias")?.widened().into_data();
            check_bias_scale(x, w, b, &codes, out_ch)?;
            codes
        }
    };
    let weight = weight_codes(&w, weight)?;
    let bound = with_codes!(&weight, weight => largest_bound(weight, &bias, x.quant));
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
    Ok(Codes::new(16, symmetric))
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
            let $products = acc.products(weight);
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

impl Accumulator {
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

    fn depth(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// The weights in the order of `kernels/product.c`, in blocks of `rows` output channels, for the
    /// channels of each group by itself.
    pub fn blocked(&self, groups: usize, rows: usize) -> Vec<i32> {
        let (depth, out_ch) = (self.depth(), self.bias.len() / groups);
        let padded = depth.next_multiple_of(4);
        let mut blocked = vec![0; groups * out_ch.next_multiple_of(rows) * padded];
        for (i, code) in self.weight.iter().enumerate() {
            let (group, o, k) = (i / depth / out_ch, i / depth % out_ch, i % depth);
            let first = group * out_ch.next_multiple_of(rows) * padded;
            let block = o / rows * padded / 4 + k / 4;
            blocked[first + block * 4 * rows + o % rows * 4 + k % 4] = code;
        }
        blocked
    }

    /// The member `product` of the constants in C. With `fold` the input's zero point is moved into the
    /// bias.
    pub fn emit_c(&self, c: &mut CNode, weight: Vec<i32>, fold: bool) {
        let (depth, z) = (self.depth(), self.x_zero_point as i64);
        let sums = (0..self.bias.len())
            .map(|o| (o * depth..(o + 1) * depth).map(|i| self.weight.get(i) as i64).sum::<i64>());
        let bias =
            self.bias.iter().zip(sums).map(|(&b, sum)| b as i64 - if fold { z * sum } else { 0 });
        c.array("product.weight", "weight_t", weight)
            .array("product.bias", "acc_t", bias)
            .value("product.depth", depth)
            .value("product.out_ch", self.bias.len())
            .value("product.requant.y_zero_point", self.y_zero_point)
            .value("product.requant.clamp", self.clamp);
        self.emit_requant(c);
        c.value("product.bound", self.bound);
    }

    /// How sums are rescaled: the first form of `kernels/product.c` whose conditions all channels meet.
    fn emit_requant(&self, c: &mut CNode) {
        let (form, shifts) = if let Some(shifts) = self.shifts().filter(|_| !c.wide) {
            ("REQUANT_SHIFT", shifts)
        } else if let Some((factors, shifts)) = self.high_words(c.bits).filter(|_| !c.wide) {
            c.array("product.requant.factor", "int32_t", factors);
            ("REQUANT_HIGH", shifts)
        } else {
            let multipliers = self.multiplier.iter().copied();
            c.array("product.requant.multiplier", "struct multiplier", multipliers);
            ("REQUANT_GENERAL", vec![0])
        };
        c.text("product.requant.form", form);
        match shifts.iter().all(|shift| *shift == shifts[0]) {
            true => c.value("product.requant.shift", shifts[0]),
            false => c.array("product.requant.shifts", "uint8_t", shifts),
        };
    }

    /// REQUANT_SHIFT: every factor is a power of two, and the half that is added fits.
    fn shifts(&self) -> Option<Vec<u32>> {
        let shift = |m: &Multiplier| {
            let shift = m.shift.checked_sub(23)?;
            let fits = (1..=30).contains(&shift) && self.bound + (1 << (shift - 1)) < 1 << 31;
            (m.significand == 1 << 23 && fits).then_some(shift)
        };
        self.multiplier.iter().map(shift).collect()
    }

    /// REQUANT_HIGH: factors and shifts, if no sum of any channel can be a tie.
    fn high_words(&self, bits: u32) -> Option<(Vec<i32>, Vec<u32>)> {
        let x = QuantParams::per_tensor(1.0, self.x_zero_point, bits);
        let depth = self.depth();
        let never_ties = |(o, m): (usize, &Multiplier)| {
            let weight = (o * depth..(o + 1) * depth).map(|i| self.weight.get(i) as i64);
            // A sum of 0 is no tie.
            let bound = acc_bound(weight, self.bias[o], &x).max(1);
            m.significand.trailing_zeros() + bound.ilog2() < m.shift - 1
        };
        if !self.multiplier.iter().enumerate().all(never_ties) {
            return None;
        }
        // 31 bits leave room for another 7; one shift for all channels, if they are as near as that.
        let largest = self.multiplier.iter().map(|m| m.shift).max()?.max(33);
        let shift = |m: &Multiplier| if largest - m.shift <= 7 { largest } else { m.shift.max(33) };
        let shifts: Vec<u32> = self.multiplier.iter().map(shift).collect();
        let allowed = 33..=if bits == 8 { 52 } else { 44 };
        let factor = |(m, shift): (&Multiplier, &u32)| {
            let more = shift - m.shift;
            (more <= 7 && allowed.contains(shift)).then_some(m.significand << more)
        };
        let factors = self.multiplier.iter().zip(&shifts).map(factor).collect::<Option<_>>()?;
        Some((factors, shifts))
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
    if b.quant.zero_point != 0 || b.quant.bits != 32 {
        let (bits, zero) = (b.quant.bits, b.quant.zero_point);
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
