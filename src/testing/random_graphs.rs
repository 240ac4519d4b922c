//! Random networks of all operators: each integer result is within the derived bound of the real one,
//! and the exported file is the identical integer network.

use super::{Net, Rng, SCHEMES, random_inputs, run_float};
use crate::calibrate::{Calibrator, Observer};
use crate::exec::float::FloatExecutor;
use crate::exec::int::IntExecutor;
use crate::graph::{Graph, ValueId};
use crate::lower::lower;
use crate::ops::add::Add;
use crate::ops::average_pool::AveragePool;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::linear::Linear;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::pad::{Mode as Padding, Pad};
use crate::ops::prelu::PRelu;
use crate::ops::reshape::Reshape;
use crate::ops::resize::{Coordinates, Mode, Nearest, Resize};
use crate::ops::slice::{Part, Slice};
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Op, Window, image};
use crate::quant::{Scheme, Width};
use crate::quantize::{export_checked, quantize, quantize_corrected};
use crate::tensor::Tensor;
use crate::{onnx, passes};

/// A network of `nodes` random nodes on one image, with a linear layer behind it.
pub fn random_network(seed: u64, nodes: usize) -> Graph {
    let mut net = Net::new(seed);
    let channels = net.rng.pick(&[1, 2, 3, 8]);
    let mut images = vec![net.input(&[1, channels, 6, 7])];
    for _ in 0..nodes {
        let x = net.rng.pick(&images);
        let (op, inputs) = random_node(&mut net, x, &images);
        let y = net.node(op, &inputs);
        images.push(y);
    }
    let last = images[images.len() - 1];
    let len: usize = net.graph.values[last].shape.iter().product();
    let flat = net.node(Op::Reshape(Reshape { shape: vec![1, len] }), &[last]);
    let (weight, bias) = (net.random(&[len, 5]), net.random(&[5]));
    let y = net.node(Op::Linear(Linear { transposed: false }), &[flat, weight, bias]);
    let y = net.node(Op::Softmax(Softmax { axis: 1 }), &[y]);
    net.finish(&[y])
}

/// A random operator that fits `x`, and its arguments, some of `images` among them.
pub fn random_node(net: &mut Net, x: ValueId, images: &[ValueId]) -> (Op, Vec<ValueId>) {
    let shape = net.graph.values[x].shape.clone();
    let (c, h, w) = (shape[1], shape[2], shape[3]);
    let stride = net.rng.pick(&[[1, 1], [2, 1], [2, 2]]);
    let window = Window { stride, pads: [1, 0, 1, 1], ..Window::new([2, 2]) };
    let alike = images.iter().copied().filter(|&v| net.graph.values[v].shape == shape);
    let alike: Vec<ValueId> = alike.collect();
    let other = net.rng.pick(&alike);
    let (grown, linear) = (vec![1, c, 2 * h, w + 1], net.rng.pick(&[true, false]));
    let choice =
        if h * w > 150 || c > 24 { 0 } else { net.rng.pick(&(0..17).collect::<Vec<usize>>()) };
    match choice {
        0 => (
            Op::Slice(Slice {
                parts: vec![
                    part(1, 1, 1),
                    part(c, 1, c.min(4)),
                    part(h, -1, h.min(5)),
                    part(w, 1, w.min(5)),
                ],
            }),
            vec![x],
        ),
        1 | 2 => {
            let (group, out) = if choice == 1 { (1, net.rng.pick(&[1, 4, 9])) } else { (c, 2 * c) };
            let (weight, bias) = (net.random(&[out, c / group, 2, 2]), net.random(&[out]));
            (Op::Conv(Conv { window, group }), vec![x, weight, bias])
        }
        3 => {
            let weight = net.random(&[c, 3, 2, 2]);
            let window = Window { pads: [0; 4], ..window };
            (
                Op::ConvTranspose(ConvTranspose { window, output_padding: [0; 2], group: 1 }),
                vec![x, weight],
            )
        }
        4 => (Op::MaxPool(MaxPool(window)), vec![x]),
        5 => (Op::AveragePool(AveragePool { window, count_include_pad: linear }), vec![x]),
        6 => (Op::Add(Add { subtract: linear }), vec![x, other]),
        7 => (Op::Mul(Mul), vec![x, other]),
        8 => (Op::Concat(Concat { axis: 1 }), vec![x, other]),
        9 => {
            let functions =
                [Unary::Sigmoid, Unary::HardSwish, Unary::Tanh, Unary::Gelu { tanh: false }];
            (Op::Unary(net.rng.pick(&functions)), vec![x])
        }
        10 => (Op::Clip(net.rng.pick(&[Clip::RELU, Clip { lo: -0.5, hi: 0.25 }])), vec![x]),
        11 => {
            let mode = net.rng.pick(&[Padding::Constant(0.0), Padding::Edge, Padding::Reflect]);
            let (before, after) = (vec![0, 0, 1, 0], vec![0, 0, 0, 1]);
            // A mirror needs something to mirror.
            let mode = if h.min(w) == 1 { Padding::Edge } else { mode };
            (Op::Pad(Pad { before, after, mode }), vec![x])
        }
        12 => {
            let mode = if linear { Mode::Linear } else { Mode::Nearest(Nearest::RoundPreferFloor) };
            let scales = grown.iter().zip(&shape).map(|(&o, &i)| o as f32 / i as f32).collect();
            let coordinates = net.rng.pick(&[Coordinates::HalfPixel, Coordinates::Asymmetric]);
            (Op::Resize(Resize { mode, coordinates, shape: grown, scales }), vec![x])
        }
        13 => {
            let slope = net.random(&[c, 1, 1]);
            (Op::PRelu(PRelu), vec![x, slope])
        }
        14 => (Op::Transpose(Transpose { perm: vec![0, 1, 3, 2] }), vec![x]),
        15 => (Op::Mean(Mean { reduced: vec![false, linear, !linear, false] }), vec![x]),
        _ => {
            let constant = net.random(&[c, 1, 1]);
            (Op::Add(Add { subtract: false }), vec![x, constant])
        }
    }
}

/// Means, pools of one pixel, moves and convolutions, on images and sequences that soon have but one.
fn shrinking_network(seed: u64) -> Graph {
    let mut net = Net::new(seed);
    let mut shape = net.rng.pick(&[&[1, 3, 4, 5][..], &[1, 3, 10], &[1, 1, 1, 4]]).to_vec();
    let mut x = net.input(&shape);
    for _ in 0..net.rng.pick(&[2, 4, 6]) {
        let [_, c, h, w] = image(&shape).unwrap();
        let all = net.rng.pick(&[false, true]);
        let stride = [if h > 1 { net.rng.pick(&[1, 2]) } else { 1 }, net.rng.pick(&[1, 2])];
        let window = Window { stride, ..Window::new(if all { [h, w] } else { [1, 1] }) };
        let count_include_pad = net.rng.pick(&[false, true]);
        let pool = Op::AveragePool(AveragePool { window, count_include_pad });
        let (op, inputs) = match net.rng.pick(&[0, 1, 2, 3, 4, 5, 6, 7]) {
            0 | 1 => (pool, vec![x]),
            2 => (Op::MaxPool(MaxPool(window)), vec![x]),
            3 => {
                let first = net.rng.pick(&[1, 2]);
                (
                    Op::Mean(Mean { reduced: (0..shape.len()).map(|i| i >= first).collect() }),
                    vec![x],
                )
            }
            4 => {
                let weight: Vec<usize> =
                    [2, c].into_iter().chain(shape[2..].iter().map(|_| 1)).collect();
                let (window, constants) =
                    (Window::new([1, 1]), [net.random(&weight), net.random(&[2])]);
                (Op::Conv(Conv { window, group: 1 }), vec![x, constants[0], constants[1]])
            }
            5 => {
                let perm =
                    (0..shape.len()).map(|i| if i == 0 { 0 } else { shape.len() - i }).collect();
                (Op::Transpose(Transpose { perm }), vec![x])
            }
            6 => {
                let other = if shape.len() == 3 { vec![1, c, 1, w] } else { vec![1, c * h, w] };
                (Op::Reshape(Reshape { shape: other }), vec![x])
            }
            _ => (Op::Clip(Clip::RELU), vec![x]),
        };
        x = net.node(op, &inputs);
        shape = net.graph.values[x].shape.clone();
    }
    net.finish(&[x])
}

#[test]
fn what_has_one_pixel_is_read_again_as_it_was_written() {
    for seed in 0..300 {
        let mut float = shrinking_network(seed);
        passes::prepare(&mut float);
        if float.nodes.is_empty() {
            continue;
        }
        let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(seed), 1.0));
        let quantized = quantize(&float, &ranges, Scheme::default()).unwrap();
        export_checked(&quantized).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

fn part(size: usize, step: i64, len: usize) -> Part {
    Part { start: if step < 0 { size - 1 } else { size - len }, step, len }
}

/// How far, in steps of the result, a node may be from its real value on the same arguments.
fn bound(op: &Op, width: Width) -> f32 {
    match op {
        // Weights of the interpolation are multiples of 2^-11: 1/8 of a step on top of the rounding
        // for 8-bit codes.
        Op::Resize(_) => 0.5 + ((1 << width.bits()) - 1) as f32 / 2048.0,
        _ => 0.5,
    }
}

#[test]
fn integers_are_within_their_bound_and_survive_the_file() {
    for seed in 0..150 {
        let mut float = random_network(seed, 9);
        passes::prepare(&mut float);
        let executor = FloatExecutor::new(&float);
        let mut observer = Observer::new(&float);
        let samples: Vec<Vec<Tensor<f32>>> =
            (0..3).map(|i| random_inputs(&float, &mut Rng(seed ^ i << 32), 1.0)).collect();
        for x in &samples {
            executor.run(x, |v, x| observer.see(v, x)).unwrap();
        }
        for scheme in SCHEMES {
            let quantized = match seed % 2 {
                0 => quantize(&float, &observer.ranges(Calibrator::MinMax), scheme).unwrap(),
                _ => {
                    quantize_corrected(&float, &observer, Calibrator::Mse(scheme), scheme).unwrap()
                }
            };
            let int = lower(&quantized).unwrap_or_else(|e| panic!("seed {seed}, {scheme:?}: {e}"));
            let mut again = onnx::import(&onnx::export(&quantized), None).unwrap();
            passes::prepare(&mut again);
            let again = lower(&again).unwrap();
            for (again, node) in again.nodes.iter().zip(&int.nodes) {
                assert_eq!(again, node, "seed {seed}, {scheme:?}");
            }
            assert_eq!(again, int, "seed {seed}, {scheme:?}");
            samples
                .iter()
                .for_each(|x| check_nodes(&quantized, x, &format!("seed {seed}, {scheme:?}")));
        }
    }
}

/// Each node of the integer network against the real operator on the real values of its arguments.
fn check_nodes(quantized: &Graph, inputs: &[Tensor<f32>], what: &str) {
    let int = lower(quantized).unwrap();
    let mut codes: Vec<Option<Tensor<i32>>> = vec![None; quantized.values.len()];
    let named = |name: &str| quantized.values.iter().position(|v| v.name == name);
    IntExecutor::new(&int)
        .run_codes(inputs, |v, seen| {
            if let Some(value) = named(&int.values[v].name) {
                codes[value] = Some(int.values[v].to_onnx_order(seen)?);
            }
            Ok(())
        })
        .unwrap();
    for node in &quantized.nodes {
        let real = |&v: &ValueId| match (&codes[v], &quantized.values[v].quant) {
            (Some(codes), Some(quant)) => codes.map(|&code| quant.dequantize(code, 0)),
            _ => quantized.values[v].to_real().unwrap().into_owned(),
        };
        let arguments: Vec<Tensor<f32>> = node.inputs.iter().map(real).collect();
        let expected = node.op.eval_f32(&arguments.iter().collect::<Vec<_>>());
        let quant = quantized.values[node.output].quant.as_ref().unwrap();
        let (lowest, highest) = quant.code_range();
        let (lo, hi) = (quant.dequantize(lowest, 0), quant.dequantize(highest, 0));
        let magnitude =
            arguments.iter().flat_map(|t| t.data()).fold(0.0, |m: f32, x| m.max(x.abs()));
        // Float sums of some hundred products are good to this much.
        let slack = 1e-4 * (1.0 + magnitude * magnitude);
        for (code, expected) in
            codes[node.output].as_ref().unwrap().data().iter().zip(expected.data())
        {
            let expected = node.clamp.apply(*expected).clamp(lo, hi);
            let got = quant.dequantize(*code, 0);
            let allowed = bound(&node.op, quant.width) * quant.scale[0] * 1.001 + slack;
            assert!(
                (got - expected).abs() <= allowed,
                "{what}, {node:?}: {got}, expected {expected}"
            );
        }
    }
}
