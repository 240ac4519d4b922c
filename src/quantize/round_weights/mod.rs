//! Weights are rounded so that a layer's results stay what they are, not each weight by itself.

mod layer;
mod moments;
#[cfg(test)]
mod tests;

use super::BiasCorrection;
use super::session::{Report, Session, Step};
use super::weights::scale_floors;
use crate::error::Result;
use crate::exec::float::FloatExecutor;
use crate::quant::{Preset, QuantParams, Width};
use crate::tensor::Tensor;
use layer::Layer;
use moments::{Codes, Moments};

/// At most so many positions of a sample are looked at in each layer.
const POSITIONS: usize = 128;
/// Numbers that are kept in memory at a time, for as many layers as fit.
const NUMBERS: usize = 1 << 25;
/// Columns whose moments are looked at together; beyond that each such part of a row is rounded by itself.
const WIDEST: usize = 2304;

/// For each convolution and linear layer whose weights have 4 or 8 bits: the scale, of a few, and the codes with which
/// `Σ e H eᵀ` is small, where `e` is the error of a row of weights, and `H` are the second moments of what it is
/// multiplied with, on samples that calibration has kept. Where biases make up for the mean, moments are around it.
#[derive(Clone, Copy, Debug)]
pub struct RoundWeights;

impl Step for RoundWeights {
    fn name(&self) -> &'static str {
        "round-weights"
    }

    fn run(&self, session: &mut Session) -> Result<Report> {
        let layers: Vec<Layer> = (0..session.graph.nodes.len())
            .filter(|&index| is_narrow(session.params.constants[index].get(1)))
            .filter_map(|index| Layer::new(&session.graph, index))
            .collect();
        let samples = session.fitted();
        let numbers =
            |layer: &Layer| samples.len() * layer.positions().min(POSITIONS) * layer.pitch();
        let mut report = Report { step: self.name(), ..Report::default() };
        // Statistics of older versions hold no samples.
        let mut rest = if samples.is_empty() { &[] } else { &layers[..] };
        let network = FloatExecutor::new(&session.graph);
        while !rest.is_empty() {
            let mut room = NUMBERS;
            let fits = |layer: &&Layer| {
                let left = room.checked_sub(numbers(layer));
                room = left.unwrap_or(0);
                left.is_some()
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (some, others) = rest.split_at(count);
            let inputs = inputs(session, &network, some, &samples)?;
            let rounded =
                session.workers.map(count, |i| Ok(round(session, &some[i], &inputs[i])))?;
            for (layer, (params, codes)) in some.iter().zip(rounded) {
                report.changes.extend(session.set_codes(layer.index, 1, params, codes)?);
            }
            rest = others;
        }
        Ok(report)
    }
}

fn is_narrow(params: Option<&Option<QuantParams>>) -> bool {
    params.is_some_and(|params| params.as_ref().is_some_and(|params| params.width <= Width::W8))
}

/// What the rows of each layer are multiplied with, at some positions of each sample, spread evenly.
fn inputs(
    session: &Session,
    network: &FloatExecutor,
    layers: &[Layer],
    samples: &[&[Tensor<f32>]],
) -> Result<Vec<Vec<f32>>> {
    let of_sample = session.workers.map(samples.len(), |i| {
        let mut parts = vec![vec![]; layers.len()];
        network.run(samples[i], |v, x| {
            for (layer, part) in layers.iter().zip(&mut parts).filter(|(layer, _)| layer.x == v) {
                let (all, count) = (layer.positions(), layer.positions().min(POSITIONS));
                part.resize(count * layer.pitch(), 0f32);
                for (k, to) in part.chunks_exact_mut(layer.pitch()).enumerate() {
                    // Somewhere in the k-th of `count` equal parts, elsewhere in each sample.
                    let (first, end) = (k * all / count, (k + 1) * all / count);
                    let somewhere = (k + 1) * 0x9E37_79B1 + (i + 1) * 0x85EB_CA77;
                    layer.gather(x, first + (somewhere >> 8) % (end - first), to);
                }
            }
            Ok(())
        })?;
        Ok(parts)
    })?;
    let mut whole = vec![vec![]; layers.len()];
    for parts in of_sample {
        whole.iter_mut().zip(parts).for_each(|(whole, part)| whole.extend(part));
    }
    Ok(whole)
}

/// The parameters and codes of the weights of `layer`, which are multiplied with `inputs`.
fn round(session: &Session, layer: &Layer, inputs: &[f32]) -> (QuantParams, Vec<i32>) {
    let (graph, node) = (&session.graph, &session.graph.nodes[layer.index]);
    let weight = graph.real_constant(node.inputs[1]).map_or(&[][..], |weight| weight.data());
    let w: Vec<f32> = layer.places.iter().map(|&place| weight[place]).collect();
    let params = session.params.constants[layer.index][1].clone();
    let Some(mut params) = params else { unreachable!("only weights with codes are rounded") };
    let positions = layer.positions().min(POSITIONS);
    let is_centred = layer.has_mean && session.will_run(BiasCorrection.name());
    let (lowest, highest) = params.code_range();
    let codes = Codes { lowest: lowest as f64, highest: highest as f64 };
    // Parts of rows that share moments: the rows, and the columns.
    let rows = layer.rows / layer.groups;
    let mut parts = Vec::new();
    for group in 0..layer.groups {
        for first in (0..layer.depth).step_by(WIDEST) {
            let depth = (layer.depth - first).min(WIDEST);
            let columns = [group * layer.depth + first, depth];
            let moments = Moments::new(inputs, layer.pitch(), columns, positions, is_centred);
            let of_rows = w.chunks_exact(layer.depth).skip(group * rows).take(rows);
            let w: Vec<f32> = of_rows.flat_map(|row| &row[first..][..depth]).copied().collect();
            parts.push(Part { first_row: group * rows, first, w, moments });
        }
    }
    let per_row = |scales: &[f32]| -> Vec<f64> {
        (0..layer.rows).map(|row| scales[row % scales.len()] as f64).collect()
    };
    // Which scale: by what the nearest codes make of it.
    let candidates = candidates(session, layer, &params);
    let losses = candidates.iter().map(|scales| {
        let scales = per_row(scales);
        let mut losses = vec![0f64; params.scale.len()];
        for part in &parts {
            let scales = &scales[part.first_row..];
            let nearest = part.moments.nearest(&part.w, scales, codes);
            let errors = part.moments.errors(&part.w, &nearest, scales);
            for (row, energy) in part.moments.energies(&errors).into_iter().enumerate() {
                losses[(part.first_row + row) % params.scale.len()] += energy;
            }
        }
        losses
    });
    let losses: Vec<Vec<f64>> = losses.collect();
    for channel in 0..params.scale.len() {
        let best = (0..candidates.len())
            .min_by(|&a, &b| losses[a][channel].total_cmp(&losses[b][channel]));
        params.scale[channel] = best.map_or(params.scale[channel], |i| candidates[i][channel]);
    }
    let scales = per_row(&params.scale);
    let mut result = vec![0; weight.len()];
    for Part { first_row, first, w, moments } in &parts {
        let scales = &scales[*first_row..];
        let depth = w.len() / rows;
        for (i, code) in moments.best(w, scales, codes).into_iter().enumerate() {
            let place = (first_row + i / depth) * layer.depth + first + i % depth;
            result[layer.places[place]] = code as i32;
        }
    }
    (params, result)
}

struct Part {
    first_row: usize,
    first: usize,
    w: Vec<f32>,
    moments: Moments,
}

/// Scales that are worth a try, in place of those of `params`: of all channels at a time.
fn candidates(session: &Session, layer: &Layer, params: &QuantParams) -> Vec<Vec<f32>> {
    let scheme = session.plan.of_node(layer.index);
    let factors: Vec<f32> = match (scheme.preset, params.width) {
        (Preset::Shift, Width::W4) => vec![1.0, 2.0, 0.5, 0.25],
        (Preset::Shift, _) => vec![1.0, 0.5, 0.25],
        (Preset::Scale, Width::W4) => (0..25).map(|i| (40 - i) as f32 / 40.0).collect(),
        (Preset::Scale, _) => (0..7).map(|i| (20 - i) as f32 / 20.0).collect(),
    };
    let node = &session.graph.nodes[layer.index];
    let bias = node.inputs.get(2).and_then(|&v| session.graph.values[v].to_real());
    let scale = |v: usize| session.params.values[v].as_ref().map_or(1.0, |params| params.scale[0]);
    let scales = [scale(layer.x), scale(node.output)];
    let floors = scale_floors(params.scale.len(), bias.as_deref(), scales, scheme);
    let scaled = |factor: f32| {
        let pairs = params.scale.iter().zip(&floors);
        pairs.map(|(&scale, &floor)| (scale * factor).max(floor.min(scale))).collect()
    };
    factors.into_iter().map(scaled).collect()
}
