//! Hostile and broken files: an error that names what and where, never a panic, never a huge allocation.

use std::time::{Duration, Instant};

use prost::Message;
use proptest::prelude::*;

use super::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type as at, data_type as dt,
};
use super::*;
use crate::exec::float::FloatExecutor;
use crate::exec::int::IntExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::tensor::Tensor;
use crate::{Result, passes};

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension { value: Some(DimensionValue::DimValue(d)) };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: dt::FLOAT, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&i| i.into()).collect(),
        output: vec![output.into()],
        name: format!("{output}_node"),
        op_type: op_type.into(),
        ..NodeProto::default()
    }
}

impl NodeProto {
    fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: at::INT, i: Some(i), ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let ints = ints.to_vec();
    AttributeProto { name: name.into(), r#type: at::INTS, ints, ..AttributeProto::default() }
}

fn tensor(name: &str, data_type: i32, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    let (name, dims, raw_data) = (name.into(), dims.to_vec(), Some(raw));
    TensorProto { name, dims, data_type, raw_data, ..TensorProto::default() }
}

fn real(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    tensor(name, dt::FLOAT, dims, data.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn int8(name: &str, dims: &[i64], data: &[i8]) -> TensorProto {
    tensor(name, dt::INT8, dims, data.iter().map(|&x| x as u8).collect())
}

/// Input `x` of `[1, 2, 4, 4]`, output `y`.
fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        name: "test".into(),
        initializer,
        input: vec![value("x", &[1, 2, 4, 4])],
        output: vec![value("y", &[])],
        sparse_initializer: Vec::new(),
    };
    ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![opset("", 13)],
        ..ModelProto::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

/// A convolution with `attributes` and a weight of `[2, 2, 1, 1]`.
fn conv(attributes: Vec<AttributeProto>) -> ModelProto {
    let conv = NodeProto { attribute: attributes, ..node("Conv", &["x", "w"], "y") };
    model(vec![conv], vec![real("w", &[2, 2, 1, 1], &[1.0; 4])])
}

fn pool(op_type: &str, attributes: Vec<AttributeProto>) -> ModelProto {
    model(vec![NodeProto { attribute: attributes, ..node(op_type, &["x"], "y") }], vec![])
}

/// `y = relu(dequantize(quantize(x)))`, quantized.
fn qdq() -> ModelProto {
    let q = |i: &str, o: &str| node("QuantizeLinear", &[i, "s", "z"], o);
    let dq = |i: &str, o: &str| node("DequantizeLinear", &[i, "s", "z"], o);
    let nodes = vec![q("x", "xq"), dq("xq", "xd"), node("Relu", &["xd"], "r"), q("r", "rq"), dq("rq", "y")];
    model(nodes, vec![real("s", &[], &[0.5]), int8("z", &[], &[3])])
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn edited(mut model: ModelProto, edit: impl FnOnce(&mut GraphProto)) -> ModelProto {
    edit(graph(&mut model));
    model
}

fn read(model: &ModelProto) -> Result<Graph> {
    import(&model.encode_to_vec(), None)
}

#[track_caller]
fn refused(model: &ModelProto, expected: &str) {
    match read(model) {
        Ok(_) => panic!("not refused: {expected}"),
        Err(e) => {
            let error = e.to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
            assert!(error.len() < 400, "{error}");
        }
    }
}

/// As [`refused`], but when the integer graph is made.
#[track_caller]
fn not_lowered(model: &ModelProto, expected: &str) {
    let mut graph = read(model).unwrap();
    passes::prepare(&mut graph);
    let error = lower(&graph).unwrap_err().to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

#[test]
fn the_models_to_be_broken_are_whole() {
    read(&conv(vec![])).unwrap();
    read(&pool("MaxPool", vec![ints("kernel_shape", &[2, 2])])).unwrap();
    survive(&qdq().encode_to_vec()).unwrap();
}

#[test]
fn cyclic_graph() {
    let nodes = vec![node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b"), node("Relu", &["b"], "y")];
    refused(&model(nodes, vec![]), "in node \"a_node\" (Add): input \"b\" is not computed before it is used");
    let own = vec![node("Add", &["x", "y"], "y")];
    refused(&model(own, vec![]), "in node \"y_node\" (Add): input \"y\" is not computed");
}

#[test]
fn dangling_names() {
    let nowhere = model(vec![node("Relu", &["nowhere"], "y")], vec![]);
    refused(&nowhere, "in node \"y_node\" (Relu): input \"nowhere\" is not computed");
    refused(&model(vec![node("Relu", &["x"], "z")], vec![]), "output \"y\" is never computed");
    refused(&model(vec![node("Relu", &[""], "y")], vec![]), "in node \"y_node\" (Relu): ");
    refused(&model(vec![node("Relu", &[], "y")], vec![]), "in node \"y_node\" (Relu): ");
    refused(&model(vec![node("Relu", &["x"], "")], vec![]), "(Relu): the node has no output");
    let none = NodeProto { output: vec![], ..node("Relu", &["x"], "y") };
    refused(&model(vec![none], vec![]), "the node has no output");
}

#[test]
fn huge_sizes() {
    let relu = || model(vec![node("Relu", &["x"], "y")], vec![]);
    for dims in [&[1_000_000_000, 1_000_000_000][..], &[1 << 62, 1 << 62], &[i64::MAX], &[0, i64::MAX, 8]] {
        let initializer = edited(relu(), |g| g.initializer.push(real("w", dims, &[1.0])));
        refused(&initializer, "");
    }
    let held = edited(relu(), |g| g.initializer.push(real("w", &[1 << 50], &[1.0])));
    refused(&held, "tensor \"w\" of shape [1125899906842624] holds 4 bytes, expected 4503599627370496");
    for dims in [&[1 << 40][..], &[1 << 20, 1 << 20], &[1, 1 << 29], &[i64::MAX, i64::MAX]] {
        let input = edited(relu(), |g| g.input = vec![value("x", dims)]);
        refused(&input, "has more than 2^28 elements");
    }
    refused(&conv(vec![ints("pads", &[1 << 22; 4])]), "\"y\" of shape [1, 2, 8388612, 8388612] has more than");
    refused(&conv(vec![ints("pads", &[1 << 40; 4])]), "attribute \"pads\": 1099511627776 is not a size");
    refused(&conv(vec![ints("strides", &[i64::MAX, 1])]), "attribute \"strides\": 9223372036854775807");
    refused(&conv(vec![ints("dilations", &[1 << 24, 1])]), "attribute \"dilations\": 16777216 is not");
    let shape = tensor("s", dt::INT64, &[2], [1i64 << 62, 1 << 62].map(i64::to_le_bytes).concat());
    refused(&model(vec![node("Reshape", &["x", "s"], "y")], vec![shape]), "(Reshape): ");
}

/// The product of an empty size and a huge one is 0.
#[test]
fn empty_tensors() {
    let weight = |dims: &[i64]| edited(conv(vec![]), |g| g.initializer = vec![real("w", dims, &[])]);
    for dims in [&[0, 1, 1 << 40, 1 << 40][..], &[0, 2, 1, 1], &[2, 0, 1, 1], &[2, 2, 0, 1]] {
        refused(&weight(dims), "");
    }
    let same = edited(weight(&[0, 1, 1 << 62, 1 << 62]), |g| {
        let mode = AttributeProto { s: Some(b"SAME_UPPER".to_vec()), r#type: at::STRING, ..int("auto_pad", 0) };
        g.node[0].attribute = vec![ints("dilations", &[1 << 23, 1 << 23]), mode];
    });
    refused(&same, "");
    let empty = edited(conv(vec![]), |g| g.input = vec![value("x", &[0, 2, 4, 4])]);
    // An open batch, as some exporters write it, is −1 and not 0.
    refused(&empty, "\"x\" of shape [0, 2, 4, 4] is empty");
    let product = vec![node("MatMul", &["a", "b"], "y")];
    let product = model(product, vec![real("a", &[1, 0], &[]), real("b", &[0, 3], &[])]);
    assert!(survive(&product.encode_to_vec()).is_err());
    let sum = model(vec![node("Add", &["x", "a"], "y")], vec![real("a", &[0], &[])]);
    refused(&sum, "(Add): ");
}

#[test]
fn negative_sizes() {
    let relu = model(vec![node("Relu", &["x"], "y")], vec![real("w", &[-1], &[])]);
    refused(&relu, "tensor \"w\" has a negative size: [-1]");
    let input = edited(conv(vec![]), |g| g.input = vec![value("x", &[1, -2, 4, 4])]);
    refused(&input, "axis 1 of input \"x\" is not fixed");
    for name in ["pads", "strides", "dilations"] {
        let list = if name == "pads" { vec![-1; 4] } else { vec![-1; 2] };
        refused(&conv(vec![ints(name, &list)]), &format!("attribute \"{name}\": -1 is not a size"));
    }
    refused(&conv(vec![ints("strides", &[0, 1])]), "attribute \"strides\": expected sizes of at least 1");
    refused(&conv(vec![int("group", -1)]), "attribute \"group\": -1 is not a number of groups");
    refused(&conv(vec![int("group", 0)]), "attribute \"group\": 0 is not a number of groups");
}

#[test]
fn windows_beyond_the_input() {
    for op_type in ["MaxPool", "AveragePool"] {
        let with = |k: i64, p: i64| pool(op_type, vec![ints("kernel_shape", &[k; 2]), ints("pads", &[p; 4])]);
        refused(&with(5, 0), "window of 5 does not fit into the padded height of 4");
        refused(&with(2, 2), "lies wholly in the padding");
        refused(&pool(op_type, vec![]), "attribute \"kernel_shape\" is missing");
        // Every step of the shape rule and of the evaluation is bounded by the input, not by the window.
        let huge = with((1 << 24) - 1, 1 << 23);
        survive(&huge.encode_to_vec()).unwrap();
        let strides = ints("strides", &[1 << 23; 2]);
        survive(&edited(huge, |g| g.node[0].attribute.push(strides)).encode_to_vec()).unwrap();
    }
    let same = AttributeProto { s: Some(b"SAME_LOWER".to_vec()), r#type: at::STRING, ..int("auto_pad", 0) };
    let large = (1 << 24) - 1;
    let attributes = vec![ints("kernel_shape", &[large; 2]), ints("dilations", &[large; 2]), same];
    let _ = survive(&pool("MaxPool", attributes).encode_to_vec());
}

#[test]
fn wrong_data_types() {
    let relu = || model(vec![node("Relu", &["x"], "y")], vec![]);
    let typed = |t: i32| edited(relu(), |g| {
        g.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = t;
    });
    refused(&typed(dt::INT64), "input \"x\" has data type 7, only float is known");
    refused(&typed(8), "input \"x\" has data type 8, only float is known");
    let untyped = edited(relu(), |g| g.input[0].r#type = None);
    refused(&untyped, "input \"x\" is not a tensor");
    for data_type in [0, 8, 10, 16, 99, -1] {
        let text = edited(relu(), |g| g.initializer.push(tensor("w", data_type, &[1], vec![0; 8])));
        refused(&text, &format!("tensor \"w\" has data type {data_type}"));
    }
    let integers = edited(conv(vec![]), |g| g.initializer = vec![int8("w", &[2, 2, 1, 1], &[1; 4])]);
    refused(&integers, "in node \"y_node\" (Conv): unsupported: input \"w\" is made of integers");
    let beyond = TensorProto { int32_data: vec![200], raw_data: None, ..int8("w", &[1], &[]) };
    refused(&edited(relu(), |g| g.initializer.push(beyond)), "tensor \"w\" holds 200, beyond its data type");
}

#[test]
fn wrong_ranks() {
    for dims in [&[1, 2, 4][..], &[32], &[], &[1, 2, 2, 2, 4]] {
        let input = edited(conv(vec![]), |g| g.input = vec![value("x", dims)]);
        refused(&input, "in node \"y_node\" (Conv): ");
        let input = edited(pool("GlobalAveragePool", vec![]), |g| g.input = vec![value("x", dims)]);
        refused(&input, "in node \"y_node\" (GlobalAveragePool): ");
    }
    let weight = edited(conv(vec![]), |g| g.initializer = vec![real("w", &[2, 2], &[1.0; 4])]);
    refused(&weight, "weight of shape [2, 2]: only 2-D is known");
    let channels = edited(conv(vec![]), |g| g.initializer = vec![real("w", &[2, 3, 1, 1], &[1.0; 6])]);
    refused(&channels, "(Conv): expected 3 x 1 groups input channels, got 2");
    let bias = edited(conv(vec![]), |g| {
        g.initializer.push(real("b", &[3], &[0.0; 3]));
        g.node[0].input.push("b".into());
    });
    refused(&bias, "(Conv): expected 2 biases, got shape [3]");
    refused(&pool("Transpose", vec![ints("perm", &[0, 1, 1, 3])]), "is no permutation of the 4 axes");
    refused(&pool("Transpose", vec![ints("perm", &[0, -1, 1, 3])]), "is no permutation of the 4 axes");
    refused(&pool("Softmax", vec![int("axis", 4)]), "axis 4 of a tensor of rank 4");
    refused(&pool("Softmax", vec![int("axis", i64::MIN)]), "axis -9223372036854775808 of a tensor");
    refused(&pool("Flatten", vec![int("axis", 9)]), "axis 9 of a tensor of rank 4");
}

#[test]
fn duplicate_definitions() {
    let twice = vec![node("Relu", &["x"], "y"), node("Relu", &["x"], "y")];
    refused(&model(twice, vec![]), "in node \"y_node\" (Relu): \"y\" is defined twice");
    let over = vec![node("Relu", &["x"], "x"), node("Relu", &["x"], "y")];
    refused(&model(over, vec![]), "\"x\" is defined twice");
    let initializers = edited(conv(vec![]), |g| g.initializer.push(real("w", &[1], &[1.0])));
    refused(&initializers, "\"w\" is defined twice");
    let inputs = edited(conv(vec![]), |g| g.input.push(value("x", &[1])));
    refused(&inputs, "\"x\" is defined twice");
}

#[test]
fn attributes() {
    refused(&conv(vec![ints("group", &[1])]), "attribute \"group\": expected an integer, got Ints([1])");
    refused(&conv(vec![int("pads", 1)]), "attribute \"pads\": expected integers, got Int(1)");
    refused(&conv(vec![ints("pads", &[1, 1])]), "attribute \"pads\": expected 4 sizes, got [1, 1]");
    refused(&conv(vec![ints("strides", &[1])]), "attribute \"strides\" has 1 elements: only 2-D is known");
    refused(&conv(vec![int("axis", 1)]), "in node \"y_node\" (Conv): unsupported: attribute \"axis\"");
    refused(&conv(vec![int("group", 1), int("group", 1)]), "attribute \"group\" is given twice");
    let kind = |r#type: i32| AttributeProto { r#type, ..int("group", 1) };
    refused(&conv(vec![kind(5)]), "attribute \"group\" of type 5");
    refused(&conv(vec![kind(0)]), "attribute \"group\" of type 0");
    refused(&conv(vec![kind(at::TENSOR)]), "attribute \"group\" of type 4");
    let reference = AttributeProto { ref_attr_name: "outer".into(), ..int("group", 1) };
    refused(&conv(vec![reference]), "attribute \"group\" refers to a function's attribute");
    let text = AttributeProto { s: Some(vec![0xff, 0xfe]), r#type: at::STRING, ..int("auto_pad", 0) };
    refused(&conv(vec![text]), "attribute \"auto_pad\" is not text");
    let mode = AttributeProto { s: Some(b"SAME".to_vec()), r#type: at::STRING, ..int("auto_pad", 0) };
    refused(&conv(vec![mode]), "attributes \"auto_pad\" \"SAME\"");
}

#[test]
fn unknown_operators_and_domains() {
    refused(&pool("Frobnicate", vec![]), "in node \"y_node\" (Frobnicate): unsupported: operator type");
    let foreign = NodeProto { domain: "com.microsoft".into(), ..node("Relu", &["x"], "y") };
    refused(&model(vec![foreign], vec![]), "operators of domain \"com.microsoft\"");
    let second = NodeProto { output: vec!["y".into(), "mask".into()], ..node("Dropout", &["x"], "y") };
    let used = model(vec![second, node("Relu", &["mask"], "z")], vec![]);
    refused(&used, "its output \"mask\" is used, only the first one is known");
}

#[test]
fn operator_sets() {
    let with = |imports: Vec<OperatorSetIdProto>| ModelProto { opset_import: imports, ..conv(vec![]) };
    refused(&with(vec![]), "the model names no operator set");
    refused(&with(vec![opset("ai.onnx.ml", 2)]), "the model names no operator set");
    for version in [-1, 0, 6, 29, i64::MAX] {
        refused(&with(vec![opset("", version)]), &format!("operator set {version}, expected 7 to 28"));
    }
    for domain in ["", "ai.onnx"] {
        read(&with(vec![opset(domain, 13), opset("ai.onnx.ml", 99)])).unwrap();
    }
}

#[test]
fn quantization_in_two_ways() {
    let other = |g: &mut GraphProto| g.initializer.push(real("s2", &[], &[0.25]));
    let differ = edited(qdq(), |g| {
        other(g);
        g.node[1].input[1] = "s2".into();
    });
    refused(&differ, "in node \"xd_node\" (DequantizeLinear): unsupported: its parameters are not those");
    let two = edited(qdq(), |g| {
        other(g);
        g.node[2].op_type = "Add".into();
        g.node[2].input.push("xd2".into());
        g.node.insert(2, node("QuantizeLinear", &["x", "s2", "z"], "xq2"));
        g.node.insert(3, node("DequantizeLinear", &["xq2", "s2", "z"], "xd2"));
    });
    refused(&two, "in node \"xd2_node\" (DequantizeLinear): unsupported: \"x\" is quantized in two ways");
    let codes = edited(qdq(), |g| g.node[2].input[0] = "xq".into());
    refused(&codes, "in node \"r_node\" (Relu): unsupported: input \"xq\" is made of integers");
    let output = edited(qdq(), |g| g.output[0].name = "rq".into());
    refused(&output, "output \"rq\" is not real");
    let real_twice = edited(qdq(), |g| g.node[0].input[0] = "xq".into());
    refused(&real_twice, "input \"xq\" is not computed");
    let real_input = edited(qdq(), |g| {
        g.node.remove(0);
        g.node[0].input[0] = "x".into();
    });
    refused(&real_input, "input \"x\" is not made of codes");
}

#[test]
fn used_with_and_without_quantization() {
    let mixed = edited(qdq(), |g| {
        g.node[2].op_type = "Add".into();
        g.node[2].input.push("x".into());
    });
    refused(&mixed, "\"x\" is used both with and without being quantized");
    let output = edited(qdq(), |g| g.output.push(value("r", &[])));
    refused(&output, "\"r\" is used both with and without being quantized");
    // The same behind another name of the value.
    for quantized in ["x", "same"] {
        let other = if quantized == "x" { "same" } else { "x" };
        let alias = edited(qdq(), |g| {
            g.node[0].input[0] = quantized.into();
            g.node[2].op_type = "Add".into();
            g.node[2].input.push(other.into());
            g.node.insert(0, node("Identity", &["x"], "same"));
        });
        refused(&alias, "is used both with and without being quantized");
    }
    let missing = edited(qdq(), |g| {
        g.node.truncate(3);
        g.node[2].output[0] = "y".into();
    });
    not_lowered(&missing, "value \"y\" is not quantized");
}

#[test]
fn scales_and_zero_points() {
    for (scale, text) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let model = edited(qdq(), |g| g.initializer[0] = real("s", &[], &[scale]));
        let expected = format!("(QuantizeLinear): scale must be positive and finite, got {text}");
        refused(&model, &expected);
    }
    let with = |zero: TensorProto| edited(qdq(), |g| g.initializer[1] = TensorProto { name: "z".into(), ..zero });
    let int32 = |z: i32| tensor("z", dt::INT32, &[], z.to_le_bytes().to_vec());
    refused(&with(int32(3)), "zero point 3 of 32-bit codes");
    refused(&with(tensor("z", dt::INT64, &[], vec![0; 8])), "codes of data type 7");
    refused(&with(tensor("z", 21, &[], vec![0])), "tensor \"z\" has data type 21");
    refused(&with(int8("z", &[2], &[1, 2])), "zero points differ between channels");
    refused(&with(real("z", &[], &[0.0])), "the zero point must be a constant of integers");
    let wide = TensorProto { int32_data: vec![128], raw_data: None, ..int8("z", &[], &[]) };
    refused(&with(wide), "tensor \"z\" holds 128, beyond its data type");
    let scales = |dims: &[i64], n: usize| edited(qdq(), |g| g.initializer[0] = real("s", dims, &vec![0.5; n]));
    refused(&scales(&[3], 3), "expected 2 scales for shape [1, 2, 4, 4], got 3");
    refused(&scales(&[1, 2], 2), "scales of shape [1, 2]");
    not_lowered(&scales(&[2], 2), "value \"x\" needs 8 bits and one scale");
    let computed = edited(qdq(), |g| g.node[0].input[1] = "x".into());
    refused(&computed, "the scale must be a constant");
    let few = edited(qdq(), |g| g.node[0].input.truncate(1));
    refused(&few, "(QuantizeLinear): ");
    let block = edited(qdq(), |g| g.node[0].attribute.push(int("block_size", 2)));
    refused(&block, "attribute \"block_size\"");
}

/// Codes of weight and bias count in units that the accumulator shares.
#[test]
fn scales_that_do_not_fit_together() {
    let with = |weight_axis: i64, bias_scale: f32| {
        let mut model = qdq();
        let g = graph(&mut model);
        let dq = |i: &str, s: &str, z: &str, o: &str| node("DequantizeLinear", &[i, s, z], o);
        g.node[2] = node("Conv", &["xd", "w", "b"], "r");
        g.node.insert(0, dq("wq", "ws", "wz", "w").with(int("axis", weight_axis)));
        g.node.insert(1, dq("bq", "bs", "bz", "b").with(int("axis", 0)));
        g.initializer.extend([
            int8("wq", &[2, 2, 1, 1], &[1, 2, 3, 4]),
            real("ws", &[2], &[0.25, 0.125]),
            int8("wz", &[2], &[0; 2]),
            tensor("bq", dt::INT32, &[2], vec![0; 8]),
            real("bs", &[2], &[bias_scale, 0.0625]),
            tensor("bz", dt::INT32, &[2], vec![0; 8]),
        ]);
        model
    };
    survive(&with(0, 0.125).encode_to_vec()).unwrap();
    not_lowered(&with(1, 0.125), "in node \"r_node\" (Conv): unsupported: \"w\" has scales along axis 1, expected 0");
    not_lowered(&with(0, 0.5), "the bias of channel 0 has scale 5e-1, expected 1.25e-1: input times weight");
}

#[test]
fn raw_data_of_another_length() {
    for (bytes, text) in [(15, "15 bytes, expected 16"), (17, "17 bytes, expected 16"), (0, "0 bytes, ")] {
        let weight = tensor("w", dt::FLOAT, &[2, 2, 1, 1], vec![0; bytes]);
        let model = edited(conv(vec![]), |g| g.initializer = vec![weight]);
        refused(&model, &format!("tensor \"w\" of shape [2, 2, 1, 1] holds {text}"));
    }
    let none = TensorProto { raw_data: None, ..real("w", &[2, 2, 1, 1], &[]) };
    let model = edited(conv(vec![]), |g| g.initializer = vec![none]);
    refused(&model, "tensor \"w\" of shape [2, 2, 1, 1] holds 0 elements, expected 4");
}

#[test]
fn external_data_without_a_folder() {
    let with = |location: i32, entries: &[(&str, &str)]| {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto { key: key.into(), value: value.into() };
        let weight = TensorProto {
            raw_data: None,
            data_location: location,
            external_data: entries.iter().map(entry).collect(),
            ..real("w", &[2, 2, 1, 1], &[])
        };
        edited(conv(vec![]), |g| g.initializer = vec![weight])
    };
    refused(&with(1, &[("location", "w.bin")]), "the external data of tensor \"w\" has no location");
    refused(&with(2, &[]), "tensor \"w\" has data location 2");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.bin"), [0; 16]).unwrap();
    let read = |entries: &[(&str, &str)]| import(&with(1, entries).encode_to_vec(), Some(dir.path()));
    read(&[("location", "./w.bin"), ("offset", "0"), ("length", "16")]).unwrap();
    for (key, text, expected) in [
        ("length", "15", "is not 16 bytes long"),
        ("length", "18446744073709551615", "is not 16 bytes long"),
        ("offset", "x", "has a broken offset"),
        ("offset", "-1", "has a broken offset"),
        ("offset", "1", "holds 15 bytes, expected 16"),
        ("offset", "18446744073709551615", "w.bin"),
    ] {
        let error = read(&[("location", "w.bin"), (key, text)]).unwrap_err().to_string();
        assert!(error.contains("\"w\"") && error.contains(expected), "{key} {text}: {error}");
    }
    for location in ["../w.bin", "a/../../w.bin", "/etc/passwd", "", ".", "missing"] {
        assert!(read(&[("location", location)]).is_err(), "{location}");
    }
}

#[test]
fn models_of_nothing() {
    for bytes in [&b""[..], b"\0", b"not a model", &[0xff; 100]] {
        let error = import(bytes, None).unwrap_err().to_string();
        assert!(error.starts_with("not an ONNX model: "), "{error}");
    }
    refused(&ModelProto::default(), "not an ONNX model: it holds no graph");
    refused(&edited(conv(vec![]), |g| *g = GraphProto::default()), "the model has no outputs");
    refused(&edited(conv(vec![]), |g| g.output.clear()), "the model has no outputs");
    let sparse = edited(conv(vec![]), |g| g.sparse_initializer.push(vec![]));
    refused(&sparse, "sparse initializers");
}

/// Reads, prepares, lowers and runs; whatever happens, it happens without a panic, and soon.
fn survive(bytes: &[u8]) -> Result<()> {
    let start = Instant::now();
    let result = survive_at_leisure(bytes);
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    result
}

fn survive_at_leisure(bytes: &[u8]) -> Result<()> {
    let mut graph = import(bytes, None)?;
    passes::prepare(&mut graph);
    graph.check()?;
    let size = |g: &Graph| g.values.iter().map(|v| v.shape.iter().product::<usize>()).max();
    if size(&graph) > Some(1 << 20) {
        return Ok(());
    }
    let zeros = |shape: &[usize]| Tensor::new(shape, vec![0.0; shape.iter().product()]);
    let inputs = graph.inputs.iter().map(|&v| zeros(&graph.values[v].shape));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    FloatExecutor::new(&graph).run(&inputs, |_, _| Ok(()))?;
    if graph.has_codes() {
        let integer = lower(&graph)?;
        IntExecutor::new(&integer).run(&inputs)?;
    }
    import(&export(&graph), None)?;
    Ok(())
}

/// Convolution, pooling and sum, quantized.
fn small() -> Vec<u8> {
    let pair = |i: &str, codes: &str, o: &str| {
        [node("QuantizeLinear", &[i, "s", "z"], codes), node("DequantizeLinear", &[codes, "s", "z"], o)]
    };
    let mut nodes = vec![node("DequantizeLinear", &["w", "ws", "wz"], "wd").with(int("axis", 0))];
    nodes.extend(pair("x", "xq", "xd"));
    nodes.push(node("Conv", &["xd", "wd"], "c").with(ints("pads", &[1; 4])).with(ints("strides", &[2; 2])));
    nodes.extend(pair("c", "cq", "cd"));
    nodes.push(node("AveragePool", &["cd"], "p").with(ints("kernel_shape", &[2; 2])));
    nodes.extend(pair("p", "pq", "pd"));
    nodes.push(node("Add", &["pd", "pd"], "a"));
    nodes.extend(pair("a", "aq", "y"));
    let initializers = vec![
        int8("w", &[2, 2, 3, 3], &[5; 36]),
        real("ws", &[2], &[0.25, 0.5]),
        int8("wz", &[2], &[0; 2]),
        real("s", &[], &[0.5]),
        int8("z", &[], &[3]),
    ];
    model(nodes, initializers).encode_to_vec()
}

fn fashion() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/fashion/float.onnx");
    std::fs::read(path).unwrap()
}

#[test]
fn truncated_models() {
    let whole = small();
    survive(&whole).unwrap();
    for len in 0..whole.len() {
        assert!(survive(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
    let whole = fashion();
    for len in (0..whole.len()).step_by(whole.len() / 300) {
        assert!(survive(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn flipped_bits(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4)) {
        let mut bytes = small();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = survive(&bytes);
    }

    #[test]
    fn replaced_bytes(at: prop::sample::Index, with in prop::collection::vec(any::<u8>(), 1..12)) {
        let mut bytes = small();
        let at = at.index(bytes.len() - with.len());
        bytes[at..at + with.len()].copy_from_slice(&with);
        let _ = survive(&bytes);
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = survive(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Most of the file is weights; its structure is at both ends of each of them.
    #[test]
    fn flipped_bits_of_a_network(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..20)) {
        let mut bytes = fashion();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = survive(&bytes);
    }
}
