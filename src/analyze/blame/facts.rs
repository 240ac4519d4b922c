//! What samples show of each value before anything is changed.

use std::collections::HashMap;

use super::simulation::{Run, Simulation};
use super::units::Unit;
use crate::error::Result;
use crate::exec::float::Trace;
use crate::graph::ValueId;
use crate::quant::{Range, Sqnr};
use crate::tensor::Tensor;

/// Of one value.
#[derive(Clone, Default)]
pub struct Seen {
    /// Smallest and largest number of each channel, before it is rounded,
    pub own: Vec<Range>,
    /// and after.
    pub rounded: Vec<Range>,
    /// The same of the whole in the float network.
    pub float: Option<Range>,
    /// Numbers beyond all codes, of how many.
    pub clipped: u64,
    pub count: u64,
    /// How near it is to the float network's,
    pub accumulated: Sqnr,
    /// and to what its own node would compute from the same arguments with real constants, without rounding.
    pub alone: Sqnr,
}

/// Of all values, and of the results of layers: sums of errors by channel, and how many.
#[derive(Clone, Default)]
pub struct Facts {
    pub values: HashMap<ValueId, Seen>,
    pub shifts: HashMap<usize, (Vec<f64>, f64)>,
}

/// The axis of channels.
pub fn channel_axis(shape: &[usize]) -> Option<usize> {
    match shape.len() {
        0 | 1 => None,
        3 => Some(2),
        _ => Some(1),
    }
}

/// Does `f` to each element and its channel.
pub fn by_channel(x: &Tensor<f32>, mut f: impl FnMut(usize, f32)) {
    let axis = channel_axis(x.shape());
    let channels = axis.map_or(1, |axis| x.shape()[axis]).max(1);
    let inner = axis.map_or(x.data().len(), |axis| x.shape()[axis + 1..].iter().product());
    for (i, run) in x.data().chunks(inner.max(1)).enumerate() {
        run.iter().for_each(|&x| f(i % channels, x));
    }
}

pub const NOTHING: Range = Range { lo: f32::INFINITY, hi: f32::NEG_INFINITY };

pub fn union(a: Range, b: Range) -> Range {
    Range { lo: a.lo.min(b.lo), hi: a.hi.max(b.hi) }
}

fn extents(x: &Tensor<f32>) -> Vec<Range> {
    let channels = channel_axis(x.shape()).map_or(1, |axis| x.shape()[axis]);
    let mut all = vec![NOTHING; channels];
    by_channel(x, |c, x| all[c] = union(all[c], Range { lo: x, hi: x }));
    all
}

impl Facts {
    /// What one sample shows: `real` are the values of the float network, by name.
    pub fn of(
        simulation: &Simulation,
        units: &[Unit],
        inputs: &[Tensor<f32>],
        real: &HashMap<String, Tensor<f32>>,
    ) -> Result<(Self, Run)> {
        let graph = simulation.graph();
        let mut values = HashMap::new();
        let mut unrounded: Trace = vec![None; graph.values.len()];
        let run = simulation.run(inputs, |v, x| unrounded[v] = Some(x.clone()))?;
        for (v, (before, after)) in unrounded.iter().zip(&run.trace).enumerate() {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let value = &graph.values[v];
            let mut seen =
                Seen { own: extents(before), rounded: extents(after), ..Seen::default() };
            if let Some(params) = &value.quant {
                let (lo, hi) = params.code_range();
                let half = params.scale[0] / 2.0;
                let (lo, hi) = (params.dequantize(lo, 0) - half, params.dequantize(hi, 0) + half);
                let beyond = before.data().iter().filter(|&&x| x < lo || x > hi);
                (seen.clipped, seen.count) = (beyond.count() as u64, before.data().len() as u64);
            }
            seen.alone.add(before.data(), after.data());
            if let Some(real) = real.get(&value.name).filter(|real| real.shape() == value.shape) {
                seen.accumulated.add(real.data(), after.data());
                seen.float = extents(real).into_iter().reduce(union);
            }
            values.insert(v, seen);
        }
        let mut shifts = HashMap::new();
        for unit in units {
            let Some(index) = unit.layer else { continue };
            let node = &graph.nodes[index];
            let restored = simulation.result(&run, index, &unit.restored())?;
            let own = simulation.result(&run, index, &Default::default())?;
            let channels = channel_axis(own.shape()).map_or(1, |axis| own.shape()[axis]);
            let mut sums = vec![0f64; channels];
            by_channel(&own, |c, x| sums[c] += x as f64);
            by_channel(&restored, |c, x| sums[c] -= x as f64);
            shifts.insert(index, (sums, (own.data().len() / channels.max(1)) as f64));
            if let (Some(seen), Some(after)) =
                (values.get_mut(&node.output), &run.trace[node.output])
            {
                let limited = restored.map(|&x| node.clamp.apply(x));
                seen.alone = Sqnr::default();
                seen.alone.add(limited.data(), after.data());
            }
        }
        Ok((Self { values, shifts }, run))
    }

    pub fn merge(mut self, other: Self) -> Self {
        for (v, theirs) in other.values {
            let mine = self.values.entry(v).or_default();
            let join = |mine: &mut Vec<Range>, theirs: Vec<Range>| {
                mine.resize(theirs.len(), NOTHING);
                mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = union(*mine, theirs));
            };
            join(&mut mine.own, theirs.own);
            join(&mut mine.rounded, theirs.rounded);
            mine.float = mine.float.into_iter().chain(theirs.float).reduce(union);
            mine.clipped += theirs.clipped;
            mine.count += theirs.count;
            mine.accumulated.merge(theirs.accumulated);
            mine.alone.merge(theirs.alone);
        }
        for (index, (sums, count)) in other.shifts {
            let mine = self.shifts.entry(index).or_insert((vec![0.0; sums.len()], 0.0));
            mine.0.iter_mut().zip(sums).for_each(|(mine, theirs)| *mine += theirs);
            mine.1 += count;
        }
        self
    }
}
