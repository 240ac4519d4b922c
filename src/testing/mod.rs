//! The checks that every operator must pass. An operator brings its definition in plain loops and a
//! table of [`Case`]s; [`check`] compares with it the real and the integer computation.
//!
//! The oracle of the integers shares no code with [`crate::arith`]: a factor is the exact value of an
//! `f32` in units of `2^-62` as an `i128`, a result is one fraction, and that is rounded once.

mod broadcast;
mod emitted;
mod net;
pub mod random_files;
pub mod random_graphs;
mod sequences;
mod simulated;
mod skip;
mod third_target;

/// What lies above the modules whose tests need it: they take it from here.
pub use crate::{calibrate, exec, graph, lower, model, passes, quantize};
pub use broadcast::{broadcast_at, broadcast_shape};
pub use emitted::{check_c, started};
pub use net::{Net, PATTERNS, Pattern, Rng, pattern_codes, random_inputs, run_float};
pub use simulated::{check_sv, simulated};
pub use skip::{programs, skip};

use std::fmt::Debug;
use std::ops::{Add, Mul};

use crate::error::Result;
use crate::exec::int::IntExecutor;
use crate::graph::{Constant, Graph, Node, ValueId};
use crate::lower::lower;
use crate::ops::add::Add as AddOp;
use crate::ops::clip::Clip;
use crate::ops::max_pool::MaxPool;
use crate::ops::resize::{Mode, Resize};
use crate::ops::{Attribute, Input, OnnxNode, Op, Role, Window, image};
use crate::quant::{Preset, Range, Scheme, Width};
use crate::quantize::{Plan, quantize};
use crate::tensor::Tensor;

/// What a definition computes with: `f64`, and `i128` for the exact value on codes.
pub trait Number: Copy + PartialOrd + Add<Output = Self> + Mul<Output = Self> + From<i32> {}
impl Number for f64 {}
impl Number for i128 {}

/// Numerator and denominator of every element of a result.
pub type Fractions<T> = Tensor<(T, T)>;

/// Every preset and granularity with 8 bits, and wider codes.
pub const SCHEMES: [Scheme; 8] = [
    Scheme::new(Preset::Shift).per_tensor(),
    Scheme::new(Preset::Shift),
    Scheme::new(Preset::Scale).per_tensor(),
    Scheme::new(Preset::Scale),
    Scheme::new(Preset::Scale).with_widths(Width::W16, Width::W8),
    Scheme::new(Preset::Scale).per_tensor().with_widths(Width::W16, Width::W16),
    Scheme::new(Preset::Shift).with_widths(Width::W8, Width::W16),
    Scheme::new(Preset::Scale).with_widths(Width::W8, Width::W4),
];

/// Relative error allowed to sums of `f32`, in units of the sum of the magnitudes.
const FLOAT_ERROR: f64 = 1.0 / (1u32 << 20) as f64;

/// The tensor with element `f(position)` at each position.
pub fn tabulate<T>(shape: &[usize], mut f: impl FnMut(&[usize]) -> T) -> Tensor<T> {
    let position = |mut i: usize| {
        let mut position = vec![0; shape.len()];
        for (p, size) in position.iter_mut().zip(shape).rev() {
            (*p, i) = (i % size, i / size);
        }
        position
    };
    let n = shape.iter().product();
    Tensor::new(shape, (0..n).map(|i| f(&position(i))).collect()).unwrap()
}

/// The element at `position`.
pub fn at<T: Copy>(x: &Tensor<T>, position: &[usize]) -> T {
    assert_eq!(position.len(), x.shape().len());
    x.data()[position.iter().zip(x.shape()).fold(0, |i, (&p, &size)| i * size + p)]
}

/// A definition for images, also of sequences: they are images of one line.
pub fn by_image<T: Copy>(
    inputs: &[Tensor<T>],
    define: impl Fn(&[Tensor<T>]) -> Fractions<T>,
) -> Fractions<T> {
    let lifted = |x: &Tensor<T>| match image(x.shape()) {
        Some(shape) => x.clone().reshape(shape).unwrap(),
        None => x.clone(),
    };
    let y = define(&inputs.iter().map(lifted).collect::<Vec<_>>());
    match (inputs[0].shape().len(), y.shape()) {
        (3, &[n, c, 1, w]) => y.reshape([n, c, w]).unwrap(),
        _ => y,
    }
}

/// For each output position along `axis`, its taps: inside an input of `size` (`Some`) or in the
/// padding (`None`). Taps behind the padding, which `ceil_mode` allows, are left out.
pub fn taps(window: &Window, axis: usize, size: usize) -> Vec<Vec<Option<usize>>> {
    let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
    let (dilation, before) = (window.dilation[axis], window.pads[axis]);
    let padded = before + size + window.pads[axis + 2];
    let end = |start: usize| start + (kernel - 1) * dilation + 1;
    let begins = |start: usize| match window.ceil_mode {
        true => start == 0 || end(start - stride) < padded && start < before + size,
        false => end(start) <= padded,
    };
    let taps = |start| (0..kernel).map(move |k| start + k * dilation).filter(|&p| p < padded);
    let inside = |p: usize| p.checked_sub(before).filter(|&i| i < size);
    let starts = (0..).map(|o| o * stride).take_while(|&start| begins(start));
    starts.map(|start| taps(start).map(inside).collect()).collect()
}

/// The message of what must be an error.
pub fn refused<T: Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

/// An ONNX node of operator set 13 whose arguments are activations of these shapes.
pub fn onnx_node(op_type: &str, shapes: &[&[usize]], attributes: &[(&str, Attribute)]) -> OnnxNode {
    let mut node = OnnxNode::new(op_type);
    node.opset = 13;
    node.inputs = shapes.iter().map(|s| Some(Input::Activation(s.to_vec()))).collect();
    attributes.iter().fold(node, |node, (name, value)| node.with(name, value.clone()))
}

/// The attribute "pads", "axis", …
pub fn ints(list: &[i64]) -> Attribute {
    Attribute::Ints(list.to_vec())
}

/// Each node must be refused with a message that holds the text beside it.
pub fn check_refusals(refusals: impl IntoIterator<Item = (OnnxNode, &'static str)>) {
    for (mut node, expected) in refusals {
        let shown = node.clone();
        let message = refused(Op::import(&mut node).unwrap());
        assert!(message.contains(expected), "{message:?} lacks {expected:?} for {shown:?}");
    }
}

/// One operator with the shapes of its arguments.
#[derive(Clone, Debug)]
pub struct Case {
    pub op: Op,
    pub shapes: Vec<Vec<usize>>,
    /// The fused activation.
    pub clamp: Clip,
    /// Arguments that are constants, beside weights and biases.
    pub constants: Vec<usize>,
    /// Arguments that another node wants with the channels last.
    pub channels_last: Vec<usize>,
}

/// A case without any extras.
pub fn case(op: Op, shapes: &[&[usize]]) -> Case {
    let shapes = shapes.iter().map(|s| s.to_vec()).collect();
    Case { op, shapes, clamp: Clip::NONE, constants: vec![], channels_last: vec![] }
}

impl Case {
    pub fn clamp(self, lo: f32, hi: f32) -> Self {
        Self { clamp: Clip { lo, hi }, ..self }
    }

    pub fn constant(mut self, index: usize) -> Self {
        self.constants.push(index);
        self
    }

    pub fn channels_last(mut self, index: usize) -> Self {
        self.channels_last.push(index);
        self
    }

    /// The case as the first node of a graph.
    pub fn graph(&self, seed: u64) -> Graph {
        let mut net = Net::new(seed);
        let inputs: Vec<ValueId> = (0..self.shapes.len())
            .map(|i| match self.op.role(i) == Role::Activation && !self.constants.contains(&i) {
                true => net.input(&self.shapes[i]),
                false => {
                    let magnitude = net.rng.pick(&[0.01, 1.0, 100.0]);
                    let tensor = net.rng.reals(&self.shapes[i], magnitude);
                    net.constant(tensor)
                }
            })
            .collect();
        let output = net.node(self.op.clone(), &inputs);
        net.graph.nodes[0].clamp = self.clamp;
        for &i in &self.channels_last {
            net.node(Op::MaxPool(MaxPool(Window::new([1, 1]))), &[inputs[i]]);
        }
        net.finish(&[output])
    }
}

/// Real and integer semantics of `cases` against a definition, which is given for both.
pub fn check(
    cases: &[Case],
    real: fn(&Op, &[Tensor<f64>]) -> Fractions<f64>,
    exact: fn(&Op, &[Tensor<i128>]) -> Fractions<i128>,
) {
    check_real(cases, real);
    check_exact(cases, real, exact);
}

/// Integer semantics: equal to the definition, and within half a step of the real result.
pub fn check_exact(
    cases: &[Case],
    real: fn(&Op, &[Tensor<f64>]) -> Fractions<f64>,
    exact: fn(&Op, &[Tensor<i128>]) -> Fractions<i128>,
) {
    check_exact_from(&[Width::W8, Width::W16], cases, real, exact);
}

/// As [`check_exact`], where the first argument has one of these widths.
pub fn check_exact_from(
    widths: &[Width],
    cases: &[Case],
    real: fn(&Op, &[Tensor<f64>]) -> Fractions<f64>,
    exact: fn(&Op, &[Tensor<i128>]) -> Fractions<i128>,
) {
    let mut emitted = Vec::new();
    for (seed, case) in cases.iter().enumerate() {
        let float = case.graph(seed as u64);
        let mut rng = Rng(seed as u64);
        let magnitude = rng.pick(&[1e-3, 1.0, 1e3]);
        let inputs = random_inputs(&float, &mut rng, magnitude);
        let (_, observed) =
            run_float(&Graph { nodes: unclamped(&float), ..float.clone() }, &inputs);
        for (n, quantized) in quantizations(&float, &observed).enumerate() {
            let first = &quantized.values[quantized.nodes[0].inputs[0]];
            if first.quant.as_ref().is_none_or(|quant| !widths.contains(&quant.width)) {
                continue;
            }
            let mut runs = Vec::new();
            for pattern in PATTERNS {
                let codes = pattern_codes(&quantized, &mut rng, pattern);
                let context = format!("{case:?}, seed {seed}, quantization {n}, {pattern:?} codes");
                check_codes(&quantized, &codes, real, exact, &context);
                runs.push(codes);
            }
            // Of each case a few quantizations, other ones than of the case before.
            if n % 53 == 17 * seed % 53 {
                emitted.push((quantized, runs));
            }
        }
    }
    check_c(&emitted);
    check_sv(&emitted);
}

fn unclamped(graph: &Graph) -> Vec<Node> {
    graph.nodes.iter().map(|n| Node { clamp: Clip::NONE, ..n.clone() }).collect()
}

/// Zero points in the middle and at both ends, for every scheme; results that clip, that drown in
/// one step, and that leave most codes unused.
pub fn quantizations(float: &Graph, observed: &[Option<Range>]) -> impl Iterator<Item = Graph> {
    const N: usize = SCHEMES.len();
    const INPUTS: [(f32, f32); 3] = [(-1.0, 0.8), (0.0, 1.0), (-1.0, 0.0)];
    const OUTPUTS: [(f32, f32); 5] =
        [(-0.5, 0.6), (0.0, 0.7), (-0.7, 0.0), (-1e-3, 1e-3), (-200.0, 100.0)];
    let choices = (0..SCHEMES.len() * INPUTS.len() * OUTPUTS.len())
        .map(|i| (i, SCHEMES[i % N], i / N % INPUTS.len(), OUTPUTS[i / N / INPUTS.len()]));
    choices.map(|(i, scheme, first, output)| {
        let mut ranges = observed.to_vec();
        let mut narrow = |v: ValueId, (lo, hi): (f32, f32)| {
            ranges[v] = observed[v].map(|r| Range { lo: lo * r.max_abs(), hi: hi * r.max_abs() });
        };
        for (i, &v) in float.inputs.iter().enumerate() {
            narrow(v, INPUTS[(first + i) % INPUTS.len()]);
        }
        narrow(float.nodes[0].output, output);
        // Of each three one with other widths beside those of the scheme.
        let plan = match i % 3 {
            1 => mixed_plan(float, scheme, &mut Rng(i as u64)),
            _ => scheme.into(),
        };
        quantize(float, &ranges, plan).unwrap()
    })
}

/// Inputs, and results of nodes, of 8 and of 16 bits side by side.
pub fn mixed_plan(graph: &Graph, default: Scheme, rng: &mut Rng) -> Plan {
    let mut any = || {
        let x = rng.pick(&[Width::W8, Width::W16]);
        let weights = rng.pick(Width::OF_WEIGHTS);
        default.with_widths(x, weights)
    };
    Plan {
        default,
        inputs: graph.inputs.iter().map(|&v| (v, any())).collect(),
        nodes: (0..graph.nodes.len()).map(|i| (i, any())).collect(),
        ..Plan::default()
    }
}

/// The real inputs of a quantized graph that `codes` stand for.
fn real_inputs(graph: &Graph, codes: &[Tensor<i32>]) -> Vec<Tensor<f32>> {
    let quants = graph.inputs.iter().map(|&v| graph.values[v].quant.as_ref().unwrap());
    quants.zip(codes).map(|(quant, codes)| codes.map(|&code| quant.dequantize(code, 0))).collect()
}

/// The codes that the first node of a quantized graph computes from `codes`.
pub fn run_int(graph: &Graph, codes: &[Tensor<i32>]) -> Tensor<i32> {
    let int = lower(graph).unwrap();
    IntExecutor::new(&int).run_codes(&real_inputs(graph, codes), |_, _| Ok(())).unwrap().remove(0)
}

/// The exact value of `factor` in units of `2^-62`: an `f64` holds it, scaled by a power of two.
fn fixed(factor: f32) -> i128 {
    let units = factor as f64 * 2f64.powi(62);
    assert_eq!(units as i128 as f64, units, "{factor:e} is below 2^-39");
    units as i128
}

/// `round_half_even(numerator / denominator)`.
pub fn rounded(numerator: i128, denominator: i128) -> i128 {
    let (floor, rest) = (numerator.div_euclid(denominator), numerator.rem_euclid(denominator));
    let up = 2 * rest > denominator || 2 * rest == denominator && floor % 2 != 0;
    floor + up as i128
}

/// Arguments for the definition, such that its result is in units of `y_scale · 2^-62`: the factor of
/// each sum is multiplied into weight and bias, into the second of two factors, or into each argument.
fn exact_arguments(graph: &Graph, codes: &[Tensor<i32>]) -> Vec<Tensor<i128>> {
    let node = &graph.nodes[0];
    let quant = |v: ValueId| graph.values[v].quant.as_ref().unwrap();
    let weight = (0..node.inputs.len()).find_map(|i| match node.op.role(i) {
        Role::Weight { axis } => Some((quant(node.inputs[i]), axis)),
        _ => None,
    });
    let y_scale = quant(node.output).scale[0];
    let product = matches!(node.op, Op::Mul(_) | Op::MatMul(_));
    let argument = |(index, &v): (usize, &ValueId)| {
        let codes = match &graph.values[v].constant {
            Some(Constant::Codes(codes)) => &codes.widened(),
            _ => &codes[graph.inputs.iter().position(|&input| input == v).unwrap()],
        };
        let x_scale = quant(node.inputs[0]).scale[0];
        tabulate(codes.shape(), |position| {
            let factor = match (node.op.role(index), weight) {
                (Role::Activation, None) if product && index == 0 => 1,
                (Role::Activation, None) if product => {
                    fixed((x_scale * quant(v).scale[0]) / y_scale)
                }
                (Role::Activation, None) => fixed(quant(v).scale[0] / y_scale),
                (Role::Activation, Some(_)) => 1,
                (role, Some((w, axis))) => {
                    let channel = position[if role == Role::Bias { 0 } else { axis }];
                    fixed((x_scale * w.scale[channel % w.scale.len()]) / y_scale)
                }
                _ => unreachable!("a bias without a weight"),
            };
            (at(codes, position) - quant(v).zero_point) as i128 * factor
        })
    };
    node.inputs.iter().enumerate().map(argument).collect()
}

fn check_codes(
    graph: &Graph,
    codes: &[Tensor<i32>],
    real: fn(&Op, &[Tensor<f64>]) -> Fractions<f64>,
    exact: fn(&Op, &[Tensor<i128>]) -> Fractions<i128>,
    context: &str,
) {
    let node = &graph.nodes[0];
    let quant = graph.values[node.output].quant.as_ref().unwrap();
    let (scale, zero_point) = (quant.scale[0], quant.zero_point as i128);
    let half = 1i128 << (quant.width.bits() - 1);
    let limit = |real: f32| {
        let code = (real / scale).round_ties_even() as i128;
        code.saturating_add(zero_point).clamp(-half, half - 1)
    };
    let (lo, hi) = (limit(node.clamp.lo), limit(node.clamp.hi));
    let expected = exact(&node.op, &exact_arguments(graph, codes))
        .map(|&(n, d)| (rounded(n, d << 62) + zero_point).clamp(lo, hi) as i32);
    let y = run_int(graph, codes);
    let widths = node.inputs.iter().chain([&node.output]);
    let widest = widths.filter_map(|&v| Some(graph.values[v].quant.as_ref()?.width)).max();
    if widest == Some(Width::W16) && matches!(node.op, Op::Concat(_) | Op::Clip(_)) {
        // The quotient of two scales is taken exactly, and not in `f32`.
        let distance = y.data().iter().zip(expected.data()).map(|(y, e)| (y - e).abs());
        assert!(distance.max() <= Some(1), "{context}");
    } else {
        assert_eq!(y, expected, "{context}");
    }

    let inputs = real_inputs(graph, codes);
    let (float, _) = run_float(graph, &inputs);
    let sum = match &node.op {
        Op::Add(_) => &Op::Add(AddOp { subtract: false }),
        op => op,
    };
    let magnitudes = real(sum, &real_arguments(graph, &inputs, f64::abs));
    let (scale, zero_point) = (scale as f64, zero_point as f64);
    let x_scale = graph.values[node.inputs[0]].quant.as_ref().unwrap().scale[0] as f64;
    let steps = 0.5 + weight_error(graph) * x_scale / scale;
    for ((&code, &x), (n, d)) in y.data().iter().zip(float[0].data()).zip(magnitudes.data()) {
        let (lowest, highest) = (-half as f64 - zero_point, (half - 1) as f64 - zero_point);
        let nearest = (x as f64 / scale).clamp(lowest, highest);
        let loss = (code as f64 - zero_point - nearest).abs() * scale;
        let bound = scale * steps + FLOAT_ERROR * (n / d + x.abs() as f64);
        assert!(loss <= bound, "code {code} for {x}: {loss} > {bound}, {context}");
    }
}

/// What rounding the weights of an interpolation adds, in steps: docs/semantics.md, resize.
fn weight_error(graph: &Graph) -> f64 {
    let node = &graph.nodes[0];
    let width = graph.values[node.inputs[0]].quant.as_ref().unwrap().width;
    let unit = if width == Width::W8 { 2048.0 } else { 262_144.0 };
    match node.op {
        Op::Resize(Resize { mode: Mode::Linear, .. }) => ((1 << width.bits()) - 1) as f64 / unit,
        _ => 0.0,
    }
}

/// All arguments of the first node, through `f`.
fn real_arguments(graph: &Graph, inputs: &[Tensor<f32>], f: fn(f64) -> f64) -> Vec<Tensor<f64>> {
    let arguments = graph.nodes[0].inputs.iter();
    arguments
        .map(|&v| match graph.values[v].to_real() {
            Some(constant) => constant.map(|&x| f(x as f64)),
            None => {
                inputs[graph.inputs.iter().position(|&i| i == v).unwrap()].map(|&x| f(x as f64))
            }
        })
        .collect()
}

/// Shape rule, real semantics, and the way to ONNX and back.
pub fn check_real(cases: &[Case], define: fn(&Op, &[Tensor<f64>]) -> Fractions<f64>) {
    for (seed, case) in cases.iter().enumerate() {
        let context = format!("{case:?}, seed {seed}");
        let graph = case.graph(seed as u64);
        let inputs = random_inputs(&graph, &mut Rng(!seed as u64), 3.0);
        let (y, _) = run_float(&graph, &inputs);
        let expected = define(&case.op, &real_arguments(&graph, &inputs, |x| x));
        let magnitudes = define(&case.op, &real_arguments(&graph, &inputs, f64::abs));
        assert_eq!(y[0].shape(), expected.shape(), "{context}");
        for ((&y, (n, d)), (magnitude, count)) in
            y[0].data().iter().zip(expected.data()).zip(magnitudes.data())
        {
            let expected = (n / d).max(case.clamp.lo as f64).min(case.clamp.hi as f64);
            let error = (y as f64 - expected).abs();
            let bound = FLOAT_ERROR * (magnitude / count).max(expected.abs());
            assert!(error <= bound, "{y} for {expected}, {context}");
        }
        check_round_trip(&graph, &context);
    }
}

/// What is exported is imported as the same operator, with nothing left over.
pub fn check_round_trip(graph: &Graph, context: &str) {
    let node = &graph.nodes[0];
    let shapes = graph.input_shapes(node);
    let mut onnx = node.op.export(&shapes, 13);
    onnx.opset = onnx.opset.max(13);
    let constants = std::mem::take(&mut onnx.inputs);
    onnx.inputs.extend(node.inputs.iter().map(|&v| {
        Some(match graph.real_constant(v) {
            Some(constant) => Input::Real(constant.clone()),
            None => Input::Activation(graph.values[v].shape.clone()),
        })
    }));
    onnx.inputs.extend(constants);
    assert_eq!(Op::import(&mut onnx).unwrap().unwrap(), node.op, "{context}");
    onnx.attributes.remove("keepdims"); // read by the importer, which adds a reshape
    let left_over = onnx.inputs.iter().skip(shapes.len()).flatten().count();
    assert!(onnx.attributes.is_empty() && left_over == 0, "{onnx:?} is left over, {context}");
}
