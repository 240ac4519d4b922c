//! A quantized network in real numbers that are rounded where codes are: what the engine computes, up to the rounding of
//! its multipliers; and the same with something changed.

use std::collections::HashMap;

use crate::error::Result;
use crate::exec::float::{FloatExecutor, Trace};
use crate::graph::{Graph, ValueId};
use crate::ops::clip::Clip;
use crate::quant::QuantParams;
use crate::tensor::Tensor;

/// What becomes of a value in place of its rounding.
pub type Rule = Box<dyn Fn(&mut Tensor<f32>) + Send + Sync>;

/// What is not as the quantized network has it.
#[derive(Default)]
pub struct Change {
    /// Rounding of values.
    pub rules: HashMap<ValueId, Rule>,
    /// Numbers of constants, by node and value.
    pub constants: HashMap<(usize, ValueId), Tensor<f32>>,
}

impl Change {
    /// What makes `to` of `from`: the same network with other codes.
    pub fn between(from: &Graph, to: &Graph) -> Self {
        let mut change = Self::default();
        for v in from.activations().filter(|&v| from.values[v].quant != to.values[v].quant) {
            if let Some(params) = to.values[v].quant.clone() {
                change.rules.insert(v, Box::new(move |x| round(&params, x)));
            }
        }
        for (index, (own, other)) in from.nodes.iter().zip(&to.nodes).enumerate() {
            for (&v, &of) in own.inputs.iter().zip(&other.inputs) {
                let (own, other) = (&from.values[v], &to.values[of]);
                let differs = own.constant != other.constant || own.quant != other.quant;
                if let (true, Some(_), Some(real)) = (differs, &own.constant, other.to_real()) {
                    change.constants.insert((index, v), real.into_owned());
                }
            }
        }
        change
    }
}

pub struct Simulation {
    network: FloatExecutor,
}

/// One sample, run without any change.
pub struct Run {
    /// The inputs, before they are codes.
    pub inputs: HashMap<ValueId, Tensor<f32>>,
    pub trace: Trace,
}

pub fn round(params: &QuantParams, x: &mut Tensor<f32>) {
    x.data_mut().iter_mut().for_each(|x| *x = params.dequantize(params.quantize(*x, 0), 0));
}

impl Simulation {
    pub fn new(quantized: &Graph) -> Self {
        Self { network: FloatExecutor::new(quantized) }
    }

    pub fn graph(&self) -> &Graph {
        self.network.graph()
    }

    fn quant(&self, v: ValueId) -> Option<&QuantParams> {
        self.graph().values[v].quant.as_ref()
    }

    /// Runs a sample; `unrounded` sees each value before it is rounded.
    pub fn run(
        &self,
        inputs: &[Tensor<f32>],
        mut unrounded: impl FnMut(ValueId, &Tensor<f32>),
    ) -> Result<Run> {
        let mut trace = vec![None; self.graph().values.len()];
        let mut given = HashMap::new();
        self.network.run_with(inputs, |v, x| {
            unrounded(v, x);
            if self.graph().inputs.contains(&v) {
                given.insert(v, x.clone());
            }
            if let Some(params) = self.quant(v) {
                round(params, x);
            }
            trace[v] = Some(x.clone());
            Ok(())
        })?;
        Ok(Run { inputs: given, trace })
    }

    /// The outputs of the run.
    pub fn outputs(&self, run: &Run) -> Vec<Tensor<f32>> {
        self.graph().outputs.iter().filter_map(|&v| run.trace[v].clone()).collect()
    }

    /// The outputs with `change`: what does not depend on it is taken from `run`.
    ///
    /// # Errors
    /// Those of the network.
    pub fn rerun(&self, run: &Run, change: &Change) -> Result<Vec<Tensor<f32>>> {
        let graph = self.graph();
        let mut computed: Trace = vec![None; graph.values.len()];
        for (&v, x) in &run.inputs {
            if let Some(rule) = change.rules.get(&v) {
                rule(computed[v].insert(x.clone()));
            }
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            let rule = change.rules.get(&node.output);
            let differs =
                |&v: &ValueId| computed[v].is_some() || change.constants.contains_key(&(index, v));
            if rule.is_none() && !node.inputs.iter().any(differs) {
                continue;
            }
            let mut y = self.network.eval(node, |v| {
                let constant = change.constants.get(&(index, v));
                constant.or(computed[v].as_ref()).or(run.trace[v].as_ref())
            })?;
            match (rule, self.quant(node.output)) {
                (Some(rule), _) => rule(&mut y),
                (None, Some(params)) => round(params, &mut y),
                (None, None) => {}
            }
            computed[node.output] = Some(y);
        }
        let output = |&v: &ValueId| computed[v].clone().or_else(|| run.trace[v].clone());
        Ok(graph.outputs.iter().filter_map(output).collect())
    }

    /// The result of node `index` in `run`, unrounded and without limits, with other `constants`.
    ///
    /// # Errors
    /// Those of the network.
    pub fn result(&self, run: &Run, index: usize, change: &Change) -> Result<Tensor<f32>> {
        let mut node = self.graph().nodes[index].clone();
        node.clamp = Clip::NONE;
        self.network.eval(&node, |v| change.constants.get(&(index, v)).or(run.trace[v].as_ref()))
    }
}
