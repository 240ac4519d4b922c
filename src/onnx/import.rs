//! ONNX file → [`Graph`]. What is not known is refused here, with the node's name: nothing is ignored.
//!
//! Pairs of QuantizeLinear and DequantizeLinear do not become nodes: they say how a value's codes are
//! read ([`Value::quant`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::batch::is_for_one;
use super::control::OF_LISTS;
use super::cut::{before, cut, declaration, open_inputs};
use super::external::Folder;
use super::importer::{ImportOptions, Importer, Known, Rounded};
use super::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    StringStringEntryProto, TensorProto, ValueInfoProto, attribute_type as at, data_type as dt,
};
use super::qonnx::is_quantizer;
use super::reader;

use super::fold::{self, Args, fold, needs_numbers};
use super::obstacles::Obstacles;
use super::signature::{self, OPSETS};
use super::tensors::{Numbers, widened};
use crate::error::{Context, Error, Result, bail};
use crate::graph::{Constant, Folding, Graph, Names, Part, Value, ValueId};
use crate::ops::reshape::Reshape;
use crate::ops::{Attribute, Input, OnnxNode, Op, OutputParams};
use crate::tensor::Tensor;

/// Versions of the file format that are known.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 1..=14;
/// Operator types that are imported without an operator of their own, and not only computed on constants: quantization,
/// and those that are others in disguise.
const IMPORTED_ONLY: &[&str] = &[
    "Cast",
    "ConcatFromSequence",
    "Constant",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "Einsum",
    "Expand",
    "GRU",
    "GlobalMaxPool",
    "Identity",
    "If",
    "LSTM",
    "LogSoftmax",
    "Max",
    "Mean",
    "Min",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMatMul",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QuantizeLinear",
    "RNN",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMin",
    "ReduceSum",
    "ReduceSumSquare",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceLength",
    "SpaceToDepth",
    "Split",
    "SplitToSequence",
    "Squeeze",
    "Sum",
    "Tile",
    "Unsqueeze",
    "Where",
];

/// All operator types that are imported, those that are only computed on constants and shapes among them.
pub fn imported_types() -> BTreeSet<&'static str> {
    types_of_values().into_iter().chain(fold::types()).collect()
}

/// Those of which an argument may be an activation.
fn types_of_values() -> BTreeSet<&'static str> {
    Op::onnx_types().chain(IMPORTED_ONLY.iter().copied()).collect()
}

/// The key of [`Graph::metadata`] whose value is the [`Preprocess`](crate::Preprocess), as JSON, that a quantized network
/// was calibrated with.
pub const PREPROCESS: &str = "naive_ptq.preprocess";

/// The key of [`Graph::metadata`] whose value is the [`Preprocess`](crate::Preprocess), as JSON, that a quantized network
/// itself does to the bytes that it is given.
pub const RAW_INPUT: &str = "naive_ptq.raw_input";

/// What a model file says about itself ([`Graph::metadata`]): the rest of it is not read.
///
/// # Errors
/// What is wrong with the file.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    reader::read_metadata(path).map(|it| by_key(it.metadata_props)).in_file(path)
}

fn by_key(entries: Vec<StringStringEntryProto>) -> BTreeMap<String, String> {
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

/// Reads a model file; external data is looked for beside it.
///
/// # Errors
/// What is wrong with the file, or not supported, and where.
pub fn load(path: &Path) -> Result<Graph> {
    load_with(path, &ImportOptions::default())
}

/// As [`load`], with shapes for inputs that the file leaves open, and perhaps a part of the model.
pub fn load_with(path: &Path, options: &ImportOptions) -> Result<Graph> {
    let read = || import_model(reader::read(path)?, path.parent(), options);
    read().in_file(path)
}

/// Reads a model from `bytes`; external data is looked for in `dir`.
///
/// # Errors
/// What is wrong with the model, or not supported, and where.
pub fn import(bytes: &[u8], dir: Option<&Path>) -> Result<Graph> {
    import_with(bytes, dir, &ImportOptions::default())
}

/// As [`import`], with shapes for inputs that the file leaves open.
pub fn import_with(bytes: &[u8], dir: Option<&Path>, options: &ImportOptions) -> Result<Graph> {
    import_model(reader::decode(bytes)?, dir, options)
}

/// Sizes that open axes of inputs may have, to look at what else stops a network.
const GUESSES: [usize; 3] = [224, 640, 64];

/// The error of the guess that makes the least of them, where axes are open.
fn import_model(model: ModelProto, dir: Option<&Path>, options: &ImportOptions) -> Result<Graph> {
    let inputs = model.graph.iter().flat_map(|graph| &graph.input);
    let types = inputs.filter_map(|input| input.r#type.as_ref()?.tensor_type.as_ref());
    let is_open = |dim: &Dimension| !matches!(dim.value, Some(DimensionValue::DimValue(0..)));
    let mut shapes = types.filter_map(|tensor| tensor.shape.as_ref());
    if !shapes.any(|shape| shape.dim.iter().skip(1).any(is_open)) {
        return import_guessing(model, dir, options, GUESSES[0]);
    }
    let count =
        |error: &Error| if let Error::Many { errors, .. } = error { errors.len() } else { 1 };
    let mut best = None;
    for guess in GUESSES {
        match (import_guessing(model.clone(), dir, options, guess), &best) {
            (Err(error), Some(known)) if count(&error) >= count(known) => {}
            (Err(error), _) => best = Some(error),
            (graph, _) => return graph,
        }
    }
    match best {
        Some(error) => Err(error),
        None => bail!(Invalid, "no size of an open axis"),
    }
}

fn import_guessing(
    model: ModelProto,
    dir: Option<&Path>,
    options: &ImportOptions,
    guess: usize,
) -> Result<Graph> {
    let mut obstacles = Obstacles::default();
    let opset = check_model(&model, &mut obstacles)?;
    let computed = shapes_before(&model, dir, options)?;
    let metadata = by_key(model.metadata_props);
    let mut proto = model.graph.unwrap_or_default();
    let renamed = cut(&mut proto, options, &computed)?;
    let (mut shapes, mut data) = (options.shapes.clone(), options.data.clone());
    for (input, name) in &renamed {
        shapes.remove(name).map(|shape| shapes.insert(input.clone(), shape));
        data.remove(name).map(|shapes| data.insert(input.clone(), shapes));
    }
    let initializers = std::mem::take(&mut proto.initializer);
    let proto = &proto;
    let mut importer = Importer {
        graph: Graph { name: proto.name.clone(), metadata, ..Graph::default() },
        opset,
        names: Names::default(),
        known: HashMap::new(),
        read: HashSet::new(),
        rounded: Rounded::default(),
        copies: HashMap::new(),
        offsets: HashMap::new(),
        outputs: proto.output.iter().map(|o| o.name.as_str()).collect(),
        input_shapes: &shapes,
        data: &data,
        open_batches: 0,
        open_axes: false,
        folding: Folding::default(),
        part: None,
        declared: HashMap::new(),
        obstacles,
        guess,
    };
    let inputs: HashSet<&str> = proto.input.iter().map(|i| i.name.as_str()).collect();
    let missing = |name: &&String| !inputs.contains(name.as_str());
    if let Some(unknown) = shapes.keys().find(missing) {
        bail!(Invalid, "a shape is given for \"{unknown}\", but the model has no such input");
    }
    importer.graph(proto, initializers, dir)?;
    for (old, name) in renamed {
        let named = |v: &&usize| importer.graph.values[**v].name == old;
        let ends = importer.graph.outputs.iter().chain(&importer.graph.inputs);
        if let Some(&v) = ends.clone().find(named) {
            importer.rename(v, name);
        }
    }
    importer.graph.remove_unused_values();
    importer.graph.check()?;
    importer.graph.check_numbers()?;
    if importer.graph.dynamic_batch {
        importer.graph.for_one = is_for_one(&importer.graph);
        importer.graph.dynamic_batch = importer.graph.for_one.is_none();
    }
    Ok(importer.graph)
}

/// What the file does not say of the values that become inputs: they are computed as a network of their own.
fn shapes_before(
    model: &ModelProto,
    dir: Option<&Path>,
    options: &ImportOptions,
) -> Result<HashMap<String, ValueInfoProto>> {
    let graph = model.graph.iter();
    let unknown: Vec<String> = graph.flat_map(|graph| open_inputs(graph, options)).collect();
    if unknown.is_empty() {
        return Ok(HashMap::new());
    }
    let mut part = model.clone();
    let proto = part.graph.get_or_insert_default();
    before(proto, &unknown, options);
    let is_input = |name: &str| proto.input.iter().any(|input| input.name == name);
    let mut shapes = options.shapes.clone();
    shapes.retain(|name, _| is_input(name));
    let names = unknown.join("\", \"");
    let options = ImportOptions { data: options.data.clone(), ..shapes.into() };
    let read = match import_model(part, dir, &options) {
        Ok(read) if read.outputs.len() == unknown.len() => read,
        Ok(_) => return Ok(HashMap::new()),
        Err(e) => bail!(
            Invalid,
            "the shape of \"{names}\" is not known: give it with --input-shape, as what computes it cannot be read: {e}"
        ),
    };
    let shape = |&v: &usize| declaration("", &read.values[v].shape, read.dynamic_batch);
    Ok(unknown.into_iter().zip(read.outputs.iter().map(shape)).collect())
}

/// Refuses what would mean something else if it were ignored; the version of the operator set.
fn check_model(model: &ModelProto, obstacles: &mut Obstacles) -> Result<i64> {
    let Some(graph) = &model.graph else {
        bail!(Invalid, "not an ONNX model: it holds no graph");
    };
    // A file that does not say is taken for one of those.
    if let Some(version) = model.ir_version.filter(|version| !IR_VERSIONS.contains(version)) {
        let (first, last) = (IR_VERSIONS.start(), IR_VERSIONS.end());
        bail!(Unsupported, "IR version {version}, expected {first} to {last}")
    }
    for (given, what) in [
        (!model.functions.is_empty(), "functions of the model's own"),
        (!model.training_info.is_empty(), "information for training"),
        (!graph.sparse_initializer.is_empty(), "sparse initializers"),
    ] {
        let refuse = || -> Result<()> { bail!(Unsupported, "{what}") };
        if let (true, Err(error)) = (given, refuse()) {
            obstacles.add(error);
        }
    }
    let mut versions = HashMap::new();
    for import in &model.opset_import {
        let domain = import.domain.as_deref().unwrap_or_default();
        let domain = if is_onnx_domain(domain) { "" } else { domain };
        let version = import.version.unwrap_or_default();
        let other = versions.insert(domain, version).filter(|other| *other != version);
        if let Some(other) = other {
            bail!(Invalid, "two operator sets of domain \"{domain}\": {other} and {version}");
        }
    }
    match versions.get("") {
        None => bail!(Invalid, "the model names no operator set"),
        Some(opset) if OPSETS.contains(opset) => Ok(*opset),
        Some(opset) => {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            bail!(Unsupported, "operator set {opset}, expected {first} to {last}")
        }
    }
}

fn is_onnx_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

impl<'a> Importer<'a> {
    fn graph(
        &mut self,
        proto: &'a GraphProto,
        initializers: Vec<TensorProto>,
        dir: Option<&Path>,
    ) -> Result<()> {
        let mut folder = Folder::new(dir);
        for tensor in initializers {
            let name = tensor.name.clone();
            let read = Numbers::read(tensor, &mut folder);
            if let Err(error) = read.and_then(|numbers| self.define_stored(&name, numbers)) {
                self.obstacles.add(error);
                self.known.entry(name).or_insert(Known::Stopped { computed: false });
            }
        }
        let types = proto.value_info.iter().filter_map(|info| {
            Some((info.name.as_str(), info.r#type.as_ref()?.tensor_type.as_ref()?))
        });
        self.declared = types.collect();
        // Until IR version 3 initializers were listed among the inputs.
        let inputs = proto.input.iter().filter(|input| !self.known.contains_key(&input.name));
        for input in inputs.collect::<Vec<_>>() {
            if let Err(error) = self.input(input) {
                self.obstacles.add(error);
                let stopped = Known::Stopped { computed: true };
                self.known.entry(input.name.clone()).or_insert(stopped);
            }
        }
        let inputs = self.graph.inputs.len();
        self.graph.dynamic_batch = inputs > 0 && self.open_batches == inputs;
        let read = proto.node.iter().flat_map(|n| &n.input);
        self.read = read.chain(proto.output.iter().map(|o| &o.name)).map(Cow::from).collect();
        self.nodes(&proto.node);
        for output in &proto.output {
            match self.output(&output.name) {
                Ok(v) => self.graph.outputs.extend(v),
                Err(error) => self.obstacles.add(error),
            }
        }
        if let Some(error) = std::mem::take(&mut self.obstacles).into_error() {
            return Err(error);
        }
        for declared in proto.input.iter().chain(&proto.output) {
            self.check_declared(declared, self.open_batches > 0)?;
        }
        // Tools that change the batch of inputs and outputs leave these as they were.
        for declared in &proto.value_info {
            self.check_declared(declared, true)?;
        }
        if self.graph.outputs.is_empty() {
            bail!(Invalid, "the model has no outputs");
        }
        self.settle()
    }

    /// The value that is the output called `name`, if it could be read.
    fn output(&self, name: &str) -> Result<Option<ValueId>> {
        match self.known.get(name) {
            Some(&(Known::Value(v) | Known::Index(v, dt::INT32 | dt::INT64))) => {
                self.check_output(v, name).map(|()| Some(v))
            }
            Some(Known::Stopped { .. }) => Ok(None),
            Some(_) => bail!(Unsupported, "output \"{name}\" is not real"),
            None if self.folding.is_spent() => Ok(None),
            None => bail!(Invalid, "output \"{name}\" is never computed"),
        }
    }

    /// Reads nodes in their order. Behind one that stops the network, what can be told without its result is.
    pub(super) fn nodes(&mut self, nodes: &'a [NodeProto]) {
        for (index, node) in nodes.iter().enumerate() {
            let name = if node.name.is_empty() { format!("#{index}") } else { node.name.clone() };
            let part = match node.name.is_empty() {
                true => node.output.first().cloned().unwrap_or_default(),
                false => node.name.clone(),
            };
            self.part = Some(Arc::new(Part { name: part, op_type: node.op_type.clone() }));
            let lacks_argument = self.lacks_argument(node);
            let read = match lacks_argument {
                true => self.check_type(node),
                false => self.node(node, &name),
            };
            let read = read.in_node(&name, &node.op_type);
            if lacks_argument || read.is_err() {
                self.stop(node);
            }
            if let Err(error) = read {
                self.obstacles.add(error);
                // What was done for it counts, too: there may be many.
                let done = self.constants_of(node);
                if self.folding.take(&[], done).is_err() || self.folding.is_spent() {
                    return;
                }
            }
        }
    }

    /// Of the file: it may be computed with once at the least.
    pub(super) fn define_stored(&mut self, name: &str, numbers: Numbers) -> Result<()> {
        self.folding.allow(numbers.len());
        self.define_constant(name, numbers)
    }

    pub(super) fn define_constant(&mut self, name: &str, numbers: Numbers) -> Result<()> {
        let known = match numbers {
            Numbers::Real(t) => Known::Value(self.add_value(Value::real(name, t))),
            Numbers::Ints(t, data_type) => Known::Ints(t, data_type),
            Numbers::Narrow(t, data_type) => Known::Narrow(t, data_type),
        };
        self.define(name, known)
    }

    /// What can be said of a node without its arguments.
    fn check_type(&self, proto: &NodeProto) -> Result<()> {
        let is_known = is_onnx_domain(&proto.domain)
            || proto.domain == "com.microsoft" && is_on_codes(proto)
            || is_quantizer(proto);
        if !is_known {
            bail!(Unsupported, "operators of domain \"{}\"", proto.domain);
        }
        if !proto.overload.is_empty() {
            bail!(Unsupported, "overload \"{}\"", proto.overload);
        }
        static KNOWN: LazyLock<BTreeSet<&str>> = LazyLock::new(imported_types);
        static OF_VALUES: LazyLock<BTreeSet<&str>> = LazyLock::new(types_of_values);
        let is_in = |types: &BTreeSet<_>| is_quantizer(proto) || types.contains(&*proto.op_type);
        if is_in(&KNOWN) {
            signature::check(proto, self.opset)?;
        }
        if !is_in(if self.is_computed(proto) { &OF_VALUES } else { &KNOWN }) {
            bail!(Unsupported, "operator type \"{}\"", proto.op_type);
        }
        Ok(())
    }

    fn node(&mut self, proto: &'a NodeProto, name: &str) -> Result<()> {
        self.check_type(proto)?;
        let Some(output) = proto.output.first().filter(|o| !o.is_empty() || is_recurrent(proto))
        else {
            bail!(Invalid, "the node has no output");
        };
        match proto.op_type.as_str() {
            "Identity" | "Dropout" => {
                self.first_only(proto)?;
                let (mut node, _) = self.describe(proto, false)?;
                self.identity(proto, output, &mut node)?;
                all_taken(&node)
            }
            "If" => self.branch(proto),
            _ => self.computed(proto, name, is_on_codes(proto)),
        }
    }

    /// Refuses outputs behind the first one that somebody reads.
    fn first_only(&self, proto: &NodeProto) -> Result<()> {
        let used = |o: &&String| !o.is_empty() && self.read.contains(o.as_str());
        match proto.output.iter().skip(1).find(used) {
            Some(second) => {
                bail!(Unsupported, "its output \"{second}\" is used, only the first one is known")
            }
            None => Ok(()),
        }
    }

    /// Reads a node that is no name for something else.
    pub(super) fn computed(&mut self, proto: &NodeProto, name: &str, on_codes: bool) -> Result<()> {
        let output = &proto.output[0];
        let (mut node, types) = self.describe(proto, on_codes)?;
        if OF_LISTS.contains(&&*proto.op_type) {
            return self.list(proto, node);
        }
        if let Some(results) = self.fold(proto, &mut node, types) {
            for (numbers, name) in results?.into_iter().zip(&proto.output) {
                if !name.is_empty() {
                    self.define_constant(name, numbers)?;
                }
            }
            return all_taken(&node);
        }
        if proto.op_type != "Split" && !is_recurrent(proto) {
            self.first_only(proto)?;
        }
        match proto.op_type.as_str() {
            _ if is_quantizer(proto) => self.quantizer(proto, output, &mut node)?,
            "Clip" if self.clip_of_codes(proto, output)? => {}
            "Constant" => self.constant(proto, output, &mut node)?,
            "QuantizeLinear" => self.quantize(proto, output, &mut node)?,
            "DequantizeLinear" => self.dequantize(proto, output, &mut node)?,
            _ if self.decompose(proto, name, &mut node)? => {}
            _ => self.operator(proto, name, output, &mut node)?,
        }
        all_taken(&node)
    }

    /// The results of a node that depends on constants and shapes only.
    fn fold(
        &mut self,
        proto: &NodeProto,
        node: &mut OnnxNode,
        types: Vec<i32>,
    ) -> Option<Result<Vec<Numbers>>> {
        let value = proto.attribute.iter().find(|a| a.name == "value");
        let value_type = value.and_then(|a| a.t.as_ref()).map_or(0, |t| t.data_type);
        let (folding, outputs) = (&mut self.folding, proto.output.len());
        fold(Args { node, types, value_type, folding, outputs, more: Vec::new() })
    }

    /// The node as operators see it; of what works on codes only their shapes. What its integers are made of.
    fn describe(&mut self, proto: &NodeProto, on_codes: bool) -> Result<(OnnxNode, Vec<i32>)> {
        let mut node = OnnxNode { opset: self.opset, ..OnnxNode::new(&proto.op_type) };
        let mut types = Vec::new();
        for attribute in &proto.attribute {
            let value = read_attribute(attribute)?;
            if node.attributes.insert(attribute.name.clone(), value).is_some() {
                bail!(Invalid, "attribute \"{}\" is given twice", attribute.name);
            }
        }
        let numbers = needs_numbers(&proto.op_type);
        for name in &proto.input {
            let data_type = match self.known.get(name) {
                Some(
                    &(Known::Ints(_, data_type)
                    | Known::Narrow(_, data_type)
                    | Known::Codes(_, data_type)),
                ) => data_type,
                _ => 0,
            };
            types.push(data_type);
            node.inputs.push(match name.as_str() {
                "" => None,
                _ => Some(match self.get(name)? {
                    Known::List(_) if OF_LISTS.contains(&&*proto.op_type) => {
                        Input::Activation(Vec::new())
                    }
                    Known::List(_) | Known::Stopped { .. } => {
                        bail!(Unsupported, "input \"{name}\" is a sequence")
                    }
                    Known::Ints(t, _) => Input::Ints(t.clone()),
                    Known::Narrow(t, _) if on_codes => Input::Codes(t.shape().to_vec(), None),
                    Known::Narrow(t, data_type) => {
                        let (t, data_type) = (t.clone(), *data_type);
                        self.folding.take(t.shape(), 0)?;
                        Input::Ints(widened(&t, data_type))
                    }
                    known @ (Known::Value(v) | Known::Codes(v, _) | Known::Index(v, _)) => self
                        .describe_value(
                            *v,
                            numbers,
                            matches!(known, Known::Codes(..)).then_some(data_type),
                        )?,
                }),
            });
        }
        Ok((node, types))
    }

    /// A value of the graph as operators see it; codes of constants with `numbers` as the real numbers that they stand
    /// for, or, where they have a type, as integers.
    fn describe_value(
        &mut self,
        v: ValueId,
        numbers: bool,
        data_type: Option<i32>,
    ) -> Result<Input> {
        let value = &self.graph.values[v];
        let codes = match &value.constant {
            Some(Constant::Real(t)) => return Ok(Input::Real(t.clone())),
            Some(Constant::Codes(t)) => t,
            None => return Ok(Input::Activation(value.shape.clone())),
        };
        let moved = self.offsets.get(&v).is_some_and(|all| all.iter().any(|&offset| offset != 0));
        if !numbers || data_type.is_some() && moved {
            let is_one = data_type.is_none() && value.shape.iter().all(|&d| d == 1);
            let number = is_one.then(|| value.to_real()).flatten().map(|t| t.data()[0]);
            return Ok(Input::Codes(value.shape.clone(), number));
        }
        self.folding.take(&value.shape, 0)?;
        Ok(match (data_type, value.to_real()) {
            (Some(data_type), _) => Input::Ints(widened(codes, data_type)),
            (None, Some(real)) => Input::Real(real.into_owned()),
            (None, None) => Input::Codes(value.shape.clone(), None),
        })
    }

    fn constant(&mut self, proto: &NodeProto, output: &str, node: &mut OnnxNode) -> Result<()> {
        // Read from the file, where the type of integers is known: they may be codes.
        if let Some(tensor) =
            proto.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref())
        {
            node.attributes.remove("value");
            let numbers = Numbers::read((**tensor).clone(), &mut Folder::none())?;
            return self.define_stored(output, numbers);
        }
        let numbers = match node.attributes.pop_first() {
            Some((name, value)) => match (name.as_str(), value) {
                ("value_float", Attribute::Float(x)) => Numbers::Real(Tensor::new([], vec![x])?),
                ("value_floats", Attribute::Floats(x)) => Numbers::Real(Tensor::from_vec(x)),
                ("value_int", Attribute::Int(i)) => {
                    Numbers::Ints(Tensor::new([], vec![i])?, dt::INT64)
                }
                ("value_ints", Attribute::Ints(i)) => Numbers::Ints(Tensor::from_vec(i), dt::INT64),
                (name, _) => bail!(Unsupported, "attribute \"{name}\""),
            },
            None => bail!(Invalid, "the constant has no value"),
        };
        self.define_constant(output, numbers)
    }

    /// Dropout does nothing when a network is used rather than trained.
    fn identity(&mut self, proto: &'a NodeProto, output: &str, node: &mut OnnxNode) -> Result<()> {
        if proto.op_type == "Dropout" {
            node.take_float("ratio")?;
            node.take_int("seed")?;
            if node.take_input_ints(2)?.is_some_and(|mode| mode != [0]) {
                bail!(Unsupported, "dropout in training mode: export the model for inference");
            }
        }
        let Some(x) = proto.input.first() else { bail!(Invalid, "expected an input") };
        if let ("Identity", [output, ..]) = (proto.op_type.as_str(), &proto.output[..]) {
            self.copies.insert(output, if proto.name.is_empty() { output } else { &proto.name });
        }
        self.alias(x, output)
    }

    /// Another name for what is called `x`.
    pub(super) fn alias(&mut self, x: &str, output: &str) -> Result<()> {
        let known = self.get(x)?.clone();
        let known = match known {
            // An output has a name of its own, so it is a value of its own.
            Known::Value(v) | Known::Index(v, _) if self.outputs.contains(output) => {
                let shape = self.graph.values[v].shape.clone();
                Known::Value(self.emit(output, Op::Reshape(Reshape { shape }), vec![v], output)?)
            }
            known => known,
        };
        self.define(output, known)
    }

    fn operator(
        &mut self,
        proto: &NodeProto,
        name: &str,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        let mut op = match Op::import(node) {
            Some(op) => op?,
            None => bail!(Unsupported, "operator type \"{}\"", proto.op_type),
        };
        let keeps_codes = op.keeps_codes() || self.takes_codes(proto, &mut op);
        while node.inputs.last().is_some_and(Option::is_none) {
            node.inputs.pop();
        }
        let is_index = op.output_params() == OutputParams::Index;
        let mut inputs = Vec::new();
        let (mut codes, mut integers) = (None, is_index.then_some(dt::INT64));
        for (index, (name, input)) in proto.input.iter().zip(&node.inputs).enumerate() {
            if let Some(tensor) = node.replaced.remove(&index) {
                self.folding.take(tensor.shape(), 0)?;
                let name = self.names.fresh(format!("{name}.scaled"));
                inputs.push(self.add_value(Value::real(name, tensor)));
                continue;
            }
            if let (Some(factor), Some(&Known::Value(v))) =
                (node.scaled.remove(&index), self.known.get(name))
            {
                inputs.push(self.scaled(v, factor)?);
                continue;
            }
            match input.as_ref().map(|_| self.get(name)).transpose()? {
                Some(&Known::Value(v)) if self.graph.values[v].shape.contains(&0) => {
                    bail!(
                        Unsupported,
                        "input \"{name}\" of shape {:?} is empty",
                        self.graph.values[v].shape
                    )
                }
                Some(&Known::Value(v)) => inputs.push(v),
                // The order of codes is that of the real values.
                Some(&Known::Codes(v, _)) if is_index => inputs.push(v),
                Some(&Known::Codes(v, data_type)) if keeps_codes => {
                    codes = Some(data_type);
                    inputs.push(v);
                }
                Some(&Known::Index(v, data_type)) if is_index || keeps_codes => {
                    integers.get_or_insert(data_type);
                    inputs.push(v);
                }
                Some(Known::Codes(..)) => bail!(Unsupported, "input \"{name}\" is made of codes"),
                Some(_) => bail!(Unsupported, "input \"{name}\" is made of integers"),
                None => bail!(Unsupported, "input {index} is absent, but not the last one"),
            }
        }
        let name = if proto.name.is_empty() { output } else { name };
        let Some(&first) = inputs.first() else { bail!(Invalid, "the node has no input") };
        if let (Op::Linear(op), &[_, weight, bias]) = (&op, &inputs[..]) {
            inputs[2] = self.bias_row(op, weight, bias)?;
        }
        let v = self.emit(name, op, inputs, output)?;
        if let Some(data_type) = codes {
            // A node that moves codes without having them dequantized first.
            if self.offsets.get(&first).is_some_and(|all| all.iter().any(|&offset| offset != 0)) {
                bail!(Unsupported, "codes are moved whose zero points were subtracted");
            }
            if self.graph.values[v].quant.is_none() {
                self.graph.values[v].quant = self.graph.values[first].quant.clone();
            }
            return self.define(output, Known::Codes(v, data_type));
        }
        let known = integers.map_or(Known::Value(v), |data_type| Known::Index(v, data_type));
        self.define(output, known)
    }
}

fn is_on_codes(proto: &NodeProto) -> bool {
    proto.op_type.starts_with('Q') || proto.op_type == "DequantizeLinear"
}

/// Whether it is a layer of which any output may be absent.
fn is_recurrent(proto: &NodeProto) -> bool {
    matches!(proto.op_type.as_str(), "GRU" | "LSTM" | "RNN")
}

/// Refuses what of a node nobody has understood.
fn all_taken(node: &OnnxNode) -> Result<()> {
    match node.attributes.keys().next() {
        Some(attribute) => bail!(Unsupported, "attribute \"{attribute}\""),
        None => Ok(()),
    }
}

fn read_attribute(proto: &AttributeProto) -> Result<Attribute> {
    let name = &proto.name;
    if !proto.ref_attr_name.is_empty() {
        bail!(Unsupported, "attribute \"{name}\" refers to a function's attribute");
    }
    check_kind(proto)?;
    Ok(match (proto.r#type, &proto.f, &proto.i, &proto.s, &proto.t) {
        (at::FLOAT, f, ..) => Attribute::Float(f.unwrap_or_default()),
        (at::INT, _, i, ..) => Attribute::Int(i.unwrap_or_default()),
        (at::STRING, _, _, s, _) => match String::from_utf8(s.clone().unwrap_or_default()) {
            Ok(s) => Attribute::String(s),
            Err(_) => bail!(Invalid, "attribute \"{name}\" is not text"),
        },
        (at::TENSOR, _, _, _, Some(t)) => {
            Attribute::Tensor(Numbers::read((**t).clone(), &mut Folder::none())?.into())
        }
        (at::STRINGS, ..) => {
            let text = |s: &Vec<u8>| String::from_utf8(s.clone());
            match proto.strings.iter().map(text).collect() {
                Ok(all) => Attribute::Strings(all),
                Err(_) => bail!(Invalid, "attribute \"{name}\" is not text"),
            }
        }
        (at::FLOATS, ..) => Attribute::Floats(proto.floats.clone()),
        (at::INTS, ..) => Attribute::Ints(proto.ints.clone()),
        (other, ..) => bail!(Unsupported, "attribute \"{name}\" holds {}", at::name(other)),
    })
}

/// Refuses an attribute that holds something of another type, too; some exporters write zeros.
fn check_kind(proto: &AttributeProto) -> Result<()> {
    let given = [
        (at::FLOAT, proto.f.is_some_and(|f| f != 0.0)),
        (at::INT, proto.i.is_some_and(|i| i != 0)),
        (at::STRING, proto.s.as_ref().is_some_and(|s| !s.is_empty())),
        (at::TENSOR, proto.t.is_some()),
        (at::STRINGS, !proto.strings.is_empty()),
        (at::FLOATS, !proto.floats.is_empty()),
        (at::INTS, !proto.ints.is_empty()),
    ];
    let known = given.iter().any(|&(kind, _)| kind == proto.r#type);
    match known && given.iter().any(|&(kind, given)| given && kind != proto.r#type) {
        true => bail!(Invalid, "attribute \"{}\" holds something of another type", proto.name),
        false => Ok(()),
    }
}
