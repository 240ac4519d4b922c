//! A normalization that is spelled out becomes one node.

use std::collections::BTreeSet;

use super::merge_nodes;
use crate::graph::{Graph, Index, Node, ValueId};
use crate::ops::clip::Clip;
use crate::ops::mean::Mean;
use crate::ops::normalize::{Kind, Normalize};
use crate::ops::unary::Unary;
use crate::ops::{Op, Operator};

/// Below it, what keeps a length from 0 is nothing beside the length.
const NO_LENGTH: f32 = 1e-8;
/// More elements are not normalized together: a file has a factor for each.
const LARGEST: usize = 1 << 20;

/// `(x − mean) / √(mean of squares + epsilon)`, with and without the mean, and `x / √(sum of squares)` → one node,
/// where nothing else uses what lies between; then a scale and an offset behind it become part of it.
pub fn fuse_normalization(graph: &mut Graph) {
    let index = Index::new(graph);
    let mut removed = BTreeSet::new();
    for node in 0..graph.nodes.len() {
        let Some(found) = find(graph, &index, node) else { continue };
        for &part in &found.nodes {
            let parts = std::mem::take(&mut graph.nodes[part].parts.0);
            graph.nodes[node].parts.0.extend(parts);
        }
        removed.extend(found.nodes);
        graph.nodes[node].op = Op::Normalize(found.op);
        graph.nodes[node].inputs = vec![found.x];
    }
    let mut at = 0..;
    graph.nodes.retain(|_| at.next().is_none_or(|i| !removed.contains(&i)));
    merge_nodes(graph, fuse_affine);
}

struct Found {
    op: Normalize,
    x: ValueId,
    /// The nodes that it takes the place of, but for the last.
    nodes: BTreeSet<usize>,
}

/// Walks from a result towards its arguments.
struct Walk<'a> {
    graph: &'a Graph,
    index: &'a Index,
    /// What has been passed.
    nodes: BTreeSet<usize>,
}

impl<'a> Walk<'a> {
    /// The node that computes `v`, if it says nothing of codes or clamps.
    fn plain(&self, v: ValueId) -> Option<(usize, &'a Node)> {
        let index = self.index.producer(v).filter(|_| self.graph.values[v].quant.is_none())?;
        let node = &self.graph.nodes[index];
        (node.clamp == Clip::NONE).then_some((index, node))
    }

    /// The arguments of the node that computes `v`, if it is what is looked for.
    fn back(&mut self, v: ValueId, is_it: impl FnOnce(&Op) -> bool) -> Option<&'a [ValueId]> {
        let (index, node) = self.plain(v).filter(|(_, node)| is_it(&node.op))?;
        self.nodes.insert(index);
        Some(&node.inputs)
    }

    /// The one number that `v` is.
    fn number(&self, v: ValueId) -> Option<f32> {
        let (&first, rest) = self.graph.real_constant(v)?.data().split_first()?;
        rest.iter().all(|&x| x == first).then_some(first)
    }

    /// `v` as another value combined with a number; passed only if it is that.
    fn with_number(&mut self, v: ValueId, is_it: fn(&Op) -> bool) -> Option<(ValueId, f32)> {
        let (_, node) = self.plain(v).filter(|(_, node)| is_it(&node.op))?;
        let &[a, b] = &node.inputs[..] else { return None };
        let found = match (self.number(a), self.number(b)) {
            (None, Some(number)) => (a, number),
            (Some(number), None) => (b, number),
            _ => return None,
        };
        self.back(v, |_| true)?;
        Some(found)
    }

    /// Passes products with 1.
    fn behind_ones(&mut self, mut v: ValueId) -> ValueId {
        loop {
            let before = self.nodes.clone();
            match self.with_number(v, is_product) {
                Some((x, 1.0)) => v = x,
                _ => {
                    self.nodes = before;
                    return v;
                }
            }
        }
    }

    /// `x` and the axes, where `v` is `x` less its mean or the other way round.
    fn centered(&mut self, v: ValueId) -> Option<(ValueId, &'a [bool])> {
        let &[a, b] = self.back(v, |op| matches!(op, Op::Add(op) if op.subtract))? else {
            return None;
        };
        [(a, b), (b, a)].into_iter().find_map(|(x, mean)| {
            let Op::Mean(Mean { reduced }) = &self.plain(mean)?.1.op else { return None };
            let of = self.plain(mean)?.1.inputs[0];
            (of == x).then(|| self.back(mean, |_| true))?;
            Some((x, &reduced[..]))
        })
    }

    /// Whether nothing but what was passed, and node `last`, uses what was passed.
    fn is_hidden(&self, last: usize) -> bool {
        let readers = self.nodes.iter().chain([&last]);
        let read: Vec<ValueId> =
            readers.flat_map(|&node| self.graph.nodes[node].inputs.iter().copied()).collect();
        self.nodes.iter().all(|&node| {
            let v = self.graph.nodes[node].output;
            self.index.uses(v) == read.iter().filter(|&&input| input == v).count()
        })
    }
}

fn is_product(op: &Op) -> bool {
    matches!(op, Op::Mul(_))
}

fn is_sum(op: &Op) -> bool {
    matches!(op, Op::Add(op) if !op.subtract)
}

fn find(graph: &Graph, index: &Index, node: usize) -> Option<Found> {
    let &[a, b] = &graph.nodes[node].inputs[..] else { return None };
    let product = is_product(&graph.nodes[node].op);
    [(a, b), (b, a)].into_iter().filter(|_| product).find_map(|(x, factor)| {
        let mut walk = Walk { graph, index, nodes: BTreeSet::new() };
        let (op, x) = normalization(&mut walk, x, factor)?;
        let shape = op.infer_shape(&[&graph.values[x].shape]).ok()?;
        let fits = shape == graph.values[graph.nodes[node].output].shape;
        (fits && walk.is_hidden(node)).then_some(Found { op, x, nodes: walk.nodes })
    })
}

/// `numerator · factor` as a normalization, and its argument.
fn normalization(
    walk: &mut Walk,
    numerator: ValueId,
    factor: ValueId,
) -> Option<(Normalize, ValueId)> {
    let is = |unary: Unary| move |op: &Op| matches!(op, Op::Unary(op) if *op == unary);
    let factor = walk.behind_ones(factor);
    let root = walk.back(factor, is(Unary::Reciprocal))?[0];
    let (root, floor) = floored(walk, root);
    let root = walk.behind_ones(root);
    let (root, floor) = if floor == 0.0 { floored(walk, root) } else { (root, floor) };
    let inner = walk.back(root, is(Unary::Sqrt))?[0];
    let (inner, epsilon) = walk.with_number(inner, is_sum).unwrap_or((inner, 0.0));
    let (inner, factor) = walk.with_number(inner, is_product).unwrap_or((inner, 1.0));
    let Op::Mean(Mean { reduced }) = &walk.plain(inner)?.1.op else { return None };
    let square = walk.back(inner, |_| true)?[0];
    let &[x, same] = walk.back(square, is_product)? else { return None };
    let shape = &walk.graph.values[x].shape;
    let first = reduced.iter().position(|&r| r)?;
    let count: usize = shape[first..].iter().product();
    if same != x || !(0.0..1.0).contains(&epsilon) {
        return None;
    }
    let one_axis = reduced.iter().filter(|r| **r).count() == 1;
    if one_axis && factor == shape[first] as f32 && factor != 1.0 && epsilon == 0.0 {
        let is_l2 = x == numerator && floor <= NO_LENGTH;
        return is_l2.then(|| (Normalize::plain(Kind::L2 { axis: first }, 0.0), x));
    }
    let to_the_end = reduced[first..].iter().all(|&r| r) && (2..=LARGEST).contains(&count);
    if !to_the_end || factor != 1.0 || floor != 0.0 {
        return None;
    }
    let nodes = walk.nodes.clone();
    if let (Some(a), Some(b)) = (walk.centered(numerator), walk.centered(x))
        && a == b
        && a.1 == &reduced[..]
        && is_minuend(walk, numerator, a.0)
    {
        return Some((Normalize::plain(Kind::Layer { axis: first }, epsilon), a.0));
    }
    walk.nodes = nodes;
    (x == numerator).then(|| (Normalize::plain(Kind::Rms { axis: first }, epsilon), x))
}

/// Whether the difference `v` begins with `x`.
fn is_minuend(walk: &Walk, v: ValueId, x: ValueId) -> bool {
    walk.plain(v).is_some_and(|(_, node)| node.inputs[0] == x)
}

/// `v` without what keeps it from 0, and that.
fn floored(walk: &mut Walk, v: ValueId) -> (ValueId, f32) {
    if let Some(found) = walk.with_number(v, is_sum) {
        return found;
    }
    let lo = |op: &Op| match op {
        Op::Clip(clip) if clip.hi == f32::INFINITY => Some(clip.lo),
        _ => None,
    };
    match walk.plain(v).and_then(|(_, node)| lo(&node.op)) {
        Some(lo) => match walk.back(v, |_| true) {
            Some(&[x, ..]) => (x, lo),
            _ => (v, 0.0),
        },
        None => (v, 0.0),
    }
}

/// `normalize(x) · scale` or `normalize(x) + offset` → `normalize(x)` with both.
fn fuse_affine(graph: &mut Graph, index: &mut Index, node: usize) -> Option<usize> {
    let later = &graph.nodes[node];
    let constant = later.inputs.iter().position(|&v| graph.real_constant(v).is_some())?;
    let x = *later.inputs.get(1usize.checked_sub(constant)?)?;
    let producer = index.sole_producer(graph, x)?;
    let before = &graph.nodes[producer];
    let Op::Normalize(op) = &before.op else { return None };
    let shape = &graph.values[x].shape;
    if before.clamp != Clip::NONE || graph.values[later.output].shape != *shape {
        return None;
    }
    let numbers = graph.real_constant(later.inputs[constant])?;
    let has_offset = !op.offset.is_empty();
    let may_add = matches!(op.kind, Kind::Layer { .. } | Kind::Groups(_));
    let sum = match &later.op {
        Op::Mul(_) if op.scale.is_empty() && !has_offset && !matches!(op.kind, Kind::L2 { .. }) => {
            false
        }
        other if is_sum(other) && !has_offset && may_add => true,
        _ => return None,
    };
    // Scales of channels make what has none yet a normalization of each channel.
    let by_channel = match op.kind {
        Kind::Layer { axis: 2 } if op.scale.is_empty() => Some(Kind::Groups(shape[1])),
        _ => None,
    };
    let mut kinds = [Some(op.kind), by_channel].into_iter().flatten();
    let (kind, numbers) = kinds.find_map(|kind| {
        let op = Normalize { kind, ..op.clone() };
        Some((kind, op.affine_of(numbers, shape)?))
    })?;
    if numbers.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mut op = Normalize { kind, ..op.clone() };
    match sum {
        true => op.offset = numbers,
        false => op.scale = numbers,
    }
    let op = op.reduced();
    let clamp = later.clamp;
    graph.nodes[producer].op = Op::Normalize(op);
    graph.nodes[producer].clamp = clamp;
    Some(producer)
}
