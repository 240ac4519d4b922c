//! `naive-ptq eval`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use naive_ptq::analyze::{Evaluation, Labelled, LayerLoss, OutputEvaluation};
use naive_ptq::data::{Dataset, Workers, check_outputs};
use naive_ptq::model::Model;
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use naive_ptq::report::{Report, Run};
use naive_ptq::text::printable;
use serde::Serialize;

use crate::args::{
    self, DATA_HELP, PreprocessArgs, ShapeArgs, ThreadArgs, fitted, warn, warn_clipped,
};
use crate::progress::Progress;
use crate::report::{ReportArgs, run_of};

/// Measure a network, float or quantized, on data
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq eval int8.onnx --data test.npz --reference float.onnx
  naive-ptq eval int8.onnx --data test.npz --reference float.onnx --min-sqnr 20 --min-agreement 97 --max-drop 1
  naive-ptq eval int8.onnx --data photos/ --resize 256 --crop 224 --scale 1/255 \\
      --mean .485,.456,.406 --std .229,.224,.225 --json"))]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Samples, and labels for top-1
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// The float model: adds agreement and SQNR
    #[arg(long, value_name = "FLOAT.onnx")]
    reference: Option<PathBuf>,
    /// Exit with 1 if the output has a smaller SQNR, and name the layers that lose most
    #[arg(long, value_name = "DB", value_parser = parse_limit, requires = "reference", allow_hyphen_values = true)]
    min_sqnr: Option<f64>,
    /// Exit with 1 if fewer answers are the float model's, in percent
    #[arg(long, value_name = "PERCENT", value_parser = parse_limit, requires = "reference")]
    min_agreement: Option<f64>,
    /// Exit with 1 if top-1 is lower than the float model's by more points
    #[arg(long, value_name = "POINTS", value_parser = parse_limit, requires = "reference", allow_hyphen_values = true)]
    max_drop: Option<f64>,
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
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

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.report.is_wanted() && args.reference.is_none() {
        bail!("--report and --model-explorer need --reference");
    }
    let outputs: Vec<&Path> = args.report.paths().map(PathBuf::as_path).collect();
    let sources = [&args.model, &args.data].into_iter().chain(&args.reference);
    check_outputs(&outputs, &sources.map(PathBuf::as_path).collect::<Vec<_>>())?;
    let data = args.preprocess.open(&args.data, args.samples, &args.model)?;
    let load =
        |data: &Dataset| Ok(Model::load_with(&args.model, &args.shapes.options(Some(data))?)?);
    let (network, data) = fitted(data, &args.shapes.part(), load, Model::inputs)?;
    let shapes = args.shapes.options(Some(&data))?;
    let reference = args.reference.as_deref();
    let reference = reference.map(|path| args::reference(path, &args.model, &shapes));
    let reference = reference.transpose()?;
    let bar = Progress::new("evaluating", data.len());
    let done = |n| bar.set(n);
    let workers = args.threads.workers().with_progress(&done);
    let report = args.report(&data, workers)?;
    let evaluation = match &report {
        Some(report) => report.evaluation.clone(),
        None => network.evaluate(reference.as_ref(), &data, workers)?,
    };
    drop(bar);
    warn_clipped(&network, &data)?;
    if data.with_targets() {
        warn("the labels are real numbers, no classes: nothing is compared with them");
    }
    evaluation.notes.iter().for_each(|note| warn(note));
    let checks = args.checks(&evaluation)?;
    let passed = checks.iter().all(|check| check.passed);
    let layers = match &reference {
        Some(reference) if !passed => {
            network.layer_losses(reference, &data, args.threads.workers())?
        }
        _ => vec![],
    };
    let worst = &layers[..layers.len().min(WORST)];
    let status = if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        let mut facts = serde_json::to_value(&evaluation)?;
        if !checks.is_empty() {
            facts["checks"] = serde_json::to_value(&checks)?;
            facts["worst_layers"] = serde_json::to_value(worst)?;
        }
        if let Some(report) = report {
            facts["report"] = serde_json::to_value(report)?;
        }
        say!("{facts:#}");
        return Ok(status);
    }
    say!("samples      {}", evaluation.samples);
    for (name, share) in [
        ("float top-1", evaluation.reference_top1),
        ("top-1", evaluation.top1),
        ("agreement", evaluation.agreement),
    ] {
        if let Some(share) = share {
            say!("{name:<12} {:.2} %", 100.0 * share);
        }
    }
    for output in &evaluation.outputs {
        for (of, labelled) in [("float ", &output.reference), ("", &output.labelled)] {
            if let Some(Labelled { right, mean_iou: Some(iou), .. }) = labelled {
                say!("{:<12} {:.2} %", format!("{of}pixels"), 100.0 * right);
                say!("{:<12} {:.2} %", format!("{of}IoU"), 100.0 * iou);
            }
        }
    }
    if let Some(db) = evaluation.output_sqnr_db {
        say!("output SQNR  {db:.2} dB");
    }
    let only = evaluation.outputs.len() == 1;
    for output in evaluation.outputs.iter().filter(|output| !(only && output.agreement.is_some())) {
        if let Some(line) = line(output) {
            say!("  {line}");
        }
    }
    for Check { check, limit, value, passed } in &checks {
        let verdict = if *passed { "passed" } else { "failed" };
        say!("{verdict}: --{check} {limit}, and it is {value:.2}");
    }
    for LayerLoss { node, operator, sqnr_db, drop_db, .. } in worst {
        let node = printable(node);
        say!("  {operator} \"{node}\" loses {drop_db:.1} dB, and has {sqnr_db:.1}");
    }
    Ok(status)
}

/// Layers that are named where a check fails.
const WORST: usize = 5;

pub fn parse_limit(text: &str) -> Result<f64, String> {
    let limit = text.parse::<f64>().map_err(|e| e.to_string())?;
    if limit.is_finite() { Ok(limit) } else { Err("not a finite number".into()) }
}

/// What is asked of the accuracy, and what it is.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    limit: f64,
    value: f64,
    passed: bool,
}

impl Args {
    /// The report, if it is wanted.
    fn report(&self, data: &Dataset, workers: Workers) -> anyhow::Result<Option<Report>> {
        let Some(path) = self.reference.as_ref().filter(|_| self.report.is_wanted()) else {
            return Ok(None);
        };
        let shapes = self.shapes.options(Some(data))?;
        let mut quantized = onnx::load_with(&self.model, &shapes)?;
        prepare(&mut quantized)?;
        let float = args::reference_graph(path, &self.model, &shapes)?;
        let preprocess = args::kept(&self.model)?;
        let run = Run { preprocess, ..run_of(&self.model, path, &self.data) };
        self.report.make([&quantized, &float], data, None, run, workers)
    }

    fn checks(&self, evaluation: &Evaluation) -> anyhow::Result<Vec<Check>> {
        let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
        let Evaluation { top1, reference_top1, agreement, output_sqnr_db, .. } = evaluation;
        let drop = top1.zip(*reference_top1).map(|(ours, float)| float - ours);
        let mut checks = Vec::new();
        for (check, limit, value, needs) in [
            ("min-sqnr", self.min_sqnr, *output_sqnr_db, "an output that the float model has, too"),
            ("min-agreement", self.min_agreement, percent(*agreement), "an output of classes"),
            ("max-drop", self.max_drop, percent(drop), "labels that fit an output of classes"),
        ] {
            let Some(limit) = limit else { continue };
            let Some(value) = value else { bail!("--{check} needs {needs}") };
            // A difference of shares is not exact.
            let room = if check == "max-drop" { limit - value } else { value - limit };
            let passed = room >= -1e-9;
            checks.push(Check { check, limit, value, passed });
        }
        Ok(checks)
    }
}

/// How near an output is to the reference's.
fn line(output: &OutputEvaluation) -> Option<String> {
    let name = match &output.part {
        Some(part) => format!("{}: {part}", output.output),
        None => output.output.clone(),
    };
    let mut line = format!("{:.2} dB  \"{}\"", output.sqnr_db?, printable(&name));
    line += &match output.agreement {
        Some(agreement) => format!("  agreement {:.2} %", 100.0 * agreement),
        None => {
            format!("  error {:.3e}, at most {:.3e}", output.mean_error?, output.largest_error?)
        }
    };
    let mut channels: Vec<(usize, f64)> = output.channels_db.iter().copied().enumerate().collect();
    channels.sort_by(|a, b| a.1.total_cmp(&b.1));
    if !channels.is_empty() {
        let worst = channels.iter().take(8).map(|(channel, db)| format!("{channel}: {db:.1} dB"));
        line += &format!("  channels {}", worst.collect::<Vec<_>>().join(", "));
    }
    Some(line)
}
