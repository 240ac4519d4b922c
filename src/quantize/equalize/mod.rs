//! Factors of channels, chosen so that the noise of quantization at the outputs is least.

mod noise;
#[cfg(test)]
mod tests;
mod ties;

use std::sync::Arc;

use super::judge::Judge;
use super::session::{Change, Report, Session, Step};
use super::{Rounding, choose_params};
use crate::calibrate::Calibrator;
use crate::calibrate::channels::ChannelStats;
use crate::error::Result;
use crate::graph::{Constant, Graph, Index, ValueId};
use crate::ops::{Channels, Filters, OutputParams};
use crate::quant::{Preset, Range, Width};
use crate::tensor::Tensor;
use noise::{Noise, Rounded, Weight};
use ties::{Ties, reaching};

/// Each channel of each value gets a factor, which goes into the weights and biases before it and out of those behind
/// it: the network computes the same, but channels use the codes of their value, and weights of their tensor, alike. This
/// is for [`Preset::Shift`]. Factors that are powers of two would leave the real network the same to the bit; any
/// others are 1 dB better on mobilenet_v2, and change it by no more than rounding of `f32` does.
///
/// Of several ways to choose the factors, and to choose ranges, and none, it takes what comes nearest to the real outputs on
/// samples that calibration has kept.
///
/// Cross-layer equalization (Nagel et al. 2019, <https://arxiv.org/abs/1906.04721>), of all layers at once.
#[derive(Clone, Copy, Debug)]
pub struct Equalize;

/// A way to choose.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// How often the noise of weights counts, which is the same at all positions and in all layers.
    eta: f64,
    clipping: Clipping,
}

/// What is not better by so much stays as it is.
const WORTH_IT_DB: f64 = 0.1;

/// How much is clipped.
#[derive(Clone, Copy, Debug)]
struct Clipping {
    /// At least this share of the largest number stays.
    least: f64,
    /// How often the error of a clipped number counts, which has a sign and does not average out.
    weight: f64,
}

const STRONG: Clipping = Clipping { least: 0.15, weight: 1.0 };
const WEAK: Clipping = Clipping { least: 0.5, weight: 8.0 };
/// What serves networks in which noise of activations counts most, and those in which clipping does.
const SETTINGS: [Setting; 2] =
    [Setting { eta: 2.0, clipping: STRONG }, Setting { eta: 4.0, clipping: WEAK }];

/// Noise that is not the same everywhere averages out, that of weights only in part.
const COHERENT: f64 = 0.3;

impl Step for Equalize {
    fn name(&self) -> &'static str {
        "equalize"
    }

    /// It judges itself.
    fn is_judged(&self) -> bool {
        false
    }

    fn run(&self, session: &mut Session) -> Result<Report> {
        let mut report = Report { step: self.name(), ..Report::default() };
        // Ranges that are given are those of the channels as they are.
        let given = !session.plan.ranges.is_empty();
        if given || session.plan.default.preset != Preset::Shift || session.held_back().is_empty() {
            return Ok(report);
        }
        let stats = stats(session);
        let ties = Ties::new(&session.graph, &stats);
        if ties.count == 1 {
            return Ok(report);
        }
        let noise = noise(session, &ties, &stats);
        let chosen = session.workers.map(SETTINGS.len(), |i| {
            let Setting { eta, clipping } = SETTINGS[i];
            let values = rounded_values(session, &ties, &stats, clipping);
            let noise = Noise { values, ..noise.clone() };
            Ok(factors(&ties, &noise.least(eta)))
        })?;
        let judge = Judge::new(session)?;
        let before = judge.sqnr_db(session)?;
        let mut best = (before + WORTH_IT_DB, None);
        for (setting, factors) in SETTINGS.iter().zip(&chosen) {
            let mut changed = session.clone();
            rescale(&mut changed, factors, &stats)?;
            changed.rescaled = Some(Arc::new(changed.seen().rescaled(factors)));
            changed.choose_ranges()?;
            for weighted in [false, true] {
                if weighted {
                    weighted_ranges(&mut changed, factors, &stats, setting.clipping);
                }
                changed.params = choose_params(&changed.graph, &changed.ranges, &changed.plan)?;
                let sqnr = judge.sqnr_db(&changed)?;
                if sqnr > best.0 {
                    best = (sqnr, Some(changed.clone()));
                }
            }
        }
        if let Some(changed) = best.1 {
            // Weights that are rounded together may need it less.
            let gain = judge.finished_db(&changed)? - judge.finished_db(session)?;
            report.gain_db = Some(gain);
            if gain > 0.0 {
                report.changes = changes(&session.graph, &changed.graph);
                *session = changed;
            }
        }
        Ok(report)
    }
}

/// What calibration has seen of the channels of each activation.
fn stats<'a>(session: &Session<'a>) -> Vec<Option<&'a ChannelStats>> {
    (0..session.graph.values.len()).map(|v| session.observer.channels(v)).collect()
}

/// For each channel of each activation its factor.
fn factors(ties: &Ties, u: &[f64]) -> Vec<Vec<f32>> {
    let factor = |&a: &usize| libm::exp2(u[a]) as f32;
    ties.of.iter().map(|of| of.iter().map(factor).collect()).collect()
}

/// Multiplies the channels of each value of the network by their factors.
fn rescale(
    session: &mut Session,
    factors: &[Vec<f32>],
    stats: &[Option<&ChannelStats>],
) -> Result<()> {
    // Codes are of the weights as they were.
    session.rounding = Rounding::default();
    let graph = &mut session.graph;
    let mut uses = Index::new(graph);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (x, y, arguments) = (node.inputs[0], node.output, node.inputs.len());
        if node.clamp.hi.is_finite() {
            let most = || factors[y].iter().copied().fold(0.0, f32::max);
            let factor = reaching(node, stats).next().map_or_else(most, |c| factors[y][c]);
            graph.nodes[index].clamp.hi *= factor;
        }
        let Some(filters) = filters(graph, index) else { continue };
        for argument in 1..arguments {
            let v = uses.own_argument(graph, index, argument);
            let Some(real) = graph.real_constant(v) else { continue };
            let factor = |i: usize| match (argument, filters.place(i)) {
                (1, (o, c)) => factors[y][o] / factors[x][c],
                _ => factors[y][i],
            };
            let scaled = real.data().iter().enumerate().map(|(i, &w)| w * factor(i));
            let scaled = Tensor::new(real.shape(), scaled.collect())?;
            graph.values[v].constant = Some(Constant::Real(scaled));
        }
    }
    Ok(())
}

/// Where the weights of node `index` lie, if factors may go into them.
fn filters(graph: &Graph, index: usize) -> Option<Filters> {
    let node = &graph.nodes[index];
    match node.op.channel_factors(&graph.input_shapes(node), &graph.values[node.output].shape) {
        Channels::Weighted(filters) => graph.real_constant(node.inputs[1]).map(|_| filters),
        _ => None,
    }
}

/// The values that rounding makes noise in, and that have factors.
fn rounded_values(
    session: &Session,
    ties: &Ties,
    stats: &[Option<&ChannelStats>],
    clipping: Clipping,
) -> Vec<Rounded> {
    let graph = &session.graph;
    let widths = session.plan.widths(graph);
    let sensitivities = sensitivities(graph, stats, 0.0);
    let rounded = graph.nodes.iter().filter_map(|node| {
        let (y, moves) = (node.output, node.op.output_params() == OutputParams::SameAsInput);
        let seen = stats[y].filter(|_| !moves && ties.of[y].iter().any(|&a| a != 0))?;
        let levels = levels(seen, widths[y]);
        let floor = seen.largest_of_all() as f64 * 1e-7 + 1e-30;
        let limit = |c: usize| libm::log2(clipping.limit(seen, c, levels).max(floor));
        Some(Rounded {
            vars: ties.of[y].clone(),
            limits: (0..ties.of[y].len()).map(limit).collect(),
            sensitivity: sensitivities[y].iter().map(|a| a + 1e-30).collect(),
            levels,
        })
    });
    rounded.collect()
}

/// The highest code of a value, counted from that of 0.
fn levels(seen: &ChannelStats, width: Width) -> f64 {
    let codes = (1u64 << width.bits()) as f64;
    (if seen.is_signed() { codes / 2.0 } else { codes }) - 1.0
}

/// The noise of the weights of the network, and the caps on factors.
fn noise(session: &Session, ties: &Ties, stats: &[Option<&ChannelStats>]) -> Noise {
    let graph = &session.graph;
    let sensitivities = sensitivities(graph, stats, COHERENT);
    let (mut weights, mut caps) = (Vec::new(), Vec::new());
    for (index, node) in graph.nodes.iter().enumerate() {
        let (x, y) = (node.inputs[0], node.output);
        let Some(seen) = &stats[y] else { continue };
        let hi = node.clamp.hi;
        if hi.is_finite()
            && let Some(first) = reaching(node, stats).next()
        {
            let anchor = ties.of[y][first];
            for (c, &a) in ties.of[y].iter().enumerate().filter(|&(_, &a)| a != anchor) {
                let most = seen.largest(c).max(hi * 1e-4);
                caps.push((a, anchor, libm::log2((hi / most) as f64)));
            }
        }
        let (Some(filters), Some(inputs)) = (filters(graph, index), &stats[x]) else { continue };
        let Some(real) = graph.real_constant(node.inputs[1]) else { continue };
        let per_group = ties.of[x].len() / filters.group;
        let mut magnitudes = vec![0f64; ties.of[y].len() * per_group];
        for (i, w) in real.data().iter().enumerate() {
            let (o, c) = filters.place(i);
            let largest = &mut magnitudes[o * per_group + c % per_group];
            *largest = largest.max(w.abs() as f64);
        }
        let energy = |c: usize| {
            let (mean, variance) = inputs.moments(c);
            (variance + 0.05 * mean * mean) * filters.shape[2] as f64
        };
        let scheme = session.plan.of_node(index);
        let (outs, ins) = (ties.of[y].clone(), ties.of[x].clone());
        let mut weight = Weight::new(outs, ins, filters.group, &magnitudes);
        weight.gain = passed(seen, &sensitivities[y]).map(|g| g + 1e-30).collect();
        weight.energy = (0..ties.of[x].len()).map(energy).collect();
        weight.levels = ((1u64 << (scheme.weight_width.bits() - 1)) - 1) as f64;
        weight.per_channel = scheme.per_channel;
        weights.push(weight);
    }
    Noise { count: ties.count, values: vec![], weights: Arc::new(weights), caps }
}

/// What of the sensitivity of channels passes the limits of their node.
fn passed<'a>(seen: &'a ChannelStats, sensitivity: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    sensitivity.iter().enumerate().map(|(c, a)| a * seen.inside(c))
}

/// For each channel of each activation the energy at the outputs that noise of energy 1 in it makes; where noise is
/// averaged, at least the share `coherent` of it is left.
fn sensitivities(graph: &Graph, stats: &[Option<&ChannelStats>], coherent: f64) -> Vec<Vec<f64>> {
    let size = |v: ValueId| match graph.values[v].constant {
        Some(_) => 0,
        None => graph.values[v].shape.get(1).copied().unwrap_or(1),
    };
    let mut all: Vec<Vec<f64>> = (0..graph.values.len()).map(|v| vec![0.0; size(v)]).collect();
    graph.outputs.iter().for_each(|&v| all[v].iter_mut().for_each(|a| *a += 1.0));
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let Some(seen) = &stats[node.output] else { continue };
        let left: Vec<f64> = passed(seen, &all[node.output]).collect();
        if let Some(filters) = filters(graph, index)
            && let Some(weight) = graph.real_constant(node.inputs[1])
        {
            let x = &mut all[node.inputs[0]];
            for (i, &w) in weight.data().iter().enumerate() {
                let (o, c) = filters.place(i);
                x[c] += w as f64 * w as f64 * left[o];
            }
            continue;
        }
        match node.op.channel_factors(&graph.input_shapes(node), &graph.values[node.output].shape) {
            Channels::Made { of, gain } => {
                for (made_of, a) in of.iter().zip(&left) {
                    for &(argument, c) in made_of {
                        if let Some(x) = all[node.inputs[argument]].get_mut(c) {
                            *x += a * gain.max(coherent.min(1.0));
                        }
                    }
                }
            }
            // Nothing is known: as if it were passed on.
            _ => {
                let mean = left.iter().sum::<f64>() / left.len().max(1) as f64;
                for &v in &node.inputs {
                    let same = all[v].len() == left.len();
                    for (c, x) in all[v].iter_mut().enumerate() {
                        *x += if same { left[c] } else { mean };
                    }
                }
            }
        }
    }
    all
}

impl Clipping {
    /// The limit of channel `c` with the least error of rounding, in `levels` steps, and clipping.
    fn limit(self, seen: &ChannelStats, c: usize, levels: f64) -> f64 {
        let largest = seen.largest(c) as f64;
        let bins: Vec<(f64, f64)> = seen.magnitudes(c).collect();
        let mut best = (f64::INFINITY, largest);
        for i in 0..25 {
            let limit = largest * (self.least + (1.0 - self.least) * i as f64 / 24.0);
            let clipped: f64 =
                bins.iter().map(|&(x, share)| share * (x - limit).max(0.0).powi(2)).sum();
            let error = self.weight * clipped + (limit / levels).powi(2) / 12.0;
            if error < best.0 {
                best = (error, limit);
            }
        }
        best.1
    }

    /// The squared error of channel `c` in at most `levels` steps of `step`.
    fn error(self, seen: &ChannelStats, c: usize, step: f64, levels: f64) -> f64 {
        let highest = levels * step;
        let error = |(x, share): (f64, f64)| {
            share
                * match x {
                    x if x > highest + step / 2.0 => self.weight * (x - highest).powi(2),
                    x if x > 8.0 * step => step * step / 12.0,
                    x => (x - (x / step).round_ties_even() * step).powi(2),
                }
        };
        seen.magnitudes(c).map(error).sum()
    }
}

/// The range of each value with the least error at the outputs, under steps that are powers of two.
fn weighted_ranges(
    session: &mut Session,
    factors: &[Vec<f32>],
    stats: &[Option<&ChannelStats>],
    clipping: Clipping,
) {
    let graph = &session.graph;
    let (widths, scheme) = (session.plan.widths(graph), session.plan.default);
    let sensitivities = sensitivities(graph, stats, 0.0);
    for v in graph.activations() {
        let Some(seen) = &stats[v] else { continue };
        let is_open = widths[v] == Width::W8
            && session.calibrators[v] == Calibrator::Auto
            && !session.observer.is_whole(v)
            && graph.values[v].quant.is_none();
        let largest = factors[v].iter().enumerate().map(|(c, f)| f * seen.largest(c));
        let largest = largest.fold(0.0, f32::max);
        if !is_open || largest == 0.0 || scheme.preset != Preset::Shift {
            continue;
        }
        let levels = levels(seen, widths[v]);
        let error = |step: f32| -> f64 {
            let channels = factors[v].iter().zip(&sensitivities[v]).enumerate();
            let of = |(c, (&f, a)): (usize, (&f32, &f64))| {
                a * (f * f) as f64 * clipping.error(seen, c, (step / f) as f64, levels)
            };
            channels.map(of).sum()
        };
        let range = |hi: f32| Range { lo: if seen.is_signed() { -hi } else { 0.0 }, hi };
        let whole = scheme.activation(range(largest)).scale[0];
        let steps = (-1..=5).map(|k| whole * 2f32.powi(-k)).map(|step| (error(step), step));
        if let Some((_, step)) = steps.min_by(|a, b| a.0.total_cmp(&b.0)) {
            // In the middle of the ranges that have this step.
            session.ranges[v] = Some(range(step * (levels + 1.0) as f32 * 0.75));
        }
    }
}

/// The weights and biases that are not what they were.
fn changes(before: &Graph, after: &Graph) -> Vec<Change> {
    let nodes = before.nodes.iter().zip(&after.nodes);
    let pairs = nodes.flat_map(|(old, new)| {
        old.inputs.iter().zip(&new.inputs).map(|(&a, &b)| (&old.name, a, b))
    });
    let change = |(node, a, b): (&String, ValueId, ValueId)| {
        let (old, new) = (before.real_constant(a)?.data(), after.real_constant(b)?.data());
        let moved = old.iter().zip(new).map(|(a, b)| (a - b).abs());
        let largest = moved.fold(0.0, f32::max);
        let tensor = before.values[a].name.clone();
        (largest > 0.0).then_some(Change { node: node.clone(), tensor, largest })
    };
    pairs.filter_map(change).collect()
}
