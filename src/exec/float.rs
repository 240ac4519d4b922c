//! Real-number execution, with one callback per value: what calibration listens to.

use std::borrow::Cow;

use super::{check_inputs, last_uses};
use crate::error::{Result, bail};
use crate::graph::{Graph, ValueId};
use crate::ops::clip::Clip;
use crate::tensor::Tensor;

/// A network made ready to be run on any number of samples.
#[derive(Debug)]
pub struct FloatExecutor<'a> {
    graph: &'a Graph,
    constants: Vec<Option<Cow<'a, Tensor<f32>>>>,
    dead: Vec<Vec<ValueId>>,
}

impl<'a> FloatExecutor<'a> {
    /// Prepares `graph`; constants that are codes are dequantized.
    pub fn new(graph: &'a Graph) -> Self {
        let nodes = graph.nodes.iter().map(|n| (n.inputs.as_slice(), n.output));
        Self {
            graph,
            constants: graph.values.iter().map(|v| v.to_real()).collect(),
            dead: last_uses(graph.values.len(), nodes, &graph.outputs),
        }
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
        let graph = self.graph;
        let expected = graph.inputs.iter().map(|&v| &graph.values[v]);
        check_inputs(expected.map(|v| (v.name.as_str(), v.shape.as_slice())), inputs)?;
        let mut computed: Vec<Option<Tensor<f32>>> = vec![None; graph.values.len()];
        for (&value, tensor) in graph.inputs.iter().zip(inputs) {
            observe(value, tensor)?;
            computed[value] = Some(tensor.clone());
        }
        for (node, dead) in graph.nodes.iter().zip(&self.dead) {
            let arguments = node.inputs.iter().map(|&v| self.get(&computed, v));
            let mut y = node.op.eval_f32(&arguments.collect::<Result<Vec<_>>>()?);
            if node.clamp != Clip::NONE {
                y.data_mut().iter_mut().for_each(|y| *y = node.clamp.apply(*y));
            }
            observe(node.output, &y)?;
            computed[node.output] = Some(y);
            dead.iter().for_each(|&v| computed[v] = None);
        }
        graph.outputs.iter().map(|&v| self.get(&computed, v).cloned()).collect()
    }

    fn get<'t>(
        &'t self,
        computed: &'t [Option<Tensor<f32>>],
        v: ValueId,
    ) -> Result<&'t Tensor<f32>> {
        let name = &self.graph.values[v].name;
        match self.constants[v].as_deref().or(computed[v].as_ref()) {
            Some(tensor) => Ok(tensor),
            None => bail!(Invalid, "value \"{name}\" is used before it is computed"),
        }
    }
}
