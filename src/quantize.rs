//! Float graph and ranges → quantized graph: every activation gets scale and zero point, every
//! constant becomes codes.

use crate::calibrate::{Calibrator, Observer};
use crate::codes::CodeTensor;
use crate::error::{Context, Result, bail};
use crate::graph::{Constant, Graph, Node, ValueId};
use crate::ops::{OutputParams, Role};
use crate::passes::correct_bias;
use crate::quant::{Granularity, QuantParams, Range, Scheme};
use crate::tensor::Tensor;

/// Quantizes a prepared float graph; `ranges` has the range of each activation. What has codes already,
/// in a graph that another tool has quantized in part, keeps them.
///
/// # Errors
/// The node whose numbers have no codes (NaN, missing range), by name.
pub fn quantize(graph: &Graph, ranges: &[Option<Range>], scheme: Scheme) -> Result<Graph> {
    let ranges = &shared_ranges(graph, ranges);
    let mut quantized = graph.clone();
    for &input in graph.inputs.iter().filter(|&&v| graph.values[v].quant.is_none()) {
        quantized.values[input].quant = Some(scheme.activation(range_of(graph, ranges, input)?));
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        quantize_node(&mut quantized, index, ranges, scheme).in_node(&node.name, node.op.name())?;
    }
    quantized.check()?;
    Ok(quantized)
}

/// As [`quantize`], with biases that make up for the mean error of rounded weights
/// ([`correct_bias`]).
pub fn quantize_corrected(
    graph: &Graph,
    observer: &Observer,
    calibrator: Calibrator,
    scheme: Scheme,
) -> Result<Graph> {
    let ranges = observer.ranges(calibrator);
    let first = quantize(graph, &ranges, scheme)?;
    let mut corrected = graph.clone();
    correct_bias(&mut corrected, &first, observer);
    quantize(&corrected, &ranges, scheme)
}

/// Gives all values whose codes are to be copied, not rescaled, the union of their ranges: arguments
/// and result of a node with [`OutputParams::Shared`], through the nodes that only move codes.
fn shared_ranges(graph: &Graph, ranges: &[Option<Range>]) -> Vec<Option<Range>> {
    let mut group: Vec<ValueId> = (0..graph.values.len()).collect();
    fn root(group: &[ValueId], mut v: ValueId) -> ValueId {
        while group[v] != v {
            v = group[v];
        }
        v
    }
    let mut fixed = vec![false; graph.values.len()];
    for node in &graph.nodes {
        let joined = match node.op.output_params() {
            OutputParams::Shared => &node.inputs[..],
            OutputParams::SameAsInput => &node.inputs[..1],
            OutputParams::Unit | OutputParams::Index => {
                fixed[node.output] = true;
                continue;
            }
            OutputParams::Calibrated => continue,
        };
        for &v in joined.iter().filter(|&&v| !fixed[v] && graph.values[v].constant.is_none()) {
            let (a, b) = (root(&group, v), root(&group, node.output));
            group[a] = b;
        }
    }
    let mut union: Vec<Option<Range>> = vec![None; graph.values.len()];
    for (v, range) in ranges.iter().enumerate() {
        let union = &mut union[root(&group, v)];
        *union = match (*union, *range) {
            (Some(a), Some(b)) => Some(Range { lo: a.lo.min(b.lo), hi: a.hi.max(b.hi) }),
            (a, b) => a.or(b),
        };
    }
    let observed = |v| ranges.get(v).copied().flatten();
    (0..graph.values.len()).map(|v| observed(v).and(union[root(&group, v)])).collect()
}

fn range_of(graph: &Graph, ranges: &[Option<Range>], v: ValueId) -> Result<Range> {
    match ranges.get(v) {
        Some(&Some(range)) => Ok(range),
        _ => bail!(Invalid, "value \"{}\" was not calibrated", graph.values[v].name),
    }
}

fn quantize_node(
    graph: &mut Graph,
    index: usize,
    ranges: &[Option<Range>],
    scheme: Scheme,
) -> Result<()> {
    let node = graph.nodes[index].clone();
    let params = match (node.op.output_params(), &graph.values[node.output].quant) {
        (_, Some(given)) => given.clone(),
        (OutputParams::Calibrated | OutputParams::Shared, _) => {
            scheme.activation(range_of(graph, ranges, node.output)?)
        }
        (OutputParams::Unit, _) => scheme.unit(),
        (OutputParams::Index, _) => QuantParams::index(scheme.activation_bits),
        (OutputParams::SameAsInput, _) => match &graph.values[node.inputs[0]].quant {
            Some(params) => params.clone(),
            None => bail!(Unsupported, "the input is a constant: fold it first"),
        },
    };
    graph.values[node.output].quant = Some(params);
    for argument in 0..node.inputs.len() {
        let node = graph.nodes[index].clone();
        let v = node.inputs[argument];
        let Some(real) = graph.real_constant(v).cloned() else { continue };
        if let Some(bad) = real.data().iter().find(|x| !x.is_finite()) {
            bail!(Range, "constant \"{}\" holds {bad}", graph.values[v].name);
        }
        let params = match node.op.role(argument) {
            Role::Activation => scheme.activation(extent(real.data())),
            Role::Weight { axis } => weight_params(graph, &node, &real, axis, scheme)?,
            Role::Bias => bias_params(graph, &node)?,
        };
        let codes = Tensor::new(real.shape(), params.quantize_all(real.data(), real.shape()))?;
        // A constant with another user there gets other codes: it stays real for that one.
        let v = if graph.uses(v) > 1 { duplicate(graph, index, argument) } else { v };
        graph.values[v].constant = Some(Constant::Codes(CodeTensor::new(params.bits, codes)));
        graph.values[v].quant = Some(params);
    }
    Ok(())
}

/// Gives argument `argument` of node `index` a value of its own.
pub(crate) fn duplicate(graph: &mut Graph, index: usize, argument: usize) -> ValueId {
    let node = &graph.nodes[index];
    let mut value = graph.values[node.inputs[argument]].clone();
    value.name = graph.fresh_name(format!("{}.{}", value.name, node.name));
    let copy = graph.add_value(value);
    graph.nodes[index].inputs[argument] = copy;
    copy
}

/// Smallest and largest element.
fn extent(x: &[f32]) -> Range {
    Range {
        lo: x.iter().copied().fold(f32::INFINITY, f32::min),
        hi: x.iter().copied().fold(f32::NEG_INFINITY, f32::max),
    }
}

/// Symmetric codes for a weight whose output channels lie along `axis`.
///
/// The scale follows from the largest weight of a channel (or of the tensor), but is no smaller than
/// the rest of the arithmetic allows: the bias, in units of `x_scale · w_scale`, stays below 2^30, and
/// the rescaling factor `x_scale · w_scale / y_scale` above 2^-30. Only a channel whose weights are all
/// but zero beside its bias is touched by that.
fn weight_params(
    graph: &Graph,
    node: &Node,
    weight: &Tensor<f32>,
    axis: usize,
    scheme: Scheme,
) -> Result<QuantParams> {
    let scale_of = |v: ValueId| match &graph.values[v].quant {
        Some(quant) => Ok(quant.scale[0]),
        None => bail!(Unsupported, "value \"{}\" is not quantized", graph.values[v].name),
    };
    let (x_scale, y_scale) = (scale_of(node.inputs[0])?, scale_of(node.output)?);
    // A slope may be a single number.
    let per_channel = scheme.per_channel && axis < weight.shape().len();
    let channels = weight.shape().get(axis).copied().unwrap_or(1);
    let inner: usize = weight.shape().iter().skip(axis + 1).product();
    let mut max_abs = vec![0f32; channels];
    for (i, w) in weight.data().iter().enumerate() {
        let max = &mut max_abs[i / inner % channels];
        *max = max.max(w.abs());
    }
    let bias = node.inputs.get(2).and_then(|&v| graph.values[v].to_real());
    let mut largest_bias = vec![0f32; channels];
    for (o, b) in bias.iter().flat_map(|bias| bias.data()).enumerate() {
        // The channels of a grouped transposed convolution share scales between groups.
        let max = &mut largest_bias[o % channels];
        *max = max.max(b.abs());
    }
    if !per_channel {
        max_abs = vec![max_abs.into_iter().fold(0.0, f32::max)];
        largest_bias = vec![largest_bias.into_iter().fold(0.0, f32::max)];
    }
    const ROOM: f32 = (1u32 << 30) as f32;
    let floor = |bias: f32| (bias / (x_scale * ROOM)).max(y_scale / (x_scale * ROOM));
    let scale = max_abs.iter().zip(&largest_bias).map(|(&max_abs, &bias)| {
        scheme.symmetric_scale(max_abs, scheme.weight_bits).max(scheme.round_up(floor(bias)))
    });
    let granularity = match per_channel {
        true => Granularity::PerChannel { axis },
        false => Granularity::PerTensor,
    };
    Ok(QuantParams { scale: scale.collect(), zero_point: 0, bits: scheme.weight_bits, granularity })
}

/// 32-bit codes in units of `x_scale · w_scale`, as the accumulator.
pub(crate) fn bias_params(graph: &Graph, node: &Node) -> Result<QuantParams> {
    let quant = |index: usize| graph.values[node.inputs[index]].quant.as_ref();
    let (Some(x), Some(w)) = (quant(0), quant(1)) else {
        bail!(Unsupported, "input and weight must be quantized before the bias");
    };
    let granularity = match w.granularity {
        Granularity::PerTensor => Granularity::PerTensor,
        Granularity::PerChannel { .. } => Granularity::PerChannel { axis: 0 },
    };
    let channels = match w.granularity {
        Granularity::PerTensor => 1,
        Granularity::PerChannel { .. } => graph.values[node.inputs[2]].shape[0],
    };
    let scale = w.scale.iter().cycle().take(channels).map(|w| x.scale[0] * w).collect();
    Ok(QuantParams { scale, zero_point: 0, bits: 32, granularity })
}

#[cfg(test)]
mod tests;
