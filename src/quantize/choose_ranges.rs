//! The range of each value by what it costs its readers.

use crate::calibrate::{Calibrator, Observer};
use crate::data::Workers;
use crate::error::Result;
use crate::exec::float::{FloatExecutor, Trace};
use crate::graph::{Graph, ValueId};
use crate::ops::OutputParams;
use crate::quant::{QuantParams, Range, Width};
use crate::tensor::Tensor;

use super::Plan;
use super::losses::MOST_CUT;

/// Of the samples that calibration keeps so many are run.
const SAMPLES: usize = 4;
/// Scales as near to each other make no difference.
const NEAR: f32 = 1.05;
/// Steps in which a range that leaves out too much becomes that which leaves out nothing.
const WIDENINGS: usize = 16;

/// A value that may have one of several ranges.
struct Choice {
    value: ValueId,
    candidates: Vec<(Range, QuantParams)>,
    readers: Vec<usize>,
}

/// For each value of 8 bits one of the ranges that `Percentile(99.99)`, widened until it leaves out at most 1 % of its
/// energy, `Mse` and `MinMax` choose; none that leaves out more. That with which the nodes that read it, all else real,
/// are nearest to their real results, on a few samples that calibration has kept; or, if they shall be `narrow`, the
/// first. Others, and those that have another calibrator, keep theirs in `ranges`.
///
/// # Errors
/// Those of the float network.
pub(super) fn choose_ranges(
    graph: &Graph,
    plan: &Plan,
    observer: &Observer,
    calibrators: &[Calibrator],
    workers: Workers,
    is_narrow: bool,
    ranges: &mut [Option<Range>],
) -> Result<()> {
    let mut choices = choices(graph, plan, observer, ranges);
    choices.retain(|choice| calibrators[choice.value] == Calibrator::Auto);
    if choices.is_empty() {
        return Ok(());
    }
    if is_narrow {
        choices.iter().for_each(|choice| ranges[choice.value] = Some(choice.candidates[0].0));
        return Ok(());
    }
    let samples: Vec<&[Tensor<f32>]> = observer.kept().take(SAMPLES).collect();
    let network = FloatExecutor::new(graph);
    let errors = workers.map(samples.len(), |i| {
        let trace = network.trace(samples[i])?;
        choices.iter().map(|choice| choice.errors(&network, &trace)).collect::<Result<Vec<_>>>()
    })?;
    for (i, choice) in choices.iter().enumerate() {
        let total = |k: usize| errors.iter().map(|of_sample| of_sample[i][k]).sum::<f64>();
        let best = (0..choice.candidates.len()).min_by(|&a, &b| total(a).total_cmp(&total(b)));
        ranges[choice.value] = best.map(|k| choice.candidates[k].0);
    }
    Ok(())
}

fn choices(
    graph: &Graph,
    plan: &Plan,
    observer: &Observer,
    ranges: &[Option<Range>],
) -> Vec<Choice> {
    let widths = plan.widths(graph);
    let mut readers: Vec<Vec<usize>> = vec![vec![]; graph.values.len()];
    let mut schemes = vec![None; graph.values.len()];
    for &input in &graph.inputs {
        schemes[input] = Some(plan.of_input(input));
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&v| readers[v].push(index));
        schemes[node.output] = match node.op.output_params() {
            OutputParams::Unit | OutputParams::Index | OutputParams::Table => None,
            _ => Some(plan.of_node(index)),
        };
    }
    let open = graph.activations().filter(|&v| {
        widths[v] == Width::W8 && !observer.is_whole(v) && graph.values[v].quant.is_none()
    });
    let choice = |value: ValueId| {
        let (scheme, seen) = (schemes[value]?, observer.histogram(value)?);
        let mut candidates: Vec<(Range, QuantParams)> = Vec::new();
        let cut = |params: &QuantParams| {
            let (lowest, highest) = params.code_range();
            seen.energy_beyond(params.dequantize(lowest, 0), params.dequantize(highest, 0))
        };
        let (narrow, whole) = (ranges[value]?, seen.range());
        let widened = (0..=WIDENINGS).map(|k| narrow.towards(whole, k as f32 / WIDENINGS as f32));
        let narrow = widened.into_iter().find(|&range| cut(&scheme.activation(range)) <= MOST_CUT);
        let candidates_of = [narrow, Some(whole), Some(Calibrator::Mse(scheme).range(seen))];
        for range in candidates_of.into_iter().flatten() {
            let params = scheme.activation(range);
            let near = |(_, other): &(Range, QuantParams)| {
                let (a, b) = (params.scale[0], other.scale[0]);
                a.max(b) <= NEAR * a.min(b) && (params.zero_point - other.zero_point).abs() <= 2
            };
            if !candidates.iter().any(near) && cut(&params) <= MOST_CUT {
                candidates.push((range, params));
            }
        }
        let readers = std::mem::take(&mut readers[value]);
        (!candidates.is_empty()).then_some(Choice { value, candidates, readers })
    };
    open.filter_map(choice).collect()
}

impl Choice {
    /// For each candidate the squared error of the readers' results, each against the energy of that result.
    fn errors(&self, network: &FloatExecutor, trace: &Trace) -> Result<Vec<f64>> {
        let mut errors = vec![0.0; self.candidates.len()];
        let Some(x) = trace[self.value].as_ref().filter(|_| errors.len() > 1) else {
            return Ok(errors);
        };
        for ((_, params), error) in self.candidates.iter().zip(&mut errors) {
            let rounded = x.map(|&x| params.dequantize(params.quantize(x, 0), 0));
            for &reader in &self.readers {
                let node = &network.graph().nodes[reader];
                let Some(real) = &trace[node.output] else { continue };
                let y = network.eval(node, |v| match v == self.value {
                    true => Some(&rounded),
                    false => trace[v].as_ref(),
                })?;
                let square = |x: f64| x * x;
                let energy: f64 = real.data().iter().map(|&r| square(r as f64)).sum();
                let pairs = y.data().iter().zip(real.data());
                let noise: f64 = pairs.map(|(&y, &r)| square(y as f64 - r as f64)).sum();
                *error += noise / energy.max(f64::MIN_POSITIVE);
            }
        }
        Ok(errors)
    }
}
