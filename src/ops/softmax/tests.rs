use super::*;
use crate::ops::{IntOp, Op};
use crate::quant::Width;
use crate::testing::graph::Graph;
use crate::testing::lower::lower;
use crate::testing::*;

/// Where the elements lie that one softmax runs over, that at `position` among them.
fn lane(x: &[usize], axis: usize, position: &[usize]) -> Vec<Vec<usize>> {
    let along = |j| [&position[..axis], &[j], &position[axis + 1..]].concat();
    (0..x[axis]).map(along).collect()
}

/// `exp(x_i) / Σ_j exp(x_j)`.
fn define(op: &Op, inputs: &[Tensor<f64>]) -> Fractions<f64> {
    let (Op::Softmax(Softmax { axis }), x) = (op, &inputs[0]) else { unreachable!() };
    tabulate(x.shape(), |y| {
        let sum = lane(x.shape(), *axis, y).iter().map(|j| at(x, j).exp()).sum();
        (at(x, y).exp(), sum)
    })
}

fn softmax(axis: usize, x: &[usize]) -> Case {
    case(Op::Softmax(Softmax { axis }), &[x])
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = (0..4).map(|axis| softmax(axis, &[2, 3, 4, 5])).collect();
    cases.extend([
        softmax(0, &[17]),
        softmax(1, &[3, 1]),
        softmax(1, &[1, 200]),
        softmax(1, &[1, 3, 2, 2]).channels_last(0),
    ]);
    cases
}

#[test]
fn equals_the_definition() {
    check_real(&cases(), define);
}

#[test]
fn codes_are_the_rounded_quotients_of_the_table() {
    for (seed, case) in cases().iter().enumerate() {
        let float = case.graph(seed as u64);
        let mut rng = Rng(seed as u64);
        for magnitude in [1e-3, 1.0, 8.0, 1e4] {
            let (_, ranges) = run_float(&float, &random_inputs(&float, &mut rng, magnitude));
            for (n, mut graph) in quantizations(&float, &ranges).enumerate() {
                // The range of results is fixed; a file may still bring other parameters.
                if n % 2 == 1 {
                    let quant = graph.values[graph.nodes[0].output].quant.as_mut().unwrap();
                    (quant.scale[0], quant.zero_point) = (0.013, -7);
                }
                for pattern in PATTERNS {
                    let codes = pattern_codes(&graph, &mut rng, pattern);
                    check_codes(&graph, &codes[0], &format!("{case:?}, seed {seed}, {magnitude}"));
                }
            }
        }
    }
}

/// The table is the rounded exponential, and the rest is exact: each code is the rounded quotient of
/// entries. An entry is wrong by 1/2 at most (for 16-bit codes, the product of two, by twice that and a
/// little: so is the bound), and that of the maximum, 2^23, not at all; so the sum
/// of `n` is at least 2^23 and wrong by (n − 1)/2 at most, and the quotient by
/// (1/2 + (n − 1)/2) / 2^23 = n · 2^-24. A code is within `1/2 + n · 2^-24 / y_scale` steps, and the
/// rounding of `1 / y_scale` to 24 bits adds 2^-24 of the quotient.
fn check_codes(graph: &Graph, codes: &Tensor<i32>, context: &str) {
    let node = &graph.nodes[0];
    let Op::Softmax(Softmax { axis }) = node.op else { unreachable!() };
    let nodes = lower(graph).unwrap().nodes;
    let int = nodes.iter().find_map(|n| match &n.op {
        IntOp::Softmax(int) => Some(int),
        _ => None,
    });
    let SoftmaxInt { fine, coarse, .. } = int.unwrap();
    let table = |d: usize| rounded(coarse[d >> 8] as i128 * fine[d & 255] as i128, 1 << 30);
    let [x, y] = [node.inputs[0], node.output].map(|v| graph.values[v].quant.as_ref().unwrap());
    let (x_scale, y_scale, zero) = (x.scale[0] as f64, y.scale[0] as f64, y.zero_point as f64);
    let wrong = if x.width == Width::W8 { 0.5 } else { 1.0 + 2f64.powi(-8) };
    for d in 0..1 << x.width.bits() {
        let exact = (-(d as f64) * x_scale).exp() * 2f64.powi(23);
        let entry = table(d);
        assert!((entry as f64 - exact).abs() <= wrong + 1e-6, "exp(-{d} · {x_scale}) is {entry}");
    }
    assert_eq!(table(0), 1 << 23);

    let result = run_int(graph, std::slice::from_ref(codes));
    let factor = (1.0 / y.scale[0]) as f64 * 2f64.powi(40);
    assert_eq!(factor.fract(), 0.0);
    let expected = tabulate(codes.shape(), |position| {
        let lane = lane(codes.shape(), axis, position);
        let max = lane.iter().map(|j| at(codes, j)).max().unwrap();
        let exp = |j: &[usize]| table((max - at(codes, j)) as usize);
        let sum: i128 = lane.iter().map(|j| exp(j)).sum();
        let steps = rounded(exp(position) * factor as i128, sum << 40);

        let real = |j: &[usize]| (at(codes, j) as f64 * x_scale - max as f64 * x_scale).exp();
        let exact = real(position) / lane.iter().map(|j| real(j)).sum::<f64>() / y_scale;
        let (lowest, highest) = y.code_range();
        let nearest = exact.clamp(lowest as f64 - zero, highest as f64 - zero);
        let n = 2.0 * wrong * lane.len() as f64;
        let distance = (at(&result, position) as f64 - zero - nearest).abs();
        let bound = 0.5 + n * 2f64.powi(-24) / y_scale + exact * 2f64.powi(-23);
        assert!(distance <= bound, "{distance} > {bound}, {context}");
        (steps + y.zero_point as i128).clamp(lowest.into(), highest.into()) as i32
    });
    assert_eq!(result, expected, "{context}");
}

#[test]
fn parameters_out_of_range_are_refused() {
    let message = refused(Softmax { axis: 2 }.infer_shape(&[&[2, 3]]));
    assert!(message.contains("axis 2 of shape [2, 3]"), "{message}");
    let float = softmax(0, &[3]).graph(0);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
    let mut graph = quantizations(&float, &ranges).next().unwrap();
    for scale in [1e-9, 1e9] {
        graph.values[1].quant.as_mut().unwrap().scale[0] = scale;
        let message = refused(lower(&graph));
        assert!(message.starts_with("in node \"n0\" (Softmax): output scale"), "{message}");
    }
}

#[test]
fn axes_follow_the_opset() {
    let node = |opset, shape: &[usize], axis: Option<i64>| {
        let axis = axis.map(|axis| ("axis", Attribute::Int(axis)));
        let mut node = onnx_node("Softmax", &[shape], axis.as_slice());
        node.opset = opset;
        node
    };
    for (opset, shape, axis, expected) in [
        (13, &[2, 3, 4][..], None, 2),
        (13, &[2, 3, 4], Some(-3), 0),
        (11, &[2, 3], None, 1),
        (11, &[2, 3, 1, 1], None, 1),
        (11, &[2, 3, 4], Some(-1), 2),
    ] {
        let op = Softmax::import(&mut node(opset, shape, axis)).unwrap();
        assert_eq!(op.axis, expected, "opset {opset}, {shape:?}, {axis:?}");
    }
    check_refusals([
        (node(11, &[2, 3, 4], None), "softmax over axes 1.. of shape [2, 3, 4]"),
        (node(13, &[2, 3], Some(2)), "axis 2"),
        (node(13, &[2, 3], Some(-3)), "axis -3"),
    ]);
}
