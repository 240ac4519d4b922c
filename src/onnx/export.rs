//! [`Graph`] → ONNX file. A quantized graph is written with pairs of QuantizeLinear and
//! DequantizeLinear ("QDQ"), which any ONNX tool can run.

use std::collections::{HashMap, HashSet};

use prost::Message;

use super::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, attribute_type as at, data_type as dt,
};
use super::tensors::{write_byte, write_codes, write_ints, write_real};
use crate::graph::{Constant, Graph, Node, Value, ValueId};
use crate::ops::clip::Clip;
use crate::ops::unary::{Argument, Function};
use crate::ops::{Attribute, Input, OnnxNode, Op, Operator, OutputParams};
use crate::quant::{Given, Granularity, Integer, QuantParams, Width};
use crate::tensor::Tensor;

/// The version of the operator set that is written, unless a node needs a newer one: the first with
/// scales for each channel.
pub(super) const OPSET: i64 = 13;
/// The first version with codes of 4 and of 16 bits.
const OPSET_WIDTHS: i64 = 21;

/// The model as the bytes of an ONNX file.
pub fn export(graph: &Graph) -> Vec<u8> {
    let needed = graph.nodes.iter().map(|n| n.op.export(&graph.input_shapes(n), OPSET).opset);
    let newer = |v: &Value| {
        v.quant.as_ref().is_some_and(|quant| matches!(quant.width, Width::W4 | Width::W16))
    };
    let opset = if graph.values.iter().any(newer) { OPSET_WIDTHS } else { OPSET };
    let opset = needed.fold(opset, i64::max);
    let mut exporter = Exporter {
        graph,
        outputs: graph.outputs.iter().copied().collect(),
        opset,
        names: graph.values.iter().map(|v| v.name.clone()).collect(),
        read_as: graph.values.iter().map(|v| v.name.clone()).collect(),
        integers: HashMap::new(),
        proto: GraphProto { name: graph.name.clone(), ..GraphProto::default() },
    };
    exporter.run();
    let model = ModelProto {
        ir_version: Some(match opset {
            ..19 => 8,
            19..21 => 9,
            21..23 => 10,
            _ => 11,
        }),
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(exporter.proto),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(opset),
        }],
        metadata_props: graph.metadata.iter().map(|(key, value)| entry(key, value)).collect(),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}

struct Exporter<'a> {
    graph: &'a Graph,
    outputs: HashSet<ValueId>,
    opset: i64,
    names: HashSet<String>,
    /// For each value, the name under which nodes read it.
    read_as: Vec<String>,
    /// Those that are integers in the file, too.
    integers: HashMap<ValueId, String>,
    proto: GraphProto,
}

impl Exporter<'_> {
    fn run(&mut self) {
        let read: HashSet<ValueId> =
            self.graph.nodes.iter().flat_map(|n| &n.inputs).copied().collect();
        for (v, value) in self.graph.values.iter().enumerate() {
            if !read.contains(&v) && !self.outputs.contains(&v) {
                continue; // a constant that a rewrite has replaced
            }
            match (&value.constant, &value.quant) {
                (Some(Constant::Real(t)), _) => {
                    self.proto.initializer.push(write_real(&value.name, t))
                }
                (Some(Constant::Codes(t)), Some(quant)) => {
                    let codes = self.fresh(format!("{}_codes", value.name));
                    self.proto.initializer.push(write_codes(&codes, &t.widened(), quant.width));
                    let parameters = self.parameters(&value.name, quant);
                    self.push_q("DequantizeLinear", &codes, &parameters, quant, &value.name);
                }
                (Some(Constant::Codes(_)), None) | (None, _) => {}
            }
        }
        for &v in &self.graph.inputs {
            self.proto.input.push(self.value_info(v));
            let raw = self.graph.values[v].name.clone();
            match (self.graph.values[v].given, &self.graph.values[v].quant) {
                (Some(given), Some(quant)) => self.given(v, given, quant),
                (_, Some(_)) => {
                    let dequantized = self.fresh(format!("{raw}_dequantized"));
                    self.quantize(v, &raw, dequantized);
                }
                (_, None) => {}
            }
        }
        for node in &self.graph.nodes {
            self.node(node);
        }
        for &v in &self.graph.outputs {
            self.proto.output.push(self.value_info(v));
        }
    }

    /// `wanted`, or the like of it that is still free.
    fn fresh(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut count = 0;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{wanted}_{count}");
        }
        name
    }

    fn node(&mut self, node: &Node) {
        let v = node.output;
        let value = &self.graph.values[v];
        // An output of the model has its own name behind the DequantizeLinear; any other value before.
        let raw = match value.quant.is_some() && self.outputs.contains(&v) {
            true => self.fresh(format!("{}_real", value.name)),
            false => value.name.clone(),
        };
        let mut inputs: Vec<String> =
            node.inputs.iter().map(|&v| self.read_as[v].clone()).collect();
        let mut proto = node.op.export(&self.graph.input_shapes(node), self.opset);
        if let (Op::Reshape(_), true) = (&node.op, self.graph.dynamic_batch) {
            leave_batch_open(&mut proto);
        }
        let mut name = node.name.clone();
        if self.integers.contains_key(&node.inputs[0]) && self.moves(node) {
            let integers = self.as_integers(node.inputs[0]);
            self.push(proto, &name, vec![integers], &value.name);
            let real = self.fresh(format!("{}_real", value.name));
            return self.integers(v, &real);
        }
        if let Op::Embedding(_) = node.op {
            inputs = vec![inputs[1].clone(), self.as_integers(node.inputs[0])];
        }
        if let Op::Function(function) = &node.op {
            inputs = self.steps(node, function, &inputs[0]);
        }
        if proto.op_type == "MatMul" && inputs.len() == 3 {
            // Of this rank ONNX has no linear layer with a bias.
            let product = self.fresh(format!("{}_product", value.name));
            let bias = inputs.split_off(2);
            self.push(proto, &name, inputs, &product);
            (proto, name) = (OnnxNode::new("Add"), format!("{name}_bias"));
            inputs = [vec![product], bias].concat();
        }
        if node.op.output_params() == OutputParams::Index {
            // An integer in ONNX, a real number here.
            if !self.is_real(v) {
                self.integers.insert(v, raw.clone());
                return self.push(proto, &name, inputs, &raw);
            }
            let index = self.fresh(format!("{}_int64", value.name));
            self.push(proto, &name, inputs, &index);
            self.integers.insert(v, index.clone());
            let cast = OnnxNode::new("Cast").with("to", Attribute::Int(dt::FLOAT as i64));
            self.push(cast, &format!("{}_real", node.name), vec![index], &raw);
        } else if node.clamp == Clip::NONE {
            self.push(proto, &name, inputs, &raw);
        } else {
            let unclamped = self.fresh(format!("{}_unclamped", value.name));
            self.push(proto, &name, inputs, &unclamped);
            let name = format!("{}_clamp", node.name);
            self.push(node.clamp.export(&[&value.shape], self.opset), &name, vec![unclamped], &raw);
        }
        if value.quant.is_some() {
            let dequantized = match raw == value.name {
                true => self.fresh(format!("{raw}_dequantized")),
                false => value.name.clone(),
            };
            self.quantize(v, &raw, dequantized);
        }
    }

    /// Writes all steps of a function of `x` but the last one, and returns what that one reads.
    fn steps(&mut self, node: &Node, function: &Function, x: &str) -> Vec<String> {
        let shape = &self.graph.values[node.output].shape;
        let mut results: Vec<String> = Vec::new();
        let mut read = Vec::new();
        for (i, step) in function.steps.iter().enumerate() {
            let name = self.fresh(format!("{}_step{i}", node.name));
            read = Vec::new();
            for (j, argument) in step.arguments.iter().enumerate() {
                read.push(match argument {
                    Argument::Input => x.into(),
                    Argument::Step(before) => results[*before].clone(),
                    Argument::Number(number) => {
                        let constant = self.fresh(format!("{name}_input{j}"));
                        let number = Tensor::of([], vec![*number]);
                        self.proto.initializer.push(write_real(&constant, &number));
                        constant
                    }
                });
            }
            if i + 1 == function.steps.len() {
                break;
            }
            let mut result = self.fresh(format!("{name}_result"));
            let proto = step.op.export(&vec![shape.as_slice(); read.len()], self.opset);
            self.push(proto, &name, read.clone(), &result);
            if step.clamp != Clip::NONE {
                let (name, unclamped) = (self.fresh(format!("{name}_clamp")), result);
                result = self.fresh(format!("{name}_result"));
                let proto = step.clamp.export(&[shape], self.opset);
                self.push(proto, &name, vec![unclamped], &result);
            }
            results.push(result);
        }
        read
    }

    /// Writes how the integers that are given for input `v` become real numbers.
    fn given(&mut self, v: ValueId, given: Given, quant: &QuantParams) {
        let raw = self.graph.values[v].name.clone();
        let real = self.fresh(format!("{raw}_dequantized"));
        if given.is_bytes() {
            let parameters = self.parameters(&raw, quant);
            if given.is_unsigned() {
                let zero_point = quant.zero_point - given.params().zero_point;
                self.proto.initializer.pop();
                self.proto.initializer.push(write_byte(&parameters[1], zero_point as u8));
            }
            self.push_q("DequantizeLinear", &raw, &parameters, quant, &real);
            self.read_as[v] = real;
        } else {
            self.integers(v, &real);
        }
    }

    /// Writes the real numbers of the integers `v`, if anything reads them.
    fn integers(&mut self, v: ValueId, real: &str) {
        let name = self.graph.values[v].name.clone();
        self.integers.insert(v, name.clone());
        if self.is_real(v) {
            let cast = OnnxNode::new("Cast").with("to", Attribute::Int(dt::FLOAT as i64));
            self.push(cast, &format!("{real}_cast"), vec![name], real);
            self.read_as[v] = real.into();
        }
    }

    /// Whether anything reads the real numbers of `v`, which is made of integers.
    fn is_real(&self, v: ValueId) -> bool {
        let keeps = |node: &&Node| {
            matches!(node.op, Op::Embedding(_)) && node.inputs[1] != v || self.moves(node)
        };
        let mut readers = self.graph.nodes.iter().filter(|node| node.inputs.contains(&v));
        self.outputs.contains(&v) || !readers.all(|node| keeps(&node))
    }

    /// Whether `node` does nothing but move numbers inside the network.
    fn moves(&self, node: &Node) -> bool {
        node.op.output_params() == OutputParams::SameAsInput
            && node.clamp == Clip::NONE
            && node.inputs.len() == 1
            && self.graph.values[node.inputs[0]].constant.is_none()
            && !self.outputs.contains(&node.output)
    }

    /// The name of `v` as integers.
    fn as_integers(&mut self, v: ValueId) -> String {
        if let Some(name) = self.integers.get(&v) {
            return name.clone();
        }
        let name = self.fresh(format!("{}_int64", self.graph.values[v].name));
        let cast = OnnxNode::new("Cast").with("to", Attribute::Int(dt::INT64 as i64));
        self.push(cast, &format!("{name}_cast"), vec![self.read_as[v].clone()], &name);
        self.integers.insert(v, name.clone());
        name
    }

    /// Writes the pair that turns `raw` into codes and back.
    fn quantize(&mut self, v: ValueId, raw: &str, dequantized: String) {
        let value = &self.graph.values[v];
        if let Some(quant) = &value.quant {
            let codes = self.fresh(format!("{}_codes", value.name));
            let parameters = self.parameters(&value.name, quant);
            self.push_q("QuantizeLinear", raw, &parameters, quant, &codes);
            self.push_q("DequantizeLinear", &codes, &parameters, quant, &dequantized);
            self.read_as[v] = dequantized;
        }
    }

    /// Writes scale and zero point, and returns their names.
    fn parameters(&mut self, name: &str, quant: &QuantParams) -> [String; 2] {
        let shape = match quant.granularity {
            Granularity::PerTensor => vec![],
            Granularity::PerChannel { .. } => vec![quant.scale.len()],
        };
        let names = ["scale", "zero_point"].map(|what| self.fresh(format!("{name}_{what}")));
        let zero_points = Tensor::of(shape.clone(), vec![quant.zero_point; quant.scale.len()]);
        let scales = Tensor::of(shape, quant.scale.clone());
        self.proto.initializer.push(write_real(&names[0], &scales));
        self.proto.initializer.push(write_codes(&names[1], &zero_points, quant.width));
        names
    }

    fn push_q(
        &mut self,
        op_type: &str,
        x: &str,
        parameters: &[String; 2],
        quant: &QuantParams,
        y: &str,
    ) {
        let mut node = OnnxNode::new(op_type);
        if let Granularity::PerChannel { axis } = quant.granularity {
            node = node.with("axis", Attribute::Int(axis as i64));
        }
        let inputs = vec![x.into(), parameters[0].clone(), parameters[1].clone()];
        let name = self.fresh(format!("{y}_{op_type}"));
        self.push(node, &name, inputs, y);
    }

    /// Writes a node; its constant arguments come behind `inputs`.
    fn push(&mut self, node: OnnxNode, name: &str, mut inputs: Vec<String>, output: &str) {
        for (index, input) in node.inputs.iter().enumerate() {
            let name = self.fresh(format!("{name}_input{}", inputs.len()));
            match input {
                Some(Input::Real(t)) => self.proto.initializer.push(write_real(&name, t)),
                Some(Input::Ints(t)) => self.proto.initializer.push(write_ints(&name, t)),
                Some(Input::Activation(_) | Input::Codes(..)) | None => {
                    if index + 1 < node.inputs.len() {
                        inputs.push(String::new());
                    }
                    continue;
                }
            }
            inputs.push(name);
        }
        self.proto.node.push(NodeProto {
            input: inputs,
            output: vec![output.into()],
            name: name.into(),
            op_type: node.op_type,
            attribute: node.attributes.into_iter().map(|(n, a)| write_attribute(n, a)).collect(),
            ..NodeProto::default()
        });
    }

    fn value_info(&self, v: ValueId) -> ValueInfoProto {
        let value = &self.graph.values[v];
        let dims = value.shape.iter().enumerate().map(|(axis, &size)| Dimension {
            value: Some(match (axis == 0 && self.graph.dynamic_batch, size) {
                (true, 1) => DimensionValue::DimParam("N".into()),
                (true, _) => DimensionValue::DimParam(format!("{size}N")),
                (false, _) => DimensionValue::DimValue(size as i64),
            }),
        });
        let shape = Some(TensorShapeProto { dim: dims.collect() });
        let elem_type = match value.given.map(|given| given.of) {
            None => dt::FLOAT,
            Some(Integer::U8) => dt::UINT8,
            Some(Integer::I8) => dt::INT8,
            Some(Integer::I32) => dt::INT32,
            Some(Integer::I64) => dt::INT64,
        };
        let tensor_type = Some(TensorTypeProto { elem_type, shape });
        ValueInfoProto { name: value.name.clone(), r#type: Some(TypeProto { tensor_type }) }
    }
}

/// The first size of a Reshape follows from the others, unless it is copied.
fn leave_batch_open(reshape: &mut OnnxNode) {
    if let Some(Some(Input::Ints(shape))) = reshape.inputs.first_mut() {
        shape.data_mut().iter_mut().take(1).filter(|size| **size > 0).for_each(|size| *size = -1);
    }
}

fn write_attribute(name: String, attribute: Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name, ..AttributeProto::default() };
    (proto.r#type, proto.f, proto.i, proto.s) = match attribute {
        Attribute::Int(i) => (at::INT, None, Some(i), None),
        Attribute::Float(f) => (at::FLOAT, Some(f), None, None),
        Attribute::String(s) => (at::STRING, None, None, Some(s.into_bytes())),
        Attribute::Ints(ints) => {
            proto.ints = ints;
            (at::INTS, None, None, None)
        }
        Attribute::Strings(strings) => {
            proto.strings = strings.into_iter().map(String::into_bytes).collect();
            (at::STRINGS, None, None, None)
        }
        Attribute::Floats(floats) => {
            proto.floats = floats;
            (at::FLOATS, None, None, None)
        }
        Attribute::Tensor(input) => {
            proto.t = match &input {
                Input::Real(t) => Some(write_real("", t).into()),
                Input::Ints(t) => Some(write_ints("", t).into()),
                Input::Activation(_) | Input::Codes(..) => None,
            };
            (at::TENSOR, None, None, None)
        }
    };
    proto
}
