//! Ranges of activations, from data that streams through the float network.

pub mod histogram;

use crate::error::{Context, Result};
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, ValueId};
use crate::quant::Range;
use crate::tensor::Tensor;
use histogram::Histogram;

/// How a range is chosen from what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Calibrator {
    /// Everything that was seen.
    MinMax,
    /// All but the outermost values: this share of them, in percent, stays inside.
    Percentile(f64),
}

impl Calibrator {
    /// The range of one value.
    pub fn range(self, seen: &Histogram) -> Range {
        match self {
            Self::MinMax => seen.range(),
            Self::Percentile(percent) => seen.percentile(percent / 100.0),
        }
    }
}

/// What calibration has seen of each value of a graph. Its size does not depend on the number of
/// samples, and merging the observers of two halves of the data equals observing all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    histograms: Vec<Option<Histogram>>,
    samples: usize,
}

impl Observer {
    /// Has seen nothing.
    pub fn new(graph: &Graph) -> Self {
        let mut histograms = vec![None; graph.values.len()];
        graph.activations().for_each(|v| histograms[v] = Some(Histogram::default()));
        Self { histograms, samples: 0 }
    }

    /// Runs one sample through the network and records every activation.
    ///
    /// # Errors
    /// The value that is not finite; inputs that do not fit.
    pub fn observe(
        &mut self,
        network: &FloatExecutor,
        graph: &Graph,
        inputs: &[Tensor<f32>],
    ) -> Result<()> {
        network.run(inputs, |v, tensor| match &mut self.histograms[v] {
            Some(histogram) => histogram.add(tensor.data()).in_node(&graph.values[v].name, "value"),
            None => Ok(()),
        })?;
        self.samples += 1;
        Ok(())
    }

    /// Adds what `other` has seen of the same graph.
    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.histograms.iter_mut().zip(other.histograms) {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                mine.merge(&theirs);
            }
        }
        self.samples += other.samples;
    }

    /// Number of samples seen.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The histogram of an activation.
    pub fn histogram(&self, v: ValueId) -> Option<&Histogram> {
        self.histograms[v].as_ref()
    }

    /// The range of each value; `None` for constants.
    pub fn ranges(&self, calibrator: Calibrator) -> Vec<Option<Range>> {
        self.histograms.iter().map(|h| h.as_ref().map(|h| calibrator.range(h))).collect()
    }
}
