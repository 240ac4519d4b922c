//! `naive-ptq quantize`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;
use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::data::{Dataset, check_outputs, write_atomic};
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::lower::IntGraph;
use naive_ptq::model::export_checked;
use naive_ptq::onnx;
use naive_ptq::ops::product::is_wide;
use naive_ptq::quant::{Scheme, Width};
use naive_ptq::quantize::{prepare, quantize, quantize_corrected};
use naive_ptq::text::printable;
use rayon::prelude::*;

use crate::args::{DATA_HELP, PreprocessArgs, PresetArg, ShapeArgs, ThreadArgs, progress};

/// Quantize a float network to integers of 8 or 16 bits
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx --scheme shift --granularity tensor
  naive-ptq quantize float.onnx --calib calib.npz -o int16.onnx --activations 16
  naive-ptq quantize float.onnx --calib part1.npz --calib-stats part1.json
  naive-ptq quantize float.onnx --merge part1.json part2.json -o int8.onnx
  naive-ptq quantize float.onnx --calib photos/ -o int8.onnx --calibrator percentile \\
      --resize 256 --crop 224 --scale 0.00392156862745098"))]
pub struct Args {
    /// The float model
    model: PathBuf,
    /// Samples like those that the network will see
    #[arg(long, value_name = "DATA", required_unless_present = "merge")]
    calib: Option<PathBuf>,
    /// Where the quantized model is written: an ONNX file with QuantizeLinear/DequantizeLinear pairs
    #[arg(short, long, value_name = "OUT.onnx", required_unless_present = "calib_stats")]
    output: Option<PathBuf>,
    /// Write what calibration has seen, so that it can be merged with other parts of the data
    #[arg(long, value_name = "OUT.json")]
    calib_stats: Option<PathBuf>,
    /// Use the statistics of these files, together with --calib if it is given
    #[arg(long, value_name = "STATS.json", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// Leave biases as they are, instead of making up for the mean error of rounded weights
    #[arg(long)]
    no_bias_correction: bool,
    /// Where scales may lie
    #[arg(long, value_enum, default_value_t = PresetArg::Scale)]
    scheme: PresetArg,
    /// Which weights share a scale
    #[arg(long, value_enum, default_value_t = GranularityArg::Channel)]
    granularity: GranularityArg,
    /// Bits of the codes of activations
    #[arg(long, value_enum, value_name = "BITS", default_value_t = BitsArg::Eight)]
    activations: BitsArg,
    /// Bits of the codes of weights
    #[arg(long, value_enum, value_name = "BITS", default_value_t = BitsArg::Eight)]
    weights: BitsArg,
    /// How ranges of activations are chosen [default: percentile; minmax for 16-bit activations]
    #[arg(long, value_enum)]
    calibrator: Option<CalibratorArg>,
    /// Percentile: share of the values that stay inside the range
    #[arg(long, value_name = "PERCENT", default_value_t = 99.99)]
    percentile: f64,
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Print a summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum GranularityArg {
    /// One scale for the whole weight
    Tensor,
    /// One scale for each output channel
    Channel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BitsArg {
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

impl BitsArg {
    fn width(self) -> Width {
        match self {
            Self::Eight => Width::W8,
            Self::Sixteen => Width::W16,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CalibratorArg {
    /// Smallest and largest value seen
    Minmax,
    /// Mean of the samples' smallest and largest values
    MovingAverage,
    /// All but a small share of outliers
    Percentile,
    /// Smallest mean squared error
    Mse,
    /// Smallest loss of information (Kullback-Leibler)
    Entropy,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.threads.apply()?;
    if !(args.percentile > 0.0 && args.percentile <= 100.0) {
        bail!("--percentile {}: expected more than 0, at most 100", args.percentile);
    }
    let outputs = args.output.iter().chain(&args.calib_stats);
    check_outputs(&outputs.map(PathBuf::as_path).collect::<Vec<_>>())?;
    let per_channel = args.granularity == GranularityArg::Channel;
    let scheme = Scheme::new(args.scheme.into(), per_channel)
        .with_widths(args.activations.width(), args.weights.width());
    // 16 bits have codes to spare for outliers.
    let default = match args.activations {
        BitsArg::Eight => CalibratorArg::Percentile,
        BitsArg::Sixteen => CalibratorArg::Minmax,
    };
    let calibrator = match args.calibrator.unwrap_or(default) {
        CalibratorArg::Minmax => Calibrator::MinMax,
        CalibratorArg::MovingAverage => Calibrator::MovingAverage,
        CalibratorArg::Percentile => Calibrator::Percentile(args.percentile),
        CalibratorArg::Mse => Calibrator::Mse(scheme),
        CalibratorArg::Entropy => Calibrator::Entropy,
    };

    let data =
        args.calib.as_ref().map(|path| args.preprocess.open(path, args.samples)).transpose()?;
    let mut graph = onnx::load_with(&args.model, &args.shapes.shapes(data.as_ref())?)?;
    prepare(&mut graph)?;
    // Some tools leave a few values real; those are calibrated, the others keep their codes.
    if graph.has_codes() && graph.activations().all(|v| graph.values[v].quant.is_some()) {
        bail!("{} is quantized already", args.model.display());
    }
    let mut observer = match &data {
        Some(data) => observe(&graph, data)?,
        None => Observer::new(&graph),
    };
    for path in &args.merge {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let stats = Observer::from_json(&text, &graph);
        observer.merge(stats.with_context(|| format!("{}", path.display()))?);
    }
    if let Some(path) = &args.calib_stats {
        write_atomic(path, observer.to_json(&graph).as_bytes())?;
    }
    if !args.json {
        say!("calibrated on {} samples", observer.samples());
    }
    let Some(output) = &args.output else {
        if args.json {
            say!("{:#}", serde_json::json!({"samples": observer.samples()}));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let quantized = match args.no_bias_correction {
        true => quantize(&graph, &observer.ranges(calibrator), scheme)?,
        false => quantize_corrected(&graph, &observer, calibrator, scheme)?,
    };
    let (bytes, integer) = export_checked(&quantized)?;
    write_atomic(output, &bytes)?;

    let bound = widest_accumulator(&integer);
    let was = std::fs::metadata(&args.model).map_or(0, |m| m.len());
    if args.json {
        let summary = serde_json::json!({
            "samples": observer.samples(), "nodes": integer.nodes.len(), "bytes": bytes.len(),
            "float_bytes": was, "acc_bound": bound.map(|(_, b)| b),
        });
        say!("{summary:#}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((node, bound)) = bound {
        let bits = (bound as f64).log2() + 1.0;
        let of = acc_bits(bound);
        let node = printable(node);
        say!("largest accumulator: ±{bound} ({bits:.1} of {of} bits) in node \"{node}\"");
    }
    say!("wrote {}: {} bytes, from {was}", output.display(), bytes.len());
    Ok(ExitCode::SUCCESS)
}

/// Runs every sample through the float network and records every activation. Shards on all threads
/// are merged, which gives the bits of a single pass.
pub fn observe(graph: &Graph, data: &Dataset) -> anyhow::Result<Observer> {
    let bar = progress("calibrating", data.len());
    let network = FloatExecutor::new(graph);
    let shard = || Observer::new(graph);
    let observed = (0..data.len()).into_par_iter().try_fold(shard, |mut observer: Observer, i| {
        let x = data.sample(i).with_context(|| format!("sample {i}"))?;
        network.run(&[x], |v, x| observer.see(v, x)).with_context(|| format!("sample {i}"))?;
        bar.inc(1);
        anyhow::Ok(observer)
    });
    let merged = observed.try_reduce_with(|mut a, b| {
        a.merge(b);
        Ok(a)
    });
    bar.finish_and_clear();
    merged.context("no samples")?
}

/// The accumulator that can grow largest, with its node; without sums that always have 64 bits.
pub fn widest_accumulator(graph: &IntGraph) -> Option<(&str, i64)> {
    let nodes = graph.nodes.iter().filter(|n| !n.op.sums_are_64_bits());
    let bounds = nodes.filter_map(|n| Some((n.name.as_str(), n.op.acc_bound()?)));
    bounds.max_by_key(|&(_, bound)| bound)
}

/// Bits of the type that an accumulator up to `bound` needs.
pub fn acc_bits(bound: i64) -> u32 {
    if is_wide(bound) { 64 } else { 32 }
}
