//! The network: values, and nodes in an order in which they can be computed.
//!
//! One type serves the float network and the quantized one. In the latter every value carries
//! [`QuantParams`], and constants are stored as codes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::codes::CodeTensor;
use crate::error::{Context, Result, bail};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::quant::{Given, Granularity, QuantParams};
use crate::tensor::{Shape, Tensor, checked_len, see};

/// Index of a [`Value`] in [`Graph::values`].
pub type ValueId = usize;

/// The numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// Real values.
    Real(Tensor<f32>),
    /// Codes, to be read with the value's [`QuantParams`].
    Codes(CodeTensor),
}

impl Constant {
    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Real(t) => t.shape(),
            Self::Codes(t) => t.shape(),
        }
    }
}

/// A tensor that flows through the network, or a constant of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Value {
    /// Unique in its graph.
    pub name: String,
    /// Sizes of the axes, in ONNX's order (`[n, c, h, w]`).
    pub shape: Shape,
    /// The numbers, if they are part of the model.
    pub constant: Option<Constant>,
    /// How its codes are read, once the graph is quantized; of an input that is made of integers, always.
    pub quant: Option<QuantParams>,
    /// The integers that the caller gives, if it is an input that is made of them.
    pub given: Option<Given>,
}

impl Value {
    /// A constant of real numbers.
    pub fn real(name: impl Into<String>, tensor: Tensor<f32>) -> Self {
        let shape = tensor.shape().to_vec();
        let constant = Some(Constant::Real(tensor));
        Self { name: name.into(), shape, constant, ..Self::default() }
    }

    /// The real numbers of a constant; codes are dequantized.
    pub fn to_real(&self) -> Option<Cow<'_, Tensor<f32>>> {
        match (self.constant.as_ref()?, &self.quant) {
            (Constant::Real(t), _) => Some(Cow::Borrowed(t)),
            (Constant::Codes(t), Some(quant)) => {
                let data = quant.dequantize_all(t.widened().data(), t.shape());
                Tensor::new(t.shape(), data).ok().map(Cow::Owned)
            }
            (Constant::Codes(_), None) => None,
        }
    }

    /// A constant of one number, or of one for each of `channels`, as a row of one for each.
    pub fn row(&self, channels: usize) -> Option<Value> {
        let len: usize = self.shape.iter().product();
        let all: Vec<usize> = (0..channels).map(|o| o % len.max(1)).collect();
        let mut row = Value { name: self.name.clone(), shape: vec![channels], ..Value::default() };
        row.constant =
            Some(match self.constant.as_ref().filter(|_| len == 1 || len == channels)? {
                Constant::Real(t) => {
                    Constant::Real(Tensor::from_vec(all.iter().map(|&o| t.data()[o]).collect()))
                }
                Constant::Codes(t) => Constant::Codes(t.picked(&row.shape, &all)),
            });
        row.quant = self.quant.clone();
        if let Some(quant) = &mut row.quant {
            quant.granularity = match quant.scale.len() {
                1 => Granularity::PerTensor,
                scales if scales == channels => Granularity::PerChannel { axis: 0 },
                _ => return None,
            };
        }
        Some(row)
    }
}

/// The nodes of the file that a node was made of.
///
/// Where a node comes from is no part of what it is: any two are equal.
#[derive(Clone, Debug, Default)]
pub struct Parts(pub Vec<Arc<Part>>);

/// A node of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name; without one, that of its result.
    pub name: String,
    /// Its operator type in ONNX.
    pub op_type: String,
}

impl PartialEq for Parts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// One operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in its graph.
    pub name: String,
    /// What of the file it does.
    pub parts: Parts,
    /// What is computed.
    pub op: Op,
    /// The fused activation: what its result is clamped to.
    pub clamp: Clip,
    /// Arguments, in the operator's order.
    pub inputs: Vec<ValueId>,
    /// The result.
    pub output: ValueId,
}

/// What the constants that are computed while a network is read may still take, all together: a small
/// file must not decide how much memory and time that is.
#[derive(Clone, Debug)]
pub struct Folding {
    elements: usize,
    work: u64,
    spent: bool,
}

impl Default for Folding {
    fn default() -> Self {
        Self { elements: 1 << 26, work: 1 << 28, spent: false }
    }
}

impl Folding {
    /// Adds as much as a constant of `elements` that the file holds takes: it may be computed with once.
    pub fn allow(&mut self, elements: usize) {
        self.elements = self.elements.saturating_add(elements);
        self.work = self.work.saturating_add(elements as u64);
    }

    /// Takes what a constant of `shape` needs, which takes `work` steps to compute.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) if there is not so much left.
    pub fn take(&mut self, shape: &[usize], work: u64) -> Result<()> {
        let elements = self.elements.checked_sub(checked_len(shape)?);
        match (elements, self.work.checked_sub(work)) {
            (Some(elements), Some(work)) => (self.elements, self.work) = (elements, work),
            _ => {
                self.spent = true;
                bail!(
                    Unsupported,
                    "a constant of shape {shape:?}: all of them are too large to compute"
                )
            }
        }
        Ok(())
    }

    /// Whether more was asked for than was left.
    pub fn is_spent(&self) -> bool {
        self.spent
    }
}

/// What constants with several users may become: where each user gets numbers of its own, a small file must not
/// decide how many these are.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    used: HashSet<ValueId>,
    left: usize,
}

impl Copies {
    /// None yet.
    pub fn new() -> Self {
        Self { used: HashSet::new(), left: 1 << 26 }
    }

    /// Takes room for the constants of `node`.
    ///
    /// # Errors
    /// The node and the constant for which there is none left.
    pub fn take(&mut self, graph: &Graph, node: &Node) -> Result<()> {
        for &v in &node.inputs {
            let Some(real) = graph.real_constant(v) else { continue };
            if !self.used.insert(v) {
                match self.left.checked_sub(real.shape().iter().product()) {
                    Some(left) => self.left = left,
                    None => return too_many(graph, v).in_node(&node.name, node.op.name()),
                }
            }
        }
        Ok(())
    }
}

fn too_many(graph: &Graph, v: ValueId) -> Result<()> {
    let name = &graph.values[v].name;
    bail!(Unsupported, "constant \"{name}\" has too many users: each reads codes of its own")
}

/// A network: an acyclic graph of nodes in topological order, all shapes known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// Activations and constants.
    pub values: Vec<Value>,
    /// Nodes; each comes after those whose results it uses.
    pub nodes: Vec<Node>,
    /// Values given by the caller.
    pub inputs: Vec<ValueId>,
    /// Values returned to the caller.
    pub outputs: Vec<ValueId>,
    /// The file left the first axis of the inputs open; it is 1 here, and open again in an export.
    pub dynamic_batch: bool,
    /// What is for one sample, where the file leaves that axis open all the same: a node or an output.
    pub for_one: Option<String>,
    /// Constants that have 4 bits in the file and take 8 here: their zero point is not that of the middle.
    pub widened: Vec<String>,
    /// What the file says about itself, by keys of whoever wrote it; see [`PREPROCESS`](crate::onnx::PREPROCESS).
    pub metadata: BTreeMap<String, String>,
}

/// Names that are taken, each with the number to try next behind it.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    /// Takes `wanted`, or `wanted` with a number behind it if it is taken already.
    pub fn fresh(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        while self.0.contains_key(&name) {
            see(1);
            let next = self.0.entry(wanted.clone()).or_insert(1);
            name = format!("{wanted}_{next}");
            *next += 1;
        }
        self.take(&name);
        name
    }

    /// Takes `name`, whether it is free or not.
    pub fn take(&mut self, name: &str) {
        self.0.entry(name.into()).or_insert(1);
    }

    /// Gives `name` back.
    pub fn free(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// What a graph would otherwise be searched for, node by node: it is to be kept in step with the graph.
#[derive(Clone, Debug)]
pub struct Index {
    producer: Vec<Option<usize>>,
    uses: Vec<usize>,
    /// Those that are taken, once a value has been added.
    names: Option<Names>,
}

impl Index {
    /// That of `graph`.
    pub fn new(graph: &Graph) -> Self {
        see(graph.nodes.len());
        let mut index = Self {
            producer: vec![None; graph.values.len()],
            uses: vec![0; graph.values.len()],
            names: None,
        };
        for (i, node) in graph.nodes.iter().enumerate() {
            index.producer[node.output] = Some(i);
            node.inputs.iter().for_each(|&v| index.uses[v] += 1);
        }
        graph.outputs.iter().for_each(|&v| index.uses[v] += 1);
        index
    }

    /// The node that computes `value`.
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.producer[value]
    }

    /// The node that computes `value`, if a rewrite may merge it with the one user of `value`: nobody else
    /// sees it, and the file gives it no codes of its own.
    pub fn sole_producer(&self, graph: &Graph, value: ValueId) -> Option<usize> {
        let hidden = self.uses(value) == 1 && graph.values[value].quant.is_none();
        hidden.then(|| self.producer(value)).flatten()
    }

    /// How often `value` is used, as an argument or as an output of the graph.
    pub fn uses(&self, value: ValueId) -> usize {
        self.uses[value]
    }

    /// Adds a value, under its name or one like it that is free.
    pub fn add_value(&mut self, graph: &mut Graph, value: Value) -> ValueId {
        let taken = || Names(graph.values.iter().map(|v| (v.name.clone(), 1)).collect());
        let name = self.names.get_or_insert_with(taken).fresh(value.name);
        self.producer.push(None);
        self.uses.push(0);
        graph.add_value(Value { name, ..value })
    }

    /// Replaces the arguments of node `node` from `first` on.
    pub fn set_arguments(
        &mut self,
        graph: &mut Graph,
        node: usize,
        first: usize,
        new: impl IntoIterator<Item = ValueId>,
    ) {
        let inputs = &mut graph.nodes[node].inputs;
        inputs.drain(first..).for_each(|v| self.uses[v] -= 1);
        inputs.extend(new);
        inputs[first..].iter().for_each(|&v| self.uses[v] += 1);
    }

    /// The value of argument `argument` of node `node`; a copy, if it has another user, so that it may be
    /// changed.
    pub fn own_argument(&mut self, graph: &mut Graph, node: usize, argument: usize) -> ValueId {
        let v = graph.nodes[node].inputs[argument];
        if self.uses[v] <= 1 {
            return v;
        }
        let mut value = graph.values[v].clone();
        value.name = format!("{}.{}", value.name, graph.nodes[node].name);
        let copy = self.add_value(graph, value);
        graph.nodes[node].inputs[argument] = copy;
        (self.uses[v], self.uses[copy]) = (self.uses[v] - 1, 1);
        copy
    }

    /// Node `producer` computes the result of node `node`, which is to be removed.
    pub fn merge(&mut self, graph: &mut Graph, node: usize, producer: usize) {
        let Node { inputs, output, .. } = &graph.nodes[node];
        inputs.iter().for_each(|&v| self.uses[v] -= 1);
        self.producer[*output] = Some(producer);
        graph.nodes[producer].output = *output;
        let parts = std::mem::take(&mut graph.nodes[node].parts.0);
        graph.nodes[producer].parts.0.extend(parts);
    }
}

impl Graph {
    /// Adds a value and returns its id.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        self.values.len() - 1
    }

    /// `wanted` as the name of a new value or node, or the like of it that is still free.
    pub fn fresh(&self, wanted: String) -> String {
        let taken = self.values.iter().map(|v| &v.name).chain(self.nodes.iter().map(|n| &n.name));
        Names(taken.map(|name| (name.clone(), 1)).collect()).fresh(wanted)
    }

    /// Values that are not constants, in the order in which they are computed.
    pub fn activations(&self) -> impl Iterator<Item = ValueId> {
        see(self.nodes.len());
        self.inputs.iter().copied().chain(self.nodes.iter().map(|n| n.output))
    }

    /// A graph of `node` alone: its arguments are inputs, unless they are constants, and nothing has
    /// parameters of its own.
    pub fn alone(&self, node: &Node) -> Graph {
        let mut alone = Graph::default();
        let mut ids = HashMap::new();
        let mut id = |v: ValueId| {
            *ids.entry(v).or_insert_with(|| {
                alone.values.push(Value { quant: None, given: None, ..self.values[v].clone() });
                alone.values.len() - 1
            })
        };
        let inputs: Vec<ValueId> = node.inputs.iter().map(|&v| id(v)).collect();
        let output = id(node.output);
        alone.inputs =
            inputs.iter().copied().filter(|&v| alone.values[v].constant.is_none()).collect();
        alone.inputs.sort_unstable();
        alone.inputs.dedup();
        alone.outputs = vec![output];
        alone.nodes = vec![Node { inputs, output, ..node.clone() }];
        alone
    }

    /// Real numbers of `value`, if it is a constant that is not quantized.
    pub fn real_constant(&self, value: ValueId) -> Option<&Tensor<f32>> {
        match &self.values[value].constant {
            Some(Constant::Real(t)) => Some(t),
            _ => None,
        }
    }

    /// The result of `node`, if all its arguments are real constants; `None` also if it is beyond what `folding`
    /// leaves.
    pub fn constant_result(&self, node: &Node, folding: &mut Folding) -> Option<Tensor<f32>> {
        let arguments = node.inputs.iter().map(|&v| self.real_constant(v));
        let arguments = arguments.collect::<Option<Vec<_>>>()?;
        let shape = &self.values[node.output].shape;
        folding.take(shape, node.op.work(&self.input_shapes(node), shape)).ok()?;
        let result = node.op.eval_f32(&arguments);
        Some(result.map(|&y| node.clamp.apply(y)))
    }

    /// The codes that `node` makes of a constant by moving them, and how they are read, if those that share a
    /// scale still do.
    pub fn moved_constant(
        &self,
        node: &Node,
        folding: &mut Folding,
    ) -> Option<(CodeTensor, QuantParams)> {
        let &[v] = &node.inputs[..] else { return None };
        let (codes, mut quant) = match &self.values[v] {
            Value { constant: Some(Constant::Codes(t)), quant: Some(quant), .. } => {
                (t, quant.clone())
            }
            _ => return None,
        };
        let (from, to) = (codes.shape(), &self.values[node.output].shape);
        let along = match quant.granularity {
            Granularity::PerTensor => None,
            Granularity::PerChannel { .. } if quant.scale.len() == 1 => None,
            Granularity::PerChannel { axis } => Some(axis),
        };
        let along = match (&node.op, along) {
            (Op::Reshape(_) | Op::Slice(_) | Op::Transpose(_), None) => None,
            (Op::Transpose(op), Some(axis)) => Some(op.perm.iter().position(|&a| a == axis)?),
            (Op::Slice(op), Some(axis)) => {
                let part = op.parts[axis];
                let of = |i: i64| quant.scale[(part.start as i64 + i * part.step) as usize];
                quant.scale = (0..part.len as i64).map(of).collect();
                Some(axis)
            }
            (Op::Reshape(_), Some(axis)) => {
                let before: usize = from[..axis].iter().product();
                let stays =
                    |&a: &usize| to[a] == from[axis] && to[..a].iter().product::<usize>() == before;
                Some((0..to.len()).find(stays)?)
            }
            _ => return None,
        };
        quant.granularity = match along {
            Some(axis) => Granularity::PerChannel { axis },
            None => Granularity::PerTensor,
        };
        folding.take(to, node.op.work(&[from], to)).ok()?;
        let moved = match &node.op {
            Op::Transpose(op) => codes.clone().into_transposed(&op.perm),
            Op::Slice(op) => codes.picked(to, &op.indices(from)),
            _ => codes.clone().reshape(to.clone()).ok()?,
        };
        Some((moved, quant))
    }

    /// Names and shapes of the inputs.
    pub fn named_inputs(&self) -> Vec<(&str, &[usize])> {
        self.inputs.iter().map(|&v| (&*self.values[v].name, &*self.values[v].shape)).collect()
    }

    /// Shapes of the arguments of `node`.
    pub fn input_shapes(&self, node: &Node) -> Vec<&[usize]> {
        node.inputs.iter().map(|&v| self.values[v].shape.as_slice()).collect()
    }

    /// Multiply-accumulates of `node`.
    pub fn macs(&self, node: &Node) -> u64 {
        node.op.macs(&self.input_shapes(node), &self.values[node.output].shape)
    }

    /// Number of elements of all constants.
    pub fn parameters(&self) -> usize {
        let constants = self.values.iter().filter_map(|v| v.constant.as_ref());
        constants.map(|c| c.shape().iter().product::<usize>()).sum()
    }

    /// Largest number of activation elements that are needed at one time: no memory plan can do with
    /// less, unless it computes in place.
    pub fn peak_live_elements(&self) -> usize {
        let mut last = vec![0; self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().chain([&node.output]).for_each(|&v| last[v] = i);
        }
        let steps = self.nodes.len().max(1);
        self.outputs.iter().for_each(|&v| last[v] = steps - 1);
        let (mut born, mut dead) = (vec![0; steps], vec![0; steps]);
        let results = self.nodes.iter().enumerate().map(|(i, n)| (i, n.output));
        for (first, v) in self.inputs.iter().map(|&v| (0, v)).chain(results) {
            let len = self.values[v].shape.iter().product::<usize>();
            born[first] += len;
            dead[last[v]] += len;
        }
        let live = born.iter().zip(&dead).scan(0, |live, (born, dead)| {
            let now = *live + born;
            *live = now - dead;
            Some(now)
        });
        live.max().unwrap_or(0)
    }

    /// `true` if any value is quantized that is not given in integers: then the graph means integers.
    pub fn has_codes(&self) -> bool {
        see(self.values.len());
        self.values.iter().any(|v| v.quant.is_some() && v.given.is_none())
    }

    /// Removes values that nothing refers to.
    pub fn remove_unused_values(&mut self) {
        see(self.values.len());
        let mut used: Vec<bool> = vec![false; self.values.len()];
        let nodes = self.nodes.iter().flat_map(|n| n.inputs.iter().chain([&n.output]));
        for &v in self.inputs.iter().chain(&self.outputs).chain(nodes) {
            used[v] = true;
        }
        let mut next = 0;
        let new: Vec<ValueId> = used.iter().map(|&u| (next, next += u as usize).0).collect();
        let mut keep = used.iter();
        self.values.retain(|_| keep.next() == Some(&true));
        let nodes = self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().chain([&mut n.output]));
        for v in self.inputs.iter_mut().chain(&mut self.outputs).chain(nodes) {
            *v = new[*v];
        }
    }

    /// Checks every invariant of this type.
    ///
    /// # Errors
    /// The first violation, with the node's name.
    pub fn check(&self) -> Result<()> {
        see(self.nodes.len());
        let mut names = HashSet::new();
        for value in &self.values {
            if !names.insert(value.name.as_str()) {
                bail!(Invalid, "two values are called \"{}\"", value.name);
            }
            if value.constant.as_ref().is_some_and(|c| c.shape() != value.shape) {
                bail!(Shape, "constant \"{}\" is not of its value's shape", value.name);
            }
            if let Some(quant) = &value.quant {
                quant.check(&value.shape)?;
            }
        }
        let mut known: Vec<bool> = self.values.iter().map(|v| v.constant.is_some()).collect();
        self.inputs.iter().for_each(|&v| known[v] = true);
        for node in &self.nodes {
            self.check_node(node, &mut known).in_node(&node.name, node.op.name())?;
        }
        match self.outputs.iter().find(|&&v| !known[v]) {
            Some(&v) => bail!(Invalid, "output \"{}\" is never computed", self.values[v].name),
            None => Ok(()),
        }
    }

    /// Refuses constants that a node computes with, but which are no numbers. The −∞ of a mask is one.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) with the names of the node and the constant.
    pub fn check_numbers(&self) -> Result<()> {
        see(self.nodes.len());
        // Each constant is looked through once, however many nodes read it.
        let mut found = vec![None; self.values.len()];
        for node in &self.nodes {
            for &v in &node.inputs {
                let Some(t) = self.real_constant(v) else { continue };
                let [no_number, in_mask] = *found[v].get_or_insert_with(|| no_numbers(t.data()));
                if let Some(bad) = if node.op.takes_masks() { in_mask } else { no_number } {
                    let name = &self.values[v].name;
                    let no_number =
                        || -> Result<()> { bail!(Range, "constant \"{name}\" holds {bad}") };
                    return no_number().in_node(&node.name, node.op.name());
                }
            }
        }
        Ok(())
    }

    fn check_node(&self, node: &Node, known: &mut [bool]) -> Result<()> {
        if let Some(&v) = node.inputs.iter().find(|&&v| !known[v]) {
            bail!(Invalid, "input \"{}\" is used before it is computed", self.values[v].name);
        }
        let output = &self.values[node.output];
        if std::mem::replace(&mut known[node.output], true) {
            bail!(Invalid, "output \"{}\" is computed twice", output.name);
        }
        let shape = node.op.infer_shape(&self.input_shapes(node))?;
        if shape != output.shape {
            bail!(Shape, "expected output shape {shape:?}, got {:?}", output.shape);
        }
        Ok(())
    }
}

/// The first of `x` that is no number; the first that is none in a mask, which holds −∞ beside numbers.
fn no_numbers(x: &[f32]) -> [Option<f32>; 2] {
    let first = |no_number: fn(f32) -> bool| x.iter().copied().find(|&x| no_number(x));
    let no_number = first(|x| !x.is_finite());
    let is_mask = no_number.is_some() && first(f32::is_finite).is_some();
    [no_number, if is_mask { first(|x| x.is_nan() || x == f32::INFINITY) } else { no_number }]
}
