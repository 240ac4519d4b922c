//! The range with the smallest mean squared quantization error.

use super::histogram::Histogram;
use crate::quant::{QuantParams, Range, Scheme};

/// Ranges that are tried: the whole one shrunk to `i / STEPS`.
const STEPS: usize = 100;

/// Of the ranges `[lo · s, hi · s]`, the one for which `Σ count · (x − dequantize(quantize(x)))²` over
/// the bins is smallest; the widest of equals. A power-of-two scheme tries few scales in fact.
pub fn range(seen: &Histogram, scheme: Scheme) -> Range {
    let whole = seen.range();
    let bins: Vec<(f32, u64)> = seen.bins().collect();
    let mut best = (f64::INFINITY, whole);
    let mut last: Option<QuantParams> = None;
    for i in (STEPS / 10..=STEPS).rev() {
        let s = i as f32 / STEPS as f32;
        let candidate = Range { lo: whole.lo * s, hi: whole.hi * s };
        let params = scheme.activation(candidate);
        if last.as_ref() == Some(&params) {
            continue;
        }
        let error: f64 = bins.iter().map(|&(x, n)| n as f64 * squared_error(x, &params)).sum();
        if error < best.0 {
            best = (error, candidate);
        }
        last = Some(params);
    }
    best.1
}

fn squared_error(x: f32, params: &QuantParams) -> f64 {
    let error = x as f64 - params.dequantize(params.quantize(x, 0), 0) as f64;
    error * error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Preset;

    /// One far outlier among many values: squared error gives it up, min-max does not.
    #[test]
    fn an_outlier_is_cut_off() {
        let mut x: Vec<f32> = (0..1_000_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        x[0] = 3.0;
        let mut seen = Histogram::default();
        seen.add(&x).unwrap();
        for preset in [Preset::Scale, Preset::Shift] {
            let scheme = Scheme::new(preset).per_tensor();
            let hi = range(&seen, scheme).hi;
            assert!((0.99..2.0).contains(&hi), "{preset:?} {hi}");
        }
    }
}
