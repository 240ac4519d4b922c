//! From a file to something that runs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::error::{Context, Result, bail};
use crate::exec::engine::{self, Engine};
use crate::exec::float::FloatExecutor;
use crate::graph::Graph;
use crate::lower::{IntGraph, lower_owned};
use crate::onnx;
use crate::quantize::prepare;
use crate::tensor::Tensor;

/// A network, prepared: in real numbers, or in integers if it is quantized.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// A float network.
    Float(Arc<Graph>),
    /// A quantized network.
    Int(Arc<IntGraph>),
}

impl Model {
    /// Reads a model file and prepares it for execution.
    ///
    /// # Errors
    /// What is wrong with the file, or not supported, and where.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with(path, &onnx::InputShapes::new())
    }

    /// As [`load`](Self::load), with shapes for inputs that the file leaves open.
    pub fn load_with(path: &Path, shapes: &onnx::InputShapes) -> Result<Self> {
        Self::new(onnx::load_with(path, shapes)?).in_file(path)
    }

    /// Prepares an imported network for execution.
    ///
    /// # Errors
    /// The node that has no integer form, if the network is quantized.
    pub fn new(mut graph: Graph) -> Result<Self> {
        prepare(&mut graph)?;
        Ok(match graph.has_codes() {
            true => Self::Int(Arc::new(lower_owned(graph)?)),
            false => Self::Float(Arc::new(graph)),
        })
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

    /// The network, ready to be run; an integer network by the engine with its default options.
    ///
    /// # Errors
    /// Those of [`Engine::new`].
    pub fn executor(&self) -> Result<Executor> {
        Ok(match self {
            Self::Float(graph) => Executor::Float(FloatExecutor::new(Arc::clone(graph))),
            Self::Int(graph) => Executor::Int {
                engine: Engine::new(graph, engine::Options::default())?,
                free: Mutex::default(),
            },
        })
    }
}

/// Runs a network from inputs to outputs, both real, from any number of threads.
#[derive(Debug)]
pub enum Executor {
    /// In real numbers.
    Float(FloatExecutor),
    /// In integers.
    Int {
        /// The fast integer engine.
        engine: Engine,
        /// Sessions that no thread is using.
        free: Mutex<Vec<engine::Session>>,
    },
}

impl Executor {
    /// The outputs for one sample.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `inputs` do not fit the network's,
    /// [`Error::Range`](crate::Error::Range) if one is not finite.
    pub fn run(&self, inputs: &[Tensor<f32>]) -> Result<Vec<Tensor<f32>>> {
        match self {
            Self::Float(executor) => executor.run(inputs, |_, _| Ok(())),
            Self::Int { engine, free } => {
                Self::in_session(engine, free, |session| engine.run(session, inputs))
            }
        }
    }

    /// The codes of the outputs for one sample.
    ///
    /// # Errors
    /// As for [`run`](Self::run), or if the network is not quantized.
    pub fn run_codes(&self, inputs: &[Tensor<f32>]) -> Result<Vec<Tensor<i32>>> {
        match self {
            Self::Float(_) => bail!(Invalid, "the network is not quantized"),
            Self::Int { engine, free } => {
                Self::in_session(engine, free, |session| engine.run_codes(session, inputs))
            }
        }
    }

    /// With a session that no other thread is using.
    fn in_session<T>(
        engine: &Engine,
        free: &Mutex<Vec<engine::Session>>,
        run: impl FnOnce(&mut engine::Session) -> Result<T>,
    ) -> Result<T> {
        let session = free.lock().ok().and_then(|mut free| free.pop());
        let mut session = session.map_or_else(|| engine.session(), Ok)?;
        let result = run(&mut session);
        if let Ok(mut free) = free.lock() {
            free.push(session);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::add::Add;
    use crate::quantize::quantize;
    use crate::testing::{Net, Rng, SCHEMES, random_inputs, refused, run_float};

    #[test]
    fn inputs_that_do_not_fit_are_refused() {
        let mut net = Net::new(2);
        let (a, b) = (net.input(&[1, 3, 4, 4]), net.input(&[3, 1, 1]));
        let y = net.node(Op::Add(Add { subtract: false }), &[a, b]);
        let float = net.finish(&[y]);
        let inputs = random_inputs(&float, &mut Rng(3), 1.0);
        let (_, ranges) = run_float(&float, &inputs);
        let int = quantize(&float, &ranges, SCHEMES[0]).unwrap();
        let mut not_finite = inputs.clone();
        not_finite[1].data_mut()[0] = f32::NAN;
        let swapped = vec![inputs[1].clone(), inputs[0].clone()];
        for (inputs, expected) in [
            (inputs[..1].to_vec(), "the network has 2 inputs, got 1"),
            (swapped, "input \"v0\" has shape [1, 3, 4, 4], got [3, 1, 1]"),
            (not_finite, "input \"v1\" holds a value that is not finite"),
        ] {
            for graph in [&float, &int] {
                let executor = Model::new(graph.clone()).unwrap().executor().unwrap();
                assert_eq!(refused(executor.run(&inputs)), expected);
            }
        }
    }
}
