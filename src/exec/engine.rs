//! Fast integer execution: plan once, run many times. The codes are those of
//! [`IntExecutor`](super::int::IntExecutor), whatever the machine and the number of threads.
//!
//! All activations lie in one block of memory, the arena of a [`Session`], at the places that
//! `memory` has found. The constants are packed for the kernels of the chosen [`Isa`].
//! Every operator has kernels, for codes of 8 and of 16 bits: convolutions and linear layers are products of packed
//! weights, what only moves codes is copied in runs, and all else is a loop in vectors. When the engine is made, each
//! kernel without products is tried on random codes; where one computes something else than its operator's
//! reference, the reference stands in, and [`Layer::failed`] says so.
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
//! # FloatExecutor::new(&graph).run(&[data.sample(0)?], |v, x| observer.see(v, x))?;
//! # let scheme = Scheme::new(Preset::Scale);
//! # let integer = lower(&quantize_corrected(&graph, &observer, Calibrator::MinMax, scheme)?)?;
//! // `integer` is an `IntGraph`, as from `lower` or from `Model::load`.
//! let engine = Engine::new(&integer, Options::default())?;
//! let results = std::thread::scope(|scope| {
//!     let threads = (0..2).map(|i| {
//!         let (engine, data) = (&engine, &data);
//!         scope.spawn(move || engine.run(&mut engine.session()?, &[data.sample(i)?]))
//!     });
//!     let threads: Vec<_> = threads.collect();
//!     threads.into_iter().map(|t| t.join().unwrap()).collect::<naive_ptq::Result<Vec<_>>>()
//! })?;
//! assert_eq!(results[0][0].shape(), [1, 10]);
//! # Ok(())
//! # }
//! ```

mod arena;
mod loops;
mod moves;
mod step;
#[cfg(test)]
mod tests;

use self::arena::{Scratch, Sizes, to_bytes, to_codes};
use self::step::Step;
use super::check_inputs;
use crate::codes::Codes;
use crate::error::{Result, bail};
use crate::graph::ValueId;
use crate::kernels::elementwise::{Stored, interleave, quantize};
use crate::kernels::isa::{Isa, Without};
use crate::kernels::team::Team;
use crate::lower::{IntGraph, IntValue};
use crate::memory::{Memory, bytes};
use crate::ops::{Order, image};
use crate::quant::Width;
use crate::tensor::Tensor;

/// How an [`Engine`] runs.
///
/// ```
/// let options = naive_ptq::exec::engine::Options::default().with_threads(2);
/// assert_eq!(options.threads, 2);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that share the work of one run; at least 1.
    pub threads: usize,
    /// The instructions to use.
    pub isa: Isa,
    /// The techniques not to use.
    pub without: Without,
    /// Which of the kernels that can compute a layer does it.
    pub policy: Policy,
}

/// Which of the kernels that can compute a layer does it. The codes are the same.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one that probably takes least; threads share a layer if that saves time.
    #[default]
    Fastest,
    /// The special ones and all threads, even for layers that are too small to gain by it.
    Everything,
}

impl Default for Options {
    /// One thread, the fastest instructions of this machine, and all techniques where they pay.
    fn default() -> Self {
        Self {
            threads: 1,
            isa: Isa::detect(),
            without: Without::default(),
            policy: Policy::default(),
        }
    }
}

impl Options {
    /// The same with so many threads.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same with these instructions.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The same without these techniques.
    pub fn without(self, without: Without) -> Self {
        Self { without, ..self }
    }

    /// The same with kernels chosen so.
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}

/// An integer network, ready to run. Threads may share it; each needs a [`Session`] of its own.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    /// Inputs and outputs, with their places in the arena.
    inputs: Vec<(ValueId, IntValue, usize)>,
    outputs: Vec<(IntValue, Source)>,
    steps: Vec<Step>,
    arena: usize,
    scratch: Sizes,
    /// Threads of a session: one if no layer is worth sharing.
    threads: usize,
}

/// Where an argument comes from.
#[derive(Clone, Debug)]
enum Source {
    /// The arena, from here on.
    Arena(usize, usize),
    /// The model, as bytes of the arena.
    Constant(Vec<u8>),
}

/// The memory of one run at a time.
#[derive(Debug)]
pub struct Session {
    /// A byte for each code, as the kernels want it: see [`Isa`].
    arena: Vec<u8>,
    team: Team,
    /// For each thread.
    scratch: Vec<Scratch>,
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
    /// The kernel that should, but was found to compute something else: a fault of this program.
    pub failed: Option<&'static str>,
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
            threads: 1,
        };
        let memory = Memory::disjoint(graph);
        let source = |v: ValueId| {
            let value = &graph.values[v];
            match (&value.constant, memory.values[v]) {
                (Some(codes), _) => Ok(Source::Constant(to_bytes(codes, options.isa.flip()))),
                (_, Some(begin)) => Ok(Source::Arena(begin, bytes(value))),
                _ => bail!(Invalid, "value \"{}\" is not computed", value.name),
            }
        };
        for &v in &graph.inputs {
            let value = &graph.values[v];
            let Source::Arena(begin, _) = source(v)? else {
                bail!(Invalid, "input \"{}\" is a constant", value.name);
            };
            if let (Order::ChannelsLast, Some([_, c, _, w])) = (value.order, image(&value.shape)) {
                let bytes = c * w * value.quant.width.bytes();
                engine.scratch.planes = engine.scratch.planes.max(bytes);
            }
            engine.inputs.push((v, value.clone(), begin));
        }
        let mut alone = Team::new(1)?;
        for node in &graph.nodes {
            let inputs = node.inputs.iter().map(|&v| source(v)).collect::<Result<Vec<_>>>()?;
            let Source::Arena(begin, len) = source(node.output)? else {
                bail!(Invalid, "the result of \"{}\" is a constant", node.origin);
            };
            let width = |v: ValueId| graph.values[v].quant.width;
            let widths = [width(node.inputs[0]), width(node.output)];
            let step = Step::new(node, inputs, begin..begin + len, widths, options, &mut alone);
            engine.scratch = engine.scratch.max(step.sizes());
            engine.steps.push(step);
        }
        for &v in &graph.outputs {
            engine.outputs.push((graph.values[v].clone(), source(v)?));
        }
        engine.arena = memory.size;
        if engine.steps.iter().any(Step::is_shared) {
            engine.threads = options.threads;
        }
        Ok(engine)
    }

    /// Memory and threads to run with.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn session(&self) -> Result<Session> {
        Ok(Session {
            arena: vec![0; self.arena],
            team: Team::new(self.threads)?,
            scratch: vec![self.scratch.scratch(); self.threads],
        })
    }

    /// From inputs to outputs, both real.
    ///
    /// # Errors
    /// As for [`run_codes`](Self::run_codes).
    pub fn run(&self, session: &mut Session, inputs: &[Tensor<f32>]) -> Result<Vec<Tensor<f32>>> {
        let codes = self.run_codes(session, inputs)?;
        let real = self.outputs.iter().zip(codes);
        Ok(real.map(|((v, _), c)| c.map(|&c| v.quant.dequantize(c, 0))).collect())
    }

    /// The codes of the outputs, in ONNX's axis order.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) or [`Error::Range`](crate::Error::Range) if `inputs` do not fit the graph's.
    pub fn run_codes(
        &self,
        session: &mut Session,
        inputs: &[Tensor<f32>],
    ) -> Result<Vec<Tensor<i32>>> {
        self.run_observed(session, inputs, |_, _| {})
    }

    /// As [`run_codes`](Self::run_codes); `observe` sees the codes of every input and then of every
    /// layer, in the order of memory, as
    /// [`IntExecutor::run_codes`](super::int::IntExecutor::run_codes) shows them.
    ///
    /// # Errors
    /// As for [`run_codes`](Self::run_codes).
    pub fn run_observed(
        &self,
        session: &mut Session,
        inputs: &[Tensor<f32>],
        mut observe: impl FnMut(ValueId, &dyn Fn() -> Codes),
    ) -> Result<Vec<Tensor<i32>>> {
        let inputs = check_inputs(self.inputs.iter().map(|(_, v, _)| v.into()), inputs)?;
        assert!(session.arena.len() == self.arena, "a session of another engine");
        let Session { arena, team, scratch } = session;
        let Options { isa, .. } = self.options;
        let codes = |width: Width, bytes: &[u8]| to_codes(width, bytes, isa.flip());
        for ((v, value, begin), input) in self.inputs.iter().zip(&inputs) {
            let bytes = &mut arena[*begin..*begin + bytes(value)];
            match value.quant.width.bytes() {
                1 => self.take::<u8>(value, input.data(), bytes, team, scratch),
                _ => self.take::<[u8; 2]>(value, input.data(), bytes, team, scratch),
            }
            observe(*v, &|| codes(value.quant.width, bytes));
        }
        for step in &self.steps {
            step.run(isa, arena, team, scratch);
            observe(step.value, &|| codes(step.width(), &arena[step.output.clone()]));
        }
        let outputs = self.outputs.iter().map(|(value, source)| {
            value.to_onnx_order(&codes(value.quant.width, source.bytes(arena)))
        });
        outputs.collect()
    }

    /// An input's codes, in the order of memory.
    fn take<Y: Stored>(
        &self,
        value: &IntValue,
        x: &[f32],
        y: &mut [u8],
        team: &mut Team,
        scratch: &mut [Scratch],
    ) {
        let (isa, size) = (self.options.isa, size_of::<Y>());
        let (scale, zero, flip) = (value.quant.scale[0], value.quant.zero_point, isa.flip());
        match (value.order, image(&value.shape)) {
            (Order::ChannelsLast, Some([_, c, h, w])) if c > 1 && h * w > 0 => {
                // A line of all channels at a time.
                let (line, lines) = (c * w, x.len() / (c * w));
                let part = lines.div_ceil(self.threads);
                team.share(y, part * line * size, scratch, |i, y, scratch| {
                    let planes = Y::all_mut(&mut scratch.planes[..line * size]);
                    for (row, y) in (i * part..).zip(Y::all_mut(y).chunks_exact_mut(line)) {
                        for (channel, plane) in planes.chunks_exact_mut(w).enumerate() {
                            let x = &x[((row / h * c + channel) * h + row % h) * w..][..w];
                            quantize(isa, x, scale, zero, flip, plane);
                        }
                        interleave(isa, planes, c, y);
                    }
                });
            }
            _ => {
                let part = x.len().div_ceil(self.threads).max(1);
                team.share(y, part * size, scratch, |i, y, _| {
                    let y = Y::all_mut(y);
                    quantize(isa, &x[i * part..][..y.len()], scale, zero, flip, y);
                });
            }
        }
    }

    /// The nodes, in the order in which they are computed.
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
