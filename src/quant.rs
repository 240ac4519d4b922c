//! Scales, zero points, and the step between real values and codes:
//! `real = scale · (code − zero_point)`.

use std::fmt;

use crate::error::{Result, bail};

/// How many bits a code has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Width {
    W4,
    #[default]
    W8,
    W16,
    W32,
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.bits().fmt(f)
    }
}

impl Width {
    /// Those that weights may have.
    pub const OF_WEIGHTS: &[Self] = &[Self::W4, Self::W8, Self::W16];

    /// The number of bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::W4 => 4,
            Self::W8 => 8,
            Self::W16 => 16,
            Self::W32 => 32,
        }
    }

    /// The number of bytes in memory; a code of 4 bits takes a whole one.
    pub const fn bytes(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    /// The smallest code, `−2^(bits−1)`.
    pub const fn lowest(self) -> i32 {
        i32::MIN >> (32 - self.bits())
    }

    /// The largest code, `2^(bits−1) − 1`.
    pub const fn highest(self) -> i32 {
        i32::MAX >> (32 - self.bits())
    }
}

/// Which elements of a tensor share a scale.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One scale for the whole tensor.
    PerTensor,
    /// One scale for each index along `axis`.
    PerChannel {
        /// The axis of the channels.
        axis: usize,
    },
}

/// How the codes of one value are read: `real = scale[c] · (code − zero_point)`.
///
/// Codes are signed; those of a bias have 32 bits. `scale` has one element, or one for
/// each channel; every scale is finite and > 0. Symmetric means `zero_point == 0`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    /// Size of one step, for each channel.
    pub scale: Vec<f32>,
    /// The code of real 0.
    pub zero_point: i32,
    /// Number of bits of a code.
    pub width: Width,
    /// Which elements share a scale.
    pub granularity: Granularity,
}

/// Beyond all codes of 16 bits, whatever the zero point.
const FAR: f32 = 1_048_576.0;
/// Added to a number below `2^22`, it leaves the nearest integer, half to even.
const ROUND: f32 = 12_582_912.0;

impl QuantParams {
    /// One scale for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i32, width: Width) -> Self {
        Self { scale: vec![scale], zero_point, width, granularity: Granularity::PerTensor }
    }

    /// Parameters of indices: `scale = 1`, and the lowest code for 0.
    pub fn index(width: Width) -> Self {
        Self::per_tensor(1.0, width.lowest(), width)
    }

    /// Parameters of a value of which only the sign counts: all codes but that of 0 are the first and the last.
    pub fn sign() -> Self {
        Self::per_tensor(f32::MIN_POSITIVE, 0, Width::W8)
    }

    /// Smallest and largest code.
    pub fn code_range(&self) -> (i32, i32) {
        (self.width.lowest(), self.width.highest())
    }

    /// The code of `x` under the scale of channel `c`: `clamp(round_half_even(x / scale) + zero_point)`.
    ///
    /// Divides, as ONNX `QuantizeLinear` does: multiplying by the reciprocal rounds differently.
    pub fn quantize(&self, x: f32, c: usize) -> i32 {
        let (lo, hi) = self.code_range();
        let q = match self.width {
            // Further away all codes are clamped, and up to there a sum rounds, without the call that a rounding
            // is on some machines.
            Width::W4 | Width::W8 | Width::W16 => {
                ((x / self.scale[c]).clamp(-FAR, FAR) + ROUND - ROUND) as i64
            }
            // A quotient of `f32` has 24 bits; a bias code needs all 32.
            Width::W32 => (x as f64 / self.scale[c] as f64).round_ties_even() as i64,
        };
        q.saturating_add(self.zero_point as i64).clamp(lo as i64, hi as i64) as i32
    }

    /// The real value of `code` under the scale of channel `c`.
    pub fn dequantize(&self, code: i32, c: usize) -> f32 {
        (code - self.zero_point) as f32 * self.scale[c]
    }

    /// `f` of each element of a tensor of shape `shape`, and of its channel.
    fn by_channel<T: Copy, U>(
        &self,
        x: &[T],
        shape: &[usize],
        f: impl Fn(T, usize) -> U,
    ) -> Vec<U> {
        let (channels, inner) = match self.granularity {
            Granularity::PerTensor => (1, x.len()),
            Granularity::PerChannel { axis } => (shape[axis], shape[axis + 1..].iter().product()),
        };
        let mut y = Vec::with_capacity(x.len());
        for (i, x) in x.chunks(inner.max(1)).enumerate() {
            y.extend(x.iter().map(|&x| f(x, i % channels)));
        }
        y
    }

    /// [`quantize`](Self::quantize) for a tensor `x` of shape `shape`.
    pub fn quantize_all(&self, x: &[f32], shape: &[usize]) -> Vec<i32> {
        self.by_channel(x, shape, |x, c| self.quantize(x, c))
    }

    /// [`dequantize`](Self::dequantize) for a tensor of `codes` of shape `shape`.
    pub fn dequantize_all(&self, codes: &[i32], shape: &[usize]) -> Vec<f32> {
        self.by_channel(codes, shape, |code, c| self.dequantize(code, c))
    }

    /// In words, how far numbers of a tensor with one scale are from what the codes are for: more than one in twenty is
    /// beyond them all, or none is more than two steps from 0. Nothing where neither is so.
    pub fn strange<'a>(&self, numbers: impl Iterator<Item = &'a f32>) -> Option<String> {
        if *self == Self::sign() {
            return None;
        }
        let (lowest, highest) = self.code_range();
        let [lo, hi] = [lowest, highest].map(|code| self.dequantize(code, 0));
        let half = self.scale[0] / 2.0;
        let (mut seen, mut clipped, mut count) = ((f32::INFINITY, f32::NEG_INFINITY), 0u64, 0u64);
        for &x in numbers {
            seen = (seen.0.min(x), seen.1.max(x));
            clipped += u64::from(x < lo - half || x > hi + half);
            count += 1;
        }
        let ranges = format!("seen {}…{}, calibrated for {lo}…{hi}", seen.0, seen.1);
        if clipped * 20 > count {
            let share = 100.0 * clipped as f64 / count as f64;
            return Some(format!("{ranges}: {share:.0} % clipped"));
        }
        let small = count > 1 && seen.0.abs().max(seen.1.abs()) <= 2.0 * self.scale[0];
        let steps = ((seen.1 - seen.0) / self.scale[0]).round() + 1.0;
        small.then(|| format!("{ranges}: {steps} of {} codes used", highest - lowest + 1))
    }

    /// Checks what the type promises, for a tensor of shape `shape`.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) or [`Error::Shape`](crate::Error::Shape).
    pub fn check(&self, shape: &[usize]) -> Result<()> {
        if let Some(bad) = self.scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            bail!(Range, "scale must be positive and finite, got {bad}");
        }
        let (lo, hi) = self.code_range();
        if !(lo..=hi).contains(&self.zero_point) {
            bail!(Range, "zero point {} is not a {}-bit code", self.zero_point, self.width.bits());
        }
        let expected = match self.granularity {
            Granularity::PerTensor => 1,
            Granularity::PerChannel { axis } if axis < shape.len() => shape[axis],
            Granularity::PerChannel { axis } => {
                bail!(Shape, "channel axis {axis} of a tensor of shape {shape:?}")
            }
        };
        if self.scale.len() != expected {
            bail!(
                Shape,
                "expected {expected} scales for shape {shape:?}, got {}",
                self.scale.len()
            );
        }
        Ok(())
    }
}

/// Types of integers that a network may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Integer {
    U8,
    I8,
    I32,
    I64,
}

/// What the caller gives for an input of the network that is made of integers: its codes, but for an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Their type in the file.
    pub of: Integer,
    /// The largest one.
    pub highest: i32,
}

impl Given {
    /// Any integers of this type that codes can hold.
    pub const fn any(of: Integer) -> Self {
        let highest = match of {
            Integer::U8 => 255,
            Integer::I8 => 127,
            Integer::I32 | Integer::I64 => 65535,
        };
        Self { of, highest }
    }

    /// The smallest one.
    pub const fn lowest(self) -> i32 {
        match self.of {
            Integer::I8 => -128,
            _ => 0,
        }
    }

    /// Whether they are bytes: then real numbers that are other multiples of them may be meant.
    pub const fn is_bytes(self) -> bool {
        matches!(self.of, Integer::U8 | Integer::I8)
    }

    /// Whether what is given has no sign: then the highest bit of the code is the opposite of its own.
    pub const fn is_unsigned(self) -> bool {
        !matches!(self.of, Integer::I8)
    }

    /// How their codes are read, as long as the integers are the real numbers.
    pub fn params(self) -> QuantParams {
        let width = if self.is_bytes() { Width::W8 } else { Width::W16 };
        let zero_point = if self.is_unsigned() { width.lowest() } else { 0 };
        QuantParams::per_tensor(1.0, zero_point, width)
    }

    /// The real number that the integer `x` stands for, if its code is read by `quant`.
    ///
    /// # Errors
    /// A number that is no integer, or none of these.
    pub fn real(self, quant: &QuantParams, x: f32) -> Result<f32> {
        if x.fract() != 0.0 || !(self.lowest() as f32..=self.highest as f32).contains(&x) {
            bail!(Range, "holds {x}, expected an integer of {}..{}", self.lowest(), self.highest);
        }
        Ok(quant.dequantize(x as i32 + self.params().zero_point, 0))
    }
}

/// Where scales may lie.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Power-of-two scales; symmetric, but for activations that are never negative: every rescaling is a
    /// shift. For FPGA, ASIC, DSP.
    Shift,
    /// Any `f32` scale, asymmetric activations: for CPUs and microcontrollers.
    Scale,
}

/// What the user asked for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Where scales may lie.
    pub preset: Preset,
    /// One weight scale for each output channel, instead of one for the tensor.
    pub per_channel: bool,
    /// Width of activations, 8 or 16 bits.
    pub activation_width: Width,
    /// Width of weights, 4, 8 or 16 bits.
    pub weight_width: Width,
}

/// An interval of real values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub lo: f32,
    /// Upper end.
    pub hi: f32,
}

impl Range {
    /// The largest magnitude in the interval.
    pub fn max_abs(self) -> f32 {
        self.lo.abs().max(self.hi.abs())
    }

    /// The interval of which both ends have gone this share of the way to those of `other`.
    pub fn towards(self, other: Self, share: f32) -> Self {
        let between = |a: f32, b: f32| a * (1.0 - share) + b * share;
        Self { lo: between(self.lo, other.lo), hi: between(self.hi, other.hi) }
    }
}

impl Default for Scheme {
    /// Any scale, one for each output channel, 8 bits.
    fn default() -> Self {
        Self::new(Preset::Scale)
    }
}

impl Scheme {
    /// Activations and weights of 8 bits, a weight scale for each output channel.
    pub const fn new(preset: Preset) -> Self {
        let width = Width::W8;
        Self { preset, per_channel: true, activation_width: width, weight_width: width }
    }

    /// The same with one scale for the whole of a weight.
    pub const fn per_tensor(self) -> Self {
        Self { per_channel: false, ..self }
    }

    /// The same with activations and weights of so many bits.
    pub const fn with_widths(self, activation_width: Width, weight_width: Width) -> Self {
        Self { activation_width, weight_width, ..self }
    }

    /// Parameters of activations in 0..1: `scale = 2^-bits`, and the lowest code for 0.
    pub fn unit(self) -> QuantParams {
        let width = self.activation_width;
        QuantParams::per_tensor(2f32.powi(-(width.bits() as i32)), width.lowest(), width)
    }

    /// Parameters of activations in 0..1 of which the largest that was seen is `max`: those of
    /// [`unit`](Self::unit), unless they would hold less than a quarter of the codes. Then `2 · max / 2^bits` is
    /// the scale, rounded up to a power of two under [`Preset::Shift`], and at least `2^-22`.
    pub fn unit_up_to(self, max: f32) -> QuantParams {
        let unit = self.unit();
        if max.is_nan() || max >= 0.25 {
            return unit;
        }
        let scale = self.round_up((2.0 * max * unit.scale[0]).max(1.0 / (1 << 22) as f32));
        QuantParams { scale: vec![scale], ..unit }
    }

    /// Refuses a range that no scale fits.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) with its largest magnitude.
    pub fn check_range(self, range: Range) -> Result<()> {
        let (max, steps) = (range.max_abs(), (1u32 << self.activation_width.bits()) as f32);
        if max != 0.0 && !(SMALLEST_SCALE * steps..LARGEST_SCALE).contains(&max) {
            bail!(Range, "it reaches {max:e}, and no scale fits: multiply it by a constant");
        }
        Ok(())
    }

    /// Parameters of activations that lie in `range`; both schemes represent real 0 exactly.
    ///
    /// * [`Preset::Shift`]: see [`symmetric_scale`](Self::symmetric_scale), `zero_point = 0`. A range
    ///   without negative values, as after a ReLU, uses all codes: one bit more, `zero_point` is the lowest one.
    /// * [`Preset::Scale`]: with `range` widened to hold 0, `scale = (hi − lo) / (2^bits − 1)`
    ///   and `zero_point = round_half_even(−2^(bits−1) − lo / scale)`.
    pub fn activation(self, range: Range) -> QuantParams {
        let width = self.activation_width;
        let (bits, lowest) = (width.bits(), width.lowest());
        if range.max_abs() == 0.0 {
            // Always zero: any scale does, and this one is far from the ends of every rescaling.
            return QuantParams::per_tensor(1.0, 0, width);
        }
        if self.preset == Preset::Shift && range.lo >= 0.0 {
            let scale = self.symmetric_scale(range.hi, bits + 1);
            return QuantParams::per_tensor(scale, lowest, width);
        }
        if self.preset == Preset::Shift {
            return QuantParams::per_tensor(self.symmetric_scale(range.max_abs(), bits), 0, width);
        }
        let (lo, hi) = (range.lo.min(0.0) as f64, range.hi.max(0.0) as f64);
        let steps = ((1 << bits) - 1) as f64;
        let scale = (((hi - lo) / steps) as f32).clamp(SMALLEST_SCALE, LARGEST_SCALE);
        let zero_point = (lowest as f64 - lo / scale as f64).round_ties_even() as i32;
        QuantParams::per_tensor(scale, zero_point.clamp(lowest, width.highest()), width)
    }

    /// The scale of symmetric codes of `bits` bits for values up to `max_abs`.
    ///
    /// * [`Preset::Shift`]: `2^−shift` with `shift = bits − 2 − floor(log2(max_abs))`, so that the
    ///   largest code lies in `[2^(bits−2), 2^(bits−1)]`.
    /// * [`Preset::Scale`]: `max_abs / (2^(bits−1) − 1)`.
    pub fn symmetric_scale(self, max_abs: f32, bits: u32) -> f32 {
        let scale = match self.preset {
            _ if max_abs == 0.0 => return SCALE_OF_NOTHING,
            Preset::Shift => 2f64.powi(floor_log2(max_abs) - (bits as i32 - 2)) as f32,
            Preset::Scale => max_abs / ((1i64 << (bits - 1)) - 1) as f32,
        };
        scale.clamp(SMALLEST_SCALE, LARGEST_SCALE)
    }

    /// The smallest scale of this scheme that is at least `scale`.
    pub fn round_up(self, scale: f32) -> f32 {
        match self.preset {
            Preset::Scale => scale,
            Preset::Shift => {
                let power = 2f64.powi(floor_log2(scale)) as f32;
                if power < scale { 2.0 * power } else { power }
            }
        }
    }
}

/// Signal-to-quantization-noise ratio: `10 · log10(Σ reference² / Σ (reference − x)²)` in dB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sqnr {
    signal: f64,
    noise: f64,
}

impl Sqnr {
    /// What is reported when there is no noise at all.
    pub const EXACT_DB: f64 = 999.0;

    /// Takes more elements into account.
    pub fn add(&mut self, reference: &[f32], x: &[f32]) {
        for (&r, &x) in reference.iter().zip(x) {
            self.signal += r as f64 * r as f64;
            self.noise += (r as f64 - x as f64).powi(2);
        }
    }

    /// Takes all into account that `other` has seen.
    pub fn merge(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// The ratio in dB; [`EXACT_DB`](Self::EXACT_DB) if all elements were equal.
    pub fn db(self) -> f64 {
        match self {
            Self { noise: 0.0, .. } => Self::EXACT_DB,
            Self { signal: 0.0, .. } => -Self::EXACT_DB,
            Self { signal, noise } => 10.0 * (signal / noise).log10(),
        }
    }
}

/// Scales are kept in `2^±60`, so that the product of two is a normal number. A quotient that is none has no
/// multiplier, and its node is refused.
const SMALLEST_SCALE: f32 = 1.0 / LARGEST_SCALE;
const LARGEST_SCALE: f32 = (1u64 << 60) as f32;
/// The scale of a weight that is all 0.
const SCALE_OF_NOTHING: f32 = 1.0 / (1u32 << 30) as f32;

/// `floor(log2(x))` of a finite `x > 0`, exactly: the exponent of `x` as an `f64`, in which every
/// `f32` is normal.
fn floor_log2(x: f32) -> i32 {
    ((x as f64).to_bits() >> 52) as i32 - 1023
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_far_from_what_codes_are_for_are_told() {
        let quant = QuantParams::per_tensor(0.5, -128, Width::W8);
        let strange = |x: &[f32]| quant.strange(x.iter()).unwrap_or_default();
        assert_eq!(strange(&[0.0, 127.7, 60.0]), "");
        assert_eq!(strange(&[&[0.0, 200.0][..], &[9.0; 38]].concat()), "");
        let clipped = "seen -3…200, calibrated for 0…127.5: 50 % clipped";
        assert_eq!(strange(&[0.0, 200.0, -3.0, 9.0]), clipped);
        let few = "seen 0…1, calibrated for 0…127.5: 3 of 256 codes used";
        assert_eq!(strange(&[0.0, 0.3, 1.0]), few);
        assert_eq!(strange(&[]), "");
    }

    const SHIFT: Scheme = Scheme::new(Preset::Shift).per_tensor();
    const SCALE: Scheme = Scheme::new(Preset::Scale).per_tensor();

    #[test]
    fn codes_by_hand() {
        let p = QuantParams::per_tensor(0.5, 3, Width::W8);
        // 0.25/0.5 = 0.5 and 0.75/0.5 = 1.5 are ties: to 0 and to 2.
        assert_eq!(
            p.quantize_all(&[0.0, 0.25, 0.75, -0.25, 1e9, -1e9], &[6]),
            [3, 3, 5, 3, 127, -128]
        );
        assert_eq!(p.dequantize(5, 0), 1.0);
    }

    #[test]
    fn channels_follow_their_axis() {
        let granularity = Granularity::PerChannel { axis: 1 };
        let p = QuantParams { scale: vec![1.0, 0.5], zero_point: 0, width: Width::W8, granularity };
        assert_eq!(p.quantize_all(&[1.0, 1.0, 2.0, 2.0], &[1, 2, 2]), [1, 1, 4, 4]);
        assert_eq!(p.dequantize_all(&[1, 1, 4, 4], &[1, 2, 2]), [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn power_of_two_scales_follow_the_formula() {
        for (max_abs, shift) in
            [(1.0, 6), (0.999, 7), (1.999, 6), (2.0, 5), (100.0, 0), (300.0, -2)]
        {
            assert_eq!(SHIFT.symmetric_scale(max_abs, 8), 2f32.powi(-shift), "{max_abs}");
        }
        assert_eq!([SHIFT.round_up(0.5), SHIFT.round_up(0.51)], [0.5, 1.0]);
    }

    #[test]
    fn asymmetric_codes_use_the_whole_range_and_hold_zero() {
        for (lo, hi) in [(0.0, 6.0), (-1.0, 3.0), (2.0, 5.0), (-4.0, -1.0), (0.0, 0.0)] {
            let p = SCALE.activation(Range { lo, hi });
            assert_eq!(p.dequantize(p.quantize(0.0, 0), 0), 0.0);
            p.check(&[1]).unwrap();
        }
        let p = SCALE.activation(Range { lo: 0.0, hi: 2.55 });
        assert_eq!((p.zero_point, p.quantize(2.55, 0)), (-128, 127));
        let p = SCALE.with_widths(Width::W16, Width::W8).activation(Range { lo: -1.0, hi: 1.0 });
        assert_eq!((p.width, p.scale[0], p.zero_point), (Width::W16, 2.0 / 65535.0, 0));
        assert_eq!(SCALE.unit(), QuantParams::per_tensor(1.0 / 256.0, -128, Width::W8));
        let unit = SCALE.with_widths(Width::W16, Width::W8).unit();
        assert_eq!(unit, QuantParams::per_tensor(1.0 / 65536.0, -32768, Width::W16));
    }

    #[test]
    fn small_shares_of_one_have_a_scale_of_their_own() {
        let [wide, shift] = [SCALE.with_widths(Width::W16, Width::W8), SHIFT];
        for (scheme, max, scale) in [
            (SCALE, 0.25, 1.0 / 256.0),
            (SCALE, 1.0, 1.0 / 256.0),
            (SCALE, 0.2, 0.4 / 256.0),
            (SCALE, 1.0 / 1024.0, 1.0 / 512.0 / 256.0),
            (SCALE, 0.0, 2f32.powi(-22)),
            (shift, 0.2, 0.5 / 256.0),
            (shift, 0.125, 0.25 / 256.0),
            (wide, 0.2, 0.4 / 65536.0),
            (wide, 1.0 / 1024.0, 2f32.powi(-22)),
        ] {
            let params = scheme.unit_up_to(max);
            assert_eq!(
                (params.scale[0], params.zero_point),
                (scale, params.width.lowest()),
                "{max}"
            );
        }
    }

    #[test]
    fn ranges_that_no_scale_fits_are_refused() {
        let check = |hi: f32| SCALE.check_range(Range { lo: -hi / 2.0, hi });
        assert!([0.0, 1e-12, 1.0, 1e13].into_iter().all(|hi| check(hi).is_ok()));
        for hi in [1e-20, 1e30] {
            assert!(check(hi).unwrap_err().to_string().contains(&format!("reaches {hi:e}")));
        }
    }

    #[test]
    fn broken_parameters_are_refused() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(QuantParams::per_tensor(scale, 0, Width::W8).check(&[4]).is_err());
        }
        assert!(QuantParams::per_tensor(1.0, 128, Width::W8).check(&[4]).is_err());
        let granularity = Granularity::PerChannel { axis: 2 };
        let p = QuantParams { scale: vec![1.0; 3], zero_point: 0, width: Width::W8, granularity };
        assert!(p.check(&[3]).is_err());
    }
}
