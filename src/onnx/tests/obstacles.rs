//! All that stops a network is told at once.

use super::*;

#[track_caller]
fn told(model: &ModelProto, expected: &[&str]) -> String {
    let error = read(model).unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    error
}

fn chain(nodes: Vec<NodeProto>) -> ModelProto {
    model(nodes, vec![])
}

#[test]
fn what_is_unknown_hides_nothing_behind_it() {
    let several = chain(vec![
        node("Unheard", &["x"], "a"),
        node("Relu", &["a"], "b"),
        node("Loop", &["b"], "c"),
        node("Unheard", &["c"], "d"),
        node("Relu", &["x", "d"], "e"),
        node("Relu", &["e"], "y"),
    ]);
    let error = told(
        &several,
        &[
            "in node \"a_node\" (Unheard): unsupported: operator type \"Unheard\", and in 1 more node",
            "; in node \"c_node\" (Loop): unsupported: operator type \"Loop\"",
            "; in node \"e_node\" (Relu): input \"d\" is one too many",
        ],
    );
    assert!(!error.contains("never computed"), "{error}");
}

/// Where nothing is known of what comes out of a node, it is known all the same that it is no constant.
#[test]
fn what_is_known_of_constants_only_is_told_behind_what_is_unknown() {
    let behind = model(
        vec![
            node("Unheard", &["x"], "a"),
            node("Shape", &["a"], "s"),
            node("Cast", &["s"], "t").with(int("to", dt::INT64.into())),
            node("Relu", &["a"], "b"),
            node("TopK", &["b", "k"], "c"),
            node("Trilu", &["c"], "d"),
            node("Tan", &["d"], "y"),
        ],
        vec![tensor("k", dt::INT64, &[1], 2i64.to_le_bytes().to_vec())],
    );
    let error =
        told(&behind, &["type \"Unheard\"", "type \"TopK\"", "type \"Trilu\"", "type \"Tan\""]);
    assert_eq!(error.matches("operator type").count(), 4, "{error}");
}

/// Types of inputs, parts of the file and outputs that are not known hide no node.
#[test]
fn types_and_parts_that_are_unknown_hide_nothing() {
    for (data_type, name) in [(dt::DOUBLE, "double"), (dt::BOOL, "bool"), (dt::UINT16, "uint16")] {
        let mut file = chain(vec![
            node("Cast", &["x"], "r").with(int("to", dt::FLOAT.into())),
            node("Unheard", &["r"], "a"),
            node("Flatten", &["r"], "y").with(int("axis", 7)),
        ]);
        let input = graph(&mut file).input[0].r#type.as_mut().unwrap();
        input.tensor_type.as_mut().unwrap().elem_type = data_type;
        let made = format!("input \"x\" is made of {name}");
        told(&file, &[&made, "\"Unheard\"", "(Flatten): axis 7"]);
    }
    let mut file = chain(vec![node("Unheard", &["x"], "y")]);
    file.training_info = vec![Default::default()];
    graph(&mut file).output.push(value("z", &[1]));
    told(&file, &["information for training", "\"Unheard\"", "output \"z\" is never computed"]);
}

/// Where the file says what comes out, the rest is looked at with it.
#[test]
fn shapes_in_the_file_go_on_where_a_node_stops() {
    let mut model = chain(vec![
        node("Unheard", &["x"], "a"),
        node("Flatten", &["a"], "b").with(int("axis", 7)),
        node("Relu", &["b"], "y"),
    ]);
    told(&model, &["\"Unheard\""]);
    assert!(!told(&model, &[]).contains("axis 7"));
    graph(&mut model).value_info = vec![value("a", &[1, 2, 4, 4])];
    told(&model, &["\"Unheard\"", "(Flatten): axis 7"]);
}

#[test]
fn open_axes_and_unknown_tensors_hide_nothing() {
    let mut open = chain(vec![
        node("MaxPool", &["x"], "a").with(ints("kernel_shape", &[300, 300])),
        node("Unheard", &["a"], "y"),
    ]);
    let graph = graph(&mut open);
    graph.initializer = vec![tensor("text", 8, &[1], vec![0])];
    let dims = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    for axis in [2, 3] {
        let name = DimensionValue::DimParam("size".into());
        dims.shape.as_mut().unwrap().dim[axis].value = Some(name);
    }
    let error = told(
        &open,
        &["tensor \"text\" is made of string", "axis 2 of input \"x\" is open", "\"Unheard\""],
    );
    // 640 pixels are enough for this pool.
    assert!(!error.contains("MaxPool"), "{error}");
}

/// The text stays short, and says how many there are.
#[test]
fn the_list_is_bounded() {
    let unknown = |i: usize| node(&format!("Unheard{i}"), &["x"], &format!("v{i}"));
    let mut many = chain((0..300).map(unknown).collect());
    graph(&mut many).node[299].output = vec!["y".into()];
    let error = told(&many, &["\"Unheard0\"", "; and "]);
    assert!(error.ends_with(" others") && error.len() < 2000, "{error}");
    let listed = error.matches("in node").count();
    assert!(error.contains(&format!("and {} others", 300 - listed)), "{error}");
}
