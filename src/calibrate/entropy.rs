//! The range whose codes keep most of the distribution's information.
//!
//! Migacz 2017, "8-bit inference with TensorRT": of all thresholds `t`, the one for which the
//! distribution clipped at `t` diverges least (Kullback-Leibler) from itself in 128 levels.

use super::histogram::Histogram;
use crate::quant::Range;

const LEVELS: usize = 128;

/// Limits both ends to the best threshold of `|x|`.
pub fn range(seen: &Histogram) -> Range {
    let whole = seen.range();
    let (mut magnitudes, width) = seen.magnitudes();
    // Zeros, which have a code of their own whatever the range, would drown everything else.
    magnitudes[0] = magnitudes[0].min(magnitudes[1]);
    let used = magnitudes.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
    let mut best = (f64::INFINITY, used);
    for bins in (LEVELS.min(used)..=used).rev() {
        let divergence = divergence(&magnitudes[..used], bins);
        if divergence < best.0 {
            best = (divergence, bins);
        }
    }
    let threshold = (best.1 as f64 * width) as f32;
    Range { lo: whole.lo.max(-threshold), hi: whole.hi.min(threshold) }
}

/// `Σ p · ln(p / q)`: `p` is the distribution with everything beyond `bins` in its last bin, `q` the
/// first `bins` bins in [`LEVELS`] levels, each spread evenly over the bins that are not empty.
fn divergence(magnitudes: &[u64], bins: usize) -> f64 {
    let (inside, outside) = magnitudes.split_at(bins);
    let clipped = outside.iter().sum::<u64>() as f64;
    let total = magnitudes.iter().sum::<u64>() as f64;
    let kept = total - clipped;
    if kept == 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for level in 0..LEVELS.min(bins) {
        let levels = LEVELS.min(bins);
        let (begin, end) = (level * bins / levels, (level + 1) * bins / levels);
        let merged = &inside[begin..end];
        let filled = merged.iter().filter(|&&n| n > 0).count() as f64;
        let q = merged.iter().sum::<u64>() as f64 / filled / kept;
        for (i, &n) in merged.iter().enumerate() {
            let last = begin + i + 1 == bins;
            let p = (n as f64 + if last { clipped } else { 0.0 }) / total;
            match (p > 0.0, n > 0) {
                (false, _) => {}
                // What was clipped falls where `q` has nothing: a small share, so that it stays finite.
                (true, false) => sum += p * libm::log(p / (1e-4 / kept)),
                (true, true) => sum += p * libm::log(p / q),
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_is_cut_off_and_an_even_distribution_is_not() {
        let even: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        let mut seen = Histogram::default();
        seen.add(&even).unwrap();
        assert!(range(&seen).hi > 0.95, "{:?}", range(&seen));
        // Most values small, as a network's are, and a few far away.
        let small = |i: i32| 0.1 * ((i % 1000) as f32 / 1000.0).powi(3);
        let far = |i: i32| if i % 10_000 == 0 { 1.0 } else { 0.0 };
        let spread: Vec<f32> = (0..100_000).map(|i| small(i) + far(i)).collect();
        let mut seen = Histogram::default();
        seen.add(&spread).unwrap();
        assert!((0.09..0.5).contains(&range(&seen).hi), "{:?}", range(&seen));
    }

    #[test]
    fn nothing_and_zeros_have_a_range() {
        assert_eq!(range(&Histogram::default()), Range { lo: 0.0, hi: 0.0 });
        let mut zeros = Histogram::default();
        zeros.add(&[0.0; 10]).unwrap();
        assert_eq!(range(&zeros), Range { lo: 0.0, hi: 0.0 });
    }
}
