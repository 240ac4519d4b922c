//! What is known while a file is read: its names, and the graph as far as it goes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::obstacles::Obstacles;
use super::proto::TensorTypeProto;
use crate::codes::CodeTensor;
use crate::error::{Result, bail};
use crate::graph::{Constant, Folding, Graph, Names, Node, Part, Parts, Value, ValueId};
use crate::ops::clip::Clip;
use crate::ops::{OnnxNode, Op};
use crate::quant::Width;
use crate::tensor::{MAX_RANK, Shape, Tensor};

/// Largest number of elements of an activation: 1 GiB as `f32`.
const MAX_ELEMENTS: usize = 1 << 28;
/// Of a network; a file may say many of them in few bytes.
const MAX_NODES: usize = 1 << 18;

/// Shapes of inputs whose axes the file leaves open, by name.
pub type InputShapes = BTreeMap<String, Shape>;

/// How a model is read.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Shapes of inputs.
    pub shapes: InputShapes,
    /// Shapes that an input may have where the file leaves its axes open and `shapes` does not tell: those of the data, by
    /// name; what is called "" serves any input.
    pub data: BTreeMap<String, Vec<Shape>>,
    /// Values that become the outputs; those of the model, if there are none.
    pub outputs: Vec<String>,
    /// Values that become inputs, in place of what they are computed from.
    pub from: Vec<String>,
}

impl From<InputShapes> for ImportOptions {
    /// The whole model.
    fn from(shapes: InputShapes) -> Self {
        Self { shapes, ..Self::default() }
    }
}

/// What a name in the file stands for.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// A value of the graph: an activation, or a real constant.
    Value(ValueId),
    /// A constant of integers: a shape, or codes of a bias that await their DequantizeLinear.
    Ints(Tensor<i64>, i32),
    /// See [`Numbers::Narrow`](super::tensors::Numbers::Narrow).
    Narrow(CodeTensor, i32),
    /// The codes of a value of the graph, which has parameters, and their type in the file.
    Codes(ValueId, i32),
    /// A value of the graph that is made of integers of this type in the file: an index, or what is given so.
    Index(ValueId, i32),
    /// A sequence of values.
    List(Vec<Known>),
    /// Nothing, as what computes it could not be read; whether that depends on inputs.
    Stopped { computed: bool },
}

/// The value that something is computed of, and how its codes are read.
type Key = (ValueId, usize, u32, i32, Width);

/// The codes that a file makes of values.
#[derive(Debug, Default)]
pub(super) struct Rounded {
    pub(super) by_params: HashMap<Key, ValueId>,
    /// By the value of the codes, that of the real numbers.
    pub(super) raw: BTreeMap<ValueId, ValueId>,
    /// Codes in whose place others with narrower limits are read.
    pub(super) limited: HashSet<ValueId>,
}

impl Rounded {
    /// Whether `v` is the codes of an input of the network.
    pub fn is_input(&self, graph: &Graph, v: ValueId) -> bool {
        // Values of inputs have been added in their order.
        self.raw.get(&v).is_some_and(|raw| graph.inputs.binary_search(raw).is_ok())
    }
}

/// A network while it is read.
pub(super) struct Importer<'a> {
    pub(super) graph: Graph,
    /// The version of the operator set.
    pub(super) opset: i64,
    pub(super) names: Names,
    pub(super) known: HashMap<String, Known>,
    /// Names that somebody reads.
    pub(super) read: HashSet<Cow<'a, str>>,
    pub(super) outputs: HashSet<&'a str>,
    /// What the file rounds to codes, by the real value and the parameters; see [`Rounded`].
    pub(super) rounded: Rounded,
    /// Names of Identity nodes, by their result.
    pub(super) copies: HashMap<&'a str, &'a str>,
    /// Of constants that the file quantizes: what is subtracted from the codes of each channel.
    pub(super) offsets: HashMap<ValueId, Vec<i64>>,
    pub(super) input_shapes: &'a InputShapes,
    /// See [`ImportOptions::data`].
    pub(super) data: &'a BTreeMap<String, Vec<Shape>>,
    /// Number of inputs whose first axis is open.
    pub(super) open_batches: usize,
    /// Whether another axis of an input is open.
    pub(super) open_axes: bool,
    /// What constants computed here may still take.
    pub(super) folding: Folding,
    /// The node that is being read.
    pub(super) part: Option<Arc<Part>>,
    /// What the file says of values between nodes.
    pub(super) declared: HashMap<&'a str, &'a TensorTypeProto>,
    /// What stops the network so far.
    pub(super) obstacles: Obstacles,
    /// Takes the place of open axes, only to look at the rest.
    pub(super) guess: usize,
}

impl Importer<'_> {
    pub(super) fn add_value(&mut self, value: Value) -> ValueId {
        self.names.take(&value.name);
        self.graph.add_value(value)
    }

    pub(super) fn rename(&mut self, v: ValueId, name: String) {
        self.names.free(&self.graph.values[v].name);
        self.names.take(&name);
        self.graph.values[v].name = name;
    }

    pub(super) fn define(&mut self, name: &str, known: Known) -> Result<()> {
        match self.known.insert(name.into(), known) {
            Some(_) => bail!(Invalid, "\"{name}\" is defined twice"),
            None => Ok(()),
        }
    }

    pub(super) fn get(&self, name: &str) -> Result<&Known> {
        match self.known.get(name) {
            Some(known) => Ok(known),
            None => bail!(Invalid, "input \"{name}\" is not computed before it is used"),
        }
    }

    /// The codes of a constant called `name`, and their type.
    pub(super) fn codes(&self, name: &str) -> Option<(CodeTensor, i32)> {
        match self.known.get(name)? {
            Known::Ints(t, data_type) => {
                Some((CodeTensor::I32(t.map(|&code| code as i32)), *data_type))
            }
            Known::Narrow(t, data_type) => Some((t.clone(), *data_type)),
            Known::Value(_)
            | Known::Codes(..)
            | Known::Index(..)
            | Known::List(_)
            | Known::Stopped { .. } => None,
        }
    }

    /// Gives the value behind an output of the model the output's name.
    pub(super) fn name_output(&mut self, v: ValueId, output: &str) -> Result<()> {
        self.check_output(v, output)?;
        self.rename(v, output.into());
        Ok(())
    }

    /// Refuses an output that nothing computes.
    pub(super) fn check_output(&self, v: ValueId, output: &str) -> Result<()> {
        // Values of inputs have been added in their order.
        match self.graph.inputs.binary_search(&v) {
            Ok(_) => bail!(Unsupported, "output \"{output}\" is an input"),
            Err(_) => Ok(()),
        }
    }

    /// Adds a node and its result, called `output`; a result that is constant is computed now.
    pub(super) fn emit(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<ValueId>,
        output: &str,
    ) -> Result<ValueId> {
        if self.graph.nodes.len() >= MAX_NODES {
            bail!(Unsupported, "a network of more than {MAX_NODES} nodes");
        }
        let shapes: Vec<&[usize]> =
            inputs.iter().map(|&v| self.graph.values[v].shape.as_slice()).collect();
        let shape = op.infer_shape(&shapes)?;
        check_size(output, &shape)?;
        let v = self.add_value(Value { name: output.into(), shape, ..Value::default() });
        let parts = Parts(self.part.clone().into_iter().collect());
        let node = Node { name: name.into(), parts, op, clamp: Clip::NONE, inputs, output: v };
        if let Some(result) = self.graph.constant_result(&node, &mut self.folding) {
            self.graph.values[v].constant = Some(Constant::Real(result));
        } else if let Some((codes, quant)) = self.graph.moved_constant(&node, &mut self.folding) {
            self.graph.values[v].constant = Some(Constant::Codes(codes));
            self.graph.values[v].quant = Some(quant);
        } else {
            self.graph.nodes.push(node);
        }
        Ok(v)
    }
}

pub(super) fn check_size(name: &str, shape: &[usize]) -> Result<()> {
    if shape.len() > MAX_RANK {
        bail!(Unsupported, "\"{name}\" has {} axes, more than {MAX_RANK}", shape.len());
    }
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match elements {
        Some(1..=MAX_ELEMENTS) => Ok(()),
        Some(0) => bail!(Unsupported, "\"{name}\" of shape {shape:?} is empty"),
        _ => bail!(Unsupported, "\"{name}\" of shape {shape:?} has more than 2^28 elements"),
    }
}

/// Takes an attribute that is the number of a data type.
pub(super) fn take_type(node: &mut OnnxNode, name: &str) -> Result<Option<i32>> {
    Ok(node.take_int(name)?.map(|number| i32::try_from(number).unwrap_or(-1)))
}
