//! From a file to something that runs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::analyze::{Evaluation, LayerLoss, Part, Seen, layer_losses};
use crate::data::{Samples, Workers};
use crate::error::{Context, Result, bail};
use crate::exec::engine::{self, Engine};
use crate::exec::float::FloatExecutor;
use crate::graph::Graph;
use crate::lower::{IntGraph, lower_owned};
use crate::onnx;
use crate::quantize::{prepare, value_sqnrs};
use crate::tensor::Tensor;
use crate::text::printable;

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
        Self::load_with(path, &onnx::ImportOptions::default())
    }

    /// As [`load`](Self::load), with shapes for inputs that the file leaves open, or a part of it.
    pub fn load_with(path: &Path, options: &onnx::ImportOptions) -> Result<Self> {
        Self::new(onnx::load_with(path, options)?).in_file(path)
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
            Self::Float(g) => g.named_inputs(),
            Self::Int(g) => g.named_inputs(),
        }
    }

    /// Inputs of a quantized network for which `samples` are far from what it was calibrated for, in words: more than
    /// one number in twenty beyond all codes, or all within a few of them. The first samples are looked at.
    ///
    /// # Errors
    /// Samples that cannot be read.
    pub fn strange_inputs(&self, samples: &dyn Samples) -> Result<Vec<String>> {
        let Self::Int(graph) = self else { return Ok(vec![]) };
        let mut strange = Vec::new();
        let samples: Vec<_> =
            (0..samples.len().min(32)).map(|i| samples.get(i)).collect::<Result<_>>()?;
        let real = |v: &usize| graph.values[*v].given.is_none();
        for (i, &v) in graph.inputs.iter().enumerate().filter(|(_, v)| real(v)) {
            let (value, seen) =
                (&graph.values[v], samples.iter().filter_map(|s| s.as_slice().get(i)));
            strange.extend(
                value
                    .quant
                    .strange(seen.flat_map(|x| x.data()))
                    .map(|what| format!("input \"{}\": {what}", printable(&value.name))),
            );
        }
        Ok(strange)
    }

    /// Names of the outputs.
    pub fn outputs(&self) -> Vec<&str> {
        match self {
            Self::Float(g) => g.outputs.iter().map(|&v| &*g.values[v].name).collect(),
            Self::Int(g) => g.outputs.iter().map(|&v| &*g.values[v].name).collect(),
        }
    }

    /// Judges each output by what it is: classes by labels and those of a reference, and how near all numbers are to the
    /// reference's. Inputs of the reference are those of the same names, or else of the same places.
    ///
    /// # Errors
    /// Samples that cannot be read or do not fit; outputs of another shape than the reference's.
    pub fn evaluate(
        &self,
        reference: Option<&Self>,
        samples: &dyn Samples,
        workers: Workers,
    ) -> Result<Evaluation> {
        let float = match reference {
            Some(Self::Float(float)) => Some(&**float),
            _ => None,
        };
        let parts = Part::of(&self.outputs(), reference.map(Self::outputs).as_deref(), float);
        if let Some(reference) = reference.filter(|_| parts.iter().all(|part| !part.is_compared()))
        {
            let names = |model: &Self| format!("\"{}\"", model.outputs().join("\", \""));
            bail!(
                Invalid,
                "nothing to compare: the outputs are {}, those of the reference {}",
                names(self),
                names(reference)
            );
        }
        let (network, beside) = (self.executor()?, reference.map(Self::executor).transpose()?);
        let order = reference.and_then(|reference| self.order(reference));
        let each = workers.map(samples.len(), |i| {
            let inputs = samples.get(i)?;
            let ours = network.run(&inputs)?;
            let inputs = in_order(inputs, order.as_deref());
            let beside = beside.as_ref().map(|beside| beside.run(&inputs)).transpose()?;
            let labels = samples.labels(i)?;
            let see = |part: &Part| part.see(&ours, beside.as_deref(), labels.as_deref());
            Ok((parts.iter().map(see).collect::<Result<_>>()?, labels.is_some()))
        })?;
        let (each, labels): (Vec<Vec<Seen>>, Vec<bool>) = each.into_iter().unzip();
        Ok(Evaluation::of(parts, each, labels.contains(&true)))
    }

    /// How much each layer of a quantized network loses, those first that lose most, on the first 32 samples; nothing
    /// is known of others, or beside a reference that is no float network.
    ///
    /// # Errors
    /// Samples that cannot be read or do not fit.
    pub fn layer_losses(
        &self,
        reference: &Self,
        samples: &dyn Samples,
        workers: Workers,
    ) -> Result<Vec<LayerLoss>> {
        let (Self::Int(integer), Self::Float(float)) = (self, reference) else {
            return Ok(vec![]);
        };
        let order = self.order(reference);
        let sample = |i: usize| {
            let inputs = samples.get(i)?;
            Ok([inputs.clone(), in_order(inputs, order.as_deref())])
        };
        let values = value_sqnrs(float, integer, samples.len().min(32), sample, workers)?;
        Ok(layer_losses(float, &values))
    }

    /// The places of the reference's inputs among ours, if all have names of ours.
    fn order(&self, reference: &Self) -> Option<Vec<usize>> {
        let ours = self.inputs();
        let place = |(name, _): (&str, _)| ours.iter().position(|(own, _)| *own == name);
        reference.inputs().into_iter().map(place).collect()
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

fn in_order(inputs: Vec<Tensor<f32>>, order: Option<&[usize]>) -> Vec<Tensor<f32>> {
    match order {
        Some(order) => order.iter().map(|&place| inputs[place].clone()).collect(),
        None => inputs,
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
    /// The first output for each sample, in order.
    ///
    /// # Errors
    /// The sample that cannot be read, or does not fit.
    pub fn outputs(&self, samples: &dyn Samples, workers: Workers) -> Result<Vec<Tensor<f32>>> {
        workers.map(samples.len(), |i| match self.run(&samples.get(i)?)?.into_iter().next() {
            Some(output) => Ok(output),
            None => bail!(Invalid, "the network has no output"),
        })
    }

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
    use std::collections::HashSet;

    use prost::Message;

    use super::*;
    use crate::calibrate::{Calibrator, Observer};
    use crate::onnx::proto::ModelProto;
    use crate::ops::Op;
    use crate::ops::add::Add;
    use crate::ops::linear::Linear;
    use crate::ops::resize::{Coordinates, Mode, Nearest, Resize};
    use crate::quantize::{export_checked, quantize, quantize_corrected};
    use crate::testing::random_graphs::random_network;
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

    fn quantized(float: &Graph, scheme: usize) -> Graph {
        let (_, ranges) = run_float(float, &random_inputs(float, &mut Rng(7), 1.0));
        quantize(float, &ranges, SCHEMES[scheme]).unwrap()
    }

    #[test]
    fn files_that_cannot_be_read_again_or_mean_something_else_are_not_written() {
        let mut net = Net::new(4);
        let x = net.input(&[1, 2, 3, 4]);
        let y = net.node(Op::Add(Add { subtract: false }), &[x, x]);
        let input_is_output = net.finish(&[y, x]);
        let error = refused(export_checked(&quantized(&input_is_output, 0)));
        assert!(error.contains("could not be read again: ") && error.contains("\"v0\""), "{error}");
        // Of this rank ONNX has only a product with the weight as it is.
        let mut net = Net::new(5);
        let (x, weight) = (net.input(&[1, 3, 6]), net.random(&[6, 6]));
        let y = net.node(Op::Linear(Linear { transposed: true }), &[x, weight]);
        let transposed = net.finish(&[y]);
        let tensor = SCHEMES.iter().position(|scheme| !scheme.per_channel).unwrap();
        let error = refused(export_checked(&quantized(&transposed, tensor)));
        let expected = format!("as another network, from node \"{}\" on", transposed.nodes[0].name);
        assert!(error.contains(&expected), "{error}");
    }

    #[test]
    fn outputs_and_sizes_of_all_kinds_are_read_again() {
        let sum = || Op::Add(Add { subtract: false });
        let mut net = Net::new(6);
        let x = net.input(&[1, 1, 1, 2]);
        let (a, constant) = (net.node(sum(), &[x, x]), net.random(&[1, 1, 1, 2]));
        let (b, c) = (net.node(sum(), &[a, constant]), net.node(sum(), &[a, a]));
        let large = Resize {
            mode: Mode::Nearest(Nearest::Floor),
            coordinates: Coordinates::Asymmetric,
            shape: vec![1, 1, 1500, 2],
            scales: vec![1.0, 1.0, 1500.0, 1.0],
        };
        let large = net.node(Op::Resize(large), &[c]);
        let float = net.finish(&[a, b, large, c]);
        for scheme in 0..SCHEMES.len() {
            let (bytes, integer) = export_checked(&quantized(&float, scheme)).unwrap();
            let Model::Int(read) = Model::new(onnx::import(&bytes, None).unwrap()).unwrap() else {
                panic!("a float network")
            };
            assert_eq!(*read, integer);
        }
    }

    /// Rewrites replace constants: those that nobody reads any more are left out.
    #[test]
    fn every_initializer_of_a_file_is_read() {
        for seed in 0..30 {
            let mut float = random_network(seed, 7);
            crate::passes::prepare(&mut float);
            let inputs = random_inputs(&float, &mut Rng(seed), 1.0);
            let mut observer = Observer::new(&float);
            let executor = FloatExecutor::new(&float);
            executor.run(&inputs, |v, x| observer.see(v, x)).unwrap();
            let scheme = SCHEMES[seed as usize % SCHEMES.len()];
            let corrected = quantize_corrected(&float, &observer, Calibrator::MinMax, scheme);
            for graph in [&float, &corrected.unwrap()] {
                let model = ModelProto::decode(&*onnx::export(graph)).unwrap().graph.unwrap();
                let read: HashSet<&String> = model.node.iter().flat_map(|n| &n.input).collect();
                for tensor in &model.initializer {
                    assert!(read.contains(&tensor.name), "seed {seed}: \"{}\"", tensor.name);
                }
                let constants: HashSet<&String> =
                    model.initializer.iter().map(|tensor| &tensor.name).collect();
                let made = model.node.iter().filter(|n| n.op_type == "DequantizeLinear");
                let made = made.filter(|n| constants.contains(&n.input[0]));
                let outputs: HashSet<&String> = model.output.iter().map(|o| &o.name).collect();
                for name in made.flat_map(|n| &n.output) {
                    assert!(
                        read.contains(name) || outputs.contains(name),
                        "seed {seed}: \"{name}\""
                    );
                }
            }
        }
    }
}
