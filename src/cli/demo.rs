//! `naive-ptq demo`: the whole pipeline on the network that is part of this program.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use naive_ptq::analyze::LayerReport;
use naive_ptq::calibrate::{Calibrator, Observer, observe};
use naive_ptq::data::{Dataset, Preprocess, Workers, write_atomic};
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::graph::{Graph, Node};
use naive_ptq::lower::{Accumulator, IntGraph, lower};
use naive_ptq::model::Model;
use naive_ptq::onnx;
use naive_ptq::ops::Op;
use naive_ptq::quant::{Preset, Scheme};
use naive_ptq::quantize::{prepare, quantize, quantize_corrected};

use crate::by_hand::by_hand;
use crate::table::Table;
use crate::{conv, inspect};

const FLOAT: &[u8] = include_bytes!("../../models/fashion/float.onnx");
const CALIB: &[u8] = include_bytes!("../../models/fashion/calib.npz");
const TEST: &[u8] = include_bytes!("../../models/fashion/test.npz");

/// Quantize the bundled network step by step, and prove the result
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  naive-ptq demo
  naive-ptq demo --out somewhere")]
pub struct Args {
    /// Where float.onnx, int8.onnx, the data and the tutorial's dump are left
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let calib = Dataset::from_npz_bytes(CALIB, &preprocess)?;
    let test = Dataset::from_npz_bytes(TEST, &preprocess)?;

    chapter("1. A trained network")?;
    let mut graph = onnx::import(FLOAT, None)?;
    let macs: u64 = graph.nodes.iter().map(|n| graph.macs(n)).sum();
    let (nodes, parameters) = (graph.nodes.len(), graph.parameters());
    say!(
        "It tells ten kinds of clothing apart, in photographs of 28x28 gray pixels (Fashion-MNIST)."
    );
    say!("{nodes} nodes, {parameters} parameters, {macs} multiply-accumulates for one image.\n");
    prepare(&mut graph)?;
    say!(
        "Batch norms fold into the weights before them and ReLUs fuse into the nodes before them;"
    );
    say!("{} nodes remain:\n", graph.nodes.len());
    say!("{}", inspect::nodes(&layers(&graph)));

    chapter("2. How good it is in float")?;
    let float = Model::Float(graph.clone().into());
    let top1 = float.evaluate(None, &test, Workers::default())?.top1.context("no labels")?;
    say!(
        "top-1 {:.2} % on {} images that it was not trained on; every pixel is divided by 255.",
        100.0 * top1,
        test.len()
    );
    say!("All figures below come through the very same input path.");

    chapter("3. What its weights look like")?;
    look_at_weights(&graph)?;

    chapter("4. Quantization, from naive to good")?;
    say!(
        "Ranges of activations come from {} more images; nobody looked at their labels.\n",
        calib.len()
    );
    let observer = observe(&FloatExecutor::new(&graph), &calib, Workers::default())?;
    let best = compare_schemes(&graph, &observer, &float, &test)?;

    chapter("5. One number by hand")?;
    let integer = lower(&best)?;
    by_hand(&graph, &integer, &test.sample(0)?)?;

    chapter("6. Proof, and what is left to try")?;
    let file = onnx::export(&best);
    let mut again = onnx::import(&file, None)?;
    prepare(&mut again)?;
    ensure!(lower(&again)? == integer, "the integer network changed on its way through int8.onnx");
    say!("int8.onnx, written and read again, is the identical integer network.");
    prove_bounds(&integer)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    let files =
        [("float.onnx", FLOAT), ("int8.onnx", &file), ("calib.npz", CALIB), ("test.npz", TEST)];
    for (name, bytes) in files {
        write_atomic(args.out.join(name), bytes)?;
    }
    let dump = args.out.join("conv");
    conv::dump(&conv::Options::default(), &dump)?;
    let out = args.out.display();
    say!(
        "The tutorial's convolution, from its dump in {}, computed again in integers:",
        dump.display()
    );
    let consistent = conv::check(&dump, false, &mut std::io::stdout())?;
    say!(
        "\nint8.onnx is an ordinary ONNX file of {} bytes (float.onnx: {}). Try:",
        file.len(),
        FLOAT.len()
    );
    say!("  naive-ptq inspect {out}/int8.onnx");
    say!("  naive-ptq eval {out}/int8.onnx --data {out}/test.npz --reference {out}/float.onnx \\");
    say!("      --scale 1/255");
    say!("  naive-ptq conv --check {}", dump.display());
    Ok(consistent)
}

fn layers(graph: &Graph) -> Vec<LayerReport> {
    graph.nodes.iter().map(|node| LayerReport::new(graph, node)).collect()
}

fn chapter(title: &str) -> anyhow::Result<()> {
    say!("\n{title}\n{}\n", "=".repeat(title.chars().count()));
    Ok(())
}

/// The node whose channels differ most, and what one scale for all of them does to it.
fn look_at_weights(graph: &Graph) -> anyhow::Result<()> {
    let weighted = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv(_)));
    let spread = |node: &Node| {
        let mut sorted = channel_maxima(graph, node);
        sorted.sort_by(f32::total_cmp);
        (sorted[sorted.len() - 1] / sorted[sorted.len() / 2], sorted)
    };
    let widest = weighted.map(|n| (n, spread(n))).max_by(|a, b| a.1.0.total_cmp(&b.1.0));
    let (node, (ratio, sorted)) = widest.context("no convolution")?;
    say!("Largest |weight| of each output channel of \"{}\":\n", node.name);
    for (name, share) in
        [("smallest", 0.0), ("median", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("largest", 1.0)]
    {
        let max = sorted[(share * (sorted.len() - 1) as f64) as usize];
        say!(
            "  {name:<8} {max:8.3}  {}",
            "#".repeat(1 + (50.0 * max / sorted[sorted.len() - 1]) as usize)
        );
    }
    let weight = graph.real_constant(node.inputs[1]).context("no weight")?;
    let one_scale = sorted[sorted.len() - 1] / 127.0;
    let lost = weight.data().iter().filter(|w| w.abs() <= 0.5 * one_scale).count();
    say!(
        "\nThe largest channel is {ratio:.0} times the median one. With one scale for all of them a step"
    );
    say!("is {one_scale:.3}, and {lost} of {} weights become code 0.", weight.data().len());
    Ok(())
}

fn channel_maxima(graph: &Graph, node: &Node) -> Vec<f32> {
    let Some(weight) = graph.real_constant(node.inputs[1]) else { return vec![0.0] };
    let channels = weight.data().chunks(weight.data().len() / weight.shape()[0]);
    channels.map(|c| c.iter().fold(0.0, |max: f32, w| max.max(w.abs()))).collect()
}

/// Prints what each choice gives and returns the network with the best SQNR.
fn compare_schemes(
    graph: &Graph,
    observer: &Observer,
    float: &Model,
    test: &Dataset,
) -> anyhow::Result<Graph> {
    let percentile = Calibrator::Percentile(99.99);
    let rows = [
        (
            "naive: power of two, per tensor, min-max",
            Preset::Shift,
            false,
            false,
            Calibrator::MinMax,
        ),
        ("+ a scale for each output channel", Preset::Shift, true, false, Calibrator::MinMax),
        ("+ any scale, not only powers of two", Preset::Scale, true, false, Calibrator::MinMax),
        ("+ biases corrected for rounded weights", Preset::Scale, true, true, Calibrator::MinMax),
        ("+ outliers cut off (99.99 % percentile)", Preset::Scale, true, true, percentile),
    ];
    let mut table = Table::new(&["scheme", "top-1 %", "agreement %", "output SQNR dB"]);
    let mut best: Option<(f64, Graph)> = None;
    for (name, preset, per_channel, corrected, calibrator) in rows {
        let scheme = Scheme::new(preset);
        let scheme = if per_channel { scheme } else { scheme.per_tensor() };
        let quantized = match corrected {
            true => quantize_corrected(graph, observer, calibrator, scheme)?,
            false => quantize(graph, &observer.ranges(calibrator), scheme)?,
        };
        let integer = Model::Int(lower(&quantized)?.into());
        let e = integer.evaluate(Some(float), test, Workers::default())?;
        let percent = |share: Option<f64>| format!("{:.2}", 100.0 * share.unwrap_or_default());
        let db = e.output_sqnr_db.unwrap_or_default();
        if best.is_none() {
            table.row(["float".into(), percent(e.reference_top1), "100.00".into(), "".into()]);
        }
        table.row([name.to_string(), percent(e.top1), percent(e.agreement), format!("{db:.1}")]);
        if best.as_ref().is_none_or(|(best, _)| db > *best) {
            best = Some((db, quantized));
        }
    }
    say!("{table}");
    say!("\nagreement: the same answer as the float network. SQNR: signal to quantization noise;");
    say!(
        "6 dB are one bit. Each line keeps the choices above it, and not every choice pays for every"
    );
    say!("network: the line with the best SQNR becomes int8.onnx.");
    Ok(best.context("no scheme")?.1)
}

/// Prints how close the accumulators can come to overflow, for any input at all.
fn prove_bounds(integer: &IntGraph) -> anyhow::Result<()> {
    let Accumulator { node, bound, .. } = integer.widest_accumulator().context("no accumulator")?;
    say!(
        "No input can drive an accumulator beyond ±{bound} (\"{node}\"); 32 bits hold ±{}.",
        i32::MAX
    );
    Ok(())
}
