//! Parts of a model.

use super::*;

fn cut(model: &ModelProto, outputs: &[&str], from: &[&str]) -> crate::error::Result<Graph> {
    let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    let options =
        ImportOptions { outputs: names(outputs), from: names(from), ..ImportOptions::default() };
    import_with(&model.encode_to_vec(), None, &options)
}

fn names(graph: &Graph, values: &[usize]) -> Vec<String> {
    values.iter().map(|&v| graph.values[v].name.clone()).collect()
}

/// What nobody knows how to compute may lie outside.
#[test]
fn what_lies_outside_is_not_read() {
    let nodes = vec![
        node("Unheard", &["x"], "a"),
        node("Relu", &["a"], "b"),
        node("Sigmoid", &["b"], "c"),
        node("Unheard", &["c"], "y"),
    ];
    let mut model = model(nodes, vec![]);
    model.graph.as_mut().unwrap().value_info.push(value("a", &[1, 3]));
    for (outputs, from, input, count) in
        [(&["c"][..], &["a"][..], "a", 2), (&["b", "c"], &["a"], "a", 2), (&["b"], &["a"], "a", 1)]
    {
        let graph = cut(&model, outputs, from).unwrap();
        assert_eq!(names(&graph, &graph.inputs), [input]);
        assert_eq!(names(&graph, &graph.outputs), outputs);
        assert_eq!(graph.nodes.len(), count);
        assert_eq!(graph.values[graph.inputs[0]].shape, [1, 3]);
    }
    for (outputs, from, expected) in [
        (&["z"][..], &[][..], "the model has no value \"z\" to be its output"),
        (&["c"], &["z"], "the model has no value \"z\" to be its input"),
        (&["c"], &["b"], "the shape of \"b\" is not known: give it with --input-shape"),
        (&["b"], &["a", "x"], "no output depends on \"x\""),
        (&["c", "c"], &[], "the output \"c\" is named twice"),
        (&["c"], &[], "Unheard"),
    ] {
        let message = cut(&model, outputs, from).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

/// The file says no shape of what lies inside: it follows from the inputs.
#[test]
fn shapes_of_new_inputs_are_computed() {
    const SHAPE: &[usize] = &[1, 2, 4, 4];
    let shapes = |entries: &[(&str, &[usize])]| {
        entries.iter().map(|&(name, shape)| (name.into(), shape.to_vec())).collect::<InputShapes>()
    };
    let nodes = vec![
        node("Relu", &["x"], "a"),
        node("Concat", &["a", "a"], "b").with(int("axis", 1)),
        node("Add", &["a", "other"], "c"),
        node("Concat", &["b", "c"], "y").with(int("axis", 1)),
    ];
    let mut model = model(nodes, vec![]);
    model.graph.as_mut().unwrap().input.push(value("other", &[1, 2, 4, 4]));
    for (from, given, expected) in [
        (&["b"][..], &[][..], &[("b", &[1, 4, 4, 4][..]), ("x", SHAPE), ("other", SHAPE)][..]),
        (&["b", "c"], &[], &[("b", &[1, 4, 4, 4]), ("c", SHAPE)]),
        (&["b", "c"], &[("b", &[1, 5, 4, 4][..])], &[("b", &[1, 5, 4, 4]), ("c", SHAPE)]),
        (&["a", "c"], &[], &[("a", SHAPE), ("c", SHAPE)]),
    ] {
        let from = from.iter().map(|&name| name.into()).collect();
        let options = ImportOptions { from, ..shapes(given).into() };
        let graph = import_with(&model.encode_to_vec(), None, &options).unwrap();
        let inputs = graph.inputs.iter().map(|&v| &graph.values[v]);
        let inputs: Vec<_> = inputs.map(|v| (v.name.as_str(), &v.shape[..])).collect();
        assert_eq!(inputs, expected);
    }
}

/// The value that the float file calls so, before its codes, and the one behind them.
#[test]
fn a_quantized_value_is_an_input_by_either_name() {
    let q = |x: &str, y: &str| node("QuantizeLinear", &[x, "scale", "zero"], y);
    let dq = |x: &str, y: &str| node("DequantizeLinear", &[x, "scale", "zero"], y);
    let nodes = vec![
        q("x", "x8"),
        dq("x8", "xd"),
        node("Relu", &["xd"], "r"),
        q("r", "r8"),
        dq("r8", "rd"),
        node("Sigmoid", &["rd"], "s"),
        q("s", "s8"),
        dq("s8", "y"),
    ];
    let model = model(nodes, vec![real("scale", &[], &[0.5]), int8("zero", &[], &[3])]);
    let given: InputShapes = [("r".into(), vec![1, 2, 4, 4])].into();
    for name in ["r", "rd"] {
        let part = cut(&model, &[], &[name]).unwrap();
        assert_eq!(names(&part, &part.inputs), [name]);
        assert!(part.values[part.inputs[0]].quant.is_some(), "{name}");
        assert_eq!(
            (part.nodes.len(), &part.values[part.inputs[0]].shape[..]),
            (1, &[1, 2, 4, 4][..])
        );
    }
    let options = ImportOptions { from: vec!["r".into()], ..given.into() };
    assert_eq!(import_with(&model.encode_to_vec(), None, &options).unwrap().inputs.len(), 1);
}

/// A value of a quantized file has its codes, and the name that was asked for.
#[test]
fn a_quantized_value_is_an_output_with_its_codes() {
    let graph = cut(&qdq(), &[], &[]).unwrap();
    let inside = graph.nodes[0].output;
    let name = graph.values[inside].name.clone();
    let part = cut(&qdq(), &[&name], &[]).unwrap();
    assert_eq!(names(&part, &part.outputs), [name]);
    assert_eq!(part.values[part.outputs[0]].quant, graph.values[inside].quant);
}

/// A value that has codes is not that of the codes which are made of it.
#[test]
fn codes_made_of_codes_are_other_values() {
    let int8 = |name: &str, zero: i8| tensor(name, dt::INT8, &[], vec![zero as u8]);
    let nodes = vec![
        node("QuantizeLinear", &["x", "fine", "zero"], "x8"),
        node("DequantizeLinear", &["x8", "fine", "zero"], "xd"),
        node("QuantizeLinear", &["xd", "coarse", "zero"], "c8"),
        node("DequantizeLinear", &["c8", "coarse", "zero"], "cd"),
        node("Relu", &["cd"], "r"),
        node("QuantizeLinear", &["r", "coarse", "zero"], "r8"),
        node("DequantizeLinear", &["r8", "coarse", "zero"], "y"),
    ];
    let scales = vec![real("fine", &[], &[0.01]), real("coarse", &[], &[0.5]), int8("zero", 0)];
    let model = model(nodes, scales);
    for (name, scale) in [("xd", 0.01), ("cd", 0.5), ("r", 0.5)] {
        let part = cut(&model, &[name], &[]).unwrap();
        let output = &part.values[part.outputs[0]];
        assert_eq!(output.quant.as_ref().unwrap().scale, [scale], "{name}");
    }
}

/// Constants that are no numbers have no codes.
#[test]
fn what_is_no_number_has_no_codes() {
    for bad in [f32::NAN, f32::INFINITY] {
        let nodes = vec![
            node("QuantizeLinear", &["w", "scale"], "w8"),
            node("DequantizeLinear", &["w8", "scale"], "wd"),
            node("Add", &["x", "wd"], "y"),
        ];
        let initializers = vec![real("w", &[1], &[bad]), real("scale", &[], &[0.5])];
        refused(&model(nodes, initializers), &format!("constant \"w\" holds {bad}"));
    }
}
