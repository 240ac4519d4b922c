//! ONNX file → [`Graph`]. What is not known is refused here, with the node's name: nothing is ignored.
//!
//! Pairs of QuantizeLinear and DequantizeLinear do not become nodes: they say how a value's codes are
//! read ([`Value::quant`]).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;

use super::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, ValueInfoProto,
    attribute_type as at, data_type as dt,
};
use super::tensors::Numbers;
use crate::error::{Context, Result, bail};
use crate::graph::{Constant, Graph, Node, Value, ValueId};
use crate::ops::clip::Clip;
use crate::ops::{Attribute, Input, OnnxNode, Op};
use crate::quant::{Granularity, QuantParams};
use crate::tensor::{Shape, Tensor};

/// Versions of the operator set that are known.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;
/// Largest number of elements of an activation: 1 GiB as `f32`.
const MAX_ELEMENTS: usize = 1 << 28;

/// Reads a model file; external data is looked for beside it.
///
/// # Errors
/// What is wrong with the file, or not supported, and where.
pub fn load(path: &Path) -> Result<Graph> {
    let read = || import(&std::fs::read(path)?, path.parent());
    read().in_file(path)
}

/// Reads a model from `bytes`; external data is looked for in `dir`.
///
/// # Errors
/// What is wrong with the model, or not supported, and where.
pub fn import(bytes: &[u8], dir: Option<&Path>) -> Result<Graph> {
    let model = match ModelProto::decode(bytes) {
        Ok(model) => model,
        Err(e) => bail!(Invalid, "not an ONNX model: {e}"),
    };
    let Some(proto) = &model.graph else {
        bail!(Invalid, "not an ONNX model: it holds no graph");
    };
    if !proto.sparse_initializer.is_empty() {
        bail!(Unsupported, "sparse initializers");
    }
    let mut opset = None;
    for import in &model.opset_import {
        if is_onnx_domain(import.domain.as_deref().unwrap_or_default()) {
            opset = import.version;
        }
    }
    let Some(opset) = opset else { bail!(Invalid, "the model names no operator set") };
    if !OPSETS.contains(&opset) {
        bail!(Unsupported, "operator set {opset}, expected {} to {}", OPSETS.start(), OPSETS.end());
    }
    let mut importer = Importer {
        graph: Graph { name: proto.name.clone(), ..Graph::default() },
        opset,
        known: HashMap::new(),
        read_as_real: HashSet::new(),
        outputs: proto.output.iter().map(|o| o.name.as_str()).collect(),
    };
    importer.graph(proto, dir)?;
    importer.graph.remove_unused_values();
    importer.graph.check()?;
    Ok(importer.graph)
}

fn is_onnx_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// What a name in the file stands for.
#[derive(Clone, Debug)]
enum Known {
    /// A value of the graph: an activation, or a real constant.
    Value(ValueId),
    /// A constant of integers: a shape, or codes that await their DequantizeLinear.
    Ints(Tensor<i64>, i32),
    /// Codes of a value, made by QuantizeLinear.
    Codes(ValueId, QuantParams),
}

struct Importer<'a> {
    graph: Graph,
    opset: i64,
    known: HashMap<String, Known>,
    /// Names that somebody reads without quantizing them first.
    read_as_real: HashSet<&'a str>,
    outputs: HashSet<&'a str>,
}

impl<'a> Importer<'a> {
    fn graph(&mut self, proto: &'a GraphProto, dir: Option<&Path>) -> Result<()> {
        for tensor in &proto.initializer {
            let numbers = Numbers::read(tensor, dir)?;
            self.define_constant(&tensor.name, numbers)?;
        }
        for input in &proto.input {
            // Until IR version 3 initializers were listed among the inputs.
            if !self.known.contains_key(&input.name) {
                self.input(input)?;
            }
        }
        let readers = proto.node.iter().filter(|n| n.op_type != "QuantizeLinear");
        self.read_as_real = readers.flat_map(|n| &n.input).map(String::as_str).collect();
        self.read_as_real.extend(&self.outputs);
        for (index, node) in proto.node.iter().enumerate() {
            let name = if node.name.is_empty() { format!("#{index}") } else { node.name.clone() };
            self.node(node, &name).in_node(&name, &node.op_type)?;
        }
        for output in &proto.output {
            match self.known.get(&output.name) {
                Some(&Known::Value(v)) => self.graph.outputs.push(v),
                Some(_) => bail!(Unsupported, "output \"{}\" is not real", output.name),
                None => bail!(Invalid, "output \"{}\" is never computed", output.name),
            }
        }
        if self.graph.outputs.is_empty() {
            bail!(Invalid, "the model has no outputs");
        }
        Ok(())
    }

    fn input(&mut self, input: &ValueInfoProto) -> Result<()> {
        let name = &input.name;
        let Some(tensor) = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
            bail!(Unsupported, "input \"{name}\" is not a tensor");
        };
        if tensor.elem_type != dt::FLOAT {
            bail!(
                Unsupported,
                "input \"{name}\" has data type {}, only float is known",
                tensor.elem_type
            );
        }
        let Some(shape) = &tensor.shape else {
            bail!(Unsupported, "input \"{name}\" has no shape");
        };
        let mut sizes = Shape::new();
        for (axis, dim) in shape.dim.iter().enumerate() {
            sizes.push(match &dim.value {
                Some(DimensionValue::DimValue(d)) if *d >= 0 => {
                    usize::try_from(*d).unwrap_or(usize::MAX)
                }
                // Some exporters write an open batch as −1.
                _ if axis == 0 => {
                    self.graph.dynamic_batch = true;
                    1
                }
                open => {
                    bail!(Unsupported, "axis {axis} of input \"{name}\" is not fixed: {open:?}")
                }
            });
        }
        check_size(name, &sizes)?;
        let v =
            self.graph.add_value(Value { name: name.clone(), shape: sizes, ..Value::default() });
        self.graph.inputs.push(v);
        self.define(name, Known::Value(v))
    }

    fn define(&mut self, name: &str, known: Known) -> Result<()> {
        match self.known.insert(name.into(), known) {
            Some(_) => bail!(Invalid, "\"{name}\" is defined twice"),
            None => Ok(()),
        }
    }

    fn define_constant(&mut self, name: &str, numbers: Numbers) -> Result<()> {
        let known = match numbers {
            Numbers::Real(t) => Known::Value(self.graph.add_value(Value::real(name, t))),
            Numbers::Ints(t, data_type) => Known::Ints(t, data_type),
        };
        self.define(name, known)
    }

    fn get(&self, name: &str) -> Result<&Known> {
        match self.known.get(name) {
            Some(known) => Ok(known),
            None => bail!(Invalid, "input \"{name}\" is not computed before it is used"),
        }
    }

    fn node(&mut self, proto: &NodeProto, name: &str) -> Result<()> {
        if !is_onnx_domain(&proto.domain) {
            bail!(Unsupported, "operators of domain \"{}\"", proto.domain);
        }
        let Some(output) = proto.output.first().filter(|o| !o.is_empty()) else {
            bail!(Invalid, "the node has no output");
        };
        let used = |o: &String| !o.is_empty() && self.read_as_real.contains(o.as_str());
        if let Some(second) = proto.output[1..].iter().find(|o| used(o)) {
            bail!(Unsupported, "its output \"{second}\" is used, only the first one is known");
        }
        let mut node = self.describe(proto)?;
        match proto.op_type.as_str() {
            "Constant" => self.constant(output, &mut node)?,
            "Identity" | "Dropout" => self.identity(proto, output, &mut node)?,
            "QuantizeLinear" => self.quantize(proto, output, &mut node)?,
            "DequantizeLinear" => self.dequantize(proto, output, &mut node)?,
            _ => self.operator(proto, name, output, &mut node)?,
        }
        match node.attributes.keys().next() {
            Some(attribute) => bail!(Unsupported, "attribute \"{attribute}\""),
            None => Ok(()),
        }
    }

    /// The node as operators see it.
    fn describe(&self, proto: &NodeProto) -> Result<OnnxNode> {
        let mut node = OnnxNode { opset: self.opset, ..OnnxNode::new(&proto.op_type) };
        for attribute in &proto.attribute {
            let value = read_attribute(attribute)?;
            if node.attributes.insert(attribute.name.clone(), value).is_some() {
                bail!(Invalid, "attribute \"{}\" is given twice", attribute.name);
            }
        }
        for name in &proto.input {
            node.inputs.push(match name.as_str() {
                "" => None,
                _ => Some(match self.get(name)? {
                    Known::Ints(t, _) => Input::Ints(t.clone()),
                    Known::Value(v) | Known::Codes(v, _) => match self.graph.real_constant(*v) {
                        Some(t) => Input::Real(t.clone()),
                        None => Input::Activation(self.graph.values[*v].shape.clone()),
                    },
                }),
            });
        }
        Ok(node)
    }

    fn constant(&mut self, output: &str, node: &mut OnnxNode) -> Result<()> {
        let numbers = match node.attributes.pop_first() {
            Some((name, value)) => match (name.as_str(), value) {
                ("value", Attribute::Tensor(Input::Real(t))) => Numbers::Real(t),
                ("value", Attribute::Tensor(Input::Ints(t))) => Numbers::Ints(t, dt::INT64),
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
    fn identity(&mut self, proto: &NodeProto, output: &str, node: &mut OnnxNode) -> Result<()> {
        if proto.op_type == "Dropout" {
            node.take_float("ratio")?;
            node.take_int("seed")?;
            if node.take_input_ints(2)?.is_some_and(|mode| mode != [0]) {
                bail!(Unsupported, "dropout in training mode: export the model for inference");
            }
        } else if proto.input.len() != 1 {
            bail!(Invalid, "expected 1 input, got {}", proto.input.len());
        }
        let Some(x) = proto.input.first() else { bail!(Invalid, "expected an input") };
        let known = self.get(x)?.clone();
        match known {
            Known::Value(v) if self.outputs.contains(output) => self.name_output(v, output)?,
            _ => {}
        }
        self.define(output, known)
    }

    /// Gives the value behind an output of the model the output's name.
    fn name_output(&mut self, v: ValueId, output: &str) -> Result<()> {
        if self.graph.inputs.contains(&v) {
            bail!(Unsupported, "output \"{output}\" is an input");
        }
        self.graph.values[v].name = output.into();
        Ok(())
    }

    fn operator(
        &mut self,
        proto: &NodeProto,
        name: &str,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        let op = match Op::import(node) {
            Some(op) => op?,
            None => bail!(Unsupported, "operator type \"{}\"", proto.op_type),
        };
        while node.inputs.last().is_some_and(Option::is_none) {
            node.inputs.pop();
        }
        let mut inputs = Vec::new();
        for (index, (name, input)) in proto.input.iter().zip(&node.inputs).enumerate() {
            if let Some(tensor) = node.replaced.remove(&index) {
                let name = self.graph.fresh_name(format!("{name}.scaled"));
                inputs.push(self.graph.add_value(Value::real(name, tensor)));
                continue;
            }
            match input.as_ref().map(|_| self.get(name)).transpose()? {
                Some(&Known::Value(v)) => inputs.push(v),
                Some(_) => bail!(Unsupported, "input \"{name}\" is made of integers"),
                None => bail!(Unsupported, "input {index} is absent, but not the last one"),
            }
        }
        let shapes: Vec<&[usize]> =
            inputs.iter().map(|&v| self.graph.values[v].shape.as_slice()).collect();
        let shape = op.infer_shape(&shapes)?;
        check_size(output, &shape)?;
        let output_value =
            self.graph.add_value(Value { name: output.into(), shape, ..Value::default() });
        self.define(output, Known::Value(output_value))?;
        let name = if proto.name.is_empty() { output.into() } else { name.into() };
        self.graph.nodes.push(Node { name, op, clamp: Clip::NONE, inputs, output: output_value });
        Ok(())
    }

    fn quantize(&mut self, proto: &NodeProto, output: &str, node: &mut OnnxNode) -> Result<()> {
        if node.take_int("saturate")?.is_some_and(|s| s != 1) {
            bail!(Unsupported, "attribute \"saturate\"");
        }
        let [x, ..] = &proto.input[..] else { bail!(Invalid, "expected 2 or 3 inputs") };
        let &Known::Value(v) = self.get(x)? else {
            bail!(Unsupported, "input \"{x}\" is not real");
        };
        let (params, _) = self.params(proto, node, None, v)?;
        if self.graph.values[v].constant.is_none() && self.read_as_real.contains(x.as_str()) {
            bail!(Unsupported, "\"{x}\" is used both with and without being quantized");
        }
        self.define(output, Known::Codes(v, params))
    }

    fn dequantize(&mut self, proto: &NodeProto, output: &str, node: &mut OnnxNode) -> Result<()> {
        let [codes, ..] = &proto.input[..] else { bail!(Invalid, "expected 2 or 3 inputs") };
        let v = match self.get(codes)?.clone() {
            Known::Ints(codes, data_type) => {
                let shape = codes.shape().to_vec();
                let v =
                    self.graph.add_value(Value { name: output.into(), shape, ..Value::default() });
                let (params, zero) = self.params(proto, node, Some(data_type), v)?;
                let codes = codes.map(|&code| (code - zero) as i32);
                self.graph.values[v].constant = Some(Constant::Codes(codes));
                self.graph.values[v].quant = Some(params);
                v
            }
            Known::Codes(v, made_with) => {
                let (params, _) = self.params(proto, node, None, v)?;
                if params != made_with {
                    bail!(Unsupported, "its parameters are not those of the QuantizeLinear before");
                }
                match self.graph.real_constant(v) {
                    Some(real) => {
                        let codes = params.quantize_all(real.data(), real.shape());
                        let codes = Tensor::new(real.shape(), codes)?;
                        let shape = codes.shape().to_vec();
                        let (constant, quant) = (Some(Constant::Codes(codes)), Some(params));
                        self.graph.add_value(Value { name: output.into(), shape, constant, quant })
                    }
                    None => {
                        let value = &mut self.graph.values[v];
                        if value.quant.as_ref().is_some_and(|other| *other != params) {
                            bail!(Unsupported, "\"{}\" is quantized in two ways", value.name);
                        }
                        value.quant = Some(params);
                        if self.outputs.contains(output) {
                            self.name_output(v, output)?;
                        }
                        v
                    }
                }
            }
            Known::Value(_) => bail!(Unsupported, "input \"{codes}\" is not made of codes"),
        };
        self.define(output, Known::Value(v))
    }

    /// Scale and zero point of a QuantizeLinear or DequantizeLinear for value `v`, and what has to be
    /// subtracted from its codes to make them signed. `codes` is their type, where it is known.
    fn params(
        &self,
        proto: &NodeProto,
        node: &mut OnnxNode,
        codes: Option<i32>,
        v: ValueId,
    ) -> Result<(QuantParams, i64)> {
        if node.take_int("block_size")?.is_some_and(|b| b != 0) {
            bail!(Unsupported, "attribute \"block_size\"");
        }
        for name in ["output_dtype", "precision"] {
            if node.take_int(name)?.is_some_and(|t| t != 0) {
                bail!(Unsupported, "attribute \"{name}\"");
            }
        }
        let axis = node.take_int("axis")?.unwrap_or(1);
        let Some(Some(Input::Real(scale))) = node.inputs.get(1) else {
            bail!(Unsupported, "the scale must be a constant");
        };
        let (zero_points, data_type) = match proto.input.get(2).filter(|name| !name.is_empty()) {
            None => (vec![0], codes.unwrap_or(dt::UINT8)),
            Some(name) => match self.get(name)? {
                Known::Ints(t, of_zero) if codes.is_none_or(|of_codes| of_codes == *of_zero) => {
                    (t.data().to_vec(), *of_zero)
                }
                Known::Ints(..) => bail!(Invalid, "codes and zero point have different types"),
                _ => bail!(Unsupported, "the zero point must be a constant of integers"),
            },
        };
        let (bits, lowest, zero) = match data_type {
            dt::INT8 => (8, -128, 0),
            dt::UINT8 => (8, 0, 128),
            dt::INT32 => (32, i32::MIN.into(), 0),
            other => bail!(Unsupported, "codes of data type {other}"),
        };
        let [zero_point, rest @ ..] = &zero_points[..] else { bail!(Invalid, "no zero point") };
        if rest.iter().any(|other| other != zero_point) {
            bail!(Unsupported, "zero points differ between channels");
        }
        if *zero_point < lowest
            || *zero_point > lowest + (1i64 << bits) - 1
            || (bits == 32 && *zero_point != 0)
        {
            bail!(Invalid, "zero point {zero_point} of {bits}-bit codes");
        }
        let shape = &self.graph.values[v].shape;
        let granularity = match scale.shape() {
            [] | [1] => Granularity::PerTensor,
            [_] => Granularity::PerChannel { axis: OnnxNode::axis(axis, shape.len())? },
            other => bail!(Unsupported, "scales of shape {other:?}"),
        };
        let zero_point = (zero_point - zero) as i32;
        let params = QuantParams { scale: scale.data().to_vec(), zero_point, bits, granularity };
        params.check(shape)?;
        Ok((params, zero))
    }
}

fn check_size(name: &str, shape: &[usize]) -> Result<()> {
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match elements {
        Some(1..=MAX_ELEMENTS) => Ok(()),
        Some(0) => bail!(Unsupported, "\"{name}\" of shape {shape:?} is empty"),
        _ => bail!(Unsupported, "\"{name}\" of shape {shape:?} has more than 2^28 elements"),
    }
}

fn read_attribute(proto: &AttributeProto) -> Result<Attribute> {
    let name = &proto.name;
    if !proto.ref_attr_name.is_empty() {
        bail!(Unsupported, "attribute \"{name}\" refers to a function's attribute");
    }
    Ok(match (proto.r#type, &proto.f, &proto.i, &proto.s, &proto.t) {
        (at::FLOAT, f, ..) => Attribute::Float(f.unwrap_or_default()),
        (at::INT, _, i, ..) => Attribute::Int(i.unwrap_or_default()),
        (at::STRING, _, _, s, _) => match String::from_utf8(s.clone().unwrap_or_default()) {
            Ok(s) => Attribute::String(s),
            Err(_) => bail!(Invalid, "attribute \"{name}\" is not text"),
        },
        (at::TENSOR, _, _, _, Some(t)) => Attribute::Tensor(match Numbers::read(t, None)? {
            Numbers::Real(t) => Input::Real(t),
            Numbers::Ints(t, _) => Input::Ints(t),
        }),
        (at::FLOATS, ..) => Attribute::Floats(proto.floats.clone()),
        (at::INTS, ..) => Attribute::Ints(proto.ints.clone()),
        (other, ..) => bail!(Unsupported, "attribute \"{name}\" of type {other}"),
    })
}
