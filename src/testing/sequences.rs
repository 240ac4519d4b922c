//! A network of sequences `[n, c, w]`, and the same of images of one line: in integers they are one.

use super::{Net, PATTERNS, Rng, SCHEMES, check_c, pattern_codes, random_inputs, run_float};
use crate::codes::Codes;
use crate::exec::int::IntExecutor;
use crate::graph::{Graph, ValueId};
use crate::lower::lower;
use crate::ops::add::Add;
use crate::ops::average_pool::AveragePool;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::linear::Linear;
use crate::ops::max_pool::MaxPool;
use crate::ops::pad::{Mode as Padding, Pad};
use crate::ops::prelu::PRelu;
use crate::ops::reshape::Reshape;
use crate::ops::resize::{Coordinates, Mode, Nearest, Resize};
use crate::ops::slice::Slice;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{IntOp, Op, Window};
use crate::quantize::quantize;
use crate::{onnx, passes};

/// The shape of a sequence as it is in a network.
type Form = fn([usize; 3]) -> Vec<usize>;

const SEQUENCE: Form = |shape| shape.to_vec();
const IMAGE: Form = |[n, c, w]| vec![n, c, 1, w];

/// Every operator that takes sequences.
struct Builder {
    net: Net,
    form: Form,
    last: ValueId,
}

impl Builder {
    fn node(&mut self, op: Op, others: &[ValueId]) -> ValueId {
        self.last = self.net.node(op, &[&[self.last], others].concat());
        self.last
    }

    fn random(&mut self, shape: [usize; 3]) -> ValueId {
        self.net.random(&(self.form)(shape))
    }

    fn width(&self) -> usize {
        self.net.graph.values[self.last].shape.last().copied().unwrap()
    }

    fn conv(&mut self, window: Window, group: usize, weight: [usize; 3]) -> ValueId {
        let (weight, bias) = (self.random(weight), self.net.random(&[weight[0]]));
        self.node(Op::Conv(Conv { window, group }), &[weight, bias])
    }

    fn resize(&mut self, mode: Mode) {
        let w = self.width();
        let (shape, scales) = ((self.form)([1, 4, 2 * w]), (self.form)([1, 1, 2]));
        let scales = scales.iter().map(|&s| s as f32).collect();
        let coordinates = Coordinates::HalfPixel;
        self.node(Op::Resize(Resize { mode, coordinates, shape, scales }), &[]);
        let shape = self.net.graph.values[self.last].shape.clone();
        self.node(Op::Slice(Slice::of(&shape, shape.len() - 1, 3, w)), &[]);
    }
}

fn network(seed: u64, form: Form) -> Graph {
    let mut net = Net::new(seed);
    let last = net.input(&form([1, 3, 24]));
    let mut it = Builder { net, form, last };
    let pads = |w| form([0, 0, w]).iter().map(|&p| p as i64 - (p == 1) as i64).collect();
    let (before, after) = (pads(4), vec![0; form([0; 3]).len()]);
    it.node(Op::Pad(Pad { before, after, mode: Padding::Constant(0.0) }), &[]);
    it.conv(Window { dilation: [1, 2], ..Window::new([1, 3]) }, 1, [8, 3, 3]);
    let slope = it.random([1, 8, 1]);
    let residual = it.node(Op::PRelu(PRelu), &[slope]);
    it.conv(Window { pads: [0, 1, 0, 1], ..Window::new([1, 3]) }, 8, [8, 1, 3]);
    let whole = it.node(Op::Add(Add { subtract: false }), &[residual]);
    let window = Window { stride: [1, 2], ..Window::new([1, 2]) };
    let largest = it.node(Op::MaxPool(MaxPool(window)), &[]);
    it.last = whole;
    it.node(Op::AveragePool(AveragePool { window, count_include_pad: false }), &[]);
    it.node(Op::Concat(Concat { axis: 1 }), &[largest]);
    let window = Window { stride: [1, 2], ..Window::new([1, 4]) };
    let weight = it.random([16, 4, 4]);
    let transposed = ConvTranspose { window, output_padding: [0; 2], group: 1 };
    it.node(Op::ConvTranspose(transposed), &[weight]);
    it.node(Op::Unary(Unary::Tanh), &[]);
    it.resize(Mode::Linear);
    it.resize(Mode::Nearest(Nearest::Floor));
    let window = Window::new([1, it.width()]);
    it.node(Op::AveragePool(AveragePool { window, count_include_pad: false }), &[]);
    it.node(Op::Reshape(Reshape { shape: vec![1, 4] }), &[]);
    let weight = it.net.random(&[4, 5]);
    let y = it.node(Op::Linear(Linear { transposed: false }), &[weight]);
    it.net.finish(&[y])
}

/// The network, quantized in the `n`th way; the ranges are those of one line in either form.
fn quantized(n: usize, form: Form) -> Graph {
    let mut float = network(n as u64, form);
    passes::prepare(&mut float);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(n as u64), 1.0));
    quantize(&float, &ranges, SCHEMES[n]).unwrap()
}

/// Codes that lie the same way: nothing is moved that keeps its place, and nothing else differs.
#[test]
fn a_sequence_is_an_image_of_one_line() {
    for n in 0..SCHEMES.len() {
        let [sequence, image] = [SEQUENCE, IMAGE].map(|form| lower(&quantized(n, form)).unwrap());
        let [a, b] = [&sequence, &image].map(|int| {
            let x = random_inputs(&network(n as u64, SEQUENCE), &mut Rng(9), 1.0).remove(0);
            let x = x.reshape(int.values[int.inputs[0]].shape.clone()).unwrap();
            let mut layers = Vec::new();
            let see = |_, codes: &Codes| {
                layers.push(codes.clone());
                Ok(())
            };
            IntExecutor::new(int).run_codes(&[x], see).unwrap();
            layers
        });
        // The image's padding, at the very beginning, is not laid out for those that read it.
        assert_eq!(a[2..], b[b.len() + 2 - a.len()..], "{n}");
        assert!(sequence.nodes.iter().all(|node| match &node.op {
            IntOp::Transpose(op) => op.is_copy(),
            _ => true,
        }));
    }
}

#[test]
fn sequences_compute_the_same_in_c() {
    let nets = [0, 3, 4].map(|n| {
        let graph = quantized(n, SEQUENCE);
        let codes = PATTERNS.map(|p| pattern_codes(&graph, &mut Rng(n as u64), p)).to_vec();
        (graph, codes)
    });
    check_c(&nets);
}

#[test]
fn a_file_of_sequences_is_read_as_it_was_written() {
    for n in 0..SCHEMES.len() {
        let graph = quantized(n, SEQUENCE);
        let mut again = onnx::import(&onnx::export(&graph), None).unwrap();
        passes::prepare(&mut again);
        assert_eq!(lower(&again).unwrap(), lower(&graph).unwrap(), "{n}");
        let shape = |graph: &Graph, v: ValueId| graph.values[v].shape.clone();
        assert_eq!(shape(&again, again.inputs[0]), [1, 3, 24]);
    }
}

/// A model that keeps its channels last transposes before and after; in memory nothing moves. The same
/// transposition of a matrix is one.
#[test]
fn a_transposition_that_renames_the_axes_of_a_sequence_is_a_copy() {
    let moved = |window: Option<Window>| {
        let mut net = Net::new(1);
        let x = net.input(&[1, 24, 3]);
        let transpose = || Op::Transpose(Transpose { perm: vec![0, 2, 1] });
        let mut y = net.node(transpose(), &[x]);
        if let Some(window) = window {
            let weight = net.random(&[8, 3, 3]);
            y = net.node(Op::Conv(Conv { window, group: 1 }), &[y, weight]);
            y = net.node(Op::Unary(Unary::Tanh), &[y]);
        }
        let y = net.node(transpose(), &[y]);
        let float = net.finish(&[y]);
        let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(2), 1.0));
        let int = lower(&quantize(&float, &ranges, SCHEMES[3]).unwrap()).unwrap();
        let transposes = int.nodes.into_iter().filter_map(|node| match node.op {
            IntOp::Transpose(op) => Some(!op.is_copy()),
            _ => None,
        });
        transposes.collect::<Vec<_>>()
    };
    assert_eq!(moved(Some(Window::new([1, 3]))), [false, false]);
    assert_eq!(moved(None), [true, true]);
}
