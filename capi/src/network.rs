//! Networks and sessions, without a pointer.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use naive_ptq::error::Context;
use naive_ptq::exec::engine::{self, Engine, Options};
use naive_ptq::graph::{Graph, ValueId};
use naive_ptq::lower::{IntGraph, IntValue};
use naive_ptq::quant::Given;
use naive_ptq::{Model, Tensor, onnx, text};

use crate::failure::{Failure, Status};

/// A network, ready to run.
#[derive(Debug)]
pub struct Network {
    engine: Engine,
    graph: Arc<IntGraph>,
    /// Names of all values.
    names: Vec<CString>,
    metadata: BTreeMap<CString, CString>,
}

/// Where a network meets its caller.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug)]
pub enum Edge {
    Input,
    Output,
}

/// A text for C, which ends at the first 0.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

impl Network {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with the file, or that it is not quantized.
    pub fn load(path: &Path, threads: usize) -> Result<Self, Failure> {
        let graph = onnx::load(path)?;
        let metadata = Self::metadata_of(&graph);
        Self::new(Model::new(graph).in_file(path)?, metadata, threads)
    }

    /// Reads what a file would have.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8], threads: usize) -> Result<Self, Failure> {
        let graph = onnx::import(bytes, None)?;
        let metadata = Self::metadata_of(&graph);
        Self::new(Model::new(graph)?, metadata, threads)
    }

    fn metadata_of(graph: &Graph) -> BTreeMap<CString, CString> {
        graph.metadata.iter().map(|(key, text)| (c_text(key), c_text(text))).collect()
    }

    fn new(
        model: Model,
        metadata: BTreeMap<CString, CString>,
        threads: usize,
    ) -> Result<Self, Failure> {
        let Model::Int(graph) = model else {
            return Err(Failure::new(Status::Unsupported, "the network is not quantized"));
        };
        let threads = match threads {
            0 => available_parallelism().map_or(1, |all| all.get()),
            some => some,
        };
        let engine = Engine::new(&graph, Options::default().with_threads(threads))?;
        let names = graph.values.iter().map(|value| c_text(&value.name)).collect();
        Ok(Self { engine, graph, names, metadata })
    }

    /// Of the file, under this key.
    pub fn metadata(&self, key: &CStr) -> Option<&CStr> {
        self.metadata.get(key).map(CString::as_c_str)
    }

    /// How many inputs or outputs there are.
    pub fn count(&self, edge: Edge) -> usize {
        self.all(edge).len()
    }

    fn all(&self, edge: Edge) -> &[ValueId] {
        match edge {
            Edge::Input => &self.graph.inputs,
            Edge::Output => &self.graph.outputs,
        }
    }

    /// An input or an output, and its name.
    ///
    /// # Errors
    /// No such index.
    pub fn value(&self, edge: Edge, index: usize) -> Result<(&IntValue, &CStr), Failure> {
        match self.all(edge).get(index) {
            Some(&v) => Ok((&self.graph.values[v], &self.names[v])),
            None => {
                let (what, count) = (format!("{edge:?}").to_lowercase(), self.count(edge));
                let text = format!("there is no {what} {index}: the network has {count}, from 0");
                Err(Failure::new(Status::Argument, text))
            }
        }
    }
}

/// A size that the caller says, against ours.
fn check(value: &IntValue, what: &str, ours: usize, given: usize) -> Result<(), Failure> {
    if ours == given {
        return Ok(());
    }
    let text = format!("\"{}\" has {ours} {what}, got {given}", text::printable(&value.name));
    Err(Failure::new(Status::Shape, text))
}

/// Whether the caller gives integers without a sign.
pub fn is_unsigned(value: &IntValue) -> bool {
    value.given.is_some_and(Given::is_unsigned)
}

/// What stands for real 0 in what the caller gives or gets.
pub fn zero_point(value: &IntValue) -> i32 {
    let lowest = value.quant.width.lowest();
    value.quant.zero_point - if is_unsigned(value) { lowest } else { 0 }
}

/// The number that an input takes for a code of these bytes.
fn number(value: &IntValue, bytes: &[u8]) -> f32 {
    let code = of_bytes(bytes);
    match value.given {
        Some(given) if given.is_unsigned() => (code & !(-1 << (8 * bytes.len()))) as f32,
        Some(_) => code as f32,
        None => value.quant.dequantize(code, 0),
    }
}

/// A code of 1, 2 or 4 bytes in this machine's order.
fn of_bytes(bytes: &[u8]) -> i32 {
    match *bytes {
        [a] => i8::from_ne_bytes([a]).into(),
        [a, b] => i16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => i32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// What one run at a time needs.
#[derive(Debug)]
pub struct Session {
    network: Arc<Network>,
    inputs: Vec<Tensor<f32>>,
    is_set: Vec<bool>,
    /// Codes, after a run.
    outputs: Vec<Tensor<i32>>,
    /// Made anew after a fault in a run.
    engine: Option<engine::Session>,
}

impl Session {
    /// Memory for a network.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(network: &Arc<Network>) -> Result<Self, Failure> {
        let values = network.all(Edge::Input).iter().map(|&v| &network.graph.values[v]);
        let inputs = values.map(|v| Tensor::new(v.shape.clone(), vec![0.0; v.len()]));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            is_set: vec![false; inputs.len()],
            inputs,
            outputs: vec![],
            engine: Some(network.engine.session()?),
            network: Arc::clone(network),
        })
    }

    /// Sets an input.
    ///
    /// # Errors
    /// No such input, or one of another size.
    pub fn set(&mut self, index: usize, numbers: &[f32]) -> Result<(), Failure> {
        let (value, _) = self.network.value(Edge::Input, index)?;
        check(value, "numbers", value.len(), numbers.len())?;
        self.inputs[index].data_mut().copy_from_slice(numbers);
        self.is_set[index] = true;
        Ok(())
    }

    /// Sets an input to the numbers of codes, which are quantized to these again.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_codes(&mut self, index: usize, codes: &[u8]) -> Result<(), Failure> {
        let (value, _) = self.network.value(Edge::Input, index)?;
        let size = value.quant.width.bytes();
        check(value, "bytes", value.len() * size, codes.len())?;
        let numbers = self.inputs[index].data_mut().iter_mut();
        numbers.zip(codes.chunks(size)).for_each(|(x, code)| *x = number(value, code));
        self.is_set[index] = true;
        Ok(())
    }

    /// Computes the outputs.
    ///
    /// # Errors
    /// An input that is not set, or not finite.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.outputs.clear();
        if let Some(i) = self.is_set.iter().position(|is_set| !is_set) {
            let (value, _) = self.network.value(Edge::Input, i)?;
            let text = format!("input \"{}\" has not been set", text::printable(&value.name));
            return Err(Failure::new(Status::Argument, text));
        }
        let engine = &self.network.engine;
        let mut session = self.engine.take().map_or_else(|| engine.session(), Ok)?;
        let codes = engine.run_codes(&mut session, &self.inputs);
        self.engine = Some(session);
        self.outputs = codes?;
        Ok(())
    }

    /// An output of the last run, and the codes it has.
    fn output(&self, index: usize) -> Result<(&IntValue, &[i32]), Failure> {
        let (value, _) = self.network.value(Edge::Output, index)?;
        match self.outputs.get(index) {
            Some(codes) => Ok((value, codes.data())),
            None => Err(Failure::new(
                Status::Argument,
                "there are no outputs: the last run failed, or there was none",
            )),
        }
    }

    /// Copies an output.
    ///
    /// # Errors
    /// No such output, one of another size, or no run before.
    pub fn get(&self, index: usize, real: &mut [f32]) -> Result<(), Failure> {
        let (value, codes) = self.output(index)?;
        check(value, "numbers", codes.len(), real.len())?;
        real.iter_mut().zip(codes).for_each(|(y, &code)| *y = value.quant.dequantize(code, 0));
        Ok(())
    }

    /// Copies the codes of an output.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_codes(&self, index: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        let (value, codes) = self.output(index)?;
        let size = value.quant.width.bytes();
        check(value, "bytes", codes.len() * size, bytes.len())?;
        for (bytes, &code) in bytes.chunks_mut(size).zip(codes) {
            match size {
                1 => bytes.copy_from_slice(&(code as i8).to_ne_bytes()),
                2 => bytes.copy_from_slice(&(code as i16).to_ne_bytes()),
                _ => bytes.copy_from_slice(&code.to_ne_bytes()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use naive_ptq::quant::{QuantParams, Width};

    /// Inputs that are given as codes keep them.
    #[test]
    fn a_code_is_that_of_its_real_value() {
        let scales = [1e-45, 1.1e-38, f32::MIN_POSITIVE, 0.1, 1.0 / 3.0, 1.9999999, 3e33];
        for (scale, width) in scales.into_iter().flat_map(|s| [(s, Width::W8), (s, Width::W16)]) {
            let (lowest, highest) = (width.lowest(), width.highest());
            for zero_point in [lowest, -1, 0, 5, highest] {
                let quant = QuantParams::per_tensor(scale, zero_point, width);
                for code in lowest..=highest {
                    let again = quant.quantize(quant.dequantize(code, 0), 0);
                    assert_eq!(again, code, "{quant:?}");
                }
            }
        }
    }
}
