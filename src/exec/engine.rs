//! Fast integer execution: plan once, run many times. The codes are those of
//! [`IntExecutor`], whatever the machine and the number of threads.
//!
//! All activations lie in one block of memory, the arena of a [`Session`], at the places that
//! [`plan`](super::plan) has found. The constants are packed for the kernels of the chosen [`Isa`].
//! Convolutions and linear layers between 8-bit codes with sums of 32 bits, additions and global means
//! have kernels of their own; every other node is computed by its operator's reference.
//!
//! ```
//! use naive_ptq::calibrate::{Calibrator, Observer};
//! use naive_ptq::data::{Dataset, Preprocess};
//! use naive_ptq::exec::engine::{Engine, Options};
//! use naive_ptq::exec::float::FloatExecutor;
//! use naive_ptq::quant::{Preset, Scheme};
//! use naive_ptq::{lower::lower, onnx, passes, quantize::quantize_corrected};
//!
//! # fn main() -> naive_ptq::Result<()> {
//! # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion");
//! # let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
//! # let data = Dataset::open(folder.join("calib.npz"), &preprocess)?;
//! # let mut graph = onnx::load(&folder.join("float.onnx"))?;
//! # passes::prepare(&mut graph);
//! # let mut observer = Observer::new(&graph);
//! # observer.observe(&FloatExecutor::new(&graph), &graph, &[data.sample(0)?])?;
//! # let scheme = Scheme::new(Preset::Scale, true);
//! # let integer = lower(&quantize_corrected(&graph, &observer, Calibrator::MinMax, scheme)?)?;
//! // `integer` is an `IntGraph`, as from `lower` or from `Network::load`.
//! let engine = Engine::new(&integer, Options::default())?;
//! let results = std::thread::scope(|scope| {
//!     let threads = (0..2).map(|i| {
//!         let (engine, data) = (&engine, &data);
//!         scope.spawn(move || engine.run(&mut engine.session(), &[data.sample(i)?]))
//!     });
//!     let threads: Vec<_> = threads.collect();
//!     threads.into_iter().map(|t| t.join().unwrap()).collect::<naive_ptq::Result<Vec<_>>>()
//! })?;
//! assert_eq!(results[0][0].shape(), [1, 10]);
//! # Ok(())
//! # }
//! ```

mod step;
#[cfg(test)]
mod tests;

use rayon::{ThreadPool, ThreadPoolBuilder};

use self::step::{Scratch, Sizes, Step};
use super::check_inputs;
use super::int::IntExecutor;
use super::memory::{Memory, code_bits};
use crate::codes::Codes;
use crate::error::{Error, Result, bail};
use crate::graph::ValueId;
use crate::kernels::isa::Isa;
use crate::kernels::portable::quantize;
use crate::lower::{IntGraph, IntValue};
use crate::ops::Layout;
use crate::tensor::Tensor;

/// How an [`Engine`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that share the work of one run; at least 1.
    pub threads: usize,
    /// The instructions to use.
    pub isa: Isa,
}

impl Default for Options {
    /// One thread, and the fastest instructions of this machine.
    fn default() -> Self {
        Self { threads: 1, isa: Isa::detect() }
    }
}

/// An integer network, ready to run. Threads may share it; each needs a [`Session`] of its own.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    /// Inputs and outputs, with their places in the arena.
    inputs: Vec<(IntValue, usize)>,
    outputs: Vec<(IntValue, Source)>,
    steps: Vec<Step>,
    arena: usize,
    scratch: Sizes,
    /// None if no layer is worth sharing.
    pool: Option<ThreadPool>,
    /// A network of 16-bit codes, which has no kernels here.
    wide: Option<IntGraph>,
}

/// Where an argument comes from.
#[derive(Clone, Debug)]
enum Source {
    /// The arena, from here on.
    Arena(usize, usize),
    /// The model.
    Constant(Vec<i8>),
}

/// The memory of one run at a time.
#[derive(Debug)]
pub struct Session {
    arena: Vec<i8>,
    /// Codes of an input before its axes are moved.
    planes: Vec<i8>,
    /// For each thread.
    scratch: Vec<Scratch>,
    /// Arguments and results of nodes that are computed by their reference.
    codes: Vec<Option<(Vec<Codes>, Codes)>>,
}

/// What is known about the computation of one node.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Name of the node.
    pub name: &'a str,
    /// Its operator.
    pub operator: &'static str,
    /// The kernel that computes it, or "reference".
    pub path: &'static str,
    /// Products that are summed.
    pub macs: u64,
}

impl Engine {
    /// Plans the memory of `graph` and packs its constants.
    ///
    /// # Errors
    /// No threads, a machine without the instructions of `options`, or a graph with a value that is not
    /// computed.
    pub fn new(graph: &IntGraph, options: Options) -> Result<Self> {
        if options.threads == 0 {
            bail!(Invalid, "an engine needs a thread");
        }
        if !options.isa.is_available() {
            bail!(Unsupported, "this machine has no {}", options.isa);
        }
        let mut engine = Self {
            options,
            inputs: Vec::new(),
            outputs: Vec::new(),
            steps: Vec::new(),
            arena: 0,
            scratch: Sizes::default(),
            pool: None,
            wide: None,
        };
        if code_bits(graph) != 8 {
            engine.wide = Some(graph.clone());
            return Ok(engine);
        }
        let memory = Memory::for_rust(graph);
        let source = |v: ValueId| {
            let value = &graph.values[v];
            match (&value.constant, memory.values[v]) {
                (Some(Codes::I8(codes)), _) => Ok(Source::Constant(codes.clone())),
                (_, Some(begin)) => Ok(Source::Arena(begin, value.len())),
                _ => bail!(Invalid, "value \"{}\" is not computed", value.name),
            }
        };
        for &v in &graph.inputs {
            let Source::Arena(begin, _) = source(v)? else {
                bail!(Invalid, "input \"{}\" is a constant", graph.values[v].name);
            };
            engine.inputs.push((graph.values[v].clone(), begin));
        }
        for node in &graph.nodes {
            let inputs = node.inputs.iter().map(|&v| source(v)).collect::<Result<Vec<_>>>()?;
            let Source::Arena(begin, len) = source(node.output)? else {
                bail!(Invalid, "the result of \"{}\" is a constant", node.name);
            };
            let step = Step::new(node, inputs, begin..begin + len, options);
            engine.scratch = engine.scratch.max(step.sizes());
            engine.steps.push(step);
        }
        for &v in &graph.outputs {
            engine.outputs.push((graph.values[v].clone(), source(v)?));
        }
        engine.arena = memory.size;
        if engine.steps.iter().any(Step::is_shared) {
            match ThreadPoolBuilder::new().num_threads(options.threads).build() {
                Ok(pool) => engine.pool = Some(pool),
                Err(error) => return Err(Error::Io(std::io::Error::other(error))),
            }
        }
        Ok(engine)
    }

    /// Memory to run in.
    pub fn session(&self) -> Session {
        let planes = self.inputs.iter().filter(|(v, _)| v.layout == Layout::ChannelsLast);
        Session {
            arena: vec![0; self.arena],
            planes: vec![0; planes.map(|(v, _)| v.len()).max().unwrap_or(0)],
            scratch: vec![self.scratch.scratch(self.options.isa); self.options.threads],
            codes: self.steps.iter().map(Step::codes).collect(),
        }
    }

    /// From inputs to outputs, both real.
    ///
    /// # Errors
    /// As for [`run_codes`](Self::run_codes).
    pub fn run(&self, session: &mut Session, inputs: &[Tensor<f32>]) -> Result<Vec<Tensor<f32>>> {
        let codes = self.run_codes(session, inputs)?;
        let values: Vec<&IntValue> = match &self.wide {
            Some(graph) => graph.outputs.iter().map(|&v| &graph.values[v]).collect(),
            None => self.outputs.iter().map(|(value, _)| value).collect(),
        };
        let real = values.iter().zip(codes);
        Ok(real.map(|(v, c)| c.map(|&c| v.quant.dequantize(c, 0))).collect())
    }

    /// The codes of the outputs, in ONNX's axis order.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if `inputs` do not fit the graph's.
    pub fn run_codes(
        &self,
        session: &mut Session,
        inputs: &[Tensor<f32>],
    ) -> Result<Vec<Tensor<i32>>> {
        self.run_observed(session, inputs, |_, _| {})
    }

    /// As [`run_codes`](Self::run_codes); `observe` is called after each layer with its index and its
    /// result in the order of memory, and is not called for networks of 16-bit codes.
    ///
    /// # Errors
    /// As for [`run_codes`](Self::run_codes).
    pub fn run_observed(
        &self,
        session: &mut Session,
        inputs: &[Tensor<f32>],
        observe: impl FnMut(usize, &[i8]) + Send,
    ) -> Result<Vec<Tensor<i32>>> {
        if let Some(graph) = &self.wide {
            return IntExecutor::new(graph).run_codes(inputs, |_, _| Ok(()));
        }
        let expected = self.inputs.iter().map(|(v, _)| (v.name.as_str(), v.shape.as_slice()));
        check_inputs(expected, inputs)?;
        assert!(
            session.arena.len() == self.arena && session.codes.len() == self.steps.len(),
            "a session of another engine"
        );
        for ((value, begin), input) in self.inputs.iter().zip(inputs) {
            let codes = &mut session.arena[*begin..*begin + value.len()];
            let (scale, zero) = (value.quant.scale[0], value.quant.zero_point);
            match (value.layout, value.shape.as_slice()) {
                (Layout::ChannelsLast, &[_, c, h, w]) => {
                    let planes = &mut session.planes[..value.len()];
                    quantize(self.options.isa, input.data(), scale, zero, planes);
                    interleave(planes, c, h * w, codes);
                }
                _ => quantize(self.options.isa, input.data(), scale, zero, codes),
            }
        }
        match &self.pool {
            Some(pool) => pool.install(|| self.steps(session, observe)),
            None => self.steps(session, observe),
        }
        let outputs = self.outputs.iter().map(|(value, source)| {
            let codes = match source {
                Source::Arena(begin, len) => session.arena[*begin..*begin + *len].to_vec(),
                Source::Constant(codes) => codes.clone(),
            };
            value.to_onnx_order(&Codes::I8(codes))
        });
        outputs.collect()
    }

    fn steps(&self, session: &mut Session, mut observe: impl FnMut(usize, &[i8])) {
        let Session { arena, scratch, codes, .. } = session;
        for (i, (step, codes)) in self.steps.iter().zip(codes).enumerate() {
            step.run(self.options.isa, arena, scratch, codes);
            observe(i, &arena[step.output.clone()]);
        }
    }

    /// The nodes, in the order in which they are computed; none of a network of 16-bit codes.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        self.steps.iter().map(Step::layer)
    }

    /// As it was made.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Bytes of the arena, and of packed constants.
    pub fn bytes(&self) -> [usize; 2] {
        [self.arena, self.steps.iter().map(Step::bytes).sum()]
    }
}

/// `[n, c, pixels]` to `[n, pixels, c]`.
fn interleave(x: &[i8], c: usize, pixels: usize, y: &mut [i8]) {
    for (x, y) in x.chunks_exact((c * pixels).max(1)).zip(y.chunks_exact_mut((c * pixels).max(1))) {
        match c {
            3 => {
                let (first, rest) = x.split_at(pixels);
                let (second, third) = rest.split_at(pixels);
                for (((y, &a), &b), &c) in y.chunks_exact_mut(3).zip(first).zip(second).zip(third) {
                    y.copy_from_slice(&[a, b, c]);
                }
            }
            _ => {
                for (channel, x) in x.chunks_exact(pixels).enumerate() {
                    y[channel..].iter_mut().step_by(c).zip(x).for_each(|(y, &x)| *y = x);
                }
            }
        }
    }
}
