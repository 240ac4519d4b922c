//! `naive-ptq inspect`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use naive_ptq::analyze::{Inspection, LayerReport, LoweredReport, QuantReport, ValueReport};
use naive_ptq::emit::{Plan, Sv};
use naive_ptq::onnx;
use naive_ptq::quantize::RoundedBias;
use naive_ptq::text::printable;

use crate::args::ShapeArgs;
use crate::deploy::{HardwareArgs, possible, quantized};
use crate::table::Table;

/// Show what a model file holds: nodes, shapes, parameters, multiply-accumulates; for a quantized
/// model also scales, bits and accumulator bounds
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  naive-ptq inspect float.onnx
  naive-ptq inspect int8.onnx --json
  naive-ptq inspect int8.onnx --target sv --cycles 100000")]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Show what the network comes to in hardware: cycles, multipliers, widths of sums
    #[arg(long, value_parser = PossibleValuesParser::new([possible(&Sv)]))]
    target: Option<String>,
    #[command(flatten)]
    hardware: HardwareArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.target.is_some() {
        let graph = quantized(&args.model, &args.shapes, None)?;
        let plan = Plan::new(&graph, args.hardware.aim())?;
        match args.json {
            true => say!("{}", serde_json::to_string_pretty(&plan)?),
            false => say!("{}", args.hardware.text(&plan)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    args.hardware.unused()?;
    let graph = onnx::load_with(&args.model, &args.shapes.options(None)?)?;
    let inspection = Inspection::new(&graph)?;
    match args.json {
        true => say!("{}", serde_json::to_string_pretty(&inspection)?),
        false => say!("{}", text(&inspection)),
    }
    Ok(ExitCode::SUCCESS)
}

fn text(facts: &Inspection) -> String {
    let mut text = format!("network \"{}\"", printable(&facts.name));
    for (what, values) in [("input ", &facts.inputs), ("output", &facts.outputs)] {
        for value in values {
            text += &format!("\n{what} \"{}\" {}", printable(&value.name), shape(&value.shape));
        }
    }
    let (count, parameters, macs) = (facts.nodes.len(), facts.parameters, facts.macs);
    text += &format!("\n{count} nodes, {parameters} parameters, {macs} MACs");
    text += &format!("\n{} activation codes are live at one time", facts.peak_live_elements);
    text += &coverage(facts);
    if let (Some(c), Some(rust), Some(constants)) =
        (facts.ram_bytes.c, facts.ram_bytes.rust, facts.constant_bytes)
    {
        text += &format!("\nRAM {c} bytes in C, {rust} in Rust; constants {constants} bytes");
    }
    for RoundedBias { bias, result, steps, .. } in &facts.rounded_biases {
        let (bias, result) = (printable(bias), printable(result));
        text += &format!("\nbias \"{bias}\" is rounded by up to {steps:.1} steps of \"{result}\"");
    }
    if let Some(what) = &facts.for_one {
        text += &format!(
            "\nthe batch is 1, which the file leaves open: {} is for one sample",
            printable(what)
        );
    }
    for name in &facts.widened {
        text += &format!(
            "\n\"{}\" has 4 bits in the file and takes 8: its zero point is not that of the middle",
            printable(name)
        );
    }
    text += "\n\n";
    text += &match &facts.lowered {
        None => nodes(&facts.nodes).to_string(),
        Some(lowered) => int_nodes(&facts.inputs, lowered).to_string(),
    };
    if let Some(widest) = &facts.accumulator {
        let (node, bound, bits) = (printable(&widest.node), widest.bound, widest.bits);
        let share = widest.share();
        text += &format!(
            "\nlargest accumulator: ±{bound} in \"{node}\", {share:.4} of the limit of {bits} bits\n"
        );
    }
    text
}

/// Who takes which nodes; those that refuse the same ones are named together.
fn coverage(facts: &Inspection) -> String {
    let mut text = String::new();
    let count = facts.prepared_nodes;
    for group in facts.coverage.chunk_by(|a, b| a.refused == b.refused) {
        let names: Vec<&str> = group.iter().map(|coverage| coverage.target).collect();
        let (names, many) = match &names[..] {
            [name] => (name.to_string(), false),
            [names @ .., last] => (format!("{} and {last}", names.join(", ")), true),
            [] => continue,
        };
        let refused = &group[0].refused;
        text += &match (refused.len(), many) {
            (0, true) => format!("\n{names} take all {count} nodes"),
            (0, false) => format!("\n{names} takes all {count} nodes"),
            (n, true) => format!("\n{names} do not take {n} of {count} nodes:"),
            (n, false) => format!("\n{names} does not take {n} of {count} nodes:"),
        };
        refused.iter().for_each(|refusal| text += &format!("\n  {}", refusal.reason));
    }
    text
}

/// The table of a float network.
pub fn nodes(nodes: &[LayerReport]) -> Table {
    let mut table = Table::new(&["node", "operator", "output", "parameters", "MACs"]);
    for node in nodes {
        table.row([
            node.name.clone(),
            node.operator.to_string(),
            shape(&node.output.shape),
            node.parameters.to_string(),
            node.macs.to_string(),
        ]);
    }
    table
}

/// The table of a quantized network.
fn int_nodes(inputs: &[ValueReport], nodes: &[LoweredReport]) -> Table {
    let mut table = Table::new(&[
        "node",
        "operator",
        "output",
        "bits",
        "scale",
        "zero",
        "weight bits",
        "weight scale",
        "MACs",
        "|acc| bound",
    ]);
    let codes = |value: &ValueReport| {
        let quant = value.quant.as_ref();
        let zero = quant.map(|quant| quant.zero_point.to_string());
        let bits = quant.map(|quant| quant.bits.to_string()).unwrap_or_default();
        [shape(&value.shape), bits, quant.map(scale).unwrap_or_default(), zero.unwrap_or_default()]
    };
    for input in inputs {
        table.row([input.name.clone(), "input".into()].into_iter().chain(codes(input)));
    }
    for node in nodes {
        let bound = node.acc_bound.map(|bound| bound.to_string());
        let bits = node.weight.as_ref().map(|weight| weight.bits.to_string());
        let rest = [
            bits.unwrap_or_default(),
            node.weight.as_ref().map(scale).unwrap_or_default(),
            node.macs.to_string(),
            bound.unwrap_or_default(),
        ];
        let name = [node.name.clone(), node.operator.to_string()];
        table.row(name.into_iter().chain(codes(&node.output)).chain(rest));
    }
    table
}

fn scale(quant: &QuantReport) -> String {
    let one = |scale: f64| match scale.log2() {
        power if power == power.round() => format!("2^{power}"),
        _ => format!("{scale:.4e}"),
    };
    let lo = quant.scale.iter().copied().fold(f64::INFINITY, f64::min);
    let hi = quant.scale.iter().copied().fold(0.0, f64::max);
    if lo == hi { one(lo) } else { format!("{}..{}", one(lo), one(hi)) }
}

fn shape(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
