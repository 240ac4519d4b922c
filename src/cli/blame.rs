//! `naive-ptq blame`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use naive_ptq::analyze::{self, Blame, Cause, ClassBlame, UnitBlame};
use naive_ptq::data::{Dataset, check_outputs};
use naive_ptq::graph::Graph;
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use naive_ptq::text::printable;

use crate::args::{self, DATA_HELP, PreprocessArgs, ShapeArgs, ThreadArgs, fitted, warn};
use crate::progress::Progress;
use crate::report::{ReportArgs, run_of};
use crate::table::Table;

/// Find out which values and layers a quantized network loses by, why, and what would help
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq blame int8.onnx --reference float.onnx --data test.npz
  naive-ptq blame int8.onnx --reference float.onnx --data test.npz --samples 8 --json"))]
pub struct Args {
    /// The quantized model
    model: PathBuf,
    /// The float model that it was made of
    #[arg(long, value_name = "FLOAT.onnx")]
    reference: PathBuf,
    /// Samples, and labels for points of top-1
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// Units and causes that are printed.
const SHOWN: usize = 10;

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let outputs: Vec<&Path> = args.report.paths().map(PathBuf::as_path).collect();
    check_outputs(&outputs, &[&args.model, &args.reference, &args.data])?;
    let data = args.preprocess.open(&args.data, Some(args.samples), &args.model)?;
    let load = |data: &Dataset| {
        let mut graph = onnx::load_with(&args.model, &args.shapes.options(Some(data))?)?;
        prepare(&mut graph)?;
        anyhow::Ok(graph)
    };
    let (quantized, data) = fitted(data, &args.shapes.part(), load, Graph::named_inputs)?;
    let shapes = args.shapes.options(Some(&data))?;
    let float = args::reference_graph(&args.reference, &args.model, &shapes)?;
    let bar = Progress::new("measuring", data.len());
    let done = |n| bar.set(n);
    let workers = args.threads.workers().with_progress(&done);
    let blame = analyze::blame(&quantized, &float, &data, workers)?;
    drop(bar);
    let run = run_of(&args.model, &args.reference, &args.data);
    let networks = [&quantized, &float];
    let known = args.report.is_wanted().then(|| blame.clone());
    let report = args.report.make(networks, &data, known, run, args.threads.workers())?;
    if args.json {
        let mut facts = serde_json::to_value(&blame)?;
        if let Some(report) = report {
            facts["report"] = serde_json::to_value(report)?;
        }
        say!("{facts:#}");
        return Ok(ExitCode::SUCCESS);
    }
    say_verdict(&blame)?;
    say_units(&blame)?;
    blame.notes.iter().for_each(|note| warn(note));
    Ok(ExitCode::SUCCESS)
}

fn say_verdict(blame: &Blame) -> anyhow::Result<()> {
    let evaluation = &blame.evaluation;
    let samples = blame.samples;
    if let Some(db) = evaluation.output_sqnr_db {
        say!("on {samples} samples the output has {db:.2} dB");
    }
    if let (Some(ours), Some(float)) = (evaluation.top1, evaluation.reference_top1) {
        say!("top-1 {:.2} %, of the float model {:.2} %", 100.0 * ours, 100.0 * float);
    }
    say!(
        "the simulation that shares are measured on is the engine but for {:.1} dB",
        blame.simulation_db
    );
    if blame.named().next().is_none() {
        say!("no single cause: the loss is spread, or small");
    }
    let mut rest = SHOWN;
    for cause in &blame.causes {
        let Cause { at, what, remedy, gain_db, points, named, .. } = cause;
        if !named && rest == 0 {
            continue;
        }
        rest = rest.saturating_sub(1);
        let points = points.map_or(String::new(), |points| format!(", {points:+.1} points"));
        let verdict = if *named { "cause: " } else { "" };
        say!("{verdict}\"{}\" {what}", printable(at));
        say!("  {gain_db:+.2} dB{points}: {remedy}");
    }
    Ok(())
}

fn say_units(blame: &Blame) -> anyhow::Result<()> {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let mut table = Table::new(&["class", "units", "share %", "gain dB"]);
    for ClassBlame { class, units, share, gain_db, .. } in &blame.classes {
        table.row([class.clone(), units.to_string(), percent(*share), format!("{gain_db:.2}")]);
    }
    table.row(["sum".into(), String::new(), percent(blame.classes_sum), String::new()]);
    say!("\n{table}");
    let mut table = Table::new(&[
        "value or layer",
        "operator",
        "share %",
        "gain dB",
        "alone dB",
        "accumulated dB",
    ]);
    for unit in blame.units.iter().take(SHOWN) {
        let UnitBlame {
            name, constants, operator, share, gain_db, alone_db, accumulated_db, ..
        } = unit;
        let name = if *constants { format!("weights of {name}") } else { name.clone() };
        let accumulated = accumulated_db.map_or(String::new(), |db| format!("{db:.1}"));
        table.row([
            name,
            operator.to_string(),
            percent(*share),
            format!("{gain_db:.2}"),
            format!("{alone_db:.1}"),
            accumulated,
        ]);
    }
    table.row(["sum of all".into(), String::new(), percent(blame.units_sum)]);
    say!("{table}");
    Ok(())
}
