//! A part of a model: what lies between some of its values.

use std::collections::{HashMap, HashSet};

use super::importer::ImportOptions;
use super::proto::{
    Dimension, DimensionValue, GraphProto, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, data_type as dt,
};
use crate::error::{Result, bail};

/// Makes the values that `options` names the inputs and outputs of `graph`, and drops what lies outside.
/// Returns the outputs that have another name in the file, each with that asked for.
pub(super) fn cut(
    graph: &mut GraphProto,
    options: &ImportOptions,
) -> Result<HashMap<String, String>> {
    let mut renamed = HashMap::new();
    if options.outputs.is_empty() && options.from.is_empty() {
        return Ok(renamed);
    }
    let producers: HashMap<&str, usize> = (graph.node.iter().enumerate())
        .flat_map(|(i, node)| node.output.iter().map(move |name| (name.as_str(), i)))
        .collect();
    let known = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
    let known: HashMap<&str, &ValueInfoProto> = known.map(|v| (v.name.as_str(), v)).collect();
    let is_input = |name: &str| graph.input.iter().any(|input| input.name == name);
    let mut outputs = Vec::new();
    for name in &options.outputs {
        if !producers.contains_key(name.as_str()) && !is_input(name) {
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
        if !producers.contains_key(name.as_str()) && !is_input(name) {
            bail!(Invalid, "the model has no value \"{name}\" to be its input");
        }
        inputs.push(match (options.shapes.get(name), known.get(name.as_str())) {
            (Some(shape), _) => of_shape(name, shape),
            (None, Some(&declared)) if declared.r#type.is_some() => declared.clone(),
            _ => bail!(Invalid, "the shape of \"{name}\" is not known: give it with --input-shape"),
        });
    }
    // Backwards from the outputs, as far as the new inputs.
    let mut needed = vec![false; graph.node.len()];
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open: Vec<&str> = outputs.iter().map(|v| v.name.as_str()).collect();
    while let Some(name) = open.pop() {
        if !seen.insert(name) || options.from.iter().any(|from| from == name) {
            continue;
        }
        let Some(&i) = producers.get(name) else { continue };
        if !std::mem::replace(&mut needed[i], true) {
            open.extend(graph.node[i].input.iter().map(String::as_str));
        }
    }
    if let Some(unread) = options.from.iter().find(|name| !seen.contains(name.as_str())) {
        bail!(Invalid, "no output depends on \"{unread}\"");
    }
    let old = graph
        .input
        .iter()
        .filter(|input| seen.contains(input.name.as_str()) && !options.from.contains(&input.name));
    inputs.extend(old.cloned());
    let mut needed = needed.into_iter();
    graph.node.retain(|_| needed.next() == Some(true));
    (graph.input, graph.output) = (inputs, outputs);
    let left: HashSet<String> = graph.node.iter().flat_map(|n| n.output.iter().cloned()).collect();
    graph.value_info.retain(|value| left.contains(&value.name));
    let inputs = graph.node.iter().flat_map(|n| &n.input).map(String::as_str);
    let read: HashSet<&str> = inputs.chain(graph.output.iter().map(|v| v.name.as_str())).collect();
    graph.initializer.retain(|tensor| read.contains(tensor.name.as_str()));
    Ok(renamed)
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

fn of_shape(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dims =
        shape.iter().map(|&size| Dimension { value: Some(DimensionValue::DimValue(size as i64)) });
    let shape = Some(TensorShapeProto { dim: dims.collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: dt::FLOAT, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}
