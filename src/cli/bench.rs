//! `naive-ptq bench`

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use naive_ptq::Tensor;
use naive_ptq::codes::Codes;
use naive_ptq::exec::engine::{Engine, Options};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::kernels::isa::{Isa, Without};
use naive_ptq::lower::IntGraph;
use naive_ptq::model::Model;
use serde_json::{Value, json};

use crate::args::ShapeArgs;
use crate::table::Table;

/// Measure how long a quantized network takes on this machine, on random inputs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  naive-ptq bench int8.onnx
  naive-ptq bench int8.onnx --threads 2 --layers
  naive-ptq bench int8.onnx --isa all --json")]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Threads that share the work of one run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Instructions, like portable or avx2, or all that this machine has; without it, the fastest
    #[arg(long, value_name = "ISA")]
    isa: Option<String>,
    /// Leave out techniques, to see what they bring: some of single, direct, depthwise,
    /// winograd, with commas
    #[arg(long, value_name = "NAMES", default_value = "", hide_default_value = true, value_parser = without)]
    without: Without,
    /// Runs; without it, as many as fit into two seconds, and at least ten
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Show what each layer takes, the first one with the inputs' conversion to codes
    #[arg(long)]
    layers: bool,
    /// Compare the codes of every layer with those of the reference, which is slow
    #[arg(long)]
    check: bool,
    /// Print one JSON object: of the last of the instruction sets, with all of them in "isas"
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let Model::Int(graph) = Model::load_with(&args.model, &args.shapes.options(None)?)? else {
        bail!("{} is not quantized", args.model.display());
    };
    let load = begin.elapsed();
    let isas = match args.isa.as_deref() {
        None => vec![Isa::detect()],
        Some("all") => Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect(),
        Some(name) => vec![name.parse()?],
    };
    let inputs = random_inputs(&graph)?;
    let expected = match args.check {
        true => Some(expected(&graph, &inputs)?),
        false => None,
    };
    let mut measured = Vec::new();
    for isa in isas {
        let options = Options::default().with_threads(args.threads.into());
        let options = options.with_isa(isa).without(args.without);
        let one = measure(args, &graph, options, load, &inputs, expected.as_deref())?;
        if !args.json {
            say!("{}", one.text(args));
        }
        measured.push(one);
    }
    if args.json {
        let all: Vec<Value> = measured.iter().map(|m| m.to_json(args.layers)).collect();
        let mut last = all.last().cloned().unwrap_or_default();
        last["model"] = json!(args.model);
        last["isas"] = json!(all);
        say!("{last:#}");
    }
    match measured.iter().any(|m| m.equal == Some(false)) {
        true => Ok(ExitCode::from(1)),
        false => Ok(ExitCode::SUCCESS),
    }
}

fn without(names: &str) -> Result<Without, String> {
    if names.is_empty() {
        return Ok(Without::default());
    }
    names.parse().map_err(|error: naive_ptq::Error| error.to_string())
}

/// Every code of an input is equally likely.
fn random_inputs(graph: &IntGraph) -> anyhow::Result<Vec<Tensor<f32>>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let inputs = graph.inputs.iter().map(|&v| {
        let value = &graph.values[v];
        let (lowest, highest) = value.quant.code_range();
        let codes = (0..value.len()).map(|_| {
            state = xorshift(state);
            lowest + (state >> 33) as i32 % (highest - lowest + 1)
        });
        let real = codes.map(|code| value.quant.dequantize(code, 0)).collect();
        Ok(Tensor::new(value.shape.clone(), real)?)
    });
    inputs.collect()
}

/// What the reference computes, by value.
fn expected(graph: &Arc<IntGraph>, inputs: &[Tensor<f32>]) -> anyhow::Result<Vec<Option<Codes>>> {
    let mut codes: Vec<Option<Codes>> = graph.values.iter().map(|v| v.constant.clone()).collect();
    IntExecutor::new(graph.clone()).run_codes(inputs, |v, seen| {
        codes[v] = Some(seen.clone());
        Ok(())
    })?;
    Ok(codes)
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ state << 17
}

/// Cycles in a second: each of the six operations of [`xorshift`] waits for the one before.
fn clock() -> f64 {
    const STEPS: u32 = 200_000;
    let once = || {
        let begin = Instant::now();
        black_box((0..STEPS).fold(black_box(1), |state, _| xorshift(state)));
        begin.elapsed().as_secs_f64()
    };
    let fastest = (0..20).map(|_| once()).fold(f64::INFINITY, f64::min);
    6.0 * STEPS as f64 / fastest
}

/// Multiply-accumulates of 32-bit floats that a core can do in a cycle. Assumed are two units as wide as
/// the machine's vectors that multiply and add at once; SSE2 has one for each of the two, and an unknown
/// machine no vectors.
fn f32_macs_per_cycle() -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        return if is_x86_feature_detected!("avx512f") { 32 } else { 16 };
    }
    match std::env::consts::ARCH {
        "aarch64" => 8,
        "x86_64" => 4,
        _ => 1,
    }
}

/// The most memory that this process has held up to now, if the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

struct Measured {
    options: Options,
    /// Reading and lowering the file.
    load: Duration,
    /// Planning memory, packing constants, and the memory itself.
    plan: Duration,
    /// Of the whole process up to the end of these runs: with several instruction sets, those before
    /// this one count, too, and so does the reference, if it was asked for.
    peak_rss: Option<u64>,
    bytes: [usize; 2],
    runs: usize,
    median: Duration,
    min: Duration,
    clock: f64,
    macs: u64,
    layers: Vec<LayerTime>,
    /// Whether the codes are those of the reference, if that was asked for.
    equal: Option<bool>,
}

struct LayerTime {
    name: String,
    operator: &'static str,
    path: &'static str,
    failed: Option<&'static str>,
    macs: u64,
    median: Duration,
}

fn measure(
    args: &Args,
    graph: &IntGraph,
    options: Options,
    load: Duration,
    inputs: &[Tensor<f32>],
    expected: Option<&[Option<Codes>]>,
) -> anyhow::Result<Measured> {
    let begin = Instant::now();
    let engine = Engine::new(graph, options)?;
    let mut session = engine.session()?;
    let plan = begin.elapsed();
    let mut equal = expected.map(|_| true);
    engine.run_observed(&mut session, inputs, |v, codes| {
        if let (Some(expected), Some(equal)) = (expected, &mut equal) {
            *equal &= expected[v].as_ref() == Some(&codes());
        }
    })?;
    let (fewest, limit) = match args.runs {
        Some(n) => (n as usize, Duration::ZERO),
        None => (10, Duration::from_secs(2)),
    };
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < fewest || begin.elapsed() < limit {
        let begin = Instant::now();
        black_box(engine.run(&mut session, inputs)?);
        times.push(begin.elapsed());
    }
    let mut layers = vec![Vec::new(); engine.layers().count()];
    for _ in 0..if args.layers { times.len().min(100) } else { 0 } {
        // The first layer's time holds that of the inputs.
        let (mut last, mut times) = (Instant::now(), layers.iter_mut());
        engine.run_observed(&mut session, inputs, |v, _| {
            if graph.inputs.contains(&v) {
                return;
            }
            if let Some(times) = times.next() {
                times.push(last.elapsed());
            }
            last = Instant::now();
        })?;
    }
    let layer_times = engine.layers().zip(&mut layers).map(|(layer, times)| LayerTime {
        name: layer.name.to_string(),
        operator: layer.operator,
        path: layer.path,
        failed: layer.failed,
        macs: layer.macs,
        median: median(times),
    });
    Ok(Measured {
        options,
        load,
        plan,
        peak_rss: peak_rss_bytes(),
        bytes: engine.bytes(),
        runs: times.len(),
        min: times.iter().min().copied().unwrap_or_default(),
        median: median(&mut times),
        clock: clock(),
        macs: engine.layers().map(|l| l.macs).sum(),
        layers: layer_times.collect(),
        equal,
    })
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Measured {
    fn macs_per_second(&self, macs: u64, time: Duration) -> f64 {
        macs as f64 / time.as_secs_f64().max(1e-9)
    }

    /// Of what the kernels' instructions can do on all threads.
    fn share(&self, macs: u64, time: Duration) -> Option<f64> {
        let per_cycle = self.options.isa.macs_per_cycle()? as f64;
        let limit = per_cycle * self.clock * self.options.threads as f64;
        Some(self.macs_per_second(macs, time) / limit)
    }

    /// What float kernels would do at half of the limit of this CPU, in a second. Float runtimes reach that
    /// half or more of it on convolutional networks.
    fn f32_macs_per_second(&self) -> f64 {
        0.5 * f32_macs_per_cycle() as f64 * self.clock * self.options.threads as f64
    }

    /// Whether the fastest run beats [`Self::f32_macs_per_second`]; products that the reference computes
    /// are not counted. None for a network that has no others.
    fn int8_pays(&self) -> Option<bool> {
        let rate = self.macs_per_second(self.macs, self.min);
        (self.macs > 0).then(|| rate > self.f32_macs_per_second())
    }

    fn text(&self, args: &Args) -> String {
        let Options { threads, isa, .. } = self.options;
        let mut text = String::new();
        if args.layers {
            let titles = ["node", "operator", "path", "us", "MACs", "GMAC/s", "of limit"];
            let mut table = Table::new(&titles);
            for layer in &self.layers {
                let of = |x: String| if layer.macs == 0 { String::new() } else { x };
                let share = self.share(layer.macs, layer.median);
                table.row([
                    layer.name.clone(),
                    layer.operator.to_string(),
                    layer.failed.map_or(layer.path.to_string(), |failed| {
                        format!("{} for the wrong {failed}", layer.path)
                    }),
                    format!("{:.1}", ms(layer.median) * 1e3),
                    of(layer.macs.to_string()),
                    of(format!("{:.1}", self.macs_per_second(layer.macs, layer.median) / 1e9)),
                    of(share.map(|s| format!("{:.0} %", 100.0 * s)).unwrap_or_default()),
                ]);
            }
            text += &format!("{table}\n");
        }
        let rate = self.macs_per_second(self.macs, self.min) / 1e9;
        let why = match (&args.isa, Isa::detect()) {
            (None, _) => "the fastest that this CPU has".to_string(),
            (Some(_), fastest) if fastest == isa => "asked for; the fastest here, too".to_string(),
            (Some(_), fastest) => format!("asked for; the fastest here is {fastest}"),
        };
        text += &format!(
            "{isa} ({why}), {threads} thread(s): median {:.3} ms, minimum {:.3} ms of {} runs\n\
             {} MACs, at the minimum {rate:.1} GMAC/s",
            ms(self.median),
            ms(self.min),
            self.runs,
            self.macs,
        );
        if let Some(share) = self.share(self.macs, self.min) {
            let clock = self.clock / 1e9;
            text += &format!(", {:.0} % of the limit at {clock:.2} GHz", 100.0 * share);
        }
        let [arena, constants] = self.bytes;
        text += &format!("\narena {arena} bytes, packed constants {constants} bytes");
        if let Some(bytes) = self.peak_rss {
            text += &format!(", peak resident set {bytes} bytes");
        }
        text += &format!("\nload {:.2} ms, plan {:.2} ms", ms(self.load), ms(self.plan));
        if self.int8_pays() == Some(false) {
            text += &format!(
                "\nint8 will probably not pay on this CPU: float kernels at half of their limit, \
                 {} MAC/cycle, would do {:.1} GMAC/s",
                f32_macs_per_cycle(),
                self.f32_macs_per_second() / 1e9,
            );
        }
        match self.equal {
            Some(true) => text += "\ncodes equal the reference",
            Some(false) => text += "\nCODES DIFFER FROM THE REFERENCE",
            None => {}
        }
        text
    }

    fn to_json(&self, layers: bool) -> Value {
        let mut all = json!({
            "isa": self.options.isa.name(),
            "detected_isa": Isa::detect().name(),
            "threads": self.options.threads,
            "runs": self.runs,
            "load_ms": ms(self.load),
            "plan_ms": ms(self.plan),
            "latency_ms_median": ms(self.median),
            "latency_ms_min": ms(self.min),
            "macs": self.macs,
            "macs_per_second": self.macs_per_second(self.macs, self.median),
            "clock_hz": self.clock,
            "share_of_limit": self.share(self.macs, self.median),
            "f32_macs_per_cycle": f32_macs_per_cycle(),
            "int8_pays": self.int8_pays(),
            "arena_bytes": self.bytes[0],
            "constant_bytes": self.bytes[1],
        });
        if let Some(bytes) = self.peak_rss {
            all["peak_rss_bytes"] = json!(bytes);
        }
        if let Some(equal) = self.equal {
            all["equal"] = json!(equal);
        }
        if layers {
            let layers = self.layers.iter().map(|layer| {
                json!({
                    "name": layer.name, "operator": layer.operator, "path": layer.path,
                    "failed": layer.failed, "macs": layer.macs, "latency_ms_median": ms(layer.median),
                    "share_of_limit": self.share(layer.macs, layer.median),
                })
            });
            all["layers"] = layers.collect();
        }
        all
    }
}
