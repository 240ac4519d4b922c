//! Operators that are others in disguise: each becomes a few nodes of the graph.

mod combine;
mod contraction;
mod recurrent;

use super::fold::squeezed;
use super::importer::{Importer, Known, take_type};
use super::proto::{NodeProto, data_type as dt};
use super::rounded::part;
use crate::error::{Result, bail};
use crate::graph::{Value, ValueId};
use crate::ops::add::Add;
use crate::ops::linear::Linear;
use crate::ops::matmul::MatMul;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::normalize::{Kind, Normalize};
use crate::ops::reshape::Reshape;
use crate::ops::slice::{Slice, split_sizes};
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Attribute, Input, OnnxNode, Op, Operator, OutputParams, Window, image};
use crate::quant::{Granularity, QuantParams};
use crate::tensor::{Shape, Tensor};

/// Builds the nodes that stand for one node of the file.
struct Steps<'i, 'a> {
    importer: &'i mut Importer<'a>,
    proto: &'i NodeProto,
    node: &'i mut OnnxNode,
    /// What the steps are called, but for their number.
    name: &'i str,
    count: usize,
    /// Integers or codes that are moved.
    moved: Option<Known>,
}

/// Makes the result of a node, whose first argument is given.
type Decompose = fn(&mut Steps, ValueId) -> Result<ValueId>;

/// Those that move numbers of whatever type.
const MOVES: &[&str] =
    &["DepthToSpace", "Expand", "Gather", "SpaceToDepth", "Split", "Squeeze", "Tile", "Unsqueeze"];

/// Operator types that stand for others.
const TABLE: &[(&str, Decompose)] = &[
    ("Cast", cast),
    ("DepthToSpace", depth),
    ("Div", divide),
    ("Einsum", contraction::einsum),
    ("Expand", combine::expand),
    ("Gather", combine::gather),
    ("Gemm", gemm),
    ("GlobalMaxPool", global_max_pool),
    ("GroupNormalization", normalize),
    ("InstanceNormalization", normalize),
    ("LayerNormalization", normalize),
    ("LpNormalization", normalize),
    ("LogSoftmax", combine::log_softmax),
    ("MatMul", matrix_product),
    ("Max", combine::extremum),
    ("Mean", combine::mean_of_many),
    ("Min", combine::extremum),
    ("Pow", power),
    ("RMSNormalization", normalize),
    ("ReduceL1", combine::magnitudes),
    ("ReduceL2", length),
    ("ReduceLogSumExp", combine::log_sum_exp),
    ("ReduceMax", combine::largest),
    ("ReduceMean", mean),
    ("ReduceMin", combine::smallest),
    ("ReduceSum", total),
    ("ReduceSumSquare", squares),
    ("Softmax", combine::softmax),
    ("SpaceToDepth", depth),
    ("Squeeze", squeeze),
    ("Sum", sum),
    ("Tile", combine::tile),
    ("Unsqueeze", squeeze),
    ("Where", combine::select),
];

impl<'a> Importer<'a> {
    /// An integer is real here, whatever type the file gives it: a Cast is another name of it.
    fn cast_of_integers(&mut self, proto: &NodeProto, node: &mut OnnxNode) -> Result<bool> {
        let (x, output) = match (&proto.op_type[..], &proto.input[..]) {
            ("Cast", [x]) => (x, &proto.output[0]),
            _ => return Ok(false),
        };
        let &Known::Index(v, from) = self.get(x)? else { return Ok(false) };
        let real = match take_type(node, "to")? {
            Some(to) if dt::is_real(to) => None,
            Some(to) if to == from || matches!(to, dt::INT32 | dt::INT64) => Some(to),
            Some(to) => bail!(Unsupported, "{} cast to {}", dt::name(from), dt::name(to)),
            None => bail!(Invalid, "attribute \"to\" is missing"),
        };
        let known = |v| real.map_or(Known::Value(v), |to| Known::Index(v, to));
        let is_output = self.outputs.contains(output.as_str());
        if self.graph.inputs.contains(&v) {
            let v = if is_output { self.copy(v, output)? } else { v };
            return self.define(output, known(v)).map(|()| true);
        }
        let made = self.graph.nodes.iter().rfind(|node| node.output == v);
        let is_index = made.is_some_and(|node| node.op.output_params() == OutputParams::Index);
        if !self.outputs.contains(x.as_str()) {
            // What is moved keeps its name.
            let name = if is_index || is_output { output } else { x };
            self.rename(v, name.clone());
        } else if is_output {
            bail!(Unsupported, "\"{x}\" and \"{output}\" are both outputs");
        }
        self.define(output, known(v))?;
        Ok(true)
    }

    /// A value of its own with what `v` holds.
    fn copy(&mut self, v: ValueId, output: &str) -> Result<ValueId> {
        let shape = self.graph.values[v].shape.clone();
        self.emit(output, Op::Reshape(Reshape { shape }), vec![v], output)
    }

    /// Bytes that are read as codes of `params`, or of those less `lowest` if they have no sign: `(x − zero) · scale`.
    pub(super) fn bytes(
        &mut self,
        mut v: ValueId,
        params: &QuantParams,
        lowest: i32,
        name: &str,
    ) -> Result<ValueId> {
        let &[scale] = &params.scale[..] else { bail!(Unsupported, "bytes with many scales") };
        let zero = (params.zero_point - lowest) as f32;
        let add = Op::Add(Add { subtract: false });
        for (number, idle, what, op) in
            [(-zero, 0.0, "shift", add), (scale, 1.0, "scale", Op::Mul(Mul))]
        {
            if number != idle {
                let step = self.names.fresh(format!("{}.{what}", part(name)));
                let by = self.names.fresh(format!("{step}.by"));
                let by = self.add_value(Value::real(by, Tensor::new([], vec![number])?));
                v = self.emit(&step, op, vec![v, by], &step)?;
            }
        }
        Ok(v)
    }

    /// Imports a node that stands for several; `false` if it is none of those.
    pub(super) fn decompose(
        &mut self,
        proto: &NodeProto,
        name: &str,
        node: &mut OnnxNode,
    ) -> Result<bool> {
        if self.on_codes(proto, name, node)? || self.cast_of_integers(proto, node)? {
            return Ok(true);
        }
        // Each step has the name in its own: of a long one a part will do.
        let moved = self.moved(proto);
        let first = self.graph.nodes.len();
        let mut steps = Steps { importer: self, proto, node, name: part(name), count: 0, moved };
        let x = match steps.moved {
            Some(Known::Index(v, _) | Known::Codes(v, _)) => Ok(Some(v)),
            // The first argument of the other is its condition.
            _ => steps.value((proto.op_type == "Where") as usize),
        };
        let Ok(Some(x)) = x else { return Ok(false) };
        match proto.op_type.as_str() {
            "Split" => {
                let are_codes = steps.are_codes();
                split(&mut steps, x)?;
                if are_codes {
                    self.keep_codes(first, x);
                }
                return Ok(true);
            }
            "GRU" | "LSTM" | "RNN" => return recurrent::recurrent(&mut steps, x).map(|()| true),
            _ => {}
        }
        let row = TABLE.iter().find(|(op_type, _)| *op_type == proto.op_type);
        let Some((_, decompose)) = row.filter(|_| !is_whole(steps.node)) else { return Ok(false) };
        let result = decompose(&mut steps, x)?;
        // Where nothing changes a copy keeps the two names apart.
        let result = match result == x {
            true => steps.reshape(x, steps.shape(x).to_vec())?,
            false => result,
        };
        let (known, are_codes) = (steps.known(result), steps.are_codes());
        if are_codes {
            self.keep_codes(first, x);
        }
        let output = &proto.output[0];
        // The last step is the node itself; a constant has none.
        match self.graph.nodes.last_mut().filter(|node| node.output == result) {
            Some(node) => {
                node.name = if proto.name.is_empty() { output.clone() } else { name.into() };
                self.rename(result, output.clone());
            }
            None if self.outputs.contains(output.as_str()) => self.name_output(result, output)?,
            None => {}
        }
        self.define(output, known)?;
        Ok(true)
    }

    /// The first argument of a node that moves numbers of whatever type, if it is made of integers or of codes.
    fn moved(&self, proto: &NodeProto) -> Option<Known> {
        let known = self.known.get(proto.input.first()?)?;
        let moves = MOVES.contains(&&*proto.op_type);
        let is_moved = match *known {
            Known::Index(..) => true,
            Known::Codes(v, _) => self.graph.values[v].constant.is_none(),
            _ => false,
        };
        (moves && is_moved).then(|| known.clone())
    }

    /// The results of the nodes from `first` on are read as the codes of `x`.
    pub(super) fn keep_codes(&mut self, first: usize, x: ValueId) {
        let Some(quant) = self.graph.values[x].quant.clone() else { return };
        for node in &self.graph.nodes[first..] {
            self.graph.values[node.output].quant.get_or_insert_with(|| quant.clone());
        }
    }
}

/// Whether this node, whose type stands for others, is one operator all the same.
fn is_whole(node: &OnnxNode) -> bool {
    let input = |index: usize| node.inputs.get(index).and_then(Option::as_ref);
    let is_constant = |index| !matches!(input(index), Some(Input::Activation(_)));
    let is_vector = |index| input(index).is_some_and(|input| input.shape().len() == 1);
    match &node.op_type[..] {
        "Div" => is_constant(1),
        "Gemm" => {
            !is_constant(0)
                && is_constant(1)
                && is_constant(2)
                && input(2).is_none_or(|bias| bias.shape().iter().rev().skip(1).all(|&d| d == 1))
                && node.attributes.get("transA") != Some(&Attribute::Int(1))
        }
        "MatMul" => {
            let one = |input: &Input| is_one_matrix(input.shape());
            let one = !is_constant(0) && is_constant(1) && input(1).is_some_and(one);
            !one && !is_constant(0) && !is_vector(0) && !is_vector(1)
        }
        "Softmax" => node.opset >= 13,
        _ => false,
    }
}

impl Steps<'_, '_> {
    /// Argument `index`, if it is made of integers that are computed or given, and their type.
    fn integers_at(&self, index: usize) -> Option<(ValueId, i32)> {
        match *self.importer.get(self.proto.input.get(index)?).ok()? {
            Known::Index(v, data_type) => Some((v, data_type)),
            _ => None,
        }
    }

    /// What `v` is known as: what it is made of, if that is moved.
    fn known(&self, v: ValueId) -> Known {
        match self.moved {
            Some(Known::Index(_, data_type)) => Known::Index(v, data_type),
            Some(Known::Codes(_, data_type)) => Known::Codes(v, data_type),
            _ => Known::Value(v),
        }
    }

    fn are_codes(&self) -> bool {
        matches!(self.moved, Some(Known::Codes(..)))
    }

    /// Argument `index`, if it is there; it must be real.
    fn value(&self, index: usize) -> Result<Option<ValueId>> {
        let Some(name) = self.proto.input.get(index).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        match self.importer.get(name)? {
            Known::Value(v) => Ok(Some(*v)),
            _ => bail!(Unsupported, "input \"{name}\" is made of integers"),
        }
    }

    /// A node whose result has a name of its own.
    fn step(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.count += 1;
        let name = self.importer.names.fresh(format!("{}.{}", self.name, self.count));
        self.importer.emit(&name, op, inputs.to_vec(), &name)
    }

    fn constant(&mut self, shape: Shape, data: Vec<f32>) -> Result<ValueId> {
        self.count += 1;
        let name = self.importer.names.fresh(format!("{}.{}", self.name, self.count));
        Ok(self.importer.add_value(Value::real(name, Tensor::new(shape, data)?)))
    }

    fn shape(&self, v: ValueId) -> &[usize] {
        &self.importer.graph.values[v].shape
    }

    fn reshape(&mut self, v: ValueId, shape: Shape) -> Result<ValueId> {
        self.step(Op::Reshape(Reshape { shape }), &[v])
    }

    fn swap_last(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.shape(x).len();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        self.step(Op::Transpose(Transpose { perm }), &[x])
    }

    /// Of matrices. A constant first one with scales for its rows is the weight of a layer: `A · B = (Bᵀ · Aᵀ)ᵀ`.
    fn product(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        let constant = |v: ValueId| self.importer.graph.values[v].constant.is_some();
        let first = &self.importer.graph.values[a];
        let has_rows =
            |quant: &QuantParams| quant.granularity == Granularity::PerChannel { axis: 0 };
        let is_weight = constant(a) && !constant(b) && first.shape.len() == 2;
        if is_weight && first.quant.as_ref().is_none_or(has_rows) {
            let [b, a] = [self.swap_last(b)?, self.swap_last(a)?];
            let y = self.step(Op::Linear(Linear { transposed: false }), &[b, a])?;
            return self.swap_last(y);
        }
        let is_linear = !constant(a) && constant(b) && self.shape(b).len() == 2;
        self.step(
            if is_linear { Op::Linear(Linear { transposed: false }) } else { Op::MatMul(MatMul) },
            &[a, b],
        )
    }

    fn times(&mut self, v: ValueId, factor: f32) -> Result<ValueId> {
        if factor == 1.0 {
            return Ok(v);
        }
        let factor = self.constant(vec![], vec![factor])?;
        self.step(Op::Mul(Mul), &[v, factor])
    }

    fn square_root(&mut self, x: ValueId) -> Result<ValueId> {
        self.step(Op::Unary(Unary::Sqrt), &[x])
    }

    fn reciprocal(&mut self, x: ValueId) -> Result<ValueId> {
        self.step(Op::Unary(Unary::Reciprocal), &[x])
    }

    /// The sum of what `mean` is the mean of.
    fn sum_along(&mut self, mean: Mean, x: ValueId) -> Result<ValueId> {
        let axes = self.shape(x).iter().zip(&mean.reduced);
        let count: usize = axes.filter(|(_, r)| **r).map(|(&d, _)| d).product();
        let mean = self.step(Op::Mean(mean), &[x])?;
        let count = self.constant(vec![], vec![count as f32])?;
        self.step(Op::Mul(Mul), &[mean, count])
    }

    fn squares_along(&mut self, mean: Mean, x: ValueId) -> Result<ValueId> {
        let square = self.step(Op::Mul(Mul), &[x, x])?;
        self.sum_along(mean, square)
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.step(Op::Add(Add { subtract: false }), &[a, b])
    }
}

fn split(steps: &mut Steps, x: ValueId) -> Result<()> {
    let shape = steps.shape(x).to_vec();
    let (axis, sizes) = split_sizes(steps.node, steps.proto.output.len())?;
    let mut start = 0;
    for (size, output) in sizes.into_iter().zip(&steps.proto.output) {
        let part = Op::Slice(Slice::of(&shape, axis, start, size));
        start += size;
        let Importer { read, outputs, .. } = &*steps.importer;
        if !read.contains(output.as_str()) && !outputs.contains(output.as_str()) {
            continue;
        }
        let v = steps.importer.emit(output, part, vec![x], output)?;
        let known = steps.known(v);
        steps.importer.define(output, known)?;
    }
    Ok(())
}

fn cast(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    match take_type(steps.node, "to")? {
        Some(dt::FLOAT | dt::FLOAT16 | dt::BFLOAT16) => Ok(x),
        Some(to) => bail!(Unsupported, "a cast to {}, only float is known", dt::name(to)),
        None => bail!(Invalid, "attribute \"to\" is missing"),
    }
}

fn squeeze(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let shape = steps.shape(x).to_vec();
    let shape = squeezed(steps.node, &shape)?;
    steps.reshape(x, shape)
}

fn global_max_pool(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    match image(steps.shape(x)) {
        Some([_, _, h, w]) => steps.step(Op::MaxPool(MaxPool(Window::new([h, w]))), &[x]),
        None => {
            bail!(Unsupported, "input of shape {:?}: only 1-D and 2-D are known", steps.shape(x))
        }
    }
}

/// By something that is not constant.
fn divide(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let Some(divisor) = steps.value(1)? else { bail!(Invalid, "the divisor is missing") };
    let reciprocal = steps.reciprocal(divisor)?;
    steps.step(Op::Mul(Mul), &[x, reciprocal])
}

/// A vector is a row before a matrix, and a column behind one; a constant without batch is one matrix.
fn matrix_product(steps: &mut Steps, a: ValueId) -> Result<ValueId> {
    let Some(b) = steps.value(1)? else { bail!(Invalid, "the second factor is missing") };
    let (of_a, of_b) = (steps.shape(a).to_vec(), steps.shape(b).to_vec());
    let (mut row, mut column) = (a, b);
    if let &[k] = &of_a[..] {
        row = steps.reshape(a, vec![1, k])?;
    }
    match of_b[..] {
        [k] => column = steps.reshape(b, vec![k, 1])?,
        [.., k, n] if is_one_matrix(&of_b) => column = steps.reshape(b, vec![k, n])?,
        _ => {}
    }
    let y = steps.product(row, column)?;
    let mut shape = steps.shape(y).to_vec();
    for _ in shape.len()..of_b.len() {
        shape.insert(0, 1);
    }
    if of_b.len() == 1 {
        shape.pop();
    }
    if of_a.len() == 1 {
        shape.remove(shape.len() - 1 - (of_b.len() > 1) as usize);
    }
    match shape == steps.shape(y) {
        true => Ok(y),
        false => steps.reshape(y, shape),
    }
}

/// Whether it is one of many axes all the same.
fn is_one_matrix(shape: &[usize]) -> bool {
    shape.len() > 2 && shape[..shape.len() - 2].iter().all(|&d| d == 1)
}

/// Of two activations, a constant before an activation, or a transposed activation.
fn gemm(steps: &mut Steps, a: ValueId) -> Result<ValueId> {
    let Some(b) = steps.value(1)? else { bail!(Invalid, "the second factor is missing") };
    let node = &mut *steps.node;
    let factors = [node.take_float("alpha")?, node.take_float("beta")?];
    let [alpha, beta] = factors.map(|factor| factor.unwrap_or(1.0));
    let transposed = [node.take_flag("transA")?, node.take_flag("transB")?];
    let mut arguments = [a, b];
    for (v, transposed) in arguments.iter_mut().zip(transposed) {
        if steps.shape(*v).len() != 2 {
            bail!(Shape, "expected inputs of rank 2, got {:?}", steps.shape(*v));
        }
        if transposed {
            *v = steps.swap_last(*v)?;
        }
    }
    let y = steps.product(arguments[0], arguments[1])?;
    let y = steps.times(y, alpha)?;
    match steps.value(2)? {
        Some(c) => {
            let c = steps.times(c, beta)?;
            steps.add(y, c)
        }
        None => Ok(y),
    }
}

fn power(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    match steps.node.take_input_number(1)? {
        Some(2.0) => steps.step(Op::Mul(Mul), &[x, x]),
        Some(3.0) => {
            let square = steps.step(Op::Mul(Mul), &[x, x])?;
            steps.step(Op::Mul(Mul), &[square, x])
        }
        Some(0.5) => steps.square_root(x),
        Some(-1.0) => steps.reciprocal(x),
        Some(-0.5) => {
            let root = steps.square_root(x)?;
            steps.reciprocal(root)
        }
        Some(exponent) => steps.step(Op::Unary(Unary::Power { exponent }), &[x]),
        None => bail!(Invalid, "the exponent is missing"),
    }
}

fn mean(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| steps.step(Op::Mean(mean), &[x]))
}

fn total(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    if steps.node.opset >= 13 {
        // From then on its axes are an input, as those of others are later.
        steps.node.opset = steps.node.opset.max(18);
    }
    reduce(steps, x, |steps, mean| steps.sum_along(mean, x))
}

fn squares(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| steps.squares_along(mean, x))
}

fn sum(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let mut sum = x;
    for index in 1..steps.proto.input.len() {
        let Some(v) = steps.value(index)? else { bail!(Invalid, "an input is missing") };
        sum = steps.add(sum, v)?;
    }
    Ok(sum)
}

/// What `f` makes of `x` along the axes of the node, which stay with size 1 or are dropped.
fn reduce(
    steps: &mut Steps,
    x: ValueId,
    f: impl FnOnce(&mut Steps, Mean) -> Result<ValueId>,
) -> Result<ValueId> {
    let keep = steps.node.take_flag_or("keepdims", true)?;
    let op = Mean::import(steps.node)?;
    let axes = steps.shape(x).iter().zip(&op.reduced);
    let kept: Shape = axes.filter(|(_, r)| !**r).map(|(&d, _)| d).collect();
    let none = !op.reduced.contains(&true);
    let idle = ["ReduceMean", "ReduceMax", "ReduceMin"].contains(&&*steps.node.op_type);
    let y = match (none, idle) {
        (true, true) => x,
        (true, false) => bail!(Unsupported, "along no axis"),
        (false, _) => f(steps, op)?,
    };
    if keep { Ok(y) } else { steps.reshape(y, kept) }
}

/// The root of a sum of squares.
fn length(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    reduce(steps, x, |steps, mean| {
        let sum = steps.squares_along(mean, x)?;
        steps.square_root(sum)
    })
}

/// Scale and offset that are computed are multiplied and added by nodes of their own.
fn normalize(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let mut computed = [None; 2];
    for index in 1..steps.proto.input.len().min(3) {
        let Some(v) = steps.value(index)? else { continue };
        let value = &steps.importer.graph.values[v];
        steps.node.inputs[index] = value.to_real().map(|real| Input::Real(real.into_owned()));
        if steps.node.inputs[index].is_none() {
            computed[index - 1] = Some(v);
        }
    }
    let shape = steps.shape(x).to_vec();
    let mut op = Normalize::import(steps.node)?;
    // In a file there is a number for each element, whatever this one has.
    steps.importer.folding.take(op.affine_shape(&shape), 0)?;
    // What is computed is multiplied first: a constant offset comes behind it.
    let offset = match computed[0] {
        Some(_) => std::mem::take(&mut op.offset),
        None => vec![],
    };
    let by_channel = matches!(op.kind, Kind::Groups(_));
    let affine_shape = match by_channel {
        true => [&shape[1..2], &vec![1; shape.len() - 2]].concat(),
        false => op.affine_shape(&shape).to_vec(),
    };
    let mut y = steps.step(Op::Normalize(op), &[x])?;
    if !offset.is_empty() {
        computed[1] = Some(steps.constant(affine_shape.clone(), offset)?);
    }
    for (v, op) in computed.into_iter().zip([Op::Mul(Mul), Op::Add(Add { subtract: false })]) {
        let Some(mut v) = v else { continue };
        if by_channel {
            v = steps.reshape(v, affine_shape.clone())?;
        }
        y = steps.step(op, &[y, v])?;
    }
    Ok(y)
}

/// Blocks of pixels to channels and back.
fn depth(steps: &mut Steps, x: ValueId) -> Result<ValueId> {
    let &[n, c, h, w] = steps.shape(x) else {
        let shape = steps.shape(x);
        bail!(Unsupported, "input of shape {shape:?}: only [n, c, h, w] is known");
    };
    let node = &mut *steps.node;
    let Some(b) = node
        .take_int("blocksize")?
        .and_then(|b| usize::try_from(b).ok())
        .filter(|b| (1..=64).contains(b))
    else {
        bail!(Invalid, "attribute \"blocksize\" must be 1 to 64");
    };
    let mode = node.take_string("mode")?;
    // "DCR": the blocks' positions are the outer part of the channels; "CRD": the inner part.
    let outer = match mode.as_deref() {
        None | Some("DCR") => true,
        Some("CRD") => false,
        Some(other) => bail!(Invalid, "attribute \"mode\" is \"{other}\""),
    };
    let (split, perm, shape): (Shape, [usize; 6], Shape) = if node.op_type == "SpaceToDepth" {
        if h % b != 0 || w % b != 0 {
            bail!(Shape, "{h}x{w} pixels in blocks of {b}");
        }
        let perm = if outer { [0, 3, 5, 1, 2, 4] } else { [0, 1, 3, 5, 2, 4] };
        (vec![n, c, h / b, b, w / b, b], perm, vec![n, c * b * b, h / b, w / b])
    } else {
        if c % (b * b) != 0 {
            bail!(Shape, "{c} channels in blocks of {b}x{b}");
        }
        let c = c / (b * b);
        match outer {
            true => (vec![n, b, b, c, h, w], [0, 3, 4, 1, 5, 2], vec![n, c, h * b, w * b]),
            false => (vec![n, c, b, b, h, w], [0, 1, 4, 2, 5, 3], vec![n, c, h * b, w * b]),
        }
    };
    let y = steps.reshape(x, split)?;
    let y = steps.step(Op::Transpose(Transpose { perm: perm.to_vec() }), &[y])?;
    steps.reshape(y, shape)
}
