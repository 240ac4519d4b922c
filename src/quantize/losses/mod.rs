//! Where a quantized network has lost what the float network has.

mod remedy;
mod seen;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};

use serde::Serialize;

use super::bias::rounded_by;
use super::{Params, Session, limits};
use crate::calibrate::Observer;
use crate::calibrate::histogram::Histogram;
use crate::data::Workers;
use crate::error::Result;
use crate::exec::engine::{Engine, Options};
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, Node, ValueId};
use crate::lower::IntGraph;
use crate::ops::clip::Clip;
use crate::ops::{Op, OutputParams, Role};
use crate::quant::{QuantParams, Range, Width};
use crate::tensor::Tensor;
use crate::text::printable;
use remedy::Remedies;
use seen::{Seen, Share};

/// Fewer codes hold next to nothing.
const FEW: f64 = 8.0;
/// Of the samples that calibration keeps at most so many are run.
const SAMPLES: usize = 32;
/// What a value may lose against its arguments, and what it must have left to be as good as others, in dB.
const DROP_DB: f64 = 10.0;
const ENOUGH_DB: f64 = 20.0;
/// An output of less has lost too much, wherever that was.
const LEAST_DB: f64 = 14.0;
/// Where one channel in so many is dead, it is not by chance: some are in healthy networks.
const MANY: usize = 16;
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

/// How exact a value is on the samples that calibration has kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ValueSqnr {
    /// Name of the value.
    pub value: String,
    /// Its ratio of signal to noise.
    pub sqnr_db: f64,
}

/// Channels of a float network that are one number in all samples that calibration has kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadChannels {
    /// Name of the result of a convolution or linear layer.
    pub value: String,
    /// How many of its channels never change,
    pub dead: usize,
    /// of how many.
    pub channels: usize,
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
    /// Codes of a bias are clipped, or coarse beside those of the result, or scales of weights had to be raised for it, and
    /// the weights are lost.
    Bias,
    /// It never changes.
    Constant,
    /// Some of its channels vary, and have one code.
    Dead,
    /// It is much less exact than what it is computed from.
    Noise,
}

impl Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "\"{}\" {}: {}", printable(&self.value), self.what, self.remedy)
    }
}

/// What is found of a quantization.
pub(super) struct Findings {
    pub losses: Vec<Loss>,
    pub values: Vec<ValueSqnr>,
    pub judged: usize,
    pub dead: Vec<DeadChannels>,
}

/// All that can be told from a network and its quantization, at most one loss for each value: `session` has become
/// `integer`.
///
/// # Errors
/// Those of the engine, which runs the samples that calibration has kept.
pub(super) fn losses(session: &Session, integer: &IntGraph) -> Result<Findings> {
    let (observer, &Session { graph: ref float, ref params, workers, .. }) =
        (session.seen(), session);
    let remedies = Remedies::new(float, params);
    let mut made_of: Vec<&[ValueId]> = vec![&[]; float.values.len()];
    for node in &float.nodes {
        made_of[node.output] = match (&node.op, node.op.output_params()) {
            (Op::Concat(_), _) => &node.inputs,
            (_, OutputParams::SameAsInput) => &node.inputs[..1],
            _ => &[],
        };
    }
    let (named, found) = (vec![false; float.values.len()], BTreeMap::new());
    let mut losses = Losses { float, params, observer, remedies, made_of, named, found };
    float.nodes.iter().enumerate().for_each(|(index, node)| losses.look_at_constants(index, node));
    float.nodes.iter().for_each(|node| losses.look_at_arguments(node));
    float.inputs.iter().for_each(|&v| losses.look_at_range(v, None));
    float.nodes.iter().for_each(|node| losses.look_at_range(node.output, Some(node)));
    let reference = session.uncorrected.as_ref().unwrap_or(float);
    let samples: Vec<&[Tensor<f32>]> = observer.kept().take(SAMPLES).collect();
    let sample = |i: usize| Ok([samples[i].to_vec(), samples[i].to_vec()]);
    let seen = samples_seen(reference, integer, samples.len(), sample, workers)?;
    losses.look_at_channels(&seen);
    losses.look_at_noise(&seen);
    let name = |v: ValueId| float.values[v].name.clone();
    let sqnr = |v| Some(ValueSqnr { value: name(v), sqnr_db: seen.get(&v)?.sqnr.db() });
    let has_weights = |node: &&Node| {
        (0..node.inputs.len()).any(|i| matches!(node.op.role(i), Role::Weight { .. }))
    };
    let dead = |node: &Node| {
        let Share { channels, of } = seen.get(&node.output)?.constant();
        (channels > 0).then(|| DeadChannels {
            value: name(node.output),
            dead: channels,
            channels: of,
        })
    };
    Ok(Findings {
        values: float.activations().filter_map(sqnr).collect(),
        judged: observer.kept().len().min(SAMPLES),
        dead: float.nodes.iter().filter(has_weights).filter_map(dead).collect(),
        losses: losses.found.into_values().collect(),
    })
}

/// How exact each value of `float` is that `integer` has, too, on `samples` samples: each has the inputs of the integer
/// network, then those of the float network.
///
/// # Errors
/// A sample that cannot be had or does not fit, and those of the engine.
pub fn value_sqnrs(
    float: &Graph,
    integer: &IntGraph,
    samples: usize,
    sample: impl Fn(usize) -> Result<[Vec<Tensor<f32>>; 2]> + Sync,
    workers: Workers,
) -> Result<Vec<ValueSqnr>> {
    let seen = samples_seen(float, integer, samples, sample, workers)?;
    let sqnr = |(v, seen): (&ValueId, &Seen)| ValueSqnr {
        value: float.values[*v].name.clone(),
        sqnr_db: seen.sqnr.db(),
    };
    Ok(seen.iter().map(sqnr).collect())
}

/// Runs samples through both networks: what is seen of each activation of `float`.
fn samples_seen(
    float: &Graph,
    integer: &IntGraph,
    samples: usize,
    sample: impl Fn(usize) -> Result<[Vec<Tensor<f32>>; 2]> + Sync,
    workers: Workers,
) -> Result<BTreeMap<ValueId, Seen>> {
    let named = float.activations().map(|v| (float.values[v].name.as_str(), v));
    let named: HashMap<&str, ValueId> = named.collect();
    let network = FloatExecutor::new(float);
    let engine = Engine::new(integer, Options::default())?;
    let seen_in = |[inputs, of_float]: [Vec<Tensor<f32>>; 2]| {
        let mut computed: HashMap<ValueId, Tensor<f32>> = HashMap::new();
        let mut result = Ok(());
        engine.run_observed(&mut engine.session()?, &inputs, |v, codes| {
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
        let mut seen = BTreeMap::new();
        network.run(&of_float, |v, real| {
            if let Some(computed) = computed.remove(&v) {
                seen.insert(v, Seen::new(real, &computed));
            }
            Ok(())
        })?;
        Ok(seen)
    };
    let parts = workers.map(samples, |i| seen_in(sample(i)?))?;
    let mut parts = parts.into_iter();
    let mut all: BTreeMap<ValueId, Seen> = parts.next().unwrap_or_default();
    for part in parts {
        for (v, seen) in part {
            all.entry(v).and_modify(|all| all.merge(&seen)).or_insert(seen);
        }
    }
    Ok(all)
}

struct Losses<'a> {
    float: &'a Graph,
    params: &'a Params,
    observer: &'a Observer,
    remedies: Remedies<'a>,
    /// What the result of a node that only moves or joins codes is made of.
    made_of: Vec<&'a [ValueId]>,
    named: Vec<bool>,
    /// The first that was found of each value.
    found: BTreeMap<ValueId, Loss>,
}

impl Losses<'_> {
    /// Whether the value, or one that it is made of, is named; asked of one after the other.
    fn is_named(&mut self, v: ValueId) -> bool {
        self.named[v] |= self.made_of[v].iter().any(|&v| self.named[v]);
        self.named[v]
    }

    fn found(
        &mut self,
        v: ValueId,
        kind: LossKind,
        number: f64,
        what: String,
        remedy: &'static str,
    ) {
        if !self.is_named(v) {
            self.named[v] = true;
            let value = self.float.values[v].name.clone();
            self.found.insert(v, Loss { value, kind, number, what, remedy });
        }
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
                        false => (LossKind::SmallChannels, Remedies::of_weights(params.width)),
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
                    let steps = rounded_by(real, params, y.scale[0]);
                    if clipped == 0 && steps >= FEW {
                        let what = format!("is rounded by up to {steps:.0} steps of the result");
                        let remedy = "give 16 bits to what its weights are multiplied with";
                        self.found(v, LossKind::Bias, steps, what, remedy);
                    }
                }
                Role::Activation | Role::Table => {}
            }
        }
    }

    /// Arguments that hardly count beside the others.
    fn look_at_arguments(&mut self, node: &Node) {
        let (Op::Add(_) | Op::Concat(_)) = node.op else { return };
        let Some(y) = self.params.values[node.output].clone() else { return };
        for &(mut v) in &node.inputs {
            while let &[from] = self.made_of[v] {
                v = from;
            }
            let Some(Range { lo, hi }) = self.range(v) else { continue };
            let codes = (hi as f64 - lo as f64) / y.scale[0] as f64;
            if hi > lo && codes + 1.0 < FEW {
                let (codes, all) = (codes.ceil().max(1.0), 1u32 << y.width.bits());
                let what = format!(
                    "({lo}..{hi}) uses {codes} of {all} codes of {} \"{}\"",
                    node.op.name(),
                    self.float.values[node.output].name,
                );
                let remedy = self.remedies.of_argument(node, v);
                self.found(v, LossKind::FewCodes, codes, what, remedy);
            }
        }
    }

    /// Whether a node has nothing but arguments that are the same in all samples.
    fn is_of_constants(&self, node: Option<&Node>) -> bool {
        let varies = |&v: &ValueId| self.range(v).is_some_and(|Range { lo, hi }| lo < hi);
        node.is_some_and(|node| !node.inputs.iter().any(varies))
    }

    /// Ranges that are empty, or cut off what counts.
    fn look_at_range(&mut self, v: ValueId, producer: Option<&Node>) {
        if self.is_named(v) {
            return;
        }
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
        } else if least == most && seen.total() > 1 && !self.is_of_constants(producer) {
            let what = format!("is {least} in all samples");
            let remedy = "calibrate on more varied samples";
            self.found(v, LossKind::Constant, least as f64, what, remedy);
        }
    }

    /// Channels that have few codes, or one where there should be several.
    fn look_at_channels(&mut self, seen: &BTreeMap<ValueId, Seen>) {
        let mut limits_of = vec![Clip::NONE; self.float.values.len()];
        // Integers, which are their own codes.
        let mut exact: Vec<bool> = self.float.values.iter().map(|v| v.given.is_some()).collect();
        for node in &self.float.nodes {
            exact[node.output] = match node.op.output_params() {
                OutputParams::Index => true,
                OutputParams::SameAsInput => exact[node.inputs[0]],
                _ => false,
            };
            limits_of[node.output] = match node.op.output_params() {
                OutputParams::Unit => Clip { lo: 0.0, hi: 1.0 },
                OutputParams::SameAsInput => limits_of[node.inputs[0]],
                _ => limits(node),
            };
        }
        for v in self.float.activations() {
            if self.is_named(v) || exact[v] {
                continue;
            }
            let (Some(seen), Some(params)) = (seen.get(&v), &self.params.values[v]) else {
                continue;
            };
            let (few, silent) = (seen.few(params, limits_of[v]), seen.silenced(params));
            let remedy = self.remedies.of_channels(v);
            if 2 * few.channels > few.of {
                let Share { channels, of } = few;
                let what = format!("has fewer than 8 codes in {channels} of its {of} channels");
                self.found(v, LossKind::SmallChannels, channels as f64, what, remedy);
            } else if silent.channels > 0 && MANY * silent.channels >= silent.of {
                let Share { channels, of } = silent;
                let what = format!("has one code in {channels} of its {of} channels, which vary");
                self.found(v, LossKind::Dead, channels as f64, what, remedy);
            }
        }
    }

    fn look_at_noise(&mut self, seen: &BTreeMap<ValueId, Seen>) {
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
                let remedy = self.remedies.of_noise(index, node);
                self.found(node.output, LossKind::Noise, own, what, remedy);
            }
        }
        for &v in &self.float.outputs {
            if let Some(own) = db(&v).filter(|&own| own < LEAST_DB) {
                let remedy = self.remedies.of_output(self.float, v);
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
