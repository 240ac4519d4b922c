//! What can be to blame: values that share codes, and the constants of layers.

use std::collections::HashMap;

use super::factors::twin;
use super::simulation::Change;
use crate::graph::{Constant, Graph, ValueId};
use crate::ops::{Op, OutputParams, Role};
use crate::tensor::Tensor;

/// Values of one scale whose codes are only moved between them, or the constants of a layer.
pub struct Unit {
    pub name: String,
    pub operator: &'static str,
    pub class: String,
    /// The values; that of the name comes first.
    pub values: Vec<ValueId>,
    /// The layer, if these are constants.
    pub layer: Option<usize>,
    /// Its real constants, by their value.
    pub real: HashMap<ValueId, Tensor<f32>>,
}

impl Unit {
    /// What restores the whole of it.
    pub fn restored(&self) -> Change {
        let mut change = Change::default();
        match self.layer {
            Some(index) => {
                for (&v, real) in &self.real {
                    change.constants.insert((index, v), real.clone());
                }
            }
            None => self.values.iter().for_each(|&v| {
                change.rules.insert(v, Box::new(|_| ()));
            }),
        }
        change
    }
}

/// All units of `quantized`; real constants are those of `float`, by the names of nodes or results.
pub fn units(quantized: &Graph, float: &Graph) -> Vec<Unit> {
    let mut units = of_values(quantized);
    for (index, node) in quantized.nodes.iter().enumerate() {
        let mut real = HashMap::new();
        for (argument, &v) in node.inputs.iter().enumerate() {
            let value = &quantized.values[v];
            if !matches!(value.constant, Some(Constant::Codes(_))) {
                continue;
            }
            let Some(twin) = twin(float, quantized, node).filter(|twin| twin.op == node.op) else {
                continue;
            };
            match twin.inputs.get(argument).map(|&own| float.real_constant(own)) {
                Some(Some(own)) if own.shape() == value.shape => {
                    real.insert(v, own.clone());
                }
                // What corrects for rounded weights is nothing beside real ones.
                None if node.op.role(argument) == Role::Bias => {
                    real.extend(
                        Tensor::new(&*value.shape, vec![0.0; value_len(value.shape.as_ref())])
                            .ok()
                            .map(|zeros| (v, zeros)),
                    );
                }
                _ => {}
            }
        }
        if !real.is_empty() {
            units.push(Unit {
                name: node.name.clone(),
                operator: node.op.name(),
                class: format!("weights of {}", class(quantized, index)),
                values: vec![node.output],
                layer: Some(index),
                real,
            });
        }
    }
    units
}

fn value_len(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The operator, and of what kind its convolution is.
fn class(graph: &Graph, index: usize) -> String {
    let node = &graph.nodes[index];
    let name = node.op.name();
    let Op::Conv(conv) = &node.op else { return name.into() };
    let limits = if node.clamp == crate::ops::clip::Clip::NONE { "" } else { " with limits" };
    let depthwise = if conv.group > 1 { "depthwise " } else { "" };
    format!("{depthwise}{name}{limits}")
}

/// Values of one scale.
pub fn of_values(graph: &Graph) -> Vec<Unit> {
    let mut root: Vec<ValueId> = (0..graph.values.len()).collect();
    let find = |root: &[ValueId], mut v: ValueId| {
        while root[v] != v {
            v = root[v];
        }
        v
    };
    let quant = |v: ValueId| graph.values[v].quant.as_ref();
    for node in &graph.nodes {
        let joined = match node.op.output_params() {
            OutputParams::SameAsInput => &node.inputs[..1],
            OutputParams::Shared => &node.inputs[..],
            _ => continue,
        };
        for &v in joined.iter().filter(|&&v| graph.values[v].constant.is_none()) {
            if quant(v) == quant(node.output) {
                let (from, to) = (find(&root, node.output), find(&root, v));
                root[from] = to;
            }
        }
    }
    let mut producer: HashMap<ValueId, usize> = HashMap::new();
    graph.nodes.iter().enumerate().for_each(|(index, node)| {
        producer.insert(node.output, index);
    });
    let mut groups: Vec<(ValueId, Vec<ValueId>)> = Vec::new();
    let order = graph.inputs.iter().copied().chain(graph.nodes.iter().map(|node| node.output));
    for v in order.filter(|&v| quant(v).is_some()) {
        let of = find(&root, v);
        match groups.iter_mut().find(|(root, _)| *root == of) {
            Some((_, group)) => group.push(v),
            None => groups.push((of, vec![v])),
        }
    }
    let unit = |(_, mut values): (ValueId, Vec<ValueId>)| {
        let op = |v: &ValueId| producer.get(v).map(|&index| &graph.nodes[index].op);
        let is_index =
            |v: &ValueId| op(v).is_some_and(|op| op.output_params() == OutputParams::Index);
        if values.iter().any(is_index) {
            return None;
        }
        // What joins values gives its name to them.
        let joins = |v: &ValueId| matches!(op(v), Some(Op::Concat(_)));
        if let Some(place) = values.iter().position(joins) {
            values.swap(0, place);
        }
        let class = match producer.get(&values[0]) {
            _ if values.iter().any(|v| graph.outputs.contains(v)) => "outputs".into(),
            None => "inputs".into(),
            Some(&index) => class(graph, index),
        };
        Some(Unit {
            name: graph.values[values[0]].name.clone(),
            operator: op(&values[0]).map_or("input", |op| op.name()),
            class,
            values,
            layer: None,
            real: HashMap::new(),
        })
    };
    groups.into_iter().filter_map(unit).collect()
}
