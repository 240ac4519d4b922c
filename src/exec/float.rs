//! Real-number execution, with one callback per value: what calibration listens to.

use std::sync::Arc;

use super::{check_inputs, last_uses};
use crate::error::{Result, bail};
use crate::graph::{Constant, Graph, Node, ValueId};
use crate::ops::clip::Clip;
use crate::tensor::Tensor;

/// A network made ready to be run on any number of samples.
#[derive(Debug)]
pub struct FloatExecutor {
    graph: Arc<Graph>,
    /// Real numbers of the constants that are codes.
    dequantized: Vec<Option<Tensor<f32>>>,
    dead: Vec<Vec<ValueId>>,
}

/// The tensors of one run, by value.
pub type Trace = Vec<Option<Tensor<f32>>>;

impl From<&Graph> for Arc<Graph> {
    /// Copies the graph.
    fn from(graph: &Graph) -> Self {
        Self::new(graph.clone())
    }
}

impl FloatExecutor {
    /// Prepares `graph`; constants that are codes are dequantized.
    pub fn new(graph: impl Into<Arc<Graph>>) -> Self {
        let graph = graph.into();
        let codes = graph.values.iter().map(|v| match v.constant {
            Some(Constant::Codes(_)) => v.to_real().map(|real| real.into_owned()),
            _ => None,
        });
        let dequantized = codes.collect();
        let nodes = graph.nodes.iter().map(|n| (n.inputs.as_slice(), n.output));
        let dead = last_uses(graph.values.len(), nodes, &graph.outputs);
        Self { graph, dequantized, dead }
    }

    /// The network.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Computes the outputs; `observe` sees every input and every node's result, once, in order.
    /// A tensor is freed after its last use.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `inputs` do not fit the graph's, and whatever `observe` returns.
    pub fn run(
        &self,
        inputs: &[Tensor<f32>],
        mut observe: impl FnMut(ValueId, &Tensor<f32>) -> Result<()>,
    ) -> Result<Vec<Tensor<f32>>> {
        self.run_with(inputs, |v, tensor| observe(v, tensor))
    }

    /// As [`run`](Self::run), but `edit` may change what it sees: the rest of the network computes with
    /// that. So a question of the kind "what if only this value were quantized?" is a closure.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_with(
        &self,
        inputs: &[Tensor<f32>],
        mut edit: impl FnMut(ValueId, &mut Tensor<f32>) -> Result<()>,
    ) -> Result<Vec<Tensor<f32>>> {
        let graph = &*self.graph;
        let inputs = check_inputs(graph.inputs.iter().map(|&v| (&graph.values[v]).into()), inputs)?;
        let mut computed: Trace = vec![None; graph.values.len()];
        for (&v, tensor) in graph.inputs.iter().zip(inputs) {
            edit(v, computed[v].insert(tensor.into_owned()))?;
        }
        for (node, dead) in graph.nodes.iter().zip(&self.dead) {
            let y = self.eval(node, |v| computed[v].as_ref())?;
            edit(node.output, computed[node.output].insert(y))?;
            dead.iter().for_each(|&v| computed[v] = None);
        }
        self.outputs(|v| computed[v].as_ref())
    }

    /// All tensors of one run.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn trace(&self, inputs: &[Tensor<f32>]) -> Result<Trace> {
        let mut trace = vec![None; self.graph.values.len()];
        self.run(inputs, |v, tensor| {
            trace[v] = Some(tensor.clone());
            Ok(())
        })?;
        Ok(trace)
    }

    /// As [`run_with`](Self::run_with) on the inputs of an earlier run, but from the activation `start`
    /// on: `edit` sees `start` and what depends on it, and only that is computed again; all else is taken
    /// from `trace`.
    ///
    /// # Errors
    /// Whatever `edit` returns; [`Error::Invalid`](crate::Error::Invalid) if `trace` is not of this network.
    pub fn run_from(
        &self,
        start: ValueId,
        trace: &Trace,
        mut edit: impl FnMut(ValueId, &mut Tensor<f32>) -> Result<()>,
    ) -> Result<Vec<Tensor<f32>>> {
        let graph = &*self.graph;
        let Some(Some(first)) = trace.get(start).filter(|_| trace.len() == graph.values.len())
        else {
            bail!(Invalid, "the trace of a run does not hold value {start}");
        };
        let mut computed: Trace = vec![None; graph.values.len()];
        let mut changed = vec![false; graph.values.len()];
        changed[start] = true;
        edit(start, computed[start].insert(first.clone()))?;
        for (node, dead) in graph.nodes.iter().zip(&self.dead) {
            if node.inputs.iter().any(|&v| changed[v]) {
                let y = self.eval(node, |v| computed[v].as_ref().or(trace[v].as_ref()))?;
                changed[node.output] = true;
                edit(node.output, computed[node.output].insert(y))?;
                dead.iter().for_each(|&v| computed[v] = None);
            }
        }
        self.outputs(|v| computed[v].as_ref().or(trace[v].as_ref()))
    }

    /// The result of `node`; `computed` are the activations, and what is in the place of constants.
    pub(crate) fn eval<'t>(
        &'t self,
        node: &Node,
        computed: impl Fn(ValueId) -> Option<&'t Tensor<f32>>,
    ) -> Result<Tensor<f32>> {
        let arguments = node.inputs.iter().map(|&v| self.get(v, computed(v)));
        let mut y = node.op.eval_f32(&arguments.collect::<Result<Vec<_>>>()?);
        if node.clamp != Clip::NONE {
            y.data_mut().iter_mut().for_each(|y| *y = node.clamp.apply(*y));
        }
        Ok(y)
    }

    fn outputs<'t>(
        &'t self,
        computed: impl Fn(ValueId) -> Option<&'t Tensor<f32>>,
    ) -> Result<Vec<Tensor<f32>>> {
        self.graph.outputs.iter().map(|&v| self.get(v, computed(v)).cloned()).collect()
    }

    fn get<'t>(&'t self, v: ValueId, computed: Option<&'t Tensor<f32>>) -> Result<&'t Tensor<f32>> {
        let constant = self.graph.real_constant(v).or(self.dequantized[v].as_ref());
        match computed.or(constant) {
            Some(tensor) => Ok(tensor),
            None => bail!(
                Invalid,
                "value \"{}\" is used before it is computed",
                self.graph.values[v].name
            ),
        }
    }
}
