use super::*;
use crate::ops::{IntOp, Op};
use crate::quant::{QuantParams, Width};
use crate::testing::graph::Graph;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// The positions of the elements that are normalized together with that at `position`.
fn group(kind: Kind, x: &[usize], position: &[usize]) -> Vec<Vec<usize>> {
    let free = |axis: usize| match kind {
        Kind::Layer { axis: first } | Kind::Rms { axis: first } => axis >= first,
        Kind::Groups(_) => axis >= 1,
        Kind::L2 { axis: only } => axis == only,
    };
    let sizes: Vec<usize> = (0..x.len()).map(|axis| if free(axis) { x[axis] } else { 1 }).collect();
    let all = tabulate(&sizes, |p| {
        let axes = p.iter().zip(position).enumerate();
        axes.map(|(axis, (&free_at, &at))| if free(axis) { free_at } else { at }).collect()
    });
    let same = |p: &&Vec<usize>| match kind {
        Kind::Groups(groups) => p[1] * groups / x[1] == position[1] * groups / x[1],
        _ => true,
    };
    all.data().iter().filter(same).cloned().collect()
}

/// Of the element at `position` scale and offset.
fn affine(op: &Normalize, x: &[usize], position: &[usize]) -> [f64; 2] {
    let index = match op.kind {
        Kind::Layer { axis } | Kind::Rms { axis } => {
            position.iter().zip(x).skip(axis).fold(0, |i, (&p, &size)| i * size + p)
        }
        Kind::Groups(_) => position[1],
        Kind::L2 { .. } => 0,
    };
    [(&op.scale, 1.0), (&op.offset, 0.0)]
        .map(|(list, neutral)| list.get(index).map_or(neutral, |&x| x as f64))
}

/// The element at `position` less the mean, and the square of what that is divided by.
fn parts(op: &Normalize, x: &Tensor<f64>, position: &[usize]) -> [f64; 2] {
    let group = group(op.kind, x.shape(), position);
    let n = group.len() as f64;
    let centered = matches!(op.kind, Kind::Layer { .. } | Kind::Groups(_));
    let mean = group.iter().map(|p| at(x, p)).sum::<f64>() / n * centered as i32 as f64;
    let squares: f64 = group.iter().map(|p| (at(x, p) - mean).powi(2)).sum();
    let divisor = match op.kind {
        Kind::L2 { .. } => squares,
        _ => squares / n + op.epsilon as f64,
    };
    [at(x, position) - mean, divisor]
}

fn real(op: &Normalize, x: &Tensor<f64>, position: &[usize]) -> f64 {
    let ([numerator, square], [scale, offset]) =
        (parts(op, x, position), affine(op, x.shape(), position));
    (if square > 0.0 { numerator / square.sqrt() } else { 0.0 }) * scale + offset
}

fn define(op: &Op, inputs: &[Tensor<f64>]) -> Fractions<f64> {
    let Op::Normalize(op) = op else { unreachable!() };
    tabulate(inputs[0].shape(), |position| (real(op, &inputs[0], position), 1.0))
}

fn normalize(kind: Kind, x: &[usize], with: [bool; 2]) -> Case {
    let plain = Normalize::plain(kind, if let Kind::L2 { .. } = kind { 0.0 } else { 1e-3 });
    let n: usize = plain.affine_shape(x).iter().product();
    let mut rng = Rng(n as u64);
    let [scale, offset] = with.map(|with| match with {
        true => rng.reals(&[n], 2.0).into_data(),
        false => vec![],
    });
    case(Op::Normalize(Normalize { scale, offset, ..plain }), &[x])
}

fn cases() -> Vec<Case> {
    let image: &[usize] = &[2, 6, 3, 5];
    let (none, both) = ([false; 2], [true; 2]);
    let mut cases = vec![
        normalize(Kind::Layer { axis: 1 }, &[5, 16], both),
        normalize(Kind::Layer { axis: 2 }, &[2, 3, 8], [true, false]),
        normalize(Kind::Layer { axis: 0 }, &[1], none),
        normalize(Kind::Layer { axis: 1 }, &[3, 2], [false, true]).clamp(-0.4, 0.5),
        normalize(Kind::Layer { axis: 1 }, image, both).channels_last(0),
        normalize(Kind::Rms { axis: 1 }, &[4, 24], [true, false]),
        normalize(Kind::Rms { axis: 2 }, &[2, 2, 3, 4], both),
        normalize(Kind::L2 { axis: 1 }, &[3, 7], none),
        normalize(Kind::L2 { axis: 1 }, image, none).channels_last(0),
        normalize(Kind::Groups(3), &[2, 3, 9], both),
    ];
    for groups in [1, 2, 6] {
        cases.push(normalize(Kind::Groups(groups), image, both));
        cases.push(normalize(Kind::Groups(groups), image, [groups == 2, false]).channels_last(0));
    }
    cases
}

#[test]
fn equals_the_definition() {
    check_real(&cases(), define);
}

#[test]
fn codes_are_exact_and_near_to_the_real_result() {
    let mut emitted = Vec::new();
    for (seed, case) in cases().iter().enumerate() {
        let float = case.graph(seed as u64);
        let mut rng = Rng(seed as u64);
        for magnitude in [1e-3, 1.0, 1e4] {
            let (_, ranges) = run_float(&float, &random_inputs(&float, &mut rng, magnitude));
            for (n, graph) in quantizations(&float, &ranges).enumerate() {
                if n % 16 != seed % 16 {
                    continue;
                }
                let runs = PATTERNS.map(|pattern| pattern_codes(&graph, &mut rng, pattern));
                for codes in &runs {
                    check_codes(&graph, &codes[0], &format!("{case:?}, {n}, {magnitude}"));
                }
                if n % 48 == seed % 16 {
                    emitted.push((graph, runs.to_vec()));
                }
            }
        }
    }
    check_c(&emitted);
}

fn lowered(graph: &Graph) -> NormalizeInt {
    let nodes = lower(graph).unwrap().nodes;
    nodes
        .into_iter()
        .find_map(|n| if let IntOp::Normalize(int) = n.op { Some(int) } else { None })
        .unwrap()
}

/// The largest root that is at most that of `w`.
fn square_root(w: i128) -> i128 {
    let mut root = (w as f64).sqrt() as i128;
    while root * root > w {
        root -= 1;
    }
    while (root + 1) * (root + 1) <= w {
        root += 1;
    }
    root
}

/// docs/semantics.md, normalize, in `i128`; and the distance that it derives.
fn check_codes(graph: &Graph, codes: &Tensor<i32>, context: &str) {
    let node = &graph.nodes[0];
    let Op::Normalize(op) = &node.op else { unreachable!() };
    let int = lowered(graph);
    let quant = |v: usize| graph.values[v].quant.as_ref().unwrap();
    let (x, y) = (quant(node.inputs[0]), quant(node.output));
    let (x_scale, y_scale) = (x.scale[0] as f64, y.scale[0] as f64);
    let shape = codes.shape();
    let result = run_int(graph, std::slice::from_ref(codes));
    let reals = codes.map(|&q| (q - x.zero_point) as f64 * x_scale);
    let limit = |real: f32| y.quantize(real, 0);
    let (lo, hi) = (limit(node.clamp.lo), limit(node.clamp.hi));
    for (i, &code) in result.data().iter().enumerate() {
        let position: Vec<usize> =
            strides(shape).iter().zip(shape).map(|(step, size)| i / step % size).collect();
        let group = group(op.kind, shape, &position);
        let d = |p: &[usize]| (at(codes, p) - int.x_zero_point) as i128;
        let n = if int.centered { group.len() as i128 } else { 1 };
        let sum = if int.centered { group.iter().map(|p| d(p)).sum() } else { 0 };
        let spread = n * group.iter().map(|p| d(p).pow(2)).sum::<i128>() - sum * sum;
        let f = int.square_shift;
        let scaled = if f >= 0 { spread << f } else { spread >> -f };
        let w = (scaled + int.epsilon as i128).max(1);
        let even = (0..32).find(|even| w << (2 * even) >= 1 << 62).unwrap();
        let reciprocal = (1 << 60) / square_root(w << (2 * even));
        let shift = (int.unit_shift - even).clamp(1, 62);
        let product = (n * d(&position) - sum) * reciprocal;
        assert!(product.abs() < 1 << 62, "{context}");
        let unit = rounded(product, 1 << shift);
        let [scale, offset] = affine(op, shape, &position);
        let channel = |list: &[i32], real: f64| {
            let near = |&&q: &&i32| (q as f64 - real).abs() <= 0.5;
            *list.iter().find(near).unwrap_or_else(|| panic!("{real} in {list:?}, {context}"))
        };
        let rms = if let Kind::Rms { .. } = op.kind { (group.len() as f64).sqrt() } else { 1.0 };
        let unit_bits = 60 - int.unit_shift - f / 2;
        let (shift, up) = (int.shift as i32, int.offset_shift as i32);
        let factor_real = scale * rms / y_scale;
        let factor = channel(&int.factor, factor_real * 2f64.powi(shift - unit_bits)) as i128;
        let added = channel(&int.offset, offset / y_scale * 2f64.powi(shift - up)) as i128;
        let acc = unit * factor + (added << up);
        assert!(acc.abs() < 1 << 62, "{context}");
        let expected = rounded(acc, 1 << shift) + y.zero_point as i128;
        assert_eq!(code as i128, expected.clamp(lo as i128, hi as i128), "{context}");

        let exact = real(op, &reals, &position) / y_scale + y.zero_point as f64;
        let distance = (code as f64 - exact.clamp(lo as f64, hi as f64)).abs();
        let [numerator, square] = parts(op, &reals, &position);
        let unit = if square > 0.0 { numerator / square.sqrt() / rms } else { 0.0 };
        // What V and epsilon are together, in units of the integer.
        let w = w as f64;
        let bound = 0.5
            + (unit * factor_real).abs() * (2f64.powi(-27) + 1.0 / w)
            + factor_real.abs() * 2f64.powi(-unit_bits)
            + unit.abs() * 2f64.powi(unit_bits - 1 - shift)
            + 2f64.powi(up - 1 - shift)
            + 1e-9 * exact.abs().max(1.0);
        assert!(distance <= bound, "{distance} > {bound} for {exact}, {context}");
    }
}

/// The extremes of sizes and scales: sums at their bounds, one code different from all others.
#[test]
fn large_groups_and_tiny_spreads_are_exact() {
    for (kind, shape, width) in [
        (Kind::Layer { axis: 0 }, vec![4096], Width::W16),
        (Kind::Groups(1), vec![1, 2, 128, 31], Width::W16),
        (Kind::Layer { axis: 0 }, vec![2048], Width::W8),
        (Kind::Rms { axis: 0 }, vec![2048], Width::W16),
        (Kind::L2 { axis: 0 }, vec![2048], Width::W16),
    ] {
        for (epsilon, scale) in [(0.0, 1.0), (1e-5, 1e-3), (1e-5, 1e-9), (1e-12, 1e6)] {
            let mut net = Net::new(0);
            let x = net.input(&shape);
            let y = net.node(Op::Normalize(Normalize::plain(kind, epsilon)), &[x]);
            let mut graph = net.finish(&[y]);
            graph.values[x].quant = Some(QuantParams::per_tensor(scale, 3, width));
            graph.values[y].quant = Some(QuantParams::per_tensor(0.02, -7, Width::W16));
            let mut rng = Rng(1);
            let mut lone = Tensor::of(shape.clone(), vec![5; shape.iter().product()]);
            lone.data_mut()[1] += 1;
            let ends = pattern_codes(&graph, &mut rng, Pattern::Ends).remove(0);
            for codes in [lone, ends] {
                check_some(&graph, &codes, &format!("{kind:?} {width} {epsilon} {scale}"));
            }
        }
    }
}

/// As [`check_codes`], of groups so large that few elements will do.
fn check_some(graph: &Graph, codes: &Tensor<i32>, context: &str) {
    let Op::Normalize(op) = &graph.nodes[0].op else { unreachable!() };
    let quant = |v: usize| graph.values[v].quant.as_ref().unwrap();
    let (x, y) = (quant(graph.inputs[0]), quant(graph.outputs[0]));
    let result = run_int(graph, std::slice::from_ref(codes));
    let reals: Vec<f64> =
        codes.data().iter().map(|&q| (q - x.zero_point) as f64 * x.scale[0] as f64).collect();
    let n = reals.len() as f64;
    let centered = lowered(graph).centered as i32 as f64;
    let mean = reals.iter().sum::<f64>() / n * centered;
    let squares: f64 = reals.iter().map(|x| (x - mean).powi(2)).sum();
    let square = match op.kind {
        Kind::L2 { .. } => squares,
        _ => squares / n + op.epsilon as f64,
    };
    let (lowest, highest) = y.code_range();
    for (&code, real) in result.data().iter().zip(&reals) {
        let exact = (real - mean) / square.sqrt() / y.scale[0] as f64 + y.zero_point as f64;
        let distance = (code as f64 - exact.clamp(lowest as f64, highest as f64)).abs();
        let bound = 0.5 + exact.abs() * 2f64.powi(-20) + 1e-2;
        assert!(distance <= bound, "{code} for {exact}, {context}");
    }
}

fn sqnr(real: &[f64], got: &[f64]) -> f64 {
    let noise: f64 = real.iter().zip(got).map(|(a, b)| (a - b).powi(2)).sum();
    10.0 * (real.iter().map(|x| x * x).sum::<f64>() / noise).log10()
}

/// Sixteen tokens, the last a hundred times as large as the first: nothing is lost but what the rounding of
/// the codes of input and output costs.
#[test]
fn unequal_tokens_lose_what_their_codes_lose() {
    const TOKENS: usize = 16;
    const SIZE: usize = 64;
    for kind in [Kind::Layer { axis: 1 }, Kind::Rms { axis: 1 }, Kind::L2 { axis: 1 }] {
        let case = case(Op::Normalize(Normalize::plain(kind, 1e-5)), &[&[TOKENS, SIZE]]);
        let Op::Normalize(op) = &case.op else { unreachable!() };
        let float = case.graph(0);
        let mut x = Rng(5).reals(&[TOKENS, SIZE], 1.0);
        let sizes = (0..TOKENS).map(|t| 0.2 * 100f32.powf(t as f32 / (TOKENS - 1) as f32));
        for (token, size) in x.data_mut().chunks_mut(SIZE).zip(sizes) {
            token.iter_mut().for_each(|x| *x *= size);
        }
        let (_, ranges) = run_float(&float, std::slice::from_ref(&x));
        for width in [Width::W8, Width::W16] {
            let scheme = SCHEMES[3].with_widths(width, Width::W8);
            let graph = quantize(&float, &ranges, scheme).unwrap();
            let quant = |v: usize| graph.values[v].quant.as_ref().unwrap();
            let (x_quant, y_quant) = (quant(graph.inputs[0]), quant(graph.outputs[0]));
            let codes = x.map(|&x| x_quant.quantize(x, 0));
            let of_codes = codes.map(|&q| x_quant.dequantize(q, 0) as f64);
            let got = run_int(&graph, &[codes]).map(|&q| y_quant.dequantize(q, 0) as f64);
            let exact = x.map(|&x| x as f64);
            let [right, ideal] =
                [&exact, &of_codes].map(|x| tabulate(x.shape(), |position| real(op, x, position)));
            let ideal = ideal.map(|&y| y_quant.dequantize(y_quant.quantize(y as f32, 0), 0) as f64);
            for token in 0..TOKENS {
                let [right, ideal, got] =
                    [&right, &ideal, &got].map(|y| &y.data()[token * SIZE..][..SIZE]);
                let (got, ideal) = (sqnr(right, got), sqnr(right, ideal));
                assert!(got > ideal - 1.0, "{kind:?}, {width} bits, {token}: {got} of {ideal} dB");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let quantized = |n: usize, scales: [f32; 2], scale: f32, width: Width| {
        let op =
            Normalize { scale: vec![scale; n], ..Normalize::plain(Kind::Layer { axis: 0 }, 1e-5) };
        let mut net = Net::new(0);
        let x = net.input(&[n]);
        let y = net.node(Op::Normalize(op), &[x]);
        let mut graph = net.finish(&[y]);
        for (v, scale) in [x, y].into_iter().zip(scales) {
            graph.values[v].quant = Some(QuantParams::per_tensor(scale, 0, width));
        }
        lower(&graph)
    };
    let spread = |n| quantized(n, [1.0; 2], 2.0, Width::W16);
    assert!(spread(92_681).is_ok());
    let message = refused(spread(92_682));
    assert!(message.contains("(Normalize): the spread of 92682 codes of 16 bits"), "{message}");
    let message = refused(quantized(1 << 14, [2f32.powi(-60), 1.0], 2.0, Width::W8));
    assert!(message.contains("epsilon 1e-5 is too large beside codes of scale"), "{message}");
    let message = refused(quantized(4, [1.0, 1e-9], 1e12, Width::W8));
    assert!(message.contains("and an offset of 0e0 are too large beside"), "{message}");
    for (kind, shape) in [
        (Kind::Layer { axis: 2 }, &[2, 3][..]),
        (Kind::Groups(2), &[1, 3, 4]),
        (Kind::Groups(1), &[1, 3]),
    ] {
        let message = refused(Normalize::plain(kind, 0.0).infer_shape(&[shape]));
        assert!(message.contains("an input of shape"), "{message}");
    }
    let op = Normalize { scale: vec![1.0; 2], ..Normalize::plain(Kind::Groups(1), 0.0) };
    assert!(refused(op.infer_shape(&[&[1, 3, 4]])).contains("expected 3 factors"));
}

#[test]
fn files_say_it_in_five_ways() {
    let constant =
        |shape: &[usize], x: &[f32]| Some(Input::Real(Tensor::new(shape, x.to_vec()).unwrap()));
    let import = |op_type, opset, shape: &[usize], attributes: &[_], constants: Vec<_>| {
        let mut node = onnx_node(op_type, &[shape], attributes);
        node.opset = opset;
        node.inputs.extend(constants);
        Normalize::import(&mut node)
    };
    let two = [("num_groups", Attribute::Int(2))];
    let scale = [2.0, 3.0];
    let op = import("LayerNormalization", 17, &[2, 4, 2], &[], vec![constant(&[1, 1, 2], &scale)]);
    let layer = Normalize::plain(Kind::Layer { axis: 2 }, 1e-5);
    assert_eq!(op.unwrap(), Normalize { scale: scale.into(), ..layer.clone() });
    let op = import("LayerNormalization", 17, &[2, 4, 2], &[], vec![constant(&[], &[1.0])]);
    assert_eq!(op.unwrap(), layer);
    let affine = || vec![constant(&[2], &scale), constant(&[2], &[0.0, 0.0])];
    let op = import("GroupNormalization", 18, &[1, 4, 5], &two, affine()).unwrap();
    assert_eq!((op.kind, op.scale), (Kind::Groups(2), vec![2.0, 2.0, 3.0, 3.0]));
    assert!(op.offset.is_empty());
    let op = import("LpNormalization", 13, &[1, 4, 5], &[("axis", Attribute::Int(-2))], vec![]);
    assert_eq!(op.unwrap(), Normalize::plain(Kind::L2 { axis: 1 }, 0.0));
    for (op_type, attributes, constants, expected) in [
        ("GroupNormalization", two.to_vec(), affine(), "input 1 of shape [2] for [4]"),
        ("GroupNormalization", vec![("num_groups", Attribute::Int(3))], affine(), "\"num_groups\""),
        ("LpNormalization", vec![("p", Attribute::Int(1))], vec![], "attribute \"p\" is 1"),
        ("LayerNormalization", vec![("axis", Attribute::Int(3))], affine(), "axis 3"),
        ("RMSNormalization", vec![("epsilon", Attribute::Float(f32::NAN))], affine(), "is NaN"),
        ("RMSNormalization", vec![], vec![constant(&[1], &[f32::INFINITY])], "input 1 holds inf"),
        ("RMSNormalization", vec![("stash_type", Attribute::Int(10))], affine(), "\"stash_type\""),
    ] {
        let message = refused(import(op_type, 23, &[1, 4, 5], &attributes, constants));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
