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
        (&["c"], &[], "Unheard"),
    ] {
        let message = cut(&model, outputs, from).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
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
