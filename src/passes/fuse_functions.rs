//! Nodes that compute a function of one value become one node, which in integers is one table.

use std::collections::BTreeSet;

use crate::graph::{Graph, Index, Node, ValueId};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::ops::unary::{Argument, Function, Step};

use super::fuse_activation::intersection;

/// The most nodes of a function.
const LONGEST: usize = 64;

/// Sums and products with numbers, functions of one number and limits, put together in any way: where all depends
/// on one value, every result that others see is a function of it.
pub fn fuse_functions(graph: &mut Graph) {
    let index = Index::new(graph);
    let roots = roots(graph, &index);
    // How often a value is read by nodes whose results are functions of the same value.
    let mut hidden = vec![0; graph.values.len()];
    for node in &graph.nodes {
        for &v in &node.inputs {
            hidden[v] += is_step(graph, &roots, v, node.output) as usize;
        }
    }
    let seen = |v: ValueId| graph.values[v].quant.is_some() || hidden[v] < index.uses(v);
    let mut found = Vec::new();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if roots[node.output].is_none() {
            kept.insert(at);
        } else if seen(node.output) {
            let nodes = below(graph, &index, &roots, at);
            // Limits are those of the node before, in a file that is read again.
            let is_limit = |&&part: &&usize| {
                let Node { op, inputs, output, .. } = &graph.nodes[part];
                matches!(op, Op::Clip(_)) && is_step(graph, &roots, inputs[0], *output)
            };
            if nodes.iter().filter(|part| !is_limit(part)).count() > 1 {
                kept.insert(at);
                found.push((at, function(graph, &nodes), nodes));
            } else {
                kept.extend(nodes);
            }
        }
    }
    for (at, (mut function, x), nodes) in found {
        for part in nodes.into_iter().filter(|&part| part != at) {
            let parts = graph.nodes[part].parts.0.clone();
            graph.nodes[at].parts.0.extend(parts);
        }
        // Limits of the result are the node's, as those of other nodes are.
        while let [.., before, Step { op: Op::Clip(limits), .. }] = &function.steps[..]
            && let Some(clamp) = intersection(before.clamp, *limits)
            && let Some(clamp) = intersection(clamp, graph.nodes[at].clamp)
        {
            graph.nodes[at].clamp = clamp;
            if let Some(Step { clamp, .. }) = function.steps.pop().and(function.steps.last_mut()) {
                *clamp = Clip::NONE;
            }
        }
        graph.nodes[at].op = Op::Function(function);
        graph.nodes[at].inputs = vec![x];
    }
    let mut at = 0..;
    graph.nodes.retain(|_| at.next().is_none_or(|i| kept.contains(&i)));
}

/// The number that each element of a constant is.
fn number(graph: &Graph, v: ValueId) -> Option<f32> {
    let (&first, rest) = graph.real_constant(v)?.data().split_first()?;
    rest.iter().all(|&x| x == first).then_some(first)
}

/// Whether `v` is a step of the function that computes `of`.
fn is_step(graph: &Graph, roots: &[Option<ValueId>], v: ValueId, of: ValueId) -> bool {
    is_inner(graph, roots, v) && roots[v] == roots[of]
}

/// Whether `v` is a function of another value, and has no codes of its own.
fn is_inner(graph: &Graph, roots: &[Option<ValueId>], v: ValueId) -> bool {
    roots[v].is_some() && graph.values[v].quant.is_none()
}

/// For each value the one that it is a function of, if there is one.
fn roots(graph: &Graph, index: &Index) -> Vec<Option<ValueId>> {
    let mut roots = vec![None; graph.values.len()];
    let mut sizes = vec![0usize; graph.values.len()];
    for node in &graph.nodes {
        if !matches!(node.op, Op::Add(_) | Op::Mul(_) | Op::Unary(_) | Op::Clip(_)) {
            continue;
        }
        let shape = &graph.values[node.output].shape;
        let values = node.inputs.iter().copied().filter(|&v| number(graph, v).is_none());
        let values: BTreeSet<ValueId> = values.collect();
        let is_value = |v: &ValueId| index.producer(*v).is_some() || graph.inputs.contains(v);
        if !values.iter().all(|v| is_value(v) && graph.values[*v].shape == *shape) {
            continue;
        }
        let inner = |v: ValueId| is_inner(graph, &roots, v);
        let size = 1 + values.iter().filter(|v| inner(**v)).map(|&v| sizes[v]).sum::<usize>();
        let of = |v: &ValueId| if inner(*v) { roots[*v] } else { Some(*v) };
        // Behind a function that is too long another one begins.
        let (found, size) = match size <= LONGEST {
            true => (values.iter().map(of).collect(), size),
            false => (values.iter().map(|&v| Some(v)).collect::<BTreeSet<_>>(), 1),
        };
        if found.len() == 1 {
            (roots[node.output], sizes[node.output]) = (found.into_iter().flatten().next(), size);
        }
    }
    roots
}

/// The nodes between node `last` and the value that it is a function of, in order, and itself.
fn below(graph: &Graph, index: &Index, roots: &[Option<ValueId>], last: usize) -> BTreeSet<usize> {
    let (mut nodes, mut open) = (BTreeSet::new(), vec![last]);
    while let Some(at) = open.pop() {
        if nodes.insert(at) {
            let Node { inputs, output, .. } = &graph.nodes[at];
            let steps = inputs.iter().filter(|&&v| is_step(graph, roots, v, *output));
            open.extend(steps.filter_map(|&v| index.producer(v)));
        }
    }
    nodes
}

/// These nodes as one function, and its argument.
fn function(graph: &Graph, nodes: &BTreeSet<usize>) -> (Function, ValueId) {
    let (mut steps, mut results, mut x) = (Vec::new(), Vec::new(), None);
    let count = nodes.len();
    for (i, &at) in nodes.iter().enumerate() {
        let node = &graph.nodes[at];
        let arguments = node.inputs.iter().map(|&v| {
            let step = results.iter().position(|&result| result == v);
            match (step, number(graph, v)) {
                (Some(step), _) => Argument::Step(step),
                (None, Some(number)) => Argument::Number(number),
                (None, None) => {
                    x = Some(v);
                    Argument::Input
                }
            }
        });
        let arguments = arguments.collect();
        // That of the last one is the node's.
        let clamp = if i + 1 < count { node.clamp } else { Clip::NONE };
        steps.push(Step { op: node.op.clone(), arguments, clamp });
        results.push(node.output);
    }
    (Function { steps }, x.unwrap_or_default())
}
