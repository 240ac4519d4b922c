//! Hostile and broken files: an error that names what and where, never a panic, never a huge allocation.

mod batch;
mod budgets;
mod codes;
mod control;
mod cut;
mod damaged;
mod decompose;
mod fold;
mod folded;
mod four_bits;
mod ignored;
mod numbers;
mod obstacles;
mod qonnx;
mod quantized;
mod rounded;

mod silent;
mod tensors;

use prost::Message;

use super::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type as at, data_type as dt,
};
use super::*;
use crate::Result;
use crate::graph::{Constant, Graph};
use crate::testing::lower::lower;
use crate::testing::passes;
use damaged::survive;
use quantized::qdq;

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension { value: Some(DimensionValue::DimValue(d)) };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: dt::FLOAT, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

/// An output of which the file says nothing else.
fn output(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: None }
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
    let (name, dims, raw_data) = (name.into(), dims.to_vec(), Some(raw.into()));
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
        output: vec![output("y")],
        ..GraphProto::default()
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

#[test]
fn the_models_to_be_broken_are_whole() {
    read(&conv(vec![])).unwrap();
    read(&pool("MaxPool", vec![ints("kernel_shape", &[2, 2])])).unwrap();
    survive(&qdq().encode_to_vec()).unwrap();
}

#[test]
fn cyclic_graph() {
    let nodes =
        vec![node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b"), node("Relu", &["b"], "y")];
    refused(
        &model(nodes, vec![]),
        "in node \"a_node\" (Add): input \"b\" is not computed before it is used",
    );
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
    for dims in
        [&[1_000_000_000, 1_000_000_000][..], &[1 << 62, 1 << 62], &[i64::MAX], &[0, i64::MAX, 8]]
    {
        let initializer = edited(relu(), |g| g.initializer.push(real("w", dims, &[1.0])));
        refused(&initializer, "");
    }
    let held = edited(relu(), |g| g.initializer.push(real("w", &[1 << 50], &[1.0])));
    refused(
        &held,
        "tensor \"w\" of shape [1125899906842624] holds 4 bytes, expected 4503599627370496",
    );
    for dims in [&[1 << 40][..], &[1 << 20, 1 << 20], &[1, 1 << 29], &[i64::MAX, i64::MAX]] {
        let input = edited(relu(), |g| g.input = vec![value("x", dims)]);
        refused(&input, "has more than 2^28 elements");
    }
    refused(
        &conv(vec![ints("pads", &[1 << 22; 4])]),
        "4194304 elements of padding, more than 4096",
    );
    refused(
        &conv(vec![ints("pads", &[1 << 40; 4])]),
        "attribute \"pads\": 1099511627776 is not a size",
    );
    refused(
        &conv(vec![ints("strides", &[i64::MAX, 1])]),
        "attribute \"strides\": 9223372036854775807",
    );
    refused(
        &conv(vec![ints("dilations", &[1 << 24, 1])]),
        "attribute \"dilations\": 16777216 is not",
    );
    let shape = tensor("s", dt::INT64, &[2], [1i64 << 62, 1 << 62].map(i64::to_le_bytes).concat());
    refused(&model(vec![node("Reshape", &["x", "s"], "y")], vec![shape]), "(Reshape): ");
}

/// The product of an empty size and a huge one is 0.
#[test]
fn empty_tensors() {
    let weight =
        |dims: &[i64]| edited(conv(vec![]), |g| g.initializer = vec![real("w", dims, &[])]);
    for dims in [&[0, 1, 1 << 40, 1 << 40][..], &[0, 2, 1, 1], &[2, 0, 1, 1], &[2, 2, 0, 1]] {
        refused(&weight(dims), "");
    }
    let same = edited(weight(&[0, 1, 1 << 62, 1 << 62]), |g| {
        let mode = AttributeProto {
            s: Some(b"SAME_UPPER".to_vec()),
            r#type: at::STRING,
            ..int("auto_pad", 0)
        };
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
    refused(&input, "axis 1 of input \"x\" is open");
    for name in ["pads", "strides", "dilations"] {
        let list = if name == "pads" { vec![-1; 4] } else { vec![-1; 2] };
        refused(&conv(vec![ints(name, &list)]), &format!("attribute \"{name}\": -1 is not a size"));
    }
    refused(
        &conv(vec![ints("strides", &[0, 1])]),
        "attribute \"strides\": expected sizes of at least 1",
    );
    refused(&conv(vec![int("group", -1)]), "attribute \"group\": -1 is not a number of groups");
    refused(&conv(vec![int("group", 0)]), "attribute \"group\": 0 is not a number of groups");
}

#[test]
fn windows_beyond_the_input() {
    for op_type in ["MaxPool", "AveragePool"] {
        let with = |k: i64, p: i64| {
            pool(op_type, vec![ints("kernel_shape", &[k; 2]), ints("pads", &[p; 4])])
        };
        refused(&with(5, 0), "window of 5 does not fit into the padded height of 4");
        refused(&with(2, 2), "lies wholly in the padding");
        refused(&pool(op_type, vec![]), "attribute \"kernel_shape\" is missing");
        refused(&with((1 << 24) - 1, 1 << 23), "8388608 elements of padding");
        // As large as it may be.
        let huge = with((1 << 13) - 1, 1 << 12);
        survive(&huge.encode_to_vec()).unwrap();
        let strides = ints("strides", &[1 << 23; 2]);
        survive(&edited(huge, |g| g.node[0].attribute.push(strides)).encode_to_vec()).unwrap();
    }
    let same = AttributeProto {
        s: Some(b"SAME_LOWER".to_vec()),
        r#type: at::STRING,
        ..int("auto_pad", 0)
    };
    let large = (1 << 24) - 1;
    let attributes = vec![ints("kernel_shape", &[large; 2]), ints("dilations", &[large; 2]), same];
    let _ = survive(&pool("MaxPool", attributes).encode_to_vec());
}

#[test]
fn wrong_data_types() {
    let relu = || model(vec![node("Relu", &["x"], "y")], vec![]);
    let typed = |t: i32| {
        edited(relu(), |g| {
            g.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = t;
        })
    };
    refused(
        &typed(dt::INT16),
        "input \"x\" is made of int16, only float, bytes, int32 and int64 are known",
    );
    refused(
        &typed(8),
        "input \"x\" is made of string, only float, bytes, int32 and int64 are known",
    );
    let untyped = edited(relu(), |g| g.input[0].r#type = None);
    refused(&untyped, "input \"x\" is not a tensor");
    for (data_type, name) in [
        (0, "undefined"),
        (8, "string"),
        (17, "float8e4m3fn"),
        (99, "unknown type 99"),
        (-1, "unknown type -1"),
    ] {
        let text = edited(relu(), |g| g.initializer.push(tensor("w", data_type, &[1], vec![0; 8])));
        refused(&text, &format!("tensor \"w\" is made of {name}"));
    }
    let integers =
        edited(conv(vec![]), |g| g.initializer = vec![int8("w", &[2, 2, 1, 1], &[1; 4])]);
    refused(&integers, "in node \"y_node\" (Conv): unsupported: input \"w\" is made of integers");
    let beyond = TensorProto { int32_data: vec![200], raw_data: None, ..int8("w", &[1], &[]) };
    refused(
        &edited(relu(), |g| g.initializer.push(beyond)),
        "tensor \"w\" holds 200, which is no int8",
    );
}

#[test]
fn wrong_ranks() {
    for dims in [&[1, 2][..], &[32], &[], &[1, 2, 2, 2, 4]] {
        let input = edited(conv(vec![]), |g| g.input = vec![value("x", dims)]);
        refused(&input, "in node \"y_node\" (Conv): ");
        let input = edited(pool("GlobalAveragePool", vec![]), |g| g.input = vec![value("x", dims)]);
        refused(&input, "in node \"y_node\" (GlobalAveragePool): ");
    }
    let weight = edited(conv(vec![]), |g| g.initializer = vec![real("w", &[2, 2], &[1.0; 4])]);
    refused(&weight, "weight of shape [2, 2]: only 1-D and 2-D are known");
    let sequence = edited(conv(vec![]), |g| g.input = vec![value("x", &[1, 2, 4])]);
    refused(&sequence, "(Conv): input of shape [1, 2, 4] and weight of shape [2, 2, 1, 1]");
    let channels =
        edited(conv(vec![]), |g| g.initializer = vec![real("w", &[2, 3, 1, 1], &[1.0; 6])]);
    refused(&channels, "(Conv): expected 3 x 1 groups input channels, got 2");
    let bias = edited(conv(vec![]), |g| {
        g.initializer.push(real("b", &[3], &[0.0; 3]));
        g.node[0].input.push("b".into());
    });
    refused(&bias, "(Conv): expected 2 biases, got shape [3]");
    refused(
        &pool("Transpose", vec![ints("perm", &[0, 1, 1, 3])]),
        "is no permutation of the 4 axes",
    );
    refused(
        &pool("Transpose", vec![ints("perm", &[0, -1, 1, 3])]),
        "is no permutation of the 4 axes",
    );
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
    refused(
        &conv(vec![ints("group", &[1])]),
        "attribute \"group\": expected an integer, got integers",
    );
    refused(&conv(vec![int("pads", 1)]), "attribute \"pads\": expected integers, got an integer");
    refused(&conv(vec![ints("pads", &[1, 1])]), "attribute \"pads\": expected 4 sizes, got [1, 1]");
    refused(&conv(vec![ints("strides", &[1])]), "attribute \"strides\": expected 2 sizes, got [1]");
    refused(
        &conv(vec![int("axis", 1)]),
        "in node \"y_node\" (Conv): unsupported: attribute \"axis\"",
    );
    refused(&conv(vec![int("group", 1), int("group", 1)]), "attribute \"group\" is given twice");
    let kind = |r#type: i32| AttributeProto { r#type, ..int("group", 1) };
    refused(&conv(vec![kind(5)]), "attribute \"group\" holds graph");
    refused(&conv(vec![kind(0)]), "attribute \"group\" holds undefined");
    refused(&conv(vec![kind(at::TENSOR)]), "attribute \"group\" holds something of another type");
    refused(
        &conv(vec![AttributeProto { i: None, ..kind(at::TENSOR) }]),
        "attribute \"group\" holds tensor",
    );
    let reference = AttributeProto { ref_attr_name: "outer".into(), ..int("group", 1) };
    refused(&conv(vec![reference]), "attribute \"group\" refers to a function's attribute");
    let text =
        AttributeProto { s: Some(vec![0xff, 0xfe]), r#type: at::STRING, ..int("auto_pad", 0) };
    refused(&conv(vec![text]), "attribute \"auto_pad\" is not text");
    let mode =
        AttributeProto { s: Some(b"SAME".to_vec()), r#type: at::STRING, ..int("auto_pad", 0) };
    refused(&conv(vec![mode]), "attribute \"auto_pad\" is \"SAME\"");
}

#[test]
fn unknown_operators_and_domains() {
    refused(
        &pool("Frobnicate", vec![]),
        "in node \"y_node\" (Frobnicate): unsupported: operator type",
    );
    let foreign = NodeProto { domain: "com.microsoft".into(), ..node("Relu", &["x"], "y") };
    refused(&model(vec![foreign], vec![]), "operators of domain \"com.microsoft\"");
    let second =
        NodeProto { output: vec!["y".into(), "mask".into()], ..node("Dropout", &["x"], "y") };
    let used = model(vec![second, node("Relu", &["mask"], "z")], vec![]);
    refused(&used, "its output \"mask\" is used, only the first one is known");
}

#[test]
fn operator_sets() {
    let with =
        |imports: Vec<OperatorSetIdProto>| ModelProto { opset_import: imports, ..conv(vec![]) };
    refused(&with(vec![]), "the model names no operator set");
    refused(&with(vec![opset("ai.onnx.ml", 2)]), "the model names no operator set");
    for version in [-1, 0, 6, 29, i64::MAX] {
        refused(
            &with(vec![opset("", version)]),
            &format!("operator set {version}, expected 7 to 28"),
        );
    }
    for domain in ["", "ai.onnx"] {
        read(&with(vec![opset(domain, 13), opset("ai.onnx.ml", 99)])).unwrap();
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
    let sparse = edited(conv(vec![]), |g| g.sparse_initializer.push(vec![].into()));
    refused(&sparse, "sparse initializers");
}
