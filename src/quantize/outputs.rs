//! Outputs of the network that join others: their widths, and how they are taken apart.

use super::Plan;
use crate::calibrate::Observer;
use crate::graph::{Graph, ValueId};
use crate::ops::{Op, OutputParams};
use crate::quant::{Range, Width};

/// Ranges further apart share no codes of 8 bits.
const FAR: f32 = 16.0;

impl Plan {
    /// Gives the outputs of `graph` codes of this width.
    pub fn set_output_width(&mut self, graph: &Graph, width: Width) {
        for &output in &graph.outputs {
            let joined = Joined::new(graph, output);
            self.set_width(&joined.producers, joined.from, width);
        }
    }

    /// Gives 16 bits to each Concat of 8 bits that is an output and whose arguments have ranges far apart, and to
    /// what computes these arguments. What has a scheme of its own keeps that. Returns the names of the outputs.
    pub fn widen_joined_outputs(&mut self, graph: &Graph, observer: &Observer) -> Vec<String> {
        let given = self.clone();
        let mut names = Vec::new();
        for &output in &graph.outputs {
            let joined = Joined::new(graph, output);
            let own =
                |&v: &ValueId| joined.producers[v].is_none_or(|i| given.nodes.contains_key(&i));
            let narrow = given.widths(graph)[joined.from] == Width::W8;
            if narrow && !own(&joined.from) && joined.are_far_apart(observer) {
                for v in joined.joins.iter().chain(&joined.parts).filter(|v| !own(v)) {
                    self.set_width(&joined.producers, *v, Width::W16);
                }
                names.push(graph.values[output].name.clone());
            }
        }
        names
    }

    fn set_width(&mut self, producers: &[Option<usize>], v: ValueId, width: Width) {
        if let Some(index) = producers[v] {
            let scheme = self.of_node(index);
            self.nodes.insert(index, scheme.with_widths(width, scheme.weight_width));
        }
    }
}

/// An output, and what a Concat joins in it.
struct Joined {
    /// The node that computes each value.
    producers: Vec<Option<usize>>,
    /// The value whose codes are moved to become the output.
    from: ValueId,
    /// The results of Concat among what it is made of,
    joins: Vec<ValueId>,
    /// and all else.
    parts: Vec<ValueId>,
}

impl Joined {
    fn new(graph: &Graph, output: ValueId) -> Self {
        let mut producers = vec![None; graph.values.len()];
        graph.nodes.iter().enumerate().for_each(|(i, node)| producers[node.output] = Some(i));
        let unmoved = |mut v: ValueId| loop {
            match producers[v].map(|i| &graph.nodes[i]) {
                Some(node) if node.op.output_params() == OutputParams::SameAsInput => {
                    v = node.inputs[0];
                }
                _ => return v,
            }
        };
        let from = unmoved(output);
        let (mut joins, mut parts, mut left) = (Vec::new(), Vec::new(), vec![from]);
        while let Some(v) = left.pop().map(unmoved) {
            match producers[v].map(|i| &graph.nodes[i]) {
                Some(node) if matches!(node.op, Op::Concat(_)) => {
                    joins.push(v);
                    left.extend(node.inputs.iter().rev());
                }
                _ => parts.push(v),
            }
        }
        Self { producers, from, joins, parts }
    }

    fn are_far_apart(&self, observer: &Observer) -> bool {
        let ranges = self.parts.iter().filter_map(|&v| observer.histogram(v)).map(|h| h.range());
        let spans = ranges.map(|Range { lo, hi }| hi.max(0.0) - lo.min(0.0));
        let spans: Vec<f32> = spans.filter(|&span| span > 0.0).collect();
        let largest = spans.iter().copied().fold(0.0, f32::max);
        spans.into_iter().any(|span| FAR * span < largest)
    }
}

/// Makes the arguments of each Concat that is an output outputs in its place, those of a Concat among them, too.
/// Constants are left out.
pub fn split_outputs(graph: &mut Graph) {
    let mut outputs = Vec::new();
    let mut left: Vec<ValueId> = graph.outputs.iter().rev().copied().collect();
    while let Some(v) = left.pop() {
        match graph.nodes.iter().find(|node| node.output == v) {
            Some(node) if matches!(node.op, Op::Concat(_)) => {
                let computed = |v: &&ValueId| graph.values[**v].constant.is_none();
                left.extend(node.inputs.iter().rev().filter(computed));
            }
            _ if outputs.contains(&v) => {}
            _ => outputs.push(v),
        }
    }
    graph.outputs = outputs;
    let mut used: Vec<bool> = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|&v| used[v] = true);
    let mut nodes = std::mem::take(&mut graph.nodes);
    nodes.reverse();
    nodes.retain(|node| {
        node.inputs.iter().for_each(|&v| used[v] |= used[node.output]);
        used[node.output]
    });
    nodes.reverse();
    graph.nodes = nodes;
    graph.remove_unused_values();
}
