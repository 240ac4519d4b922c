//! `naive-ptq verify`

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use naive_ptq::compare::{
    Candidate, How, InEngine, Outcome, Reference, Runner, Sample, Trace, compare,
};
use naive_ptq::data::{Temporary, write_folder};
use naive_ptq::emit::{self, code_width};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::IntGraph;

use crate::args::{DATA_HELP, PreprocessArgs, ShapeArgs, ThreadArgs, progress};
use crate::deploy::{Target, from_bytes, quantized, to_bytes};

/// Run a quantized network on data in the engine, with each instruction set of this machine, and compiled for
/// each target, and compare every code with the reference's
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{DATA_HELP}

The C compiler is cc, or what the environment variable CC names.

Examples:
  naive-ptq verify int8.onnx --data test.npz
  naive-ptq verify int8.onnx --data test.npz --targets c --layers --samples 20"))]
pub struct Args {
    /// The quantized model
    model: PathBuf,
    /// Samples to run
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// What is compared with the reference, with commas between them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "engine,c,rust")]
    targets: Vec<TargetArg>,
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

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum TargetArg {
    /// What runs networks here: with each instruction set of this machine, with one thread and with all
    Engine,
    /// C99, compiled with the C compiler of this machine
    C,
    /// The no_std crate, compiled with cargo
    Rust,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.threads.apply()?;
    let threads = rayon::current_num_threads();
    let data = args.preprocess.open(&args.data, args.samples)?;
    let graph = quantized(&args.model, &args.shapes, Some(&data))?;
    let temporary = std::env::temp_dir();
    let folder = Temporary::folder_in(&temporary)
        .with_context(|| format!("{} (TMPDIR)", temporary.display()))?;
    let mut candidates: Vec<Box<dyn Candidate>> =
        vec![Box::new(Reference(IntExecutor::new(graph.clone())))];
    if args.targets.contains(&TargetArg::Engine) {
        let counts = if threads > 1 { vec![1, threads] } else { vec![1] };
        for engine in InEngine::all(&graph, &counts)? {
            candidates.push(Box::new(engine));
        }
    }
    // The C code for the DSP extension has a portable form; the other one also checks every bound.
    let builds = [
        (TargetArg::C, Target::C, ["c", "c"], "-DNET_ASSERT"),
        (TargetArg::C, Target::C, ["c", "c for the DSP extension"], "-DNET_DSP=1"),
        (TargetArg::Rust, Target::Rust, ["rust", "rust"], ""),
    ];
    for (i, (wanted, target, [family, name], option)) in builds.into_iter().enumerate() {
        if args.targets.contains(&wanted) {
            let path = build(target, &graph, &folder.path().join(i.to_string()), option)?;
            candidates.push(Box::new(Compiled { family, name, path, graph: graph.clone() }));
        }
    }
    let bar = progress("verifying", data.len());
    let sample = |i| Ok(vec![data.sample(i)?]);
    let how = How { layers: args.layers, threads };
    let done = || bar.inc(1);
    let comparison = compare(&graph, &candidates, data.len(), sample, how, done)
        .map_err(|error| anyhow!(error))?;
    bar.finish_and_clear();
    match args.json {
        true => say!("{:#}", serde_json::to_value(&comparison)?),
        false => say!("{comparison}"),
    }
    Ok(if comparison.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes and compiles the network and a program around it.
fn build(target: Target, graph: &IntGraph, folder: &Path, option: &str) -> anyhow::Result<PathBuf> {
    let mut files = target.emit(graph, "net", &[])?;
    match target {
        Target::C => files.push(("run.c".into(), emit::c::runner("net"))),
        Target::Rust => files.push(("src/bin/run.rs".into(), emit::rust::runner(graph, "net"))),
    }
    write_folder(folder, &files)?;
    match target {
        Target::C => {
            // As make has it, CC may hold options.
            let compiler = std::env::var("CC").unwrap_or("cc".into());
            let mut words = compiler.split_whitespace();
            let mut command = Command::new(words.next().unwrap_or("cc"));
            command.args(words).args(["-std=c99", "-O2", "-DNET_TRACE", option]);
            command.args(["net.c", "run.c", "-o", "run"]).current_dir(folder);
            compile(command, &compiler, "a C compiler (Debian: apt install gcc), or set CC")?;
            Ok(folder.join("run"))
        }
        Target::Rust => {
            let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
            let mut command = Command::new(&cargo);
            command.args(["build", "--release", "--offline", "--quiet", "--target-dir", "target"]);
            command.current_dir(folder);
            compile(command, &cargo.to_string_lossy(), "Rust (https://rustup.rs)")?;
            Ok(folder.join("target/release/run"))
        }
    }
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
        let mut program = Program::start(&self.path)?;
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
    fn start(path: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Self { input: child.stdin.take(), output: BufReader::new(output), child })
    }

    fn run(&mut self, graph: &IntGraph, sample: &Sample) -> anyhow::Result<Trace> {
        let width = code_width(graph);
        let codes: Vec<i32> = sample.codes.iter().flat_map(|codes| codes.iter()).collect();
        let input = self.input.as_mut().context("no standard input")?;
        input
            .write_all(&to_bytes(&codes, width))
            .and_then(|()| input.flush())
            .context("the program ended")?;
        let mut read = |v: usize| {
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
