//! What scales channels behind a Concat scales them before it: branches of unequal size share no codes then.

use std::collections::HashMap;

use crate::graph::{Copies, Graph, Index, Node, Value, ValueId};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::tensor::{Tensor, strided_indices, strides};

/// Concats may follow on each other so many times.
const DEPTH: usize = 8;

/// `f(Concat(a, b))` → `Concat(f(a), f(b))` where `f` is a batch normalization, or a Mul, an Add or a Sub with a constant
/// that differs along the axis of the Concat, each with its part of the parameters; if nobody else reads the Concat or its
/// arguments.
pub fn split_concat(graph: &mut Graph) {
    let mut copies = Copies::new();
    for _ in 0..DEPTH {
        let mut index = Index::new(graph);
        let found =
            (0..graph.nodes.len()).filter_map(|i| Some((concat_before(graph, &index, i)?, i)));
        let found: HashMap<usize, usize> =
            found.filter(|&(_, i)| copies.take(graph, &graph.nodes[i]).is_ok()).collect();
        if found.is_empty() {
            return;
        }
        let mut goes = vec![false; graph.nodes.len()];
        found.values().for_each(|&last| goes[last] = true);
        let old = std::mem::take(&mut graph.nodes);
        for (i, node) in old.iter().enumerate() {
            match found.get(&i) {
                Some(&last) => split(graph, &mut index, node.clone(), &old[last]),
                None if goes[i] => {}
                None => graph.nodes.push(node.clone()),
            }
        }
    }
}

/// The Concat whose result node `i` scales.
fn concat_before(graph: &Graph, index: &Index, i: usize) -> Option<usize> {
    let node = &graph.nodes[i];
    let argument = match node.op {
        Op::BatchNorm(_) => 0,
        Op::Mul(_) | Op::Add(_) if node.inputs.len() == 2 => {
            node.inputs.iter().position(|&v| graph.values[v].constant.is_none())?
        }
        _ => return None,
    };
    let x = node.inputs[argument];
    let concat = index.sole_producer(graph, x)?;
    let before = &graph.nodes[concat];
    let Op::Concat(op) = before.op else { return None };
    let shape = &graph.values[x].shape;
    let mut others = (0..node.inputs.len()).filter(|&other| other != argument);
    let is_affine = others.all(|other| graph.real_constant(node.inputs[other]).is_some());
    let differs = match node.op {
        Op::BatchNorm(_) => op.axis == 1,
        _ => axis_of(graph, node.inputs[1 - argument], shape.len(), op.axis).is_some(),
    };
    let own = |&v: &ValueId| index.uses(v) == 1 && graph.values[v].constant.is_none();
    let fits = is_affine && differs && *shape == graph.values[node.output].shape;
    (fits && before.clamp == Clip::NONE && before.inputs.iter().all(own)).then_some(concat)
}

/// The axis of constant `v` that is axis `axis` of what it is combined with, of rank `rank`, if it differs along it.
fn axis_of(graph: &Graph, v: ValueId, rank: usize, axis: usize) -> Option<usize> {
    let shape = &graph.values[v].shape;
    let own = (axis + shape.len()).checked_sub(rank)?;
    (shape[own] > 1).then_some(own)
}

/// Adds what takes the place of `concat` and, behind it, `last`.
fn split(graph: &mut Graph, index: &mut Index, mut concat: Node, last: &Node) {
    let Op::Concat(op) = concat.op else { return };
    let rank = graph.values[concat.output].shape.len();
    let mut first = 0;
    for (number, x) in concat.inputs.iter_mut().enumerate() {
        let shape = graph.values[*x].shape.clone();
        let size = shape[op.axis];
        let inputs = last.inputs.iter().map(|&v| {
            let Some(numbers) = graph.real_constant(v) else { return *x };
            let axis = match last.op {
                Op::BatchNorm(_) => Some(0),
                _ => axis_of(graph, v, rank, op.axis),
            };
            let Some(part) = axis.and_then(|axis| part(numbers, axis, first, size)) else {
                return v;
            };
            let name = format!("{}.{number}", graph.values[v].name);
            index.add_value(graph, Value::real(name, part))
        });
        let inputs = inputs.collect();
        let name = format!("{}.{number}", graph.values[last.output].name);
        let output = index.add_value(graph, Value { name, shape, ..Value::default() });
        let name = format!("{}.{number}", last.name);
        graph.nodes.push(Node { name, inputs, output, ..last.clone() });
        *x = output;
        first += size;
    }
    concat.output = last.output;
    graph.nodes.push(concat);
}

/// `size` elements of `x` from `first` on along `axis`.
fn part(x: &Tensor<f32>, axis: usize, first: usize, size: usize) -> Option<Tensor<f32>> {
    let (mut shape, steps) = (x.shape().to_vec(), strides(x.shape()));
    shape[axis] = size;
    let start = first * steps[axis];
    let data = strided_indices(shape.clone(), steps).map(|i| x.data()[start + i]).collect();
    Tensor::new(shape, data).ok()
}
