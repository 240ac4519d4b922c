//! `naive-ptq quantize`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use naive_ptq::data::write_atomic;
use naive_ptq::emit;
use naive_ptq::lower::Accumulator;
use naive_ptq::quant::{Sqnr, Width};
use naive_ptq::quantize::{
    DeadChannels, Quantized, Quantizer, RangesFormat, Settings, Summary, ValueSqnr,
};
use naive_ptq::text::printable;
use naive_ptq::tune::{Event, Limits, Options, Tuned, tune};

use crate::args::DATA_HELP;
use crate::choices::{Chosen, how_bytes_are_read, warn_of};
use crate::report::ReportArgs;
use crate::tune::Watch;

/// Quantize a float network to integers of 8 or 16 bits
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx --scheme shift --granularity tensor
  naive-ptq quantize float.onnx --calib calib.npz -o int16.onnx --activations 16
  naive-ptq quantize float.onnx --calib calib.npz -o mixed.onnx --activations auto
  naive-ptq quantize float.onnx --calib calib.npz -o mixed.onnx --recipe recipe.json
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx --print-recipe > recipe.json
  naive-ptq quantize float.onnx --calib part1.npz --calib-stats part1.json
  naive-ptq quantize float.onnx --merge part1.json part2.json -o int8.onnx
  naive-ptq quantize float.onnx --calib photos/ -o int8.onnx --calibrator percentile \\
      --resize 256 --crop 224 --scale 1/255"))]
pub struct Args {
    /// Samples like those that the network will see
    #[arg(long, value_name = "DATA", required_unless_present_any = ["merge", "print_recipe"])]
    calib: Option<PathBuf>,
    /// Where the quantized model is written: an ONNX file with QuantizeLinear/DequantizeLinear pairs
    #[arg(short, long, value_name = "OUT.onnx", required_unless_present_any = ["calib_stats", "print_recipe"])]
    output: Option<PathBuf>,
    /// Write what calibration has seen, so that it can be merged with other parts of the data
    #[arg(long, value_name = "OUT.json")]
    calib_stats: Option<PathBuf>,
    /// Bits of the codes of activations [default: 8]
    #[arg(long, value_enum, value_name = "BITS")]
    activations: Option<ActivationBitsArg>,
    /// Bits of the codes of weights [default: 8]
    #[arg(long, value_enum, value_name = "BITS")]
    weights: Option<WeightBitsArg>,
    /// Print the whole of what is chosen as a recipe, and nothing else: with the same data it gives the same file
    #[arg(long, conflicts_with_all = ["json", "raw_input"])]
    print_recipe: bool,
    /// Write the ranges of all activations to this file, as they are before any step
    #[arg(long, value_name = "FILE.json", requires = "output")]
    write_ranges: Option<PathBuf>,
    /// How --write-ranges writes [default: plain]
    #[arg(long, value_enum, requires = "write_ranges")]
    ranges_format: Option<RangesFormatArg>,
    /// Refuse, and write nothing, where there is a warning: a value has lost much of what it has in the float network
    #[arg(long)]
    strict: bool,
    /// Print a summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum ActivationBitsArg {
    #[value(name = "8")]
    Eight = 8,
    #[value(name = "16")]
    Sixteen = 16,
    /// 16 where that wins most, with at most a tenth more RAM, constants and weighted MACs than 8 take
    Auto,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WeightBitsArg {
    #[value(name = "4")]
    Four = 4,
    #[value(name = "8")]
    Eight = 8,
    #[value(name = "16")]
    Sixteen = 16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RangesFormatArg {
    /// Names, and two numbers each
    Plain,
    /// AIMET's encodings, version 0.6.1
    #[value(name = "aimet-0.6.1")]
    Aimet061,
    /// AIMET's encodings, version 1.0.0
    #[value(name = "aimet-1.0.0")]
    Aimet100,
}

impl Args {
    fn widths(&self) -> Settings {
        let mut widths = Settings::default();
        widths.activations = self.activations.map(|bits| match bits {
            ActivationBitsArg::Auto => 8,
            bits => bits as u32,
        });
        widths.weights = self.weights.map(|bits| bits as u32);
        widths
    }

    /// Finds the widths of activations, if that is asked for: the quantizer with rules for them, and the result.
    fn tuned(&self, quantizer: Quantizer) -> anyhow::Result<(Quantizer, Option<Quantized>)> {
        let is_needed = self.output.is_some() || self.print_recipe;
        if self.activations != Some(ActivationBitsArg::Auto) || !is_needed {
            return Ok((quantizer, None));
        }
        let watch = Watch::new();
        let see = |event: Event| watch.see(event);
        let tuned = tune(
            &quantizer,
            &Options {
                limits: Limits { share: Some([1.1; 3]), ..Limits::default() },
                activations: vec![Width::W8, Width::W16],
                workers: self.chosen.workers(),
                watch: &see,
                ..Options::default()
            },
        );
        drop(watch);
        let Tuned { rules, quantized, .. } = tuned?;
        Ok((quantizer.rules(rules), Some(quantized)))
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let outputs = args.output.iter().chain(&args.calib_stats).chain(&args.write_ranges);
    let outputs = outputs.chain(args.report.paths());
    let outputs: Vec<&Path> = outputs.map(PathBuf::as_path).collect();
    args.chosen.check(&outputs, args.calib.as_deref())?;
    if args.report.is_wanted() && args.output.is_none() {
        bail!("--report and --model-explorer need --output");
    }
    let (quantizer, data) = args.chosen.quantizer(args.calib.as_deref(), &args.widths())?;
    let samples = quantizer.observer().samples();
    if let Some(path) = &args.calib_stats {
        write_atomic(path, quantizer.observer().to_json(quantizer.graph()).as_bytes())?;
    }
    let is_said = !args.json && !args.print_recipe;
    if is_said {
        say!("calibrated on {samples} sample{}", if samples == 1 { "" } else { "s" });
    }
    let (quantizer, tuned) = args.tuned(quantizer)?;
    if args.print_recipe {
        say!("{}", quantizer.full_recipe()?.to_json());
    }
    let Some(output) = &args.output else {
        if args.json {
            say!("{:#}", serde_json::json!({"samples": samples}));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let quantized = match tuned {
        Some(quantized) => quantized,
        None => quantizer.quantize()?,
    };
    if warn_of(&quantized) && args.strict {
        bail!("--strict: nothing is written because of the warnings above");
    }
    let summary = quantized.write(output)?;
    if let Some(path) = &args.write_ranges {
        let format = match args.ranges_format {
            None | Some(RangesFormatArg::Plain) => RangesFormat::Plain,
            Some(RangesFormatArg::Aimet061) => RangesFormat::Aimet061,
            Some(RangesFormatArg::Aimet100) => RangesFormat::Aimet100,
        };
        write_atomic(path, quantized.ranges_json(format).as_bytes())?;
    }
    let files = [output, args.chosen.model()];
    let calib = args.calib.as_deref().zip(data.as_ref());
    let workers = args.chosen.workers();
    let report = args.report.of_quantized(files, &quantizer, &quantized, calib, workers)?;
    let constants = emit::constant_bytes(&quantized.integer);
    if args.json {
        let mut facts = serde_json::to_value(&summary)?;
        facts["constant_bytes"] = constants.into();
        if let Some(report) = report {
            facts["report"] = serde_json::to_value(report)?;
        }
        say!("{facts:#}");
    }
    if !is_said {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(what) = &quantizer.graph().for_one {
        let what = printable(what);
        say!("the batch is 1, which the float file leaves open: {what} is for one sample");
    }
    for output in &summary.widened {
        let output = printable(output);
        say!(
            "output \"{output}\" joins ranges that are far apart: 16 bits for it and what it joins"
        );
    }
    if args.chosen.takes_bytes() {
        say!("raw input: {}", how_bytes_are_read(quantizer.graph()));
    }
    for report in &summary.steps {
        let (count, largest) = (report.changes.len(), report.largest());
        let step = report.step;
        match report.gain_db {
            Some(gain) if gain < 0.0 => say!("{step}: left out, it would lose {:.1} dB", -gain),
            Some(gain) => {
                say!("{step}: {count} tensors changed, by at most {largest:.3e}; {gain:+.1} dB")
            }
            None if count == 0 => {}
            None => say!("{step}: {count} tensors changed, by at most {largest:.3e}"),
        }
    }
    if let Some(Accumulator { node, bound, bits: of }) = &summary.accumulator {
        let bits = (*bound as f64).log2() + 1.0;
        let node = printable(node);
        say!("largest accumulator: ±{bound} ({bits:.1} of {of} bits) in node \"{node}\"");
    }
    say_exactness(&summary, &quantized)?;
    let (bytes, was) = (summary.bytes, summary.float_bytes);
    let output = output.display();
    say!("wrote {output}: {bytes} bytes, from {was}; {constants} bytes of constants on a device");
    Ok(ExitCode::SUCCESS)
}

/// How much is left of the float network, and where least.
fn say_exactness(summary: &Summary, quantized: &Quantized) -> anyhow::Result<()> {
    let list = |values: &[&ValueSqnr]| {
        let one = |it: &&ValueSqnr| format!("\"{}\" {:.1}", printable(&it.value), it.sqnr_db);
        values.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let graph = &quantized.graph;
    let is_output =
        |it: &&ValueSqnr| graph.outputs.iter().any(|&v| graph.values[v].name == it.value);
    let outputs: Vec<_> = summary.values.iter().filter(is_output).take(SHOWN).collect();
    // Indices, and bytes that are given, are their own codes.
    let mut worst: Vec<_> =
        summary.values.iter().filter(|it| it.sqnr_db < Sqnr::EXACT_DB).collect();
    worst.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    worst.truncate(SHOWN);
    if !worst.is_empty() {
        let (samples, outputs, worst) = (summary.judged, list(&outputs), list(&worst));
        say!("on {samples} of the samples: {outputs} dB; least exact: {worst} dB");
    }
    if !summary.dead.is_empty() {
        let sum = |of: fn(&DeadChannels) -> usize| summary.dead.iter().map(of).sum::<usize>();
        let (dead, channels) = (sum(|it| it.dead), sum(|it| it.channels));
        let layers = summary.dead.len();
        say!("{dead} of {channels} channels of {layers} layers are one number in all of them");
    }
    Ok(())
}

/// Values that are named.
const SHOWN: usize = 3;
