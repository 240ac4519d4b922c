//! `naive-ptq run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use naive_ptq::Tensor;
use naive_ptq::data::npy::{Element, write_npy};
use naive_ptq::data::npz::write_npz;
use naive_ptq::data::{Dataset, Samples, check_outputs, write_atomic};
use naive_ptq::model::Model;
use naive_ptq::quant::Width;
use naive_ptq::text::printable;

use crate::args::{PreprocessArgs, ShapeArgs, ThreadArgs, fitted, warn, warn_clipped};
use crate::progress::Progress;

/// Run a network, float or quantized, on an array of samples
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  naive-ptq run float.onnx --input x.npy -o y.npy
  naive-ptq run detector.onnx --input x.npz -o boxes_and_scores.npz
  naive-ptq run int8.onnx --input x.npy -o y.npy --codes")]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Samples: a .npy, .npz or folder of images, as for `eval`
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Where the outputs are written, one row for each of the input: a .npz takes all of them, by name, a .npy the first
    #[arg(short, long, value_name = "Y.npy")]
    output: PathBuf,
    /// Write the integer codes (int8 or int16) of a quantized model instead of real values (float32)
    #[arg(long)]
    codes: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_outputs(&[&args.output], &[&args.model, &args.input])?;
    let data = args.preprocess.open(&args.input, None, &args.model)?;
    let load =
        |data: &Dataset| Ok(Model::load_with(&args.model, &args.shapes.options(Some(data))?)?);
    let (network, data) = fitted(data, &args.shapes.part(), load, Model::inputs)?;
    let names = network.outputs();
    let only_first = is(&args.output, "npy") && names.len() > 1;
    let written = if only_first { &names[..1] } else { &names[..] };
    let bar = Progress::new("running", data.len());
    let done = |n| bar.set(n);
    let workers = args.threads.workers().with_progress(&done);
    let (executor, batch) = (network.executor()?, data.batch());
    let arrays: Vec<Vec<u8>> = match (&network, args.codes) {
        (_, false) => {
            let all = workers
                .map(data.len(), |i| Ok(first(executor.run(&data.get(i)?)?, written.len())))?;
            let array = |k| stack(&all, k, batch, |&x| x);
            (0..written.len()).map(array).collect::<anyhow::Result<_>>()?
        }
        (Model::Float(_), true) => bail!("--codes: {} is not quantized", args.model.display()),
        (Model::Int(graph), true) => {
            let all = workers.map(data.len(), |i| {
                Ok(first(executor.run_codes(&data.get(i)?)?, written.len()))
            })?;
            let array = |k: usize| match graph.values[graph.outputs[k]].quant.width {
                Width::W4 | Width::W8 => stack(&all, k, batch, |&code| code as i8),
                Width::W16 | Width::W32 => stack(&all, k, batch, |&code| code as i16),
            };
            (0..written.len()).map(array).collect::<anyhow::Result<_>>()?
        }
    };
    let bytes = match &arrays[..] {
        [npy] if !is(&args.output, "npz") => npy.clone(),
        _ => write_npz(&written.iter().copied().zip(arrays).collect::<Vec<_>>())?,
    };
    write_atomic(&args.output, &bytes)?;
    if only_first {
        let (first, count) = (printable(names[0]), names.len());
        warn(&format!("only output \"{first}\" of {count}: a .npz takes all"));
    }
    warn_clipped(&network, &data)?;
    Ok(ExitCode::SUCCESS)
}

fn first<T>(mut list: Vec<T>, count: usize) -> Vec<T> {
    list.truncate(count);
    list
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

/// Output `k` of all samples: the rows of their batches, or of each the whole.
fn stack<T, U: Element>(
    samples: &[Vec<Tensor<T>>],
    k: usize,
    batch: Option<usize>,
    map: impl Fn(&T) -> U,
) -> anyhow::Result<Vec<u8>> {
    let first = samples.first().context("no samples")?[k].shape();
    let shape = match (batch, first) {
        (Some(batch), [rows, rest @ ..]) if *rows == batch => {
            [&[samples.len() * rows], rest].concat()
        }
        _ => [&[samples.len()], first].concat(),
    };
    let data = samples.iter().flat_map(|outputs| outputs[k].data()).map(map).collect();
    Ok(write_npy(&Tensor::new(shape, data)?))
}
