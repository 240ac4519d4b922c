//! BatchNormalization, and scales and offsets of channels.

use super::*;

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
