//! Normalizations that are spelled out.

use super::*;

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
