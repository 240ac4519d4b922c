//! Every set of kernels and every number of threads against the reference of the operators, as a user
//! gets them and with all techniques and threads even for the smallest layer.

mod bound;
mod files;
mod loops;

use super::*;
use crate::arith::Multiplier;
use crate::exec::float::FloatExecutor;
use crate::exec::int::IntExecutor;
use crate::kernels::elementwise::{self, Stored};
use crate::lower::{IntNode, lower};
use crate::ops::add::Add;
use crate::ops::average_pool::AveragePool;
use crate::ops::conv::{Conv, ConvInt};
use crate::ops::linear::{Linear, LinearInt};
use crate::ops::product::{Accumulator, acc_bound, is_wide};
use crate::ops::reshape::Reshape;
use crate::ops::{IntOp, Op, Window};
use crate::passes;
use crate::quant::{QuantParams, Width};
use crate::testing::calibrate::{Calibrator, Observer};
use crate::testing::quantize::quantize;
use crate::testing::random_graphs::random_network;
use crate::testing::{Net, Rng, SCHEMES, random_inputs, refused, run_float, skip};

/// Fewer than a block, a block, and more, and the same of half a block.
const CHANNELS: [usize; 8] = [1, 3, 8, 15, 16, 17, 32, 33];

/// One engine for each of the machine's instruction sets and each number of threads.
fn engines(graph: &IntGraph, threads: &[usize]) -> Vec<Engine> {
    let mut engines = Vec::new();
    for isa in Isa::ALL {
        if !isa.is_available() {
            skip(&format!("kernels for {isa}"), "no such processor");
            continue;
        }
        let all = Without { single: true, direct: true, depthwise: true, winograd: true };
        let each = threads.iter().map(|&threads| (threads, Without::default()));
        for (threads, without) in each.chain([(threads[0], all)]) {
            for policy in [Policy::Everything, Policy::Fastest] {
                let options = Options { threads, isa, without, policy };
                engines.push(Engine::new(graph, options).unwrap());
            }
        }
    }
    engines
}

fn value(shape: &[usize], zero_point: i32, channels_last: bool) -> IntValue {
    IntValue {
        name: format!("{shape:?}"),
        shape: shape.to_vec(),
        order: if channels_last { Order::ChannelsLast } else { Order::Plain },
        quant: QuantParams::per_tensor(1.0, zero_point, Width::W8),
        constant: None,
        given: None,
    }
}

/// A graph of one node; the last value is its result.
fn graph_of(op: IntOp, values: Vec<IntValue>) -> IntGraph {
    let inputs: Vec<usize> = (0..values.len() - 1).collect();
    let output = inputs.len();
    let node =
        IntNode { name: "node".into(), origin: "node".into(), op, inputs: inputs.clone(), output };
    IntGraph {
        name: "one".into(),
        values,
        nodes: vec![node],
        inputs,
        outputs: vec![output],
        ..IntGraph::default()
    }
}

/// Codes of each pattern, as real numbers.
fn patterns(graph: &IntGraph, rng: &mut Rng) -> Vec<Vec<Tensor<f32>>> {
    let one = |v: &usize, pattern: usize, rng: &mut Rng| {
        let value = &graph.values[*v];
        let (lowest, highest) = value.quant.code_range();
        let any: Vec<i32> = (lowest..=highest).collect();
        let ends = [lowest, highest];
        let list = [&any[..], &ends[..1], &ends[1..], &ends][pattern];
        let codes = (0..value.len()).map(|_| value.quant.dequantize(rng.pick(list), 0)).collect();
        Tensor::new(value.shape.clone(), codes).unwrap()
    };
    (0..4).map(|pattern| graph.inputs.iter().map(|v| one(v, pattern, rng)).collect()).collect()
}

/// All engines against the reference, on all patterns; returns the path that was taken.
fn check(graph: &IntGraph, rng: &mut Rng, threads: &[usize], what: &str) -> &'static str {
    let engines = engines(graph, threads);
    let mut sessions: Vec<Session> =
        engines.iter().map(|engine| engine.session().unwrap()).collect();
    for inputs in patterns(graph, rng) {
        let expected = IntExecutor::new(graph).run_codes(&inputs, |_, _| Ok(())).unwrap();
        for (engine, session) in engines.iter().zip(&mut sessions) {
            let got = engine.run_codes(session, &inputs).unwrap();
            assert_eq!(got, expected, "{:?}, {what}", engine.options());
        }
    }
    for layer in engines.iter().flat_map(Engine::layers) {
        assert_eq!(layer.failed, None, "{what}");
    }
    engines[0].layers().next().unwrap().path
}

/// Random constants of sums of `depth` products; some are at the ends of what is allowed.
fn accumulator(rng: &mut Rng, out_ch: usize, depth: usize) -> Accumulator {
    accumulator_of(rng, out_ch, depth, [Width::W8; 3])
}

/// The same with codes of the argument, weights, and codes of the result of these widths.
fn accumulator_of(
    rng: &mut Rng,
    out_ch: usize,
    depth: usize,
    [of_x, of_w, of_y]: [Width; 3],
) -> Accumulator {
    let [[x_low, x_high], [w_low, w_high], [low, high]] =
        [of_x, of_w, of_y].map(|width| [width.lowest(), width.highest()]);
    let x_zero_point = rng.pick(&[x_low, x_high, 0, -3, 100]);
    let y_zero_point = rng.pick(&[low, high, 0, -3, 100]);
    let any: Vec<i32> = (w_low..=w_high).collect();
    let lists = [any, vec![w_low, w_high], vec![w_low], vec![w_high], vec![-8, 7, 1]];
    let weights = &lists[rng.pick(&[0, 1, 2, 3, 4])];
    let weight = Codes::new(of_w, (0..out_ch * depth).map(|_| rng.pick(weights)));
    // Now and then a sum that `f64` does not hold times its factor.
    let eight = [of_x, of_w, of_y] == [Width::W8; 3];
    let ends = if eight { [0; 2] } else { [i32::MAX, i32::MIN] };
    let big = &rng.pick(&[200_000_000, 0, 1_000_000_000, ends[0], ends[1]]);
    let bias: Vec<i32> =
        (0..out_ch).map(|_| rng.pick(&[0, 1, -77, 12345, -1_000_000, *big])).collect();
    let quant = QuantParams::per_tensor(1.0, x_zero_point, of_x);
    let mut bound = 0;
    for (o, &bias) in bias.iter().enumerate() {
        let weight = (o * depth..(o + 1) * depth).map(|i| weight.get(i) as i64);
        bound = bound.max(acc_bound(weight, bias, &quant));
    }
    // Sums that fill the range, ties, results that are all one code, and sums beyond 32 bits.
    let around =
        (high as f32 + 1.0) / (x_high as f32 + 1.0) / (w_high as f32 + 1.0) / (depth as f32).sqrt()
            * if eight { 4.0 } else { 1.0 };
    let scale = rng.pick(&[around, around, around, 0.25, 1.0 / 1024.0, 2e-12, 1e4, 4e6]);
    // Wide sums are not made larger.
    let scale = if is_wide(bound) { scale.min(63.0) } else { scale };
    let factor = |rng: &mut Rng| match scale == around {
        true => scale * (1.5 + rng.reals(&[1], 1.0).data()[0]),
        false => scale,
    };
    let multiplier = (0..out_ch).map(|_| Multiplier::from_f32(factor(rng)).unwrap()).collect();
    let clamp = rng.pick(&[(low, high), (low, high), (y_zero_point, high), (low + 28, 13), (5, 5)]);
    Accumulator { weight, width: of_w, bias, multiplier, x_zero_point, y_zero_point, clamp, bound }
}

fn convolution(rng: &mut Rng, n: usize, channels: [usize; 2], group: usize) -> (IntGraph, String) {
    let (window, size) = any_window(rng);
    convolution_of(rng, n, channels, group, window, size)
}

/// A window, and a size of an image that it fits.
fn any_window(rng: &mut Rng) -> (Window, [usize; 2]) {
    let kernel = rng.pick(&[[1, 1], [3, 3], [2, 3], [1, 5], [5, 5], [3, 1]]);
    let sides = |rng: &mut Rng| rng.pick(&[1, 2, 4, 7]);
    let window = Window {
        kernel,
        stride: rng.pick(&[[1, 1], [2, 2], [1, 3]]),
        dilation: rng.pick(&[[1, 1], [1, 1], [2, 1], [1, 2]]),
        pads: rng.pick(&[[0; 4], [1; 4], [0, 1, 2, 0], [3, 0, 1, 2]]),
        ceil_mode: false,
    };
    // As small as possible, or larger.
    let size = [0, 1].map(|axis| {
        let extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let padding = window.pads[axis] + window.pads[axis + 2];
        extent.saturating_sub(padding).max(1) + sides(rng) - 1
    });
    (window, size)
}

fn convolution_of(
    rng: &mut Rng,
    n: usize,
    [in_ch, out_ch]: [usize; 2],
    group: usize,
    window: Window,
    size: [usize; 2],
) -> (IntGraph, String) {
    let depth = window.kernel[0] * window.kernel[1] * in_ch / group;
    let acc = accumulator(rng, out_ch, depth);
    convolution_by(acc, [Width::W8; 2], n, in_ch, group, window, size)
}

/// By these constants, from codes of one width to codes of another.
fn convolution_by(
    acc: Accumulator,
    widths: [Width; 2],
    n: usize,
    in_ch: usize,
    group: usize,
    window: Window,
    [h, w]: [usize; 2],
) -> (IntGraph, String) {
    let ([oh, ow], out_ch) = (window.output([h, w]).unwrap(), acc.bias.len());
    let what = format!("{window:?}, {in_ch} to {out_ch} in {group} groups, {n}x{h}x{w}, {acc:?}");
    let (x_zero, y_zero) = (acc.x_zero_point, acc.y_zero_point);
    let op = ConvInt {
        acc,
        x_shape: [n, h, w, in_ch],
        y_shape: [n, oh, ow, out_ch],
        conv: Conv { window, group },
    };
    let values =
        vec![value(&[n, in_ch, h, w], x_zero, true), value(&[n, out_ch, oh, ow], y_zero, true)];
    (graph_of(IntOp::Conv(op), of_widths(values, widths)), what)
}

fn of_widths(mut values: Vec<IntValue>, widths: [Width; 2]) -> Vec<IntValue> {
    for (value, width) in values.iter_mut().zip(widths) {
        value.quant.width = width;
    }
    values
}

/// All widths of an argument, weights and a result, but for 8 bits of all.
fn widths() -> impl Iterator<Item = [Width; 3]> {
    let each = || [Width::W8, Width::W16].into_iter();
    let all = each().flat_map(move |x| each().flat_map(move |w| each().map(move |y| [x, w, y])));
    all.filter(|widths| widths.contains(&Width::W16))
}

#[test]
fn convolutions_equal_the_reference() {
    let mut rng = Rng(1);
    for in_ch in CHANNELS {
        for out_ch in CHANNELS {
            for n in [1, 1, 2] {
                let (graph, what) = convolution(&mut rng, n, [in_ch, out_ch], 1);
                let path = check(&graph, &mut rng, &[1, 3], &what);
                assert!(["product", "winograd"].contains(&path), "{path}");
            }
        }
    }
}

/// In tests, however small they are.
#[test]
fn convolutions_with_fewer_products_equal_the_reference() {
    let mut rng = Rng(12);
    for in_ch in 1..=70 {
        for _ in 0..3 {
            let out_ch = rng.pick(&CHANNELS);
            let side = |rng: &mut Rng| rng.pick(&[1, 2, 3, 4, 5, 9, 16]);
            let size = [side(&mut rng), side(&mut rng)];
            let pads =
                rng.pick(&[[1; 4], [0; 4], [2, 0, 1, 3], [0, 1, 2, 0], [3, 4, 0, 1], [5; 4]]);
            let window = Window { pads, ..Window::new([3, 3]) };
            let n = rng.pick(&[1, 1, 2, 3]);
            if window.output(size).is_ok() {
                let (mut graph, what) =
                    convolution_of(&mut rng, n, [in_ch, out_ch], 1, window, size);
                let IntOp::Conv(conv) = &mut graph.nodes[0].op else { unreachable!() };
                if rng.pick(&[0, 1]) == 1 {
                    let room = i32::MAX - 1 - (in_ch * 9 * 128 * 255) as i32;
                    conv.acc.bias = (0..out_ch).map(|_| rng.pick(&[room, -room])).collect();
                    conv.acc.bound = (i32::MAX - 1).into();
                }
                assert_eq!(check(&graph, &mut rng, &[1, 2, 3], &what), "winograd");
            }
        }
    }
}

#[test]
fn grouped_convolutions_equal_the_reference() {
    let mut rng = Rng(2);
    for (in_ch, out_ch, group) in [(4, 6, 2), (34, 66, 2), (9, 3, 3), (8, 16, 8), (48, 48, 3)] {
        for _ in 0..4 {
            let (graph, what) = convolution(&mut rng, 2, [in_ch, out_ch], group);
            assert_eq!(check(&graph, &mut rng, &[1, 2], &what), "product");
        }
    }
}

#[test]
fn depthwise_convolutions_equal_the_reference() {
    let mut rng = Rng(3);
    for channels in CHANNELS.into_iter().filter(|&c| c > 1).chain([24, 40, 2]) {
        for i in 0..24 {
            let (graph, what) = convolution(&mut rng, 1 + i % 2, [channels; 2], channels);
            assert_eq!(check(&graph, &mut rng, &[1, 2, 5], &what), "depthwise");
        }
    }
}

#[test]
fn linear_layers_equal_the_reference() {
    let mut rng = Rng(4);
    for in_ch in [1, 2, 3, 16, 17, 100, 2100] {
        for out_ch in CHANNELS.into_iter().chain([100]) {
            for rows in [1, 2, 6, 7, 13] {
                let acc = accumulator(&mut rng, out_ch, in_ch);
                let what = format!("{rows} rows, {acc:?}");
                let x = value(&[rows, in_ch], acc.x_zero_point, false);
                let y = value(&[rows, out_ch], acc.y_zero_point, false);
                let graph = graph_of(IntOp::Linear(LinearInt(acc)), vec![x, y]);
                assert_eq!(check(&graph, &mut rng, &[1, 4], &what), "product");
            }
        }
    }
}

#[test]
fn sums_of_16_bits_equal_the_reference() {
    let mut rng = Rng(14);
    for [of_x, of_w, of_y] in widths() {
        let shapes = [
            (1, 1, 1),
            (3, 17, 1),
            (33, 8, 1),
            (16, 40, 1),
            (70, 65, 1),
            (34, 66, 2),
            (9, 3, 3),
            (8, 16, 8),
            (3, 3, 3),
            (17, 17, 17),
            (40, 40, 40),
            (130, 130, 130),
        ];
        for (in_ch, out_ch, group) in shapes {
            for n in [1, 2] {
                let (window, size) = any_window(&mut rng);
                let depth = window.kernel[0] * window.kernel[1] * in_ch / group;
                let acc = accumulator_of(&mut rng, out_ch, depth, [of_x, of_w, of_y]);
                let (graph, what) =
                    convolution_by(acc, [of_x, of_y], n, in_ch, group, window, size);
                let path = check(&graph, &mut rng, &[1, 3], &what);
                let depthwise = group > 1 && group == in_ch && in_ch == out_ch;
                assert_eq!(path, if depthwise { "depthwise16" } else { "product16" });
            }
        }
        for (rows, in_ch, out_ch) in [(1, 100, 100), (1, 1, 3), (7, 33, 70), (2, 3000, 5)] {
            let acc = accumulator_of(&mut rng, out_ch, in_ch, [of_x, of_w, of_y]);
            let what = format!("{rows} rows, {acc:?}");
            let x = value(&[rows, in_ch], acc.x_zero_point, false);
            let y = value(&[rows, out_ch], acc.y_zero_point, false);
            let values = of_widths(vec![x, y], [of_x, of_y]);
            let graph = graph_of(IntOp::Linear(LinearInt(acc)), values);
            assert_eq!(check(&graph, &mut rng, &[1, 4], &what), "product16");
        }
    }
}

/// Parts of sums beyond 32 bits are as long as may be, and all codes are at the end of their range.
#[test]
fn parts_of_sums_end_where_32_bits_do() {
    let depth = 140_000;
    for (of_x, of_w, code) in [
        (Width::W16, Width::W8, -1),
        (Width::W16, Width::W8, -128),
        (Width::W16, Width::W8, 127),
        (Width::W16, Width::W16, -1),
        (Width::W16, Width::W16, -0x8000),
        (Width::W16, Width::W16, 0x7FFF),
        (Width::W8, Width::W16, -0x8000),
    ] {
        let quant = QuantParams::per_tensor(1.0, 0, of_x);
        let acc = Accumulator {
            weight: Codes::new(of_w, vec![code; depth]),
            width: of_w,
            bias: vec![77],
            multiplier: vec![Multiplier::from_f32(3e-9).unwrap()],
            x_zero_point: 0,
            y_zero_point: 5,
            clamp: (-0x8000, 0x7FFF),
            bound: acc_bound(vec![code as i64; depth].into_iter(), 77, &quant),
        };
        assert!(is_wide(acc.bound));
        let values = vec![value(&[1, depth], 0, false), value(&[1, 1], 5, false)];
        let values = of_widths(values, [of_x, Width::W16]);
        let graph = graph_of(IntOp::Linear(LinearInt(acc)), values);
        let what = format!("codes of {of_x} bits times {code}");
        assert_eq!(check(&graph, &mut Rng(15), &[1, 2], &what), "product16");
    }
}

/// Every layer of networks of all operators, of 8 bits and of 16.
#[test]
fn random_networks_equal_the_reference() {
    let mut paths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut float = random_network(seed, 9);
        passes::prepare(&mut float);
        let executor = FloatExecutor::new(&float);
        let mut observer = Observer::new(&float);
        let samples: Vec<Vec<Tensor<f32>>> =
            (0..2).map(|i| random_inputs(&float, &mut Rng(seed ^ i << 32), 1.0)).collect();
        for x in &samples {
            executor.run(x, |v, x| observer.see(v, x)).unwrap();
        }
        let scheme = SCHEMES[seed as usize % SCHEMES.len()];
        let quantized = quantize(&float, &observer.ranges(Calibrator::MinMax), scheme).unwrap();
        let graph = lower(&quantized).unwrap();
        for engine in engines(&graph, &[1, 2]) {
            let what = format!("seed {seed}, {scheme:?}, {:?}", engine.options());
            paths.extend(engine.layers().map(|layer| layer.path));
            let mut session = engine.session().unwrap();
            // The second time the arena holds what the first run has left.
            for x in [&samples[0], &samples[1], &samples[0]] {
                let mut layers = vec![Codes::zeros(Width::W8, 0); graph.values.len()];
                let expected = IntExecutor::new(&graph).run_codes(x, |v, codes| {
                    layers[v] = codes.clone();
                    Ok(())
                });
                let mut seen = 0;
                let got = engine.run_observed(&mut session, x, |v, codes| {
                    let name = &graph.values[v].name;
                    assert_eq!(codes(), layers[v], "{what}, \"{name}\"");
                    seen += 1;
                });
                assert_eq!(seen, graph.inputs.len() + graph.nodes.len());
                assert_eq!(got.unwrap(), expected.unwrap(), "{what}");
                let real = IntExecutor::new(&graph).run(x).unwrap();
                assert_eq!(engine.run(&mut session, x).unwrap(), real, "{what}");
            }
        }
    }
    for path in ["add", "copy", "max_pool", "moves", "mul", "product", "table"] {
        assert!(paths.contains(path), "{path} not among {paths:?}");
    }
}

#[test]
fn real_inputs_become_the_same_codes() {
    let mut rng = Rng(6);
    for scale in [1.0, 0.1, 0.023_529_412, 1.0 / (1u32 << 30) as f32, (1u32 << 30) as f32] {
        for (width, zero_point) in [
            (Width::W8, -128),
            (Width::W8, -1),
            (Width::W8, 0),
            (Width::W8, 127),
            (Width::W16, -0x8000),
            (Width::W16, 0),
            (Width::W16, 0x7FFF),
        ] {
            let quant = QuantParams::per_tensor(scale, zero_point, width);
            let ties = (-600..600).map(|i| i as f32 * 0.5 * scale);
            let random = rng.reals(&[1000], 1.2 * width.highest() as f32 * scale).into_data();
            let ends = [f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0];
            let x: Vec<f32> = ties.chain(random).chain(ends).collect();
            let expected = Codes::new(width, x.iter().map(|&x| quant.quantize(x, 0)));
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let mut bytes = vec![0; x.len() * width.bytes()];
                match width {
                    Width::W8 => {
                        elementwise::quantize(isa, &x, scale, zero_point, 0, &mut bytes[..])
                    }
                    _ => {
                        let y = <[u8; 2]>::all_mut(&mut bytes);
                        elementwise::quantize(isa, &x, scale, zero_point, 0, y);
                    }
                }
                assert_eq!(
                    to_codes(width, &bytes, 0),
                    expected,
                    "{isa}, scale {scale:e}, zero point {zero_point} of {width} bits"
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    fn shared<T: Send + Sync>(_: &T) {}
    let (graph, _) = convolution(&mut Rng(7), 1, [3, 3], 1);
    let engine = Engine::new(&graph, Options::default()).unwrap();
    shared(&engine);
    let wrong = engine.run(&mut engine.session().unwrap(), &[]);
    assert_eq!(refused(wrong), "the network has 1 inputs, got 0");
    let none = Engine::new(&graph, Options { threads: 0, ..Options::default() });
    assert!(none.unwrap_err().to_string().contains("needs a thread"));
    let mut unknown = graph.clone();
    unknown.nodes.clear();
    let error = Engine::new(&unknown, Options::default()).unwrap_err().to_string();
    assert!(error.contains("is not computed"), "{error}");
}

/// Blocks as of MobileNetV2: expanded, depthwise, projected and added; behind them the global mean.
#[test]
fn a_network_of_fast_layers_alone_equals_the_reference() {
    let mut net = Net::new(8);
    let x = net.input(&[2, 3, 11, 10]);
    let point = Conv { window: Window::new([1, 1]), group: 1 };
    let window = Window { pads: [1; 4], ..Window::new([3, 3]) };
    let first = Conv { window: Window { stride: [2, 2], ..window }, group: 1 };
    let parts = [[8, 3, 3, 3], [40, 8, 1, 1], [40, 1, 3, 3], [8, 40, 1, 1]].map(|s| net.random(&s));
    let x = net.node(Op::Conv(first), &[x, parts[0]]);
    let wide = net.node(Op::Conv(point), &[x, parts[1]]);
    let wide = net.node(Op::Conv(Conv { window, group: 40 }), &[wide, parts[2]]);
    let narrow = net.node(Op::Conv(point), &[wide, parts[3]]);
    let sum = net.node(Op::Add(Add { subtract: false }), &[x, narrow]);
    let [h, w] = [2, 3].map(|axis| net.graph.values[sum].shape[axis]);
    let pool = AveragePool { window: Window::new([h, w]), count_include_pad: false };
    let mean = net.node(Op::AveragePool(pool), &[sum]);
    let flat = net.node(Op::Reshape(Reshape { shape: vec![2, 8] }), &[mean]);
    let weight = net.random(&[8, 5]);
    let y = net.node(Op::Linear(Linear { transposed: false }), &[flat, weight]);
    let float = net.finish(&[y]);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(9), 1.0));
    for scheme in
        SCHEMES.into_iter().filter(|s| s.activation_width.max(s.weight_width) == Width::W8)
    {
        let graph = lower(&quantize(&float, &ranges, scheme).unwrap()).unwrap();
        check(&graph, &mut Rng(10), &[1, 2, 3], &format!("{scheme:?}"));
        let engine = Engine::new(&graph, Options::default()).unwrap();
        assert!(engine.layers().all(|layer| layer.path != "reference"));
        assert!(engine.layers().any(|layer| layer.path == "mean"));
    }
}

#[test]
#[should_panic(expected = "a session of another engine")]
fn a_session_belongs_to_its_engine() {
    let mut rng = Rng(11);
    let (graph, _) = convolution(&mut rng, 1, [3, 3], 1);
    let (other, _) = convolution(&mut rng, 1, [16, 40], 1);
    let engine = Engine::new(&graph, Options::default()).unwrap();
    let mut session = Engine::new(&other, Options::default()).unwrap().session().unwrap();
    let _ = engine.run(&mut session, &patterns(&graph, &mut rng)[0]);
}

/// A graph may have constants, and inputs, as outputs.
#[test]
fn what_no_node_computes_can_be_an_output() {
    let mut rng = Rng(13);
    let (mut graph, _) = convolution(&mut rng, 1, [3, 5], 1);
    let constant = IntValue {
        name: "constant".into(),
        constant: Some(Codes::I8((0..40).collect())),
        ..value(&[1, 4, 2, 5], 3, true)
    };
    graph.values.push(constant);
    graph.outputs = vec![graph.values.len() - 1, graph.inputs[0], graph.outputs[0]];
    check(&graph, &mut rng, &[1, 2], "outputs");
    graph.nodes.clear();
    graph.outputs.pop();
    for engine in engines(&graph, &[1, 2]) {
        let x = patterns(&graph, &mut rng).remove(0);
        let expected = IntExecutor::new(&graph).run_codes(&x, |_, _| Ok(())).unwrap();
        assert_eq!(engine.run_codes(&mut engine.session().unwrap(), &x).unwrap(), expected);
    }
}
