//! A histogram of fixed size that needs no range in advance.
//!
//! Bins are `2^e` wide and aligned at 0. When a value falls outside, `e` grows and neighbouring bins
//! are added, which is exact: `⌊⌊x / 2^e⌋ / 2⌋ = ⌊x / 2^(e+1)⌋`. So the histogram depends on the set of
//! values only, not on their order, and merging two gives the bits that one pass would have given.

use super::{fixed, real};
use crate::error::{Result, bail};
use crate::quant::Range;

/// Bins on each side of 0: a power of two.
const HALF: usize = 2048;
/// Number of bins.
pub(super) const BINS: usize = 2 * HALF;
/// Values that are looked at together.
const SOME: usize = 16;
/// Added to a number below `2^22`, it leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Exponent of the narrowest bins: values below `2^(MIN_EXPONENT + 11)` share few bins, on purpose.
const MIN_EXPONENT: i32 = -100;

/// Integer counts of the values of one tensor over all samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// `counts[i]` is the number of values in `[(i − 2048) · 2^e, (i − 2047) · 2^e)`.
    pub(super) counts: Vec<u64>,
    /// The exponent `e` of the bin width.
    pub(super) exponent: i32,
    pub(super) lo: f32,
    pub(super) hi: f32,
    /// Sums of the samples' minima and maxima, in [`fixed`]-point.
    pub(super) lo_sum: i128,
    pub(super) hi_sum: i128,
    pub(super) samples: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let (lo, hi) = (f32::INFINITY, f32::NEG_INFINITY);
        let counts = vec![0; BINS];
        Self { counts, exponent: MIN_EXPONENT, lo, hi, lo_sum: 0, hi_sum: 0, samples: 0 }
    }
}

impl Histogram {
    /// Counts every element of one sample's tensor `x`.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) if one is NaN or infinite.
    pub fn add(&mut self, x: &[f32]) -> Result<()> {
        let Some(&first) = x.first() else { return Ok(()) };
        // Several at a time; and the largest magnitude, of which infinities and NaN have the greatest bits.
        let (mut lo, mut hi, mut largest) = ([first; SOME], [first; SOME], [0; SOME]);
        let mut see = |i: usize, x: f32| {
            lo[i] = if x < lo[i] { x } else { lo[i] };
            hi[i] = if x > hi[i] { x } else { hi[i] };
            largest[i] = largest[i].max(x.abs().to_bits() as i32);
        };
        let (some, rest) = x.as_chunks::<SOME>();
        some.iter().for_each(|some| (0..SOME).for_each(|i| see(i, some[i])));
        rest.iter().for_each(|&x| see(0, x));
        if largest.iter().any(|&bits| bits >= f32::INFINITY.to_bits() as i32) {
            let bad = x.iter().find(|x| !x.is_finite()).unwrap_or(&f32::NAN);
            bail!(Range, "the network computed {bad} here");
        }
        // Which of two zeros is smaller, machines do not agree about. There is one zero here.
        let lo = lo.into_iter().fold(first, f32::min) + 0.0;
        let hi = hi.into_iter().fold(first, f32::max) + 0.0;
        self.lo = self.lo.min(lo);
        self.hi = self.hi.max(hi);
        self.lo_sum = self.lo_sum.saturating_add(fixed(lo as f64));
        self.hi_sum = self.hi_sum.saturating_add(fixed(hi as f64));
        self.samples += 1;
        self.fit();
        match x.len() < BINS {
            true => self.count::<1>(x),
            false => self.count::<4>(x),
        }
        Ok(())
    }

    /// An empty one of this range, of as many samples as `seen`, whose ends are moved in proportion.
    pub(super) fn of_range(Range { lo, hi }: Range, seen: &Self) -> Self {
        let moved = |sum: i128, from: f32, to: f32| match from == 0.0 {
            true => fixed(to as f64 * seen.samples as f64),
            false => fixed(real(sum) * (to as f64 / from as f64)),
        };
        let (lo_sum, hi_sum) = (moved(seen.lo_sum, seen.lo, lo), moved(seen.hi_sum, seen.hi, hi));
        let mut empty = Self { lo, hi, lo_sum, hi_sum, samples: seen.samples, ..Self::default() };
        empty.fit();
        empty
    }

    /// Counts `n` numbers that are about `x`.
    pub(super) fn add_counted(&mut self, x: f32, n: u64) {
        if let Some(bin) = self.bin(x.clamp(self.lo, self.hi)) {
            self.counts[bin] += n;
        }
    }

    /// Has bins for the whole range.
    fn fit(&mut self) {
        while self.bin(self.lo).is_none() || self.bin(self.hi).is_none() {
            self.widen();
        }
    }

    /// Counts what is in the range already. Neighbours are often equal, and to count one would have to wait for the
    /// count of the other: they go to different ones of `T` tables.
    fn count<const T: usize>(&mut self, x: &[f32]) {
        let per_width = self.per_width() as f32;
        let width = 1.0 / per_width;
        // `⌊x / width⌋`, as the nearest integer, which stands in the lowest bits, or one less.
        let bin = |x: f32| {
            let nearest = x * per_width + ROUND;
            let less = x < (nearest - ROUND) * width;
            nearest.to_bits() as i32 - ROUND.to_bits() as i32 - less as i32 + HALF as i32
        };
        let mut bins = [0; 256];
        // As many as a table can count.
        for x in x.chunks(1 << 31) {
            let mut counts = [[0u32; BINS]; T];
            for x in x.chunks(bins.len()) {
                bins.iter_mut().zip(x).for_each(|(to, &x)| *to = bin(x));
                let (some, rest) = bins[..x.len()].as_chunks::<T>();
                for bins in some {
                    for i in 0..T {
                        counts[i][bins[i] as usize % BINS] += 1;
                    }
                }
                rest.iter().for_each(|&bin| counts[0][bin as usize % BINS] += 1);
            }
            for counts in counts {
                self.counts.iter_mut().zip(counts).for_each(|(all, count)| *all += count as u64);
            }
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.exponent < other.exponent {
            self.widen();
        }
        while other.exponent < self.exponent {
            other.widen();
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.lo = self.lo.min(other.lo);
        self.hi = self.hi.max(other.hi);
        self.lo_sum = self.lo_sum.saturating_add(other.lo_sum);
        self.hi_sum = self.hi_sum.saturating_add(other.hi_sum);
        self.samples += other.samples;
    }

    /// Number of values seen.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Smallest and largest value seen; `0..0` if there was none.
    pub fn range(&self) -> Range {
        if self.lo > self.hi {
            Range { lo: 0.0, hi: 0.0 }
        } else {
            Range { lo: self.lo, hi: self.hi }
        }
    }

    /// From the mean of the samples' minima to the mean of their maxima.
    pub fn mean_range(&self) -> Range {
        let mean = |sum: i128| (real(sum) / self.samples.max(1) as f64) as f32;
        let Range { lo, hi } = self.range();
        // Beyond 2^67 the sums have stopped counting.
        Range { lo: mean(self.lo_sum).max(lo), hi: mean(self.hi_sum).min(hi) }
    }

    /// Centre and count of each bin that is not empty.
    pub fn bins(&self) -> impl Iterator<Item = (f32, u64)> {
        let filled = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(bin, &n)| {
            let centre = (bin as f64 - HALF as f64 + 0.5) / self.per_width();
            // Zeros, of which a ReLU makes many, are at the edge of their bin.
            ((if bin == HALF { 0.0 } else { centre as f32 }).clamp(self.lo, self.hi), n)
        })
    }

    /// The share of the energy that lies beyond `lo..hi`: `Σ (x − cut(x))² / Σ x²` over the centres of bins.
    pub fn energy_beyond(&self, lo: f32, hi: f32) -> f64 {
        let square = |x: f32, n: u64| x as f64 * x as f64 * n as f64;
        let all: f64 = self.bins().map(|(x, n)| square(x, n)).sum();
        let cut: f64 = self.bins().map(|(x, n)| square(x - x.clamp(lo, hi), n)).sum();
        if all > 0.0 { cut / all } else { 0.0 }
    }

    /// Counts of `|x|` in bins from 0 on, and the width of a bin.
    pub fn magnitudes(&self) -> (Vec<u64>, f64) {
        let (negative, positive) = self.counts.split_at(HALF);
        let both = positive.iter().zip(negative.iter().rev()).map(|(p, n)| p + n);
        (both.collect(), 1.0 / self.per_width())
    }

    /// The narrowest range of whole bins outside of which lie at most `(1 − share) / 2` of the values
    /// on either side; never wider than [`range`](Self::range).
    pub fn percentile(&self, share: f64) -> Range {
        let allowed = (self.total() as f64 * (1.0 - share) / 2.0).floor() as u64;
        let keeps = |outside: &mut u64, &count: &u64| {
            *outside += count;
            Some(*outside <= allowed)
        };
        let below = self.counts.iter().scan(0, keeps).take_while(|&skip| skip).count();
        let above = self.counts.iter().rev().scan(0, keeps).take_while(|&skip| skip).count();
        let edge = |bin: i64| ((bin - HALF as i64) as f64 / self.per_width()) as f32;
        let Range { lo, hi } = self.range();
        let lo = edge(below as i64).max(lo);
        Range { lo, hi: edge((BINS - above) as i64).min(hi).max(lo) }
    }

    /// Number of bins in an interval of length 1.
    fn per_width(&self) -> f64 {
        2f64.powi(-self.exponent)
    }

    pub(super) fn bin(&self, x: f32) -> Option<usize> {
        let bin = (x as f64 * self.per_width()).floor() + HALF as f64;
        (0.0..BINS as f64).contains(&bin).then_some(bin as usize)
    }

    /// Doubles the width of the bins.
    fn widen(&mut self) {
        let pairs: Vec<u64> = self.counts.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
        self.counts.fill(0);
        self.counts[HALF / 2..][..HALF].copy_from_slice(&pairs);
        self.exponent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(x: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.add(x).unwrap();
        histogram
    }

    #[test]
    fn ranges_by_hand() {
        let x: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let h = of(&x);
        assert_eq!(h.range(), Range { lo: 0.0, hi: 0.9999 });
        assert_eq!(h.percentile(1.0), h.range());
        let Range { lo, hi } = h.percentile(0.9);
        // A bin is 1/2048 wide here.
        assert!(
            (lo - 0.05).abs() <= 1.0 / 2048.0 && (hi - 0.95).abs() <= 1.0 / 2048.0,
            "{lo} {hi}"
        );
        assert_eq!(Histogram::default().range(), Range { lo: 0.0, hi: 0.0 });
    }

    #[test]
    fn an_outlier_is_left_out() {
        let mut x = vec![1.0; 100_000];
        x[7] = 1000.0;
        let hi = of(&x).percentile(0.9999).hi;
        assert!((1.0..=2.0).contains(&hi), "{hi}");
    }

    #[test]
    fn extreme_values_are_counted_and_infinite_ones_refused() {
        let h = of(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, -1e-45, 0.0]);
        assert_eq!(h.total(), 5);
        assert!(Histogram::default().add(&[1.0, f32::NAN]).is_err());
        assert!(Histogram::default().add(&[f32::INFINITY]).is_err());
    }

    /// Against the definition; at the edges of bins of every width, and just beside them.
    #[test]
    fn values_are_counted_in_their_bins() {
        for exponent in [-100, -60, -12, -1, 0, 1, 2, 60, 116, 117] {
            let width = 2f64.powi(exponent);
            let edges = (-2047..2048).map(|bin| (bin as f64 * width) as f32);
            let tiny = [0.0, -0.0, 1e-45, -1e-45, f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
            let beside = edges.flat_map(|x| [x.next_down(), x, x.next_up()]);
            let x: Vec<f32> = tiny.into_iter().chain(beside).filter(|x| x.is_finite()).collect();
            for x in [&x[..], &x[x.len() - 100..], &x[..6]] {
                let mut counts = vec![0; BINS];
                let histogram = Histogram { exponent, ..Histogram::default() };
                let inside = |x: &&f32| histogram.bin(**x).is_some();
                let x: Vec<f32> = x.iter().filter(inside).copied().collect();
                x.iter().for_each(|&x| {
                    counts[((x as f64 / width).floor() + HALF as f64) as usize] += 1
                });
                let mut counted = [histogram.clone(), histogram];
                counted[0].count::<1>(&x);
                counted[1].count::<4>(&x);
                counted.iter().for_each(|h| assert_eq!(h.counts, counts, "bins of 2^{exponent}"));
            }
        }
    }

    /// Wherever it stands, and whatever its sign.
    #[test]
    fn zeros_are_one_and_others_are_refused() {
        for n in [1, 15, 16, 17, 40] {
            for at in 0..n {
                let mut x = vec![1.0; n];
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[at] = bad;
                    let error = Histogram::default().add(&x).unwrap_err().to_string();
                    assert!(error.contains(&format!("computed {bad}")), "{error}");
                }
                x[at] = -0.0;
                assert_eq!(of(&x).lo.to_bits(), 0);
            }
        }
        assert_eq!(of(&[-0.0, 0.0]), of(&[0.0, -0.0]));
        assert_eq!(of(&[-0.0, -1.0]).hi.to_bits(), 0);
    }

    proptest! {
        /// Any split and any order give the bits of one pass.
        #[test]
        fn merging_equals_one_pass(
            mut x in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 1..60),
            cut in 0usize..60,
        ) {
            let whole = of(&x);
            let (a, b) = x.split_at(cut.min(x.len()));
            let (mut merged, b) = (of(a), of(b));
            merged.merge(&b);
            // Two samples or one: all else is equal.
            (merged.lo_sum, merged.hi_sum, merged.samples) = (whole.lo_sum, whole.hi_sum, whole.samples);
            prop_assert_eq!(&merged, &whole);
            x.reverse();
            prop_assert_eq!(&of(&x), &whole);
        }
    }
}
