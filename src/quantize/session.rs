//! Quantization as a list of steps over one session.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;

use super::choose_ranges::choose_ranges;
use super::judge::Judge;
use super::params::{Params, choose_params};
use super::{BiasCorrection, Equalize, NarrowRanges, Plan, RoundWeights, Rounding, apply};
use crate::calibrate::{Calibrator, Observer};
use crate::data::Workers;
use crate::error::{Result, bail};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::quant::{QuantParams, Range, Width};
use crate::tensor::Tensor;

/// Of so many samples that calibration keeps one is held back from the steps, to judge them by.
const HELD_BACK: usize = 4;

/// All that quantization knows between calibration and codes. A [`Step`] may change any of it.
#[derive(Clone, Debug)]
pub struct Session<'a> {
    /// The prepared float network.
    pub graph: Graph,
    /// That network before its biases made up for what quantization does, if they do.
    pub uncorrected: Option<Graph>,
    /// What calibration has seen of it.
    pub observer: &'a Observer,
    /// What the user asked for.
    pub plan: Plan,
    /// How the range of each activation is chosen.
    pub calibrators: Vec<Calibrator>,
    /// Whether of several ranges of a value the narrow one is chosen.
    pub narrow: bool,
    /// The range of each activation.
    pub ranges: Vec<Option<Range>>,
    /// How each number becomes a code.
    pub params: Params,
    /// The codes that are not the nearest ones.
    pub rounding: Rounding,
    /// Who computes; the result does not depend on it.
    pub workers: Workers<'a>,
    /// Names of the steps that are still to be run.
    pub ahead: Vec<&'static str>,
    /// What would have been seen of `graph`, if its values have other scales than when it was calibrated.
    pub rescaled: Option<Arc<Observer>>,
}

/// One improvement of a [`Session`].
pub trait Step {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Changes the session.
    ///
    /// # Errors
    /// The node for which it cannot be done.
    fn run(&self, session: &mut Session) -> Result<Report>;

    /// The least effort that it is part of.
    fn effort(&self) -> u8 {
        DEFAULT_EFFORT
    }

    /// Whether it is taken back if the outputs on samples that it has not seen are no nearer to the float network's.
    fn is_judged(&self) -> bool {
        true
    }
}

/// What a [`Step`] changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Name of the step.
    pub step: &'static str,
    /// One entry for each tensor that is not what it was.
    pub changes: Vec<Change>,
    /// What it has won on samples that it has not seen, in dB of the outputs' ratio of signal to noise; what it would
    /// have lost, if it was taken back and nothing changed. Nothing where that was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain_db: Option<f64>,
}

/// A tensor that a [`Step`] changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Name of the node that reads it.
    pub node: String,
    /// Name of the tensor, as it was before if it had one.
    pub tensor: String,
    /// The largest change of a number in it.
    pub largest: f32,
}

impl Report {
    /// The largest change of all.
    pub fn largest(&self) -> f32 {
        self.changes.iter().fold(0.0, |largest, change| largest.max(change.largest))
    }
}

/// All that there are, in the order in which they are run.
pub fn all_steps() -> Vec<Box<dyn Step>> {
    vec![
        Box::new(NarrowRanges),
        Box::new(Equalize),
        Box::new(RoundWeights),
        Box::new(BiasCorrection),
    ]
}

/// The steps that are run unless others are asked for, in order.
pub fn default_steps() -> Vec<Box<dyn Step>> {
    steps_of(DEFAULT_EFFORT)
}

/// What is done unless more or less is asked for.
pub const DEFAULT_EFFORT: u8 = 1;

/// The steps of an effort of 0, which takes next to no time, to 3, in order.
pub fn steps_of(effort: u8) -> Vec<Box<dyn Step>> {
    let mut steps = all_steps();
    steps.retain(|step| step.effort() <= effort);
    steps
}

/// The step of this name.
///
/// # Errors
/// A name that no step has.
pub fn step(name: &str) -> Result<Box<dyn Step>> {
    let mut all = all_steps();
    match all.iter().position(|step| step.name() == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => {
            let names: Vec<&str> = all.iter().map(|step| step.name()).collect();
            bail!(Invalid, "there is no step \"{name}\", only \"{}\"", names.join("\", \""))
        }
    }
}

impl<'a> Session<'a> {
    /// Begins with the parameters that follow from the ranges that `calibrator` chooses.
    ///
    /// # Errors
    /// An observer that has seen nothing, a calibrator that makes no sense, and those of
    /// [`choose_params`].
    pub fn new(
        graph: Graph,
        observer: &'a Observer,
        calibrator: Calibrator,
        plan: impl Into<Plan>,
    ) -> Result<Self> {
        Self::by(Workers::default(), graph, observer, calibrator, plan.into())
    }

    /// As [`new`](Self::new), by these workers; the result does not depend on them.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn by(
        workers: Workers<'a>,
        graph: Graph,
        observer: &'a Observer,
        calibrator: Calibrator,
        plan: Plan,
    ) -> Result<Self> {
        calibrator.check()?;
        if observer.samples() == 0 {
            bail!(Invalid, "calibration has seen no samples");
        }
        let calibrators = plan.calibrators(&graph, calibrator);
        let mut session = Self {
            graph,
            uncorrected: None,
            observer,
            rescaled: None,
            plan,
            calibrators,
            narrow: false,
            ranges: vec![],
            params: Params::default(),
            rounding: Rounding::default(),
            workers,
            ahead: vec![],
        };
        session.choose_ranges()?;
        session.params = choose_params(&session.graph, &session.ranges, &session.plan)?;
        Ok(session)
    }

    /// What calibration has seen, or would have seen, of the graph as it is.
    pub fn seen(&self) -> &Observer {
        self.rescaled.as_deref().unwrap_or(self.observer)
    }

    /// Chooses ranges by what calibration has seen.
    ///
    /// # Errors
    /// Those of the float network, and ranges that are given for what is no activation.
    pub fn choose_ranges(&mut self) -> Result<()> {
        let Self { graph, plan, calibrators, workers, narrow, .. } = &*self;
        let observer = self.seen();
        let of = |(v, &calibrator)| observer.range_of(v, calibrator);
        let mut ranges: Vec<_> = calibrators.iter().enumerate().map(of).collect();
        choose_ranges(graph, plan, observer, calibrators, *workers, *narrow, &mut ranges)?;
        with_room(graph, &plan.widths(graph), observer, &mut ranges);
        plan.ranges.apply(graph, plan, &mut ranges)?;
        self.ranges = ranges;
        Ok(())
    }

    /// Runs `steps`, one after the other. One that is judged and makes the outputs worse changes nothing.
    ///
    /// # Errors
    /// That of the first step that fails.
    pub fn run(&mut self, steps: &[impl Deref<Target = dyn Step>]) -> Result<Vec<Report>> {
        let is_judged = steps.iter().any(|step| step.is_judged());
        let judge = is_judged.then(|| Judge::new(self)).transpose()?;
        let mut reports = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            self.ahead = steps[i + 1..].iter().map(|step| step.name()).collect();
            let Some(judge) = judge.as_ref().filter(|_| step.is_judged()) else {
                reports.push(step.run(self)?);
                continue;
            };
            let before = self.clone();
            let mut report = step.run(self)?;
            if !report.changes.is_empty() {
                let gain = judge.sqnr_db(self)? - judge.sqnr_db(&before)?;
                report.gain_db = Some(gain);
                if gain < 0.0 {
                    *self = before;
                    report.changes.clear();
                }
            }
            reports.push(report);
        }
        Ok(reports)
    }

    /// Whether the step of this name is still to be run.
    pub(super) fn will_run(&self, name: &str) -> bool {
        self.ahead.contains(&name)
    }

    /// The samples that calibration has kept for steps to look at,
    pub(super) fn fitted(&self) -> Vec<&'a [Tensor<f32>]> {
        let all = self.observer.kept().enumerate();
        let few = all.len() < HELD_BACK;
        all.filter(|(i, _)| few || i % HELD_BACK != 0).map(|(_, sample)| sample).collect()
    }

    /// and those to judge them by; if there are very few, all are both.
    pub(crate) fn held_back(&self) -> Vec<&'a [Tensor<f32>]> {
        let all = self.observer.kept().enumerate();
        let few = all.len() < HELD_BACK;
        all.filter(|(i, _)| few || i % HELD_BACK == 0).map(|(_, sample)| sample).collect()
    }

    /// Gives the constant at `argument` of node `index` these parameters and codes, and its other constants those that
    /// follow. Says what it changed.
    ///
    /// # Errors
    /// Those of [`Params::choose_constants`].
    pub(super) fn set_codes(
        &mut self,
        index: usize,
        argument: usize,
        params: QuantParams,
        codes: Vec<i32>,
    ) -> Result<Option<Change>> {
        let node = &self.graph.nodes[index];
        let v = node.inputs[argument];
        let Some(real) = self.graph.real_constant(v) else { return Ok(None) };
        let was = self.params.constants[index][argument].as_ref();
        let was = was.map(|was| {
            was.dequantize_all(&was.quantize_all(real.data(), real.shape()), real.shape())
        });
        let is = params.dequantize_all(&codes, real.shape());
        let moved = was.iter().flatten().zip(&is).map(|(was, is)| (was - is).abs());
        let largest = moved.fold(0.0, f32::max);
        let (node, tensor) = (node.name.clone(), self.graph.values[v].name.clone());
        self.params.constants[index][argument] = Some(params);
        self.rounding.0.insert((index, argument), codes);
        self.choose_constants(index)?;
        Ok((largest > 0.0).then_some(Change { node, tensor, largest }))
    }

    /// Chooses the parameters of the constants of node `index` again, but for those whose codes are set.
    ///
    /// # Errors
    /// Those of [`Params::choose_constants`].
    pub(crate) fn choose_constants(&mut self, index: usize) -> Result<()> {
        let is_set = |argument| self.rounding.0.contains_key(&(index, argument));
        self.params.choose_constants(&self.graph, index, &self.plan, is_set)
    }

    /// The quantized graph as the session stands.
    ///
    /// # Errors
    /// Those of [`apply`].
    pub fn quantized(&self) -> Result<Graph> {
        apply(&self.graph, &self.params, &self.rounding)
    }
}

/// What has 16 bits has codes to spare: twice what was seen, within what the operator can compute, is room for
/// other data.
fn with_room(graph: &Graph, widths: &[Width], observer: &Observer, ranges: &mut [Option<Range>]) {
    let limits = graph.nodes.iter().map(|node| (node.output, limits(node)));
    let limits: HashMap<ValueId, Clip> = limits.collect();
    for v in graph.activations().filter(|&v| widths[v] != Width::W8) {
        let limits = limits.get(&v).copied().unwrap_or(Clip::NONE);
        let twice = |x: f32| limits.apply((2.0 * x).clamp(f32::MIN, f32::MAX));
        ranges[v] = observer.histogram(v).map(|seen| {
            let Range { lo, hi } = seen.range();
            Range { lo: twice(lo).min(lo), hi: twice(hi).max(hi) }
        });
    }
}

/// What the result of `node` lies in, whatever the data.
pub(super) fn limits(node: &Node) -> Clip {
    let own = match &node.op {
        Op::Clip(limits) => *limits,
        Op::Unary(function) => function.limits(),
        Op::Function(function) => function.limits(),
        _ => Clip::NONE,
    };
    Clip { lo: own.lo.max(node.clamp.lo), hi: own.hi.min(node.clamp.hi) }
}
