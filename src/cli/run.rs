//! `naive-ptq run`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use naive_ptq::Tensor;
use naive_ptq::data::npy::{Element, write_npy};
use naive_ptq::data::{Dataset, check_outputs, write_atomic};
use naive_ptq::model::Model;

use crate::args::{PreprocessArgs, ShapeArgs, ThreadArgs, fitted, warn_clipped};
use crate::progress::Progress;
use naive_ptq::quant::Width;

/// Run a network, float or quantized, on an array of samples
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  naive-ptq run float.onnx --input x.npy -o y.npy
  naive-ptq run int8.onnx --input x.npy -o y.npy --codes")]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Samples: a .npy, .npz or folder of images, as for `eval`
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Where the outputs are written, one row for each sample
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
    let (network, data) = fitted(data, load, Model::only_input)?;
    let bar = Progress::new("running", data.len());
    let done = |n| bar.set(n);
    let workers = args.threads.workers().with_progress(&done);
    let npy = match (&network, args.codes) {
        (_, false) => stack(network.executor()?.outputs(&data, workers)?)?,
        (Model::Float(_), true) => bail!("--codes: {} is not quantized", args.model.display()),
        (Model::Int(graph), true) => {
            let executor = network.executor()?;
            let codes = workers
                .map(data.len(), |i| Ok(executor.run_codes(&[data.sample(i)?])?.swap_remove(0)))?;
            match graph.values[graph.outputs[0]].quant.width {
                Width::W4 | Width::W8 => {
                    stack(codes.iter().map(|t| t.map(|&code| code as i8)).collect())?
                }
                Width::W16 | Width::W32 => {
                    stack(codes.iter().map(|t| t.map(|&code| code as i16)).collect())?
                }
            }
        }
    };
    write_atomic(&args.output, &npy)?;
    warn_clipped(&network, &data)?;
    Ok(ExitCode::SUCCESS)
}

/// One row for each sample; a leading axis of 1 is the sample's own.
fn stack<T: Element>(samples: Vec<Tensor<T>>) -> anyhow::Result<Vec<u8>> {
    let of_one = match samples.first().context("no samples")?.shape() {
        [1, rest @ ..] => rest,
        all => all,
    };
    let shape: Vec<usize> = std::iter::once(samples.len()).chain(of_one.iter().copied()).collect();
    let data = samples.into_iter().flat_map(Tensor::into_data).collect();
    Ok(write_npy(&Tensor::new(shape, data)?))
}
