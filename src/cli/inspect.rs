//! `naive-ptq inspect`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use naive_ptq::analyze::without_integer_form;
use naive_ptq::emit::{self, C, Rust, Target};
use naive_ptq::graph::Graph;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::onnx;
use naive_ptq::quant::{Preset, QuantParams, Scheme};
use naive_ptq::quantize::prepare;
use naive_ptq::text::printable;
use serde_json::{Value, json};

use crate::args::ShapeArgs;
use crate::table::Table;

/// Show what a model file holds: nodes, shapes, parameters, multiply-accumulates; for a quantized
/// model also scales, bits and accumulator bounds
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  naive-ptq inspect float.onnx
  naive-ptq inspect int8.onnx --json")]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut graph = match onnx::load_with(&args.model, &args.shapes.shapes(None)?) {
        Ok(graph) => graph,
        Err(error) => bail!("{error}{}", unknown(&args.model)),
    };
    let integer = match graph.has_codes() {
        true => {
            prepare(&mut graph)?;
            Some(lower(&graph)?)
        }
        false => None,
    };
    if args.json {
        say!("{:#}", to_json(&graph, integer.as_ref())?);
    } else {
        say!("{}", to_text(&graph, integer.as_ref())?);
    }
    Ok(ExitCode::SUCCESS)
}

/// All operator types that are not known: an import stops at the first one.
fn unknown(model: &Path) -> String {
    let types = std::fs::read(model).map(|bytes| onnx::unknown_types(&bytes)).unwrap_or_default();
    let types: Vec<String> =
        types.iter().map(|(name, n)| format!("{} ({n} nodes)", printable(name))).collect();
    match types[..] {
        [] => String::new(),
        _ => format!("\noperator types that are not supported: {}", types.join(", ")),
    }
}

/// The network as it is executed, with batch norms folded and ReLUs fused.
fn prepared(graph: &Graph) -> anyhow::Result<Graph> {
    let mut prepared = graph.clone();
    prepare(&mut prepared)?;
    Ok(prepared)
}

/// What can be deployed, and what it takes. The engine, C and Rust take the same nodes.
struct Targets {
    /// Nodes that none of them takes, with the reason.
    refused: Vec<(String, String)>,
    nodes: usize,
    /// RAM in C and Rust, and constants, in bytes, of a quantized network.
    bytes: Option<[usize; 3]>,
}

impl Targets {
    fn new(prepared: &Graph, integer: Option<&IntGraph>) -> Self {
        let scheme = Scheme::new(Preset::Scale, true);
        let refused = match integer {
            Some(_) => vec![],
            None => without_integer_form(prepared, scheme),
        };
        let bytes =
            integer.map(|g| [C.memory(g).size, Rust.memory(g).size, emit::constant_bytes(g)]);
        Self { refused, nodes: prepared.nodes.len(), bytes }
    }

    fn text(&self) -> String {
        let mut text = match self.refused.len() {
            0 => format!("\nengine, C and Rust take all {} nodes", self.nodes),
            n => format!("\nengine, C and Rust do not take {n} of {} nodes:", self.nodes),
        };
        self.refused.iter().for_each(|(_, reason)| text += &format!("\n  {reason}"));
        if let Some([c, rust, constants]) = self.bytes {
            text += &format!("\nRAM {c} bytes in C, {rust} in Rust; constants {constants} bytes");
        }
        text
    }
}

fn to_text(graph: &Graph, integer: Option<&IntGraph>) -> anyhow::Result<String> {
    let mut text = format!("network \"{}\"", printable(&graph.name));
    for (what, values) in [("input ", &graph.inputs), ("output", &graph.outputs)] {
        for &v in values {
            let value = &graph.values[v];
            text += &format!("\n{what} \"{}\" {}", printable(&value.name), shape(&value.shape));
        }
    }
    let macs: u64 = graph.nodes.iter().map(|n| graph.macs(n)).sum();
    let (nodes_count, parameters) = (graph.nodes.len(), graph.parameters());
    text += &format!("\n{nodes_count} nodes, {parameters} parameters, {macs} MACs");
    let prepared = prepared(graph)?;
    let live = prepared.peak_live_elements();
    text += &format!("\n{live} activation codes are live at one time");
    text += &Targets::new(&prepared, integer).text();
    text += "\n\n";
    let Some(integer) = integer else {
        return Ok(text + &nodes(graph).to_string());
    };
    text += &int_nodes(graph, integer).to_string();
    if let Some(widest) = integer.widest_accumulator() {
        let (node, bound, bits) = (widest.node, widest.bound, widest.bits());
        let share = bound as f64 / 2f64.powi(bits as i32 - 1);
        text += &format!(
            "\nlargest accumulator: ±{bound} in \"{}\", {share:.4} of the limit of {bits} bits\n",
            printable(node)
        );
    }
    Ok(text)
}

/// The table of a float network.
pub fn nodes(graph: &Graph) -> Table {
    let mut table = Table::new(&["node", "operator", "output", "parameters", "MACs"]);
    for node in &graph.nodes {
        let constants = node.inputs.iter().filter_map(|&v| graph.values[v].constant.as_ref());
        let parameters: usize = constants.map(|c| c.shape().iter().product::<usize>()).sum();
        table.row([
            node.name.clone(),
            node.op.name().to_string(),
            shape(&graph.values[node.output].shape),
            parameters.to_string(),
            graph.macs(node).to_string(),
        ]);
    }
    table
}

/// The table of a quantized network.
fn int_nodes(graph: &Graph, integer: &IntGraph) -> Table {
    let mut table = Table::new(&[
        "node",
        "operator",
        "output",
        "scale",
        "zero",
        "weight scale",
        "MACs",
        "|acc| bound",
    ]);
    for &input in &integer.inputs {
        let value = &integer.values[input];
        let (scale, zero) = (text_scale(&value.quant), value.quant.zero_point.to_string());
        table.row([value.name.clone(), "input".into(), shape(&value.shape), scale, zero]);
    }
    for node in &integer.nodes {
        let value = &integer.values[node.output];
        let original = graph.nodes.iter().find(|n| n.name == node.name);
        let weight = original.and_then(|n| graph.values[*n.inputs.get(1)?].quant.as_ref());
        table.row([
            node.name.clone(),
            node.op.name().to_string(),
            shape(&value.shape),
            text_scale(&value.quant),
            value.quant.zero_point.to_string(),
            weight.map(text_scale).unwrap_or_default(),
            original.map(|n| graph.macs(n)).unwrap_or_default().to_string(),
            node.op.acc_bound().map(|b| b.to_string()).unwrap_or_default(),
        ]);
    }
    table
}

fn text_scale(quant: &QuantParams) -> String {
    let one = |scale: f32| match scale.log2() {
        power if power == power.round() => format!("2^{power}"),
        _ => format!("{scale:.4e}"),
    };
    let lo = quant.scale.iter().copied().fold(f32::INFINITY, f32::min);
    let hi = quant.scale.iter().copied().fold(0.0, f32::max);
    if lo == hi { one(lo) } else { format!("{}..{}", one(lo), one(hi)) }
}

fn shape(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn to_json(graph: &Graph, integer: Option<&IntGraph>) -> anyhow::Result<Value> {
    let value = |v: usize| {
        let value = &graph.values[v];
        json!({"name": value.name, "shape": value.shape, "quant": value.quant.as_ref().map(quant)})
    };
    let nodes = graph.nodes.iter().map(|node| {
        let lowered = integer.and_then(|g| g.nodes.iter().find(|n| n.name == node.name));
        json!({
            "name": node.name, "operator": node.op.name(), "macs": graph.macs(node),
            "inputs": node.inputs.iter().map(|&v| value(v)).collect::<Vec<_>>(),
            "output": value(node.output),
            "acc_bound": lowered.and_then(|n| n.op.acc_bound()),
        })
    });
    let prepared = prepared(graph)?;
    let targets = Targets::new(&prepared, integer);
    let refused = targets.refused.iter().map(|(node, why)| json!({"node": node, "reason": why}));
    let [ram_c, ram_rust, constants] = targets.bytes.map_or([None; 3], |bytes| bytes.map(Some));
    Ok(json!({
        "name": graph.name,
        "quantized": integer.is_some(),
        "targets": ["engine", "c", "rust"],
        "refused": refused.collect::<Vec<_>>(),
        "ram_bytes": {"c": ram_c, "rust": ram_rust},
        "constant_bytes": constants,
        "inputs": graph.inputs.iter().map(|&v| value(v)).collect::<Vec<_>>(),
        "outputs": graph.outputs.iter().map(|&v| value(v)).collect::<Vec<_>>(),
        "parameters": graph.parameters(),
        "macs": graph.nodes.iter().map(|n| graph.macs(n)).sum::<u64>(),
        "peak_live_elements": prepared.peak_live_elements(),
        "nodes": nodes.collect::<Vec<_>>(),
    }))
}

fn quant(quant: &QuantParams) -> Value {
    json!({"scale": quant.scale, "zero_point": quant.zero_point, "bits": quant.width.bits()})
}
