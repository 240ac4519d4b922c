//! `naive-ptq tune`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::{ArgGroup, ValueEnum};
use naive_ptq::data::{Dataset, write_atomic};
use naive_ptq::emit::Target;
use naive_ptq::graph::Graph;
use naive_ptq::quant::Width;
use naive_ptq::quantize::{Part, Quantizer, Settings};
use naive_ptq::tune::{
    Cost, Event, Goal, Limits, Options, TuneStep, Tuned, UnitKind, WidthChange, tune,
};
use serde_json::json;

use crate::args::{self, DATA_HELP};
use crate::choices::{Chosen, warn_of};
use crate::deploy;
use crate::eval::parse_limit;
use crate::progress::Progress;
use crate::report::ReportArgs;
use crate::table::Table;

/// Quantize a float network, and find out which values and weights need how many bits: for a signal-to-noise ratio, for
/// limits of memory and operations, or for a drop of top-1
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("goal").required(true).multiple(true).args(
    ["target_sqnr", "top1_drop", "max_ram", "max_flash", "max_macs"])))]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq tune float.onnx --calib calib.npz --target-sqnr 30 -o mixed.onnx
  naive-ptq tune float.onnx --calib calib.npz --max-ram 40000 --max-flash 60000 -o mixed.onnx
  naive-ptq tune float.onnx --calib calib.npz --top1-drop 0.5 --data labelled.npz -o mixed.onnx
  naive-ptq tune float.onnx --calib calib.npz --target-sqnr 20 --scheme shift --granularity tensor \\
      --weights 8 --resume search.json -o mixed.onnx
  naive-ptq quantize float.onnx --calib calib.npz --recipe mixed.recipe.json -o same.onnx"))]
pub struct Args {
    /// Samples like those that the network will see
    #[arg(long, value_name = "DATA", required_unless_present = "merge")]
    calib: Option<PathBuf>,
    /// Where the quantized model is written
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// As exact as this, of the outputs (of what a softmax at the end reads), on samples of the calibration that nothing is
    /// fitted to
    #[arg(long, value_name = "DB", conflicts_with = "top1_drop", value_parser = parse_limit)]
    target_sqnr: Option<f64>,
    /// Top-1 on --data no more than so many points below that of the float network
    #[arg(long, value_name = "P", requires = "data")]
    top1_drop: Option<f64>,
    /// Samples with labels, for --top1-drop
    #[arg(long, value_name = "LABELLED", requires = "top1_drop")]
    data: Option<PathBuf>,
    /// No more RAM, as `deploy` says
    #[arg(long, value_name = "BYTES")]
    max_ram: Option<usize>,
    /// No more constants, as `deploy` says
    #[arg(long, value_name = "BYTES")]
    max_flash: Option<usize>,
    /// No more multiply-accumulates; one with 16 bits on either side counts twice, and twice where its sum has 64 bits
    #[arg(long, value_name = "N")]
    max_macs: Option<u64>,
    /// Bits that values may have [default: 8,16]
    #[arg(long, value_name = "BITS,…", value_enum, value_delimiter = ',', default_values = ["8", "16"], hide_default_value = true)]
    activations: Vec<BitsArg>,
    /// Bits that weights of a layer may have [default: 4,8,16]
    #[arg(long, value_name = "BITS,…", value_enum, value_delimiter = ',', default_values = ["4", "8", "16"], hide_default_value = true)]
    weights: Vec<BitsArg>,
    /// Where RAM is counted
    #[arg(long, value_name = "TARGET", value_parser = deploy::target(), default_value = "c")]
    target: &'static dyn Target,
    /// Go on from what this file knows, if it is there, and keep in it what is measured, after each step
    #[arg(long, value_name = "FILE.json")]
    resume: Option<PathBuf>,
    /// Where the recipe is written, with which `quantize` gives the same file [default: OUT.recipe.json]
    #[arg(long, value_name = "FILE.json")]
    write_recipe: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum BitsArg {
    #[value(name = "4")]
    Four,
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

impl BitsArg {
    fn width(self) -> Width {
        match self {
            Self::Four => Width::W4,
            Self::Eight => Width::W8,
            Self::Sixteen => Width::W16,
        }
    }
}

/// The bars of a search, one after the other.
pub struct Watch(Mutex<Option<(&'static str, Progress)>>);

impl Watch {
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Draws what happens.
    pub fn see(&self, event: Event) {
        let (what, done, of) = match event {
            Event::Measured(done, of) => ("measuring", done, of),
            Event::Searching(done, of) => ("tuning", done, of),
            Event::Quantizing => ("quantizing", 0, 1),
            _ => return,
        };
        let mut bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bar.as_ref().is_none_or(|(own, _)| *own != what) {
            *bar = None;
            *bar = Some((what, Progress::new(what, of)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set(done);
        }
    }
}

impl Args {
    fn recipe_path(&self) -> PathBuf {
        self.write_recipe.clone().unwrap_or_else(|| self.output.with_extension("recipe.json"))
    }

    fn labelled(&self, quantizer: &Quantizer) -> anyhow::Result<Option<Dataset>> {
        let Some(path) = &self.data else { return Ok(None) };
        let mut preprocess = quantizer.preprocess().cloned().unwrap_or_default();
        if !path.is_dir() {
            // What was done to images is done.
            (preprocess.crop_fraction, preprocess.resize, preprocess.crop) = (None, None, None);
        }
        let data = self.chosen.declared(Dataset::open(path, &preprocess)?);
        let load = |_: &Dataset| Ok(Graph::clone(quantizer.graph()));
        Ok(Some(args::fitted(data, &Part::default(), load, Graph::named_inputs)?.1))
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let recipe = args.recipe_path();
    let outputs = [Some(&args.output), Some(&recipe), args.resume.as_ref()];
    let outputs = outputs.into_iter().flatten().chain(args.report.paths());
    let outputs: Vec<&Path> = outputs.map(PathBuf::as_path).collect();
    args.chosen.check(&outputs, args.calib.as_deref())?;
    let widths = |all: &[BitsArg]| all.iter().map(|bits| bits.width()).collect::<Vec<_>>();
    let (quantizer, data) = args.chosen.quantizer(args.calib.as_deref(), &Settings::default())?;
    let labelled = args.labelled(&quantizer)?;
    let watch = Watch::new();
    let see = |event: Event| watch.see(event);
    let tuned = tune(
        &quantizer,
        &Options {
            goal: match (args.target_sqnr, args.top1_drop, &labelled) {
                (Some(db), ..) => Goal::Sqnr(db),
                (_, Some(points), Some(data)) => Goal::Drop(points, data),
                _ => Goal::Best,
            },
            limits: Limits {
                ram_bytes: args.max_ram,
                constant_bytes: args.max_flash,
                macs: args.max_macs,
                share: None,
            },
            target: args.target,
            activations: widths(&args.activations),
            weights: widths(&args.weights),
            workers: args.chosen.workers(),
            resume: args.resume.clone(),
            watch: &see,
        },
    );
    drop(watch);
    let tuned = tuned?;
    warn_of(&tuned.quantized);
    tuned.quantized.write(&args.output)?;
    let quantizer = quantizer.rules(tuned.rules.clone());
    write_atomic(&recipe, quantizer.full_recipe()?.to_json().as_bytes())?;
    let calib = args.calib.as_deref().zip(data.as_ref());
    let files = [&*args.output, args.chosen.model()];
    let report = args.report.of_quantized(
        files,
        &quantizer,
        &tuned.quantized,
        calib,
        args.chosen.workers(),
    )?;
    match args.json {
        true => {
            let mut facts = json!({
                "steps": tuned.steps,
                "rules": tuned.rules,
                "sqnr_db": tuned.sqnr_db,
                "ram_bytes": tuned.cost.ram_bytes,
                "constant_bytes": tuned.cost.constant_bytes,
                "macs": tuned.cost.macs,
                "top1": tuned.top1.map(|[_, ours]| ours),
                "reference_top1": tuned.top1.map(|[float, _]| float),
                "samples": tuned.samples,
                "measured": tuned.measured,
            });
            if let Some(report) = report {
                facts["report"] = serde_json::to_value(report)?;
            }
            say!("{facts:#}");
        }
        false => {
            say_steps(&tuned)?;
            say!("wrote {} and {}", args.output.display(), recipe.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say_steps(tuned: &Tuned) -> anyhow::Result<()> {
    let titles = ["step", "bits", "of", "SQNR dB", "RAM", "constants", "MACs"];
    let mut table = Table::new(&titles);
    for (number, TuneStep { changes, sqnr_db, cost, .. }) in tuned.steps.iter().enumerate() {
        let one = |change: &WidthChange| {
            let of = if change.kind == UnitKind::Weights { "weights of " } else { "" };
            [format!("{} to {}", change.from, change.to), format!("{of}{}", change.name)]
        };
        let mut changes = changes.iter().map(one);
        let first = changes.next().unwrap_or_else(|| ["".into(), "as asked for".into()]);
        let Cost { ram_bytes, constant_bytes, macs } = cost;
        let numbers = [format!("{sqnr_db:.2}"), ram_bytes.to_string(), constant_bytes.to_string()];
        table.row(
            [number.to_string()].into_iter().chain(first).chain(numbers).chain([macs.to_string()]),
        );
        changes.for_each(|change| table.row([String::new()].into_iter().chain(change)));
    }
    say!("{table}");
    let Tuned { sqnr_db, cost, samples, .. } = tuned;
    say!(
        "quantized with these widths: {sqnr_db:.2} dB on {samples} samples, {} bytes of RAM, {} of constants, {} weighted MACs",
        cost.ram_bytes,
        cost.constant_bytes,
        cost.macs
    );
    if let Some([float, ours]) = tuned.top1 {
        say!("top-1 {:.2} %, of the float network {:.2} %", 100.0 * ours, 100.0 * float);
    }
    Ok(())
}
