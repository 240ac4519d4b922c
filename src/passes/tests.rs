use super::*;
use crate::graph::{Node, Parts, Value};
use crate::ops::add::Add;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::linear::Linear;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::normalize::{Kind, Normalize};
use crate::ops::reshape::Reshape;
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Op, Window};
use crate::quant::{QuantParams, Width};
use crate::tensor::Tensor;
use crate::testing::{Net, Rng, random_inputs, run_float};

const ADD: Op = Op::Add(Add { subtract: false });
const RELU: Op = Op::Clip(Clip::RELU);
const LINEAR: Op = Op::Linear(Linear { transposed: false });

fn conv(kernel: usize, group: usize) -> Op {
    Op::Conv(Conv { window: Window::new([kernel, kernel]), group })
}

fn batch_norm(net: &mut Net, x: usize, epsilon: f32) -> usize {
    let channels = net.graph.values[x].shape[1];
    let [scale, bias, mean] = [(); 3].map(|_| net.random(&[channels]));
    let variance = net.rng.reals(&[channels], 1.0).map(|x| x.abs() + 0.1);
    let variance = net.constant(variance);
    net.node(Op::BatchNorm(BatchNorm { epsilon }), &[x, scale, bias, mean, variance])
}

/// Applies `pass`, checks that the network computes what it did, and returns the names of the
/// operators that are left.
fn names_after(pass: fn(&mut Graph), graph: &mut Graph) -> String {
    let inputs = random_inputs(graph, &mut Rng(7), 2.0);
    let (before, _) = run_float(graph, &inputs);
    pass(graph);
    graph.check().unwrap();
    let (after, _) = run_float(graph, &inputs);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.shape(), after.shape());
        let largest = before.data().iter().fold(0f32, |max, x| max.max(x.abs()));
        for (before, after) in before.data().iter().zip(after.data()) {
            assert!((before - after).abs() <= 1e-5 * largest, "{before} became {after}");
        }
    }
    let names: Vec<&str> = graph.nodes.iter().map(|n| n.op.name()).collect();
    names.join(" ")
}

/// Builds a network with one input of shape `x`, whose outputs `build` returns.
fn net(x: &[usize], build: impl Fn(&mut Net, usize) -> Vec<usize>) -> Graph {
    let mut net = Net::new(3);
    let x = net.input(x);
    let outputs = build(&mut net, x);
    net.finish(&outputs)
}

const IMAGE: &[usize] = &[2, 3, 4, 4];

fn clamps(graph: &Graph) -> Vec<Clip> {
    graph.nodes.iter().map(|n| n.clamp).collect()
}

#[test]
fn constants_are_folded() {
    let mut graph = net(&[2, 3], |net, x| {
        let (a, b) = (net.random(&[3, 1]), net.random(&[5]));
        let sum = net.node(ADD, &[a, b]);
        net.graph.nodes[0].clamp = Clip { lo: -0.5, hi: 0.5 };
        let weight = net.node(Op::Transpose(Transpose { perm: vec![0, 1] }), &[sum]);
        vec![net.node(LINEAR, &[x, weight])]
    });
    assert_eq!(names_after(fold_constants, &mut graph), "Linear");
}

#[test]
fn a_network_of_constants_needs_no_node() {
    let mut graph = net(&[1], |net, _| {
        let a = net.random(&[3]);
        vec![net.node(RELU, &[a])]
    });
    assert_eq!(names_after(prepare, &mut graph), "");
    assert_eq!((graph.values.len(), graph.inputs.len(), graph.outputs.len()), (2, 1, 1));
}

#[test]
fn codes_are_not_folded() {
    let mut graph = net(&[3], |net, _| {
        let a = net.random(&[3]);
        vec![net.node(RELU, &[a])]
    });
    let a = graph.nodes[0].inputs[0];
    let codes = crate::codes::CodeTensor::I8(Tensor::from_vec(vec![1, 2, 3]));
    graph.values[a].constant = Some(crate::graph::Constant::Codes(codes));
    graph.values[a].quant = Some(QuantParams::per_tensor(0.5, 0, Width::W8));
    assert_eq!(names_after(fold_constants, &mut graph), "Clip");
}

#[test]
fn additions_become_biases() {
    for (x, op, weight, old_bias, added, swapped) in [
        (IMAGE, conv(3, 1), &[5, 3, 3, 3][..], false, &[5, 1, 1][..], false),
        (IMAGE, conv(3, 1), &[5, 3, 3, 3], true, &[1, 5, 1, 1], true),
        (IMAGE, conv(1, 3), &[6, 1, 1, 1], true, &[], false),
        (IMAGE, conv(1, 3), &[6, 1, 1, 1], false, &[1, 1], true),
        (&[2, 3], LINEAR, &[3, 4], false, &[4], false),
        (&[2, 3], Op::Linear(Linear { transposed: true }), &[4, 3], false, &[1, 4], true),
        (&[2, 3], LINEAR, &[3, 4], true, &[1], false),
    ] {
        let mut graph = net(x, |net, x| {
            let mut inputs = vec![x, net.random(weight)];
            if old_bias {
                inputs.push(net.random(&[weight[(op == LINEAR) as usize]]));
            }
            let (y, added) = (net.node(op.clone(), &inputs), net.random(added));
            let sum = net.node(ADD, &if swapped { [added, y] } else { [y, added] });
            vec![net.node(RELU, &[sum])]
        });
        graph.nodes[1].clamp = Clip { lo: -1.0, hi: 1.0 };
        let expected = format!("{} Clip", op.name());
        assert_eq!(names_after(fuse_bias, &mut graph), expected, "{op:?} + {added:?}");
        assert_eq!(graph.nodes[0].clamp, Clip { lo: -1.0, hi: 1.0 });
    }
}

#[test]
fn other_additions_stay() {
    for added in [&[4, 1][..], &[1, 1, 4], &[2, 1, 1, 1], &[3, 4, 4], &[3, 1, 3, 1, 1]] {
        let mut graph = net(IMAGE, |net, x| {
            let (weight, added) = (net.random(&[3, 3, 1, 1]), net.random(added));
            let y = net.node(conv(1, 1), &[x, weight]);
            vec![net.node(ADD, &[y, added])]
        });
        assert_eq!(names_after(fuse_bias, &mut graph), "Conv Add", "{added:?}");
    }
    // A result that grows, one that is used twice, one that is clamped, and no constant at all.
    let with = |clamp: Clip, uses: usize, constant: bool| {
        let mut graph = net(&[1, 3, 4, 4], |net, x| {
            let weight = net.random(&[3, 3, 1, 1]);
            let y = net.node(conv(1, 1), &[x, weight]);
            let added = if constant { net.random(&[3, 1, 1]) } else { x };
            [vec![net.node(ADD, &[y, added])], vec![y; uses - 1]].concat()
        });
        graph.nodes[0].clamp = clamp;
        names_after(fuse_bias, &mut graph)
    };
    assert_eq!(with(Clip::NONE, 1, true), "Conv");
    assert_eq!(with(Clip::NONE, 2, true), "Conv Add");
    assert_eq!(with(Clip::RELU, 1, true), "Conv Add");
    assert_eq!(with(Clip::NONE, 1, false), "Conv Add");
    // Channels of a linear layer are the last axis, whatever its rank.
    let mut graph = net(&[2, 5, 3], |net, x| {
        let (weight, added) = (net.random(&[3, 4]), net.random(&[4]));
        let y = net.node(LINEAR, &[x, weight]);
        vec![net.node(ADD, &[y, added])]
    });
    assert_eq!(names_after(fuse_bias, &mut graph), "Linear");
}

#[test]
fn subtractions_are_no_additions() {
    for swapped in [false, true] {
        let mut graph = net(IMAGE, |net, x| {
            let (weight, constant) = (net.random(&[3, 3, 1, 1]), net.random(&[3, 1, 1]));
            let y = net.node(conv(1, 1), &[x, weight]);
            let arguments = if swapped { [constant, y] } else { [y, constant] };
            vec![net.node(Op::Add(Add { subtract: true }), &arguments)]
        });
        names_after(fuse_bias, &mut graph);
    }
}

#[test]
fn batch_norms_are_folded() {
    for (x, op, weight, bias) in [
        (IMAGE, conv(3, 1), &[5, 3, 3, 3][..], Some(5)),
        (IMAGE, conv(1, 1), &[17, 3, 1, 1], None),
        (IMAGE, conv(2, 3), &[6, 1, 2, 2], Some(6)),
        (&[4, 3], LINEAR, &[3, 5], Some(5)),
        (&[4, 3], Op::Linear(Linear { transposed: true }), &[5, 3], None),
    ] {
        let mut graph = net(x, |net, x| {
            let mut inputs = vec![x, net.random(weight)];
            inputs.extend(bias.map(|channels| net.random(&[channels])));
            let y = net.node(op.clone(), &inputs);
            let y = batch_norm(net, y, 1e-5);
            let y = batch_norm(net, y, 1e-3);
            vec![net.node(RELU, &[y])]
        });
        let expected = format!("{} Clip", op.name());
        assert_eq!(names_after(fold_batch_norm, &mut graph), expected, "{op:?}");
    }
}

/// Not after a ReLU, nor beside another use: there the batch norm is a convolution of its own.
#[test]
fn scales_and_offsets_behind_a_layer_are_folded() {
    for (op, x, w, shapes) in [
        (conv(1, 1), vec![2, 3, 4, 5], vec![6, 3, 1, 1], [vec![6, 1, 1], vec![], vec![1, 6, 1, 1]]),
        (LINEAR, vec![2, 3], vec![3, 6], [vec![6], vec![1], vec![1, 6]]),
        (LINEAR, vec![2, 4, 3], vec![3, 6], [vec![6], vec![1, 1], vec![1, 1, 6]]),
    ] {
        for biased in [false, true] {
            let mut graph = net(&x, |net, x| {
                let mut inputs = vec![x, net.random(&w)];
                inputs.extend(biased.then(|| net.random(&[6])));
                let y = net.node(op.clone(), &inputs);
                let [a, b, c] = [0, 1, 2].map(|i| net.random(&shapes[i]));
                let y = net.node(Op::Add(Add { subtract: true }), &[y, a]);
                let y = net.node(Op::Mul(Mul), &[b, y]);
                let y = net.node(Op::Add(Add { subtract: true }), &[c, y]);
                let y = net.node(Op::Mul(Mul), &[y, a]);
                vec![net.node(ADD, &[y, c])]
            });
            assert_eq!(names_after(fold_scale, &mut graph), op.name());
        }
    }
}

/// Through moves, too, where each channel has one scale, and behind transposed convolutions.
#[test]
fn scales_behind_moves_are_folded() {
    let transposed = |group| {
        let (window, output_padding) = (Window::new([2, 2]), [0, 0]);
        Op::ConvTranspose(ConvTranspose { window, output_padding, group })
    };
    let transpose = |perm: &[usize]| Op::Transpose(Transpose { perm: perm.to_vec() });
    let reshape = |shape: &[usize]| Op::Reshape(Reshape { shape: shape.to_vec() });
    for (op, x, w, moves, by) in [
        (
            conv(1, 1),
            &[2, 3, 4, 5][..],
            &[6, 3, 1, 1][..],
            vec![transpose(&[0, 2, 3, 1])],
            &[6][..],
        ),
        (
            conv(1, 1),
            &[2, 3, 4, 5],
            &[6, 3, 1, 1],
            vec![reshape(&[2, 6, 20]), transpose(&[0, 2, 1])],
            &[1, 1, 6],
        ),
        (conv(1, 1), &[2, 3, 4, 5], &[6, 3, 1, 1], vec![reshape(&[2, 3, 2, 20])], &[3, 2, 1]),
        (conv(1, 1), &[2, 3, 4, 5], &[6, 3, 1, 1], vec![reshape(&[2, 120])], &[]),
        (LINEAR, &[2, 3], &[3, 6], vec![reshape(&[2, 6, 1, 1])], &[6, 1, 1]),
        (LINEAR, &[1, 4, 3], &[3, 6], vec![transpose(&[2, 0, 1])], &[6, 1, 1]),
        (transposed(1), &[2, 3, 4, 5], &[3, 6, 2, 2], vec![], &[6, 1, 1]),
        (
            transposed(3),
            &[2, 3, 4, 5],
            &[3, 2, 2, 2],
            vec![transpose(&[1, 0, 2, 3])],
            &[6, 1, 1, 1],
        ),
    ] {
        let mut graph = net(x, |net, x| {
            let w = net.random(w);
            let mut y = net.node(op.clone(), &[x, w]);
            for op in &moves {
                y = net.node(op.clone(), &[y]);
            }
            let [a, b] = [0, 1].map(|_| net.random(by));
            let y = net.node(Op::Add(Add { subtract: true }), &[y, a]);
            let y = net.node(Op::Mul(Mul), &[b, y]);
            vec![net.node(Op::Add(Add { subtract: true }), &[a, y])]
        });
        let names: Vec<_> = [&op].into_iter().chain(&moves).map(|op| op.name()).collect();
        assert_eq!(names_after(fold_scale, &mut graph), names.join(" "), "{by:?}");
    }
    // Two channels share a scale of the other kind.
    for (moved, by) in [(&[2, 2, 3, 20][..], &[3, 1][..]), (&[2, 120], &[120])] {
        let mut graph = net(&[2, 3, 4, 5], |net, x| {
            let (w, by) = (net.random(&[6, 3, 1, 1]), net.random(by));
            let y = net.node(conv(1, 1), &[x, w]);
            let y = net.node(reshape(moved), &[y]);
            vec![net.node(Op::Mul(Mul), &[y, by])]
        });
        let folds = by.len() == 2;
        let expected = if folds { "Conv Reshape" } else { "Conv Reshape Mul" };
        assert_eq!(names_after(fold_scale, &mut graph), expected, "{by:?}");
    }
}

/// Each branch is scaled by itself, and what can be folded into it is.
#[test]
fn what_scales_a_concat_scales_its_arguments() {
    let joined = |last: &dyn Fn(&mut Net, usize) -> usize, axis: usize, users: usize| {
        let mut graph = net(IMAGE, |net, x| {
            let [v, w] = [(); 2].map(|_| net.random(&[3, 3, 1, 1]));
            let (a, b) = (net.node(conv(1, 1), &[x, v]), net.node(conv(1, 1), &[x, w]));
            let b = net.node(RELU, &[b]);
            let inner = net.node(Op::Concat(Concat { axis }), &[a, b]);
            let c = net.node(Op::Unary(Unary::Sigmoid), &[x]);
            let all = net.node(Op::Concat(Concat { axis }), &[inner, c]);
            [vec![last(net, all)], vec![all; users - 1]].concat()
        });
        names_after(
            |graph| {
                split_concat(graph);
                fold_batch_norm(graph);
                fold_scale(graph);
            },
            &mut graph,
        )
    };
    let norm = |net: &mut Net, x: usize| batch_norm(net, x, 1e-5);
    let mul = |shape: &'static [usize]| {
        move |net: &mut Net, x: usize| {
            let by = net.random(shape);
            net.node(Op::Mul(Mul), &[by, x])
        }
    };
    let sub = |net: &mut Net, x: usize| {
        let by = net.random(&[9, 1, 1]);
        net.node(Op::Add(Add { subtract: true }), &[by, x])
    };
    assert_eq!(joined(&norm, 1, 1), "Conv Conv Clip Conv Concat Unary Conv Concat");
    assert_eq!(joined(&mul(&[9, 1, 1]), 1, 1), "Conv Conv Clip Mul Concat Unary Mul Concat");
    assert_eq!(joined(&sub, 1, 1), "Conv Conv Clip Add Concat Unary Add Concat");
    assert_eq!(
        joined(&mul(&[1, 3, 12, 1]), 2, 1),
        "Conv Conv Clip Mul Mul Concat Unary Mul Concat"
    );
    let whole = "Conv Conv Clip Concat Unary Concat";
    assert_eq!(joined(&mul(&[1, 1, 1]), 1, 1), format!("{whole} Mul"));
    assert_eq!(joined(&mul(&[9, 1, 1]), 1, 2), format!("{whole} Mul"));
    assert_eq!(joined(&norm, 2, 1), format!("{whole} Conv"));
}

#[test]
fn other_scales_stay() {
    for (shape, users) in
        [(&[4, 5][..], 1), (&[3, 1, 6, 1, 1], 1), (&[2, 1, 1, 1], 1), (&[6, 1, 1], 2)]
    {
        let mut graph = net(&[2, 3, 4, 5], |net, x| {
            let (w, by) = (net.random(&[6, 3, 1, 1]), net.random(shape));
            let y = net.node(conv(1, 1), &[x, w]);
            let z = net.node(Op::Mul(Mul), &[y, by]);
            if users == 1 { vec![z] } else { vec![z, y] }
        });
        assert_eq!(names_after(fold_scale, &mut graph), "Conv Mul", "{shape:?}");
    }
}

#[test]
fn batch_norms_with_nothing_to_fold_into_become_depthwise() {
    let with = |clamp: Clip, relu: bool, uses: usize| {
        let mut graph = net(IMAGE, |net, x| {
            let weight = net.random(&[5, 3, 1, 1]);
            let mut y = net.node(conv(1, 1), &[x, weight]);
            if relu {
                y = net.node(RELU, &[y]);
            }
            [vec![batch_norm(net, y, 1e-5)], vec![y; uses - 1]].concat()
        });
        graph.nodes[0].clamp = clamp;
        let names = names_after(fold_batch_norm, &mut graph);
        if let Op::Conv(conv) = graph.nodes.last().unwrap().op {
            assert_eq!(conv.group, if names.contains(' ') { 5 } else { 1 });
        }
        names
    };
    assert_eq!(with(Clip::NONE, false, 1), "Conv");
    assert_eq!(with(Clip::NONE, true, 1), "Conv Clip Conv");
    assert_eq!(with(Clip::RELU, false, 1), "Conv Conv");
    assert_eq!(with(Clip::NONE, false, 2), "Conv Conv");
    // Channels of a linear layer are the last axis, those of a batch norm the second one.
    let mut graph = net(&[2, 5, 3], |net, x| {
        let weight = net.random(&[3, 5]);
        let y = net.node(LINEAR, &[x, weight]);
        vec![batch_norm(net, y, 1e-5)]
    });
    assert_eq!(names_after(fold_batch_norm, &mut graph), "Linear Conv");
}

/// Of other ranks than images and sequences have they stand between two reshapes, with the activation behind them.
#[test]
fn batch_norms_of_any_rank_become_depthwise() {
    for shape in [&[4, 3][..], &[1, 3, 2, 4, 2], &[2, 3, 5]] {
        let mut graph = net(shape, |net, x| {
            let y = net.node(RELU, &[x]);
            let y = batch_norm(net, y, 1e-5);
            vec![net.node(RELU, &[y])]
        });
        let (names, conv) = match shape.len() {
            3 => ("Clip Conv", 1),
            _ => ("Clip Reshape Conv Reshape", 2),
        };
        assert_eq!(names_after(prepare, &mut graph), names, "{shape:?}");
        assert_eq!(clamps(&graph)[conv], Clip::RELU);
    }
}

#[test]
fn tiny_variances_are_folded_as_they_are_evaluated() {
    for (epsilon, variance) in [(1e-5, 1e-40), (1e-5, 0.0), (0.0, 1e-30), (1e-45, 0.0)] {
        let mut graph = net(IMAGE, |net, x| {
            let weight = net.random(&[3, 3, 1, 1]);
            let y = net.node(conv(1, 1), &[x, weight]);
            let y = batch_norm(net, y, epsilon);
            let constant = net.graph.nodes[1].inputs[4];
            let name = net.graph.values[constant].name.clone();
            net.graph.values[constant] = Value::real(name, Tensor::from_vec(vec![variance; 3]));
            vec![y]
        });
        assert_eq!(names_after(fold_batch_norm, &mut graph), "Conv", "{epsilon} {variance}");
    }
}

#[test]
fn activations_are_fused() {
    let clip = |lo, hi| Op::Clip(Clip { lo, hi });
    let mut graph = net(IMAGE, |net, x| {
        let weight = net.random(&[3, 3, 1, 1]);
        let y = net.node(conv(1, 1), &[x, weight]);
        let y = net.node(RELU, &[y]);
        let y = net.node(clip(-1.0, 6.0), &[y]);
        let y = net.node(ADD, &[y, x]);
        vec![net.node(clip(0.5, 2.0), &[y])]
    });
    assert_eq!(names_after(fuse_activation, &mut graph), "Conv Add");
    assert_eq!(clamps(&graph), [Clip { lo: 0.0, hi: 6.0 }, Clip { lo: 0.5, hi: 2.0 }]);
}

/// Not into what moves codes or has its own, nor where the value is used twice or quantized, nor two
/// clamps that do not meet.
#[test]
fn other_activations_stay() {
    let max_pool = Op::MaxPool(MaxPool(Window::new([2, 2])));
    for op in [
        max_pool,
        Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }),
        Op::Softmax(Softmax { axis: 1 }),
    ] {
        let mut graph = net(IMAGE, |net, x| {
            let y = net.node(op.clone(), &[x]);
            vec![net.node(RELU, &[y])]
        });
        assert_eq!(names_after(fuse_activation, &mut graph), format!("{} Clip", op.name()));
    }
    let mut on_the_input = net(IMAGE, |net, x| vec![net.node(RELU, &[x])]);
    assert_eq!(names_after(fuse_activation, &mut on_the_input), "Clip");

    let sum = |used_twice: bool| {
        net(IMAGE, |net, x| {
            let y = net.node(ADD, &[x, x]);
            let relu = net.node(RELU, &[y]);
            if used_twice { vec![relu, y] } else { vec![relu] }
        })
    };
    assert_eq!(names_after(fuse_activation, &mut sum(true)), "Add Clip");
    let mut quantized = sum(false);
    let y = quantized.nodes[0].output;
    quantized.values[y].quant = Some(QuantParams::per_tensor(0.5, 0, Width::W8));
    assert_eq!(names_after(fuse_activation, &mut quantized), "Add Clip");

    let mut apart = sum(false);
    apart.nodes[0].clamp = Clip { lo: -2.0, hi: -1.0 };
    assert_eq!(names_after(fuse_activation, &mut apart), "Add Clip");
}

/// Convolution, bias, batch norm and activation are one node in the end, and nothing else is left.
#[test]
fn prepare_leaves_one_node() {
    let mut graph = net(IMAGE, |net, x| {
        let weight = net.random(&[8, 3, 3, 3]);
        let y = net.node(conv(3, 1), &[x, weight]);
        let added = net.random(&[8, 1, 1]);
        let y = net.node(ADD, &[y, added]);
        let y = batch_norm(net, y, 1e-5);
        let added = net.random(&[1, 8, 1, 1]);
        let y = net.node(ADD, &[y, added]);
        vec![net.node(RELU, &[y])]
    });
    assert_eq!(names_after(prepare, &mut graph), "Conv");
    assert_eq!(graph.values.len(), 4, "input, weight, bias and output");
    assert_eq!(clamps(&graph), [Clip::RELU]);
}

/// Each becomes a weight and a bias of its own.
#[test]
fn normalizations_with_the_same_large_parameters_stay() {
    const CHANNELS: usize = 1 << 18;
    let mut net = Net::new(0);
    let x = net.input(&[1, CHANNELS, 1, 1]);
    let one = net.constant(Tensor::from_vec(vec![1.0; CHANNELS]));
    let op = Op::BatchNorm(BatchNorm { epsilon: 0.0 });
    let y = (0..100).fold(x, |y, _| net.node(op.clone(), &[y, one, one, one, one]));
    let mut graph = net.finish(&[y]);
    fold_batch_norm(&mut graph);
    let left = graph.nodes.iter().filter(|node| matches!(node.op, Op::BatchNorm(_)));
    assert!((30..40).contains(&left.count()));
}

const MUL: Op = Op::Mul(Mul);

fn number(net: &mut Net, x: f32) -> usize {
    net.constant(Tensor::of(vec![], vec![x]))
}

/// How a normalization is spelled out.
#[derive(Clone, Copy, Debug)]
struct Spelled {
    reduced: [bool; 3],
    centered: bool,
    /// The difference is computed anew for the square, the other way round.
    twice: bool,
    /// Numerator first.
    first: bool,
    /// What the mean is multiplied by; with 8 it is a sum.
    factor: f32,
    epsilon: f32,
    floor: Floor,
}

/// What keeps a root from 0.
#[derive(Clone, Copy, Debug)]
enum Floor {
    None,
    Sum(f32),
    Clip(f32),
    /// A limit below the root.
    Inner(f32),
    /// The root is multiplied.
    Times(f32),
}

const LAYER: Spelled = Spelled {
    reduced: [false, false, true],
    centered: true,
    twice: false,
    first: true,
    factor: 1.0,
    epsilon: 1e-3,
    floor: Floor::None,
};

fn spell(net: &mut Net, x: usize, how: Spelled) -> usize {
    let mean = || Op::Mean(Mean { reduced: how.reduced.to_vec() });
    let subtract = Op::Add(Add { subtract: true });
    let (mut d, mut again) = (x, x);
    if how.centered {
        let m = net.node(mean(), &[x]);
        d = net.node(subtract.clone(), &[x, m]);
        again = if how.twice { net.node(subtract, &[m, x]) } else { d };
    }
    let square = net.node(MUL, &[again, again]);
    let mut inner = net.node(mean(), &[square]);
    for (op, with, neutral) in [(MUL, how.factor, 1.0), (ADD, how.epsilon, 0.0)] {
        if with != neutral {
            let with = number(net, with);
            inner = net.node(op, &[inner, with]);
        }
    }
    let clip = |lo| Op::Clip(Clip { lo, hi: f32::INFINITY });
    if let Floor::Inner(lo) = how.floor {
        inner = net.node(clip(lo), &[inner]);
    }
    let mut root = net.node(Op::Unary(Unary::Sqrt), &[inner]);
    match how.floor {
        Floor::None | Floor::Inner(_) => {}
        Floor::Sum(floor) => {
            let floor = number(net, floor);
            root = net.node(ADD, &[root, floor]);
        }
        Floor::Clip(lo) => root = net.node(clip(lo), &[root]),
        Floor::Times(factor) => {
            let factor = number(net, factor);
            root = net.node(MUL, &[root, factor]);
        }
    }
    let factor = net.node(Op::Unary(Unary::Reciprocal), &[root]);
    net.node(MUL, &if how.first { [d, factor] } else { [factor, d] })
}

const TOKENS: &[usize] = &[2, 3, 8];

#[test]
fn normalizations_that_are_spelled_out_become_one_node() {
    let rms = Spelled { centered: false, ..LAYER };
    let l2 = Spelled { factor: 8.0, epsilon: 0.0, ..rms };
    let layer = |axis| Kind::Layer { axis };
    for (how, kind) in [
        (LAYER, layer(2)),
        (Spelled { twice: true, ..LAYER }, layer(2)),
        (Spelled { first: false, ..LAYER }, layer(2)),
        (Spelled { reduced: [false, true, true], ..LAYER }, layer(1)),
        (rms, Kind::Rms { axis: 2 }),
        (l2, Kind::L2 { axis: 2 }),
        (Spelled { floor: Floor::Sum(1e-12), ..l2 }, Kind::L2 { axis: 2 }),
        (Spelled { floor: Floor::Clip(1e-12), ..l2 }, Kind::L2 { axis: 2 }),
        (Spelled { floor: Floor::Inner(1e-12), ..l2 }, Kind::L2 { axis: 2 }),
        (
            Spelled {
                floor: Floor::Inner(1e-12),
                reduced: [false, true, false],
                factor: 3.0,
                ..l2
            },
            Kind::L2 { axis: 1 },
        ),
    ] {
        let mut graph = net(TOKENS, |net, x| vec![spell(net, x, how)]);
        assert_eq!(names_after(fuse_normalization, &mut graph), "Normalize", "{how:?}");
        let plain = Normalize::plain(kind, how.epsilon);
        assert_eq!(graph.nodes[0].op, Op::Normalize(plain), "{how:?}");
    }
}

/// Lengths with any epsilon, deviations of one element less, along any axes: in the end there is a factor.
#[test]
fn multiples_of_a_deviation_are_one_with_a_scale() {
    let rms = Spelled { centered: false, ..LAYER };
    for (how, names) in [
        (Spelled { factor: 8.0, ..rms }, "Normalize"),
        (Spelled { factor: 8.0, epsilon: 1e-7, ..rms }, "Normalize"),
        (
            Spelled { factor: 3.0, reduced: [false, true, false], ..rms },
            "Transpose Normalize Transpose Mul",
        ),
        (Spelled { factor: 24.0, reduced: [false, true, true], epsilon: 0.0, ..rms }, "Normalize"),
        (Spelled { factor: 8.0 / 7.0, ..LAYER }, "Normalize"),
        (
            Spelled { factor: 8.0 / 7.0, epsilon: 0.0, floor: Floor::Sum(1e-6), ..LAYER },
            "Normalize",
        ),
        (Spelled { factor: 8.0, epsilon: 0.0, floor: Floor::Times(0.5), ..rms }, "Normalize"),
    ] {
        let mut graph = net(TOKENS, |net, x| {
            let y = spell(net, x, how);
            let scale = net.random(&[8]);
            vec![net.node(MUL, &[y, scale])]
        });
        let x = random_inputs(&graph, &mut Rng(3), 1.0);
        let (expected, _) = run_float(&graph, &x);
        assert_eq!(names_after(fuse_normalization, &mut graph), names, "{how:?}");
        let (y, _) = run_float(&graph, &x);
        for (y, expected) in y[0].data().iter().zip(expected[0].data()) {
            assert!((y - expected).abs() <= 1e-5 * expected.abs(), "{how:?}: {y}, not {expected}");
        }
    }
}

#[test]
fn scale_and_offset_become_part_of_a_normalization() {
    let by = |how: Spelled, scale: &'static [usize], offset: &'static [usize]| {
        net(TOKENS, move |net, x| {
            let y = spell(net, x, how);
            let (scale, offset) = (net.random(scale), net.random(offset));
            let y = net.node(MUL, &[scale, y]);
            vec![net.node(ADD, &[y, offset])]
        })
    };
    let rms = Spelled { centered: false, ..LAYER };
    for (how, shapes, expected) in [
        (LAYER, [&[8][..], &[1, 1, 8]], "Normalize"),
        (LAYER, [&[], &[8]], "Normalize"),
        (LAYER, [&[3, 1], &[1, 3, 1]], "Normalize"), // of each channel
        (LAYER, [&[8], &[3, 1]], "Normalize Add"),
        (LAYER, [&[3, 8], &[8]], "Normalize Mul Add"),
        (rms, [&[8], &[8]], "Normalize Add"), // ONNX has no offset there
        (Spelled { factor: 8.0, epsilon: 0.0, ..rms }, [&[8], &[8]], "Normalize Mul Add"),
    ] {
        let mut graph = by(how, shapes[0], shapes[1]);
        assert_eq!(names_after(fuse_normalization, &mut graph), expected, "{how:?} {shapes:?}");
    }
}

/// Along other axes than the last ones it stands between two transpositions, which scale and offset pass.
#[test]
fn normalizations_along_other_axes_are_moved() {
    for reduced in [[false, true, false], [true, false, false], [true, false, true]] {
        let kept = |i: usize| if reduced[i] { TOKENS[i] } else { 1 };
        let shape: Vec<usize> = (1..3).map(kept).collect();
        let mut graph = net(TOKENS, |net, x| {
            let y = spell(net, x, Spelled { reduced, ..LAYER });
            let (scale, offset) = (net.random(&shape), net.random(&shape));
            let y = net.node(MUL, &[scale, y]);
            vec![net.node(ADD, &[y, offset])]
        });
        let names = names_after(fuse_normalization, &mut graph);
        assert_eq!(names, "Transpose Normalize Transpose", "{reduced:?}");
    }
}

/// Mean and deviation of `x` along `axis`, without that axis, put back by a reshape where `back` says so.
fn without_axis(net: &mut Net, x: usize, axis: usize, back: bool) -> [usize; 2] {
    let shape = net.graph.values[x].shape.clone();
    let mean = Op::Mean(Mean { reduced: (0..shape.len()).map(|i| i == axis).collect() });
    let mut kept = shape.clone();
    kept.remove(axis);
    let dropped = Op::Reshape(Reshape { shape: kept });
    let put_back = Op::Reshape(Reshape {
        shape: shape.iter().enumerate().map(|(i, &d)| if i == axis { 1 } else { d }).collect(),
    });
    let m = net.node(mean.clone(), &[x]);
    let mut m = net.node(dropped.clone(), &[m]);
    if back {
        m = net.node(put_back.clone(), &[m]);
    }
    let d = net.node(Op::Add(Add { subtract: true }), &[x, m]);
    let square = net.node(MUL, &[d, d]);
    let v = net.node(mean, &[square]);
    let v = net.node(dropped, &[v]);
    let epsilon = number(net, 1e-3);
    let v = net.node(ADD, &[v, epsilon]);
    let mut root = net.node(Op::Unary(Unary::Sqrt), &[v]);
    if back {
        root = net.node(put_back, &[root]);
    }
    let factor = net.node(Op::Unary(Unary::Reciprocal), &[root]);
    [m, factor]
}

/// Without the axis a square is broadcast along another one, and means something else.
#[test]
fn normalizations_without_the_axis_become_one_node() {
    for (back, expected) in [(true, "Normalize"), (false, "")] {
        let mut graph = net(&[4, 4], |net, x| {
            let [m, factor] = without_axis(net, x, 1, back);
            let d = net.node(Op::Add(Add { subtract: true }), &[x, m]);
            vec![net.node(MUL, &[d, factor])]
        });
        let names = names_after(fuse_normalization, &mut graph);
        assert!(if back { names == expected } else { !names.contains("Normalize") }, "{names}");
    }
}

/// `x · factor + (offset − mean · factor)`, with a scale in the factor.
#[test]
fn expanded_normalizations_become_one_node() {
    for (scaled, shifted, negated, alike) in [
        (true, true, false, true),
        (true, true, true, true),
        (false, false, false, true),
        (true, false, true, true),
        (true, true, false, false),
    ] {
        let mut graph = net(TOKENS, |net, x| {
            let [mean, mut factor] = without_axis(net, x, 2, true);
            if scaled {
                let scale = net.random(&[8]);
                factor = net.node(MUL, &[factor, scale]);
            }
            let [mean, other] = if alike { [mean, x] } else { [x, mean] };
            let product = net.node(MUL, &[other, factor]);
            let mean = if negated { net.node(Op::Unary(Unary::Neg), &[mean]) } else { mean };
            let mut rest = net.node(MUL, &[factor, mean]);
            if shifted {
                let offset = net.random(&[8]);
                rest = match negated {
                    true => net.node(ADD, &[rest, offset]),
                    false => net.node(Op::Add(Add { subtract: true }), &[offset, rest]),
                };
            }
            let subtract = !shifted && !negated;
            vec![net.node(Op::Add(Add { subtract }), &[product, rest])]
        });
        let names = names_after(fuse_normalization, &mut graph);
        assert_eq!(names == "Normalize", alike, "{names}");
    }
}

/// A normalization of each row of channels is one of groups.
#[test]
fn reshaped_normalizations_are_those_of_groups() {
    let groups = |inner: &'static [usize], norm: Kind| {
        let mut graph = net(&[2, 6, 4, 4], |net, x| {
            let [to, back] =
                [inner, &[2, 6, 4, 4]].map(|shape| Op::Reshape(Reshape { shape: shape.to_vec() }));
            let y = net.node(to, &[x]);
            let y = net.node(Op::Normalize(Normalize::plain(norm, 1e-3)), &[y]);
            let y = net.node(back, &[y]);
            let [scale, offset] = [(); 2].map(|()| net.random(&[6, 1, 1]));
            let y = net.node(MUL, &[y, scale]);
            vec![net.node(ADD, &[y, offset])]
        });
        let names = names_after(fuse_normalization, &mut graph);
        match &graph.nodes[0].op {
            Op::Normalize(op) => Ok(op.kind),
            _ => Err(names),
        }
    };
    assert_eq!(groups(&[2, 3, 32], Kind::Groups(3)), Ok(Kind::Groups(3)));
    assert_eq!(groups(&[2, 2, 3, 4, 4], Kind::Layer { axis: 2 }), Ok(Kind::Groups(2)));
    assert_eq!(groups(&[6, 32], Kind::Layer { axis: 1 }), Ok(Kind::Groups(3)));
    for (inner, norm) in [
        (&[2, 3, 32][..], Kind::Rms { axis: 2 }),
        (&[2, 4, 24], Kind::Groups(4)),
        (&[1, 4, 48], Kind::Groups(2)),
        (&[3, 64], Kind::Layer { axis: 1 }),
    ] {
        assert!(groups(inner, norm).is_err(), "{inner:?}");
    }
}

/// Other users, outputs, codes and clamps between: each keeps what it is about.
#[test]
fn normalizations_with_other_users_stay_spelled_out() {
    let plain = net(TOKENS, |net, x| vec![spell(net, x, LAYER)]);
    let before = plain.nodes.len();
    for node in 0..before - 1 {
        let v = plain.nodes[node].output;
        let mut graphs = [(); 4].map(|()| plain.clone());
        graphs[0].outputs.push(v);
        graphs[1].nodes[node].clamp = Clip { lo: -9.0, hi: 9.0 };
        graphs[2].values[v].quant = Some(QuantParams::per_tensor(1.0, 0, Width::W8));
        let read = Value { name: "read".into(), ..graphs[3].values[v].clone() };
        let output = graphs[3].add_value(read);
        let reader = Node {
            name: "reader".into(),
            parts: Parts::default(),
            op: RELU,
            inputs: vec![v],
            output,
            clamp: Clip::NONE,
        };
        graphs[3].nodes.push(reader);
        graphs[3].outputs.push(output);
        for (how, mut graph) in graphs.into_iter().enumerate() {
            let kept = graph.nodes[node].clone();
            fuse_normalization(&mut graph);
            graph.check().unwrap();
            assert!(graph.nodes.contains(&kept), "node {node}, change {how}");
        }
    }
}

/// What divides by something else: another mean, another root, not the same axes.
#[test]
fn what_is_no_normalization_stays() {
    let l2 = Spelled { centered: false, factor: 8.0, floor: Floor::Clip(0.5), ..LAYER };
    for how in [l2, Spelled { floor: Floor::Sum(1e-3), ..LAYER }] {
        let mut graph = net(TOKENS, |net, x| vec![spell(net, x, how)]);
        let before = graph.nodes.len();
        names_after(fuse_normalization, &mut graph);
        assert_eq!(graph.nodes.len(), before, "{how:?}");
    }
    // A number divided by the root is none, but what it is multiplied with may be one.
    let mut graph = net(TOKENS, |net, x| {
        let square = net.node(MUL, &[x, x]);
        let mean = net.node(Op::Mean(Mean { reduced: vec![false, false, true] }), &[square]);
        let root = net.node(Op::Unary(Unary::Sqrt), &[mean]);
        let factor = net.node(Op::Unary(Unary::Reciprocal), &[root]);
        let one = number(net, 1.0);
        let factor = net.node(MUL, &[one, factor]);
        vec![net.node(MUL, &[x, factor])]
    });
    assert_eq!(names_after(fuse_normalization, &mut graph), "Normalize");
    // One node of it computes from something else.
    let plain = net(TOKENS, |net, x| {
        net.node(RELU, &[x]);
        vec![spell(net, x, LAYER)]
    });
    let (x, other) = (plain.inputs[0], plain.nodes[0].output);
    for node in 1..plain.nodes.len() {
        let mut graph = plain.clone();
        let Some(input) = graph.nodes[node].inputs.iter().position(|&v| v == x) else { continue };
        graph.nodes[node].inputs[input] = other;
        let names = names_after(fuse_normalization, &mut graph);
        // What is left of it divides by the root of a mean of squares.
        assert!(names.starts_with("Clip Mean Add "), "node {node}: {names}");
    }
}

fn unary(net: &mut Net, function: Unary, x: usize) -> usize {
    net.node(Op::Unary(function), &[x])
}

/// A sum or product with a number.
fn with(net: &mut Net, op: Op, x: usize, by: f32) -> usize {
    let by = number(net, by);
    net.node(op, &[x, by])
}

/// `x · sigmoid(x)` and its like, as exporters spell them out.
fn spelled_functions(net: &mut Net, x: usize) -> Vec<usize> {
    let sigmoid = unary(net, Unary::Sigmoid, x);
    let silu = net.node(MUL, &[x, sigmoid]);
    let scaled = with(net, MUL, x, std::f32::consts::FRAC_1_SQRT_2);
    let erf = unary(net, Unary::Erf, scaled);
    let one = number(net, 1.0);
    let sum = net.node(ADD, &[one, erf]);
    let product = net.node(MUL, &[x, sum]);
    let gelu = with(net, MUL, product, 0.5);
    let moved = with(net, ADD, x, 3.0);
    let limited = net.node(Op::Clip(Clip { lo: 0.0, hi: 6.0 }), &[moved]);
    let product = net.node(MUL, &[x, limited]);
    let swish = with(net, MUL, product, 1.0 / 6.0);
    let square = net.node(MUL, &[x, x]);
    let cube = net.node(MUL, &[square, x]);
    let small = with(net, MUL, cube, 0.044715);
    let sum = net.node(ADD, &[x, small]);
    let tanh = unary(net, Unary::Tanh, sum);
    vec![silu, gelu, swish, net.node(MUL, &[x, tanh])]
}

#[test]
fn functions_that_are_spelled_out_become_one_node() {
    let mut graph = net(&[2, 3, 8], spelled_functions);
    let inputs = random_inputs(&graph, &mut Rng(5), 4.0);
    let (before, _) = run_float(&graph, &inputs);
    let names = names_after(prepare, &mut graph);
    assert_eq!(names, ["Function"; 4].join(" "));
    // Each step is the float network's own.
    assert_eq!(run_float(&graph, &inputs).0, before);
}

/// As one table, with one rounding, at 8 bits and at 16; and a file says the same.
#[test]
fn a_function_that_is_spelled_out_is_rounded_once() {
    let mut graph = net(&[1, 64], spelled_functions);
    prepare(&mut graph);
    let inputs = random_inputs(&graph, &mut Rng(5), 4.0);
    let (outputs, ranges) = run_float(&graph, &inputs);
    for scheme in crate::testing::SCHEMES {
        let quantized = crate::testing::quantize::quantize(&graph, &ranges, scheme).unwrap();
        let (_, integer) = crate::testing::quantize::export_checked(&quantized).unwrap();
        assert_eq!(integer.nodes.len(), 4);
        let got = crate::testing::exec::int::IntExecutor::new(&integer).run(&inputs).unwrap();
        let x = quantized.values[quantized.inputs[0]].quant.as_ref().unwrap();
        for ((got, expected), &v) in got.iter().zip(&outputs).zip(&quantized.outputs) {
            let y = quantized.values[v].quant.as_ref().unwrap();
            for (got, expected) in got.data().iter().zip(expected.data()) {
                // The slopes are at most 3.
                let most = 0.51 * y.scale[0] + 1.6 * x.scale[0];
                assert!((got - expected).abs() <= most, "{scheme:?}: {got}, not {expected}");
            }
        }
    }
}

/// Limits behind a function that others see, too, and functions of more steps than one table takes.
#[test]
fn functions_are_read_again_as_they_were_written() {
    let relu = Op::Clip(Clip::RELU);
    let limits = Op::Clip(Clip { lo: -0.25, hi: 0.5 });
    type Function = fn(&mut Net, usize) -> usize;
    let functions: [Function; 5] = [
        |net, x| unary(net, Unary::Tanh, x),
        |net, x| net.node(MUL, &[x, x]),
        |net, x| with(net, MUL, x, 0.75),
        |net, x| {
            let y = unary(net, Unary::Sigmoid, x);
            net.node(MUL, &[x, y])
        },
        |net, x| {
            (0..80).fold(x, |x, i| match i % 2 {
                0 => with(net, ADD, x, 0.01),
                _ => with(net, MUL, x, 0.99),
            })
        },
    ];
    for (i, function) in functions.into_iter().enumerate() {
        for limit in [&relu, &limits] {
            let mut graph = net(&[1, 64], |net, x| {
                let y = function(net, x);
                vec![y, net.node(limit.clone(), &[y])]
            });
            let inputs = random_inputs(&graph, &mut Rng(5), 2.0);
            let (before, _) = run_float(&graph, &inputs);
            prepare(&mut graph);
            let (after, ranges) = run_float(&graph, &inputs);
            assert_eq!(after, before, "{i}");
            for scheme in crate::testing::SCHEMES {
                let quantized =
                    crate::testing::quantize::quantize(&graph, &ranges, scheme).unwrap();
                crate::testing::quantize::export_checked(&quantized)
                    .unwrap_or_else(|e| panic!("{i}, {limit:?}: {e}"));
            }
        }
    }
}

#[test]
fn what_others_see_or_what_has_two_arguments_is_no_step_of_a_function() {
    let sigmoid = Op::Unary(Unary::Sigmoid);
    let check = |expected: &str, build: &dyn Fn(&mut Net, usize) -> Vec<usize>| {
        let mut graph = net(&[2, 4], build);
        assert_eq!(names_after(fuse_functions, &mut graph), expected);
    };
    // A sum of two values is where a function begins.
    check("Softmax Add Function", &|net, x| {
        let other = net.node(Op::Softmax(Softmax { axis: 1 }), &[x]);
        let sum = net.node(ADD, &[x, other]);
        let y = net.node(sigmoid.clone(), &[sum]);
        vec![net.node(MUL, &[sum, y])]
    });
    // An output stays; what follows is a function of the same argument.
    check("Unary Function", &|net, x| {
        let y = net.node(sigmoid.clone(), &[x]);
        vec![y, net.node(MUL, &[y, x])]
    });
    // Constants that differ from element to element.
    check("Add Unary", &|net, x| {
        let by = net.random(&[4]);
        let sum = net.node(ADD, &[x, by]);
        vec![net.node(sigmoid.clone(), &[sum])]
    });
    // Codes of its own.
    let mut graph = net(&[2, 4], |net, x| {
        let y = net.node(sigmoid.clone(), &[x]);
        net.graph.values[y].quant = Some(QuantParams::per_tensor(0.1, 0, Width::W8));
        vec![net.node(sigmoid.clone(), &[y])]
    });
    assert_eq!(names_after(fuse_functions, &mut graph), "Unary Unary");
    // A long chain is cut.
    let mut graph =
        net(&[1], |net, x| vec![(0..200).fold(x, |x, _| net.node(sigmoid.clone(), &[x]))]);
    assert_eq!(names_after(fuse_functions, &mut graph), "Function Function Function Function");
}

/// What is done to bytes first, one number or one for each channel.
fn affine(net: &mut Net, x: usize, factor: &[f32], offset: &[f32]) -> usize {
    let [factor, offset] = [factor, offset].map(|numbers| {
        let shape = if numbers.len() == 1 { vec![] } else { vec![numbers.len(), 1, 1] };
        net.constant(Tensor::new(shape, numbers.to_vec()).unwrap())
    });
    let scaled = net.node(Op::Mul(Mul), &[x, factor]);
    net.node(ADD, &[scaled, offset])
}

#[test]
fn what_is_done_to_bytes_first_is_how_they_are_read() {
    use crate::quant::Integer::{I8, U8};
    for (of, factor, offset, left, scale, zero) in [
        (U8, 1.0 / 255.0, 0.0, "", 1.0 / 255.0, -128),
        (U8, 1.0 / 128.0, -1.0, "", 1.0 / 128.0, 0),
        (U8, 0.5, 0.5, "Add", 0.5, -128),
        (U8, 1.0 / 127.5, -1.0, "Add", 1.0 / 127.5, -128),
        (U8, 1.0, -300.0, "Add", 1.0, -128),
        (U8, -1.0, 0.0, "Mul Add", 1.0, -128),
        (I8, 1.0 / 255.0, 128.0 / 255.0, "", 1.0 / 255.0, -128),
    ] {
        for moved in [false, true] {
            let mut net = Net::new(8);
            let mut x = net.integers(&[1, 4, 4, 3], of);
            if moved {
                let perm = vec![0, 3, 1, 2];
                x = net.node(Op::Transpose(Transpose { perm }), &[x]);
            }
            let y = affine(&mut net, x, &[factor], &[offset]);
            let y = net.node(RELU, &[y]);
            let mut graph = net.finish(&[y]);
            let names = names_after(fold_input, &mut graph);
            let expected = [if moved { "Transpose" } else { "" }, left, "Clip"];
            let expected: Vec<&str> = expected.into_iter().filter(|s| !s.is_empty()).collect();
            assert_eq!(names, expected.join(" "), "{of:?} {factor} {offset}");
            let params = QuantParams::per_tensor(scale, zero, Width::W8);
            assert_eq!(
                graph.values[graph.inputs[0]].quant,
                Some(params),
                "{of:?} {factor} {offset}"
            );
        }
    }
}

#[test]
fn channels_of_bytes_are_folded_where_padding_stays_0() {
    let (factor, offset) = ([0.1, 0.2, 0.3], [-1.0, 0.0, 2.0]);
    for (offset, pads, group, expected) in [
        (offset, [0; 4], 1, "Conv"),
        (offset, [0; 4], 3, "Conv"),
        ([0.0; 3], [1; 4], 1, "Conv"),
        (offset, [0, 0, 1, 0], 1, "Conv Conv"),
    ] {
        let mut net = Net::new(9);
        let x = net.integers(&[1, 3, 5, 5], crate::quant::Integer::U8);
        let y = affine(&mut net, x, &factor, &offset);
        let weight = net.random(&[6, 3 / group, 3, 3]);
        let window = Window { pads, ..Window::new([3, 3]) };
        let y = net.node(Op::Conv(Conv { window, group }), &[y, weight]);
        let mut graph = net.finish(&[y]);
        assert_eq!(names_after(fold_input, &mut graph), expected, "{pads:?} {group}");
    }
}

#[test]
fn bytes_that_others_read_are_not_read_otherwise() {
    let mut net = Net::new(10);
    let x = net.integers(&[1, 3, 5, 5], crate::quant::Integer::U8);
    let y = affine(&mut net, x, &[0.5], &[1.0]);
    let z = net.node(RELU, &[x]);
    let mut graph = net.finish(&[y, z]);
    assert_eq!(names_after(fold_input, &mut graph), "Mul Add Clip");
    let mut net = Net::new(10);
    let x = net.integers(&[1, 3, 5, 5], crate::quant::Integer::U8);
    let half = net.constant(Tensor::new([], vec![0.5]).unwrap());
    let y = net.node(Op::Mul(Mul), &[x, half]);
    let mut graph = net.finish(&[y]);
    assert_eq!(names_after(fold_input, &mut graph), "Reshape");
}
