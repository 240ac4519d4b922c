use super::*;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::graph::{Constant, Graph};
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

fn define(_: &Op, inputs: &[Tensor<f64>]) -> Fractions<f64> {
    tabulate(inputs[0].shape(), |y| {
        let x = at(&inputs[0], y);
        (if x < 0.0 { broadcast_at(&inputs[1], y) * x } else { x }, 1.0)
    })
}

fn prelu(x: &[usize], slope: &[usize]) -> Case {
    case(Op::PRelu(PRelu), &[x, slope])
}

fn cases() -> Vec<Case> {
    let image: &[usize] = &[2, 3, 4, 5];
    let mut cases = vec![
        prelu(&[256], &[1]),
        prelu(&[17], &[17]),
        prelu(&[3, 5], &[]),
        prelu(&[3, 5], &[3, 1]),
        prelu(image, &[3, 1, 1]).clamp(-0.1, 0.5),
    ];
    for slope in [&[1][..], &[3, 1, 1], &[1, 3, 1, 1], &[5], &[4, 1], &[3, 4, 5], image] {
        cases.extend([prelu(image, slope), prelu(image, slope).channels_last(0)]);
    }
    cases
}

#[test]
fn equals_the_definition() {
    check_real(&cases(), define);
}

/// Each sign has a factor of its own: the exact product, rounded once.
#[test]
fn codes_equal_the_definition() {
    for (seed, case) in cases().iter().enumerate() {
        let float = case.graph(seed as u64);
        let mut rng = Rng(seed as u64);
        let (_, ranges) = run_float(&float, &random_inputs(&float, &mut rng, 3.0));
        for graph in quantizations(&float, &ranges) {
            for pattern in PATTERNS {
                let codes = pattern_codes(&graph, &mut rng, pattern).remove(0);
                check_codes(&graph, &codes, &format!("{case:?}, seed {seed}, {pattern:?}"));
            }
        }
    }
}

fn check_codes(graph: &Graph, codes: &Tensor<i32>, context: &str) {
    let node = &graph.nodes[0];
    let quant = |v: usize| graph.values[v].quant.as_ref().unwrap();
    let (x, slopes, y) = (quant(node.inputs[0]), quant(node.inputs[1]), quant(node.output));
    let Some(Constant::Codes(slope)) = &graph.values[node.inputs[1]].constant else {
        unreachable!()
    };
    let slope = &slope.widened();
    let real_slopes = graph.values[node.inputs[1]].to_real().unwrap();
    // The scale of each slope, as if it were its own.
    let scales = tabulate(slope.shape(), |at| {
        let channel = if slopes.scale.len() > 1 { at[0] } else { 0 };
        slopes.scale[channel]
    });
    let limit = |real: f32| (real / y.scale[0]).round_ties_even() + y.zero_point as f32;
    let (lo, hi) = (limit(node.clamp.lo), limit(node.clamp.hi));
    let result = run_int(graph, std::slice::from_ref(codes));
    let expected = tabulate(codes.shape(), |position| {
        let x_code = at(codes, position) - x.zero_point;
        let (product, factor) = match x_code < 0 {
            false => (x_code, x.scale[0] / y.scale[0]),
            true => {
                let factor = (x.scale[0] * broadcast_at(&scales, position)) / y.scale[0];
                (x_code * broadcast_at(slope, position), factor)
            }
        };
        // An f32 of at least 2^-39 is an integer in units of 2^-62.
        let units = factor as f64 * 2f64.powi(62);
        let steps = rounded(product as i128 * units as i128, 1 << 62);
        let real = x_code as f64 * x.scale[0] as f64;
        let slope = if x_code < 0 { broadcast_at(&real_slopes, position) as f64 } else { 1.0 };
        let distance = (steps as f64 - real * slope / y.scale[0] as f64).abs();
        assert!(distance <= 0.5 + 2f64.powi(-22) * steps.abs().max(1) as f64, "{context}");
        let (lowest, highest) = y.code_range();
        let code = (steps + y.zero_point as i128).clamp(lowest.into(), highest.into()) as f32;
        code.max(lo).min(hi) as i32
    });
    assert_eq!(result, expected, "{context}");
}

#[test]
fn what_does_not_fit_is_refused() {
    for slope in [&[2][..], &[3, 4], &[2, 3]] {
        let message = refused(PRelu.infer_shape(&[&[3], slope]));
        assert!(message.contains("broadcast"), "{message}");
    }
    let float = prelu(&[4], &[1]).graph(0);
    for (x, y) in [(1.0, 1e-8), (1e-5, 1e8)] {
        let ranges = [None, Some(x), Some(y)].map(|hi| hi.map(|hi| Range { lo: -hi, hi }));
        let order = [ranges[1], ranges[0], ranges[2]];
        let graph = quantize(&float, &order, SCHEMES[2]).unwrap();
        let message = refused(lower(&graph));
        assert!(message.starts_with("in node \"n0\" (PRelu): rescaling factor"), "{message}");
    }
    let mut net = Net::new(0);
    let (x, slope) = (net.input(&[4]), net.input(&[4]));
    let y = net.node(Op::PRelu(PRelu), &[x, slope]);
    let graph = net.finish(&[y]);
    let ranges = [Some(Range { lo: -1.0, hi: 1.0 }); 3];
    let message = refused(lower(&quantize(&graph, &ranges, SCHEMES[0]).unwrap()));
    assert!(message.contains("must be a quantized constant"), "{message}");
}
