//! Whether everything that computes an integer network computes the same codes.
//!
//! Each of them is a [`Candidate`]: the [`Reference`], to which all others are compared, an [`InEngine`] for
//! each way in which the engine can run, and whatever a caller adds, such as deployed programs.

use std::error::Error;
use std::fmt::{self, Display};
use std::panic::resume_unwind;
use std::thread;

use serde::Serialize;

use crate::codes::Codes;
use crate::exec::check_inputs;
use crate::exec::engine::{Engine, Options};
use crate::exec::int::IntExecutor;
use crate::graph::ValueId;
use crate::kernels::isa::Isa;
use crate::lower::IntGraph;
use crate::tensor::Tensor;
use crate::text::printable;

/// What may fail, for reasons of this library or of others.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What is run: the inputs as real numbers and, for those that take nothing else, as codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// In ONNX's axis order.
    pub inputs: Vec<Tensor<f32>>,
    /// In the order of memory.
    pub codes: Vec<Codes>,
    /// Whether layers are asked for.
    pub layers: bool,
}

/// What one run computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The result of each node, in the order of memory; empty if layers are not asked for.
    pub layers: Vec<Codes>,
    /// The outputs, in ONNX's axis order.
    pub outputs: Vec<Tensor<i32>>,
}

impl Trace {
    /// Itself, if it is one of `graph`.
    fn of(self, graph: &IntGraph, layers: bool) -> Outcome<Self> {
        let results = graph.nodes.iter().map(|node| node.output).filter(|_| layers);
        let results = results.chain(graph.outputs.iter().copied());
        let own = self.layers.iter().map(Codes::len);
        let own = own.chain(self.outputs.iter().map(|y| y.data().len()));
        match results.map(|v| graph.values[v].len()).eq(own) {
            true => Ok(self),
            false => Err("gives other tensors than the network has".into()),
        }
    }

    /// The codes of tensor `t`: the layers come first, then the outputs.
    fn codes(&self, t: usize) -> Vec<i32> {
        match t.checked_sub(self.layers.len()) {
            None => self.layers[t].iter().collect(),
            Some(output) => self.outputs[output].data().to_vec(),
        }
    }

    /// The first place at which tensor `t` is not that of `other`.
    fn differs(&self, other: &Self, t: usize) -> Option<usize> {
        let equal = match t.checked_sub(self.layers.len()) {
            None => self.layers[t] == other.layers[t],
            Some(output) => self.outputs[output] == other.outputs[output],
        };
        let differ = |(a, b)| a != b;
        if equal { None } else { self.codes(t).into_iter().zip(other.codes(t)).position(differ) }
    }
}

/// Computes samples, one at a time.
pub type Runner<'a> = Box<dyn FnMut(&Sample) -> Outcome<Trace> + Send + 'a>;

/// Something that computes an integer network.
pub trait Candidate: Sync {
    /// What it is called when it is told from the others.
    fn name(&self) -> String;

    /// What it is called together with those of its kind that stand beside it.
    fn family(&self) -> String {
        self.name()
    }

    /// Threads that one run keeps busy.
    fn threads(&self) -> usize {
        1
    }

    /// What its user should know besides.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Gets ready to compute.
    ///
    /// # Errors
    /// If it cannot.
    fn start(&self) -> Outcome<Runner<'_>>;
}

/// The operators' reference: what every other candidate must compute.
#[derive(Debug)]
pub struct Reference(pub IntExecutor);

impl Candidate for Reference {
    fn name(&self) -> String {
        "reference".into()
    }

    fn start(&self) -> Outcome<Runner<'_>> {
        let graph = self.0.graph();
        Ok(Box::new(move |sample| {
            let mut seen = vec![None; graph.values.len()];
            let outputs = self.0.run_codes(&sample.inputs, |v, codes| {
                seen[v] = sample.layers.then(|| codes.clone());
                Ok(())
            })?;
            let layers = graph.nodes.iter().filter_map(|node| seen[node.output].take()).collect();
            Ok(Trace { layers, outputs })
        }))
    }
}

/// The engine, on some instructions with some threads.
#[derive(Debug)]
pub struct InEngine {
    engine: Engine,
    family: String,
    /// The results of the nodes.
    results: Vec<ValueId>,
}

impl InEngine {
    /// One for each instruction set of this machine and each number of `threads`.
    ///
    /// # Errors
    /// Those of [`Engine::new`].
    pub fn all(graph: &IntGraph, threads: &[usize]) -> crate::Result<Vec<Self>> {
        let isas = Isa::ALL.into_iter().rev().filter(|isa| isa.is_available());
        let isas: Vec<Isa> = isas.collect();
        let family = format!("engine ({}; {})", listed(&isas), threads_of(threads));
        let results: Vec<ValueId> = graph.nodes.iter().map(|n| n.output).collect();
        let each = isas.iter().flat_map(|&isa| threads.iter().map(move |&threads| (isa, threads)));
        each.map(|(isa, threads)| {
            let engine = Engine::new(graph, Options { isa, threads, ..Options::default() })?;
            Ok(Self { engine, family: family.clone(), results: results.clone() })
        })
        .collect()
    }
}

fn listed(list: &[impl ToString]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn threads_of(threads: &[usize]) -> String {
    format!("{} {}", listed(threads), if threads == [1] { "thread" } else { "threads" })
}

impl Candidate for InEngine {
    fn name(&self) -> String {
        let Options { isa, threads, .. } = self.engine.options();
        format!("engine ({isa}; {})", threads_of(&[threads]))
    }

    fn family(&self) -> String {
        self.family.clone()
    }

    fn threads(&self) -> usize {
        self.engine.options().threads
    }

    fn notes(&self) -> Vec<String> {
        let failed = self.engine.layers().filter_map(|layer| Some((layer.name, layer.failed?)));
        let note = |(layer, kernel)| {
            let layer = printable(layer);
            format!("{}: kernel {kernel} of layer \"{layer}\" is wrong and not used", self.name())
        };
        failed.map(note).collect()
    }

    fn start(&self) -> Outcome<Runner<'_>> {
        let mut session = self.engine.session()?;
        Ok(Box::new(move |sample| {
            let mut layers = Vec::new();
            let outputs = self.engine.run_observed(&mut session, &sample.inputs, |v, codes| {
                match self.results.get(layers.len()) {
                    Some(&next) if sample.layers && next == v => layers.push(codes()),
                    _ => {}
                }
            })?;
            Ok(Trace { layers, outputs })
        }))
    }
}

/// How to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Whether the result of every layer is compared, and not only the outputs.
    pub layers: bool,
    /// Threads to use; at least 1.
    pub threads: usize,
}

/// What was compared, and the first difference if there is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The families of candidates, the reference first.
    pub targets: Vec<String>,
    /// Each candidate.
    pub candidates: Vec<String>,
    /// Samples that were asked for.
    pub samples: usize,
    /// Samples on which all candidates agree, up to the first on which they do not.
    pub equal_samples: usize,
    /// Whether layers were compared.
    pub layers: bool,
    /// Whether everything was equal.
    pub equal: bool,
    /// The first difference.
    pub difference: Option<Difference>,
    /// What a user should know besides.
    pub notes: Vec<String>,
}

/// The first code on which not all candidates agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The sample.
    pub sample: usize,
    /// The node that computes the tensor, if any does.
    pub layer: Option<String>,
    /// The tensor.
    pub tensor: String,
    /// The code's place: of a layer in the order of memory, of an output in ONNX's order.
    pub index: usize,
    /// Who says what, the fewest first.
    pub opinions: Vec<Opinion>,
}

/// Candidates that agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Opinion {
    /// The code that they have computed.
    pub code: i32,
    /// Their names.
    pub of: Vec<String>,
    /// The same, families together where all their members agree.
    #[serde(skip)]
    called: Vec<String>,
}

/// Runs samples `0..samples` through all `candidates`, the first of which is called the reference, until
/// two of them differ; `done` is called after each sample.
///
/// Samples run side by side in all candidates that take one thread each; those that take more have the
/// machine for themselves.
///
/// # Errors
/// A sample that cannot be had, or a candidate that fails on it.
pub fn compare(
    graph: &IntGraph,
    candidates: &[Box<dyn Candidate + '_>],
    samples: usize,
    sample: impl Fn(usize) -> crate::Result<Vec<Tensor<f32>>> + Sync,
    how: How,
    done: impl Fn(),
) -> Outcome<Comparison> {
    let start = |i: usize| -> Outcome<(usize, Runner)> {
        Ok((i, candidates[i].start().map_err(|e| format!("target {}: {e}", candidates[i].name()))?))
    };
    let (alone, together): (Vec<usize>, Vec<usize>) =
        (0..candidates.len()).partition(|&i| candidates[i].threads() == 1);
    let lane = |_| alone.iter().map(|&i| start(i)).collect::<Outcome<Vec<_>>>();
    let mut lanes = (0..how.threads.min(samples)).map(lane).collect::<Outcome<Vec<_>>>()?;
    let mut teams = together.into_iter().map(start).collect::<Outcome<Vec<_>>>()?;
    let run = |runners: &mut [(usize, Runner)], at: usize, of: &Sample, to: &mut [Trace]| {
        for (i, runner) in runners {
            let trace = runner(of).and_then(|trace| trace.of(graph, how.layers));
            let place = |e| format!("sample {at}: target {}: {e}", candidates[*i].name());
            to[*i] = trace.map_err(place)?;
        }
        Outcome::Ok(())
    };
    let first = |lane: &mut Vec<(usize, Runner)>, at: usize| {
        let values = graph.inputs.iter().map(|&v| &graph.values[v]);
        let wrong = |e| format!("sample {at}: {e}");
        let inputs = sample(at).map_err(wrong)?;
        let real = check_inputs(values.clone().map(Into::into), &inputs).map_err(wrong)?;
        let codes = values.zip(&real).map(|(value, x)| value.to_codes(x)).collect();
        let sample = Sample { inputs, codes, layers: how.layers };
        let mut traces = vec![Trace::default(); candidates.len()];
        run(lane, at, &sample, &mut traces)?;
        Outcome::Ok((sample, traces))
    };
    let mut comparison = Comparison::new(candidates, samples, how);
    for begin in (0..samples).step_by(lanes.len().max(1)) {
        let results = thread::scope(|scope| {
            let threads = lanes.iter_mut().zip(begin..samples);
            let threads: Vec<_> =
                threads.map(|(lane, at)| scope.spawn(move || first(lane, at))).collect();
            let join = |thread: thread::ScopedJoinHandle<_>| thread.join();
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
        for (at, result) in (begin..).zip(results) {
            let (sample, mut traces) = result.unwrap_or_else(|panic| resume_unwind(panic))?;
            run(&mut teams, at, &sample, &mut traces)?;
            comparison.difference = difference(graph, candidates, at, &traces);
            if comparison.difference.is_some() {
                comparison.equal = false;
                return Ok(comparison);
            }
            comparison.equal_samples += 1;
            done();
        }
    }
    Ok(comparison)
}

/// The first place at which not all traces are the same.
fn difference(
    graph: &IntGraph,
    candidates: &[Box<dyn Candidate + '_>],
    sample: usize,
    traces: &[Trace],
) -> Option<Difference> {
    let (expected, rest) = traces.split_first()?;
    let layers = graph.nodes.iter().map(|node| node.output).take(expected.layers.len());
    let tensors = layers.chain(graph.outputs.iter().copied()).enumerate();
    tensors.into_iter().find_map(|(t, v)| {
        let index = rest.iter().filter_map(|trace| trace.differs(expected, t)).min()?;
        let said: Vec<i32> = traces.iter().map(|trace| trace.codes(t)[index]).collect();
        let node = graph.nodes.iter().find(|node| node.output == v);
        Some(Difference {
            sample,
            layer: node.map(|node| node.origin.clone()),
            tensor: graph.values[v].name.clone(),
            index,
            opinions: opinions(candidates, &said),
        })
    })
}

/// `said` has one code for each candidate.
fn opinions(candidates: &[Box<dyn Candidate + '_>], said: &[i32]) -> Vec<Opinion> {
    let mut codes = said.to_vec();
    codes.sort_unstable();
    codes.dedup();
    let opinion = |&code: &i32| {
        let of = (0..said.len()).filter(|&i| said[i] == code);
        let mut called: Vec<String> = of
            .clone()
            .map(|i| {
                let family = candidates[i].family();
                let alike = (0..said.len()).filter(|&k| candidates[k].family() == family);
                let all = alike.into_iter().all(|k| said[k] == code);
                if all { family } else { candidates[i].name() }
            })
            .collect();
        called.dedup();
        Opinion { code, of: of.map(|i| candidates[i].name()).collect(), called }
    };
    let mut opinions: Vec<Opinion> = codes.iter().map(opinion).collect();
    // Of two that are as many, the reference's is the last.
    opinions.sort_by_key(|opinion| (opinion.of.len(), opinion.code == said[0]));
    opinions
}

impl Comparison {
    fn new(candidates: &[Box<dyn Candidate + '_>], samples: usize, how: How) -> Self {
        let mut targets: Vec<String> = candidates.iter().map(|c| c.family()).collect();
        targets.dedup();
        Self {
            targets,
            candidates: candidates.iter().map(|c| c.name()).collect(),
            samples,
            equal_samples: 0,
            layers: how.layers,
            equal: true,
            difference: None,
            notes: candidates.iter().flat_map(|c| c.notes()).collect(),
        }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let Some(Difference { sample, layer, tensor, index, opinions }) = &self.difference else {
            let Self { equal_samples, samples, .. } = self;
            return write!(
                f,
                "{} on {equal_samples} of {samples} samples",
                self.targets.join(" = ")
            );
        };
        write!(f, "sample {sample}: ")?;
        if let Some(layer) = layer {
            write!(f, "layer \"{}\": ", printable(layer))?;
        }
        let said = opinions.iter().map(|o| format!("{} in {}", o.code, o.called.join(" = ")));
        let said = said.collect::<Vec<_>>().join(", ");
        write!(f, "\"{}\"[{index}] is {said}", printable(tensor))
    }
}

#[cfg(test)]
mod tests;
