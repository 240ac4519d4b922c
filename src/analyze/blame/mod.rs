//! Which values and layers of a quantized network are to blame for the error of its outputs, and why: each is restored in
//! turn, and what is left of the error is measured.

mod causes;
mod factors;
mod facts;
mod preprocessing;
mod simulation;
#[cfg(test)]
mod tests;
mod units;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::{Evaluation, Part, Seen};
use crate::data::{Samples, Workers};
use crate::error::{Result, bail};
use crate::exec::engine::{Engine, Options};
use crate::exec::float::FloatExecutor;
use crate::graph::Graph;
use crate::lower::{Accumulator, lower};
use crate::quant::Sqnr;
use crate::tensor::Tensor;
use causes::{Candidate, candidates};
use facts::Facts;
pub(crate) use facts::channel_axis;
pub(crate) use simulation::{Change, Simulation};
pub(crate) use units::Unit;
pub(crate) use units::of_values;
use units::units;

/// Of the units that lose most, so many are asked why.
const ASKED: usize = 10;
/// A cause that explains so much of the output's error energy is named,
const NAMED: f64 = 0.33;
/// unless the output has this, dB.
const GOOD_DB: f64 = 30.0;
/// Of the causes of a unit the one that says most is taken, if its remedy takes away so much of the error that the best
/// one does.
const AS_GOOD: f64 = 0.85;

/// Who is to blame, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Blame {
    /// Samples that were run.
    pub samples: usize,
    /// How the quantized network does, beside the float one.
    pub evaluation: Evaluation,
    /// The ratio of the output's signal to what the simulation differs from the engine by.
    pub simulation_db: f64,
    /// Share of the error energy that is the engine's alone: of operators that lose as integers.
    pub integer_share: f64,
    /// Values and layers, those first that lose most.
    pub units: Vec<UnitBlame>,
    /// The same by what they are, each class restored as a whole.
    pub classes: Vec<ClassBlame>,
    /// The sum of the units' shares. What it lacks is of errors that act together.
    pub units_sum: f64,
    /// The sum of the classes' shares.
    pub classes_sum: f64,
    /// One for each of the units that lose most, those first whose remedy wins most.
    pub causes: Vec<Cause>,
    /// The accumulator that can come nearest to its limit; none can pass it.
    pub accumulator: Option<Accumulator>,
    /// What a user should know besides.
    pub notes: Vec<String>,
}

/// What a value, with all that only moves its codes, or the constants of a layer are to blame for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct UnitBlame {
    /// Name of the value or the layer.
    pub name: String,
    /// Whether these are constants.
    pub constants: bool,
    /// The operator.
    pub operator: &'static str,
    /// Among what it counts.
    pub class: String,
    /// `1 − E/E₀`: `E₀` is the energy of the output's error, `E` what is left of it with this restored.
    pub share: f64,
    /// The same in dB of the output's SQNR.
    pub gain_db: f64,
    /// SQNR of the result against what exact constants and no rounding would make of the same arguments,
    pub alone_db: f64,
    /// and against that of the float network.
    pub accumulated_db: Option<f64>,
    /// What was tried, if it is one of those that lose most.
    pub causes: Vec<Cause>,
}

/// What units of one class are to blame for together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassBlame {
    /// What they are.
    pub class: String,
    /// How many.
    pub units: usize,
    /// As of one unit.
    pub share: f64,
    /// The same in dB.
    pub gain_db: f64,
}

/// Why something loses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// In what way.
    pub kind: CauseKind,
    /// Name of the value or layer.
    pub at: String,
    /// How much, as `what` says.
    pub number: f64,
    /// The same in words.
    pub what: String,
    /// What takes it away,
    pub remedy: String,
    /// what `quantize` is told for that, if it can do it,
    pub apply: Option<Apply>,
    /// what that wins of the output's SQNR, measured,
    pub gain_db: f64,
    /// and of top-1, in points, if there are labels.
    pub points: Option<f64>,
    /// Whether this is what the loss of the network comes from.
    pub named: bool,
}

/// What `quantize` is told to take a cause away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Apply {
    /// Options of the command line.
    Options(String),
    /// A rule of a recipe, as JSON.
    Rule(String),
}

impl fmt::Display for Apply {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Options(options) => f.write_str(options),
            Self::Rule(rule) => write!(f, "--recipe with {rule}"),
        }
    }
}

/// In what way something loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum CauseKind {
    Preprocessing,
    Clipping,
    CoarseStep,
    ScaleRatio,
    DeadCodes,
    ActivationImbalance,
    BiasLimit,
    BiasShift,
    WeightImbalance,
    CoarseWeights,
}

impl Blame {
    /// The causes that the loss of the network comes from.
    pub fn named(&self) -> impl Iterator<Item = &Cause> {
        self.causes.iter().filter(|cause| cause.named)
    }
}

/// All that is run again and again.
struct Bench<'a> {
    simulation: Simulation,
    float: FloatExecutor,
    parts: Vec<Part>,
    samples: &'a dyn Samples,
    workers: Workers<'a>,
    order: Option<Vec<usize>>,
}

impl Bench<'_> {
    fn of_float(&self, inputs: &[Tensor<f32>]) -> Vec<Tensor<f32>> {
        match &self.order {
            Some(order) => order.iter().map(|&place| inputs[place].clone()).collect(),
            None => inputs.to_vec(),
        }
    }

    /// What one sample shows of each part of the outputs.
    fn see(
        &self,
        outputs: &[Tensor<f32>],
        real: &[Tensor<f32>],
        labels: Option<&[usize]>,
    ) -> Result<Vec<Seen>> {
        self.parts.iter().map(|part| part.see(outputs, Some(real), labels)).collect()
    }

    fn together(&self, each: Vec<(Vec<Vec<Seen>>, bool)>) -> Vec<Evaluation> {
        let with_labels = each.iter().any(|(_, labels)| *labels);
        let mut by_change: Vec<Vec<Vec<Seen>>> = Vec::new();
        for (of_sample, _) in each {
            by_change.resize_with(of_sample.len(), Vec::new);
            by_change.iter_mut().zip(of_sample).for_each(|(all, one)| all.push(one));
        }
        let judge = |each| Evaluation::of(self.parts.clone(), each, with_labels);
        by_change.into_iter().map(judge).collect()
    }

    /// How the network does with each of `changes`.
    fn measure(&self, changes: &[Change]) -> Result<Vec<Evaluation>> {
        let each = self.workers.map(self.samples.len(), |i| {
            let inputs = self.samples.get(i)?;
            let real = self.float.run(&self.of_float(&inputs), |_, _| Ok(()))?;
            let labels = self.samples.labels(i)?;
            let run = self.simulation.run(&inputs, |_, _| ())?;
            let see = |change: &Change| {
                self.see(&self.simulation.rerun(&run, change)?, &real, labels.as_deref())
            };
            Ok((changes.iter().map(see).collect::<Result<Vec<_>>>()?, labels.is_some()))
        })?;
        Ok(self.together(each))
    }
}

/// The mean, over the outputs, of the error's energy against the signal's.
fn energy(evaluation: &Evaluation) -> f64 {
    let whole = evaluation.outputs.iter().filter(|output| output.part.is_none());
    let ratios: Vec<f64> =
        whole.filter_map(|output| Some(10f64.powf(-output.sqnr_db? / 10.0))).collect();
    ratios.iter().sum::<f64>() / ratios.len().max(1) as f64
}

fn gain_db(before: f64, after: f64) -> f64 {
    10.0 * (before.max(1e-30) / after.max(1e-30)).log10()
}

/// Asks each value and layer of `quantized` for its share of the error beside `float`, both prepared.
///
/// # Errors
/// A network without codes, or a float one with codes; samples that cannot be read or do not fit.
pub fn blame(
    quantized: &Graph,
    float: &Graph,
    samples: &dyn Samples,
    workers: Workers,
) -> Result<Blame> {
    if !quantized.has_codes() || float.has_codes() {
        bail!(Invalid, "a quantized network is needed, and the float network that it was made of");
    }
    let float = &*factors::rescaled(float, quantized);
    let integer = lower(quantized)?;
    let names = |graph: &Graph| {
        graph.outputs.iter().map(|&v| graph.values[v].name.clone()).collect::<Vec<_>>()
    };
    let (ours, theirs) = (names(quantized), names(float));
    let [ours, theirs] = [&ours, &theirs].map(|all| all.iter().map(|n| &**n).collect::<Vec<_>>());
    let place =
        |(name, _): (&str, _)| quantized.named_inputs().iter().position(|(own, _)| *own == name);
    let bench = Bench {
        simulation: Simulation::new(quantized),
        float: FloatExecutor::new(float),
        parts: Part::of(&ours, Some(&theirs), None),
        samples,
        workers,
        order: float.named_inputs().into_iter().map(place).collect(),
    };
    let units = units(quantized, float);
    let engine = Engine::new(&integer, Options::default())?;
    let each = workers.map(samples.len(), |i| {
        let inputs = samples.get(i)?;
        let mut real = HashMap::new();
        let reference = bench.float.run(&bench.of_float(&inputs), |v, x| {
            real.insert(float.values[v].name.clone(), x.clone());
            Ok(())
        })?;
        let (facts, run) = Facts::of(&bench.simulation, &units, &inputs, &real)?;
        let simulated = bench.simulation.outputs(&run);
        let computed = engine.run(&mut engine.session()?, &inputs)?;
        let mut differ = Sqnr::default();
        simulated.iter().zip(&computed).for_each(|(a, b)| differ.add(b.data(), a.data()));
        let labels = samples.labels(i)?;
        let see = |outputs: &[Tensor<f32>]| bench.see(outputs, &reference, labels.as_deref());
        Ok((facts, differ, (vec![see(&computed)?, see(&simulated)?], labels.is_some())))
    })?;
    let (mut facts, mut differ, mut seen) = (Facts::default(), Sqnr::default(), Vec::new());
    for (of_sample, own, outputs) in each {
        facts = facts.merge(of_sample);
        differ.merge(own);
        seen.push(outputs);
    }
    let mut judged = bench.together(seen).into_iter();
    let (Some(evaluation), Some(base)) = (judged.next(), judged.next()) else {
        bail!(Invalid, "there is no sample");
    };
    let mut blame = Blame {
        samples: samples.len(),
        simulation_db: differ.db(),
        integer_share: 1.0 - energy(&base) / energy(&evaluation).max(1e-30),
        accumulator: integer.widest_accumulator(),
        evaluation,
        ..Blame::default()
    };
    blame.ask_units(&bench, &units, &facts, &base)?;
    blame.ask_causes(&bench, &units, &facts, &base)?;
    if let Some(cause) = preprocessing::cause(&bench, &integer, &blame.evaluation)? {
        blame.causes.insert(0, cause);
    }
    blame.note(&units);
    Ok(blame)
}

impl Blame {
    /// The shares of units and classes.
    fn ask_units(
        &mut self,
        bench: &Bench,
        units: &[Unit],
        facts: &Facts,
        base: &Evaluation,
    ) -> Result<()> {
        let mut classes: BTreeMap<&str, Vec<&Unit>> = BTreeMap::new();
        units.iter().for_each(|unit| classes.entry(&unit.class).or_default().push(unit));
        let mut changes: Vec<Change> = units.iter().map(Unit::restored).collect();
        for members in classes.values() {
            let mut change = Change::default();
            for own in members.iter().map(|unit| unit.restored()) {
                change.rules.extend(own.rules);
                change.constants.extend(own.constants);
            }
            changes.push(change);
        }
        let before = energy(base);
        let measured = bench.measure(&changes)?;
        let after: Vec<f64> = measured.iter().map(energy).collect();
        let share = |after: f64| 1.0 - after / before.max(1e-30);
        for (unit, &after) in units.iter().zip(&after) {
            let seen = facts.values.get(&unit.values[0]);
            let accumulated = seen.filter(|seen| seen.float.is_some());
            self.units.push(UnitBlame {
                name: unit.name.clone(),
                constants: unit.layer.is_some(),
                operator: unit.operator,
                class: unit.class.clone(),
                share: share(after),
                gain_db: gain_db(before, after),
                alone_db: seen.map_or(Sqnr::EXACT_DB, |seen| seen.alone.db()),
                accumulated_db: accumulated.map(|seen| seen.accumulated.db()),
                causes: vec![],
            });
        }
        for ((class, members), &after) in classes.iter().zip(&after[units.len()..]) {
            self.classes.push(ClassBlame {
                class: class.to_string(),
                units: members.len(),
                share: share(after),
                gain_db: gain_db(before, after),
            });
        }
        self.units_sum = self.units.iter().map(|unit| unit.share).sum();
        self.classes_sum = self.classes.iter().map(|class| class.share).sum();
        self.classes.sort_by(|a, b| b.share.total_cmp(&a.share));
        Ok(())
    }

    /// Why the units that lose most do so; puts those first.
    fn ask_causes(
        &mut self,
        bench: &Bench,
        units: &[Unit],
        facts: &Facts,
        base: &Evaluation,
    ) -> Result<()> {
        let mut worst: Vec<usize> = (0..units.len()).collect();
        worst.sort_by(|&a, &b| self.units[b].share.total_cmp(&self.units[a].share));
        let asked = worst.iter().take(ASKED);
        let mut all: Vec<(usize, Candidate)> = Vec::new();
        for &index in asked {
            let own = candidates(bench.simulation.graph(), &units[index], facts);
            all.extend(own.into_iter().map(|candidate| (index, candidate)));
        }
        let changes: Vec<Change> =
            all.iter_mut().map(|(_, candidate)| std::mem::take(&mut candidate.change)).collect();
        let (before, good) = (energy(base), 10f64.powf(-GOOD_DB / 10.0));
        let measured = bench.measure(&changes)?;
        for ((place, candidate), after) in all.into_iter().zip(measured) {
            let Candidate { kind, number, what, remedy, apply, .. } = candidate;
            let gain_db = gain_db(before, energy(&after));
            let points = after.top1.zip(base.top1).map(|(after, before)| 100.0 * (after - before));
            let share = 1.0 - energy(&after) / before.max(1e-30);
            let named = share >= NAMED && before > good;
            let at = units[place].name.clone();
            let cause = Cause { kind, at, number, what, remedy, apply, gain_db, points, named };
            self.units[place].causes.push(cause);
        }
        for unit in &self.units {
            let won = |cause: &Cause| 1.0 - 10f64.powf(-cause.gain_db / 10.0);
            let best = unit.causes.iter().map(won).fold(0.0, f64::max);
            let main = unit.causes.iter().find(|cause| won(cause) >= AS_GOOD * best);
            self.causes.extend(main.filter(|cause| cause.gain_db > 0.0).cloned());
        }
        self.causes.sort_by(|a, b| b.gain_db.total_cmp(&a.gain_db));
        self.units.sort_by(|a, b| b.share.total_cmp(&a.share));
        Ok(())
    }

    fn note(&mut self, units: &[Unit]) {
        if self.integer_share.abs() > 0.1 {
            self.notes.push(format!(
                "{:.0} % of the error energy is of operators as the engine computes them in integers; shares are of the rest",
                100.0 * self.integer_share
            ));
        }
        let rest = 100.0 * (1.0 - self.units_sum);
        self.notes.push(match rest >= 0.0 {
            true => format!("{rest:.0} % of the error energy is of no unit alone: it is of errors that add to each other"),
            false => format!("shares add up to {:.0} %: errors of several units cancel each other", 100.0 - rest),
        });
        if units.iter().all(|unit| unit.layer.is_none()) {
            self.notes.push("no constant has real numbers in the float network: names and shapes of layers differ".into());
        }
    }
}
