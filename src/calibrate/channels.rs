//! What calibration has seen of each channel (axis 1) of a value.

use super::histogram::Histogram;
use super::{fixed, real};
use crate::ops::clip::Clip;
use crate::quant::Range;

/// Bins that double the magnitude,
const BINS: usize = 8;
/// and how often it is doubled, up to the largest one of a channel. What is smaller is as good as 0.
const OCTAVES: usize = 12;
/// Bins of a channel on each side of 0.
pub(super) const ALL_BINS: usize = BINS * OCTAVES;
/// Of a longer run of numbers of a channel at least so many are counted, evenly spread.
const COUNTED: usize = 512;

/// The channels of one value. Parts that are merged in any order give the same bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelStats {
    /// Samples of which more was seen than sums.
    pub(super) samples: u64,
    /// Numbers of a channel,
    pub(super) count: u64,
    /// and those of them that were counted.
    pub(super) counted: u64,
    pub(super) channels: Vec<Channel>,
}

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Channel {
    pub lo: f32,
    pub hi: f32,
    /// Sums of the numbers and of their squares, in [`fixed`]-point.
    pub sum: i128,
    pub squares: i128,
    /// Counted numbers strictly inside the limits of the node.
    pub inside: u64,
    /// Counts of the magnitudes of what is negative, and of all else; none if there is nothing.
    pub bins: [Vec<u32>; 2],
}

/// How the numbers of channels lie in a tensor.
struct Layout {
    channels: usize,
    /// Numbers of a channel that stand together,
    inner: usize,
    /// of which the first of so many is counted.
    stride: usize,
}

impl Layout {
    fn new(shape: &[usize]) -> Self {
        let inner = shape.iter().skip(2).product::<usize>().max(1);
        // An odd stride meets all columns of an image.
        Self { channels: shape.get(1).copied().unwrap_or(1), inner, stride: (inner / COUNTED) | 1 }
    }
}

impl Default for Channel {
    fn default() -> Self {
        let (lo, hi) = (f32::INFINITY, f32::NEG_INFINITY);
        Self { lo, hi, sum: 0, squares: 0, inside: 0, bins: [vec![], vec![]] }
    }
}

impl ChannelStats {
    /// Sees one sample's tensor `x` of this shape, whose node has these limits.
    pub(super) fn add(&mut self, x: &[f32], shape: &[usize], limits: Clip) {
        let Layout { channels, inner, stride } = Layout::new(shape);
        self.channels.resize_with(channels, Channel::default);
        for (i, plane) in x.chunks_exact(inner).enumerate() {
            self.channels[i % channels].add(plane, stride, limits);
        }
        self.add_samples(1, shape);
    }

    /// Counts samples of this shape.
    pub(super) fn add_samples(&mut self, samples: u64, shape: &[usize]) {
        let Layout { channels, inner, stride } = Layout::new(shape);
        let planes = samples * (shape.iter().product::<usize>() / inner / channels.max(1)) as u64;
        self.samples += samples;
        self.count += planes * inner as u64;
        self.counted += planes * inner.div_ceil(stride) as u64;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.count += other.count;
        self.counted += other.counted;
        let channels = self.channels.len().max(other.channels.len());
        self.channels.resize_with(channels, Channel::default);
        for (mine, theirs) in self.channels.iter_mut().zip(&other.channels) {
            mine.merge(theirs);
        }
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there are no channels.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The largest number in channel `c`.
    pub fn highest(&self, c: usize) -> f32 {
        self.channels[c].hi
    }

    /// The largest magnitude in channel `c`.
    pub fn largest(&self, c: usize) -> f32 {
        self.channels[c].largest()
    }

    /// The largest magnitude of all.
    pub fn largest_of_all(&self) -> f32 {
        self.channels.iter().map(Channel::largest).fold(0.0, f32::max)
    }

    /// The smallest and the largest number of all.
    pub(super) fn range(&self) -> (f32, f32) {
        let both = self.channels.iter().map(|channel| (channel.lo, channel.hi));
        both.fold((f32::INFINITY, f32::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether there is a negative number.
    pub fn is_signed(&self) -> bool {
        self.channels.iter().any(|channel| channel.lo < 0.0)
    }

    /// Mean and variance of channel `c`.
    pub fn moments(&self, c: usize) -> (f64, f64) {
        let (count, channel) = (self.count.max(1) as f64, &self.channels[c]);
        let (mean, square) = (real(channel.sum) / count, real(channel.squares) / count);
        (mean, (square - mean * mean).max(0.0))
    }

    /// The share of channel `c` strictly inside the limits of its node.
    pub fn inside(&self, c: usize) -> f64 {
        self.channels[c].inside as f64 / self.counted.max(1) as f64
    }

    /// Magnitudes in channel `c`, and the share of its numbers that have about this one.
    pub fn magnitudes(&self, c: usize) -> impl Iterator<Item = (f64, f64)> {
        let counted = self.counted.max(1) as f64;
        self.channels[c].bins().map(move |(x, n)| (x.abs(), n as f64 / counted))
    }

    /// The sum of each channel, in [`fixed`]-point.
    pub(super) fn sums(&self) -> impl Iterator<Item = i128> {
        self.channels.iter().map(|channel| channel.sum)
    }

    /// The sums, had each channel been multiplied by its factor, and nothing else.
    pub(super) fn rescaled_sums(&self, factors: &[f32]) -> Self {
        let scaled = self.channels.iter().zip(factors).map(|(channel, &f)| Channel {
            sum: fixed(real(channel.sum) * f as f64),
            ..Channel::default()
        });
        Self { channels: scaled.collect(), ..Self::default() }
    }

    /// The histogram of all channels, had each been multiplied by its factor, where `seen` is that of the channels as
    /// they are: the range is exact, all else as near as the bins of channels are.
    pub(super) fn rescaled(&self, factors: &[f32], seen: &Histogram) -> Histogram {
        let scaled = || self.channels.iter().zip(factors);
        let lo = scaled().map(|(channel, &f)| channel.lo * f).fold(f32::INFINITY, f32::min);
        let hi = scaled().map(|(channel, &f)| channel.hi * f).fold(f32::NEG_INFINITY, f32::max);
        let mut all = Histogram::of_range(Range { lo, hi }, seen);
        for (channel, &f) in scaled() {
            let filled: u64 = channel.bins().map(|(_, n)| n).sum();
            all.add_counted(0.0, self.counted.saturating_sub(filled));
            channel.bins().for_each(|(x, n)| all.add_counted(x as f32 * f, n));
        }
        all
    }
}

impl Channel {
    /// Whether this can have been seen in a channel of which so many numbers were counted.
    pub fn is_possible(&self, counted: u64) -> bool {
        let filled: u64 = self.bins.iter().flatten().map(|&n| n as u64).sum();
        let range = self.lo.is_finite() && self.hi.is_finite() && self.lo <= self.hi;
        let signs = [self.lo < 0.0, self.hi > 0.0];
        let is_there = |(sign, bins): (bool, &Vec<u32>)| {
            bins.is_empty() || sign && bins.len() == ALL_BINS && bins.iter().any(|&n| n > 0)
        };
        range
            && filled <= counted
            && self.inside <= counted
            && self.squares >= 0
            && signs.into_iter().zip(&self.bins).all(is_there)
    }

    fn largest(&self) -> f32 {
        self.lo.abs().max(self.hi.abs())
    }

    fn add(&mut self, plane: &[f32], stride: usize, limits: Clip) {
        let before = self.top();
        // Four sums at a time, in an order that is always the same.
        let (fours, rest) = plane.as_chunks::<4>();
        let (mut sums, mut squares) = ([0f64; 4], [0f64; 4]);
        let (mut lo, mut hi) = ([self.lo; 4], [self.hi; 4]);
        let mut see = |i: usize, x: f32| {
            lo[i] = if x < lo[i] { x } else { lo[i] };
            hi[i] = if x > hi[i] { x } else { hi[i] };
            squares[i] += x as f64 * x as f64;
        };
        for four in fours {
            (0..4).for_each(|i| see(i, four[i]));
            sums.iter_mut().zip(four).for_each(|(sum, &x)| *sum += x as f64);
        }
        rest.iter().for_each(|&x| see(0, x));
        let rest: f64 = rest.iter().map(|&x| x as f64).sum();
        self.sum = self.sum.saturating_add(fixed(sums.iter().sum::<f64>() + rest));
        self.squares = self.squares.saturating_add(fixed(squares.iter().sum::<f64>()));
        self.lo = lo.into_iter().fold(self.lo, f32::min) + 0.0;
        self.hi = hi.into_iter().fold(self.hi, f32::max) + 0.0;
        let top = self.top();
        self.bins.iter_mut().for_each(|bins| lower(bins, before, top));
        for &x in plane.iter().step_by(stride) {
            self.inside += (x > limits.lo && x < limits.hi) as u64;
            if let Some(bin) = bin(x, top) {
                let bins = &mut self.bins[(x > 0.0) as usize];
                bins.resize(ALL_BINS, 0);
                bins[bin] = bins[bin].saturating_add(1);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (self.top(), other.top());
        self.lo = self.lo.min(other.lo);
        self.hi = self.hi.max(other.hi);
        self.sum = self.sum.saturating_add(other.sum);
        self.squares = self.squares.saturating_add(other.squares);
        self.inside += other.inside;
        let top = mine.max(theirs);
        for (bins, other) in self.bins.iter_mut().zip(&other.bins) {
            let mut other = other.clone();
            lower(bins, mine, top);
            lower(&mut other, theirs, top);
            bins.resize(bins.len().max(other.len()), 0);
            bins.iter_mut().zip(&other).for_each(|(n, &more)| *n = n.saturating_add(more));
        }
    }

    /// The exponent of the largest magnitude, as its bits are.
    fn top(&self) -> u32 {
        if self.lo > self.hi { 0 } else { self.largest().to_bits() >> 23 }
    }

    /// The middle of each bin that is not empty, and its count.
    fn bins(&self) -> impl Iterator<Item = (f64, u64)> {
        let (half, first) = (1 << 22, first(self.top()));
        [-1.0, 1.0].into_iter().zip(&self.bins).flat_map(move |(sign, bins)| {
            let filled = bins.iter().enumerate().filter(|(_, n)| **n > 0);
            filled.map(move |(bin, &n)| {
                let bits = first + ((((bin as u64) << 23) + half) / BINS as u64) as u32;
                (sign * f32::from_bits(bits) as f64, n as u64)
            })
        })
    }
}

/// Bits of the number with which the bins of a channel begin.
fn first(top: u32) -> u32 {
    (top + 1).saturating_sub(OCTAVES as u32) << 23
}

/// The bin of a number, unless it is as good as 0, in a channel whose largest magnitude has this exponent.
fn bin(x: f32, top: u32) -> Option<usize> {
    let above = x.abs().to_bits().checked_sub(first(top))?;
    Some(((above as u64 * BINS as u64) >> 23) as usize).filter(|_| x != 0.0)
}

/// Bins of a channel whose largest magnitude has had the exponent `before`, and has `top` now.
fn lower(bins: &mut Vec<u32>, before: u32, top: u32) {
    let octaves = first(top).saturating_sub(first(before)) >> 23;
    let by = (octaves as usize * BINS).min(bins.len());
    bins.copy_within(by.., 0);
    let kept = bins.len() - by;
    bins[kept..].fill(0);
    if by > 0 && bins.iter().all(|&n| n == 0) {
        bins.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Whatever the magnitudes, and in whatever order they come.
    #[test]
    fn any_order_and_any_parts_give_the_same_bits() {
        let mut rng = Rng(5);
        let mut sample = |octaves: u64| -> Vec<f32> {
            let number = |_| {
                let size = 2f32.powi((rng.next() % octaves) as i32 - octaves as i32 / 2);
                match rng.next() % 4 {
                    0 => 0.0,
                    1 => -size,
                    _ => size * 1.37,
                }
            };
            (0..12).map(number).collect()
        };
        for octaves in [1, 6, 30, 56] {
            let samples: Vec<Vec<f32>> = (0..9).map(|_| sample(octaves)).collect();
            let of = |samples: &mut dyn Iterator<Item = &Vec<f32>>| {
                let mut stats = ChannelStats::default();
                samples.for_each(|x| stats.add(x, &[1, 3, 4], Clip::NONE));
                stats
            };
            let whole = of(&mut samples.iter());
            assert_eq!(of(&mut samples.iter().rev()), whole, "{octaves} octaves");
            let mut merged = of(&mut samples[4..].iter());
            merged.merge(&of(&mut samples[..4].iter()));
            assert_eq!(merged, whole, "{octaves} octaves");
            assert!(whole.channels.iter().all(|channel| channel.is_possible(whole.counted)));
        }
    }

    #[test]
    fn channels_by_hand() {
        let mut stats = ChannelStats::default();
        let x = [1.0, -3.0, 0.0, 2.0, 0.0, 0.0, 1e-9, 6.0];
        stats.add(&x, &[1, 2, 4], Clip { lo: 0.0, hi: 6.0 });
        assert_eq!((stats.largest(0), stats.highest(0), stats.largest_of_all()), (3.0, 2.0, 6.0));
        assert_eq!(stats.moments(0), (0.0, 3.5));
        assert_eq!((stats.inside(0), stats.inside(1)), (0.5, 0.25));
        let near = |c: usize| stats.magnitudes(c).collect::<Vec<_>>();
        let [negative, one, two] = near(0)[..] else { panic!("{:?}", near(0)) };
        for ((x, share), real) in [(negative, 3.0), (one, 1.0), (two, 2.0)] {
            assert!((x / real - 1.0f64).abs() < 0.07 && share == 0.25, "{x} {share}");
        }
        // What is far smaller than the largest number of its channel counts as 0.
        assert_eq!(near(1).len(), 1);
    }
}
