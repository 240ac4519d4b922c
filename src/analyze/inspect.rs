//! What a model holds, and what it takes to run it.

use std::collections::HashMap;

use serde::Serialize;

use super::Coverage;
use super::coverage::{coverage, coverage_of_integers};
use crate::emit::{self, C, Rust, TARGETS, Target};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::lower::{Accumulator, IntGraph, IntNode, lower_all};
use crate::ops::Role;
use crate::quant::{QuantParams, Scheme};
use crate::quantize::{RoundedBias, prepare, rounded_biases};

/// The facts of a model file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Name of the network.
    pub name: String,
    /// Whether it means integers.
    pub quantized: bool,
    /// Where an integer network can run, and the nodes that are refused there.
    pub coverage: Vec<Coverage>,
    /// RAM of a quantized network.
    pub ram_bytes: Ram,
    /// Constants of a quantized network.
    pub constant_bytes: Option<usize>,
    /// What is for one sample, though the file leaves the number of samples open.
    pub for_one: Option<String>,
    /// Constants that have 4 bits in the file and take 8 here.
    pub widened: Vec<String>,
    /// Biases that are real in the file, and are off by a step of their result or more as integers.
    pub rounded_biases: Vec<RoundedBias>,
    /// What the caller gives.
    pub inputs: Vec<ValueReport>,
    /// What the caller gets.
    pub outputs: Vec<ValueReport>,
    /// Elements of all constants.
    pub parameters: usize,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Most activation codes that are needed at one time.
    pub peak_live_elements: usize,
    /// Nodes once batch norms are folded and activations fused.
    pub prepared_nodes: usize,
    /// The nodes: of the file, or once prepared if it is quantized.
    pub nodes: Vec<LayerReport>,
    /// The nodes as integers compute them, in a quantized network.
    pub lowered: Option<Vec<LoweredReport>>,
    /// The accumulator that can come nearest to its limit.
    pub accumulator: Option<Accumulator>,
}

/// RAM on each target, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ram {
    /// In C.
    pub c: Option<usize>,
    /// In Rust.
    pub rust: Option<usize>,
}

/// A value of the network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ValueReport {
    /// Its name.
    pub name: String,
    /// Sizes of its axes, in ONNX's order.
    pub shape: Vec<usize>,
    /// How its codes are read.
    pub quant: Option<QuantReport>,
}

/// How codes are read: `real = scale · (code − zero_point)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QuantReport {
    /// One for all, or one for each channel.
    pub scale: Vec<f64>,
    /// The code of real 0.
    pub zero_point: i32,
    /// Bits of a code.
    pub bits: u32,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub operator: &'static str,
    /// Products that are summed.
    pub macs: u64,
    /// Elements of its constants.
    pub parameters: usize,
    /// Its arguments.
    pub inputs: Vec<ValueReport>,
    /// Its result.
    pub output: ValueReport,
    /// No input makes its accumulator larger than this.
    pub acc_bound: Option<i64>,
}

/// A node of the integer network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LoweredReport {
    /// Its name.
    pub name: String,
    /// Name of the node of the graph that it comes from.
    pub origin: String,
    /// Its integer operator.
    pub operator: &'static str,
    /// Its result.
    pub output: ValueReport,
    /// How the codes of its weight are read.
    pub weight: Option<QuantReport>,
    /// Products that are summed.
    pub macs: u64,
    /// No input makes its accumulator larger than this.
    pub acc_bound: Option<i64>,
}

impl Inspection {
    /// Inspects an imported network.
    ///
    /// # Errors
    /// The node of a quantized network whose bias cannot be quantized, or one with a constant that is no number.
    pub fn new(graph: &Graph) -> Result<Self> {
        let mut prepared = graph.clone();
        prepare(&mut prepared)?;
        let (coverage, integer) = match prepared.has_codes() {
            false => (coverage(&prepared, Scheme::default(), TARGETS), None),
            true => {
                let (integer, refused) = lower_all(&prepared);
                let whole = refused.is_empty();
                let coverage = coverage_of_integers(&integer, refused, TARGETS);
                (coverage, whole.then_some(integer))
            }
        };
        let file = graph;
        let graph = if integer.is_some() { &prepared } else { graph };
        let bounds = integer.iter().flat_map(|g| &g.nodes);
        let bounds: HashMap<&str, Option<i64>> =
            bounds.map(|n| (n.name.as_str(), n.op.acc_bound())).collect();
        let nodes = graph.nodes.iter().map(|node| LayerReport {
            acc_bound: bounds.get(node.name.as_str()).copied().flatten(),
            ..LayerReport::new(graph, node)
        });
        let value = |&v: &ValueId| ValueReport::new(graph, v);
        Ok(Self {
            name: graph.name.clone(),
            quantized: integer.is_some(),
            coverage,
            ram_bytes: Ram {
                c: integer.as_ref().and_then(|g| Some(C.memory(g)?.size)),
                rust: integer.as_ref().and_then(|g| Some(Rust.memory(g)?.size)),
            },
            constant_bytes: integer.as_ref().map(emit::constant_bytes),
            for_one: graph.for_one.clone(),
            widened: graph.widened.clone(),
            rounded_biases: rounded_biases(file, &prepared),
            inputs: graph.inputs.iter().map(value).collect(),
            outputs: graph.outputs.iter().map(value).collect(),
            parameters: graph.parameters(),
            macs: graph.nodes.iter().map(|n| graph.macs(n)).sum(),
            peak_live_elements: prepared.peak_live_elements(),
            prepared_nodes: prepared.nodes.len(),
            nodes: nodes.collect(),
            lowered: integer.as_ref().map(|integer| lowered(graph, integer)),
            accumulator: integer.as_ref().and_then(IntGraph::widest_accumulator),
        })
    }
}

impl ValueReport {
    fn new(graph: &Graph, v: ValueId) -> Self {
        let value = &graph.values[v];
        let quant = value.quant.as_ref().map(QuantReport::new);
        Self { name: value.name.clone(), shape: value.shape.clone(), quant }
    }
}

impl QuantReport {
    fn new(quant: &QuantParams) -> Self {
        let scale = quant.scale.iter().map(|&scale| scale as f64).collect();
        Self { scale, zero_point: quant.zero_point, bits: quant.width.bits() }
    }
}

impl LayerReport {
    /// What is known of `node` of `graph` before it is lowered.
    pub fn new(graph: &Graph, node: &Node) -> Self {
        let constants = node.inputs.iter().filter_map(|&v| graph.values[v].constant.as_ref());
        Self {
            name: node.name.clone(),
            operator: node.op.name(),
            macs: graph.macs(node),
            parameters: constants.map(|c| c.shape().iter().product::<usize>()).sum(),
            inputs: node.inputs.iter().map(|&v| ValueReport::new(graph, v)).collect(),
            output: ValueReport::new(graph, node.output),
            acc_bound: None,
        }
    }
}

fn lowered(graph: &Graph, integer: &IntGraph) -> Vec<LoweredReport> {
    let originals: HashMap<&str, &Node> =
        graph.nodes.iter().map(|n| (n.name.as_str(), n)).collect();
    let report = |node: &IntNode| {
        let value = &integer.values[node.output];
        let original = originals.get(node.name.as_str());
        let is_weight = |n: &&&Node| matches!(n.op.role(1), Role::Weight { .. });
        let weight = original.filter(is_weight);
        let weight = weight.and_then(|n| graph.values[*n.inputs.get(1)?].quant.as_ref());
        LoweredReport {
            name: node.name.clone(),
            origin: node.origin.clone(),
            operator: node.op.name(),
            output: ValueReport {
                name: value.name.clone(),
                shape: value.shape.clone(),
                quant: Some(QuantReport::new(&value.quant)),
            },
            weight: weight.map(QuantReport::new),
            macs: original.map(|n| graph.macs(n)).unwrap_or_default(),
            acc_bound: node.op.acc_bound(),
        }
    };
    integer.nodes.iter().map(report).collect()
}
