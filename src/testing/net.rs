//! Random numbers and codes, and small networks that are built node by node.

use super::tabulate;
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, Node, Parts, Value, ValueId};
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::quant::{Given, Integer, QuantParams, Range};
use crate::tensor::Tensor;

/// SplitMix64: the same numbers everywhere for the same seed.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// One of the elements of `list`.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.next() as usize % list.len()]
    }

    /// Uniform in `-magnitude..magnitude`.
    pub fn reals(&mut self, shape: &[usize], magnitude: f32) -> Tensor<f32> {
        tabulate(shape, |_| ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * magnitude)
    }
}

/// A graph that is built node by node.
#[derive(Debug)]
pub struct Net {
    pub graph: Graph,
    pub rng: Rng,
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self { graph: Graph::default(), rng: Rng(seed) }
    }

    fn value(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("v{}", self.graph.values.len());
        self.graph.add_value(Value { name, shape: shape.to_vec(), ..Value::default() })
    }

    pub fn input(&mut self, shape: &[usize]) -> ValueId {
        let v = self.value(shape);
        self.graph.inputs.push(v);
        v
    }

    /// An input that is made of integers.
    pub fn integers(&mut self, shape: &[usize], of: Integer) -> ValueId {
        let (v, given) = (self.input(shape), Given::any(of));
        let value = &mut self.graph.values[v];
        (value.given, value.quant) = (Some(given), Some(given.params()));
        v
    }

    pub fn constant(&mut self, tensor: Tensor<f32>) -> ValueId {
        let name = format!("c{}", self.graph.values.len());
        self.graph.add_value(Value::real(name, tensor))
    }

    /// A constant of random numbers in −1..1.
    pub fn random(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.rng.reals(shape, 1.0);
        self.constant(tensor)
    }

    pub fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&v| &*self.graph.values[v].shape).collect();
        let shape = op.infer_shape(&shapes).unwrap();
        let output = self.value(&shape);
        let name = format!("n{}", self.graph.nodes.len());
        let inputs = inputs.to_vec();
        self.graph.nodes.push(Node {
            name,
            parts: Parts::default(),
            op,
            clamp: Clip::NONE,
            inputs,
            output,
        });
        output
    }

    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph.check().unwrap();
        self.graph
    }
}

/// Real numbers for the inputs of `graph`.
pub fn random_inputs(graph: &Graph, rng: &mut Rng, magnitude: f32) -> Vec<Tensor<f32>> {
    let mut draw = |v: &Value| match v.given {
        None => rng.reals(&v.shape, magnitude),
        Some(given) => {
            let count = (given.highest - given.lowest() + 1) as u64;
            tabulate(&v.shape, |_| (rng.next() % count) as f32 + given.lowest() as f32)
        }
    };
    graph.inputs.iter().map(|&v| draw(&graph.values[v])).collect()
}

/// How codes are chosen: any, the lowest, the highest, or either of these at random.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    Any,
    Lowest,
    Highest,
    Ends,
}

/// All patterns.
pub const PATTERNS: [Pattern; 4] = [Pattern::Any, Pattern::Lowest, Pattern::Highest, Pattern::Ends];

/// Codes for the inputs of a quantized graph.
pub fn pattern_codes(graph: &Graph, rng: &mut Rng, pattern: Pattern) -> Vec<Tensor<i32>> {
    let codes = |&v: &ValueId| {
        let value = &graph.values[v];
        let (lowest, highest) = value.quant.as_ref().map_or((-128, 127), QuantParams::code_range);
        let list: Vec<i32> = match pattern {
            Pattern::Any => (lowest..=highest).collect(),
            Pattern::Lowest => vec![lowest],
            Pattern::Highest => vec![highest],
            Pattern::Ends => vec![lowest, highest],
        };
        tabulate(&value.shape, |_| rng.pick(&list))
    };
    graph.inputs.iter().map(codes).collect()
}

/// The outputs of `graph`, and the range of every activation.
pub fn run_float(graph: &Graph, inputs: &[Tensor<f32>]) -> (Vec<Tensor<f32>>, Vec<Option<Range>>) {
    let mut ranges = vec![None; graph.values.len()];
    let outputs = FloatExecutor::new(graph).run(inputs, |v, x| {
        assert_eq!(x.shape(), graph.values[v].shape, "shape of \"{}\"", graph.values[v].name);
        let end = |f: fn(f32, f32) -> f32| x.data().iter().copied().reduce(f).unwrap_or(0.0);
        ranges[v] = Some(Range { lo: end(f32::min), hi: end(f32::max) });
        Ok(())
    });
    (outputs.unwrap(), ranges)
}
