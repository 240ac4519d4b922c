//! The integer arithmetic that every implementation must reproduce bit for bit.
//!
//! This file is normative, with `docs/semantics.md`: whatever computes a quantized network is correct
//! when, and only when, it agrees with it. It uses `core` alone, as do the integer kernels (`int.rs` of
//! each operator), so that both can be deployed as they are, without `std`.

use core::ops::{AddAssign, Mul};

/// A positive `f32` factor, taken exactly: `significand * 2^-shift`.
///
/// `significand` is in `[2^23, 2^24)` and `shift` in `[1, 62]`. A power of two has
/// `significand == 2^23`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    /// The 24-bit significand of the factor, as an integer.
    pub significand: i32,
    /// Total right shift.
    pub shift: u32,
}

impl Multiplier {
    /// The exact value of `factor`, or `None` unless `2^-39 <= factor < 2^23`.
    pub const fn from_f32(factor: f32) -> Option<Self> {
        let bits = factor.to_bits();
        let exponent = (bits >> 23) as i32 - 127;
        // A sign bit makes `exponent` at least 129, so negative factors fall out here too.
        if exponent < -39 || exponent > 22 {
            return None;
        }
        let significand = (bits & 0x7F_FFFF | 0x80_0000) as i32;
        Some(Self { significand, shift: (23 - exponent) as u32 })
    }
}

/// `round_half_even(value * 2^-shift)`, for `1 <= shift <= 63` and `|value| < 2^62`.
///
/// The rounding term is at most `2^62`, so the 64-bit sum cannot overflow.
pub const fn round_shift(value: i64, shift: u32) -> i64 {
    let odd = (value >> shift) & 1;
    (value + (1 << (shift - 1)) - 1 + odd) >> shift
}

/// `round_half_even(numerator / denominator * 2^-shift)`, for `denominator > 0`, `1 <= shift <= 62`
/// and `|numerator / denominator| < 2^60`.
///
/// The last bit of the doubled quotient says whether the division left a remainder. A tie has none,
/// so the division and the shift together round once.
pub const fn round_ratio(numerator: i64, denominator: i64, shift: u32) -> i64 {
    let sticky = (numerator % denominator != 0) as i64;
    round_shift(2 * numerator.div_euclid(denominator) + sticky, shift + 1)
}

/// `round_half_even(acc * m)`: the exact product, rounded once. `|acc * significand| < 2^62`.
pub const fn rescale(acc: i64, m: Multiplier) -> i64 {
    round_shift(acc * m.significand as i64, m.shift)
}

/// As [`rescale`], for `|acc| < 2^53` and `m.shift >= 17`: 16 bits of the product, all of them below
/// the rounding, are kept as the one bit that says whether any of them is set.
pub const fn rescale_wide(acc: i64, m: Multiplier) -> i64 {
    let low = (acc & 0xFFFF) * m.significand as i64;
    let high = (acc >> 16) * m.significand as i64 + (low >> 16);
    round_shift(2 * high + (low & 0xFFFF != 0) as i64, m.shift - 15)
}

/// A code of an activation or a weight: `i8` or `i16`.
pub trait Code: Copy + Ord + Into<i32> {
    /// The lowest code.
    const MIN: Self;

    /// `q + zero_point`, limited to `lo..=hi`, which are codes.
    fn code(q: i64, zero_point: i32, limits: (i32, i32)) -> Self;

    /// How many codes are lower.
    fn position(self) -> usize {
        let (code, lowest): (i32, i32) = (self.into(), Self::MIN.into());
        (code - lowest) as usize
    }
}

/// An accumulator: `i32` or `i64`, whichever its proven bound fits.
pub trait Acc: Copy + From<i32> + AddAssign + Mul<Output = Self> {
    /// `round_half_even(self * m)`.
    fn rescale(self, m: Multiplier) -> i64;
}

macro_rules! code {
    ($($code:ty),*) => {$(
        impl Code for $code {
            const MIN: Self = <$code>::MIN;

            fn code(q: i64, zero_point: i32, (lo, hi): (i32, i32)) -> Self {
                (q + zero_point as i64).clamp(lo as i64, hi as i64) as Self
            }
        }
    )*};
}
code!(i8, i16);

impl Acc for i32 {
    fn rescale(self, m: Multiplier) -> i64 {
        rescale(self as i64, m)
    }
}

impl Acc for i64 {
    fn rescale(self, m: Multiplier) -> i64 {
        rescale_wide(self, m)
    }
}

/// Turns an accumulator into an output code: rescale, add, clamp.
pub fn requantize<Y: Code>(acc: impl Acc, m: Multiplier, zero_point: i32, limits: (i32, i32)) -> Y {
    Y::code(acc.rescale(m), zero_point, limits)
}

/// What holds weights: `i8` and `i16` one each; `u8` two of 4 bits, the first in its low half, each plus 8.
pub trait Weight: Copy {
    /// `acc + sum (x - zero_point) * weight`, with the weights from the one numbered `first` on.
    fn accumulate<A: Acc>(
        acc: A,
        x: &[impl Code],
        zero_point: i32,
        weights: &[Self],
        first: usize,
    ) -> A;
}

macro_rules! weight {
    ($($weight:ty),*) => {$(
        impl Weight for $weight {
            fn accumulate<A: Acc>(
                mut acc: A,
                x: &[impl Code],
                zero_point: i32,
                weights: &[Self],
                first: usize,
            ) -> A {
                for (&x, &weight) in x.iter().zip(&weights[first..]) {
                    let x: i32 = x.into();
                    acc += A::from(x - zero_point) * A::from(weight.into());
                }
                acc
            }
        }
    )*};
}
weight!(i8, i16);

impl Weight for u8 {
    fn accumulate<A: Acc>(
        mut acc: A,
        x: &[impl Code],
        zero_point: i32,
        weights: &[Self],
        first: usize,
    ) -> A {
        for (&x, i) in x.iter().zip(first..) {
            let x: i32 = x.into();
            let half = weights[i / 2] >> (i % 2 * 4) & 15;
            acc += A::from(x - zero_point) * A::from(half as i32 - 8);
        }
        acc
    }
}

/// Constants of `y[o] = requantize(bias[o] + sum (x - x_zero_point) * weight[o])`.
#[derive(Clone, Copy, Debug)]
pub struct Products<'a, W> {
    /// Symmetric, contiguous for each output channel.
    pub weight: &'a [W],
    /// `[out_ch]`, in units of `x_scale * weight_scale[out_ch]`.
    pub bias: &'a [i32],
    /// `[out_ch]`, `x_scale * weight_scale[out_ch] / y_scale`.
    pub multiplier: &'a [Multiplier],
    /// Code of real 0 in the input.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range; a fused ReLU raises the lower end to `y_zero_point`.
    pub clamp: (i32, i32),
}

impl<W: Weight> Products<'_, W> {
    /// `acc + sum (x - x_zero_point) * weight`, with the weights from the one numbered `first` on.
    pub fn accumulate<A: Acc>(&self, acc: A, x: &[impl Code], first: usize) -> A {
        W::accumulate(acc, x, self.x_zero_point, self.weight, first)
    }

    /// The output code of channel `o`.
    pub fn requantize<Y: Code>(&self, acc: impl Acc, o: usize) -> Y {
        requantize(acc, self.multiplier[o], self.y_zero_point, self.clamp)
    }
}

/// Where element `i` of a row-major tensor of shape `shape` lies when its axes have `strides`.
///
/// A broadcast axis has stride 0; a transposed tensor has permuted strides.
pub fn strided_index(mut i: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut index = 0;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        index += i % size * stride;
        i /= size;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_f32_is_exact() {
        for factor in [1e-9, 0.1, 0.5, 0.999_999_9, 1.0, 1.5, 1e6_f32] {
            let m = Multiplier::from_f32(factor).unwrap();
            assert!((1 << 23..1 << 24).contains(&m.significand), "{m:?}");
            assert_eq!(m.significand as f64 / 2f64.powi(m.shift as i32), factor as f64);
        }
        for factor in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-12, 1e12] {
            assert_eq!(Multiplier::from_f32(factor), None);
        }
    }

    #[test]
    fn ties_go_to_even() {
        let half = Multiplier::from_f32(0.5).unwrap();
        assert_eq!([-5, -3, -1, 1, 3, 5].map(|acc| rescale(acc, half)), [-2, -2, 0, 0, 2, 2]);
    }

    /// `f64` holds the product of a 29-bit accumulator and a 24-bit significand exactly.
    #[test]
    fn rescale_equals_exact_real_arithmetic() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let acc = (state >> 35) as i32 - (1 << 28);
            let factor = f32::from_bits(0x3880_0000 + (state as u32 & 0x03FF_FFFF));
            let m = Multiplier::from_f32(factor).unwrap();
            let expected = (acc as f64 * factor as f64).round_ties_even();
            assert_eq!(acc.rescale(m) as f64, expected, "acc {acc}, factor {factor}");
            assert_eq!((acc as i64).rescale(m) as f64, expected, "acc {acc}, factor {factor}");
        }
    }

    /// Against `i128`, which holds the whole product.
    #[test]
    fn wide_accumulators_are_rescaled_exactly() {
        for acc in [1_i64, 3, 0x8000, 0x1_8000, (1 << 38) + 5, (1 << 53) - 1] {
            for significand in [1 << 23, (1 << 23) + 1, 3 << 22, (1 << 24) - 1] {
                for shift in 17..=62 {
                    for acc in [acc, -acc, acc & !0xFFFF] {
                        let product = acc as i128 * significand as i128;
                        let odd = product >> shift & 1;
                        let expected = (product + (1 << (shift - 1)) - 1 + odd) >> shift;
                        let got = rescale_wide(acc, Multiplier { significand, shift });
                        assert_eq!(got as i128, expected, "{acc} * {significand} >> {shift}");
                    }
                }
            }
        }
    }

    /// Against `i128`, where the whole ratio is one fraction.
    #[test]
    fn round_ratio_rounds_once() {
        for numerator in -2000_i64..2000 {
            for denominator in [1, 2, 3, 7, 16, 49] {
                for shift in [1, 2, 5] {
                    let d = (denominator as i128) << shift;
                    let (floor, rest) =
                        ((numerator as i128).div_euclid(d), (numerator as i128).rem_euclid(d));
                    let up = 2 * rest > d || (2 * rest == d && floor % 2 != 0);
                    let expected = floor as i64 + up as i64;
                    assert_eq!(
                        round_ratio(numerator, denominator, shift),
                        expected,
                        "{numerator} / {denominator} >> {shift}"
                    );
                }
            }
        }
        assert_eq!(round_ratio(i64::MAX / 16, 1, 62), 0);
    }

    #[test]
    fn strided_index_broadcasts_and_transposes() {
        let index =
            |strides| (0..6).map(|i| strided_index(i, &[2, 3], strides)).collect::<Vec<_>>();
        assert_eq!(index(&[3, 1]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(index(&[0, 1]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(index(&[1, 2]), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn rescale_survives_the_extremes() {
        for acc in [i32::MIN, -1, 0, 1, i32::MAX] {
            for shift in [1, 31, 62] {
                acc.rescale(Multiplier { significand: (1 << 24) - 1, shift });
            }
        }
    }
}
