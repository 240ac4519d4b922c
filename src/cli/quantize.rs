//! `naive-ptq quantize`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;
use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::data::{check_outputs, write_atomic};
use naive_ptq::lower::Accumulator;
use naive_ptq::quant::{Scheme, Width};
use naive_ptq::quantize::{Quantizer, Recipe};
use naive_ptq::text::printable;

use crate::args::{DATA_HELP, PreprocessArgs, PresetArg, ShapeArgs, ThreadArgs};
use crate::progress::Progress;
use crate::say::plain;

/// Quantize a float network to integers of 8 or 16 bits
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx --scheme shift --granularity tensor
  naive-ptq quantize float.onnx --calib calib.npz -o int16.onnx --activations 16
  naive-ptq quantize float.onnx --calib calib.npz -o mixed.onnx --recipe recipe.json
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
    #[arg(long, value_enum, value_name = "BITS", default_value_t = WeightBitsArg::Eight)]
    weights: WeightBitsArg,
    /// Exceptions for some nodes: {"version": 1, "defaults": {…}, "rules": [{"nodes": REGEX, "types": […],
    /// "values": REGEX, "activations": 16, "weights": 16, "scheme": "shift", "granularity": "tensor"}]}, or the list alone
    #[arg(long, value_name = "FILE.json")]
    recipe: Option<PathBuf>,
    /// Bits of the codes of the network's outputs [default: those of --activations and --recipe; 16 where a Concat joins
    /// ranges that are far apart]
    #[arg(long, value_enum, value_name = "BITS")]
    output_bits: Option<BitsArg>,
    /// Make the arguments of each Concat that is an output outputs of their own, named as they are
    #[arg(long)]
    split_outputs: bool,
    /// How ranges of 8-bit activations are chosen; those of 16 bits take twice what was seen
    #[arg(long, value_enum, default_value_t = CalibratorArg::Auto)]
    calibrator: CalibratorArg,
    /// Calibrate by percentile, with this share of the values inside the range [default: 99.99]
    #[arg(long, value_name = "PERCENT")]
    percentile: Option<f64>,
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Refuse, and write nothing, where there is a warning: a value has lost much of what it has in the float network
    #[arg(long)]
    strict: bool,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WeightBitsArg {
    #[value(name = "4")]
    Four,
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

impl WeightBitsArg {
    fn width(self) -> Width {
        match self {
            Self::Four => Width::W4,
            Self::Eight => Width::W8,
            Self::Sixteen => Width::W16,
        }
    }
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
    /// Value by value what costs its readers least, on a few samples: minmax, percentile or mse
    Auto,
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
    let percentile = args.percentile.unwrap_or(99.99);
    if !(percentile > 0.0 && percentile <= 100.0) {
        bail!("--percentile {percentile}: expected more than 0, at most 100");
    }
    let outputs = args.output.iter().chain(&args.calib_stats);
    check_outputs(&outputs.map(PathBuf::as_path).collect::<Vec<_>>())?;
    let scheme =
        Scheme::new(args.scheme.into()).with_widths(args.activations.width(), args.weights.width());
    let scheme = match args.granularity {
        GranularityArg::Channel => scheme,
        GranularityArg::Tensor => scheme.per_tensor(),
    };
    let calibrator = match args.calibrator {
        CalibratorArg::Auto if args.percentile.is_none() => Calibrator::Auto,
        CalibratorArg::Auto | CalibratorArg::Percentile => Calibrator::Percentile(percentile),
        CalibratorArg::Minmax => Calibrator::MinMax,
        CalibratorArg::MovingAverage => Calibrator::MovingAverage,
        CalibratorArg::Mse => Calibrator::Mse(scheme),
        CalibratorArg::Entropy => Calibrator::Entropy,
    };

    let data =
        args.calib.as_ref().map(|path| args.preprocess.open(path, args.samples)).transpose()?;
    let mut quantizer = Quantizer::with_options(&args.model, &args.shapes.options(data.as_ref())?)?
        .scheme(scheme)
        .calibrator(calibrator);
    if let Some(path) = &args.recipe {
        let at = || format!("{}", path.display());
        let text = std::fs::read_to_string(path).with_context(at)?;
        let recipe = Recipe::from_json(&text).with_context(at)?;
        // What it says is looked at before anything is computed.
        recipe.plan(quantizer.graph(), scheme).with_context(at)?;
        quantizer = quantizer.recipe(recipe);
    }
    if let Some(bits) = args.output_bits {
        quantizer = quantizer.output_width(bits.width());
    }
    if args.split_outputs {
        quantizer = quantizer.split_outputs();
    }
    if args.no_bias_correction {
        quantizer = quantizer.steps(vec![]);
    }
    if let Some(data) = &data {
        let bar = Progress::new("calibrating", data.len());
        let done = |n| bar.set(n);
        let workers = args.threads.workers().with_progress(&done);
        quantizer = quantizer.calibrate_with(data, workers)?;
    }
    for path in &args.merge {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let stats = Observer::from_json(&text, quantizer.graph());
        quantizer = quantizer.merge(stats.with_context(|| format!("{}", path.display()))?);
    }
    let samples = quantizer.observer().samples();
    if let Some(path) = &args.calib_stats {
        write_atomic(path, quantizer.observer().to_json(quantizer.graph()).as_bytes())?;
    }
    if !args.json {
        say!("calibrated on {samples} samples");
    }
    let Some(output) = &args.output else {
        if args.json {
            say!("{:#}", serde_json::json!({"samples": samples}));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let quantized = quantizer.quantize()?;
    for loss in &quantized.losses {
        let _ = writeln!(std::io::stderr(), "{}", plain(&format!("warning: {loss}")));
    }
    if args.strict && !quantized.losses.is_empty() {
        bail!("--strict: nothing is written because of the warnings above");
    }
    let summary = quantized.write(output)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&summary)?);
        return Ok(ExitCode::SUCCESS);
    }
    for output in &summary.widened {
        let output = printable(output);
        say!(
            "output \"{output}\" joins ranges that are far apart: 16 bits for it and what it joins"
        );
    }
    for report in &summary.steps {
        let (count, largest) = (report.changes.len(), report.largest());
        say!("{}: {count} tensors changed, by at most {largest:.3e}", report.step);
    }
    if let Some(Accumulator { node, bound, bits: of }) = &summary.accumulator {
        let bits = (*bound as f64).log2() + 1.0;
        let node = printable(node);
        say!("largest accumulator: ±{bound} ({bits:.1} of {of} bits) in node \"{node}\"");
    }
    let (bytes, was) = (summary.bytes, summary.float_bytes);
    say!("wrote {}: {bytes} bytes, from {was}", output.display());
    Ok(ExitCode::SUCCESS)
}
