//! What `quantize` and `tune` choose alike, and the network that they calibrate.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::data::{Dataset, Preprocess, Workers, check_outputs};
use naive_ptq::graph::Graph;
use naive_ptq::onnx;
use naive_ptq::quant::Scheme;
use naive_ptq::quantize::{
    BiasCorrection, Data, Defaults, Quantized, Quantizer, Ranges, Recipe, Settings, Step,
    default_steps, step, steps_of,
};
use naive_ptq::text::printable;

use crate::args::{self, PreprocessArgs, ShapeArgs, ThreadArgs, note, warn};
use crate::progress::Progress;

/// How the float network is read, calibrated and quantized.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// The float model
    model: PathBuf,
    /// Use the statistics of these files, together with --calib if it is given
    #[arg(long, value_name = "STATS.json", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// How much is done against the loss, from 0, which takes next to no time, to 3 [default: 1]
    #[arg(long, value_name = "0…3", value_parser = clap::value_parser!(u8).range(0..=3))]
    effort: Option<u8>,
    /// Of what makes up for the loss, do these steps alone: narrow-ranges, equalize, round-weights, bias-correction
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
    /// What is chosen by default, and exceptions for some nodes: {"version": 1, "defaults": {…}, "rules": [{"nodes": REGEX,
    /// "types": […], "values": REGEX, "activations": 16, "weights": 16, "scheme": "shift", "granularity": "tensor",
    /// "calibrator": "minmax"}]}, or the list alone; options that are given here win over its defaults
    #[arg(long, value_name = "FILE.json")]
    recipe: Option<PathBuf>,
    /// Bits of the codes of the network's outputs [default: those of --activations and --recipe; 16 where a Concat joins
    /// ranges that are far apart]
    #[arg(long, value_enum, value_name = "BITS")]
    output_bits: Option<BitsArg>,
    /// Make the arguments of each Concat that is an output outputs of their own, named as they are
    #[arg(long)]
    split_outputs: bool,
    /// Make the network take bytes without a sign, and compute --scale, --mean and --std itself: in the scale of its input
    /// and in its first weights where that changes nothing, else in a node of its own
    #[arg(long, value_enum, value_name = "TYPE")]
    raw_input: Option<RawArg>,
    /// Use the ranges of this file where it has some, and calibrate the others: {"value": {"lo": -1, "hi": 2.5}, …}, or AIMET's
    /// encodings, of version 0.6.1 or 1.0.0; nothing is equalized then
    #[arg(long, value_name = "FILE.json")]
    ranges: Option<PathBuf>,
    /// How ranges of 8-bit activations are chosen; those of 16 bits take twice what was seen [default: auto]
    #[arg(long, value_enum)]
    calibrator: Option<CalibratorArg>,
    /// Calibrate by percentile, with this share of the values inside the range [default: 99.99]
    #[arg(long, value_name = "PERCENT")]
    percentile: Option<f64>,
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
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
pub enum BitsArg {
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

impl Chosen {
    /// What the options say, as a recipe does; `widths` are said elsewhere.
    fn asked(&self, widths: &Settings) -> Defaults {
        let mut asked = Defaults { settings: widths.clone(), ..Defaults::default() };
        let settings = &mut asked.settings;
        settings.scheme = self.scheme.map(named);
        settings.granularity = self.granularity.map(named);
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
    fn whole_recipe(&self, widths: &Settings) -> anyhow::Result<Recipe> {
        let mut recipe = Recipe { version: 1, ..Recipe::default() };
        if let Some(path) = &self.recipe {
            let at = || format!("{}", path.display());
            recipe = Recipe::from_json(&std::fs::read_to_string(path).with_context(at)?)
                .with_context(at)?;
            recipe.check().with_context(at)?;
            let mut asked = self.asked(widths);
            asked.steps = self.steps(recipe.defaults.steps.as_ref())?;
            for replaced in recipe.override_defaults(&asked) {
                warn(&format!("{}: {replaced}: an option says so", path.display()));
            }
        } else {
            recipe.override_defaults(&Defaults { steps: self.steps(None)?, ..self.asked(widths) });
        }
        recipe.model = self.shapes.or(&recipe.model);
        Ok(recipe)
    }

    /// Whether the network is to take bytes.
    pub fn takes_bytes(&self) -> bool {
        self.raw_input.is_some()
    }

    /// The data with what is said of how they lie.
    pub fn declared(&self, data: Dataset) -> Dataset {
        self.preprocess.declared(data)
    }

    /// Who computes.
    pub fn workers(&self) -> Workers<'static> {
        self.threads.workers()
    }

    /// The float model.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// Refuses options that make no sense, and `outputs` that are read, too.
    pub fn check(&self, outputs: &[&Path], calib: Option<&Path>) -> anyhow::Result<()> {
        if let Some(percent) = self.percentile.filter(|&it| !(it > 0.0 && it <= 100.0)) {
            bail!("--percentile {percent}: expected more than 0, at most 100");
        }
        let files = self.merge.iter().chain(&self.recipe).chain(&self.ranges);
        let files = [&self.model].into_iter().chain(files).map(PathBuf::as_path);
        Ok(check_outputs(outputs, &Vec::from_iter(files.chain(calib)))?)
    }

    /// The network, calibrated with the samples at `calib` and what is merged; and those samples.
    pub fn quantizer(
        &self,
        calib: Option<&Path>,
        widths: &Settings,
    ) -> anyhow::Result<(Quantizer, Option<Dataset>)> {
        let mut recipe = self.whole_recipe(widths)?;

        // The data are those of the recipe, if they are like them.
        let kept = recipe.data.as_ref();
        let of_model = args::kept(&self.model)?;
        let kept_preprocess = kept.and_then(|kept| kept.preprocess.as_ref()).or(of_model.as_ref());
        let whole = self.preprocess.or(kept_preprocess)?;
        let mut preprocess = whole.clone();
        if self.raw_input.is_some() {
            // The network does it.
            (preprocess.scale, preprocess.mean, preprocess.std) = (1.0, vec![], vec![]);
        }
        let samples = self.samples.map(u64::from).or(kept.map(|kept| kept.samples));
        let data = calib.map(|path| Dataset::open(path, &preprocess)).transpose()?;
        let data = data.map(|data| self.preprocess.declared(data)).map(|data| match samples {
            Some(n) => data.take(n.try_into().unwrap_or(usize::MAX)),
            None => data,
        });
        // Statistics say it themselves, but for old ones.
        if data.is_some() || whole != Preprocess::default() {
            recipe.data.get_or_insert_with(Data::default).preprocess = Some(preprocess);
        }
        let load = |data: Option<&Dataset>| {
            let options = args::options(&recipe.model, data)?;
            anyhow::Ok(match self.raw_input {
                Some(RawArg::U8) => Quantizer::with_raw_input(&self.model, &options, &whole)?,
                None => Quantizer::with_options(&self.model, &options)?,
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
        let quantizer = quantizer.calibrator(Calibrator::Auto).threads(self.threads.workers());
        // What it says is looked at before anything is computed.
        let plan = recipe.plan(quantizer.graph(), Scheme::default());
        match &self.recipe {
            Some(path) => plan.with_context(|| format!("{}", path.display()))?,
            None => plan?,
        };
        let mut quantizer = quantizer.recipe(recipe);
        if let Some(path) = &self.ranges {
            let at = || format!("{}", path.display());
            let ranges = Ranges::from_json(&std::fs::read_to_string(path).with_context(at)?);
            let ranges = ranges.with_context(at)?;
            ranges.check(quantizer.graph()).with_context(at)?;
            quantizer = quantizer.ranges(ranges);
        }
        if let Some(data) = &data {
            let bar = Progress::new("calibrating", data.len());
            let done = |n| bar.set(n);
            let workers = self.threads.workers().with_progress(&done);
            quantizer = quantizer.calibrate_with(data, workers)?;
        }
        for path in &self.merge {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            let stats = Observer::from_json(&text, quantizer.graph())
                .with_context(|| format!("{}", path.display()))?;
            let [ours, theirs] = [quantizer.preprocess(), stats.preprocess()];
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && ours != theirs
            {
                let [ours, theirs] = [ours, theirs].map(serde_json::to_string);
                bail!(
                    "{}: its samples were made by {}, others by {}",
                    path.display(),
                    theirs?,
                    ours?
                );
            }
            let seen = quantizer.observer();
            if seen.holds(&stats) || stats.holds(seen) {
                bail!("{}: its samples were seen before: each part is merged once", path.display());
            }
            quantizer = quantizer.merge(stats);
        }
        Ok((quantizer, data))
    }
}

/// What becomes of the preprocessing of bytes.
pub fn how_bytes_are_read(graph: &Graph) -> String {
    let bytes = |v: &&usize| graph.values[**v].given.is_some_and(|given| given.is_bytes());
    let Some(value) = graph.inputs.iter().find(bytes).map(|&v| &graph.values[v]) else {
        return String::new();
    };
    let (given, own) = (value.given.map(|given| given.params()), value.quant.clone());
    let mut how = "the codes are the bytes".to_owned();
    let folded = graph.metadata.get(onnx::RAW_INPUT);
    let folded = folded.and_then(|json| serde_json::from_str::<Preprocess>(json).ok());
    let is_idle = |it: Preprocess| it.scale == 1.0 && it.mean.is_empty() && it.std.is_empty();
    let does_the_rest = given == own && !folded.is_none_or(is_idle);
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
        None if does_the_rest => how + "; the weights of the first layer do the rest",
        None => how + ", and nothing is rounded",
    }
}

/// Says what is strange about a quantized network; whether that is much.
pub fn warn_of(quantized: &Quantized) -> bool {
    quantized.hints.iter().for_each(|hint| note("hint", hint));
    quantized.idle_rules.iter().for_each(|rule| warn(rule));
    quantized.losses.iter().for_each(|loss| warn(&loss.to_string()));
    !quantized.losses.is_empty()
}
