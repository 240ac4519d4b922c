//! What was once read as something else than the file says, without a word.

use super::*;

fn uint8(name: &str, dims: &[i64], data: &[u8]) -> TensorProto {
    tensor(name, dt::UINT8, dims, data.to_vec())
}

fn q(i: &str, s: &str, z: &str, o: &str) -> NodeProto {
    node("QuantizeLinear", &[i, s, z], o)
}

fn dq(i: &str, s: &str, z: &str, o: &str) -> NodeProto {
    node("DequantizeLinear", &[i, s, z], o)
}

/// `x` and `y` in 8 bits around one node of `op_type` with the constant `c`, whose codes are unsigned.
fn around(op_type: &str, more: &[&str], constants: Vec<TensorProto>) -> ModelProto {
    let inputs: Vec<&str> = ["xd"].iter().chain(more).copied().collect();
    let mut nodes = vec![q("x", "s", "z", "xq"), dq("xq", "s", "z", "xd")];
    nodes.push(dq("c_codes", "s", "uz", "c"));
    if more.contains(&"w") {
        nodes.push(dq("w_codes", "one", "z", "w"));
    }
    nodes.extend([node(op_type, &inputs, "r"), q("r", "s", "z", "rq"), dq("rq", "s", "z", "y")]);
    let shared = vec![real("s", &[], &[0.5]), real("one", &[], &[1.0]), int8("z", &[], &[0])];
    let unsigned = vec![uint8("uz", &[], &[0])];
    model(nodes, [shared, unsigned, constants].concat())
}

/// A bias in other codes than those of the kernel stands for the same numbers.
#[test]
fn a_bias_of_other_codes_is_made_one_of_32_bits() {
    let weight = int8("w_codes", &[2, 2, 1, 1], &[1; 4]);
    let bias = around("Conv", &["w", "c"], vec![weight, uint8("c_codes", &[2], &[1, 2])]);
    let mut graph = read(&bias).unwrap();
    crate::testing::quantize::prepare(&mut graph).unwrap();
    let int = lower(&graph).unwrap();
    let crate::ops::IntOp::Conv(conv) = &int.nodes[0].op else { panic!("{:?}", int.nodes[0]) };
    assert_eq!(conv.acc.bias, [1, 2]);
}

/// The codes of the sum's argument are rounded and clipped on their own: the sum is no bias.
#[test]
fn a_sum_behind_codes_stays_a_sum() {
    let weight = int8("w_codes", &[2, 2, 1, 1], &[1; 4]);
    let mut model = around("Conv", &["w"], vec![weight, uint8("c_codes", &[1], &[0])]);
    graph(&mut model).initializer.push(real("b", &[1, 2, 1, 1], &[1.0, 2.0]));
    let nodes = &mut graph(&mut model).node;
    let last = nodes.len() - 1;
    nodes[last].output[0] = "yd".into();
    nodes.extend([node("Add", &["yd", "b"], "t"), q("t", "s", "z", "tq"), dq("tq", "s", "z", "y")]);
    let mut graph = read(&model).unwrap();
    passes::prepare(&mut graph);
    assert_eq!(graph.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>(), ["Conv", "Add"]);
}

#[test]
fn padding_of_codes_and_aliases_of_real_values() {
    let pads = ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
    let mut padded = model(
        vec![q("x", "s", "z", "xq"), node("Pad", &["xq"], "p").with(pads), dq("p", "s", "z", "y")],
        vec![real("s", &[], &[0.5]), int8("z", &[], &[3])],
    );
    padded.opset_import = vec![opset("", 10)];
    refused(&padded, "(Pad): unsupported: input \"xq\" is made of codes");
    // `a` is read as it is, and quantized under another name: two values.
    let nodes = vec![
        node("Relu", &["x"], "a"),
        node("Cast", &["a"], "b").with(int("to", 1)),
        q("b", "s", "z", "bq"),
        dq("bq", "s", "z", "bd"),
        node("Add", &["a", "bd"], "y"),
    ];
    let both = read(&model(nodes, vec![real("s", &[], &[0.5]), int8("z", &[], &[3])])).unwrap();
    let quantized = |name: &str| both.values.iter().any(|v| v.name == name && v.quant.is_some());
    assert!(!quantized("a") && quantized("b"));
}

#[test]
fn one_value_under_two_output_names() {
    let mut two = model(vec![node("Relu", &["x"], "y"), node("Identity", &["y"], "z")], vec![]);
    graph(&mut two).output.push(output("z"));
    let read = read(&two).unwrap();
    let names = |g: &Graph| g.outputs.iter().map(|&v| g.values[v].name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&read), ["y", "z"]);
    assert_eq!(names(&import(&export(&read), None).unwrap()), ["y", "z"]);
}

/// `fl(1 / 41) · 82 < 2`: the quotient must not become 1 when it is rounded down.
#[test]
fn constants_are_divided_not_multiplied() {
    let nodes = vec![
        node("Div", &["a", "b"], "q"),
        node("Floor", &["q"], "f"),
        node("Cast", &["f"], "n").with(int("to", 7)),
        node("Slice", &["x", "zero", "n", "axis"], "y"),
    ];
    let int64 = |name: &str, i: i64| tensor(name, dt::INT64, &[1], i.to_le_bytes().to_vec());
    let constants = vec![real("a", &[1], &[82.0]), real("b", &[1], &[41.0])];
    let constants = [constants, vec![int64("zero", 0), int64("axis", 3)]].concat();
    let graph = read(&model(nodes, constants)).unwrap();
    assert_eq!(graph.values[graph.outputs[0]].shape, [1, 2, 4, 2]);
}

#[test]
fn a_zero_point_may_be_a_constant_node() {
    let mut model = qdq();
    let zero = graph(&mut model).initializer.pop().unwrap();
    let attribute =
        AttributeProto { t: Some(Box::new(zero)), r#type: at::TENSOR, ..int("value", 0) };
    let attribute = AttributeProto { i: None, ..attribute };
    graph(&mut model).node.insert(0, node("Constant", &[], "z").with(attribute));
    let mut quantized = read(&model).unwrap();
    passes::prepare(&mut quantized);
    assert_eq!(lower(&quantized).unwrap().values[0].quant.zero_point, 3);
}

/// Each node doubles a constant: the file may not decide how much memory that takes.
#[test]
fn constants_that_grow_are_not_folded_without_end() {
    let mut nodes: Vec<NodeProto> = (0..40)
        .map(|i| {
            node("Concat", &[format!("c{i}").as_str(); 2], &format!("c{}", i + 1))
                .with(int("axis", 0))
        })
        .collect();
    nodes.push(node("Relu", &["x"], "y"));
    let result = read(&model(nodes, vec![real("c0", &[1000], &[1.0; 1000])]));
    assert!(result.is_err_and(|e| e.to_string().contains("elements")));
}

/// A weight quantized with zero points for its channels, and read with others.
#[test]
fn zero_points_of_channels_that_are_not_those_of_the_codes() {
    let with = |read_as: &[u8]| {
        let mut weight_q = q("w", "ws", "wz", "wq");
        let mut weight_dq = dq("wq", "ws", "wz2", "wd");
        weight_q.attribute.push(int("axis", 0));
        weight_dq.attribute.push(int("axis", 0));
        let nodes = vec![
            weight_q,
            weight_dq,
            q("x", "s", "z", "xq"),
            dq("xq", "s", "z", "xd"),
            node("Conv", &["xd", "wd"], "r"),
            q("r", "s", "z", "rq"),
            dq("rq", "s", "z", "y"),
        ];
        let constants = vec![
            real("s", &[], &[0.5]),
            int8("z", &[], &[0]),
            real("ws", &[2], &[0.5, 0.25]),
            uint8("wz", &[2], &[1, 2]),
            uint8("wz2", &[2], read_as),
            real("w", &[2, 2, 1, 1], &[1.0, -0.5, 2.0, 3.0]),
        ];
        read(&model(nodes, constants))
    };
    with(&[1, 2]).unwrap();
    let error = with(&[30, 70]).unwrap_err().to_string();
    assert!(error.contains("another scale or zero point"), "{error}");
}

/// A node that the file leaves real keeps its real bias until it is calibrated.
#[test]
fn a_bias_between_real_values_stays_real() {
    let nodes = vec![
        q("x", "s", "z", "xq"),
        dq("xq", "s", "z", "xd"),
        node("Conv", &["xd", "w", "b"], "y"),
    ];
    let constants = vec![
        real("s", &[], &[0.5]),
        int8("z", &[], &[0]),
        real("w", &[2, 2, 1, 1], &[1.0; 4]),
        real("b", &[2], &[1.0, 2.0]),
    ];
    let mut graph = read(&model(nodes, constants)).unwrap();
    crate::testing::quantize::prepare(&mut graph).unwrap();
    let error = lower(&graph).unwrap_err().to_string();
    assert!(error.contains("is not quantized"), "{error}");
}
