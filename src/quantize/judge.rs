//! Whether a step is worth it: how near the outputs are to the float network's.

use super::{BiasCorrection, RoundWeights, Session, Step};
use crate::error::Result;
use crate::exec::engine::{Engine, Options};
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, ValueId};
use crate::lower::lower;
use crate::ops::{Op, OutputParams};
use crate::quant::Sqnr;
use crate::tensor::Tensor;

/// The float network's results on samples that no step has looked at.
pub(super) struct Judge<'a> {
    samples: Vec<&'a [Tensor<f32>]>,
    results: Vec<Vec<Tensor<f32>>>,
}

impl<'a> Judge<'a> {
    /// Runs the float network of `session`.
    ///
    /// # Errors
    /// Those of the network.
    pub fn new(session: &Session<'a>) -> Result<Self> {
        Self::by(session, session.held_back())
    }

    /// As [`new`](Self::new), by these samples.
    ///
    /// # Errors
    /// Those of the network.
    pub fn by(session: &Session<'a>, samples: Vec<&'a [Tensor<f32>]>) -> Result<Self> {
        let mut graph = session.graph.clone();
        graph.outputs = results(&graph);
        let network = FloatExecutor::new(graph);
        let run = |i: usize| network.run(samples[i], |_, _| Ok(()));
        let results = session.workers.map(samples.len(), run)?;
        Ok(Self { samples, results })
    }

    /// As [`sqnr_db`](Self::sqnr_db), with weights rounded together if they will be and that is better, which takes its
    /// time.
    ///
    /// # Errors
    /// Those of the step, too.
    pub fn finished_db(&self, session: &Session) -> Result<f64> {
        let as_it_is = self.sqnr_db(session)?;
        if !session.will_run(RoundWeights.name()) {
            return Ok(as_it_is);
        }
        let mut copy = session.clone();
        RoundWeights.run(&mut copy)?;
        Ok(as_it_is.max(self.sqnr_db(&copy)?))
    }

    /// The ratio of signal to noise in dB of what `session` would quantize to, with biases corrected if they will be; over
    /// all outputs, each against its energy.
    ///
    /// # Errors
    /// Those of lowering and of the engine.
    pub fn sqnr_db(&self, session: &Session) -> Result<f64> {
        let mut copy = session.clone();
        if copy.will_run(BiasCorrection.name()) {
            BiasCorrection.run(&mut copy)?;
        }
        let mut graph = copy.quantized()?;
        graph.outputs = results(&graph);
        let integer = lower(&graph)?;
        let engine = Engine::new(&integer, Options::default().with_threads(1))?;
        let sqnrs = session.workers.map(self.samples.len(), |i| {
            let computed = engine.run(&mut engine.session()?, self.samples[i])?;
            let pairs = computed.iter().zip(&self.results[i]);
            let sqnr = pairs.map(|(y, real)| {
                let mut sqnr = Sqnr::default();
                sqnr.add(real.data(), y.data());
                sqnr
            });
            Ok(sqnr.collect::<Vec<_>>())
        })?;
        let noise = (0..graph.outputs.len()).map(|output| {
            let mut all = Sqnr::default();
            sqnrs.iter().for_each(|of_sample| all.merge(of_sample[output]));
            10f64.powf(-all.db() / 10.0)
        });
        Ok(-10.0 * (noise.sum::<f64>() / graph.outputs.len() as f64).log10())
    }
}

/// What the outputs are made of by softmax and by moving codes: a softmax hides what is lost.
pub(crate) fn results(graph: &Graph) -> Vec<ValueId> {
    let unmade = |&output: &ValueId| {
        let mut v = output;
        for node in graph.nodes.iter().rev() {
            let moves = node.op.output_params() == OutputParams::SameAsInput;
            if node.output == v && (moves || matches!(node.op, Op::Softmax(_))) {
                v = node.inputs[0];
            }
        }
        v
    };
    graph.outputs.iter().map(unmade).collect()
}
