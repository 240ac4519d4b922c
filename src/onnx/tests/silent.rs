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
    // The constant is 0, a code as those beside it, and so not the number 0.
    let fill = read(&padded).unwrap().nodes.iter().find_map(|node| match &node.op {
        crate::ops::Op::Pad(pad) => Some(pad.mode),
        _ => None,
    });
    assert_eq!(fill, Some(crate::ops::pad::Mode::Constant(-1.5)));
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

/// The result of a network of integers on numbers that differ.
fn computed(model: &ModelProto) -> Vec<f32> {
    let mut graph = read(model).unwrap();
    crate::testing::quantize::prepare(&mut graph).unwrap();
    let x = (0..32).map(|i| (i * 11 % 32) as f32 / 4.0 - 4.0).collect();
    let x = crate::tensor::Tensor::new([1, 2, 4, 4], x).unwrap();
    let integers = crate::testing::exec::int::IntExecutor::new(lower(&graph).unwrap());
    integers.run(&[x]).unwrap().swap_remove(0).into_data()
}

/// As ONNX Runtime writes networks in its form of operators on codes: what moves numbers moves codes.
#[test]
fn operators_that_move_codes_need_no_numbers() {
    let int64 = |name: &str, data: &[i64]| {
        let raw = data.iter().flat_map(|i| i.to_le_bytes()).collect();
        tensor(name, dt::INT64, &[data.len() as i64], raw)
    };
    let real_pad = |fill: f32| real("fill", &[], &[fill]);
    let code_pad = |fill: u8| tensor("fill", dt::UINT8, &[], vec![fill]);
    for (mut moved, list, fill) in [
        (node("Split", &["c"], "r").with(int("axis", 1)), vec![], None),
        (node("Unsqueeze", &["c", "list"], "r"), vec![0], None),
        (node("Expand", &["c", "list"], "r"), vec![3, 2, 4, 4], None),
        (node("Tile", &["c", "list"], "r"), vec![1, 1, 2, 1], None),
        (node("Gather", &["c", "list"], "r").with(int("axis", 2)), vec![3, 1, 1], None),
        (node("SpaceToDepth", &["c"], "r").with(int("blocksize", 2)), vec![], None),
        (node("Concat", &["c", "c"], "r").with(int("axis", 3)), vec![], None),
        (node("Pad", &["c", "list", "fill"], "r"), vec![0, 0, 1, 0, 0, 0, 0, 2], Some((7, -1.5))),
    ] {
        if moved.op_type == "Split" {
            moved.output.insert(0, "unused".into());
        }
        let scales = || {
            let [s, z] = [real("s", &[], &[0.0625]), tensor("z", dt::UINT8, &[], vec![31])];
            vec![s, z, int64("list", &list)]
        };
        let file = |nodes, fill: Option<TensorProto>| {
            let mut model = model(nodes, scales().into_iter().chain(fill).collect());
            graph(&mut model).initializer.retain(|it| !it.dims.contains(&0));
            model
        };
        let on_codes = vec![q("x", "s", "z", "c"), moved.clone(), dq("r", "s", "z", "y")];
        let on_codes = file(on_codes, fill.map(|(code, _)| code_pad(code)));
        let real = vec![
            q("x", "s", "z", "xq"),
            dq("xq", "s", "z", "c"),
            moved,
            q("r", "s", "z", "yq"),
            dq("yq", "s", "z", "y"),
        ];
        let real = file(real, fill.map(|(_, number)| real_pad(number)));
        assert_eq!(computed(&on_codes), computed(&real));
    }
}

#[test]
fn channels_may_be_last_for_operators_on_codes() {
    let scales = || {
        let weight = int8("w", &[3, 2, 1, 1], &[1, -2, 3, 4, -5, 6]);
        vec![real("s", &[], &[0.0625]), int8("z", &[], &[3]), weight]
    };
    let turn = |x: &str, y: &str, perm: &[i64]| node("Transpose", &[x], y).with(ints("perm", perm));
    let convolution = node("QLinearConv", &["c", "s", "z", "w", "s", "z", "s", "z"], "r");
    let pool = node("QLinearGlobalAveragePool", &["c", "s", "z", "s", "z"], "r");
    for mut operator in [convolution, pool] {
        operator.domain = "com.microsoft".into();
        let first = vec![q("x", "s", "z", "c"), operator.clone(), dq("r", "s", "z", "y")];
        operator.input[0] = "cl".into();
        operator.output[0] = "rl".into();
        let last = vec![
            q("x", "s", "z", "c"),
            turn("c", "cl", &[0, 2, 3, 1]),
            operator.with(int("channels_last", 1)),
            turn("rl", "r", &[0, 3, 1, 2]),
            dq("r", "s", "z", "y"),
        ];
        assert_eq!(computed(&model(last, scales())), computed(&model(first, scales())));
    }
}
