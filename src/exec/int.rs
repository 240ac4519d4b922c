//! Integer execution. Real numbers appear only at the edge, where inputs become codes and outputs
//! real values again.

use std::sync::Arc;

use super::{check_inputs, last_uses};
use crate::codes::Codes;
use crate::error::{Result, bail};
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntValue};
use crate::ops::{Order, channels_first, channels_last};
use crate::tensor::{Tensor, permuted};

/// An integer network made ready to be run on any number of samples.
#[derive(Debug)]
pub struct IntExecutor {
    graph: Arc<IntGraph>,
    dead: Vec<Vec<ValueId>>,
}

impl From<&IntGraph> for Arc<IntGraph> {
    /// Copies the graph.
    fn from(graph: &IntGraph) -> Self {
        Self::new(graph.clone())
    }
}

impl IntExecutor {
    /// Prepares `graph`.
    pub fn new(graph: impl Into<Arc<IntGraph>>) -> Self {
        let graph = graph.into();
        let nodes = graph.nodes.iter().map(|n| (n.inputs.as_slice(), n.output));
        let dead = last_uses(graph.values.len(), nodes, &graph.outputs);
        Self { graph, dead }
    }

    /// The network.
    pub fn graph(&self) -> &Arc<IntGraph> {
        &self.graph
    }

    /// Computes the codes of the outputs, in ONNX's axis order; `observe` sees the codes of every
    /// input and every node's result, in the order of memory ([`IntValue::order`]).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `inputs` do not fit the graph's, and whatever `observe` returns.
    pub fn run_codes(
        &self,
        inputs: &[Tensor<f32>],
        mut observe: impl FnMut(ValueId, &Codes) -> Result<()>,
    ) -> Result<Vec<Tensor<i32>>> {
        let graph = &*self.graph;
        let inputs = check_inputs(graph.inputs.iter().map(|&v| (&graph.values[v]).into()), inputs)?;
        let mut computed: Vec<Option<Codes>> = vec![None; graph.values.len()];
        for (&v, input) in graph.inputs.iter().zip(inputs) {
            let codes = graph.values[v].to_codes(&input);
            observe(v, &codes)?;
            computed[v] = Some(codes);
        }
        for (node, dead) in graph.nodes.iter().zip(&self.dead) {
            let arguments = node.inputs.iter().map(|&v| self.codes(&computed, v));
            let value = &graph.values[node.output];
            let mut y = Codes::zeros(value.quant.width, value.len());
            node.op.eval(&arguments.collect::<Result<Vec<_>>>()?, &mut y);
            observe(node.output, &y)?;
            computed[node.output] = Some(y);
            dead.iter().for_each(|&v| computed[v] = None);
        }
        let outputs = graph.outputs.iter();
        outputs.map(|&v| graph.values[v].to_onnx_order(self.codes(&computed, v)?)).collect()
    }

    /// As [`run_codes`](Self::run_codes), with outputs in real values.
    pub fn run(&self, inputs: &[Tensor<f32>]) -> Result<Vec<Tensor<f32>>> {
        let codes = self.run_codes(inputs, |_, _| Ok(()))?;
        let values = self.graph.outputs.iter().map(|&v| &self.graph.values[v]);
        Ok(values.zip(codes).map(|(v, c)| c.map(|&c| v.quant.dequantize(c, 0))).collect())
    }

    fn codes<'t>(&'t self, computed: &'t [Option<Codes>], v: ValueId) -> Result<&'t Codes> {
        match computed[v].as_ref().or(self.graph.values[v].constant.as_ref()) {
            Some(codes) => Ok(codes),
            None => bail!(Invalid, "value \"{}\" is not computed", self.graph.values[v].name),
        }
    }
}

impl IntValue {
    /// Codes of a real tensor, in the order of memory.
    pub fn to_codes(&self, x: &Tensor<f32>) -> Codes {
        let codes = |x: &Tensor<f32>| {
            Codes::new(self.quant.width, x.data().iter().map(|&x| self.quant.quantize(x, 0)))
        };
        match self.order {
            Order::ChannelsLast => codes(&x.transpose(&channels_last(self.shape.len()))),
            _ => codes(x),
        }
    }

    /// Codes in the order of memory as a tensor in ONNX's axis order.
    pub fn to_onnx_order(&self, codes: &Codes) -> Result<Tensor<i32>> {
        let codes = codes.iter().collect();
        match self.order {
            Order::ChannelsLast => {
                let rank = self.shape.len();
                let stored = permuted(&self.shape, &channels_last(rank));
                Ok(Tensor::new(stored, codes)?.transpose(&channels_first(rank)))
            }
            _ => Tensor::new(self.shape.clone(), codes),
        }
    }
}
