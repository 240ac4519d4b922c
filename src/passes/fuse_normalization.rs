//! A normalization that is spelled out becomes one node.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::merge_nodes;
use crate::graph::{Graph, Index, Node, Parts, Value, ValueId};
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

/// `(x − mean) / √(factor · mean of squares + epsilon)`, with and without the mean, such as `x / √(sum of squares)` →
/// one node, where nothing else uses what lies between; along axes that are not the last ones, one between two transpositions. Then
/// reshapes around it become groups of channels, and a scale and an offset behind it part of it.
pub fn fuse_normalization(graph: &mut Graph) {
    let mut index = Index::new(graph);
    let found: BTreeMap<usize, Found> = (0..graph.nodes.len())
        .filter_map(|node| Some((node, find(graph, &index, node)?)))
        .collect();
    let nodes = std::mem::take(&mut graph.nodes);
    let outputs: Vec<ValueId> = nodes.iter().map(|node| node.output).collect();
    let mut parts: Vec<Parts> = nodes.iter().map(|node| node.parts.clone()).collect();
    let mut removed = BTreeSet::new();
    for (i, mut node) in nodes.into_iter().enumerate() {
        let Some(found) = found.get(&i).filter(|found| found.nodes.is_disjoint(&removed)) else {
            graph.nodes.push(node);
            continue;
        };
        for &part in &found.nodes {
            node.parts.0.extend(std::mem::take(&mut parts[part]).0);
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
    /// What is combined with `x`, one number for each group.
    joins: Vec<ValueId>,
}

/// The way from what is combined with `x` towards what it is computed from.
struct Way {
    at: ValueId,
    /// The value that broadcasting puts beside `x`: what is expanded later is that all the same.
    joined: ValueId,
    reshaped: bool,
}

impl Way {
    fn from(v: ValueId) -> Self {
        Self { at: v, joined: v, reshaped: false }
    }
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

    /// Goes on from the result of node `index` to its argument `x`, if no reshape lies before what it is expanded by.
    fn step(&mut self, way: &mut Way, index: usize, x: ValueId) -> bool {
        let len = |v: ValueId| self.graph.values[v].shape.iter().product::<usize>();
        if len(x) != len(way.at) {
            if way.reshaped {
                return false;
            }
            way.joined = x;
        }
        self.nodes.insert(index);
        way.at = x;
        true
    }

    /// The node that combines a value with a number, where `v` is that, and both.
    fn with_number(&self, v: ValueId, is_it: fn(&Op) -> bool) -> Option<(usize, ValueId, f32)> {
        let (index, node) = self.plain(v).filter(|(_, node)| is_it(&node.op))?;
        let &[a, b] = &node.inputs[..] else { return None };
        match (self.number(a), self.number(b)) {
            (None, Some(number)) => Some((index, a, number)),
            (Some(number), None) => Some((index, b, number)),
            _ => None,
        }
    }

    /// Passes products with 1, which may expand, and reshapes of what is not expanded behind them.
    fn pass_moves(&mut self, way: &mut Way) {
        loop {
            let next = match (self.plain(way.at), self.with_number(way.at, is_product)) {
                (_, Some((index, x, 1.0))) => (index, x),
                (Some((index, node)), _) if matches!(node.op, Op::Reshape(_)) => {
                    way.reshaped = true;
                    (index, node.inputs[0])
                }
                _ => return,
            };
            if !self.step(way, next.0, next.1) {
                return;
            }
        }
    }

    /// Passes what is looked for, and moves on both sides of it.
    fn pass(&mut self, way: &mut Way, is_it: impl FnOnce(&Op) -> bool) -> Option<()> {
        self.pass_moves(way);
        way.at = self.back(way.at, is_it)?[0];
        self.pass_moves(way);
        Some(())
    }

    /// Passes what combines with a number, and that; none is neutral.
    fn pass_number(&mut self, way: &mut Way, is_it: fn(&Op) -> bool, neutral: f32) -> f32 {
        self.pass_moves(way);
        let Some((index, x, number)) = self.with_number(way.at, is_it) else { return neutral };
        if !self.step(way, index, x) {
            return neutral;
        }
        self.pass_moves(way);
        number
    }

    /// Passes a lower limit, and that; none is 0.
    fn pass_limit(&mut self, way: &mut Way) -> f32 {
        self.pass_moves(way);
        let mut limit = 0.0;
        let is_limit = |op: &Op| match op {
            Op::Clip(clip) if clip.hi == f32::INFINITY => {
                limit = clip.lo.max(0.0);
                true
            }
            _ => false,
        };
        if let Some(&[x]) = self.back(way.at, is_limit) {
            way.at = x;
        }
        self.pass_moves(way);
        limit
    }

    /// What `v` is the mean of, and along which axes.
    fn mean(&mut self, v: ValueId) -> Option<(ValueId, &'a [bool])> {
        let Op::Mean(Mean { reduced }) = &self.plain(v)?.1.op else { return None };
        Some((self.back(v, |_| true)?[0], &reduced[..]))
    }

    /// As [`mean`](Self::mean), behind moves, of what is combined with `x`.
    fn joined_mean(&mut self, v: ValueId) -> Option<(ValueId, &'a [bool])> {
        let mut way = Way::from(v);
        self.pass_moves(&mut way);
        self.joins.push(way.joined);
        self.mean(way.at)
    }

    /// `x` and the axes, where `v` is `x` less its mean or the other way round.
    fn centered(&mut self, v: ValueId) -> Option<(ValueId, &'a [bool])> {
        let &[a, b] = self.back(v, |op| matches!(op, Op::Add(op) if op.subtract))? else {
            return None;
        };
        let saved = (self.nodes.clone(), self.joins.clone());
        [(a, b), (b, a)].into_iter().find_map(|(x, mean)| {
            (self.nodes, self.joins) = saved.clone();
            let (of, reduced) = self.joined_mean(mean)?;
            (of == x).then_some((x, reduced))
        })
    }

    /// Whether what is combined with an argument of this shape has a number for each group.
    fn fits(&self, shape: &[usize], reduced: &[bool]) -> bool {
        let kept = |(&d, &r): (&usize, &bool)| if r { 1 } else { d };
        let kept: Shape = shape.iter().zip(reduced).map(kept).collect();
        let aligned = |&v: &ValueId| {
            let own = &self.graph.values[v].shape;
            let missing = kept.len().checked_sub(own.len());
            missing.is_some_and(|n| kept[..n].iter().all(|&d| d == 1) && kept[n..] == own[..])
        };
        self.joins.iter().all(aligned)
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
    let walk = || Walk { graph, index, nodes: BTreeSet::new(), joins: vec![] };
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

/// What is divided by: `√(mean · factor + epsilon)` of squares.
struct Deviation<'a> {
    /// What is squared.
    of: ValueId,
    reduced: &'a [bool],
    factor: f32,
    epsilon: f32,
}

impl Deviation<'_> {
    /// Whether it is the length of what lies along one axis.
    fn is_length(&self, shape: &[usize]) -> bool {
        let mut reduced = shape.iter().zip(self.reduced).filter(|(_, r)| **r).map(|(&d, _)| d);
        let along = reduced.next();
        along.is_some_and(|d| d > 1 && is_near(self.factor, d as f32))
            && reduced.next().is_none()
            && self.epsilon <= NO_LENGTH * NO_LENGTH
    }

    /// Division by it, as one by the root of the mean and an epsilon: a factor is one of the result.
    fn divide(&self, kind: Kind, shape: &[usize]) -> Normalize {
        if is_near(self.factor, 1.0) {
            return Normalize::plain(kind, self.epsilon);
        }
        let op = Normalize::plain(kind, self.epsilon / self.factor);
        let count = op.affine_shape(shape).iter().product();
        Normalize { scale: vec![1.0 / self.factor.sqrt(); count], ..op }
    }
}

/// Whether they are the same but for rounding.
fn is_near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-6 * b
}

/// `factor` as the reciprocal of a deviation.
fn deviation<'a>(walk: &mut Walk<'a>, factor: ValueId) -> Option<Deviation<'a>> {
    let is = |unary: Unary| move |op: &Op| matches!(op, Op::Unary(op) if *op == unary);
    let way = &mut Way::from(factor);
    walk.pass(way, is(Unary::Reciprocal))?;
    let floor = walk.pass_number(way, is_sum, 0.0).max(walk.pass_limit(way));
    let outer = walk.pass_number(way, is_product, 1.0);
    walk.pass(way, is(Unary::Sqrt))?;
    let floor = floor.max(outer * walk.pass_limit(way).sqrt());
    let epsilon = walk.pass_number(way, is_sum, 0.0);
    // A sum is a mean times a number, which may be divided by another one.
    let factor = walk.pass_number(way, is_product, 1.0) * walk.pass_number(way, is_product, 1.0);
    walk.joins.push(way.joined);
    let (square, reduced) = walk.mean(way.at)?;
    let &[of, same] = walk.back(square, is_product)? else { return None };
    let squared = outer * outer;
    let fits = of == same
        && outer > 0.0
        && factor > 0.0
        && (0.0..1.0).contains(&epsilon)
        && (0.0..=NO_LENGTH).contains(&floor)
        && walk.fits(&walk.graph.values[of].shape, reduced);
    let epsilon = (epsilon * squared).max(floor * floor);
    fits.then_some(Deviation { of, reduced, factor: factor * squared, epsilon })
}

/// The axes along which is normalized, as the last ones: the first of them, the order that makes them that, if it is
/// another, and the shape in this order.
fn to_the_end(shape: &[usize], reduced: &[bool]) -> Option<(usize, Option<Vec<usize>>, Shape)> {
    let axes = |which: bool| (0..shape.len()).filter(move |&axis| reduced[axis] == which);
    let perm: Vec<usize> = axes(false).chain(axes(true)).collect();
    let count: usize = axes(true).map(|axis| shape[axis]).product();
    let moves = perm.iter().enumerate().any(|(i, &axis)| i != axis);
    let (axis, moved) = (axes(false).count(), permuted(shape, &perm));
    (2..=LARGEST).contains(&count).then_some((axis, moves.then_some(perm), moved))
}

/// `numerator · factor` as a normalization.
fn normalization(walk: &mut Walk, numerator: ValueId, factor: ValueId) -> Option<Found> {
    let deviation = deviation(walk, factor)?;
    let Deviation { of, reduced, .. } = deviation;
    let shape = &walk.graph.values[of].shape;
    let found = |op, x, perm| Found { op, x, perm, affine: [None; 2], nodes: BTreeSet::new() };
    if of == numerator && deviation.is_length(shape) {
        let axis = reduced.iter().position(|&r| r)?;
        return Some(found(Normalize::plain(Kind::L2 { axis }, 0.0), of, None));
    }
    let (axis, perm, moved) = to_the_end(shape, reduced)?;
    let divide = |kind| deviation.divide(kind, &moved);
    let nodes = walk.nodes.clone();
    if let (Some(a), Some(b)) = (walk.centered(numerator), walk.centered(of))
        && a == b
        && a.1 == reduced
        && is_minuend(walk, numerator, a.0)
        && walk.fits(shape, reduced)
    {
        return Some(found(divide(Kind::Layer { axis }), a.0, perm));
    }
    walk.nodes = nodes;
    (of == numerator).then(|| found(divide(Kind::Rms { axis }), of, perm))
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
    let (of, axes) = walk.joined_mean(mean)?;
    let mut scale = None;
    let mut factor = factor;
    if let Some((_, node)) = walk.plain(factor).filter(|(_, node)| is_product(&node.op))
        && let Some(at) = node.inputs.iter().position(|&v| constant(walk, v))
    {
        scale = Some(node.inputs[at]);
        walk.back(factor, |_| true);
        factor = node.inputs[1 - at];
    }
    let deviation = deviation(walk, factor)?;
    let reduced = deviation.reduced;
    let (centered, same) = walk.centered(deviation.of)?;
    let shape = &walk.graph.values[x].shape;
    if !negative || of != x || centered != x || axes != reduced || same != reduced {
        return None;
    }
    if !walk.fits(shape, reduced) {
        return None;
    }
    let fits = |v: ValueId| walk.graph.values[v].shape.len() <= shape.len();
    let affine = [scale, offset];
    let (axis, perm, moved) = to_the_end(shape, reduced)?;
    let op = deviation.divide(Kind::Layer { axis }, &moved);
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
    // The one factor of all elements.
    let factor = match &op.scale[..] {
        [] => Some(1.0),
        [first, rest @ ..] => rest.iter().all(|x| x == first).then_some(*first),
    };
    let may_add = matches!(op.kind, Kind::Layer { .. } | Kind::Groups(_));
    let sum = match &later.op {
        Op::Mul(_) if factor.is_some() && !has_offset && !matches!(op.kind, Kind::L2 { .. }) => {
            false
        }
        other if is_sum(other) && !has_offset && may_add => true,
        _ => return None,
    };
    // Scales of channels make what has none yet a normalization of each channel.
    let by_channel = match op.kind {
        Kind::Layer { axis: 2 } if op.scale.is_empty() || !sum => Some(Kind::Groups(shape[1])),
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
        false => op.scale = numbers.into_iter().map(|x| x * factor.unwrap_or(1.0)).collect(),
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
