//! Quantization as a list of steps over one session.

use std::collections::HashMap;

use serde::Serialize;

use super::choose_ranges::choose_ranges;
use super::params::{Params, choose_params};
use super::{BiasCorrection, Plan, Rounding, apply};
use crate::calibrate::{Calibrator, Observer};
use crate::data::Workers;
use crate::error::{Result, bail};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::quant::{Range, Width};

/// All that quantization knows between calibration and codes. A [`Step`] may change any of it.
#[derive(Debug)]
pub struct Session<'a> {
    /// The prepared float network.
    pub graph: Graph,
    /// What calibration has seen of it.
    pub observer: &'a Observer,
    /// What the user asked for.
    pub plan: Plan,
    /// The range of each activation.
    pub ranges: Vec<Option<Range>>,
    /// How each number becomes a code.
    pub params: Params,
    /// The codes that are not the nearest ones.
    pub rounding: Rounding,
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
}

/// What a [`Step`] changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Name of the step.
    pub step: &'static str,
    /// One entry for each tensor that is not what it was.
    pub changes: Vec<Change>,
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

/// The steps that are run unless others are asked for, in order.
pub fn default_steps() -> Vec<Box<dyn Step>> {
    vec![Box::new(BiasCorrection)]
}

/// The step of this name, with hyphens for spaces.
///
/// # Errors
/// A name that no step has.
pub fn step(name: &str) -> Result<Box<dyn Step>> {
    let mut all = default_steps();
    let named = |step: &dyn Step| step.name().replace(' ', "-");
    match all.iter().position(|step| named(step.as_ref()) == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => {
            let names: Vec<String> = all.iter().map(|step| named(step.as_ref())).collect();
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
        workers: Workers,
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
        let of = |(v, &calibrator)| observer.range_of(v, calibrator);
        let mut ranges: Vec<_> = calibrators.iter().enumerate().map(of).collect();
        choose_ranges(&graph, &plan, observer, &calibrators, workers, &mut ranges)?;
        with_room(&graph, &plan.widths(&graph), observer, &mut ranges);
        let params = choose_params(&graph, &ranges, &plan)?;
        Ok(Self { graph, observer, plan, ranges, params, rounding: Rounding::default() })
    }

    /// Runs `steps`, one after the other.
    ///
    /// # Errors
    /// That of the first step that fails.
    pub fn run(&mut self, steps: &[Box<dyn Step>]) -> Result<Vec<Report>> {
        steps.iter().map(|step| step.run(self)).collect()
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
