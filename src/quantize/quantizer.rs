//! From a float file to a quantized one, in one chain of calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::hints::hints;
use super::losses::{DeadChannels, Findings, Loss, ValueSqnr, losses};
use super::masks::{check_masked, soften_masks};
use super::ranges::to_json;
use super::{
    Data, Defaults, Params, Plan, Ranges, RangesFormat, Recipe, Report, Rule, Session, Settings,
    Step, choose_params, default_steps, export_checked, prepare, raw_input, split_outputs,
};
use crate::calibrate::{Calibrator, Observer, observe};
use crate::data::{Preprocess, Samples, Workers, write_atomic};
use crate::error::{Context, Result, bail};
use crate::exec::float::FloatExecutor;
use crate::graph::{Copies, Graph};
use crate::lower::{Accumulator, IntGraph};
use crate::onnx::{self, ImportOptions, PREPROCESS, RAW_INPUT};
use crate::quant::{Range, Scheme, Width};
use crate::tensor::Tensor;

/// A float network on its way to integers: calibrate it, then quantize it.
///
/// ```
/// use naive_ptq::{Dataset, Preprocess, Quantizer};
///
/// # fn main() -> naive_ptq::Result<()> {
/// # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion");
/// # let (float, int8) = (folder.join("float.onnx"), std::env::temp_dir().join("naive_ptq_doc.onnx"));
/// let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
/// let data = Dataset::open(folder.join("calib.npz"), &preprocess)?.take(20);
/// let summary = Quantizer::new(&float)?.calibrate(&data)?.quantize()?.write(&int8)?;
/// assert_eq!(summary.samples, 20);
/// # std::fs::remove_file(&int8)?;
/// # Ok(())
/// # }
/// ```
pub struct Quantizer {
    path: Option<PathBuf>,
    network: FloatExecutor,
    observer: Observer,
    scheme: Scheme,
    recipe: Recipe,
    calibrator: Option<Calibrator>,
    output_width: Option<Width>,
    steps: Vec<Box<dyn Step>>,
    ranges: Ranges,
    threads: Workers<'static>,
}

impl Quantizer {
    /// Reads a float network, or one that another tool has quantized in part: what has codes keeps them.
    ///
    /// # Errors
    /// What is wrong with the file, or not supported, and where; a network that is quantized already.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_options(path, &ImportOptions::default())
    }

    /// As [`new`](Self::new), with shapes for inputs that the file leaves open, or a part of it.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_options(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Self> {
        let path = path.as_ref();
        let quantizer = Self::from_graph(onnx::load_with(path, options)?).in_file(path)?;
        Ok(Self { path: Some(path.into()), ..quantizer })
    }

    /// As [`with_options`](Self::with_options), for a device that gives the network bytes: it computes the scale, mean and
    /// standard deviation of `preprocess` itself, and samples are bytes, too.
    ///
    /// # Errors
    /// Those of [`new`](Self::new) and of [`raw_input`].
    pub fn with_raw_input(
        path: impl AsRef<Path>,
        options: &ImportOptions,
        preprocess: &Preprocess,
    ) -> Result<Self> {
        let path = path.as_ref();
        let mut graph = onnx::load_with(path, options)?;
        raw_input(&mut graph, preprocess).in_file(path)?;
        let folded = Preprocess {
            scale: preprocess.scale,
            mean: preprocess.mean.clone(),
            std: preprocess.std.clone(),
            layout: preprocess.layout,
            ..Preprocess::default()
        };
        if let Ok(json) = serde_json::to_string(&folded) {
            graph.metadata.insert(RAW_INPUT.into(), json);
        }
        let quantizer = Self::from_graph(graph).in_file(path)?;
        Ok(Self { path: Some(path.into()), ..quantizer })
    }

    /// Takes an imported network.
    ///
    /// # Errors
    /// A network that is quantized already; the node that adds a mask without codes, or reads a constant that too many
    /// others read.
    pub fn from_graph(mut graph: Graph) -> Result<Self> {
        prepare(&mut graph)?;
        soften_masks(&mut graph);
        check_masks(&graph)?;
        // Before calibration, which takes long.
        let mut copies = Copies::new();
        graph.nodes.iter().try_for_each(|node| copies.take(&graph, node))?;
        if graph.has_codes() && graph.activations().all(|v| graph.values[v].quant.is_some()) {
            bail!(Invalid, "the network is quantized already");
        }
        Ok(Self {
            path: None,
            observer: Observer::new(&graph),
            network: FloatExecutor::new(graph),
            scheme: Scheme::default(),
            recipe: Recipe::default(),
            calibrator: None,
            output_width: None,
            steps: default_steps(),
            ranges: Ranges::default(),
            threads: Workers::default(),
        })
    }

    /// What is asked for; [`Scheme::default`] without this.
    pub fn scheme(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }

    /// What counts more than all else that is said here, and exceptions for some nodes; nothing without this. One that
    /// splits outputs forgets what calibration has seen.
    pub fn recipe(self, recipe: Recipe) -> Self {
        let split = recipe.defaults.split_outputs == Some(true);
        let with_recipe = Self { recipe, ..self };
        if split { with_recipe.split_outputs() } else { with_recipe }
    }

    /// Who computes; by default all cores. The result does not depend on it.
    pub fn threads(self, threads: Workers<'static>) -> Self {
        Self { threads, ..self }
    }

    /// How ranges are chosen; [`Calibrator::of`] the scheme without this.
    pub fn calibrator(self, calibrator: Calibrator) -> Self {
        Self { calibrator: Some(calibrator), ..self }
    }

    /// Bits of the network's outputs; without this they have what the scheme and the recipe say, but 16 where a Concat
    /// joins what lies far apart.
    pub fn output_width(self, width: Width) -> Self {
        Self { output_width: Some(width), ..self }
    }

    /// Makes the arguments of each Concat that is an output outputs in its place; forgets what calibration has seen.
    pub fn split_outputs(self) -> Self {
        let mut graph = Graph::clone(self.graph());
        split_outputs(&mut graph);
        Self { observer: Observer::new(&graph), network: FloatExecutor::new(graph), ..self }
    }

    /// Ranges of activations, by name, in the place of those that calibration chooses; none without this.
    pub fn ranges(self, ranges: Ranges) -> Self {
        Self { ranges, ..self }
    }

    /// What makes up for the loss; [`default_steps`] without this.
    pub fn steps(self, steps: Vec<Box<dyn Step>>) -> Self {
        Self { steps, ..self }
    }

    /// Runs `samples` through the float network and records every activation, on all cores.
    ///
    /// # Errors
    /// The sample that cannot be read, does not fit or makes a number that is not finite.
    pub fn calibrate(self, samples: &dyn Samples) -> Result<Self> {
        let threads = self.threads;
        self.calibrate_with(samples, threads)
    }

    /// As [`calibrate`](Self::calibrate), by these workers; the result does not depend on them.
    ///
    /// # Errors
    /// Those of [`calibrate`](Self::calibrate).
    pub fn calibrate_with(self, samples: &dyn Samples, workers: Workers) -> Result<Self> {
        let mut seen = observe(&self.network, samples, workers)?;
        seen.set_preprocess(self.preprocess().cloned());
        Ok(self.merge(seen))
    }

    /// Runs samples through the float network that come one after the other: each an item with one tensor
    /// for each input.
    ///
    /// # Errors
    /// Those of [`calibrate`](Self::calibrate).
    pub fn calibrate_stream(
        mut self,
        samples: impl IntoIterator<Item = Vec<Tensor<f32>>>,
    ) -> Result<Self> {
        for (i, inputs) in samples.into_iter().enumerate() {
            self.observer.see_sample(&self.network, &inputs).in_sample(i)?;
        }
        Ok(self)
    }

    /// Adds what has been seen elsewhere of the same network.
    pub fn merge(mut self, observer: Observer) -> Self {
        self.observer.merge(observer);
        self
    }

    /// What calibration has seen.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The float network, prepared.
    pub fn graph(&self) -> &Arc<Graph> {
        self.network.graph()
    }

    /// All that is asked for, and what calibration has seen: with the same data it gives the same file.
    ///
    /// # Errors
    /// Settings that do not exist.
    pub fn full_recipe(&self) -> Result<Recipe> {
        let asked = &self.recipe.defaults;
        let scheme = asked.settings.over(self.scheme)?;
        let calibrator = asked.settings.calibrator(scheme)?.unwrap_or(self.base_calibrator(scheme));
        let names = || self.steps.iter().map(|step| step.name().to_owned()).collect();
        let output_width = asked.output_width()?.or(self.output_width);
        let data = (self.observer.samples() > 0).then(|| Data {
            samples: self.observer.samples(),
            hash: self.observer.hash().map(|hash| format!("{hash:016x}")),
            preprocess: self.preprocess().cloned(),
        });
        Ok(Recipe {
            version: 1,
            defaults: Defaults {
                settings: Settings::all(scheme, calibrator),
                steps: Some(asked.steps.clone().unwrap_or_else(names)),
                output_bits: output_width.map(Width::bits),
                split_outputs: asked.split_outputs,
            },
            data,
            ..self.recipe.clone()
        })
    }

    fn base_calibrator(&self, scheme: Scheme) -> Calibrator {
        self.calibrator.unwrap_or(Calibrator::of(scheme))
    }

    /// The plan of `recipe`, and the outputs that are widened.
    fn plan(&self, recipe: &Recipe) -> Result<(Plan, Vec<String>)> {
        let mut plan = recipe.plan(self.graph(), self.scheme)?;
        plan.ranges.clone_from(&self.ranges);
        plan.widen_masked(self.graph());
        let widened = match recipe.defaults.output_width()?.or(self.output_width) {
            Some(width) => {
                plan.set_output_width(self.graph(), width);
                vec![]
            }
            None => plan.widen_joined_outputs(self.graph(), &self.observer),
        };
        Ok((plan, widened))
    }

    /// The rules of the recipe without which every code would be the same.
    fn idle_rules(&self, recipe: &Recipe, plan: &Plan) -> Result<Vec<String>> {
        let (graph, calibrator) = (self.graph(), self.base_calibrator(plan.default));
        let ranges = self.observer.ranges(Calibrator::MinMax);
        let effect = |plan: &Plan| -> Result<_> {
            let widths = plan.widths(graph);
            let mut calibrators = plan.calibrators(graph, calibrator);
            for v in 0..calibrators.len() {
                if widths[v] != Width::W8 || self.observer.is_whole(v) {
                    calibrators[v] = Calibrator::MinMax;
                }
            }
            Ok((choose_params(graph, &ranges, plan)?, calibrators))
        };
        let mut idle = Vec::new();
        let Ok(whole) = effect(plan) else { return Ok(idle) };
        for (index, rule) in recipe.rules.iter().enumerate() {
            let (plan, _) = self.plan(&recipe.without(index))?;
            if effect(&plan).is_ok_and(|without| without == whole) {
                idle.push(format!("rule {} changes nothing: {}", index + 1, rule.asked()));
            }
        }
        Ok(idle)
    }

    /// Refuses other samples than those that the recipe names.
    fn check_data(&self) -> Result<()> {
        let Some(Data { samples, hash: Some(wanted), .. }) = &self.recipe.data else {
            return Ok(());
        };
        match self.observer.hash().map(|hash| format!("{hash:016x}")) {
            Some(seen) if seen != *wanted => bail!(
                Invalid,
                "the recipe is for other data: {samples} samples with hash {wanted}, not {} with {seen}; without its \
                 \"data\" it is for any",
                self.observer.samples()
            ),
            _ => Ok(()),
        }
    }

    /// How the samples were made, as the recipe says, or else the statistics.
    pub fn preprocess(&self) -> Option<&Preprocess> {
        let said = self.recipe.data.as_ref().and_then(|data| data.preprocess.as_ref());
        said.or(self.observer.preprocess())
    }

    /// Writes down what the data were made by, where that is anything.
    fn keep_preprocess(&self, graph: &mut Graph) {
        // Where the network does some of it, it is said that nothing is left.
        let is_raw = graph.metadata.contains_key(RAW_INPUT);
        let said = self.preprocess().filter(|it| is_raw || **it != Preprocess::default());
        let Some(preprocess) = said else { return };
        if let Ok(json) = serde_json::to_string(preprocess) {
            graph.metadata.insert(PREPROCESS.into(), json);
        }
    }

    /// Rules in the place of those of the recipe.
    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        self.recipe.rules = rules;
        self
    }

    /// What is asked for.
    pub(crate) fn asked(&self) -> &Recipe {
        &self.recipe
    }

    /// Chooses parameters; no step is run.
    pub(crate) fn session(&self) -> Result<Session<'_>> {
        self.session_of(self.plan(&self.recipe)?.0)
    }

    fn session_of(&self, plan: Plan) -> Result<Session<'_>> {
        check_masked(self.graph(), &self.observer)?;
        let calibrator = self.base_calibrator(plan.default);
        let graph = Graph::clone(self.graph());
        Session::by(self.threads, graph, &self.observer, calibrator, plan)
    }

    /// Runs those of the steps that are `wanted`.
    pub(crate) fn run_steps(
        &self,
        session: &mut Session,
        wanted: impl Fn(&dyn Step) -> bool,
    ) -> Result<Vec<Report>> {
        let own = self.recipe.defaults.steps()?;
        let all = own.as_ref().unwrap_or(&self.steps).iter().map(|step| &**step);
        session.run(&Vec::from_iter(all.filter(|step| wanted(*step))))
    }

    /// Chooses parameters, runs the steps, and makes the integer network.
    ///
    /// # Errors
    /// A network that was not calibrated, or on other data than those that the recipe names; the node that has no
    /// integer form, or none in a file.
    pub fn quantize(&self) -> Result<Quantized> {
        self.quantize_by(&self.recipe)
    }

    /// As [`quantize`](Self::quantize), with the plan of `recipe`.
    pub(crate) fn quantize_by(&self, recipe: &Recipe) -> Result<Quantized> {
        self.check_data()?;
        let (plan, widened) = self.plan(recipe)?;
        let idle_rules = self.idle_rules(recipe, &plan)?;
        let mut session = self.session_of(plan)?;
        let chosen = (session.ranges.clone(), session.params.clone());
        let steps = self.run_steps(&mut session, |_| true)?;
        let mut graph = session.quantized()?;
        self.keep_preprocess(&mut graph);
        let (bytes, integer) = export_checked(&graph)?;
        let Findings { losses, values, judged, dead } = losses(&session, &integer)?;
        Ok(Quantized {
            graph,
            hints: hints(self.graph(), session.seen()),
            losses,
            values,
            judged,
            dead,
            widened,
            idle_rules,
            integer: Arc::new(integer),
            bytes,
            samples: self.observer.samples(),
            float: self.path.clone(),
            steps,
            chosen,
            float_graph: Arc::clone(self.graph()),
        })
    }
}

/// Refuses masks with numbers so low that no scale serves them and what they are added to.
fn check_masks(graph: &Graph) -> Result<()> {
    const LOWEST: f32 = -1e18;
    for node in graph.nodes.iter().filter(|node| node.op.takes_masks()) {
        for &v in &node.inputs {
            let numbers = graph.real_constant(v).into_iter().flat_map(|t| t.data());
            let check = || match numbers.into_iter().find(|&&x| x < LOWEST) {
                Some(low) => bail!(
                    Unsupported,
                    "constant \"{}\" holds {low:e}, as masks do: no scale serves it and what it is added to, \
                     unless nothing but a softmax reads the sum",
                    graph.values[v].name
                ),
                None => Ok(()),
            };
            check().in_node(&node.name, node.op.name())?;
        }
    }
    Ok(())
}

/// A quantized network, and how it came about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quantized {
    /// Scales, zero points and codes, on the operators of the float network.
    pub graph: Graph,
    /// The integers that follow from them.
    pub integer: Arc<IntGraph>,
    /// Samples that calibration has seen.
    pub samples: u64,
    /// What each step changed.
    pub steps: Vec<Report>,
    /// Outputs that have 16 bits because a Concat joins in them what lies far apart.
    pub widened: Vec<String>,
    /// Rules of the recipe that are for something, but change nothing of it.
    pub idle_rules: Vec<String>,
    /// What is strange about the samples.
    pub hints: Vec<String>,
    /// Values that have lost much.
    pub losses: Vec<Loss>,
    /// How exact each value is on `judged` of the samples.
    pub values: Vec<ValueSqnr>,
    /// Samples that calibration has kept, and both networks have run.
    pub judged: usize,
    /// Channels that are one number in all of these samples.
    pub dead: Vec<DeadChannels>,
    bytes: Vec<u8>,
    float: Option<PathBuf>,
    /// The ranges of the float network's activations, and what followed from them before any step.
    chosen: (Vec<Option<Range>>, Params),
    float_graph: Arc<Graph>,
}

/// What [`Quantized::write`] wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Samples that calibration has seen.
    pub samples: u64,
    /// Nodes of the integer network.
    pub nodes: usize,
    /// Size of the file.
    pub bytes: usize,
    /// Size of the float file; 0 if there is none.
    pub float_bytes: u64,
    /// The bound of `accumulator`.
    pub acc_bound: Option<i64>,
    /// The accumulator that can come nearest to its limit.
    pub accumulator: Option<Accumulator>,
    /// What each step changed.
    pub steps: Vec<Report>,
    /// Outputs that have 16 bits because a Concat joins in them what lies far apart.
    pub widened: Vec<String>,
    /// Rules of the recipe that are for something, but change nothing of it.
    pub idle_rules: Vec<String>,
    /// What is strange about the samples.
    pub hints: Vec<String>,
    /// Values that have lost much.
    pub losses: Vec<Loss>,
    /// How exact each value is on `judged` of the samples.
    pub values: Vec<ValueSqnr>,
    /// Samples that calibration has kept, and both networks have run.
    pub judged: usize,
    /// Channels that are one number in all of these samples.
    pub dead: Vec<DeadChannels>,
}

impl Quantized {
    /// The network as an ONNX file with pairs of QuantizeLinear and DequantizeLinear. The bytes have been
    /// read again, and are the same integer network.
    pub fn to_onnx(&self) -> &[u8] {
        &self.bytes
    }

    /// The ranges of the float network's activations as [`Ranges::from_json`] reads them; encodings also have the
    /// weights, as they are before any step.
    pub fn ranges_json(&self, format: RangesFormat) -> String {
        let (ranges, params) = &self.chosen;
        to_json(&self.float_graph, ranges, params, format)
    }

    /// Writes [`to_onnx`](Self::to_onnx) to `path`: all of it, or nothing.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<Summary> {
        write_atomic(path.as_ref(), &self.bytes)?;
        let float = self.float.as_ref().and_then(|path| path.metadata().ok());
        let widest = self.integer.widest_accumulator();
        Ok(Summary {
            samples: self.samples,
            nodes: self.integer.nodes.len(),
            bytes: self.bytes.len(),
            float_bytes: float.map_or(0, |m| m.len()),
            acc_bound: widest.as_ref().map(|widest| widest.bound),
            accumulator: widest,
            steps: self.steps.clone(),
            widened: self.widened.clone(),
            idle_rules: self.idle_rules.clone(),
            hints: self.hints.clone(),
            losses: self.losses.clone(),
            values: self.values.clone(),
            judged: self.judged,
            dead: self.dead.clone(),
        })
    }
}
