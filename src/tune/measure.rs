//! How near the outputs are to the float network's.

use super::Options;
use super::known::Measured;
use super::mixed::{Mixed, Widths, cost};
use crate::analyze::{Change, Evaluation, Part, Simulation};
use crate::data::{Samples, Workers};
use crate::error::Result;
use crate::exec::engine::{Engine, Options as EngineOptions};
use crate::exec::float::FloatExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::quant::Sqnr;
use crate::quantize::results;
use crate::tensor::Tensor;

/// The float network and what it makes of the samples.
pub struct Bench<'a> {
    samples: Vec<&'a [Tensor<f32>]>,
    /// What the outputs are made of, of each sample.
    real: Vec<Vec<Tensor<f32>>>,
    float: FloatExecutor,
    workers: Workers<'a>,
}

/// With what the outputs are made of in their place: a softmax hides what is lost.
fn without_softmax(graph: &Graph) -> Graph {
    Graph { outputs: results(graph), ..graph.clone() }
}

impl<'a> Bench<'a> {
    /// Runs the float network.
    ///
    /// # Errors
    /// Those of the network.
    pub fn new(
        float: &Graph,
        samples: Vec<&'a [Tensor<f32>]>,
        workers: Workers<'a>,
    ) -> Result<Self> {
        let network = FloatExecutor::new(without_softmax(float));
        let real = workers.map(samples.len(), |i| network.run(samples[i], |_, _| Ok(())))?;
        Ok(Self { samples, real, float: FloatExecutor::new(float), workers })
    }

    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    fn sqnrs(&self, sample: usize, outputs: &[Tensor<f32>]) -> Vec<Sqnr> {
        let pairs = outputs.iter().zip(&self.real[sample]);
        let sqnr = |(y, real): (&Tensor<f32>, &Tensor<f32>)| {
            let mut sqnr = Sqnr::default();
            sqnr.add(real.data(), y.data());
            sqnr
        };
        pairs.map(sqnr).collect()
    }

    /// What each of the networks `to` leaves of the error; what they share with `from` is run once. Nothing for one that
    /// has no integer form.
    ///
    /// # Errors
    /// Those of `from`, and of a run.
    pub fn measure(
        &self,
        mixed: &Mixed,
        options: &Options,
        from: &Widths,
        to: &[Widths],
    ) -> Result<Vec<Option<Measured>>> {
        let from = without_softmax(&mixed.graph(from)?);
        let simulation = Simulation::new(&from);
        let changes = self.workers.map(to.len(), |i| {
            let Ok(graph) = mixed.graph(&to[i]) else { return Ok(None) };
            let Ok(cost) = cost(&graph, options) else { return Ok(None) };
            Ok(Some((Change::between(&from, &graph), cost)))
        })?;
        let each = self.workers.map(self.samples.len(), |i| {
            let run = simulation.run(self.samples[i], |_, _| ())?;
            let see =
                |(change, _): &(Change, _)| Ok(self.sqnrs(i, &simulation.rerun(&run, change)?));
            changes.iter().flatten().map(see).collect::<Result<Vec<_>>>()
        })?;
        let mut number = 0;
        let measured = changes.iter().map(|change| {
            let (_, cost) = change.as_ref()?;
            let energy = energy(each.iter().map(|of_sample| &of_sample[number][..]));
            number += 1;
            energy.is_finite().then_some(Measured { energy, cost: *cost })
        });
        Ok(measured.collect())
    }

    /// The same of one network, by the engine.
    ///
    /// # Errors
    /// Those of lowering and of the engine.
    pub fn computed(&self, graph: &Graph, options: &Options) -> Result<Measured> {
        let integer = lower(&without_softmax(graph))?;
        let engine = Engine::new(&integer, EngineOptions::default().with_threads(1))?;
        let each = self.workers.map(self.samples.len(), |i| {
            Ok(self.sqnrs(i, &engine.run(&mut engine.session()?, self.samples[i])?))
        })?;
        let energy = energy(each.iter().map(|of_sample| &of_sample[..]));
        Ok(Measured { energy, cost: cost(graph, options)? })
    }

    /// Top-1 of the float network and of `graph`.
    ///
    /// # Errors
    /// Those of the engine, and samples without labels.
    pub fn top1(&self, graph: &Graph, samples: &dyn Samples) -> Result<[f64; 2]> {
        let integer = lower(graph)?;
        let engine = Engine::new(&integer, EngineOptions::default().with_threads(1))?;
        let names = graph.outputs.iter().map(|&v| &*graph.values[v].name);
        let names: Vec<&str> = names.collect();
        let parts = Part::of(&names, Some(&names), None);
        let each = self.workers.map(samples.len(), |i| {
            let inputs = samples.get(i)?;
            let real = self.float.run(&inputs, |_, _| Ok(()))?;
            let outputs = engine.run(&mut engine.session()?, &inputs)?;
            let labels = samples.labels(i)?;
            let see = |part: &Part| part.see(&outputs, Some(&real), labels.as_deref());
            parts.iter().map(see).collect::<Result<Vec<_>>>()
        })?;
        let evaluation = Evaluation::of(parts.clone(), each, true);
        match (evaluation.reference_top1, evaluation.top1) {
            (Some(float), Some(ours)) => Ok([float, ours]),
            _ => crate::error::bail!(Invalid, "the samples have no labels of classes to judge by"),
        }
    }
}

/// The mean, over the outputs, of the error's energy against the signal's.
fn energy<'a>(each: impl Iterator<Item = &'a [Sqnr]>) -> f32 {
    let mut all: Vec<Sqnr> = Vec::new();
    for of_sample in each {
        all.resize(of_sample.len(), Sqnr::default());
        all.iter_mut().zip(of_sample).for_each(|(all, own)| all.merge(*own));
    }
    let ratios = all.iter().map(|sqnr| match sqnr.db() {
        Sqnr::EXACT_DB => 0.0,
        db => 10f64.powf(-db / 10.0),
    });
    (ratios.sum::<f64>() / all.len().max(1) as f64) as f32
}
