//! Branches and sequences, which are resolved while a file is read.

use super::*;

fn int64(name: &str, data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|i| i.to_le_bytes()).collect();
    tensor(name, dt::INT64, &[data.len() as i64], raw)
}

fn branch(name: &str, op_type: &str) -> AttributeProto {
    let inside = format!("inside_{name}");
    let node = vec![node(op_type, &["x"], &inside)];
    let graph = GraphProto { node, output: vec![output(&inside)], ..GraphProto::default() };
    AttributeProto { g: Some(Box::new(graph)), r#type: at::GRAPH, i: None, ..int(name, 0) }
}

/// `x` has 4 rows: the condition is computed from it.
fn if_rows_are(rows: i64) -> ModelProto {
    let nodes = vec![
        node("Shape", &["x"], "shape").with(int("start", 2)).with(int("end", 3)),
        node("Equal", &["shape", "rows"], "condition"),
        node("If", &["condition"], "y")
            .with(branch("then_branch", "Sigmoid"))
            .with(branch("else_branch", "Relu")),
    ];
    model(nodes, vec![int64("rows", &[rows])])
}

fn at_opset(version: i64, mut model: ModelProto) -> ModelProto {
    model.opset_import = vec![opset("", version)];
    model
}

#[test]
fn a_constant_condition_chooses_a_branch() {
    for (rows, expected) in [(4, "Unary"), (5, "Clip")] {
        let read = read(&at_opset(15, if_rows_are(rows))).unwrap();
        let names: Vec<&str> = read.nodes.iter().map(|n| n.op.name()).collect();
        assert_eq!(names[0], expected);
        assert_eq!(read.values[read.outputs[0]].name, "y");
    }
    let open = edited(if_rows_are(4), |g| {
        g.node[2].input[0] = "x".into();
    });
    refused(&at_opset(15, open), "a condition that is no constant");
    let unknown = edited(if_rows_are(4), |g| g.node[2].attribute[0].name = "neither".into());
    refused(&at_opset(15, unknown), "attribute \"neither\"");
    let without = edited(if_rows_are(4), |g| drop(g.node[2].attribute.remove(0)));
    refused(&at_opset(15, without), "attribute \"then_branch\" is missing");
}

/// Two channels as a sequence, and joined in the other order.
#[test]
fn what_a_sequence_holds_is_known() {
    let list = |op_type: &str, inputs: &[&str]| node(op_type, inputs, "list").with(int("axis", 1));
    let joined = |made: NodeProto| {
        let nodes = vec![
            made,
            node("SequenceAt", &["list", "last"], "b"),
            node("SequenceAt", &["list", "first"], "a"),
            node("SequenceConstruct", &["b", "a"], "turned"),
            node("ConcatFromSequence", &["turned"], "y").with(int("axis", 1)),
        ];
        let scalar = |name: &str, i: i64| TensorProto { dims: vec![], ..int64(name, &[i]) };
        model(nodes, vec![scalar("first", 0), scalar("last", -1), int64("sizes", &[1, 1])])
    };
    for made in [list("SplitToSequence", &["x", "sizes"]), list("SplitToSequence", &["x"])] {
        let read = read(&joined(made)).unwrap();
        assert_eq!(read.values[read.outputs[0]].shape, [1, 2, 4, 4]);
        assert_eq!(read.nodes.last().unwrap().op.name(), "Concat");
    }
    let mut beyond = joined(list("SplitToSequence", &["x", "sizes"]));
    graph(&mut beyond).node[1].input[1] = "sizes".into();
    refused(&beyond, "expected one position");
    refused(
        &model(vec![node("ConcatFromSequence", &["x"], "y").with(int("axis", 0))], vec![]),
        "no sequence",
    );
    let mut used = joined(list("SplitToSequence", &["x", "sizes"]));
    graph(&mut used).node.push(node("Relu", &["list"], "z"));
    refused(&used, "input \"list\" is a sequence");
}

/// As many parts as an axis has positions are not made before they are counted.
#[test]
fn a_sequence_of_many_parts_is_refused() {
    let made = vec![node("SplitToSequence", &["x"], "list"), node("Relu", &["x"], "y")];
    let mut many = model(made, vec![]);
    graph(&mut many).input = vec![value("x", &[1 << 27])];
    refused(&many, "all of them are too large to compute");
}

/// A branch in a branch in a branch, a hundred thousand times.
#[test]
fn deep_branches_are_refused() {
    // From the inside, backwards: fields 1, node, 5, attribute, and 6, graph, of each; 7 of the model.
    let mut reversed: Vec<u8> = Vec::new();
    for field in [1u8, 6, 5].repeat(100_000).into_iter().chain([1, 7]) {
        let mut head = vec![field << 3 | 2];
        let mut len = reversed.len();
        while len >= 128 {
            head.push(len as u8 | 128);
            len >>= 7;
        }
        head.push(len as u8);
        reversed.extend(head.into_iter().rev());
    }
    reversed.reverse();
    let error = import(&reversed, None).unwrap_err().to_string();
    assert!(error.starts_with("not an ONNX model"), "{error}");
}
