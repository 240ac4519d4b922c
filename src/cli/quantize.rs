//! `naive-ptq quantize`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;
use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::data::{Dataset, Preprocess, check_outputs, write_atomic};
use naive_ptq::emit;
use naive_ptq::graph::Graph;
use naive_ptq::lower::Accumulator;
use naive_ptq::quant::{Scheme, Sqnr};
use naive_ptq::quantize::{
    BiasCorrection, Data, DeadChannels, Defaults, Quantized, Quantizer, Ranges, RangesFormat,
    Recipe, Step, Summary, ValueSqnr, default_steps, step, steps_of,
};
use naive_ptq::text::printable;

use crate::args::{self, DATA_HELP, PreprocessArgs, ShapeArgs, ThreadArgs, note, warn};
use crate::progress::Progress;

/// Quantize a float network to integers of 8 or 16 bits
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx --scheme shift --granularity tensor
  naive-ptq quantize float.onnx --calib calib.npz -o int16.onnx --activations 16
  naive-ptq quantize float.onnx --calib calib.npz -o mixed.onnx --recipe recipe.json
  naive-ptq quantize float.onnx --calib calib.npz -o int8.onnx --print-recipe > recipe.json
  naive-ptq quantize float.onnx --calib part1.npz --calib-stats part1.json
  naive-ptq quantize float.onnx --merge part1.json part2.json -o int8.onnx
  naive-ptq quantize float.onnx --calib photos/ -o int8.onnx --calibrator percentile \\
      --resize 256 --crop 224 --scale 1/255"))]
pub struct Args {
    /// The float model
    model: PathBuf,
    /// Samples like those that the network will see
    #[arg(long, value_name = "DATA", required_unless_present_any = ["merge", "print_recipe"])]
    calib: Option<PathBuf>,
    /// Where the quantized model is written: an ONNX file with QuantizeLinear/DequantizeLinear pairs
    #[arg(short, long, value_name = "OUT.onnx", required_unless_present_any = ["calib_stats", "print_recipe"])]
    output: Option<PathBuf>,
    /// Write what calibration has seen, so that it can be merged with other parts of the data
    #[arg(long, value_name = "OUT.json")]
    calib_stats: Option<PathBuf>,
    /// Use the statistics of these files, together with --calib if it is given
    #[arg(long, value_name = "STATS.json", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// How much is done against the loss, from 0, which takes next to no time, to 3 [default: 1]
    #[arg(long, value_name = "0…3", value_parser = clap::value_parser!(u8).range(0..=3))]
    effort: Option<u8>,
    /// Of what makes up for the loss, do these steps alone: equalize, round-weights, bias-correction
    #[arg(long, value_name = "STEP", value_delimiter = ',', conflicts_with = "effort")]
    only: Option<Vec<String>>,
    /// Leave out these steps
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    without: Vec<String>,
    /// The same as --without bias-correction
    #[arg(long)]
    no_bias_correction: bool,
    /// Where scales may lie [default: scale]
    #[arg(long, value_enum)]
    scheme: Option<PresetArg>,
    /// Which weights share a scale [default: channel]
    #[arg(long, value_enum)]
    granularity: Option<GranularityArg>,
    /// Bits of the codes of activations [default: 8]
    #[arg(long, value_enum, value_name = "BITS")]
    activations: Option<BitsArg>,
    /// Bits of the codes of weights [default: 8]
    #[arg(long, value_enum, value_name = "BITS")]
    weights: Option<WeightBitsArg>,
    /// What is chosen by default, and exceptions for some nodes: {"version": 1, "defaults": {…}, "rules": [{"nodes": REGEX,
    /// "types": […], "values": REGEX, "activations": 16, "weights": 16, "scheme": "shift", "granularity": "tensor",
    /// "calibrator": "minmax"}]}, or the list alone; options that are given here win over its defaults
    #[arg(long, value_name = "FILE.json")]
    recipe: Option<PathBuf>,
    /// Print the whole of what is chosen as a recipe, and nothing else: with the same data it gives the same file
    #[arg(long, conflicts_with = "json")]
    print_recipe: bool,
    /// Bits of the codes of the network's outputs [default: those of --activations and --recipe; 16 where a Concat joins
    /// ranges that are far apart]
    #[arg(long, value_enum, value_name = "BITS")]
    output_bits: Option<BitsArg>,
    /// Make the arguments of each Concat that is an output outputs of their own, named as they are
    #[arg(long)]
    split_outputs: bool,
    /// Make the network take bytes without a sign, and compute --scale, --mean and --std itself: in the scale of its input
    /// and in its first weights where that changes nothing, else in a node of its own
    #[arg(long, value_enum, value_name = "TYPE", conflicts_with = "print_recipe")]
    raw_input: Option<RawArg>,
    /// Use the ranges of this file where it has some, and calibrate the others: {"value": {"lo": -1, "hi": 2.5}, …}, or AIMET's
    /// encodings, of version 0.6.1 or 1.0.0; nothing is equalized then
    #[arg(long, value_name = "FILE.json")]
    ranges: Option<PathBuf>,
    /// Write the ranges of all activations to this file, as they are before any step
    #[arg(long, value_name = "FILE.json", requires = "output")]
    write_ranges: Option<PathBuf>,
    /// How --write-ranges writes [default: plain]
    #[arg(long, value_enum, requires = "write_ranges")]
    ranges_format: Option<RangesFormatArg>,
    /// How ranges of 8-bit activations are chosen; those of 16 bits take twice what was seen [default: auto]
    #[arg(long, value_enum)]
    calibrator: Option<CalibratorArg>,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PresetArg {
    /// Power-of-two scales: every rescaling is a shift
    Shift,
    /// Any scale, asymmetric activations
    Scale,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GranularityArg {
    /// One scale for the whole weight
    Tensor,
    /// One scale for each output channel
    Channel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BitsArg {
    #[value(name = "8")]
    Eight = 8,
    #[value(name = "16")]
    Sixteen = 16,
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

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum RawArg {
    /// 0 to 255, as cameras give them
    U8,
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

/// The name that a recipe has for it.
fn named(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

impl Args {
    /// What the options say, as a recipe does.
    fn asked(&self) -> Defaults {
        let mut asked = Defaults::default();
        let settings = &mut asked.settings;
        settings.scheme = self.scheme.map(named);
        settings.granularity = self.granularity.map(named);
        settings.activations = self.activations.map(|bits| bits as u32);
        settings.weights = self.weights.map(|bits| bits as u32);
        settings.percentile = self.percentile;
        settings.calibrator = self.calibrator.map(named);
        asked.output_bits = self.output_bits.map(|bits| bits as u32);
        asked.split_outputs = self.split_outputs.then_some(true);
        asked
    }

    /// The steps that the options ask for, if they do, in place of `own`.
    fn steps(&self, own: Option<&Vec<String>>) -> naive_ptq::Result<Option<Vec<String>>> {
        let names = |steps: Vec<Box<dyn Step>>| {
            steps.iter().map(|step| step.name().to_owned()).collect::<Vec<_>>()
        };
        let of_effort = self.effort.map(|effort| names(steps_of(effort)));
        let mut without = self.without.clone();
        without.extend(self.no_bias_correction.then(|| BiasCorrection.name().to_owned()));
        without
            .iter()
            .chain(self.only.iter().flatten())
            .try_for_each(|name| step(name).map(drop))?;
        let mut asked = self.only.clone().or(of_effort);
        if !without.is_empty() {
            let mut rest = asked.or(own.cloned()).unwrap_or_else(|| names(default_steps()));
            rest.retain(|name| !without.contains(name));
            asked = Some(rest);
        }
        Ok(asked)
    }

    /// The recipe of the file, if there is one, with what the options say in its place.
    fn whole_recipe(&self) -> anyhow::Result<Recipe> {
        let mut recipe = Recipe { version: 1, ..Recipe::default() };
        if let Some(path) = &self.recipe {
            let at = || format!("{}", path.display());
            recipe = Recipe::from_json(&std::fs::read_to_string(path).with_context(at)?)
                .with_context(at)?;
            recipe.check().with_context(at)?;
            let mut asked = self.asked();
            asked.steps = self.steps(recipe.defaults.steps.as_ref())?;
            for replaced in recipe.override_defaults(&asked) {
                warn(&format!("{}: {replaced}: an option says so", path.display()));
            }
        } else {
            recipe.override_defaults(&Defaults { steps: self.steps(None)?, ..self.asked() });
        }
        recipe.model = self.shapes.or(&recipe.model);
        Ok(recipe)
    }
}

/// What becomes of the preprocessing of bytes.
fn how_bytes_are_read(graph: &Graph) -> String {
    let bytes = |v: &&usize| graph.values[**v].given.is_some_and(|given| given.is_bytes());
    let Some(value) = graph.inputs.iter().find(bytes).map(|&v| &graph.values[v]) else {
        return String::new();
    };
    let (given, own) = (value.given.map(|given| given.params()), value.quant.clone());
    let mut how = "the codes are the bytes".to_owned();
    if let (Some(given), Some(own)) = (given, own) {
        let zero = own.zero_point - given.zero_point;
        how += &format!(", read as {:e} * (byte - {zero})", own.scale[0]);
    }
    let of_input = format!("{}.", value.name);
    match graph.nodes.iter().find(|node| node.name.starts_with(&of_input)) {
        Some(node) => {
            let name = printable(&node.name);
            format!("{how}; node \"{name}\" does the rest, with a rounding of its own")
        }
        None => how + ", and nothing is rounded",
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(percent) = args.percentile.filter(|&it| !(it > 0.0 && it <= 100.0)) {
        bail!("--percentile {percent}: expected more than 0, at most 100");
    }
    let outputs = args.output.iter().chain(&args.calib_stats).chain(&args.write_ranges);
    let sources = [&args.model]
        .into_iter()
        .chain(&args.calib)
        .chain(&args.merge)
        .chain(&args.recipe)
        .chain(&args.ranges);
    let [outputs, sources] = [Vec::from_iter(outputs), Vec::from_iter(sources)]
        .map(|paths| Vec::from_iter(paths.into_iter().map(PathBuf::as_path)));
    check_outputs(&outputs, &sources)?;
    let mut recipe = args.whole_recipe()?;

    // The data are those of the recipe, if they are like them.
    let kept = recipe.data.as_ref();
    let of_model = args::kept(&args.model)?;
    let kept_preprocess = kept.and_then(|kept| kept.preprocess.as_ref()).or(of_model.as_ref());
    let whole = args.preprocess.or(kept_preprocess)?;
    let mut preprocess = whole.clone();
    if args.raw_input.is_some() {
        // The network does it.
        (preprocess.scale, preprocess.mean, preprocess.std) = (1.0, vec![], vec![]);
    }
    let samples = args.samples.map(u64::from).or(kept.map(|kept| kept.samples));
    let data = args.calib.as_ref().map(|path| Dataset::open(path, &preprocess)).transpose()?;
    let data = data.map(|data| args.preprocess.declared(data)).map(|data| match samples {
        Some(n) => data.take(n.try_into().unwrap_or(usize::MAX)),
        None => data,
    });
    // Statistics say it themselves, but for old ones.
    if data.is_some() || whole != Preprocess::default() {
        recipe.data.get_or_insert_with(Data::default).preprocess = Some(preprocess);
    }
    let load = |data: Option<&Dataset>| {
        let options = args::options(&recipe.model, data)?;
        anyhow::Ok(match args.raw_input {
            Some(RawArg::U8) => Quantizer::with_raw_input(&args.model, &options, &whole)?,
            None => Quantizer::with_options(&args.model, &options)?,
        })
    };
    let (quantizer, data) = match data {
        Some(data) => {
            let load = |data: &Dataset| load(Some(data));
            let (quantizer, data) =
                args::fitted(data, &recipe.model, load, |it| it.graph().named_inputs())?;
            (quantizer, Some(data))
        }
        None => (load(None)?, None),
    };
    let quantizer = quantizer.calibrator(Calibrator::Auto).threads(args.threads.workers());
    // What it says is looked at before anything is computed.
    let plan = recipe.plan(quantizer.graph(), Scheme::default());
    match &args.recipe {
        Some(path) => plan.with_context(|| format!("{}", path.display()))?,
        None => plan?,
    };
    let mut quantizer = quantizer.recipe(recipe);
    if let Some(path) = &args.ranges {
        let at = || format!("{}", path.display());
        let ranges = Ranges::from_json(&std::fs::read_to_string(path).with_context(at)?);
        let ranges = ranges.with_context(at)?;
        ranges.check(quantizer.graph()).with_context(at)?;
        quantizer = quantizer.ranges(ranges);
    }
    if let Some(data) = &data {
        let bar = Progress::new("calibrating", data.len());
        let done = |n| bar.set(n);
        let workers = args.threads.workers().with_progress(&done);
        quantizer = quantizer.calibrate_with(data, workers)?;
    }
    for path in &args.merge {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let stats = Observer::from_json(&text, quantizer.graph())
            .with_context(|| format!("{}", path.display()))?;
        let [ours, theirs] = [quantizer.preprocess(), stats.preprocess()];
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            let [ours, theirs] = [ours, theirs].map(serde_json::to_string);
            bail!("{}: its samples were made by {}, others by {}", path.display(), theirs?, ours?);
        }
        let seen = quantizer.observer();
        if seen.holds(&stats) || stats.holds(seen) {
            bail!("{}: its samples were seen before: each part is merged once", path.display());
        }
        quantizer = quantizer.merge(stats);
    }
    let samples = quantizer.observer().samples();
    if let Some(path) = &args.calib_stats {
        write_atomic(path, quantizer.observer().to_json(quantizer.graph()).as_bytes())?;
    }
    let is_said = !args.json && !args.print_recipe;
    if is_said {
        say!("calibrated on {samples} sample{}", if samples == 1 { "" } else { "s" });
    }
    if args.print_recipe {
        say!("{}", quantizer.full_recipe()?.to_json());
    }
    let Some(output) = &args.output else {
        if args.json {
            say!("{:#}", serde_json::json!({"samples": samples}));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let quantized = quantizer.quantize()?;
    quantized.hints.iter().for_each(|hint| note("hint", hint));
    quantized.idle_rules.iter().for_each(|rule| warn(rule));
    quantized.losses.iter().for_each(|loss| warn(&loss.to_string()));
    if args.strict && !quantized.losses.is_empty() {
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
    let constants = emit::constant_bytes(&quantized.integer);
    if args.json {
        let mut facts = serde_json::to_value(&summary)?;
        facts["constant_bytes"] = constants.into();
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
    if args.raw_input.is_some() {
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
