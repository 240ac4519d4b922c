//! What a file says and an importer could pass over: each is refused, with the name of it.

use super::*;

fn float(name: &str, data: &[f32]) -> TensorProto {
    real(name, &[data.len() as i64], data)
}

fn int64(name: &str, data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|i| i.to_le_bytes()).collect();
    tensor(name, dt::INT64, &[data.len() as i64], raw)
}

fn relu() -> ModelProto {
    model(vec![node("Relu", &["x"], "y")], vec![])
}

/// Every type of every version takes as many inputs as it has, and not one more, whoever imports it.
#[test]
fn an_input_beyond_the_last_one() {
    let types = imported_types();
    for op_type in types {
        for version in 7..=28 {
            let inputs = signature::inputs(op_type, version).expect(op_type);
            let Some(count) = inputs.end().checked_add(1) else { continue };
            let mut names = vec!["x"; count];
            names[count - 1] = "more";
            let mut surplus = model(vec![node(op_type, &names, "y")], vec![float("more", &[1.0])]);
            if op_type.starts_with("QG") || op_type.starts_with("QL") {
                graph(&mut surplus).node[0].domain = "com.microsoft".into();
            }
            surplus.opset_import = vec![opset("", version)];
            refused(&surplus, "input \"more\" is one too many");
        }
    }
    let mut two = relu();
    graph(&mut two).node[0].output.push("z".into());
    refused(&two, "output \"z\" is one too many");
}

/// Scale and bias of a normalization that are no real constants.
#[test]
fn affine_parts() {
    let layer = |inputs: &[&str], constants| {
        let mut model = model(vec![node("LayerNormalization", inputs, "y")], constants);
        model.opset_import = vec![opset("", 17)];
        model
    };
    let integers = || int64("s", &[3; 4]);
    refused(&layer(&["x"], vec![]), "expected at least 2 inputs, got 1");
    refused(&layer(&["x", "s"], vec![integers()]), "input \"s\" is made of integers");
    let bias = vec![float("s", &[1.0; 4]), int64("b", &[1; 4])];
    refused(&layer(&["x", "s", "b"], bias), "input \"b\" is made of integers");
    for op_type in ["InstanceNormalization", "BatchNormalization"] {
        let all = ["x", "s", "b", "b", "b"];
        let inputs = &all[..*signature::inputs(op_type, 13).unwrap().end()];
        let constants = vec![int64("s", &[3; 2]), float("b", &[1.0; 2])];
        let integers = model(vec![node(op_type, inputs, "y")], constants);
        refused(&integers, "input \"s\" is made of integers");
    }
}

/// An edit of a model, and what is said of it.
type Case<T> = (fn(&mut T), &'static str);

#[test]
fn numbers_given_twice_or_elsewhere() {
    let cases: [Case<TensorProto>; 12] = [
        (|t| t.float_data = vec![9.0; 4], "\"w\" has both raw_data and float_data"),
        (|t| t.int32_data = vec![9; 4], "\"w\" has both raw_data and int32_data"),
        (|t| t.data_location = 1, "\"w\" has both external data and raw_data"),
        (
            |t| {
                t.external_data.push(StringStringEntryProto::default());
            },
            "tensor \"w\" has external data, and says that it has none",
        ),
        (|t| t.segment = Some(Default::default()), "tensor \"w\" is a segment of another"),
        (
            |t| (t.raw_data, t.double_data) = (None, vec![9.0; 4]),
            "tensor \"w\" is made of float, but has double_data",
        ),
        (
            |t| (t.raw_data, t.int64_data) = (None, vec![9; 4]),
            "tensor \"w\" is made of float, but has int64_data",
        ),
        (
            |t| (t.raw_data, t.uint64_data) = (None, vec![9; 4]),
            "tensor \"w\" is made of float, but has uint64_data",
        ),
        (
            |t| (t.raw_data, t.string_data) = (None, vec![Default::default(); 4]),
            "tensor \"w\" is made of float, but has string_data",
        ),
        (
            |t| (t.raw_data, t.data_type, t.float_data) = (None, dt::INT8, vec![9.0; 4]),
            "tensor \"w\" is made of int8, but has float_data",
        ),
        (
            |t| {
                t.raw_data = None;
                (t.float_data, t.double_data) = (vec![1.0; 4], vec![1.0; 4]);
            },
            "tensor \"w\" has both float_data and double_data",
        ),
        (|t| t.dims = vec![1 << 32, 1 << 32, 1, 1], "tensor \"w\" of shape [4294967296, 42949672"),
    ];
    for (edit, expected) in cases {
        let model = edited(conv(vec![]), |g| edit(&mut g.initializer[0]));
        refused(&model, expected);
    }
}

#[test]
fn parts_of_the_model() {
    let cases: [Case<ModelProto>; 8] = [
        (|m| m.functions.push(Default::default()), "functions of the model's own"),
        (|m| m.training_info.push(Default::default()), "information for training"),
        (|m| graph(m).sparse_initializer.push(Default::default()), "sparse initializers"),
        (|m| graph(m).node[0].overload = "v2".into(), "(Conv): unsupported: overload \"v2\""),
        (
            |m| m.opset_import.push(opset("ai.onnx", 9)),
            "two operator sets of domain \"\": 13 and 9",
        ),
        (
            |m| m.opset_import.extend([opset("ai.onnx.ml", 1), opset("ai.onnx.ml", 2)]),
            "two operator sets of domain \"ai.onnx.ml\": 1 and 2",
        ),
        (|m| m.ir_version = Some(99), "IR version 99, expected 1 to 14"),
        (|m| m.ir_version = Some(0), "IR version 0, expected 1 to 14"),
    ];
    for (edit, expected) in cases {
        let mut model = conv(vec![]);
        edit(&mut model);
        refused(&model, expected);
    }
    for ir_version in (1..=14).map(Some).chain([None]) {
        read(&ModelProto { ir_version, ..relu() }).unwrap();
    }
    let same = ModelProto { opset_import: vec![opset("", 13), opset("ai.onnx", 13)], ..relu() };
    read(&same).unwrap();
}

/// Types and shapes that the file gives values, in each of the places where it does so.
#[test]
fn declarations_that_contradict() {
    let typed = |name: &str, data_type, dims: &[i64]| {
        let mut info = value(name, dims);
        info.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = data_type;
        info
    };
    let open = |name: &str, sizes: &[Option<i64>]| {
        let mut info = value(name, &vec![0; sizes.len()]);
        let tensor = info.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        for (dim, size) in tensor.shape.as_mut().unwrap().dim.iter_mut().zip(sizes) {
            dim.value = Some(match size {
                Some(size) => DimensionValue::DimValue(*size),
                None => DimensionValue::DimParam("n".into()),
            });
        }
        info
    };
    let chain = || {
        let nodes = vec![
            node("Shape", &["x"], "s"),
            node("Relu", &["x"], "a"),
            node("Reshape", &["a", "s"], "b"),
            node("Add", &["b", "w"], "y"),
        ];
        model(nodes, vec![real("w", &[1], &[1.0])])
    };
    let wrong = [
        (value("y", &[99]), "\"y\" is declared as [99], but is [1, 2, 4, 4]"),
        (value("a", &[1, 2, 5, 4]), "\"a\" is declared as [1, 2, 5, 4], but is [1, 2, 4, 4]"),
        (open("a", &[None, Some(3), None, None]), "\"a\" is declared as [n, 3, n, n], but is"),
        (value("a", &[]), "\"a\" is declared as [], but is [1, 2, 4, 4]"),
        (typed("y", dt::INT8, &[1, 2, 4, 4]), "\"y\" is declared as int8, but is not"),
        (typed("s", dt::FLOAT, &[4]), "\"s\" is declared as float, but is not"),
        (typed("s", dt::INT64, &[3]), "\"s\" is declared as [3], but is [4]"),
        (typed("w", dt::INT32, &[1]), "\"w\" is declared as int32, but is not"),
        (value("w", &[2]), "\"w\" is declared as [2], but is [1]"),
        (
            ValueInfoProto { name: "a".into(), r#type: Some(TypeProto { tensor_type: None }) },
            "\"a\" is a tensor, but not declared as one",
        ),
    ];
    for (info, expected) in wrong {
        refused(&edited(chain(), |g| g.value_info.push(info.clone())), expected);
        if info.name == "y" {
            refused(&edited(chain(), |g| g.output[0] = info), expected);
        }
    }
    let right = [
        value("a", &[1, 2, 4, 4]),
        typed("s", dt::INT64, &[4]),
        open("b", &[None, Some(2), None, Some(4)]),
        value("b", &[-1, 2, 4, 4]),
        // Left by a tool that has changed the batch of the inputs, and a size that is not known.
        value("a", &[5, 2, 4, 4]),
        value("b", &[0, 2, 0, 4]),
        output("y"),
        value("removed by an optimizer", &[7]),
    ];
    let all = edited(chain(), |g| g.value_info = right.to_vec());
    read(&all).unwrap();
    let batch_of_output = edited(chain(), |g| g.output[0] = value("y", &[5, 2, 4, 4]));
    refused(&batch_of_output, "\"y\" is declared as [5, 2, 4, 4], but is [1, 2, 4, 4]");
    // With an open batch the sizes in the file are those of some run.
    let batch = |axes: &[Option<i64>], shapes: &[(&str, &[usize])]| {
        let model = edited(chain(), |g| {
            g.input[0] = open("x", axes);
            g.value_info = vec![value("a", &[64, 2, 4, 4])];
        });
        let shapes = shapes.iter().map(|&(name, shape)| (name.to_string(), shape.to_vec()));
        import_with(&model.encode_to_vec(), None, &shapes.collect::<InputShapes>().into())
    };
    batch(&[None, Some(2), Some(4), Some(4)], &[]).unwrap();
    batch(&[None, Some(2), Some(4), None], &[("x", &[3, 2, 4, 6])]).unwrap();
    let error = batch(&[None, Some(3), Some(4), Some(4)], &[]).unwrap_err().to_string();
    assert!(error.contains("\"a\" is declared as [64, 2, 4, 4], but is [1, 3, 4, 4]"), "{error}");
}

#[test]
fn attributes_that_hold_something_else() {
    let group = |edit: fn(&mut AttributeProto)| {
        let mut attribute = int("group", 1);
        edit(&mut attribute);
        conv(vec![attribute])
    };
    read(&group(|a| (a.f, a.s) = (Some(0.0), Some(vec![])))).unwrap();
    let cases: [fn(&mut AttributeProto); 4] = [
        |a| a.f = Some(2.0),
        |a| a.s = Some(b"x".to_vec()),
        |a| a.ints = vec![2],
        |a| a.t = Some(Default::default()),
    ];
    for edit in cases {
        refused(&group(edit), "attribute \"group\" holds something of another type");
    }
    for (op_type, name) in [("ReduceMean", "keepdims"), ("ArgMax", "keepdims")] {
        let seven = pool(op_type, vec![int(name, 7)]);
        refused(&seven, &format!("attribute \"{name}\": expected 0 or 1, got 7"));
    }
}

/// Each operator says which attributes it knows by taking them: any other one is left over.
#[test]
fn an_attribute_of_another_operator() {
    let mut read_without = 0;
    for op_type in imported_types() {
        let names = vec!["x"; *signature::inputs(op_type, 13).unwrap().start()];
        let plain = model(vec![node(op_type, &names, "y")], vec![]);
        if read(&plain).is_ok() {
            let other = edited(plain, |g| g.node[0].attribute.push(int("none_of_them", 1)));
            refused(&other, "attribute \"none_of_them\"");
            read_without += 1;
        }
    }
    assert!(read_without > 30, "{read_without}");
}

#[test]
fn what_a_file_says_about_itself_survives() {
    let mut model = relu();
    for (key, value) in [("their.key", "a"), (PREPROCESS, "{}")] {
        let (key, value) = (key.into(), value.into());
        model.metadata_props.push(StringStringEntryProto { key, value });
    }
    let graph = import(&model.encode_to_vec(), None).unwrap();
    assert_eq!(graph.metadata["their.key"], "a");
    let written = export(&graph);
    assert_eq!(import(&written, None).unwrap().metadata, graph.metadata);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, written).unwrap();
    assert_eq!(metadata(&path).unwrap(), graph.metadata);
    let many = StringStringEntryProto { key: "k".into(), value: "v".into() };
    let model = ModelProto { metadata_props: vec![many; 800_000], ..model };
    refused(&model, "a model of more than 2097152 parts");
}
