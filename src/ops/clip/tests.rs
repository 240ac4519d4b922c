use super::*;
use crate::ops::Op;
use crate::ops::onnx_node::Attribute;
use crate::quant::Width;
use crate::testing::*;

fn define(op: &Op, inputs: &[Tensor<f64>]) -> Fractions<f64> {
    let Op::Clip(Clip { lo, hi }) = *op else { unreachable!() };
    inputs[0].map(|&x| (x.max(lo as f64).min(hi as f64), 1.0))
}

fn cases() -> Vec<Case> {
    const INF: f32 = f32::INFINITY;
    let limits = [(0.0, INF), (0.0, 6.0), (0.5, 2.0), (-INF, -0.25), (-1.0, -1.0), (-INF, INF)];
    limits.map(|(lo, hi)| case(Op::Clip(Clip { lo, hi }), &[&[256]])).into()
}

#[test]
fn equals_the_definition() {
    check_real(&cases(), define);
    assert!(Clip::RELU.apply(f32::NAN).is_nan());
}

/// Every code, against DequantizeLinear, Clip and QuantizeLinear of ONNX in `f64`, which tells the exact
/// quotients of codes apart; and within half a step of the real result, or at the end of the codes.
#[test]
fn all_256_codes() {
    for (seed, case) in cases().iter().enumerate() {
        let Op::Clip(Clip { lo, hi }) = case.op else { unreachable!() };
        for clamp in [Clip::NONE, Clip { lo: 0.1, hi: 1.0 }] {
            let float = case.clone().clamp(clamp.lo, clamp.hi).graph(seed as u64);
            let inputs = random_inputs(&float, &mut Rng(seed as u64), 3.0);
            let (_, ranges) = run_float(&float, &inputs);
            let of_8_bits = |graph: &crate::testing::graph::Graph| {
                [0, 1].iter().all(|&v| graph.values[v].quant.as_ref().unwrap().width == Width::W8)
            };
            for graph in quantizations(&float, &ranges).filter(of_8_bits) {
                let [x, y] = [0, 1].map(|v| graph.values[v].quant.as_ref().unwrap());
                let quantize = |real: f32| {
                    ((real / y.scale[0]).round_ties_even() + y.zero_point as f32)
                        .clamp(-128.0, 127.0)
                };
                let codes: Vec<i32> = (-128..=127).collect();
                let result = run_int(&graph, &[Tensor::from_vec(codes.clone())]);
                for (code, &result) in codes.into_iter().zip(result.data()) {
                    let real = (code - x.zero_point) as f64 * x.scale[0] as f64;
                    let steps = (real / y.scale[0] as f64).round_ties_even() as f32;
                    let expected = (steps + y.zero_point as f32).clamp(-128.0, 127.0);
                    let expected = expected.max(quantize(lo)).min(quantize(hi));
                    let expected = expected.max(quantize(clamp.lo)).min(quantize(clamp.hi));
                    let context = format!("{case:?} {clamp:?} {x:?} {y:?} code {code}");
                    assert_eq!(result as f32, expected, "{context}");
                    let exact = (code - x.zero_point) as f64 * x.scale[0] as f64;
                    let exact = exact.max(lo as f64).min(hi as f64) / y.scale[0] as f64;
                    if clamp == Clip::NONE && !matches!(result, -128 | 127) {
                        let distance = (result as f64 - y.zero_point as f64 - exact).abs();
                        assert!(distance <= 0.5 + 1e-4, "{distance}, {context}");
                    }
                }
            }
        }
    }
}

fn node(opset: i64, limits: [Option<Input>; 2], attributes: &[(&str, Attribute)]) -> OnnxNode {
    let mut node = onnx_node("Clip", &[&[3]], attributes);
    node.opset = opset;
    node.inputs.extend(limits);
    node
}

#[test]
fn limits_are_attributes_before_opset_11_and_arguments_after() {
    let number = |x: f32| Some(Input::Real(Tensor::new([], vec![x]).unwrap()));
    let old = [("min", Attribute::Float(-1.0)), ("max", Attribute::Float(2.0))];
    let import = |mut node: OnnxNode| Clip::import(&mut node).unwrap();
    assert_eq!(import(node(6, [None, None], &old)), Clip { lo: -1.0, hi: 2.0 });
    assert_eq!(import(node(6, [None, None], &[])), Clip::NONE);
    assert_eq!(import(node(13, [number(-1.0), number(2.0)], &[])), Clip { lo: -1.0, hi: 2.0 });
    assert_eq!(import(node(13, [None, number(2.0)], &[])), Clip { hi: 2.0, ..Clip::NONE });
    let vector = Some(Input::Real(Tensor::from_vec(vec![1.0, 2.0])));
    let computed = Some(Input::Activation(vec![]));
    check_refusals([
        (node(13, [vector, None], &[]), "input 1 must be one constant number"),
        (node(13, [None, computed], &[]), "input 2 must be one constant number"),
        (node(13, [number(2.0), number(1.0)], &[]), "limits 2 and 1"),
        (node(13, [number(f32::NAN), None], &[]), "limits NaN"),
        (node(6, [None, None], &[("min", Attribute::Int(0))]), "min"),
    ]);
}
