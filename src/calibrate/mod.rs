//! Ranges of activations, from data that streams through the float network.

pub mod channels;
mod entropy;
pub mod histogram;
mod kept;
mod mse;
mod stats;
#[cfg(test)]
mod tests;

use crate::data::{Preprocess, Samples, Workers};
use crate::error::{Context, Result, bail};
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, ValueId};
use crate::ops::clip::Clip;
use crate::ops::{Op, OutputParams};
use crate::quant::{Range, Scheme, Width};
use crate::tensor::Tensor;
use channels::ChannelStats;
use histogram::Histogram;
use kept::Kept;
pub(crate) use kept::hash;

/// How a range is chosen from what was seen.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Calibrator {
    /// For each value the one of `Percentile(99.99)`, `MinMax` and `Mse` that costs its readers least, on a few of
    /// the samples; `Percentile(99.99)` where none were kept.
    Auto,
    /// Everything that was seen.
    MinMax,
    /// From the mean of the samples' minima to the mean of their maxima.
    MovingAverage,
    /// All but the outermost values: this share of them, in percent, stays inside.
    Percentile(f64),
    /// The range with the smallest mean squared error under this scheme.
    Mse(Scheme),
    /// The range whose codes keep most of the distribution's information (Kullback-Leibler).
    Entropy,
}

impl Calibrator {
    /// A good choice for this scheme: what costs least, and everything where 16 bits have codes to spare for
    /// outliers.
    pub fn of(scheme: Scheme) -> Self {
        match scheme.activation_width {
            Width::W4 | Width::W8 => Self::Auto,
            Width::W16 | Width::W32 => Self::MinMax,
        }
    }

    /// Refuses a share of the values that is none.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) with the percentage.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Percentile(percent) if !(percent > 0.0 && percent <= 100.0) => {
                bail!(Range, "percentile {percent}: expected more than 0, at most 100")
            }
            _ => Ok(()),
        }
    }

    /// The range of one value, by itself.
    pub fn range(self, seen: &Histogram) -> Range {
        match self {
            Self::MinMax => seen.range(),
            Self::MovingAverage => seen.mean_range(),
            Self::Auto => seen.percentile(0.9999),
            Self::Percentile(percent) => seen.percentile(percent / 100.0),
            Self::Mse(scheme) => mse::range(seen, scheme),
            Self::Entropy => entropy::range(seen),
        }
    }
}

/// What calibration has seen of each value of a graph, and a few samples. Its size does not depend on the number of
/// samples, and merging the observers of two halves of the data gives the bits of observing all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    seen: Vec<Option<Seen>>,
    /// Values that are never clipped; see [`ranges`](Self::ranges).
    whole: Vec<bool>,
    /// Names of the values.
    names: Vec<String>,
    kept: Kept,
    /// The sum of the samples' hashes.
    hash: Option<u64>,
    preprocess: Option<Preprocess>,
}

/// Runs every sample through the network and records every activation. The parts that the threads have seen
/// are merged, which gives the bits of a single pass.
///
/// # Errors
/// The sample, and the value if a number is not finite.
pub fn observe(
    network: &FloatExecutor,
    samples: &dyn Samples,
    workers: Workers,
) -> Result<Observer> {
    let nothing = || Observer::new(network.graph());
    let parts = workers.fold(samples.len(), nothing, |observer, i| {
        observer.see_sample(network, &samples.get(i)?)
    })?;
    let merged = parts.into_iter().reduce(|mut a, b| {
        a.merge(b);
        a
    });
    Ok(merged.unwrap_or_else(nothing))
}

/// What calibration has seen of one value.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    histogram: Histogram,
    channels: ChannelStats,
    /// Those of the node.
    limits: Clip,
}

impl Observer {
    /// Has seen nothing.
    pub fn new(graph: &Graph) -> Self {
        let mut seen = vec![None; graph.values.len()];
        graph.activations().for_each(|v| seen[v] = Some(Seen::new(Clip::NONE)));
        graph.nodes.iter().for_each(|node| seen[node.output] = Some(Seen::new(node.clamp)));
        let names = graph.values.iter().map(|v| v.name.clone()).collect();
        Self {
            seen,
            whole: results(graph),
            names,
            kept: Kept::default(),
            hash: Some(0),
            preprocess: None,
        }
    }

    /// Runs a sample through the network and records every activation; may keep it.
    ///
    /// # Errors
    /// Inputs that do not fit, and those of [`see`](Self::see).
    pub fn see_sample(&mut self, network: &FloatExecutor, inputs: &[Tensor<f32>]) -> Result<()> {
        network.run(inputs, |v, tensor| self.see(v, tensor))?;
        let hash = self.kept.see(inputs);
        self.hash = self.hash.map(|sum| sum.wrapping_add(hash));
        Ok(())
    }

    /// A few samples, one tensor for each input, of those that were seen whole.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = &[Tensor<f32>]> {
        self.kept.samples()
    }

    /// How many samples differ; `None` if more than all that can be kept.
    pub fn distinct(&self) -> Option<u64> {
        self.kept.all().map(|all| all as u64)
    }

    /// Whether all samples of `other` seem to be among those that were seen: of those of the lowest hashes, all that
    /// would be kept here are.
    pub fn holds(&self, other: &Self) -> bool {
        self.kept.holds(&other.kept)
    }

    /// Records the tensor of value `v` in one sample; what is no activation is ignored.
    ///
    /// # Errors
    /// The value, if a number in it is not finite.
    pub fn see(&mut self, v: ValueId, tensor: &Tensor<f32>) -> Result<()> {
        match self.seen.get_mut(v) {
            Some(Some(seen)) => seen.add(tensor).in_value(&self.names[v], "value"),
            _ => Ok(()),
        }
    }

    /// Adds what `other` has seen of the same graph.
    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.seen.iter_mut().zip(other.seen) {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                mine.merge(&theirs);
            }
        }
        self.kept.merge(other.kept);
        self.hash = self.hash.zip(other.hash).map(|(a, b)| a.wrapping_add(b));
        self.preprocess = self.preprocess.take().or(other.preprocess);
    }

    /// Number of samples seen.
    pub fn samples(&self) -> u64 {
        self.seen.iter().flatten().map(|seen| seen.histogram.samples).max().unwrap_or(0)
    }

    /// Whether a value is never clipped; see [`ranges`](Self::ranges).
    pub fn is_whole(&self, v: ValueId) -> bool {
        self.whole[v]
    }

    /// The histogram of an activation; of no value that was not there when it was calibrated.
    pub fn histogram(&self, v: ValueId) -> Option<&Histogram> {
        self.seen.get(v)?.as_ref().map(|seen| &seen.histogram)
    }

    /// What was seen of the channels (axis 1) of an activation; `None` if statistics from a file do not tell.
    pub fn channels(&self, v: ValueId) -> Option<&ChannelStats> {
        let Seen { histogram, channels, .. } = self.seen.get(v)?.as_ref()?;
        (channels.samples == histogram.samples).then_some(channels)
    }

    /// What would have been seen, had each channel (axis 1) of each value been multiplied by its factor: what has none but
    /// 1 stays; of others ranges and the means of channels are exact, and all else is as near as their bins are.
    pub fn rescaled(&self, factors: &[Vec<f32>]) -> Self {
        let mut rescaled = self.clone();
        for (seen, factors) in rescaled.seen.iter_mut().zip(factors) {
            let changed = seen.as_mut().filter(|_| factors.iter().any(|&f| f != 1.0));
            let Some(Seen { histogram, channels, .. }) = changed else { continue };
            *histogram = channels.rescaled(factors, histogram);
            *channels = channels.rescaled_sums(factors);
        }
        rescaled
    }

    /// The mean of each channel (axis 1) of an activation of shape `shape`.
    pub fn channel_means(&self, v: ValueId, shape: &[usize]) -> Option<Vec<f64>> {
        let Seen { histogram, channels, .. } = self.seen[v].as_ref()?;
        let per_channel = shape.iter().product::<usize>() as u64 / channels.len().max(1) as u64;
        let count = (per_channel * histogram.samples).max(1) as f64;
        Some(channels.sums().map(|sum| real(sum) / count).collect())
    }

    /// The range of each value; `None` for constants.
    ///
    /// A result of the network, and what a final softmax is computed from, keeps everything that was
    /// seen, whatever the calibrator: clipping would make the largest outputs equal, and it is by them
    /// that a network answers. So does the result of any softmax.
    pub fn ranges(&self, calibrator: Calibrator) -> Vec<Option<Range>> {
        (0..self.seen.len()).map(|v| self.range_of(v, calibrator)).collect()
    }

    /// The range of one value, see [`ranges`](Self::ranges).
    pub fn range_of(&self, v: ValueId, calibrator: Calibrator) -> Option<Range> {
        let calibrator = if self.whole[v] { Calibrator::MinMax } else { calibrator };
        Some(calibrator.range(self.histogram(v)?))
    }

    /// A number for all samples that were seen whole, in any order; `None` if statistics from a file do not tell.
    pub fn hash(&self) -> Option<u64> {
        self.hash
    }

    /// How the samples were made, where that is known.
    pub fn preprocess(&self) -> Option<&Preprocess> {
        self.preprocess.as_ref()
    }

    /// Says how the samples were made.
    pub fn set_preprocess(&mut self, preprocess: Option<Preprocess>) {
        self.preprocess = preprocess;
    }
}

/// For each value, whether it is an output, or becomes one by a softmax or by moving codes alone, or comes
/// from a softmax.
fn results(graph: &Graph) -> Vec<bool> {
    let mut results = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|&v| results[v] = true);
    for node in graph.nodes.iter().rev() {
        let moves = node.op.output_params() == OutputParams::SameAsInput;
        if results[node.output] && (moves || matches!(node.op, Op::Softmax(_))) {
            results[node.inputs[0]] = true;
        }
    }
    let units = graph.nodes.iter().filter(|n| n.op.output_params() == OutputParams::Unit);
    units.for_each(|node| results[node.output] = true);
    results
}

impl Seen {
    fn new(limits: Clip) -> Self {
        Self { histogram: Histogram::default(), channels: ChannelStats::default(), limits }
    }

    fn add(&mut self, tensor: &Tensor<f32>) -> Result<()> {
        self.histogram.add(tensor.data())?;
        self.channels.add(tensor.data(), tensor.shape(), self.limits);
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.histogram.merge(&other.histogram);
        self.channels.merge(&other.channels);
    }
}

/// A number in units of `2^-60`. Sums of these do not depend on their order, unlike sums of floats.
fn fixed(x: f64) -> i128 {
    (x * (1u64 << 60) as f64) as i128
}

fn real(fixed: i128) -> f64 {
    fixed as f64 / (1u64 << 60) as f64
}
