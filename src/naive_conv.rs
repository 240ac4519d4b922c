//! How a neural network becomes integers, shown on its smallest part: one convolution.
//!
//! 1. *Model*: a float convolution with random weights, as plain loops.
//! 2. *Quantize*: `real = code · 2^-shift`; choose the shifts, round, simulate the result.
//! 3. *Deploy*: a program part without any float computes the same bits; what did rounding cost?
//!
//! Run it with `cargo run --example naive_conv`. Tensors are row-major and ordered as in ONNX:
//! inputs and outputs `[1, ch, h, w]`, weights `[out_ch, in_ch, kernel_h, kernel_w]`.
#![allow(missing_docs)] // of fields: their struct explains them

use std::io::{self, Write};

/// What to convolve; how many random inputs show us their range; how wide codes are, 8 or 16 bits;
/// where the random numbers start.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub geometry: Geometry,
    pub samples: usize,
    pub bits: u32,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let (in_ch, height, width, out_ch) = (4, 20, 30, 8);
        let geometry = Geometry { in_ch, height, width, out_ch, kernel: [1, 1], stride: 1, pad: 0 };
        Self { geometry, samples: 256, bits: 8, seed: 1233 }
    }
}

/// What the steps produce: reals, then the integer convolution with an input and its true output.
pub struct Experiment {
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
    pub input_max: f64,
    pub input: Vec<f64>,
    pub output: Vec<f64>,
    pub layer: deploy::Layer,
    pub input_codes: Vec<i32>,
    pub ground_truth: Vec<i64>,
}

impl Experiment {
    /// Steps 1 and 2. An error if an accumulator might overflow.
    pub fn new(&Options { geometry, samples, bits, seed }: &Options) -> Result<Self, String> {
        let (g, mut random) = (&geometry, Random(seed));
        let weight = random.uniform(-2.0, 2.0, g.out_ch * g.in_ch * g.kernel[0] * g.kernel[1]);
        let bias = random.uniform(0.0, 1.0, g.out_ch);
        let mut next_input = || random.uniform(0.0, 1.0, g.in_ch * g.height * g.width);

        // Calibration: the weights are known, the inputs are not. Look at some, keep their range.
        let input_max = (0..samples).fold(0.0, |max: f64, _| max.max(max_abs(&next_input())));
        let input = next_input(); // one that calibration has not seen
        let output = convolve(g, &weight, &bias, &input);

        // A product of codes stands for real · real · 2^(weight_shift + input_shift). The bias is
        // added to such products, so it needs their shift; it gets the width of their sum, too.
        let weight_shift = choose_shift(max_abs(&weight), bits);
        let input_shift = choose_shift(input_max, bits);
        let to_bias = |&real| quantize(real, 4 * bits, weight_shift + input_shift);
        let layer = deploy::Layer {
            geometry,
            bits,
            weight: quantize_all(&weight, bits, weight_shift),
            weight_shift,
            bias: bias.iter().map(to_bias).collect(),
            input_shift,
        };
        layer.prove_no_overflow()?;
        let input_codes = quantize_all(&input, bits, input_shift);
        let ground_truth = simulate(&layer, &input_codes)?;
        Ok(Self { weight, bias, input_max, input, output, layer, input_codes, ground_truth })
    }
}

// ---- Step 1: the model --------------------------------------------------------------------------

/// `output[o, y, x] = bias[o] + Σ weight[o, i, ky, kx] · input[i, y·stride + ky − pad, x·stride + kx − pad]`,
/// the sum over `i`, `ky`, `kx`. Outside its borders the input is zero.
pub fn convolve(g: &Geometry, weight: &[f64], bias: &[f64], input: &[f64]) -> Vec<f64> {
    let [out_height, out_width] = g.out_size();
    let mut output = Vec::new();
    for [o, y, x] in indices([g.out_ch, out_height, out_width]) {
        let mut sum = bias[o];
        for [i, ky, kx] in indices([g.in_ch, g.kernel[0], g.kernel[1]]) {
            if let Some(at) = g.input_at(i, y * g.stride + ky, x * g.stride + kx) {
                sum += weight[g.weight_at(o, i, ky, kx)] * input[at];
            }
        }
        output.push(sum);
    }
    output
}

// ---- Step 2: quantize ---------------------------------------------------------------------------

/// The finest shift at which `max_abs` still fits: `bits − 2 − floor(log2(max_abs))`.
///
/// Of `bits`, one is the sign and `floor(log2(max_abs)) + 1` stand before the binary point; the
/// others stand behind it. If none is left the shift is negative: one step is 2 or more. Zeros have
/// no logarithm, but any shift suits them; they get that of `max_abs = 1`.
pub fn choose_shift(max_abs: f64, bits: u32) -> i32 {
    // The exponent field of a float IS floor(log2), while a computed logarithm may be off by one.
    let exponent = (max_abs.to_bits() >> 52) as i32 - 1023;
    bits as i32 - 2 - if max_abs.is_normal() { exponent } else { 0 }
}

/// `clamp(round_half_even(real · 2^shift), −2^(bits−1), 2^(bits−1) − 1)`.
///
/// Even the calibrated maximum may need the clamp: 1.995 · 2^6 rounds to 128, one too many for
/// 8 bits. The product with a power of two is exact, so there is one rounding.
pub fn quantize(real: f64, bits: u32, shift: i32) -> i64 {
    let limit = 2f64.powi(bits as i32 - 1);
    // `as` saturates, which makes up for `2^63 − 1` not being a float.
    (real * 2f64.powi(shift)).round_ties_even().clamp(-limit, limit - 1.0) as i64
}

fn quantize_all(reals: &[f64], bits: u32, shift: i32) -> Vec<i32> {
    reals.iter().map(|&real| quantize(real, bits, shift) as i32).collect() // bits <= 16
}

/// The ground truth for step 3: the float model of step 1, fed with codes.
///
/// So do float frameworks simulate quantization. It is exact only while a float can hold every
/// integer it meets, up to 2^53; beyond that we refuse.
fn simulate(layer: &deploy::Layer, input: &[i32]) -> Result<Vec<i64>, String> {
    let bound = layer.acc_bound();
    if bound > 1 << 53 {
        return Err(format!("an accumulator up to {bound} cannot be simulated in float"));
    }
    let real = |codes: &[i32]| codes.iter().map(|&code| f64::from(code)).collect::<Vec<_>>();
    let bias: Vec<_> = layer.bias.iter().map(|&code| code as f64).collect();
    let output = convolve(&layer.geometry, &real(&layer.weight), &bias, &real(input));
    Ok(output.into_iter().map(|sum| sum as i64).collect())
}

// ---- Step 3: deploy -----------------------------------------------------------------------------

/// What runs on the device. This module has no floating-point type. `naive-ptq conv --check` runs it,
/// too, on parameters that it reads from files.
pub mod deploy {
    use super::{Geometry, indices};

    /// All that the device stores. Weights and inputs have `bits` (8 or 16), biases and accumulators
    /// four times as many. The shifts say what the integers mean; the computation needs none.
    pub struct Layer {
        pub geometry: Geometry,
        pub bits: u32,
        pub weight: Vec<i32>,
        pub weight_shift: i32,
        pub bias: Vec<i64>,
        pub input_shift: i32,
    }

    impl Layer {
        /// `max_o(|bias[o]| + Σ |weight[o, …]| · 2^(bits−1))`. No input code exceeds that last factor,
        /// so no accumulator and no partial sum exceeds this, whatever the input.
        pub fn acc_bound(&self) -> i128 {
            let filters = self.weight.chunks(self.weight.len() / self.geometry.out_ch);
            let bound = |(filter, &bias): (&[i32], &i64)| {
                let sum: i128 = filter.iter().map(|&w| i128::from(w).abs()).sum();
                i128::from(bias).abs() + (sum << (self.bits - 1))
            };
            filters.zip(&self.bias).map(bound).max().unwrap_or(0)
        }

        /// An error if `acc_bound` does not fit the accumulator.
        pub fn prove_no_overflow(&self) -> Result<(), String> {
            let (bound, acc_bits) = (self.acc_bound(), 4 * self.bits);
            let max = (1_i128 << (acc_bits - 1)) - 1;
            if bound > max {
                return Err(format!(
                    "the {acc_bits}-bit accumulator may overflow: {bound} > {max}"
                ));
            }
            Ok(())
        }

        /// The loops of step 1, in integers; `prove_no_overflow` comes first. Thanks to it, a `sum`
        /// of 32 bits would give the same for 8-bit codes.
        pub fn convolve(&self, input: &[i32]) -> Vec<i64> {
            let g = &self.geometry;
            let [out_height, out_width] = g.out_size();
            let mut output = Vec::new();
            for [o, y, x] in indices([g.out_ch, out_height, out_width]) {
                let mut sum = self.bias[o];
                for [i, ky, kx] in indices([g.in_ch, g.kernel[0], g.kernel[1]]) {
                    if let Some(at) = g.input_at(i, y * g.stride + ky, x * g.stride + kx) {
                        let weight = self.weight[g.weight_at(o, i, ky, kx)];
                        sum += i64::from(weight) * i64::from(input[at]);
                    }
                }
                output.push(sum);
            }
            output
        }
    }

    /// Indices at which the output is not the ground truth. Bit for bit: there is no tolerance.
    pub fn differences(output: &[i64], ground_truth: &[i64]) -> Vec<usize> {
        (0..ground_truth.len()).filter(|&at| output[at] != ground_truth[at]).collect()
    }
}

/// What quantization cost: prints `code · 2^-shift − real` in numbers and as a histogram.
///
/// SQNR is the signal to quantization noise ratio, `10 · log10(Σ real² / Σ error²)`; a bit more per
/// code is worth 6 dB. The histogram need not be centred: here all inputs are positive, so a weight
/// that was rounded up errs in one direction only.
pub fn tell_loss(out: &mut impl Write, codes: &[i64], shift: i32, reals: &[f64]) -> io::Result<()> {
    let error = |(&code, real): (&i64, &f64)| code as f64 * 2f64.powi(-shift) - real;
    let errors: Vec<f64> = codes.iter().zip(reals).map(error).collect();
    let sum = |xs: &[f64], term: fn(f64) -> f64| xs.iter().map(|&x| term(x)).sum::<f64>();
    let (max, mean) = (max_abs(&errors), sum(&errors, f64::abs) / errors.len() as f64);
    let share = sum(&errors, f64::abs) / sum(reals, f64::abs) * 100.0;
    let sqnr_db = 10.0 * (sum(reals, |x| x * x) / sum(&errors, |x| x * x)).log10();
    writeln!(out, "Difference to the float convolution")?;
    writeln!(out, "  absolute  {mean:.3e} on average, {max:.3e} at most")?;
    writeln!(out, "  relative  {share:.3} % of the average |output|")?;
    writeln!(out, "  SQNR      {sqnr_db:.2} dB")?;

    let (bin_width, mut bins) = (max.max(f64::MIN_POSITIVE) / 5.0, [0; 11]);
    errors.iter().for_each(|error| bins[((error / bin_width).round() + 5.0) as usize] += 1);
    let most = bins.into_iter().fold(1, usize::max);
    for (bin, count) in bins.into_iter().enumerate() {
        let bar = "#".repeat((count * 50).div_ceil(most));
        writeln!(out, "  {:+9.1e} {count:7} {bar}", (bin as f64 - 5.0) * bin_width)?;
    }
    Ok(())
}

// ---- The story in numbers -----------------------------------------------------------------------

impl Experiment {
    /// Prints steps 1 and 2, runs step 3 and prints that. An error if `out` cannot be written to.
    pub fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        let (layer, g) = (&self.layer, &self.layer.geometry);
        let ([out_h, out_w], [kernel_h, kernel_w]) = (g.out_size(), g.kernel);
        let Geometry { in_ch, height, width, out_ch, stride, pad, .. } = g;
        writeln!(out, "Step 1, the model: a convolution in float")?;
        writeln!(out, "  {in_ch} channels of {height}x{width} to {out_ch} of {out_h}x{out_w}")?;
        writeln!(out, "  kernel {kernel_h}x{kernel_w}, stride {stride}, padding {pad}")?;
        writeln!(out, "  first outputs {:.4?}\n", &self.output[..self.output.len().min(5)])?;

        let (bits, acc_bits, bound) = (layer.bits, 4 * layer.bits, layer.acc_bound());
        let acc_shift = layer.weight_shift + layer.input_shift;
        writeln!(out, "Step 2, quantize to {bits} bits: code = round(real * 2^shift)")?;
        writeln!(out, "  tensor  max |real|  shift  first codes")?;
        let codes = |codes: &[i32]| codes.iter().map(|&code| code.into()).collect::<Vec<i64>>();
        for (name, max, shift, codes) in [
            ("weight", max_abs(&self.weight), layer.weight_shift, &codes(&layer.weight)),
            ("input", self.input_max, layer.input_shift, &codes(&self.input_codes)),
            ("bias", max_abs(&self.bias), acc_shift, &layer.bias),
        ] {
            let first = &codes[..codes.len().min(5)];
            writeln!(out, "  {name:6}  {max:10.6}  {shift:5}  {first:?}")?;
        }
        writeln!(out, "  |accumulator| <= {bound} for every input: {acc_bits} bits suffice\n")?;

        let output = layer.convolve(&self.input_codes);
        let all = output.len();
        let equal = all - deploy::differences(&output, &self.ground_truth).len();
        writeln!(out, "Step 3, deploy: integers only")?;
        writeln!(out, "  first outputs {:?} / 2^{acc_shift}", &output[..all.min(5)])?;
        writeln!(out, "  consistent: {equal} of {all} outputs equal the simulation of step 2\n")?;
        tell_loss(out, &output, acc_shift, &self.output)
    }
}

// ---- Scenery: sizes, indices, random numbers ----------------------------------------------------

/// Sizes of a convolution; `kernel` is `[height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub in_ch: usize,
    pub height: usize,
    pub width: usize,
    pub out_ch: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub pad: usize,
}

impl Geometry {
    /// Height and width of the output: how often the kernel fits, `stride` apart.
    pub fn out_size(&self) -> [usize; 2] {
        let fit = |size, kernel| (size + 2 * self.pad - kernel) / self.stride + 1;
        [fit(self.height, self.kernel[0]), fit(self.width, self.kernel[1])]
    }

    /// Where the weight `[o, i, ky, kx]` is stored.
    pub fn weight_at(&self, o: usize, i: usize, ky: usize, kx: usize) -> usize {
        ((o * self.in_ch + i) * self.kernel[0] + ky) * self.kernel[1] + kx
    }

    /// Where the input `[i, y − pad, x − pad]` is stored; `None` in the padding.
    pub fn input_at(&self, i: usize, y: usize, x: usize) -> Option<usize> {
        let (y, x) = (y.checked_sub(self.pad)?, x.checked_sub(self.pad)?);
        (y < self.height && x < self.width).then_some((i * self.height + y) * self.width + x)
    }
}

/// All `[i, j, k]` below `[a, b, c]`, as three nested loops visit them.
pub fn indices([a, b, c]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k])))
}

fn max_abs(reals: &[f64]) -> f64 {
    reals.iter().fold(0.0, |max, real| real.abs().max(max))
}

/// SplitMix64: a counter, scrambled. Steele et al. 2014, <https://doi.org/10.1145/2660193.2660195>.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `count` reals strictly between `low` and `high`: midpoints of 2^52 equal intervals.
    fn uniform(&mut self, low: f64, high: f64, count: usize) -> Vec<f64> {
        let mut unit = || ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        (0..count).map(|_| low + (high - low) * unit()).collect()
    }
}
