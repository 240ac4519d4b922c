//! A normalization that is spelled out becomes one node.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::merge_nodes;
use crate::graph::{Graph, Index, Node, Part, Parts, Value, ValueId};
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::normalize::{Kind, Normalize};
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Op, Operator};
use crate::tensor::{Shape, permuted};

/// Below it, what keeps a length from 0 is nothing beside the length: the root of 1e-12.
const NO_LENGTH: f32 = 1.01e-6;
/// More elements are not normalized together: a file has a factor for each.
const LARGEST: usize = 1 << 20;

/// `(x − mean) / √(mean of squares + epsilon)`, with and without the mean, and `x / √(sum of squares)` → one node,
/// where nothing else uses what lies between; along axes that are not the last ones, one between two transpositions. Then
/// reshapes around it become groups of channels, and a scale and an offset behind it part of it.
pub fn fuse_normalization(graph: &mut Graph) {
    let mut index = Index::new(graph);
    let found: BTreeMap<usize, Found> = (0..graph.nodes.len())
        .filter_map(|node| Some((node, find(graph, &index, node)?)))
        .collect();
    let nodes = std::mem::take(&mut graph.nodes);
    let outputs: Vec<ValueId> = nodes.iter().map(|node| node.output).collect();
    let mut parts: Vec<Vec<Part>> = nodes.iter().map(|node| node.parts.0.clone()).collect();
    let mut removed = BTreeSet::new();
    for (i, mut node) in nodes.into_iter().enumerate() {
        let Some(found) = found.get(&i).filter(|found| found.nodes.is_disjoint(&removed)) else {
            graph.nodes.push(node);
            continue;
        };
        for &part in &found.nodes {
            node.parts.0.extend(std::mem::take(&mut parts[part]));
        }
        removed.extend(&found.nodes);
        found.write(graph, &mut index, node);
    }
    let gone: BTreeSet<ValueId> = removed.iter().map(|&i: &usize| outputs[i]).collect();
    graph.nodes.retain(|node| !gone.contains(&node.output));
    fuse_groups(graph);
    merge_nodes(graph, fuse_affine);
}

struct Found {
    op: Normalize,
    x: ValueId,
    /// The order of axes in which those that belong together are the last ones, if it is another.
    perm: Option<Vec<usize>>,
    /// What it is multiplied by, and what is added then.
    affine: [Option<ValueId>; 2],
    /// The nodes that it takes the place of, but for the last.
    nodes: BTreeSet<usize>,
}

impl Found {
    /// Adds what takes the place of `last`.
    fn write(&self, graph: &mut Graph, index: &mut Index, last: Node) {
        let mut ops: Vec<(Op, Option<ValueId>)> = vec![(Op::Normalize(self.op.clone()), None)];
        if let Some(perm) = &self.perm {
            let transpose = |perm: Vec<usize>| (Op::Transpose(Transpose { perm }), None);
            ops.insert(0, transpose(perm.clone()));
            ops.push(transpose(inverse(perm)));
        }
        let [scale, offset] = self.affine;
        ops.extend(scale.map(|v| (Op::Mul(Mul), Some(v))));
        ops.extend(offset.map(|v| (Op::Add(Add { subtract: false }), Some(v))));
        let (mut x, count) = (self.x, ops.len());
        for (number, (op, constant)) in ops.into_iter().enumerate() {
            let inputs: Vec<ValueId> = [x].into_iter().chain(constant).collect();
            let shapes: Vec<&[usize]> =
                inputs.iter().map(|&v| &graph.values[v].shape[..]).collect();
            let is_last = number + 1 == count;
            let name = if is_last { last.name.clone() } else { format!("{}.{number}", last.name) };
            x = match op.infer_shape(&shapes) {
                Ok(shape) if !is_last => {
                    let name = format!("{}.{number}", graph.values[last.output].name);
                    index.add_value(graph, Value { name, shape, ..Value::default() })
                }
                _ => last.output,
            };
            let is_it = matches!(op, Op::Normalize(_));
            let parts = if is_it { last.parts.clone() } else { Parts::default() };
            let clamp = if is_last { last.clamp } else { Clip::NONE };
            graph.nodes.push(Node { name, op, clamp, inputs, output: x, parts });
        }
    }
}

/// The permutation that takes `perm` back.
fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &axis)| back[axis] = i);
    back
}

/// Walks from a result towards its arguments.
struct Walk<'a> {
    graph: &'a Graph,
    index: &'a Index,
    /// What has been passed.
    nodes: BTreeSet<usize>,
    /// What is combined with `x`, one number for each group,
    joins: Vec<ValueId>,
    /// and all that it is computed from.
    numbers: Vec<ValueId>,
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

    /// Passes products with 1 and reshapes, from what is combined with `x` on.
    fn join(&mut self, v: ValueId) -> ValueId {
        let before = self.behind_ones(v, false);
        self.joins.push(before);
        self.behind_ones(before, true)
    }

    /// Passes products with 1, which expand, and after them only `reshapes`.
    fn behind_ones(&mut self, mut v: ValueId, reshapes: bool) -> ValueId {
        loop {
            let before = self.nodes.clone();
            if let Some((x, 1.0)) = self.with_number(v, is_product) {
                v = x;
                continue;
            }
            self.nodes = before;
            match self.plain(v) {
                Some((_, node)) if reshapes && matches!(node.op, Op::Reshape(_)) => {
                    self.numbers.push(v);
                    self.back(v, |_| true);
                    v = node.inputs[0];
                }
                _ => return v,
            }
        }
    }

    /// `v`, one number for each group, before what only moves it.
    fn inner(&mut self, v: ValueId) -> ValueId {
        self.numbers.push(v);
        let v = self.behind_ones(v, true);
        self.numbers.push(v);
        v
    }

    /// What `v` is the mean of, and along which axes.
    fn mean(&mut self, v: ValueId) -> Option<(ValueId, &'a [bool])> {
        let Op::Mean(Mean { reduced }) = &self.plain(v)?.1.op else { return None };
        Some((self.back(v, |_| true)?[0], &reduced[..]))
    }

    /// `x` and the axes, where `v` is `x` less its mean or the other way round.
    fn centered(&mut self, v: ValueId) -> Option<(ValueId, &'a [bool])> {
        let &[a, b] = self.back(v, |op| matches!(op, Op::Add(op) if op.subtract))? else {
            return None;
        };
        let saved = (self.nodes.clone(), self.joins.clone(), self.numbers.clone());
        [(a, b), (b, a)].into_iter().find_map(|(x, mean)| {
            (self.nodes, self.joins, self.numbers) = saved.clone();
            let mean = self.join(mean);
            let (of, reduced) = self.mean(mean)?;
            (of == x).then_some((x, reduced))
        })
    }

    /// Whether what is combined with an argument of this shape has a number for each group, and nothing else has more.
    fn fits(&self, shape: &[usize], reduced: &[bool]) -> bool {
        let kept = |(&d, &r): (&usize, &bool)| if r { 1 } else { d };
        let kept: Shape = shape.iter().zip(reduced).map(kept).collect();
        let groups: usize = kept.iter().product();
        let of = |v: &ValueId| &self.graph.values[*v].shape;
        let aligned = |own: &Shape| {
            let missing = kept.len().checked_sub(own.len());
            missing.is_some_and(|n| kept[..n].iter().all(|&d| d == 1) && kept[n..] == own[..])
        };
        self.joins.iter().all(|v| aligned(of(v)))
            && self.numbers.iter().all(|v| of(v).iter().product::<usize>() == groups)
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
    let op = &graph.nodes[node].op;
    let walk = || Walk { graph, index, nodes: BTreeSet::new(), joins: vec![], numbers: vec![] };
    [(a, b), (b, a)].into_iter().find_map(|(a, b)| {
        let mut walk = walk();
        let mut found = match op {
            Op::Mul(_) => normalization(&mut walk, a, b)?,
            Op::Add(op) if !op.subtract || a == graph.nodes[node].inputs[0] => {
                expanded(&mut walk, a, b, op.subtract)?
            }
            _ => return None,
        };
        let shape = &graph.values[found.x].shape;
        let fits = *shape == graph.values[graph.nodes[node].output].shape;
        let checked = match &found.perm {
            Some(perm) => permuted(shape, perm),
            None => shape.clone(),
        };
        found.op.infer_shape(&[&checked]).ok()?;
        found.nodes = walk.nodes.clone();
        (fits && walk.is_hidden(node)).then_some(found)
    })
}

/// What is divided by: `√(mean · factor + epsilon)` of squares, but at least `floor`.
struct Deviation<'a> {
    /// What is squared.
    of: ValueId,
    reduced: &'a [bool],
    factor: f32,
    epsilon: f32,
    floor: f32,
}

/// `factor` as the reciprocal of a deviation.
fn deviation<'a>(walk: &mut Walk<'a>, factor: ValueId) -> Option<Deviation<'a>> {
    let is = |unary: Unary| move |op: &Op| matches!(op, Op::Unary(op) if *op == unary);
    let before = walk.behind_ones(factor, false);
    // Expanded before or after the division.
    let factor = walk.behind_ones(before, true);
    let root = walk.back(factor, is(Unary::Reciprocal))?[0];
    let reshaped = factor != before;
    let expanded = root;
    let (root, floor) = floored(walk, root);
    let joined = walk.behind_ones(root, false);
    walk.joins.push(if joined == root || reshaped { before } else { joined });
    if joined == root || reshaped {
        walk.numbers.extend([factor, expanded]);
    }
    let root = walk.inner(joined);
    let (root, floor) = if floor == 0.0 { floored(walk, root) } else { (root, floor) };
    let root = walk.inner(root);
    let inner = walk.back(root, is(Unary::Sqrt))?[0];
    let inner = walk.inner(inner);
    let (inner, least) = if floor == 0.0 { at_least(walk, inner) } else { (inner, 0.0) };
    let floor = floor.max(least.max(0.0).sqrt());
    let (inner, epsilon) = walk.with_number(inner, is_sum).unwrap_or((inner, 0.0));
    let inner = walk.inner(inner);
    let (inner, factor) = walk.with_number(inner, is_product).unwrap_or((inner, 1.0));
    let inner = walk.inner(inner);
    let (square, reduced) = walk.mean(inner)?;
    let &[of, same] = walk.back(square, is_product)? else { return None };
    (of == same
        && (0.0..1.0).contains(&epsilon)
        && walk.fits(&walk.graph.values[of].shape, reduced))
    .then_some(Deviation { of, reduced, factor, epsilon, floor })
}

/// The axes along which is normalized, as the last ones: their number, and the order that makes them that.
fn to_the_end(shape: &[usize], reduced: &[bool]) -> Option<(usize, Option<Vec<usize>>)> {
    let axes = |which: bool| (0..shape.len()).filter(move |&axis| reduced[axis] == which);
    let perm: Vec<usize> = axes(false).chain(axes(true)).collect();
    let count: usize = axes(true).map(|axis| shape[axis]).product();
    let moves = perm.iter().enumerate().any(|(i, &axis)| i != axis);
    let axis = axes(false).count();
    (2..=LARGEST).contains(&count).then_some((axis, moves.then_some(perm)))
}

/// `numerator · factor` as a normalization.
fn normalization(walk: &mut Walk, numerator: ValueId, factor: ValueId) -> Option<Found> {
    let Deviation { of, reduced, factor, epsilon, floor } = deviation(walk, factor)?;
    let shape = &walk.graph.values[of].shape;
    let found = |kind, epsilon, x, perm| {
        let op = Normalize::plain(kind, epsilon);
        Some(Found { op, x, perm, affine: [None; 2], nodes: BTreeSet::new() })
    };
    let first = reduced.iter().position(|&r| r)?;
    let one_axis = reduced.iter().filter(|r| **r).count() == 1;
    if one_axis
        && factor == shape[first] as f32
        && factor != 1.0
        && epsilon <= NO_LENGTH * NO_LENGTH
    {
        let is_l2 = of == numerator && floor <= NO_LENGTH;
        return is_l2.then(|| found(Kind::L2 { axis: first }, 0.0, of, None)).flatten();
    }
    if factor != 1.0 || floor != 0.0 {
        return None;
    }
    let (axis, perm) = to_the_end(shape, reduced)?;
    let nodes = walk.nodes.clone();
    if let (Some(a), Some(b)) = (walk.centered(numerator), walk.centered(of))
        && a == b
        && a.1 == reduced
        && is_minuend(walk, numerator, a.0)
        && walk.fits(shape, reduced)
    {
        return found(Kind::Layer { axis }, epsilon, a.0, perm);
    }
    walk.nodes = nodes;
    (of == numerator).then(|| found(Kind::Rms { axis }, epsilon, of, perm)).flatten()
}

/// `x · factor + (offset − mean · factor)` or `x · factor − mean · factor` as a normalization of `x`, where `factor` may
/// hold a scale.
fn expanded(walk: &mut Walk, product: ValueId, rest: ValueId, subtract: bool) -> Option<Found> {
    let is_difference = |op: &Op| matches!(op, Op::Add(op) if op.subtract);
    let constant = |walk: &Walk, v: ValueId| walk.graph.real_constant(v).is_some();
    let (mut negative, mut shift, mut offset) = (subtract, rest, None);
    if !subtract {
        if let Some(&[a, b]) = walk.back(rest, is_difference) {
            (negative, shift, offset) = (true, b, Some(a));
        } else if let Some(&[a, b]) = walk.back(rest, is_sum) {
            (shift, offset) = if constant(walk, a) { (b, Some(a)) } else { (a, Some(b)) };
        }
    }
    if offset.is_some_and(|v| !constant(walk, v)) {
        return None;
    }
    let &[p, q] = walk.back(product, is_product)? else { return None };
    let &[r, s] = walk.back(shift, is_product)? else { return None };
    let (x, factor, mean) =
        [(p, q, r, s), (p, q, s, r), (q, p, r, s), (q, p, s, r)].into_iter().find_map(
            |(x, factor, mean, same)| (factor == same && x != factor).then_some((x, factor, mean)),
        )?;
    let is_neg = |op: &Op| matches!(op, Op::Unary(Unary::Neg));
    let mean = match walk.back(mean, is_neg) {
        Some(&[mean]) => {
            negative = !negative;
            mean
        }
        _ => mean,
    };
    let mean = walk.join(mean);
    let (of, axes) = walk.mean(mean)?;
    let mut scale = None;
    let mut factor = factor;
    if let Some((_, node)) = walk.plain(factor).filter(|(_, node)| is_product(&node.op))
        && let Some(at) = node.inputs.iter().position(|&v| constant(walk, v))
    {
        scale = Some(node.inputs[at]);
        walk.back(factor, |_| true);
        factor = node.inputs[1 - at];
    }
    let Deviation { of: squared, reduced, factor, epsilon, floor } = deviation(walk, factor)?;
    let (centered, same) = walk.centered(squared)?;
    let shape = &walk.graph.values[x].shape;
    if !negative || of != x || centered != x || axes != reduced || same != reduced {
        return None;
    }
    if factor != 1.0 || floor != 0.0 || !walk.fits(shape, reduced) {
        return None;
    }
    let fits = |v: ValueId| walk.graph.values[v].shape.len() <= shape.len();
    let affine = [scale, offset];
    let (axis, perm) = to_the_end(shape, reduced)?;
    let op = Normalize::plain(Kind::Layer { axis }, epsilon);
    let all_fit = affine.iter().flatten().all(|&v| fits(v));
    all_fit.then_some(Found { op, x, perm, affine, nodes: BTreeSet::new() })
}

/// `Reshape(normalize(Reshape(x)))`, each row of channels by itself → a normalization of groups of channels.
fn fuse_groups(graph: &mut Graph) {
    let mut gone = BTreeSet::new();
    merge_nodes(graph, |graph, index, node| {
        let last = &graph.nodes[node];
        let Op::Reshape(_) = last.op else { return None };
        let middle = index.sole_producer(graph, last.inputs[0])?;
        let norm = &graph.nodes[middle];
        let Op::Normalize(op) = &norm.op else { return None };
        let reshaped = norm.inputs[0];
        let first = &graph.nodes[index.sole_producer(graph, reshaped)?];
        let Op::Reshape(_) = first.op else { return None };
        let x = first.inputs[0];
        let (shape, inner) = (&graph.values[x].shape, &graph.values[reshaped].shape);
        let rows: usize = match op.kind {
            Kind::Groups(groups) if groups == inner[1] => inner[..2].iter().product(),
            Kind::Layer { axis } => inner[..axis].iter().product(),
            _ => return None,
        };
        let &[n, c, _, ..] = &shape[..] else { return None };
        let groups = rows / n.max(1);
        let plain = op.scale.is_empty() && op.offset.is_empty() && norm.clamp == Clip::NONE;
        let fits = groups > 0 && rows == n * groups && c % groups == 0;
        if !plain || !fits || *shape != graph.values[last.output].shape || first.clamp != Clip::NONE
        {
            return None;
        }
        let (op, clamp) = (Normalize::plain(Kind::Groups(groups), op.epsilon), last.clamp);
        gone.insert(reshaped);
        index.set_arguments(graph, middle, 0, [x]);
        graph.nodes[middle].op = Op::Normalize(op);
        graph.nodes[middle].clamp = clamp;
        Some(middle)
    });
    graph.nodes.retain(|node| !gone.contains(&node.output));
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
    at_least(walk, v)
}

/// `v` without a lower limit, and that.
fn at_least(walk: &mut Walk, v: ValueId) -> (ValueId, f32) {
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
    let last = index.sole_producer(graph, x)?;
    let (producer, perm) = match &graph.nodes[last].op {
        Op::Transpose(op) => {
            (index.sole_producer(graph, graph.nodes[last].inputs[0])?, Some(inverse(&op.perm)))
        }
        _ => (last, None),
    };
    let before = &graph.nodes[producer];
    let Op::Normalize(op) = &before.op else { return None };
    let shape = &graph.values[before.output].shape;
    if before.clamp != Clip::NONE
        || graph.nodes[last].clamp != Clip::NONE
        || graph.values[later.output].shape != graph.values[x].shape
    {
        return None;
    }
    let mut numbers = Cow::Borrowed(graph.real_constant(later.inputs[constant])?);
    if let Some(perm) = perm {
        let missing = perm.len().checked_sub(numbers.shape().len())?;
        let aligned: Shape = [&vec![1; missing][..], numbers.shape()].concat();
        numbers = Cow::Owned(numbers.into_owned().reshape(aligned).ok()?.transpose(&perm));
    }
    let numbers = &*numbers;
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
    if last != producer {
        let parts = std::mem::take(&mut graph.nodes[node].parts.0);
        graph.nodes[producer].parts.0.extend(parts);
    }
    Some(last)
}
