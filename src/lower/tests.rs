use super::*;
use crate::ops::Window;
use crate::ops::add::Add;
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::max_pool::MaxPool;
use crate::ops::reshape::Reshape;
use crate::ops::transpose::Transpose;
use crate::quant::{Granularity, Width};
use crate::tensor::Tensor;
use crate::testing::exec::int::IntExecutor;
use crate::testing::quantize::quantize;
use crate::testing::{Net, Rng, SCHEMES, random_inputs, refused, run_float};

/// `[n, c, h, w]` to `[n, h, w, c]`, and back.
const LAST: [usize; 4] = [0, 2, 3, 1];
const FIRST: [usize; 4] = [0, 3, 1, 2];

fn conv() -> Op {
    Op::Conv(Conv { window: Window::new([2, 2]), group: 1 })
}

fn transpose(perm: [usize; 4]) -> Op {
    Op::Transpose(Transpose { perm: perm.to_vec() })
}

/// A network on one input of shape `x`, quantized with the ranges that random inputs give.
fn quantized(
    x: &[usize],
    build: impl Fn(&mut Net, usize) -> Vec<usize>,
) -> (Graph, Vec<Tensor<f32>>) {
    let mut net = Net::new(5);
    let x = net.input(x);
    let outputs = build(&mut net, x);
    let float = net.finish(&outputs);
    let inputs = random_inputs(&float, &mut Rng(6), 1.0);
    let (_, ranges) = run_float(&float, &inputs);
    (quantize(&float, &ranges, SCHEMES[3]).unwrap(), inputs)
}

fn names(graph: &IntGraph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.name.as_str()).collect()
}

fn is_copy(node: &IntNode) -> bool {
    matches!(&node.op, IntOp::Transpose(op) if op.strides == [1])
}

/// The codes lie with the channels last; what is flattened is in ONNX's order all the same, and is
/// brought into it once for all that want it so.
#[test]
fn flattening_follows_the_order_of_onnx() {
    let (graph, inputs) = quantized(&[2, 3, 4, 5], |net, x| {
        let weight = net.random(&[4, 3, 2, 2]);
        let y = net.node(conv(), &[x, weight]);
        let flat = net.node(Op::Reshape(Reshape { shape: vec![2, 48] }), &[y]);
        let rows = net.node(Op::Reshape(Reshape { shape: vec![8, 12] }), &[y]);
        let weight = net.random(&[48, 7]);
        vec![y, flat, rows, net.node(Op::Linear(Linear { transposed: false }), &[flat, weight])]
    });
    let int = lower(&graph).unwrap();
    assert_eq!(names(&int), ["n0", "v2.nchw", "n1", "n2", "n3"]);
    assert_eq!(int.values[int.inputs[0]].order, Order::ChannelsLast);
    let codes = IntExecutor::new(&int).run_codes(&inputs, |_, _| Ok(())).unwrap();
    assert_eq!(codes[0].shape(), [2, 4, 3, 4]);
    assert_eq!(codes[1].shape(), [2, 48]);
    assert_eq!(codes[0].data(), codes[1].data());
    assert_eq!(codes[0].data(), codes[2].data());

    let (real, _) = run_float(&graph, &inputs);
    let result = IntExecutor::new(&int).run(&inputs).unwrap();
    for (real, result) in real.iter().zip(&result) {
        let largest = real.data().iter().fold(0f32, |max, x| max.max(x.abs()));
        for (a, b) in real.data().iter().zip(result.data()) {
            assert!((a - b).abs() < 0.04 * largest, "{b} for {a}");
        }
    }
}

/// A model that keeps its channels last transposes before and after; in memory nothing moves.
#[test]
fn a_model_with_the_channels_last_moves_no_data() {
    let (graph, inputs) = quantized(&[2, 4, 5, 3], |net, x| {
        let x = net.node(transpose(FIRST), &[x]);
        let weight = net.random(&[6, 3, 2, 2]);
        let y = net.node(conv(), &[x, weight]);
        let sum = net.node(Op::Add(Add { subtract: false }), &[y, y]);
        vec![net.node(transpose(LAST), &[sum])]
    });
    let int = lower(&graph).unwrap();
    assert_eq!(names(&int), ["n0", "n1", "n2", "n3"]);
    assert!(is_copy(&int.nodes[0]) && is_copy(&int.nodes[3]));
    let result = IntExecutor::new(&int).run(&inputs).unwrap();
    let (real, ranges) = run_float(&graph, &inputs);
    assert_eq!(result[0].shape(), [2, 3, 4, 6]);
    let largest = ranges[graph.outputs[0]].unwrap().max_abs();
    for (a, b) in real[0].data().iter().zip(result[0].data()) {
        assert!((a - b).abs() < 0.04 * largest, "{b} for {a}");
    }
}

/// A line of an image becomes an image of one line and back, with the channels last or first: in memory nothing moves.
#[test]
fn a_sequence_that_becomes_an_image_moves_no_data() {
    for (last, line) in [(false, 2), (true, 2), (false, 3), (true, 3)] {
        let swap = || Op::Transpose(Transpose { perm: vec![0, 2, 1] });
        let image =
            |c: usize, w: usize| if line == 2 { vec![1, c, 1, w] } else { vec![1, c, w, 1] };
        let kernel = if line == 2 { [1, 3] } else { [3, 1] };
        let x = if last { [1, 9, 4] } else { [1, 4, 9] };
        let (graph, inputs) = quantized(&x, |net, x| {
            let x = if last { net.node(swap(), &[x]) } else { x };
            let x = net.node(Op::Reshape(Reshape { shape: image(4, 9) }), &[x]);
            let weight = net.random(&[5, 4, kernel[0], kernel[1]]);
            let conv = Op::Conv(Conv { window: Window::new(kernel), group: 1 });
            let y = net.node(conv, &[x, weight]);
            let y = net.node(Op::Reshape(Reshape { shape: vec![1, 5, 7] }), &[y]);
            vec![if last { net.node(swap(), &[y]) } else { y }]
        });
        let int = lower(&graph).unwrap();
        let moves: Vec<_> = int.nodes.iter().filter(|n| !matches!(n.op, IntOp::Conv(_))).collect();
        assert_eq!(moves.len(), if last { 4 } else { 2 });
        let is_copy = |n: &IntNode| matches!(&n.op, IntOp::Transpose(op) | IntOp::Reshape(op) if op.is_copy());
        assert!(moves.into_iter().all(is_copy), "{:?}", names(&int));
        let (real, result) =
            (run_float(&graph, &inputs).0, IntExecutor::new(&int).run(&inputs).unwrap());
        assert_eq!(real[0].shape(), result[0].shape());
        let largest = real[0].data().iter().fold(0f32, |max, x| max.max(x.abs()));
        for (a, b) in real[0].data().iter().zip(result[0].data()) {
            assert!((a - b).abs() < 0.04 * largest, "{b} for {a}");
        }
    }
}

#[test]
fn an_argument_in_the_other_layout_is_moved_once() {
    let (graph, _) = quantized(&[1, 3, 4, 4], |net, x| {
        let plain = net.node(transpose([0, 1, 3, 2]), &[x]);
        let weight = net.random(&[3, 3, 2, 2]);
        vec![net.node(conv(), &[plain, weight]), net.node(conv(), &[plain, weight])]
    });
    assert_eq!(names(&lower(&graph).unwrap()), ["n0", "v1.nhwc", "n1", "n2"]);
}

#[test]
fn what_is_not_quantized_is_named() {
    let (graph, _) = quantized(&[1, 3, 4, 4], |net, x| {
        let (weight, added) = (net.random(&[2, 3, 2, 2]), net.random(&[2, 1, 1]));
        let y = net.node(conv(), &[x, weight]);
        vec![net.node(Op::Add(Add { subtract: false }), &[y, added])]
    });
    let (x, weight, added, y) = (0, 1, 2, 3);
    type Break = fn(&mut Value);
    let real: Break = |v| {
        v.constant = Some(Constant::Real(
            Tensor::new(v.shape.clone(), vec![0.0; v.shape.iter().product()]).unwrap(),
        ))
    };
    for (v, broken, expected) in [
        (x, (|v| v.quant = None) as Break, "value \"v0\" is not quantized"),
        (
            x,
            |v| v.quant.as_mut().unwrap().width = Width::W32,
            "value \"v0\" needs 8 or 16 bits and one scale",
        ),
        (
            y,
            |v| {
                let granularity = Granularity::PerChannel { axis: 1 };
                v.quant = Some(QuantParams {
                    scale: vec![1.0; 2],
                    zero_point: 0,
                    width: Width::W8,
                    granularity,
                });
            },
            "in node \"n0\" (Conv): unsupported: value \"v3\" needs 8 or 16 bits and one scale",
        ),
        (
            y,
            |v| v.quant = None,
            "in node \"n0\" (Conv): unsupported: value \"v3\" is not quantized",
        ),
        (weight, real, "in node \"n0\" (Conv): unsupported: \"c1\" must be a quantized constant"),
        (weight, |v| v.constant = None, "\"c1\" must be a quantized constant"),
        (
            weight,
            |v| v.quant.as_mut().unwrap().width = Width::W32,
            "weights need 4, 8 or 16 bits, got 32",
        ),
        (added, real, "in node \"n1\" (Add): unsupported: value \"c2\" is not quantized"),
    ] {
        let mut graph = graph.clone();
        broken(&mut graph.values[v]);
        let message = refused(lower(&graph));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

/// Codes that are only moved, into a value with another scale and a clamp: moved first, exactly, then
/// each replaced by the code of the same real value.
#[test]
fn moved_codes_can_become_others() {
    let (mut graph, inputs) = quantized(&[1, 1, 4, 4], |net, x| {
        vec![net.node(Op::MaxPool(MaxPool(Window::new([2, 2]))), &[x])]
    });
    let same = IntExecutor::new(lower(&graph).unwrap()).run(&inputs).unwrap();
    let y = graph.outputs[0];
    graph.nodes[0].clamp.lo = 0.0;
    let quant = graph.values[y].quant.as_mut().unwrap();
    quant.scale[0] *= 0.75;
    let quant = quant.clone();
    let int = lower(&graph).unwrap();
    assert_eq!(names(&int), ["n0.moved", "n0"]);
    let codes = IntExecutor::new(&int).run_codes(&inputs, |_, _| Ok(())).unwrap();
    let expected = same[0].map(|&real| quant.quantize(real.max(0.0), 0));
    assert_eq!(codes[0], expected);
}
