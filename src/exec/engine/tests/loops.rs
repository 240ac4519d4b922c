//! Every loop against the operator's reference: widths, scales, zero points, limits and memory order are drawn for
//! each node, and lowered as they are in any network.

use std::collections::BTreeSet;

use super::*;
use crate::codes::CodeTensor;
use crate::ops::argmax::ArgMax;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::matmul::MatMul;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::normalize::{Kind as Norm, Normalize};
use crate::ops::pad::{Mode as Padding, Pad};
use crate::ops::prelu::PRelu;
use crate::ops::recode::Recode;
use crate::ops::resize::{Coordinates, Mode, Nearest, Resize};
use crate::ops::slice::{Part, Slice};
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Lowering, OutputParams, Wants};

/// A node, and what its constant arguments are: shape and width.
struct Draw<'a> {
    op: Op,
    shapes: &'a [&'a [usize]],
    constants: &'a [(&'a [usize], Width)],
}

impl Draw<'_> {
    /// The node with random parameters, between codes of these widths; `None` if they do not fit.
    fn node(&self, rng: &mut Rng, widths: [Width; 2]) -> Option<IntGraph> {
        let constants = self.constants.iter().map(|(shape, _)| *shape);
        let shapes: Vec<&[usize]> = self.shapes.iter().copied().chain(constants).collect();
        let shape = self.op.infer_shape(&shapes).ok()?;
        let last = match self.op.wants() {
            Wants::Is(order) => order == Order::ChannelsLast,
            _ => rng.pick(&[false, true]),
        };
        let scales = [1.0, 0.5, 0.25, 0.037, 0.333_333_34, 1.7, 3e-3, 1e-5];
        let one = |shape: &[usize], width: Width, rng: &mut Rng| {
            let zero = rng.pick(&[width.lowest(), width.highest(), 0, -3]);
            let quant = QuantParams::per_tensor(rng.pick(&scales), zero, width);
            let last = last && shape.len() == 4;
            IntValue { quant, ..value(shape, 0, last) }
        };
        let mut values: Vec<IntValue> =
            self.shapes.iter().map(|shape| one(shape, widths[0], rng)).collect();
        let mut y = one(&shape, widths[1], rng);
        match self.op.output_params() {
            OutputParams::Calibrated | OutputParams::Table => {}
            OutputParams::SameAsInput => y.quant = values[0].quant.clone(),
            OutputParams::Shared => y.quant.scale[0] = values[0].quant.scale[0],
            OutputParams::Unit => {
                let scale = rng.pick(&[1.0 / 256.0, 1.0 / 1024.0]);
                y.quant = QuantParams::per_tensor(scale, widths[1].lowest(), widths[1]);
            }
            OutputParams::Index => y.quant = QuantParams::index(widths[1]),
        }
        let constants: Vec<(IntValue, CodeTensor)> = self
            .constants
            .iter()
            .map(|&(shape, width)| {
                let (lo, hi) = (width.lowest().max(-100_000), width.highest().min(100_000));
                let any = |rng: &mut Rng| lo + (rng.next() % (hi - lo + 1) as u64) as i32;
                let codes: Vec<i32> = (0..shape.iter().product()).map(|_| any(rng)).collect();
                let scale = if width == Width::W32 { values[0].quant.scale[0] } else { 1.0 } * 1e-2;
                let quant = QuantParams::per_tensor(scale, 0, width);
                let codes = CodeTensor::new(width, Tensor::new(shape, codes).unwrap());
                (IntValue { quant, ..value(shape, 0, false) }, codes)
            })
            .collect();
        let range = y.quant.code_range();
        let narrow = (range.0 / 2, range.1 / 3);
        let clamp = match self.op.keeps_codes() {
            true => range,
            false => rng.pick(&[range, range, narrow, (range.0 / 7, range.0 / 7)]),
        };
        let none = values.iter().map(|_| None);
        let mut node = Lowering {
            inputs: values
                .iter()
                .chain(constants.iter().map(|c| &c.0))
                .map(IntValue::operand)
                .collect(),
            constants: none.chain(constants.iter().map(|c| Some(c.1.clone()))).collect(),
            output: y.operand(),
            clamp,
        };
        let op = self.op.lower(&mut node).ok()?;
        values.push(y);
        Some(graph_of(op, values))
    }

    /// On every machine, with threads; returns the paths that were taken.
    fn check(&self, rng: &mut Rng, times: usize) -> BTreeSet<&'static str> {
        let mut paths = BTreeSet::new();
        let both = [Width::W8, Width::W16];
        for i in 0..4 * times {
            let x = both[i % 2];
            let y = if self.op.keeps_codes() { x } else { both[i / 2 % 2] };
            if let Some(graph) = self.node(rng, [x, y]) {
                let what = format!("{i}: {:?} {:?}", self.shapes, graph.nodes[0].op);
                let what = what.get(..2000).unwrap_or(&what);
                paths.insert(check(&graph, rng, &[1, 3], what));
            }
        }
        assert!(!paths.is_empty(), "nothing fits: {:?}", self.op);
        paths
    }
}

/// As [`Draw::check`], for nodes without constants.
fn all(seed: u64, times: usize, nodes: &[(Op, &[&[usize]])]) -> Vec<&'static str> {
    let mut rng = Rng(seed);
    let check = |(op, shapes): &(Op, &[&[usize]])| {
        Draw { op: op.clone(), shapes, constants: &[] }.check(&mut rng, times)
    };
    nodes.iter().flat_map(check).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Shapes of two arguments that are broadcast to each other in all ways.
const BROADCAST: &[&[&[usize]]] = &[
    &[&[2, 3, 70], &[2, 3, 70]],
    &[&[2, 3, 17], &[17]],
    &[&[1, 3], &[5, 1]],
    &[&[2, 3, 16], &[2, 1, 1]],
    &[&[1], &[3, 1100]],
    &[&[2, 5, 4, 3], &[1, 5, 1, 1]],
    &[&[2, 5, 4, 3], &[2, 1, 4, 3]],
    &[&[1, 33, 2, 3], &[1, 1, 2, 1]],
    &[&[3, 1, 2], &[1, 4, 1]],
    &[&[1, 1, 1], &[1]],
];

#[test]
fn broadcast_additions_and_products() {
    let subtract = |subtract| Op::Add(Add { subtract });
    for (i, &shapes) in BROADCAST.iter().enumerate() {
        let seed = i as u64;
        assert_eq!(all(seed, 6, &[(subtract(false), shapes), (subtract(true), shapes)]), ["add"]);
        assert_eq!(all(seed, 6, &[(Op::Mul(Mul), shapes)]), ["mul"]);
    }
}

/// Products and factors whose `f64` is a tie that the exact product is not, and ties that are.
#[test]
fn products_next_to_a_tie() {
    use crate::kernels::elementwise::scaled;
    let mut rng = Rng(31);
    let mut ties = 0;
    for _ in 0..300_000 {
        let significand = (1 << 23) + (rng.next() % (1 << 23)) as i64;
        let bits = rng.pick(&[30, 34, 40, 53]);
        let shift = rng.pick(&[24, 31, 37, 40, 44, 60]);
        let mut x = (rng.next() >> (64 - bits)) as i64 - (1 << (bits - 1));
        if !rng.next().is_multiple_of(4) {
            // The product next to an odd multiple of a half.
            let half = ((rng.next() % 4000) as i128 - 2000) * 2 + 1;
            x = ((half << (shift - 1)) / significand as i128 + rng.pick(&[0, 1])) as i64;
        }
        if x.abs() >= 1 << 53 {
            continue;
        }
        let (product, unit) = (x as i128 * significand as i128, 1_i128 << shift);
        let (whole, twice) = (product.div_euclid(unit), 2 * product.rem_euclid(unit));
        let expected = whole + (twice > unit || twice == unit && whole % 2 != 0) as i128;
        if expected.abs() < 1 << 50 {
            let factor = significand as f64 / (1u64 << shift) as f64;
            assert_eq!(
                scaled(x as f64, factor) as i128,
                expected,
                "{x} * {significand} >> {shift}"
            );
            let rounded = x as f64 * factor;
            ties += ((rounded - rounded.floor() == 0.5) && twice != unit) as usize;
        }
    }
    assert!(ties > 100, "{ties}");
}

#[test]
fn tables_of_every_width() {
    let shapes: &[&[usize]] = &[&[3, 100]];
    let tables = [
        (Op::Unary(Unary::Sigmoid), shapes),
        (Op::Unary(Unary::HardSwish), &[&[1, 3, 5, 7]]),
        (Op::Unary(Unary::Abs), shapes),
    ];
    assert_eq!(all(1, 1, &tables), ["table"]);
    assert_eq!(
        all(2, 12, &[(Op::Clip(Clip::RELU), shapes), (Op::Recode(Recode), shapes)]),
        ["recode", "table"]
    );
}

#[test]
fn pools_and_means() {
    let pools = |window: Window| {
        let average =
            |count_include_pad| Op::AveragePool(AveragePool { window, count_include_pad });
        [Op::MaxPool(MaxPool(window)), average(false), average(true)]
    };
    let window = Window { pads: [1, 0, 1, 1], ..Window::new([3, 2]) };
    let shapes: [&[&[usize]]; 3] = [&[&[1, 3, 5, 7]], &[&[2, 17, 5, 4]], &[&[2, 1, 6, 6]]];
    for shapes in shapes {
        for window in [
            window,
            Window { stride: [2, 2], ..window },
            Window { ceil_mode: true, stride: [2, 3], ..window },
        ] {
            for op in pools(window) {
                let path = if let Op::MaxPool(_) = op { "max_pool" } else { "average_pool" };
                assert_eq!(all(3, 2, &[(op, shapes)]), [path]);
            }
        }
        let whole = Window::new([shapes[0][2], shapes[0][3]]);
        assert_eq!(all(4, 4, &[(pools(whole)[1].clone(), shapes)]), ["average_pool", "mean"]);
    }
    for reduced in [
        [true, true, true],
        [false, false, true],
        [false, true, false],
        [true, false, false],
        [false, true, true],
        [true, false, true],
    ] {
        let mean = Op::Mean(Mean { reduced: reduced.to_vec() });
        assert_eq!(all(5, 3, &[(mean.clone(), &[&[2, 5, 70]]), (mean, &[&[3, 1, 2]])]), ["mean"]);
    }
    for reduced in
        [[false, false, true, true], [false, true, false, false], [true, true, true, true]]
    {
        let mean = Op::Mean(Mean { reduced: reduced.to_vec() });
        assert_eq!(all(6, 3, &[(mean, &[&[2, 5, 3, 4]])]), ["mean"]);
    }
}

#[test]
fn codes_that_move_one_by_one() {
    let transpose = |perm: &[usize]| Op::Transpose(Transpose { perm: perm.to_vec() });
    let nodes: [(Op, &[&[usize]]); 6] = [
        (transpose(&[1, 0]), &[&[70, 90]]),
        (transpose(&[0, 2, 1]), &[&[3, 33, 5]]),
        (transpose(&[2, 1, 0]), &[&[3, 2, 40]]),
        (transpose(&[0, 2, 1, 3, 4]), &[&[1, 3, 5, 2, 2]]),
        (transpose(&[0, 2, 1, 3, 4]), &[&[2, 2, 5, 1, 3]]),
        (transpose(&[0, 1, 3, 2]), &[&[1, 3, 5, 7]]),
    ];
    assert_eq!(all(7, 2, &nodes), ["moves", "transpose"]);
    let part = |start, step, len| Part { start, step, len };
    let slices = [
        vec![part(1, 2, 2), part(0, 3, 30), part(9, -2, 5)],
        vec![part(0, 1, 5), part(0, 2, 50), part(0, 2, 5)],
    ];
    for parts in slices {
        assert_eq!(all(8, 2, &[(Op::Slice(Slice { parts }), &[&[5, 100, 10]])]), ["pick"]);
    }
    for mode in [Padding::Constant(0.0), Padding::Edge, Padding::Reflect] {
        let pad = Op::Pad(Pad { before: vec![1, 0, 1], after: vec![0, 1, 0], mode });
        assert!(all(9, 2, &[(pad, &[&[2, 30, 1]])]).contains(&"pick"));
    }
    let concat = |axis| Op::Concat(Concat { axis });
    let nodes: [(Op, &[&[usize]]); 4] = [
        (concat(1), &[&[2, 3, 4, 5], &[2, 1, 4, 5], &[2, 2, 4, 5]]),
        (concat(3), &[&[2, 3, 4, 1], &[2, 3, 4, 2]]),
        (concat(0), &[&[2, 3], &[1, 3]]),
        (concat(2), &[&[1, 50, 1], &[1, 50, 1]]),
    ];
    assert!(all(10, 4, &nodes).contains(&"concat"));
}

#[test]
fn products_of_two_results() {
    let shapes: [&[&[usize]]; 7] = [
        &[&[5, 3], &[3, 7]],
        &[&[13, 40], &[40, 33]],
        &[&[2, 3, 6, 17], &[2, 3, 17, 16]],
        &[&[2, 3, 7, 4], &[4, 50]],
        &[&[1, 1, 2, 4], &[3, 1, 4, 5]],
        &[&[1, 1], &[1, 1]],
        &[&[4, 300], &[300, 9]],
    ];
    let nodes = shapes.map(|shapes| (Op::MatMul(MatMul), shapes));
    assert_eq!(all(11, 4, &nodes), ["matmul"]);
}

#[test]
fn lines_of_codes() {
    let shapes: [&[&[usize]]; 4] = [&[&[3, 70]], &[&[2, 5, 9]], &[&[1, 4, 3, 7]], &[&[2, 1, 1]]];
    for shapes in shapes {
        for axis in 0..shapes[0].len() {
            let argmax = |last| Op::ArgMax(ArgMax { axis, keepdims: last, last });
            assert_eq!(all(12, 2, &[(Op::Softmax(Softmax { axis }), shapes)]), ["softmax"]);
            assert_eq!(all(13, 2, &[(argmax(false), shapes), (argmax(true), shapes)]), ["argmax"]);
            for kind in [Norm::Layer { axis }, Norm::Rms { axis }, Norm::L2 { axis }] {
                let plain = Normalize::plain(kind, 1e-5);
                let affine = shapes[0][axis..].iter().product();
                let scaled = match kind {
                    Norm::L2 { .. } => plain.clone(),
                    _ => Normalize {
                        scale: (0..affine).map(|i| 1.5 - i as f32 * 0.3).collect(),
                        offset: (0..affine).map(|i| i as f32 * 0.1 - 0.4).collect(),
                        ..plain.clone()
                    },
                };
                let nodes = [plain, scaled].map(|op| (Op::Normalize(op), shapes));
                assert_eq!(all(14, 3, &nodes), ["normalize"]);
            }
        }
    }
    for groups in [1, 2, 4] {
        let plain = Normalize::plain(Norm::Groups(groups), 1e-3);
        let scaled =
            Normalize { scale: vec![0.5, -1.0, 2.0, 0.0], offset: vec![0.1; 4], ..plain.clone() };
        for shapes in [&[&[2, 4, 3, 7][..]][..], &[&[3, 4, 5]]] {
            assert_eq!(
                all(
                    15,
                    4,
                    &[
                        (Op::Normalize(plain.clone()), shapes),
                        (Op::Normalize(scaled.clone()), shapes)
                    ]
                ),
                ["normalize"]
            );
        }
    }
}

#[test]
fn interpolation() {
    for coordinates in [Coordinates::HalfPixel, Coordinates::AlignCorners, Coordinates::Asymmetric]
    {
        for (x, shape) in [
            ([2, 3, 4, 5], [2, 3, 8, 10]),
            ([1, 17, 3, 3], [1, 17, 7, 2]),
            ([1, 1, 5, 6], [1, 1, 9, 4]),
        ] {
            let scales: Vec<f32> = shape.iter().zip(x).map(|(&y, x)| y as f32 / x as f32).collect();
            let resize = |mode| {
                Op::Resize(Resize {
                    mode,
                    coordinates,
                    shape: shape.to_vec(),
                    scales: scales.clone(),
                })
            };
            let shapes: &[&[usize]] = &[&x];
            assert_eq!(all(16, 3, &[(resize(Mode::Linear), shapes)]), ["resize"]);
            let nearest = resize(Mode::Nearest(Nearest::Floor));
            assert!(["moves", "pick"].contains(&all(17, 1, &[(nearest, shapes)])[0]));
        }
    }
}

#[test]
fn slopes_and_transposed_convolutions() {
    let mut rng = Rng(18);
    let slopes: [(&[&[usize]], &[usize]); 5] = [
        (&[&[2, 5, 3, 4]], &[5, 1, 1]),
        (&[&[2, 5, 3, 4]], &[1]),
        (&[&[2, 5, 3, 4]], &[1, 1, 1, 4]),
        (&[&[2, 5, 3, 4]], &[5, 3, 4]),
        (&[&[3, 70]], &[70]),
    ];
    for (shapes, slope) in slopes {
        for width in [Width::W8, Width::W16] {
            let draw = Draw { op: Op::PRelu(PRelu), shapes, constants: &[(slope, width)] };
            assert_eq!(draw.check(&mut rng, 3), BTreeSet::from(["prelu"]));
        }
    }
    for (in_ch, out_ch, group) in [(3, 5, 1), (17, 33, 1), (6, 4, 2), (5, 5, 5)] {
        for (kernel, stride) in [([2, 2], [2, 2]), ([3, 3], [2, 1]), ([4, 3], [1, 2])] {
            let window = Window {
                stride,
                pads: rng.pick(&[[0; 4], [1, 0, 0, 1], [1; 4]]),
                dilation: rng.pick(&[[1, 1], [1, 2]]),
                ..Window::new(kernel)
            };
            let op = Op::ConvTranspose(ConvTranspose { window, output_padding: [0; 2], group });
            let (x, weight) = ([2, in_ch, 4, 7], [in_ch, out_ch / group, kernel[0], kernel[1]]);
            for width in [Width::W8, Width::W16] {
                let constants = [(&weight[..], width), (&[out_ch][..], Width::W32)];
                let draw = Draw { op: op.clone(), shapes: &[&x], constants: &constants };
                assert_eq!(draw.check(&mut rng, 2), BTreeSet::from(["transposed"]));
            }
        }
    }
}
