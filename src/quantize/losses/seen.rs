//! What samples show of one value, as real numbers and as integers.

use crate::ops::clip::Clip;
use crate::quant::{QuantParams, Sqnr, Width};
use crate::tensor::Tensor;

use super::FEW;

/// A channel that varies over more steps should not be one code.
const DEAD: f32 = 16.0;

/// One value on the samples that were run.
pub struct Seen {
    pub sqnr: Sqnr,
    /// Along each axis that may be that of channels.
    axes: Vec<Channels>,
}

/// Smallest and largest number of each channel along an axis: of the real numbers, and of what the codes stand for.
struct Channels {
    axis: usize,
    real: Vec<Extent>,
    computed: Vec<Extent>,
}

#[derive(Clone, Copy)]
struct Extent(f32, f32);

impl Extent {
    const NONE: Self = Self(f32::INFINITY, f32::NEG_INFINITY);

    fn see(&mut self, Self(lo, hi): Self) {
        *self = Self(self.0.min(lo), self.1.max(hi));
    }

    fn span(self) -> f32 {
        self.1 - self.0
    }
}

impl Channels {
    fn new(axis: usize, size: usize) -> Self {
        Self { axis, real: vec![Extent::NONE; size], computed: vec![Extent::NONE; size] }
    }

    fn see(&mut self, real: &Tensor<f32>, computed: &Tensor<f32>) {
        let inner = real.shape()[self.axis + 1..].iter().product::<usize>().max(1);
        for (extents, tensor) in [(&mut self.real, real), (&mut self.computed, computed)] {
            for (i, part) in tensor.data().chunks(inner).enumerate() {
                let channel = i % extents.len();
                part.iter().for_each(|&x| extents[channel].see(Extent(x, x)));
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.real, &other.real), (&mut self.computed, &other.computed)]
        {
            mine.iter_mut().zip(theirs).for_each(|(mine, &theirs)| mine.see(theirs));
        }
    }
}

/// How many channels of a value are in some state, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub channels: usize,
    pub of: usize,
}

impl Seen {
    pub fn new(real: &Tensor<f32>, computed: &Tensor<f32>) -> Self {
        let shape = real.shape();
        let mut axes = vec![1, shape.len().saturating_sub(1)];
        axes.dedup();
        axes.retain(|&axis| shape.get(axis).is_some_and(|&size| size > 1));
        let axes = axes.into_iter().map(|axis| {
            let mut channels = Channels::new(axis, shape[axis]);
            channels.see(real, computed);
            channels
        });
        let mut sqnr = Sqnr::default();
        sqnr.add(real.data(), computed.data());
        Self { sqnr, axes: axes.collect() }
    }

    pub fn merge(&mut self, other: &Self) {
        self.sqnr.merge(other.sqnr);
        self.axes.iter_mut().zip(&other.axes).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    /// Channels of fewer than [`FEW`] codes, of those that 8 bits for all that lies within `limits` would give as many;
    /// along the axis where they are the largest share.
    pub fn few(&self, params: &QuantParams, limits: Clip) -> Share {
        let has_few = |span: f32, step: f32| ((span / step) as f64 + 1.0) < FEW;
        let own = (limits.hi - limits.lo) / ((1u32 << Width::W8.bits()) - 1) as f32;
        let count = |channels: &Channels| {
            let spans = channels.real.iter().map(|extent| extent.span());
            let spans =
                spans.filter(|&span| span > 0.0 && !(own.is_finite() && has_few(span, own)));
            let few = spans.clone().filter(|&span| has_few(span, params.scale[0]));
            Share { channels: few.count(), of: spans.count() }
        };
        let share = |it: &Share| (1000 * it.channels).checked_div(it.of);
        self.axes.iter().map(count).max_by_key(share).unwrap_or(Share { channels: 0, of: 0 })
    }

    /// Channels along the axis 1 that vary over more than [`DEAD`] steps, but never as codes.
    pub fn silenced(&self, params: &QuantParams) -> Share {
        let least = DEAD * params.scale[0];
        self.count(|real, computed| real.span() > least && computed.span() == 0.0)
    }

    /// Channels along the axis 1 that are one number throughout.
    pub fn constant(&self) -> Share {
        self.count(|real, _| real.span() == 0.0)
    }

    fn count(&self, is_so: impl Fn(Extent, Extent) -> bool) -> Share {
        let Some(channels) = self.axes.iter().find(|channels| channels.axis == 1) else {
            return Share { channels: 0, of: 0 };
        };
        let pairs = channels.real.iter().zip(&channels.computed);
        let such = pairs.filter(|&(&real, &computed)| is_so(real, computed));
        Share { channels: such.count(), of: channels.real.len() }
    }
}
