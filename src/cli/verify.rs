//! `naive-ptq verify`

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::ValueEnum;
use naive_ptq::data::{Temporary, write_folder};
use naive_ptq::emit::{self, TestVector, code_width};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::IntGraph;
use naive_ptq::text::printable;
use serde_json::json;

use crate::args::{DATA_HELP, PreprocessArgs, ShapeArgs, progress};
use crate::deploy::{Target, from_bytes, quantized, to_bytes};

/// Compile a quantized network for each target, run it on data, and compare every code with the engine's
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
    /// What is compared with the engine
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
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum TargetArg {
    /// What the others are compared with
    Engine,
    /// C99, compiled with the C compiler of this machine
    C,
    /// The no_std crate, compiled with cargo
    Rust,
}

impl TargetArg {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::C => "c",
            Self::Rust => "rust",
        }
    }
}

/// The first code that differs.
struct Difference {
    target: &'static str,
    sample: usize,
    tensor: String,
    index: usize,
    expected: i32,
    got: i32,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let data = args.preprocess.open(&args.data, args.samples)?;
    let graph = quantized(&args.model, &args.shapes, Some(&data))?;
    let reference = IntExecutor::new(graph.clone());
    let temporary = std::env::temp_dir();
    let folder = Temporary::folder_in(&temporary)
        .with_context(|| format!("{} (TMPDIR)", temporary.display()))?;
    let mut programs = Vec::new();
    // The C code for the DSP extension has a portable form; the other one also checks every bound.
    let builds = [
        (Target::C, "c", "-DNET_ASSERT"),
        (Target::C, "c", "-DNET_DSP=1"),
        (Target::Rust, "rust", ""),
    ];
    for (i, (target, name, option)) in builds.into_iter().enumerate() {
        if args.targets.iter().any(|wanted| wanted.name() == name) {
            let program = build(target, &graph, &folder.path().join(i.to_string()), option)?;
            programs.push((name, Program::start(&program)?));
        }
    }
    let bar = progress("verifying", data.len());
    let mut found = None;
    'samples: for i in 0..data.len() {
        let expected = TestVector::new(&reference, &[data.sample(i)?])
            .with_context(|| format!("sample {i}"))?;
        for (target, program) in &mut programs {
            let difference = program
                .compare(&graph, &expected, args.layers)
                .with_context(|| format!("target {target}"))?;
            if let Some((tensor, index, expected, got)) = difference {
                found = Some(Difference { target, sample: i, tensor, index, expected, got });
                break 'samples;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut names: Vec<&str> =
        std::iter::once("engine").chain(programs.iter().map(|(name, _)| *name)).collect();
    names.dedup();
    report(args, &names, data.len(), found.as_ref())?;
    Ok(if found.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(
    args: &Args,
    names: &[&str],
    samples: usize,
    found: Option<&Difference>,
) -> anyhow::Result<()> {
    if args.json {
        let difference = found.map(|d| {
            json!({
                "target": d.target, "sample": d.sample, "tensor": d.tensor, "index": d.index,
                "engine": d.expected, "got": d.got,
            })
        });
        let summary = json!({"targets": names, "samples": samples, "layers": args.layers, "equal": found.is_none(), "difference": difference});
        say!("{summary:#}");
        return Ok(());
    }
    match found {
        None => say!("{} on {samples} of {samples} samples", names.join(" = ")),
        Some(d) => say!(
            "sample {}: \"{}\"[{}] is {} in the engine, {} in {}",
            d.sample,
            printable(&d.tensor),
            d.index,
            d.expected,
            d.got,
            d.target
        ),
    }
    Ok(())
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

/// A compiled network, which waits for inputs.
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

    /// The first tensor that differs, with index and both codes.
    fn compare(
        &mut self,
        graph: &IntGraph,
        expected: &TestVector,
        layers: bool,
    ) -> anyhow::Result<Option<(String, usize, i32, i32)>> {
        let width = code_width(graph);
        let input = self.input.as_mut().context("no standard input")?;
        input
            .write_all(&to_bytes(&expected.input, width))
            .and_then(|()| input.flush())
            .context("the program ended")?;
        let mut found = None;
        let name = |v: usize| graph.values[v].name.clone();
        let results = graph.nodes.iter().zip(&expected.layers);
        let tensors =
            results.map(|(node, codes)| (name(node.output), codes.iter().collect(), layers));
        let outputs = graph.outputs.iter().scan(0, |start, &v| {
            let codes = expected.output[*start..][..graph.values[v].len()].to_vec();
            *start += codes.len();
            Some((name(v), codes, true))
        });
        for (tensor, expected, compared) in tensors.chain(outputs) {
            let expected: Vec<i32> = expected;
            let mut bytes = vec![0; expected.len() * width.bytes()];
            self.output.read_exact(&mut bytes).context("the program ended")?;
            let got = from_bytes(&bytes, width);
            let differs = expected.iter().zip(got.iter()).position(|(&a, b)| a != b);
            if let (Some(index), None, true) = (differs, &found, compared) {
                found = Some((tensor, index, expected[index], got.get(index)));
            }
        }
        Ok(found)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.input = None; // The end of its input ends it.
        let _ = self.child.wait();
    }
}
