//! Where a quantized network has lost what the float network has.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};

use serde::Serialize;

use super::Params;
use crate::calibrate::Observer;
use crate::calibrate::histogram::Histogram;
use crate::error::Result;
use crate::exec::engine::{Engine, Options};
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, Node, ValueId};
use crate::lower::IntGraph;
use crate::ops::{Op, OutputParams, Role};
use crate::quant::{QuantParams, Range, Sqnr, Width};
use crate::tensor::Tensor;
use crate::text::printable;

/// Fewer codes hold next to nothing.
const FEW: f64 = 8.0;
/// Of the samples that calibration keeps so many are run.
const SAMPLES: usize = 4;
/// What a value may lose against its arguments, and what it must have left to be as good as others, in dB.
const DROP_DB: f64 = 10.0;
const ENOUGH_DB: f64 = 20.0;
/// An output of less has lost too much, wherever that was.
const LEAST_DB: f64 = 14.0;
/// Share of the energy that a range may leave out.
pub(super) const MOST_CUT: f64 = 0.01;

/// A value that has lost much of what it has in the float network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Loss {
    /// Name of the value or constant.
    pub value: String,
    /// In what way.
    pub kind: LossKind,
    /// How much: codes, a share, channels or dB, as `what` says.
    pub number: f64,
    /// The same in words.
    pub what: String,
    /// What would help.
    pub remedy: &'static str,
}

/// In what way a value has lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LossKind {
    /// Its range is small beside that of the sum or the Concat that it is an argument of.
    FewCodes,
    /// Its calibrated range leaves out more than 1 % of the energy.
    Clipped,
    /// Most of its channels have fewer than 8 codes.
    SmallChannels,
    /// Codes of a bias are clipped, or scales of weights had to be raised for it, and the weights are lost.
    Bias,
    /// It never changes.
    Constant,
    /// It is much less exact than what it is computed from.
    Noise,
}

impl Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "\"{}\" {}: {}", printable(&self.value), self.what, self.remedy)
    }
}

const WIDER: &str = "give it 16 bits, or calibrate by another --calibrator";
const WIDER_RESULT: &str = "give the result 16 bits, or make its arguments outputs of their own";

/// All that can be told from a network and its quantization, at most one for each value: `float` with `params`
/// has become `integer`.
///
/// # Errors
/// Those of the engine, which runs a few of the samples that calibration has kept.
pub(super) fn losses(
    float: &Graph,
    params: &Params,
    observer: &Observer,
    integer: &IntGraph,
) -> Result<Vec<Loss>> {
    let mut losses = Losses { float, params, observer, found: BTreeMap::new() };
    float.nodes.iter().enumerate().for_each(|(index, node)| losses.look_at_constants(index, node));
    float.nodes.iter().for_each(|node| losses.look_at_arguments(node));
    float.activations().for_each(|v| losses.look_at_range(v));
    losses.look_at_samples(integer)?;
    Ok(losses.found.into_values().collect())
}

struct Losses<'a> {
    float: &'a Graph,
    params: &'a Params,
    observer: &'a Observer,
    /// The first that was found of each value.
    found: BTreeMap<ValueId, Loss>,
}

impl Losses<'_> {
    fn found(
        &mut self,
        v: ValueId,
        kind: LossKind,
        number: f64,
        what: String,
        remedy: &'static str,
    ) {
        let value = self.float.values[v].name.clone();
        self.found.entry(v).or_insert(Loss { value, kind, number, what, remedy });
    }

    fn range(&self, v: ValueId) -> Option<Range> {
        self.observer.histogram(v).map(Histogram::range)
    }

    /// Weights whose channels have few codes, and biases that do not fit.
    fn look_at_constants(&mut self, index: usize, node: &Node) {
        let Some(y) = self.params.values[node.output].as_ref() else { return };
        let largest = self.range(node.inputs[0]).map_or(0.0, Range::max_abs) as f64;
        for (argument, params) in self.params.constants[index].iter().enumerate() {
            let v = node.inputs[argument];
            let (Some(params), Some(real)) = (params, self.float.real_constant(v)) else {
                continue;
            };
            match node.op.role(argument) {
                Role::Weight { axis } => {
                    let step = y.scale[0] as f64;
                    let (few, raised) = small_channels(real, axis, params, step / largest);
                    if few == 0 {
                        continue;
                    }
                    let what = format!("has {few} channels of fewer than 8 codes");
                    let (kind, remedy) = match raised > 0 {
                        true => (
                            LossKind::Bias,
                            "its bias is too large beside it: scale them in the model",
                        ),
                        false => {
                            (LossKind::SmallChannels, "use --granularity channel, or --weights 16")
                        }
                    };
                    self.found(v, kind, few as f64, what, remedy);
                }
                Role::Bias => {
                    let codes = params.quantize_all(real.data(), real.shape());
                    let clipped =
                        codes.iter().filter(|code| code.unsigned_abs() >= i32::MAX as u32);
                    let clipped = clipped.count();
                    if clipped > 0 {
                        let what = format!("has {clipped} numbers beyond 32 bits");
                        let remedy = "its weights are too small beside it: scale them in the model";
                        self.found(v, LossKind::Bias, clipped as f64, what, remedy);
                    }
                }
                Role::Activation => {}
            }
        }
    }

    /// Arguments that hardly count beside the others.
    fn look_at_arguments(&mut self, node: &Node) {
        let (Op::Add(_) | Op::Concat(_)) = node.op else { return };
        let Some(y) = self.params.values[node.output].clone() else { return };
        for &v in &node.inputs {
            let Some(Range { lo, hi }) = self.range(v) else { continue };
            let codes = (hi as f64 - lo as f64) / y.scale[0] as f64;
            if hi > lo && codes + 1.0 < FEW {
                let (codes, all) = (codes.ceil().max(1.0), 1u32 << y.width.bits());
                let what = format!(
                    "({lo}..{hi}) uses {codes} of {all} codes of {} \"{}\"",
                    node.op.name(),
                    self.float.values[node.output].name,
                );
                self.found(v, LossKind::FewCodes, codes, what, WIDER_RESULT);
            }
        }
    }

    /// Ranges that are empty, or cut off what counts.
    fn look_at_range(&mut self, v: ValueId) {
        let (Some(params), Some(seen)) = (&self.params.values[v], self.observer.histogram(v))
        else {
            return;
        };
        let (lowest, highest) = params.code_range();
        let (lo, hi) = (params.dequantize(lowest, 0), params.dequantize(highest, 0));
        let cut = seen.energy_beyond(lo, hi);
        let Range { lo: least, hi: most } = seen.range();
        if cut > MOST_CUT {
            let percent = 100.0 * cut;
            let what =
                format!("({least}..{most}) loses {percent:.1} % of its energy beyond {lo}..{hi}");
            self.found(v, LossKind::Clipped, cut, what, "use --calibrator minmax");
        } else if least == most && seen.total() > 1 {
            let what = format!("is {least} in all samples");
            let remedy = "calibrate on more varied samples";
            self.found(v, LossKind::Constant, least as f64, what, remedy);
        }
    }

    /// Runs kept samples through both networks.
    fn look_at_samples(&mut self, integer: &IntGraph) -> Result<()> {
        let float = FloatExecutor::new(self.float);
        let engine = Engine::new(integer, Options::default())?;
        let mut session = engine.session()?;
        let named = self.float.activations().map(|v| (self.float.values[v].name.as_str(), v));
        let named: HashMap<&str, ValueId> = named.collect();
        let mut seen: BTreeMap<ValueId, Seen> = BTreeMap::new();
        for inputs in self.observer.kept().take(SAMPLES) {
            let mut computed: HashMap<ValueId, Tensor<f32>> = HashMap::new();
            let mut result = Ok(());
            engine.run_observed(&mut session, inputs, |v, codes| {
                let value = &integer.values[v];
                if let Some(&v) = named.get(value.name.as_str()) {
                    match value.to_onnx_order(&codes()) {
                        Ok(codes) => {
                            computed.insert(v, codes.map(|&code| value.quant.dequantize(code, 0)));
                        }
                        Err(error) => result = Err(error),
                    }
                }
            })?;
            result?;
            float.run(inputs, |v, real| {
                if let Some(computed) = computed.remove(&v) {
                    seen.entry(v).or_insert_with(|| Seen::new(real.shape())).see(real, &computed);
                }
                Ok(())
            })?;
        }
        self.look_at_noise(&seen);
        Ok(())
    }

    fn look_at_noise(&mut self, seen: &BTreeMap<ValueId, Seen>) {
        // Shares of one are small where others are large.
        let shares = self.float.nodes.iter().filter(|n| n.op.output_params() == OutputParams::Unit);
        let shares: Vec<ValueId> = shares.map(|node| node.output).collect();
        for (&v, seen) in seen {
            let Some(params) = &self.params.values[v] else { continue };
            let (few, varied) = seen.few(params.scale[0]);
            if 2 * few > varied && !shares.contains(&v) {
                let what = format!("has fewer than 8 codes in {few} of its {varied} channels");
                self.found(v, LossKind::SmallChannels, few as f64, what, WIDER);
            }
        }
        let db = |v: &ValueId| seen.get(v).map(|seen| seen.sqnr.db());
        for (index, node) in self.float.nodes.iter().enumerate() {
            let (Some(own), Some(params)) = (db(&node.output), &self.params.values[node.output])
            else {
                continue;
            };
            // What is exact, as pixels are, is no measure.
            let best = if params.width == Width::W8 { 35.0 } else { 60.0 };
            let arguments = node.inputs.iter().filter_map(db).reduce(f64::min);
            let Some(before) = arguments.map(|db: f64| db.min(best)) else { continue };
            let is_index = node.op.output_params() == OutputParams::Index;
            if !is_index && own < ENOUGH_DB.min(before - DROP_DB) {
                let what = format!("has {own:.1} dB, what it is computed from {before:.1}");
                let mut constants = self.params.constants[index].iter().flatten();
                let narrow = constants.any(|params| params.width == Width::W4);
                let remedy = if narrow { "give its weights 8 bits" } else { WIDER };
                self.found(node.output, LossKind::Noise, own, what, remedy);
            }
        }
        for &v in &self.float.outputs {
            if let Some(own) = db(&v).filter(|&own| own < LEAST_DB) {
                let remedy = "give what it is computed from, or its weights, more bits";
                self.found(v, LossKind::Noise, own, format!("has {own:.1} dB"), remedy);
            }
        }
    }
}

/// Of the channels of a weight, how many have fewer than [`FEW`] codes though they change the result by more
/// than a step, and how many of them have a scale that was raised: a weight of `step` does that alone.
fn small_channels(
    real: &Tensor<f32>,
    axis: usize,
    params: &QuantParams,
    step: f64,
) -> (usize, usize) {
    let channels = real.shape().get(axis).copied().unwrap_or(1);
    let inner: usize = real.shape().iter().skip(axis + 1).product();
    let (mut largest, mut sums) = (vec![0f32; channels], vec![0f64; channels]);
    for (i, part) in real.data().chunks(inner.max(1)).enumerate() {
        for x in part.iter().map(|x| x.abs()) {
            largest[i % channels] = largest[i % channels].max(x);
            sums[i % channels] += x as f64;
        }
    }
    let all = largest.iter().copied().fold(0.0, f32::max);
    let (mut few, mut raised) = (0, 0);
    for (channel, &max) in largest.iter().enumerate() {
        let scale = params.scale[channel % params.scale.len()];
        let codes = |max: f32| (2.0 * max / scale + 1.0) as f64;
        if codes(max) >= FEW || sums[channel] < step || max == 0.0 {
            continue;
        }
        few += 1;
        let own = if params.scale.len() == 1 { all } else { max };
        raised += (codes(own) < FEW) as usize;
    }
    (few, raised)
}

/// One value on the samples that were run.
struct Seen {
    sqnr: Sqnr,
    /// Smallest and largest number of each channel, along each axis that may be that of channels.
    extents: Vec<(usize, Vec<(f32, f32)>)>,
}

impl Seen {
    fn new(shape: &[usize]) -> Self {
        let mut axes = vec![1, shape.len().saturating_sub(1)];
        axes.dedup();
        axes.retain(|&axis| shape.get(axis).is_some_and(|&size| size > 1));
        let none = (f32::INFINITY, f32::NEG_INFINITY);
        Self {
            sqnr: Sqnr::default(),
            extents: axes.into_iter().map(|axis| (axis, vec![none; shape[axis]])).collect(),
        }
    }

    fn see(&mut self, real: &Tensor<f32>, computed: &Tensor<f32>) {
        self.sqnr.add(real.data(), computed.data());
        for (axis, extents) in &mut self.extents {
            let inner: usize = real.shape()[*axis + 1..].iter().product();
            for (i, part) in real.data().chunks(inner.max(1)).enumerate() {
                let channel = i % extents.len();
                let (lo, hi) = &mut extents[channel];
                part.iter().for_each(|&x| (*lo, *hi) = (lo.min(x), hi.max(x)));
            }
        }
    }

    /// Channels of fewer than [`FEW`] codes, and channels that are no constants; of the axis where they are the
    /// largest share.
    fn few(&self, scale: f32) -> (usize, usize) {
        let count = |extents: &Vec<(f32, f32)>| {
            let spans = extents.iter().map(|(lo, hi)| hi - lo).filter(|&span| span > 0.0);
            let few = spans.clone().filter(|&span| ((span / scale) as f64 + 1.0) < FEW);
            (few.count(), spans.count())
        };
        let counts = self.extents.iter().map(|(_, extents)| count(extents));
        counts.max_by_key(|&(few, all)| (1000 * few).checked_div(all)).unwrap_or((0, 0))
    }
}
