//! `naive-ptq deploy`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use naive_ptq::Tensor;
use naive_ptq::codes::Codes;
use naive_ptq::data::{Dataset, Samples, check_folder, update_folder, write_folder};
use naive_ptq::emit::{self, File, TARGETS, Target, TestVector};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::IntGraph;
use naive_ptq::model::Model;
use serde_json::json;

use crate::args::{DATA_HELP, PreprocessArgs, ShapeArgs, fitted, warn_clipped};
use crate::progress::Progress;
use naive_ptq::quant::Width;

/// Of all test vectors together, which are source code.
const MAX_CODES: usize = 1 << 24;

/// Write a quantized network as source code, C99 or no_std Rust, that computes the same bits
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq deploy int8.onnx --target c -o net/ && make -C net test
  naive-ptq deploy int8.onnx --target rust -o net-rs/ --name keywords
  naive-ptq deploy int8.onnx --target c -o net/ --test-vectors 10 --data test.npz"))]
pub struct Args {
    /// The quantized model
    model: PathBuf,
    /// The language
    #[arg(long, value_parser = target())]
    target: &'static dyn Target,
    /// The folder that is written
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// What names of files and functions begin with
    #[arg(long, default_value = "net")]
    name: String,
    /// How many inputs to write with the outputs that they must give
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=65_536))]
    test_vectors: u32,
    /// Samples for the test vectors; random codes without it
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Write into a folder that is not empty: the files of a network that was written there before go, all
    /// others stay
    #[arg(long)]
    force: bool,
    /// Print what the network needs as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// A target as a value of an option.
pub fn possible(target: &dyn Target) -> PossibleValue {
    PossibleValue::new(target.name()).help(target.about())
}

/// A target by its name.
fn target() -> impl TypedValueParser<Value = &'static dyn Target> {
    PossibleValuesParser::new(TARGETS.iter().map(|target| possible(*target)))
        .try_map(|name| emit::target(&name).ok_or("no target"))
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_folder(&args.output)?;
    let count = args.test_vectors as usize;
    let open = |path: &PathBuf| args.preprocess.open(path, None, &args.model);
    let (graph, data) = match args.data.as_ref().map(open).transpose()? {
        Some(data) => {
            let (graph, data) = quantized_for(&args.model, &args.shapes, data)?;
            (graph, Some(data))
        }
        None => (quantized(&args.model, &args.shapes, None)?, None),
    };
    let reference = IntExecutor::new(graph.clone());
    let codes: usize =
        graph.inputs.iter().chain(&graph.outputs).map(|&v| graph.values[v].len()).sum();
    if count.saturating_mul(codes) > MAX_CODES {
        bail!("--test-vectors {count}: each has {codes} codes, and all at most {MAX_CODES}");
    }
    let bar = Progress::new("computing test vectors", count);
    let vector = |x: &[Tensor<f32>]| {
        bar.inc();
        TestVector::new(&reference, x)
    };
    let vectors = match &data {
        Some(data) if data.len() < count => {
            bail!("--test-vectors {count}: the data has {} samples", data.len())
        }
        Some(data) => {
            (0..count).map(|i| vector(&data.get(i)?)).collect::<naive_ptq::Result<Vec<_>>>()?
        }
        None => (0..count)
            .map(|i| vector(&random_inputs(&graph, i as u64)))
            .collect::<naive_ptq::Result<Vec<_>>>()?,
    };
    drop(bar);
    let files = args.target.files(&graph, &args.name, &vectors)?;
    match args.force {
        true => update_folder(&args.output, &files, &emit::written_files(&args.output))?,
        false => write_folder(&args.output, &files)?,
    }
    report(args, &graph, &files)?;
    data.iter().try_for_each(|data| warn_clipped(&Model::Int(graph.clone()), data))?;
    Ok(ExitCode::SUCCESS)
}

/// The integer network of a quantized model, and the data as they fit it.
pub fn quantized_for(
    model: &Path,
    shapes: &ShapeArgs,
    data: Dataset,
) -> anyhow::Result<(Arc<IntGraph>, Dataset)> {
    let load = |data: &Dataset| quantized(model, shapes, Some(data));
    fitted(data, &shapes.part(), load, |graph| graph.named_inputs())
}

/// The integer network of a quantized model.
pub fn quantized(
    model: &Path,
    shapes: &ShapeArgs,
    data: Option<&Dataset>,
) -> anyhow::Result<Arc<IntGraph>> {
    match Model::load_with(model, &shapes.options(data)?)? {
        Model::Int(graph) => Ok(graph),
        Model::Float(_) => bail!("{} is not quantized (naive-ptq quantize)", model.display()),
    }
}

/// Inputs with any codes, which depend on `seed` only.
fn random_inputs(graph: &IntGraph, seed: u64) -> Vec<Tensor<f32>> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u32
    };
    let inputs = graph.inputs.iter().map(|&v| &graph.values[v]);
    let mut random = |value: &naive_ptq::lower::IntValue| {
        let (lowest, _) = value.quant.code_range();
        let mask = (1 << value.quant.width.bits()) - 1;
        let mut code = || (next() & mask) as i32 + lowest;
        let real = |_| match value.given {
            Some(given) => ((code() - given.params().zero_point) % (given.highest + 1)) as f32,
            None => value.quant.dequantize(code(), 0),
        };
        Tensor::new(value.shape.clone(), (0..value.len()).map(real).collect()).unwrap_or_default()
    };
    inputs.map(&mut random).collect()
}

fn report(args: &Args, graph: &IntGraph, files: &[File]) -> anyhow::Result<()> {
    let (memory, constants) = (args.target.memory(graph), emit::constant_bytes(graph));
    if args.json {
        let summary = json!({
            "files": files.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "ram_bytes": memory.size, "ram_bound_bytes": memory.bound, "constant_bytes": constants,
        });
        say!("{summary:#}");
        return Ok(());
    }
    say!("wrote {} files to {}", files.len(), args.output.display());
    say!(
        "RAM        {:8} bytes: inputs, outputs and everything between; no plan needs less than {}",
        memory.size,
        memory.bound
    );
    say!("constants  {constants:8} bytes of flash, and the code");
    if args.test_vectors > 0 {
        say!("next       {}", args.target.test(&args.output));
    }
    Ok(())
}

/// The codes as bytes, the low one first.
pub fn to_bytes(codes: &[i32], width: Width) -> Vec<u8> {
    codes.iter().flat_map(|code| code.to_le_bytes().into_iter().take(width.bytes())).collect()
}

/// The reverse of [`to_bytes`].
pub fn from_bytes(bytes: &[u8], width: Width) -> Codes {
    let code = |bytes: &[u8]| bytes.iter().rev().fold(0, |code, &b| code << 8 | b as i32);
    let signed = |code: i32| code << (32 - width.bits()) >> (32 - width.bits());
    Codes::new(width, bytes.chunks_exact(width.bytes()).map(|bytes| signed(code(bytes))))
}
