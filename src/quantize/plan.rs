//! Which scheme each node has.

use std::collections::HashMap;

use super::Ranges;
use crate::calibrate::Calibrator;
use crate::graph::{Graph, ValueId};
use crate::ops::{Op, OutputParams};
use crate::quant::{Scheme, Width};

/// The scheme of each node and of each input of the network: one for all, and exceptions.
///
/// That of a node is for its weights and its result; a constant beside activations has their width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What has no scheme of its own has this one.
    pub default: Scheme,
    /// By index.
    pub nodes: HashMap<usize, Scheme>,
    /// By value.
    pub inputs: HashMap<ValueId, Scheme>,
    /// How ranges are chosen, if a recipe says so,
    pub calibrator: Option<Calibrator>,
    /// and for some values another way.
    pub calibrators: HashMap<ValueId, Calibrator>,
    /// Ranges that are given, whatever calibration has seen.
    pub ranges: Ranges,
}

impl Plan {
    /// That of the node `index`.
    pub fn of_node(&self, index: usize) -> Scheme {
        self.nodes.get(&index).copied().unwrap_or(self.default)
    }

    /// That of the network's input `value`.
    pub fn of_input(&self, value: ValueId) -> Scheme {
        self.inputs.get(&value).copied().unwrap_or(self.default)
    }

    /// Gives 8 bits to weights of 4 where few of them cost much: in the first and the last layer, and in depthwise ones.
    pub(super) fn widen_sensitive_weights(&mut self, graph: &Graph) {
        let has_weight = |&index: &usize| {
            let node = &graph.nodes[index];
            matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_))
        };
        let layers: Vec<usize> = (0..graph.nodes.len()).filter(has_weight).collect();
        let is_depthwise = |&&index: &&usize| match &graph.nodes[index].op {
            Op::Conv(conv) => {
                conv.group > 1
                    && graph.values[graph.nodes[index].inputs[1]].shape.get(1) == Some(&1)
            }
            _ => false,
        };
        let ends = layers.first().into_iter().chain(layers.last());
        for &index in ends.chain(layers.iter().filter(is_depthwise)) {
            let scheme = self.of_node(index);
            if scheme.weight_width == Width::W4 {
                self.nodes.insert(index, scheme.with_widths(scheme.activation_width, Width::W8));
            }
        }
    }

    /// How the range of each activation of `graph` is chosen, by `default` if nothing else is said: what only moves codes
    /// has the range of what it moves.
    pub fn calibrators(&self, graph: &Graph, default: Calibrator) -> Vec<Calibrator> {
        let mut all = vec![self.calibrator.unwrap_or(default); graph.values.len()];
        self.calibrators.iter().for_each(|(&v, &own)| all[v] = own);
        for node in &graph.nodes {
            if node.op.output_params() == OutputParams::SameAsInput {
                all[node.output] = all[node.inputs[0]];
            }
        }
        all
    }

    /// The width of each activation of `graph`: what has codes already keeps its own.
    pub fn widths(&self, graph: &Graph) -> Vec<Width> {
        let mut widths = vec![self.default.activation_width; graph.values.len()];
        for &v in &graph.inputs {
            let own = graph.values[v].quant.as_ref().map(|quant| quant.width);
            widths[v] = own.unwrap_or(self.of_input(v).activation_width);
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            widths[node.output] = match (&graph.values[node.output].quant, node.op.output_params())
            {
                (Some(quant), _) => quant.width,
                (None, OutputParams::SameAsInput) => widths[node.inputs[0]],
                (None, _) => self.of_node(index).activation_width,
            };
        }
        widths
    }
}

impl From<Scheme> for Plan {
    /// The same for all.
    fn from(default: Scheme) -> Self {
        Self { default, ..Self::default() }
    }
}
