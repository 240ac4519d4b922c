use super::*;
use crate::ops::Op;
use crate::quant::{Range, Width};
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// Input position of output position `o`, as an exact fraction. Scales are multiples of `2^-12` here.
fn position(op: &Resize, axis: usize, o: usize, size: usize) -> (i128, i128) {
    const ONE: i128 = 4096;
    let scale = op.scales[axis] as f64 * ONE as f64;
    assert_eq!(scale.fract(), 0.0);
    let (o, scale, out) = (o as i128, scale as i128, op.shape[axis] as i128);
    match op.coordinates {
        Coordinates::AlignCorners if out > 1 => (o * (size as i128 - 1), out - 1),
        Coordinates::PytorchHalfPixel if out == 1 => (0, 1),
        Coordinates::AlignCorners => (0, 1),
        Coordinates::Asymmetric => (o * ONE, scale),
        _ => ((2 * o + 1) * ONE - scale, 2 * scale),
    }
}

fn nearest<T: Number>(op: &Resize, x: &Tensor<T>) -> Fractions<T> {
    let Mode::Nearest(nearest) = op.mode else { unreachable!() };
    tabulate(&op.shape, |y| {
        let axes = y.iter().zip(x.shape()).enumerate();
        let from = axes.map(|(axis, (&o, &size))| {
            let (n, d) = position(op, axis, o, size);
            let (down, up) = (n.div_euclid(d), -(-n).div_euclid(d));
            let middle = 2 * n.rem_euclid(d);
            let i = match nearest {
                Nearest::Floor => down,
                Nearest::Ceil => up,
                Nearest::RoundPreferFloor if middle <= d => down,
                Nearest::RoundPreferCeil if middle < d => down,
                _ => up,
            };
            i.clamp(0, size as i128 - 1) as usize
        });
        (at(x, &from.collect::<Vec<_>>()), T::from(1))
    })
}

/// Along `axis`, both neighbours of output position `o` and the weight of the upper one.
fn between(op: &Resize, axis: usize, o: usize, size: usize) -> ([usize; 2], (i128, i128)) {
    let (n, d) = position(op, axis, o, size);
    let n = n.clamp(0, (size as i128 - 1) * d);
    let low = (n / d) as usize;
    ([low, (low + 1).min(size - 1)], (n % d, d))
}

/// `Σ x · u · v` over two rows and two columns, with weights that `weight` makes of a fraction.
fn linear<T: Number>(op: &Resize, x: &Tensor<T>, weight: fn(i128, i128) -> [T; 3]) -> Fractions<T> {
    tabulate(&op.shape, |y| {
        let column = x.shape().len() - 1;
        let [rows, columns] = [column - 1, column].map(|axis| match axis {
            1 => ([0, 0], (0, 1)), // the one line of a sequence
            _ => between(op, axis, y[axis], x.shape()[axis]),
        });
        let ([u, v], mut sum) = ([rows.1, columns.1].map(|(n, d)| weight(n, d)), T::from(0));
        for (r, c) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let place = [y[0], y[1], rows.0[r], columns.0[c]];
            let place =
                if column == 2 { [&place[..2], &place[3..]].concat() } else { place.to_vec() };
            sum = sum + at(x, &place) * u[r] * v[c];
        }
        (sum, u[2] * v[2])
    })
}

fn real(op: &Op, inputs: &[Tensor<f64>]) -> Fractions<f64> {
    let Op::Resize(op) = op else { unreachable!() };
    match op.mode {
        Mode::Nearest(_) => nearest(op, &inputs[0]),
        Mode::Linear => linear(op, &inputs[0], |n, d| {
            let high = n as f64 / d as f64;
            [1.0 - high, high, 1.0]
        }),
    }
}

/// Weights are rounded to multiples of `1 / ONE`; everything else is exact.
fn exact<const ONE: i128>(op: &Op, inputs: &[Tensor<i128>]) -> Fractions<i128> {
    let Op::Resize(op) = op else { unreachable!() };
    match op.mode {
        Mode::Nearest(_) => nearest(op, &inputs[0]),
        Mode::Linear => linear(op, &inputs[0], |n, d| {
            let high = rounded(n * ONE, d);
            [ONE - high, high, ONE]
        }),
    }
}

const COORDINATES: [Coordinates; 4] = [
    Coordinates::HalfPixel,
    Coordinates::PytorchHalfPixel,
    Coordinates::AlignCorners,
    Coordinates::Asymmetric,
];

fn resize(mode: Mode, coordinates: Coordinates, x: &[usize], scales: &[f32]) -> Case {
    let shape = x.iter().zip(scales).map(|(&size, scale)| (size as f32 * scale) as usize);
    let (shape, scales) = (shape.collect(), scales.to_vec());
    case(Op::Resize(Resize { mode, coordinates, shape, scales }), &[x])
}

#[test]
fn nearest_equals_the_definition() {
    let all = [Nearest::RoundPreferFloor, Nearest::RoundPreferCeil, Nearest::Floor, Nearest::Ceil];
    for mode in all.map(Mode::Nearest) {
        let cases = COORDINATES.iter().flat_map(|&coordinates| {
            let of = |x: &[usize], scales: &[f32]| resize(mode, coordinates, x, scales);
            let image = [2, 3, 4, 5];
            [
                of(&[1], &[1.0]),
                of(&[6], &[2.5]),
                of(&[2, 8], &[4.0, 0.375]),
                of(&[2, 4, 3], &[1.0, 0.25, 3.0]),
                of(&image, &[1.0, 1.0, 2.0, 2.0]),
                of(&[2, 3, 4, 6], &[1.0, 1.0, 0.5, 1.5]).channels_last(0),
                of(&[2, 3, 4, 8], &[1.5, 2.0, 0.75, 0.25]).channels_last(0),
            ]
        });
        check(&cases.collect::<Vec<_>>(), real, exact::<1>);
    }
}

#[test]
fn linear_equals_the_definition() {
    let cases = COORDINATES.iter().flat_map(|&coordinates| {
        let of = |x: [usize; 4], h, w| resize(Mode::Linear, coordinates, &x, &[1.0, 1.0, h, w]);
        [
            of([1, 1, 1, 1], 1.0, 1.0),
            of([1, 1, 1, 1], 3.0, 2.0),
            of([2, 3, 4, 5], 2.0, 2.0),
            of([2, 3, 4, 5], 2.0, 2.0).channels_last(0),
            of([1, 2, 4, 6], 2.5, 1.5),
            of([1, 17, 6, 4], 0.5, 0.75),
            of([1, 3, 8, 8], 0.375, 0.25),
            of([1, 1, 3, 8], 7.0, 0.625),
            of([1, 2, 3, 3], 1.0, 2.0).clamp(-0.25, 0.5),
            resize(Mode::Linear, coordinates, &[2, 3, 6], &[1.0, 1.0, 2.5]),
            resize(Mode::Linear, coordinates, &[1, 1, 8], &[1.0, 1.0, 0.375]),
        ]
    });
    let mut cases: Vec<Case> = cases.collect();
    for coordinates in [Coordinates::HalfPixel, Coordinates::Asymmetric] {
        // The size is rounded down.
        let scales = [1.0, 1.0, 1.5, 0.6875];
        cases.push(resize(Mode::Linear, coordinates, &[1, 2, 3, 5], &scales));
    }
    check_real(&cases, real);
    check_exact_from(&[Width::W8], &cases, real, exact::<2048>);
    check_exact_from(&[Width::W16], &cases, real, exact::<{ 1 << 18 }>);
}

/// Sizes that no scale gives exactly survive the way to the file and back, too.
#[test]
fn every_pair_of_sizes_is_exported() {
    for (size, out) in (1..130).flat_map(|size| (1..130).map(move |out| (size, out))) {
        for coordinates in COORDINATES {
            let mut node = onnx_node("Resize", &[&[size]], &[]);
            node.inputs.extend([None, None, integers(&[out as i64])]);
            let import = |node: &mut OnnxNode| Resize::import(node).unwrap();
            let read = Resize { coordinates, ..import(&mut node) };
            let mut written = read.export(&[&[size]], 13);
            (written.opset, node.inputs) = (13, vec![Some(Input::Activation(vec![size]))]);
            written.inputs.insert(0, node.inputs.pop().unwrap());
            assert_eq!(import(&mut written), read, "{size} to {out}");
        }
    }
}

/// Examples of ONNX's documentation.
#[test]
fn examples_by_hand() {
    use Coordinates::{AlignCorners, Asymmetric, HalfPixel};
    let nearest = |mode| move |coordinates| (Mode::Nearest(mode), coordinates);
    let floor = nearest(Nearest::RoundPreferFloor)(HalfPixel);
    let up =
        [1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0];
    let row = [1.0, 2.0, 3.0, 4.0];
    for ((mode, coordinates), x, [h, w], [sh, sw], expected) in [
        (floor, [2, 2], [4, 6], [2.0, 3.0], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0][..]),
        (floor, [1, 4], [1, 2], [1.0, 0.6], &[1.0, 3.0]),
        (floor, [1, 4], [1, 3], [1.0, 0.75], &[1.0, 2.0, 4.0]),
        (
            nearest(Nearest::Ceil)(HalfPixel),
            [1, 4],
            [1, 8],
            [1.0, 2.0],
            &[1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0],
        ),
        (
            nearest(Nearest::Floor)(AlignCorners),
            [1, 4],
            [1, 8],
            [1.0, 2.0],
            &[1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0],
        ),
        (
            nearest(Nearest::RoundPreferCeil)(Asymmetric),
            [1, 4],
            [1, 8],
            [1.0, 2.0],
            &[1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0],
        ),
        ((Mode::Linear, HalfPixel), [2, 2], [4, 4], [2.0, 2.0], &up),
        (
            (Mode::Linear, Asymmetric),
            [1, 4],
            [1, 8],
            [1.0, 2.0],
            &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0],
        ),
        (
            (Mode::Linear, AlignCorners),
            [1, 4],
            [1, 7],
            [1.0, 1.75],
            &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
        ),
    ] {
        let x = Tensor::new([1, 1, x[0], x[1]], row[..x[0] * x[1]].to_vec()).unwrap();
        let (shape, scales) = (vec![1, 1, h, w], vec![1.0, 1.0, sh, sw]);
        let y = Resize { mode, coordinates, shape, scales }.eval_f32(&[&x]);
        assert_eq!(y.data()[..expected.len()], *expected, "{mode:?} {coordinates:?}");
    }
}

fn text(s: &str) -> Attribute {
    Attribute::String(s.into())
}

fn reals(list: &[f32]) -> Option<Input> {
    Some(Input::Real(Tensor::from_vec(list.to_vec())))
}

fn integers(list: &[i64]) -> Option<Input> {
    Some(Input::Ints(Tensor::from_vec(list.to_vec())))
}

/// A node of [1, 2, 4, 6] with further arguments.
fn node(opset: i64, inputs: &[Option<Input>], attributes: &[(&str, Attribute)]) -> OnnxNode {
    let op_type = if opset < 10 { "Upsample" } else { "Resize" };
    let mut node = onnx_node(op_type, &[&[1, 2, 4, 6]], attributes);
    node.opset = opset;
    node.inputs.extend_from_slice(inputs);
    node
}

#[test]
fn every_operator_set() {
    let double = [1.0, 1.0, 2.0, 1.5];
    let scales = ("scales", Attribute::Floats(double.to_vec()));
    let linear = ("mode", text("linear"));
    let (old, new) = (Mode::Nearest(Nearest::Floor), Mode::Nearest(Nearest::RoundPreferFloor));
    let empty = || reals(&[]);
    for (node, mode, coordinates) in [
        (node(7, &[], std::slice::from_ref(&scales)), old, Coordinates::Asymmetric),
        (node(7, &[], &[scales, linear.clone()]), Mode::Linear, Coordinates::Asymmetric),
        (node(9, &[reals(&double)], &[]), old, Coordinates::Asymmetric),
        (node(10, &[reals(&double)], &[]), old, Coordinates::Asymmetric),
        (node(11, &[empty(), reals(&double)], &[]), new, Coordinates::HalfPixel),
        (node(13, &[None, reals(&double)], &[linear]), Mode::Linear, Coordinates::HalfPixel),
        (node(13, &[None, None, integers(&[1, 2, 8, 9])], &[]), new, Coordinates::HalfPixel),
        (node(13, &[None, empty(), integers(&[1, 2, 8, 9])], &[]), new, Coordinates::HalfPixel),
        (
            node(18, &[None, None, integers(&[9, 8])], &[("axes", ints(&[-1, 2]))]),
            new,
            Coordinates::HalfPixel,
        ),
        (
            node(18, &[None, reals(&[1.5, 2.0])], &[("axes", ints(&[3, -2]))]),
            new,
            Coordinates::HalfPixel,
        ),
    ] {
        let mut left = node.clone();
        let expected = resize(mode, coordinates, &[1, 2, 4, 6], &double).op;
        assert_eq!(Op::import(&mut left).unwrap().unwrap(), expected, "{node:?}");
        assert!(left.attributes.is_empty() && left.inputs[1..].iter().all(Option::is_none));
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let double = reals(&[1.0, 1.0, 2.0, 2.0]);
    let with = |name: &str, value| node(13, &[None, double.clone()], &[(name, value)]);
    let mode = |mode: &str| with("coordinate_transformation_mode", text(mode));
    let scales = |list: &[f32]| node(13, &[None, reals(list)], &[]);
    check_refusals([
        (with("mode", text("cubic")), "attribute \"mode\" \"cubic\""),
        (with("nearest_mode", text("round")), "attribute \"nearest_mode\" is \"round\""),
        (mode("tf_crop_and_resize"), "\"coordinate_transformation_mode\" \"tf_crop_and_resize\""),
        (mode("half_pixel_symmetric"), "\"half_pixel_symmetric\""),
        (with("antialias", Attribute::Int(1)), "attribute \"antialias\""),
        (with("exclude_outside", Attribute::Int(1)), "attribute \"exclude_outside\""),
        (with("keep_aspect_ratio_policy", text("not_larger")), "\"not_larger\""),
        (with("axes", ints(&[2, 3])), "expected scales or sizes for axes [2, 3], got 4"),
        (with("axes", ints(&[0, 1, 2, 4])), "axes [0, 1, 2, 4]"),
        (node(13, &[], &[]), "for axes [0, 1, 2, 3], got 0"),
        (node(13, &[None, double.clone(), integers(&[1, 2, 8, 8])], &[]), "both scales and sizes"),
        (node(13, &[None, None, integers(&[1, 2, -8, 8])], &[]), "-8 is not a size"),
        (node(13, &[None, Some(Input::Activation(vec![4]))], &[]), "input 2 must be a constant"),
        (node(7, &[], &[]), "attribute \"scales\" is missing"),
        (scales(&[1.0, 1.0, -2.0, 2.0]), "scale -2 of an axis of 4"),
        (scales(&[1.0, 1.0, f32::NAN, 2.0]), "scale NaN of an axis of 4"),
        (scales(&[1.0, 1.0, f32::INFINITY, 2.0]), "scale inf of an axis of 4"),
    ]);
    let refused_shape = |case: Case| refused(case.op.infer_shape(&[&case.shapes[0]]));
    let of = |mode, x: &[usize], scales: &[f32]| {
        refused_shape(resize(mode, Coordinates::HalfPixel, x, scales))
    };
    let nearest = Mode::Nearest(Nearest::Floor);
    assert!(of(nearest, &[2], &[0.25]).contains("an input of shape [2] cannot become [0]"));
    assert!(of(Mode::Linear, &[2], &[2.0]).contains("only of height and width"));
    let channels = of(Mode::Linear, &[1, 2, 3, 3], &[1.0, 2.0, 1.0, 1.0]);
    assert!(channels.contains("only of height and width"), "{channels}");
}

#[test]
fn linear_between_scales_far_apart_is_refused() {
    let case = resize(Mode::Linear, Coordinates::HalfPixel, &[1, 1, 2, 2], &[1.0, 1.0, 2.0, 2.0]);
    let float = case.graph(0);
    let range = Some(Range { lo: -1.0, hi: 1.0 });
    let graph = quantize(&float, &[range; 2], SCHEMES[0]).unwrap();
    // The factor 2^-17 has shift 40.
    for (scale, fits) in [(2f32.powi(17), true), (2f32.powi(18), false)] {
        let mut graph = graph.clone();
        let x = graph.values[0].quant.clone().unwrap().scale[0];
        graph.values[1].quant.as_mut().unwrap().scale[0] = x * scale;
        let int = Op::lower(&graph.nodes[0].op, &mut lowering(&graph));
        assert_eq!(int.is_ok(), fits, "{scale}");
    }
    lower(&graph).unwrap();
}

fn lowering(graph: &crate::testing::graph::Graph) -> Lowering<'_> {
    let operand = |v: usize| crate::ops::Operand {
        shape: &graph.values[v].shape,
        order: Order::ChannelsLast,
        quant: graph.values[v].quant.as_ref().unwrap(),
    };
    Lowering {
        inputs: vec![operand(0)],
        constants: vec![None],
        output: operand(1),
        clamp: (-128, 127),
    }
}

/// 15 · (31 / 15) is 31 in 32 bits, and a little less in more: sizes say what is meant.
#[test]
fn scales_are_written_only_where_they_mean_one_size() {
    for (size, out, as_scales) in [(15, 31, false), (6, 7, false), (4, 8, true), (10, 5, true)] {
        let (shape, scale) = (vec![1, 1, 2, out], out as f32 / size as f32);
        let (mode, coordinates) = (Mode::Nearest(Nearest::Floor), Coordinates::Asymmetric);
        let op = Resize { mode, coordinates, shape, scales: vec![1.0, 1.0, 1.0, scale] };
        let written = op.export(&[&[1, 1, 2, size]], 13).inputs;
        let has_scales = matches!(written.get(1), Some(Some(Input::Real(_))));
        assert_eq!(has_scales, as_scales, "{size} to {out}: {written:?}");
    }
}
