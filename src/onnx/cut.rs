//! A part of a model: what lies between some of its values.

use std::collections::{HashMap, HashSet};

use super::importer::ImportOptions;
use super::proto::{
    Dimension, DimensionValue, GraphProto, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, data_type as dt,
};
use crate::error::{Result, bail};

/// Makes the values that `options` names the inputs and outputs of `graph`, and drops what lies outside; shapes that
/// neither `options` nor the file tell are among `computed`. Returns the inputs and outputs that have another name in
/// the file, each with that asked for.
pub(super) fn cut(
    graph: &mut GraphProto,
    options: &ImportOptions,
    computed: &HashMap<String, ValueInfoProto>,
) -> Result<HashMap<String, String>> {
    let mut renamed = HashMap::new();
    if options.outputs.is_empty() && options.from.is_empty() {
        return Ok(renamed);
    }
    let known = declarations(graph);
    let activations = activations(graph);
    let mut outputs = Vec::new();
    for (at, name) in options.outputs.iter().enumerate() {
        if options.outputs[..at].contains(name) {
            bail!(Invalid, "the output \"{name}\" is named twice");
        }
        if !activations.contains(name.as_str()) {
            bail!(Invalid, "the model has no value \"{name}\" to be its output");
        }
        let real = dequantized(graph, name).unwrap_or(name);
        if real != name {
            renamed.insert(real.to_owned(), name.clone());
        }
        let declared = known.get(real).map(|&v| v.clone());
        outputs.push(declared.unwrap_or(ValueInfoProto { name: real.into(), r#type: None }));
    }
    if outputs.is_empty() {
        outputs.clone_from(&graph.output);
    }
    let mut inputs = Vec::new();
    for name in &options.from {
        if !activations.contains(name.as_str()) {
            bail!(Invalid, "the model has no value \"{name}\" to be its input");
        }
        let real = quantized(graph, name).filter(|raw| activations.contains(raw)).unwrap_or(name);
        if real != name {
            renamed.insert(real.to_owned(), name.clone());
        }
        let declared = computed.get(name).or(known.get(name.as_str()).copied());
        inputs.push(match (options.shapes.get(name), declared) {
            (Some(shape), _) => declaration(real, shape, false),
            (None, Some(declared)) if declared.r#type.is_some() => {
                ValueInfoProto { name: real.into(), ..declared.clone() }
            }
            _ => bail!(Invalid, "the shape of \"{name}\" is not known: give it with --input-shape"),
        });
    }
    let unread = keep(graph, inputs, outputs);
    match unread.first() {
        Some(unread) => {
            let name = renamed.get(unread).unwrap_or(unread);
            bail!(Invalid, "no output depends on \"{name}\"")
        }
        None => Ok(renamed),
    }
}

/// Those of the values that become inputs whose shape neither the file nor `options` tell.
pub(super) fn open_inputs(graph: &GraphProto, options: &ImportOptions) -> Vec<String> {
    let (known, activations) = (declarations(graph), activations(graph));
    let is_open = |name: &&String| {
        let declared = known.get(name.as_str()).and_then(|declared| shape_of(declared));
        let sizes = declared.is_some_and(|shape| {
            let is_size =
                |dim: &Dimension| matches!(dim.value, Some(DimensionValue::DimValue(1..)));
            shape.dim.iter().skip(1).all(is_size)
        });
        !sizes && activations.contains(name.as_str()) && !options.shapes.contains_key(*name)
    };
    options.from.iter().filter(is_open).cloned().collect()
}

/// Makes the values `names` the outputs of `graph`, computed from its inputs and those of `options` that are not among
/// them, as far as they are needed.
pub(super) fn before(graph: &mut GraphProto, names: &[String], options: &ImportOptions) {
    let known = declarations(graph);
    let inputs = options.from.iter().filter(|name| !names.contains(name)).filter_map(|name| {
        let declared = known.get(name.as_str()).map(|&declared| declared.clone());
        options.shapes.get(name).map(|shape| declaration(name, shape, false)).or(declared)
    });
    let outputs = names.iter().map(|name| {
        let name = quantized(graph, name).unwrap_or(name).into();
        ValueInfoProto { name, r#type: None }
    });
    let (inputs, outputs) = (inputs.collect(), outputs.collect());
    keep(graph, inputs, outputs);
}

/// Makes these the outputs of `graph`, and these its inputs beside those of its own that are needed; what is not needed
/// is dropped. Returns the names of inputs that are not, either.
fn keep(
    graph: &mut GraphProto,
    mut inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
) -> Vec<String> {
    let from: HashSet<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let producers: HashMap<&str, usize> = (graph.node.iter().enumerate())
        .flat_map(|(i, node)| node.output.iter().map(move |name| (name.as_str(), i)))
        .collect();
    // Backwards from the outputs, as far as the new inputs.
    let mut needed = vec![false; graph.node.len()];
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open: Vec<&str> = outputs.iter().map(|v| v.name.as_str()).collect();
    while let Some(name) = open.pop() {
        if !seen.insert(name) || from.contains(name) {
            continue;
        }
        let Some(&i) = producers.get(name) else { continue };
        if !std::mem::replace(&mut needed[i], true) {
            open.extend(graph.node[i].input.iter().map(String::as_str));
        }
    }
    let unread =
        inputs.iter().map(|input| &input.name).filter(|name| !seen.contains(name.as_str()));
    let unread = unread.cloned().collect();
    let old = graph
        .input
        .iter()
        .filter(|input| seen.contains(input.name.as_str()) && !from.contains(&input.name));
    inputs.extend(old.cloned());
    let mut needed = needed.into_iter();
    graph.node.retain(|_| needed.next() == Some(true));
    (graph.input, graph.output) = (inputs, outputs);
    let left: HashSet<String> = graph.node.iter().flat_map(|n| n.output.iter().cloned()).collect();
    graph.value_info.retain(|value| left.contains(&value.name));
    let inputs = graph.node.iter().flat_map(|n| &n.input).map(String::as_str);
    let read: HashSet<&str> = inputs.chain(graph.output.iter().map(|v| v.name.as_str())).collect();
    graph.initializer.retain(|tensor| read.contains(tensor.name.as_str()));
    unread
}

/// What the file says of values, by their names.
fn declarations(graph: &GraphProto) -> HashMap<&str, &ValueInfoProto> {
    let known = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
    known.map(|v| (v.name.as_str(), v)).collect()
}

/// What is an input or computed.
fn activations(graph: &GraphProto) -> HashSet<&str> {
    let computed = graph.node.iter().flat_map(|node| &node.output);
    computed.chain(graph.input.iter().map(|input| &input.name)).map(String::as_str).collect()
}

fn shape_of(declared: &ValueInfoProto) -> Option<&TensorShapeProto> {
    declared.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()
}

/// What `name` is made of by QuantizeLinear and DequantizeLinear.
fn quantized<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a str> {
    let argument = |op_type: &str, name: &str| -> Option<&'a str> {
        let made = |n: &&NodeProto| n.op_type == op_type && n.output.iter().any(|y| y == name);
        graph.node.iter().find(made)?.input.first().map(String::as_str)
    };
    argument("QuantizeLinear", argument("DequantizeLinear", name)?)
}

/// What the file makes of `name` by QuantizeLinear and DequantizeLinear.
fn dequantized<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a str> {
    // It has codes already, where others may be made of them.
    let is_made =
        |n: &NodeProto| n.op_type == "DequantizeLinear" && n.output.iter().any(|y| y == name);
    if graph.node.iter().any(is_made) {
        return None;
    }
    let reader = |op_type: &str, name: &str| -> Option<&'a NodeProto> {
        graph
            .node
            .iter()
            .find(|n| n.op_type == op_type && n.input.first().is_some_and(|x| x == name))
    };
    let codes = reader("QuantizeLinear", name)?.output.first()?;
    reader("DequantizeLinear", codes)?.output.first().map(String::as_str)
}

/// A real value of this shape, the first axis open with `any_batch`.
pub(super) fn declaration(name: &str, shape: &[usize], any_batch: bool) -> ValueInfoProto {
    let size = |(axis, &size): (usize, &usize)| match axis == 0 && any_batch {
        true => DimensionValue::DimParam("N".into()),
        false => DimensionValue::DimValue(size as i64),
    };
    let dim = |sized| Dimension { value: Some(size(sized)) };
    let shape = Some(TensorShapeProto { dim: shape.iter().enumerate().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: dt::FLOAT, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}
