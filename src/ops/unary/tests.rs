use super::*;
use crate::ops::Op;
use crate::quant::{QuantParams, Range};
use crate::testing::quantize::quantize;
use crate::testing::*;

const ALL: [Unary; 31] = [
    Unary::Abs,
    Unary::Atan,
    Unary::Ceil,
    Unary::Celu { alpha: 0.5 },
    Unary::Cos,
    Unary::Floor,
    Unary::Power { exponent: 1.7 },
    Unary::Power { exponent: 3.0 },
    Unary::Round,
    Unary::Selu { alpha: 1.6732632, gamma: 1.050701 },
    Unary::Sign,
    Unary::Sin,
    Unary::Elu { alpha: 1.0 },
    Unary::Elu { alpha: 0.3 },
    Unary::Erf,
    Unary::Exp,
    Unary::Gelu { tanh: false },
    Unary::Gelu { tanh: true },
    Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.25 },
    Unary::HardSwish,
    Unary::LeakyRelu { alpha: 0.01 },
    Unary::LeakyRelu { alpha: -2.0 },
    Unary::Log,
    Unary::Neg,
    Unary::Reciprocal,
    Unary::Sigmoid,
    Unary::Softplus,
    Unary::Sqrt,
    Unary::Tanh,
    Unary::Elu { alpha: 0.0 },
];

/// `e^(−x²) · 2/√π · Σ 2ⁿ x^(2n+1) / (1 · 3 · … · (2n+1))`: no term cancels another.
fn erf(x: f64) -> f64 {
    if x.abs() > 7.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, 0.0);
    for n in 1..400 {
        sum += term;
        term *= 2.0 * x * x / (2 * n + 1) as f64;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// The nearest even integer, plus the nearest of −1, 0 and 1 to what is left: halves to even.
fn rint(x: f64) -> f64 {
    let even = 2.0 * (x / 2.0).round();
    let left = x - even;
    even + (left > 0.5) as i32 as f64 - (left < -0.5) as i32 as f64
}

/// The formulas of ONNX, with the standard library's functions.
fn f(op: Unary, x: f64) -> f64 {
    let sigmoid =
        |x: f64| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) };
    match op {
        Unary::Abs => x.max(-x),
        Unary::Atan => x.atan(),
        Unary::Ceil => -(-x).floor(),
        Unary::Celu { alpha } => {
            let alpha = alpha as f64;
            x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0)
        }
        Unary::Cos => x.cos(),
        Unary::Floor => x - x.rem_euclid(1.0),
        Unary::Power { exponent } => x.powf(exponent as f64),
        Unary::Round => rint(x),
        Unary::Selu { alpha, gamma } => {
            gamma as f64 * if x < 0.0 { alpha as f64 * x.exp_m1() } else { x }
        }
        Unary::Sign => (x > 0.0) as i32 as f64 - (x < 0.0) as i32 as f64,
        Unary::Sin => x.sin(),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                alpha as f64 * x.exp_m1()
            } else {
                x
            }
        }
        Unary::Erf => erf(x),
        Unary::Exp => x.exp(),
        Unary::Gelu { tanh: false } => x * (1.0 + erf(x / 2f64.sqrt())) / 2.0,
        Unary::Gelu { tanh: true } => {
            // tanh(u) = 2 sigmoid(2u) − 1
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            x * sigmoid(2.0 * u)
        }
        Unary::HardSigmoid { alpha, beta } => (alpha as f64 * x + beta as f64).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha as f64 * x
            } else {
                x
            }
        }
        Unary::Log => x.ln(),
        Unary::Neg => 0.0 - x,
        Unary::Reciprocal => x.powi(-1),
        Unary::Sigmoid => sigmoid(x),
        Unary::Softplus => {
            if x > 30.0 {
                x + (-x).exp()
            } else {
                x.exp().ln_1p()
            }
        }
        Unary::Sqrt => {
            if x < 0.0 {
                f64::NAN
            } else {
                x.powf(0.5)
            }
        }
        Unary::Tanh => 1.0 - 2.0 / ((2.0 * x).exp() + 1.0),
    }
}

#[test]
fn reals_equal_the_formula() {
    let x: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 100.0).collect();
    for op in ALL {
        let y = op.eval_f32(&[&Tensor::from_vec(x.clone())]);
        for (&x, &y) in x.iter().zip(y.data()) {
            let expected = f(op, x as f64);
            let same = y as f64 == expected || y.is_nan() && expected.is_nan();
            let error = (y as f64 - expected).abs();
            assert!(
                same || error <= 1e-7 * expected.abs() + 1e-14,
                "{op:?}: {y}, not {expected} at {x}"
            );
        }
        check_round_trip(&case(Op::Unary(op), &[&[2, 3]]).graph(0), &format!("{op:?}"));
    }
}

/// Far from 0 nothing overflows into what is no number.
#[test]
fn limits_are_exact() {
    for (op, [low, high]) in [
        (Unary::Elu { alpha: 1.0 }, [-1.0, 1e30]),
        (Unary::Erf, [-1.0, 1.0]),
        (Unary::Exp, [0.0, f32::INFINITY]),
        (Unary::Gelu { tanh: false }, [0.0, 1e30]),
        (Unary::Gelu { tanh: true }, [0.0, 1e30]),
        (Unary::HardSwish, [0.0, 1e30]),
        (Unary::Sigmoid, [0.0, 1.0]),
        (Unary::Softplus, [0.0, 1e30]),
        (Unary::Tanh, [-1.0, 1.0]),
    ] {
        assert_eq!([op.apply(-1e30), op.apply(1e30)], [low, high], "{op:?}");
    }
    assert_eq!(Unary::Log.apply(0.0), f32::NEG_INFINITY);
    assert_eq!(Unary::Reciprocal.apply(0.0), f32::INFINITY);
}

/// Every code, against DequantizeLinear, `f` and QuantizeLinear of ONNX in `f32`.
#[test]
fn all_256_codes() {
    let codes: Vec<i32> = (-128..=127).collect();
    let ranges = [(-1.0, 1.0), (0.0, 6.0), (-8.0, 8.0), (-0.1, 3.0), (-40.0, 10.0)];
    for op in ALL {
        let float = case(Op::Unary(op), &[&[256]]).clamp(-5.0, 2.0).graph(0);
        for (i, (lo, hi)) in ranges.into_iter().enumerate() {
            let (out_lo, out_hi) = ranges[(i + 2) % ranges.len()];
            let ranges = [Range { lo, hi }, Range { lo: out_lo, hi: out_hi }].map(Some);
            for scheme in [SCHEMES[0], SCHEMES[2]] {
                let mut graph = quantize(&float, &ranges, scheme).unwrap();
                for clamped in [true, false] {
                    if !clamped {
                        graph.nodes[0].clamp = crate::ops::clip::Clip::NONE;
                    }
                    let [x, y] = [0, 1].map(|v| graph.values[v].quant.clone().unwrap());
                    let result = run_int(&graph, &[Tensor::from_vec(codes.clone())]);
                    for (&code, &result) in codes.iter().zip(result.data()) {
                        let real = f(op, ((code - x.zero_point) as f32 * x.scale[0]) as f64);
                        let limits = if clamped { (-5.0, 2.0) } else { (f32::MIN, f32::MAX) };
                        let expected = expected(real as f32, &y, limits);
                        assert_eq!(result, expected, "{op:?}, code {code} of {x:?} to {y:?}");
                    }
                }
            }
        }
    }
}

/// ONNX leaves open what is no number: it is real 0 here.
fn expected(real: f32, y: &QuantParams, (lo, hi): (f32, f32)) -> i32 {
    let code = |real: f32| {
        let steps = (real / y.scale[0]).round_ties_even();
        (steps + y.zero_point as f32).clamp(-128.0, 127.0)
    };
    let code_of_real = if real.is_nan() { y.zero_point as f32 } else { code(real) };
    code_of_real.clamp(code(lo), code(hi)) as i32
}

#[test]
fn every_rank_and_layout() {
    for op in [Unary::Sigmoid, Unary::HardSwish, Unary::Gelu { tanh: false }] {
        for case in [
            case(Op::Unary(op), &[&[]]),
            case(Op::Unary(op), &[&[2, 3, 4, 5]]),
            case(Op::Unary(op), &[&[2, 3, 4, 5]]).channels_last(0),
        ] {
            let float = case.graph(1);
            let ranges = vec![Some(Range { lo: -2.0, hi: 4.0 }); float.values.len()];
            let graph = quantize(&float, &ranges, SCHEMES[2]).unwrap();
            let quant = graph.values[0].quant.as_ref().unwrap();
            let codes = pattern_codes(&graph, &mut Rng(1), Pattern::Any);
            let y = codes[0].map(|&code| {
                let real = f(op, quant.dequantize(code, 0) as f64);
                expected(real as f32, quant, (f32::MIN, f32::MAX))
            });
            assert_eq!(run_int(&graph, &codes), y, "{case:?}");
        }
    }
}

#[test]
fn attributes_have_the_defaults_of_onnx() {
    let import = |op_type, attributes: &[(&str, Attribute)]| {
        let mut node = onnx_node(op_type, &[&[3]], attributes);
        let op = Unary::import(&mut node).unwrap();
        assert!(node.attributes.is_empty());
        op
    };
    assert_eq!(import("Elu", &[]), Unary::Elu { alpha: 1.0 });
    assert_eq!(import("LeakyRelu", &[]), Unary::LeakyRelu { alpha: 0.01 });
    assert_eq!(import("HardSigmoid", &[]), Unary::HardSigmoid { alpha: 0.2, beta: 0.5 });
    assert_eq!(import("Gelu", &[]), Unary::Gelu { tanh: false });
    let none = [("approximate", Attribute::String("none".into()))];
    let selu = Unary::Selu { alpha: 1.673_263_2, gamma: 1.050_701 };
    assert_eq!((import("Selu", &[]), import("Celu", &[])), (selu, Unary::Celu { alpha: 1.0 }));
    assert_eq!(import("Gelu", &none), Unary::Gelu { tanh: false });
    for op_type in Unary::ONNX {
        let mut node = onnx_node(op_type, &[&[3]], &[("delta", Attribute::Int(1))]);
        node.inputs.push(Some(Input::Real(Tensor::from_vec(vec![2.5])))); // the exponent of Pow
        Unary::import(&mut node).unwrap();
        assert_eq!(node.attributes.len(), 1, "{op_type} takes what it does not know");
    }
    let other = [("approximate", Attribute::String("quick".into()))];
    check_refusals([
        (onnx_node("Gelu", &[&[3]], &other), "attribute \"approximate\" is \"quick\""),
        (onnx_node("Elu", &[&[3]], &[("alpha", Attribute::Int(1))]), "alpha"),
        (onnx_node("HardSigmoid", &[&[3]], &[("beta", ints(&[1]))]), "beta"),
    ]);
    assert!(refused(Unary::Abs.infer_shape(&[&[1], &[1]])).contains("expected 1 inputs, got 2"));
}
