//! What a few samples show of each channel of each value.

use super::{fixed, real};
use crate::data::Workers;
use crate::error::{Result, bail};
use crate::exec::float::FloatExecutor;
use crate::graph::ValueId;
use crate::ops::clip::Clip;
use crate::tensor::Tensor;

/// Bins that double the magnitude,
const BINS: usize = 16;
/// and how often it is doubled, up to the largest one of a value. What is smaller is as good as 0.
const OCTAVES: usize = 26;

/// The channels (axis 1) of one value. Parts that are merged in any order give the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStats {
    /// Numbers of a channel.
    pub count: u64,
    /// The smallest and the largest one of each.
    pub extents: Vec<(f32, f32)>,
    sums: Vec<i128>,
    squares: Vec<i128>,
    inside: Vec<u64>,
    /// Counts of magnitudes, for one channel after the other.
    bins: Vec<u32>,
    /// Bits of the number with which the bins begin.
    first: u32,
}

/// Runs `samples`; for each value what was seen of its channels, `None` for constants.
///
/// # Errors
/// Those of the float network.
pub fn observe_channels(
    network: &FloatExecutor,
    samples: &[&[Tensor<f32>]],
    largest: impl Fn(ValueId) -> f32 + Sync,
    workers: Workers,
) -> Result<Vec<Option<ChannelStats>>> {
    let graph = network.graph();
    let mut limits = vec![Clip::NONE; graph.values.len()];
    graph.nodes.iter().for_each(|node| limits[node.output] = node.clamp);
    let nothing = || -> Vec<Option<ChannelStats>> { vec![None; graph.values.len()] };
    let parts = workers.fold(samples.len(), nothing, |seen, i| {
        let see = |v: ValueId, x: &Tensor<f32>| {
            let new = || ChannelStats::new(x.shape().get(1).copied().unwrap_or(1), largest(v));
            seen[v].get_or_insert_with(new).see(x, limits[v]);
            Ok(())
        };
        network.run(samples[i], see).map(|_| ())
    })?;
    let merged = parts.into_iter().reduce(|mut all, part| {
        for (all, part) in all.iter_mut().zip(part) {
            match (all, part) {
                (Some(all), Some(part)) => all.merge(&part),
                (all, part) => *all = all.take().or(part),
            }
        }
        all
    });
    match merged {
        Some(seen) => Ok(seen),
        None => bail!(Invalid, "there are no samples"),
    }
}

impl ChannelStats {
    fn new(channels: usize, largest: f32) -> Self {
        let top = largest.max(f32::MIN_POSITIVE).to_bits() >> 23;
        Self {
            count: 0,
            extents: vec![(f32::INFINITY, f32::NEG_INFINITY); channels],
            sums: vec![0; channels],
            squares: vec![0; channels],
            inside: vec![0; channels],
            bins: vec![0; channels * BINS * OCTAVES],
            first: (top + 1).saturating_sub(OCTAVES as u32) << 23,
        }
    }

    fn see(&mut self, x: &Tensor<f32>, limits: Clip) {
        let channels = self.extents.len();
        let inner = x.shape().iter().skip(2).product::<usize>().max(1);
        for (i, plane) in x.data().chunks_exact(inner).enumerate() {
            let c = i % channels;
            let (extent, bins) = (&mut self.extents[c], &mut self.bins[c * BINS * OCTAVES..]);
            let (mut sum, mut squares, mut inside) = (0.0, 0.0, 0);
            for &x in plane {
                extent.0 = extent.0.min(x);
                extent.1 = extent.1.max(x);
                sum += x as f64;
                squares += x as f64 * x as f64;
                inside += (x > limits.lo && x < limits.hi) as u64;
                let above = x.abs().to_bits().saturating_sub(self.first) as u64;
                let bin = (above * BINS as u64) >> 23;
                let bin = &mut bins[(bin as usize).min(BINS * OCTAVES - 1)];
                *bin = bin.saturating_add(1);
            }
            self.sums[c] = self.sums[c].saturating_add(fixed(sum));
            self.squares[c] = self.squares[c].saturating_add(fixed(squares));
            self.inside[c] += inside;
        }
        self.count += (x.data().len() / channels.max(1)) as u64;
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (mine, theirs) in self.extents.iter_mut().zip(&other.extents) {
            *mine = (mine.0.min(theirs.0), mine.1.max(theirs.1));
        }
        for (mine, theirs) in [(&mut self.sums, &other.sums), (&mut self.squares, &other.squares)] {
            mine.iter_mut().zip(theirs).for_each(|(mine, &it)| *mine = mine.saturating_add(it));
        }
        self.inside.iter_mut().zip(&other.inside).for_each(|(mine, it)| *mine += it);
        self.bins
            .iter_mut()
            .zip(&other.bins)
            .for_each(|(mine, it)| *mine = mine.saturating_add(*it));
    }

    /// The largest magnitude in channel `c`.
    pub fn largest(&self, c: usize) -> f32 {
        let (lo, hi) = self.extents[c];
        lo.abs().max(hi.abs())
    }

    /// The largest magnitude of all.
    pub fn largest_of_all(&self) -> f32 {
        (0..self.extents.len()).map(|c| self.largest(c)).fold(0.0, f32::max)
    }

    /// Whether there is a negative number.
    pub fn is_signed(&self) -> bool {
        self.extents.iter().any(|(lo, _)| *lo < 0.0)
    }

    /// Mean and variance of channel `c`.
    pub fn moments(&self, c: usize) -> (f64, f64) {
        let count = self.count.max(1) as f64;
        let (mean, square) = (real(self.sums[c]) / count, real(self.squares[c]) / count);
        (mean, (square - mean * mean).max(0.0))
    }

    /// The share of channel `c` strictly inside the limits of its node.
    pub fn inside(&self, c: usize) -> f64 {
        self.inside[c] as f64 / self.count.max(1) as f64
    }

    /// Magnitudes in channel `c`, and the share of its numbers that have about this one.
    pub fn magnitudes(&self, c: usize) -> impl Iterator<Item = (f64, f64)> {
        let filled = self.bins[c * BINS * OCTAVES..][..BINS * OCTAVES].iter().enumerate();
        let half = 1 << 22;
        filled.skip(1).filter(|(_, n)| **n > 0).map(move |(bin, &n)| {
            let bits = self.first + ((((bin as u64) << 23) + half) / BINS as u64) as u32;
            (f32::from_bits(bits) as f64, n as f64 / self.count.max(1) as f64)
        })
    }
}
