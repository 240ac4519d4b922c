//! `naive-ptq deploy`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use naive_ptq::Tensor;
use naive_ptq::codes::Codes;
use naive_ptq::data::{Dataset, Samples, check_folder, update_folder, write_folder};
use naive_ptq::emit::{
    self, Aim, ByteOrder, Layout, Network, Plan, Project, TARGETS, Target, TestVector,
};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::IntGraph;
use naive_ptq::model::Model;
use serde_json::json;

use crate::args::{DATA_HELP, PreprocessArgs, ShapeArgs, fitted, warn_clipped};
use crate::progress::Progress;
use naive_ptq::quant::Width;

/// Of all test vectors together, which are source code.
const MAX_CODES: usize = 1 << 24;

/// Write quantized networks as source code, C99, no_std Rust or SystemVerilog, that computes the same bits
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

Examples:
  naive-ptq deploy int8.onnx --target c -o net/ && make -C net test
  naive-ptq deploy int8.onnx --target rust -o net-rs/ --name keywords
  naive-ptq deploy find.onnx tell.onnx --target c -o nets/ --name find,tell
  naive-ptq deploy int8.onnx --target c -o net/ --project cmake --weights-blob
  naive-ptq deploy int8.onnx --target c -o net/ --test-vectors 10 --data test.npz
  naive-ptq deploy int8.onnx --target sv -o net-sv/ --cycles 100000 && make -C net-sv test"))]
pub struct Args {
    /// The quantized model; several share one folder and their kernels
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// The language
    #[arg(long, value_parser = target())]
    target: &'static dyn Target,
    /// The folder that is written
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// What names of files and functions begin with; of several models one for each, with commas
    #[arg(long, default_value = "net", value_delimiter = ',')]
    name: Vec<String>,
    /// In C: one .c file that includes nothing but its header
    #[arg(long)]
    single_file: bool,
    /// In C: long constants as one binary file, in this order of bytes
    #[arg(long, value_name = "ORDER", num_args = 0..=1, require_equals = true, default_missing_value = "little", value_parser = order())]
    weights_blob: Option<ByteOrder>,
    /// In C: the files that a project of this kind expects
    #[arg(long, value_name = "KIND", default_value = "make", value_parser = project())]
    project: Project,
    #[command(flatten)]
    hardware: HardwareArgs,
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

/// What hardware is asked for.
#[derive(Debug, clap::Args)]
pub struct HardwareArgs {
    /// In SystemVerilog: at most so many cycles between frames, with as few multipliers as that takes [default: 300000]
    #[arg(long, value_name = "T", conflicts_with = "multipliers", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    cycles: Option<u64>,
    /// In SystemVerilog: so many multipliers at most, and as few cycles between frames as they allow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    multipliers: Option<u32>,
    /// In SystemVerilog: the clock that is taken to say what cycles are in seconds, in MHz [default: 100]
    #[arg(long, value_name = "MHZ", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clock: Option<u32>,
}

impl HardwareArgs {
    /// What is asked for.
    pub fn aim(&self) -> Aim {
        match (self.cycles, self.multipliers) {
            (_, Some(most)) => Aim::Multipliers(most as usize),
            (Some(cycles), None) => Aim::Cycles(cycles),
            (None, None) => Aim::default(),
        }
    }

    /// Refuses options that mean nothing for any but hardware.
    ///
    /// # Errors
    /// The first of them.
    pub fn unused(&self) -> anyhow::Result<()> {
        let given = [
            ("--cycles", self.cycles.is_some()),
            ("--multipliers", self.multipliers.is_some()),
            ("--clock", self.clock.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => bail!("{name} is for --target sv"),
            None => Ok(()),
        }
    }

    /// What a plan comes to, with this clock.
    pub fn text(&self, plan: &Plan) -> String {
        let clock = self.clock.unwrap_or(100) as f64;
        let (latency, interval) = (plan.latency as f64 / clock, plan.interval as f64);
        let rate = clock * 1e6 / interval;
        let missed = match self.cycles.filter(|&most| plan.interval > most) {
            Some(most) => format!(
                "\nnot met: frames are {} cycles apart, and {most} at most are asked for; none are nearer to each other here",
                plan.interval
            ),
            None => String::new(),
        };
        format!("{plan}at {clock} MHz: {rate:.1} frames a second, {latency:.1} µs each{missed}")
    }
}

/// A target as a value of an option.
pub fn possible(target: &dyn Target) -> PossibleValue {
    PossibleValue::new(target.name()).help(target.about())
}

/// A target by its name.
pub fn target() -> impl TypedValueParser<Value = &'static dyn Target> {
    PossibleValuesParser::new(TARGETS.iter().map(|target| possible(*target)))
        .try_map(|name| emit::target(&name).ok_or("no target"))
}

/// An order of bytes by its name.
fn order() -> impl TypedValueParser<Value = ByteOrder> {
    let find = |name: String| ByteOrder::ALL.into_iter().find(|(_, known)| *known == name);
    PossibleValuesParser::new(ByteOrder::ALL.map(|(_, name)| name))
        .try_map(move |name| find(name).map(|(order, _)| order).ok_or("no order"))
}

/// A kind of project by its name.
fn project() -> impl TypedValueParser<Value = Project> {
    let find = |name: String| Project::ALL.into_iter().find(|(_, known, _)| *known == name);
    let values = Project::ALL.map(|(_, name, about)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(values)
        .try_map(move |name| find(name).map(|(project, ..)| project).ok_or("no project"))
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_folder(&args.output)?;
    let (models, names) = (&args.models, &args.name);
    if models.len() != names.len() {
        let (models, names) = (models.len(), names.len());
        let s = |number: usize| if number == 1 { "" } else { "s" };
        let (of_models, of_names) = (s(models), s(names));
        bail!(
            "{models} model{of_models} and {names} name{of_names}: --name takes one for each, with commas between"
        );
    }
    if models.len() > 1 && args.data.is_some() {
        bail!("--data is for one model: the test vectors of several are random");
    }
    let nets = models.iter().map(|model| Net::read(args, model)).collect::<Result<Vec<_>, _>>()?;
    let networks = nets.iter().zip(names);
    let networks =
        networks.map(|(net, name)| Network { graph: &net.graph, name, vectors: &net.vectors });
    let networks: Vec<Network> = networks.collect();
    let layout =
        Layout { single_file: args.single_file, blob: args.weights_blob, project: args.project };
    let (files, plan) = match (args.target.name(), &networks[..]) {
        ("sv", [one]) if layout == Layout::default() => {
            let (graph, aim) = (one.graph, args.hardware.aim());
            let (files, plan) = emit::hardware(graph, one.name, one.vectors, aim)?;
            let files = files.into_iter().map(|(name, text)| (name, text.into_bytes()));
            (files.collect(), Some(plan))
        }
        _ => {
            args.hardware.unused()?;
            (args.target.package(&networks, &layout)?, None)
        }
    };
    match args.force {
        true => update_folder(&args.output, &files, &emit::written_files(&args.output))?,
        false => write_folder(&args.output, &files)?,
    }
    match plan {
        Some(plan) => report_plan(args, &plan, &files)?,
        None => report(args, &networks, &layout, &files)?,
    }
    for net in nets {
        net.data.iter().try_for_each(|data| warn_clipped(&Model::Int(net.graph.clone()), data))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A network with its test vectors, and the data that they are of.
struct Net {
    graph: Arc<IntGraph>,
    vectors: Vec<TestVector>,
    data: Option<Dataset>,
}

impl Net {
    fn read(args: &Args, model: &Path) -> anyhow::Result<Self> {
        let count = args.test_vectors as usize;
        let open = |path: &PathBuf| args.preprocess.open(path, None, model);
        let (graph, data) = match args.data.as_ref().map(open).transpose()? {
            Some(data) => {
                let (graph, data) = quantized_for(model, &args.shapes, data)?;
                (graph, Some(data))
            }
            None => (quantized(model, &args.shapes, None)?, None),
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
        Ok(Self { graph, vectors, data })
    }
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

fn report_plan(args: &Args, plan: &Plan, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    if args.json {
        let mut summary = serde_json::to_value(plan)?;
        summary["files"] = files.iter().map(|(name, _)| name.as_str()).collect();
        say!("{summary:#}");
        return Ok(());
    }
    say!("wrote {} files to {}", files.len(), args.output.display());
    say!("{}", args.hardware.text(plan));
    if args.test_vectors > 0 {
        say!("next       {}", args.target.test(&args.output, &Layout::default()));
    }
    Ok(())
}

fn report(
    args: &Args,
    networks: &[Network],
    layout: &Layout,
    files: &[(String, Vec<u8>)],
) -> anyhow::Result<()> {
    if args.json {
        let needs = |network: &Network| {
            let memory = args.target.memory(network.graph);
            let (size, bound) = (memory.as_ref().map(|m| m.size), memory.as_ref().map(|m| m.bound));
            let constants = emit::constant_bytes(network.graph);
            json!({"ram_bytes": size, "ram_bound_bytes": bound, "constant_bytes": constants})
        };
        let mut summary = match networks {
            [one] => needs(one),
            _ => {
                let all = networks.iter().map(|network| (network.name.to_owned(), needs(network)));
                json!({"networks": all.collect::<serde_json::Map<_, _>>()})
            }
        };
        summary["files"] = files.iter().map(|(name, _)| name.as_str()).collect();
        say!("{summary:#}");
        return Ok(());
    }
    say!("wrote {} files to {}", files.len(), args.output.display());
    for network in networks {
        if networks.len() > 1 {
            say!("{}", network.name);
        }
        if let Some(memory) = args.target.memory(network.graph) {
            say!(
                "RAM        {:8} bytes: inputs, outputs and everything between; no plan needs less than {}",
                memory.size,
                memory.bound
            );
        }
        let constants = emit::constant_bytes(network.graph);
        say!("constants  {constants:8} bytes of flash, and the code");
    }
    if args.test_vectors > 0 {
        say!("next       {}", args.target.test(&args.output, layout));
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
