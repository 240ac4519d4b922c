//! Running a network on this machine: in real numbers, and in integers.

pub mod engine;
pub mod float;
pub mod int;

use std::path::Path;

use crate::error::{Context, Result, bail};
use crate::graph::{Graph, ValueId};
use crate::lower::{IntGraph, lower_owned};
use crate::tensor::Tensor;
use crate::{onnx, passes};

/// A network from a file: as real numbers, or in integers if the file is quantized.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// A float network.
    Float(Graph),
    /// A quantized network.
    Int(IntGraph),
}

/// From inputs to outputs, both real.
pub type Run<'a> = dyn Fn(&[Tensor<f32>]) -> Result<Vec<Tensor<f32>>> + Sync + 'a;

impl Network {
    /// Reads a model file and prepares it for execution.
    ///
    /// # Errors
    /// What is wrong with the file, or not supported, and where.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with(path, &onnx::InputShapes::new())
    }

    /// As [`load`](Self::load), with shapes for inputs that the file leaves open.
    pub fn load_with(path: &Path, shapes: &onnx::InputShapes) -> Result<Self> {
        let mut graph = onnx::load_with(path, shapes)?;
        passes::prepare(&mut graph);
        passes::complete_params(&mut graph).in_file(path)?;
        match graph.has_codes() {
            true => lower_owned(graph).map(Self::Int).in_file(path),
            false => Ok(Self::Float(graph)),
        }
    }

    /// Names and shapes of the inputs.
    pub fn inputs(&self) -> Vec<(&str, &[usize])> {
        match self {
            Self::Float(g) => {
                g.inputs.iter().map(|&v| (&*g.values[v].name, &*g.values[v].shape)).collect()
            }
            Self::Int(g) => {
                g.inputs.iter().map(|&v| (&*g.values[v].name, &*g.values[v].shape)).collect()
            }
        }
    }

    /// A function from inputs to outputs, both real; it may be called from many threads.
    pub fn executor(&self) -> Box<Run<'_>> {
        match self {
            Self::Float(graph) => {
                let executor = float::FloatExecutor::new(graph);
                Box::new(move |inputs| executor.run(inputs, |_, _| Ok(())))
            }
            Self::Int(graph) => match engine::Engine::new(graph, engine::Options::default()) {
                Ok(engine) => {
                    // Each thread takes a session that is free, or a new one.
                    let free = std::sync::Mutex::new(Vec::new());
                    Box::new(move |inputs| {
                        let session = free.lock().ok().and_then(|mut free| free.pop());
                        let mut session = session.map_or_else(|| engine.session(), Ok)?;
                        let outputs = engine.run(&mut session, inputs);
                        if let Ok(mut free) = free.lock() {
                            free.push(session);
                        }
                        outputs
                    })
                }
                Err(_) => {
                    let executor = int::IntExecutor::new(graph);
                    Box::new(move |inputs| executor.run(inputs))
                }
            },
        }
    }
}

/// For each node, the values that nothing needs after it; `keep` are never freed.
fn last_uses<'a>(
    values: usize,
    nodes: impl Iterator<Item = (&'a [ValueId], ValueId)>,
    keep: &[ValueId],
) -> Vec<Vec<ValueId>> {
    let mut last_use = vec![None; values];
    let mut dead: Vec<Vec<ValueId>> = Vec::new();
    for (index, (inputs, output)) in nodes.enumerate() {
        inputs.iter().chain([&output]).for_each(|&v| last_use[v] = Some(index));
        dead.push(Vec::new());
    }
    for (value, index) in last_use.into_iter().enumerate() {
        if let Some(index) = index.filter(|_| !keep.contains(&value)) {
            dead[index].push(value);
        }
    }
    dead
}

/// Checks the tensors that a caller gives against the names and shapes of a network's inputs.
fn check_inputs<'a>(
    expected: impl ExactSizeIterator<Item = (&'a str, &'a [usize])>,
    inputs: &[Tensor<f32>],
) -> Result<()> {
    if expected.len() != inputs.len() {
        bail!(Shape, "the network has {} inputs, got {}", expected.len(), inputs.len());
    }
    for ((name, shape), input) in expected.zip(inputs) {
        if shape != input.shape() {
            bail!(Shape, "input \"{name}\" has shape {shape:?}, got {:?}", input.shape());
        }
        // Without a way out the loop is done in vectors.
        if input.data().iter().fold(false, |any, x| any | !x.is_finite()) {
            bail!(Range, "input \"{name}\" holds a value that is not finite");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
