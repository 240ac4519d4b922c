//! `naive-ptq verify`

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, anyhow, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use naive_ptq::compare::{
    Candidate, How, InEngine, Outcome, Reference, Runner, Sample, Trace, compare,
};
use naive_ptq::data::{Samples, Temporary, write_folder};
use naive_ptq::emit::{Build, TARGETS, Target};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::IntGraph;
use naive_ptq::model::Model;

use crate::args::{DATA_HELP, PreprocessArgs, ShapeArgs, ThreadArgs, warn_clipped};
use crate::deploy::{from_bytes, possible, quantized_for, to_bytes};
use crate::progress::Progress;

/// Run a quantized network on data in the engine, with each instruction set of this machine, and compiled for
/// each target, and compare every code with the reference's
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

The C compiler is cc, or what the environment variable CC names. Verilator, or what VERILATOR names, simulates sv,
which is asked for by its name.

Examples:
  naive-ptq verify int8.onnx --data test.npz
  naive-ptq verify int8.onnx --data test.npz --targets c --layers --samples 20
  naive-ptq verify int8.onnx --data test.npz --targets sv --layers --samples 10"))]
pub struct Args {
    /// The quantized model
    model: PathBuf,
    /// Samples to run
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// What is compared with the reference, with commas between them
    #[arg(long, value_parser = targets(), value_delimiter = ',', default_value = all())]
    targets: Vec<String>,
    /// Use no more than the first N samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Compare what every layer computes, not only the outputs
    #[arg(long)]
    layers: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

const ENGINE: &str = "engine";

/// The engine, and every target.
fn targets() -> PossibleValuesParser {
    let engine = PossibleValue::new(ENGINE).help(
        "What runs networks here: with each instruction set of this machine, with one thread and with all",
    );
    PossibleValuesParser::new([engine].into_iter().chain(TARGETS.iter().map(|t| possible(*t))))
}

/// Their names, with commas between them; without those that are simulated.
fn all() -> &'static str {
    static ALL: LazyLock<String> = LazyLock::new(|| {
        let compiled = TARGETS.iter().filter(|target| !target.is_simulated());
        let names = [ENGINE].into_iter().chain(compiled.map(|target| target.name()));
        names.collect::<Vec<_>>().join(",")
    });
    &ALL
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = args.threads.workers().threads();
    let data = args.preprocess.open(&args.data, args.samples, &args.model)?;
    let (graph, data) = quantized_for(&args.model, &args.shapes, data)?;
    let temporary = std::env::temp_dir();
    let folder = Temporary::folder_in(&temporary)
        .with_context(|| format!("{} (TMPDIR)", temporary.display()))?;
    let mut candidates: Vec<Box<dyn Candidate>> =
        vec![Box::new(Reference(IntExecutor::new(graph.clone())))];
    let wanted = |name: &str| args.targets.iter().any(|wanted| wanted == name);
    if wanted(ENGINE) {
        let counts = if threads > 1 { vec![1, threads] } else { vec![1] };
        for engine in InEngine::all(&graph, &counts)? {
            candidates.push(Box::new(engine));
        }
    }
    for target in TARGETS.iter().filter(|target| wanted(target.name())) {
        for how in target.builds() {
            let folder = folder.path().join(how.name);
            let path = build(*target, how, &graph, &folder)?;
            let (family, name) = (target.name(), how.name);
            candidates.push(Box::new(Compiled {
                family,
                name,
                path,
                folder,
                graph: graph.clone(),
            }));
        }
    }
    let bar = Progress::new("verifying", data.len());
    let sample = |i| data.get(i);
    let how = How { layers: args.layers, threads };
    let done = || bar.inc();
    let comparison = compare(&graph, &candidates, data.len(), sample, how, done)
        .map_err(|error| anyhow!(error))?;
    drop(bar);
    warn_clipped(&Model::Int(graph.clone()), &data)?;
    match args.json {
        true => say!("{:#}", serde_json::to_value(&comparison)?),
        false => say!("{comparison}"),
    }
    Ok(if comparison.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes and compiles the network and a program around it.
fn build(
    target: &dyn Target,
    how: &Build,
    graph: &IntGraph,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let mut files = target.files(graph, "net", &[])?;
    files.push(target.runner(graph, "net"));
    write_folder(folder, &files)?;
    let (variable, default) = how.tool;
    let asked = std::env::var(variable).ok().filter(|tool| !tool.trim().is_empty());
    let tool = asked.unwrap_or(default.into());
    // As make has it, a variable may hold options, too; a path may hold spaces.
    let mut words = match Path::new(&tool).exists() {
        true => vec![&*tool],
        false => tool.split_whitespace().collect(),
    };
    let mut command = Command::new(words.remove(0));
    command.args(words).args(how.arguments).current_dir(folder);
    compile(command, &tool, how.install)?;
    Ok(folder.join(how.program))
}

fn compile(mut command: Command, tool: &str, how: &str) -> anyhow::Result<()> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("{tool} fails:\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{tool} is not there: install {how}, or leave this target out with --targets")
        }
        Err(error) => Err(error).with_context(|| tool.to_string()),
    }
}

/// A network that was deployed and compiled.
struct Compiled {
    family: &'static str,
    name: &'static str,
    path: PathBuf,
    folder: PathBuf,
    graph: Arc<IntGraph>,
}

impl Candidate for Compiled {
    fn name(&self) -> String {
        self.name.into()
    }

    fn family(&self) -> String {
        self.family.into()
    }

    fn start(&self) -> Outcome<Runner<'_>> {
        let mut program = Program::start(&self.path, &self.folder)?;
        Ok(Box::new(move |sample| Ok(program.run(&self.graph, sample)?)))
    }
}

/// A compiled network that runs and waits for inputs.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// A simulation reads its constants from the folder that it was built in.
    fn start(path: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(path);
        command.current_dir(folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Self { input: child.stdin.take(), output: BufReader::new(output), child })
    }

    fn run(&mut self, graph: &IntGraph, sample: &Sample) -> anyhow::Result<Trace> {
        let input = self.input.as_mut().context("no standard input")?;
        for (&v, codes) in graph.inputs.iter().zip(&sample.codes) {
            let bytes = to_bytes(&graph.values[v].as_given(codes), codes.width());
            input.write_all(&bytes).context("the program ended")?;
        }
        input.flush().context("the program ended")?;
        let mut read = |v: usize| {
            let width = graph.values[v].quant.width;
            let mut bytes = vec![0; graph.values[v].len() * width.bytes()];
            self.output.read_exact(&mut bytes).context("the program ended")?;
            anyhow::Ok(from_bytes(&bytes, width))
        };
        let layers = graph.nodes.iter().map(|node| read(node.output));
        let mut layers = layers.collect::<anyhow::Result<Vec<_>>>()?;
        if !sample.layers {
            layers.clear();
        }
        let output = |&v: &usize| Ok(graph.values[v].to_onnx_order(&read(v)?)?);
        let outputs = graph.outputs.iter().map(output).collect::<anyhow::Result<_>>()?;
        Ok(Trace { layers, outputs })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.input = None; // The end of its input ends it.
        let _ = self.child.wait();
    }
}
