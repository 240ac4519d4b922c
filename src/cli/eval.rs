//! `naive-ptq eval`

use std::path::PathBuf;
use std::process::ExitCode;

use naive_ptq::analyze::OutputSqnr;
use naive_ptq::data::Dataset;
use naive_ptq::model::Model;
use naive_ptq::text::printable;

use crate::args::{self, DATA_HELP, PreprocessArgs, ShapeArgs, ThreadArgs, fitted, warn_clipped};
use crate::progress::Progress;

/// Measure a network, float or quantized, on data
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq eval int8.onnx --data test.npz --reference float.onnx
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
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
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
    let evaluation = network.evaluate(reference.as_ref(), &data, workers)?;
    drop(bar);
    warn_clipped(&network, &data)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&evaluation)?);
        return Ok(ExitCode::SUCCESS);
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
    let several = evaluation.outputs.len() > 1;
    if let Some(db) = evaluation.output_sqnr_db {
        say!("output SQNR  {db:.2} dB");
    }
    for OutputSqnr { output, part, sqnr_db, .. } in evaluation.outputs.iter().filter(|_| several) {
        let name = part.as_ref().map_or(output.clone(), |part| format!("{output}: {part}"));
        say!("  {sqnr_db:.2} dB  \"{}\"", printable(&name));
    }
    Ok(ExitCode::SUCCESS)
}
