mod losses;
mod masks;
mod outputs;
mod rewrites;

use std::sync::Arc;

use super::*;
use crate::graph::{Part, Value, ValueId};
use crate::lower::lower;
use crate::ops::Op;
use crate::ops::Window;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::reshape::Reshape;
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::quant::{Granularity, Preset, Scheme, Width};
use crate::testing::{Net, Rng, SCHEMES, random_inputs, refused, run_float, run_int};

const POINTWISE: Op = Op::Conv(Conv {
    window: Window {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pads: [0; 4],
        ceil_mode: false,
    },
    group: 1,
});
const ADD: Op = Op::Add(Add { subtract: false });

fn quant(graph: &Graph, v: ValueId) -> &QuantParams {
    graph.values[v].quant.as_ref().unwrap()
}

fn symmetric(max: f32) -> Option<Range> {
    Some(Range { lo: -max, hi: max })
}

/// `x` of one pixel and two channels through two channels of weights, and biases.
fn layer(weight: [f32; 4], bias: [f32; 2]) -> Graph {
    let mut net = Net::new(0);
    let x = net.input(&[1, 2, 1, 1]);
    let weight = net.constant(Tensor::new([2, 2, 1, 1], weight.to_vec()).unwrap());
    let bias = net.constant(Tensor::from_vec(bias.to_vec()));
    let y = net.node(POINTWISE, &[x, weight, bias]);
    net.finish(&[y])
}

/// Zero weights beside a large bias, zero inputs, and results that were always zero.
#[test]
fn what_is_all_zero_has_codes_too() {
    for scheme in SCHEMES {
        for (weight, bias, x_max, y_max) in [
            ([0.0, 0.0, 0.5, -0.25], [1000.0, 0.0], 1.0, 1000.0),
            ([0.0; 4], [-3e4, 3e4], 1e-3, 3e4),
            ([0.0; 4], [0.0; 2], 1.0, 1.0),
            ([1e-30, 0.0, 1e-20, 0.0], [5.0, -5.0], 1.0, 5.0),
            ([0.5, 0.25, 0.5, -0.25], [1.0, -1.0], 0.0, 1.0),
            ([0.5, 0.25, 0.5, -0.25], [0.0; 2], 1.0, 0.0),
            ([0.0; 4], [0.0; 2], 0.0, 0.0),
        ] {
            let float = layer(weight, bias);
            let (x, y) = (float.inputs[0], float.outputs[0]);
            let mut ranges = vec![None; float.values.len()];
            (ranges[x], ranges[y]) = (symmetric(x_max), symmetric(y_max));
            let graph = quantize(&float, &ranges, scheme).unwrap();
            let extremes = if x_max == 0.0 { vec![0, 0] } else { vec![127, -128] };
            let codes = Tensor::new([1, 2, 1, 1], extremes).unwrap();
            let real = codes.map(|&c| quant(&graph, x).dequantize(c, 0));
            let (expected, _) = run_float(&float, &[real]);
            let result = run_int(&graph, &[codes]);
            for (&code, &expected) in result.data().iter().zip(expected[0].data()) {
                let scale = quant(&graph, y).scale[0];
                let loss = (quant(&graph, y).dequantize(code, 0) - expected).abs();
                // Where the observed range is empty, results clip to nearly nothing.
                let bound = if y_max == 0.0 { expected.abs() } else { 1.01 * scale };
                assert!(loss <= bound, "{weight:?} {bias:?} {scheme:?}: {code} for {expected}");
            }
        }
    }
}

#[test]
fn weights_use_their_codes_along_the_right_axis() {
    for (op, shape, axis) in [
        (POINTWISE, &[5, 3, 1, 1][..], 0),
        (Op::Linear(Linear { transposed: false }), &[3, 5], 1),
        (Op::Linear(Linear { transposed: true }), &[5, 3], 0),
    ] {
        for scheme in SCHEMES {
            let mut net = Net::new(1);
            let x = net.input(if axis == 0 && shape.len() == 4 { &[1, 3, 2, 2] } else { &[2, 3] });
            let (w, b) = (net.random(shape), net.random(&[5]));
            let y = net.node(op.clone(), &[x, w, b]);
            let float = net.finish(&[y]);
            let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
            let graph = quantize(&float, &ranges, scheme).unwrap();
            let params = quant(&graph, w);
            let granularity = match scheme.per_channel {
                true => Granularity::PerChannel { axis },
                false => Granularity::PerTensor,
            };
            let got = (params.granularity, params.width, params.zero_point);
            assert_eq!(got, (granularity, scheme.weight_width, 0));
            assert_eq!(params.scale.len(), if scheme.per_channel { 5 } else { 1 });
            let Some(Constant::Codes(codes)) = &graph.values[w].constant else { unreachable!() };
            let codes = codes.widened();
            let real = float.real_constant(w).unwrap().data();
            let read = params.dequantize_all(codes.data(), shape);
            let mut largest = vec![0; params.scale.len()];
            for (i, (&real, &read)) in real.iter().zip(&read).enumerate() {
                let channel = if axis == 0 { i / 3 } else { i % 5 } % largest.len();
                let step = params.scale[channel];
                // Largest weights may clip by half a step where -128..127 is not symmetric.
                assert!((real - read).abs() <= step * 1.001, "{real} became {read}");
                largest[channel] = largest[channel].max(codes.data()[i].abs());
            }
            let (_, highest) = params.code_range();
            let powers = params.scale.iter().all(|s| s.log2().fract() == 0.0);
            match scheme.preset {
                Preset::Shift => {
                    assert!(powers && largest.iter().all(|&c| c > highest / 2), "{largest:?}")
                }
                Preset::Scale => assert!(largest.iter().all(|&c| c == highest), "{largest:?}"),
            }
            let products = params.scale.iter().map(|s| quant(&graph, x).scale[0] * s);
            assert_eq!(quant(&graph, b).scale, products.collect::<Vec<_>>());
            assert_eq!((quant(&graph, b).width, quant(&graph, b).zero_point), (Width::W32, 0));
        }
    }
}

#[test]
fn what_copies_codes_keeps_their_parameters() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 3, 4, 4]);
    let pooled = net.node(Op::MaxPool(MaxPool(Window::new([2, 2]))), &[x]);
    let moved = net.node(Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }), &[pooled]);
    let flat = net.node(Op::Reshape(Reshape { shape: vec![1, 27] }), &[moved]);
    let y = net.node(Op::Softmax(Softmax { axis: 1 }), &[flat]);
    let float = net.finish(&[y]);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
    for scheme in SCHEMES {
        let graph = quantize(&float, &ranges, scheme).unwrap();
        for v in [pooled, moved, flat] {
            assert_eq!(quant(&graph, v), quant(&graph, x));
        }
        let largest = ranges[y].unwrap().hi;
        assert!(largest < 0.25);
        assert_eq!(*quant(&graph, y), scheme.unit_up_to(largest));
    }
}

/// A constant so small beside its partner that its last bits would take the sum beyond 64.
#[test]
fn small_summands_are_taken_in_codes_that_a_sum_can_hold() {
    for scheme in SCHEMES {
        for small in [1e-3, 1e-5, 1e-8, -1e-12, 1e-30] {
            let mut net = Net::new(0);
            let x = net.input(&[4]);
            let b = net.constant(Tensor::from_vec(vec![small, small / 2.0, 0.0, small]));
            let y = net.node(ADD, &[x, b]);
            let float = net.finish(&[y]);
            let mut ranges = vec![None; float.values.len()];
            (ranges[x], ranges[y]) = (symmetric(100.0), symmetric(100.0));
            let graph = quantize(&float, &ranges, scheme).unwrap();
            assert!(lower(&graph).is_ok(), "{small} under {scheme:?}");
            let codes = Tensor::from_vec(vec![0, 1, -1, 100]);
            let (sum, step) =
                (run_int(&graph, std::slice::from_ref(&codes)), quant(&graph, y).scale[0]);
            for (&sum, &code) in sum.data().iter().zip(codes.data()) {
                let off =
                    quant(&graph, y).dequantize(sum, 0) - quant(&graph, x).dequantize(code, 0);
                assert!(off.abs() <= small.abs() + 0.51 * step, "{small} under {scheme:?}: {off}");
            }
        }
    }
}

#[test]
fn a_constant_operand_has_the_range_of_its_numbers() {
    let mut net = Net::new(0);
    let x = net.input(&[4]);
    let c = net.constant(Tensor::from_vec(vec![0.0, 0.5, 1.0, 2.55]));
    let y = net.node(ADD, &[x, c]);
    let float = net.finish(&[y]);
    let mut ranges = vec![None; 3];
    (ranges[x], ranges[y]) = (symmetric(1.0), symmetric(3.0));
    let graph = quantize(&float, &ranges, SCHEMES[2]).unwrap();
    assert_eq!(*quant(&graph, c), QuantParams::per_tensor(2.55 / 255.0, -128, Width::W8));
    let codes = CodeTensor::I8(Tensor::from_vec(vec![-128, -78, -28, 127]));
    assert_eq!(graph.values[c].constant, Some(Constant::Codes(codes)));
}

/// Two layers share weight and bias, but neither the scale of their inputs nor so that of the bias.
#[test]
fn shared_constants_get_codes_for_each_user() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 3, 2, 2]);
    let (w, b) = (net.random(&[3, 3, 1, 1]), net.random(&[3]));
    let between = net.node(POINTWISE, &[x, w, b]);
    let between = net.node(ADD, &[between, w]);
    let y = net.node(POINTWISE, &[between, w, b]);
    let float = net.finish(&[y]);
    let inputs = random_inputs(&float, &mut Rng(0), 9.0);
    let (expected, ranges) = run_float(&float, &inputs);
    let graph = quantize(&float, &ranges, SCHEMES[3]).unwrap();
    let users = [0, 2].map(|n| &graph.nodes[n].inputs);
    assert!(users[0][1..].iter().all(|v| !users[1].contains(v)));
    let scales = users.map(|inputs| &quant(&graph, inputs[2]).scale);
    assert_ne!(scales[0], scales[1]);
    let int = lower(&graph).unwrap();
    let result = crate::exec::int::IntExecutor::new(&int).run(&inputs).unwrap();
    let largest = ranges[y].unwrap().max_abs();
    for (a, b) in result[0].data().iter().zip(expected[0].data()) {
        assert!((a - b).abs() < 0.03 * largest, "{a} for {b}");
    }
}

#[test]
fn what_has_no_codes_is_named() {
    let float = layer([1.0; 4], [0.0; 2]);
    let (x, w, y) = (float.inputs[0], float.nodes[0].inputs[1], float.outputs[0]);
    let mut ranges = vec![None; float.values.len()];
    let attempt = |graph: &Graph, ranges: &[_]| refused(quantize(graph, ranges, SCHEMES[0]));
    assert_eq!(attempt(&float, &[]), "value \"v0\" was not calibrated");
    ranges[x] = symmetric(1.0);
    let expected = "in node \"n0\" (Conv): value \"v3\" was not calibrated";
    assert_eq!(attempt(&float, &ranges), expected);
    ranges[y] = symmetric(1.0);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut broken = float.clone();
        let weight = Tensor::new([2, 2, 1, 1], vec![1.0, bad, 1.0, 1.0]).unwrap();
        broken.values[w] = Value::real("kernel", weight);
        let expected = format!("in node \"n0\" (Conv): constant \"kernel\" holds {bad}");
        assert_eq!(attempt(&broken, &ranges), expected);
    }
}

/// Steps between the choice of parameters and their use may change either, or the rounding.
#[test]
fn parameters_and_rounding_are_data() {
    let float = layer([0.5, 0.25, 0.5, -0.25], [1.0, -1.0]);
    let (x, w, y) = (float.inputs[0], float.nodes[0].inputs[1], float.outputs[0]);
    let mut ranges = vec![None; float.values.len()];
    (ranges[x], ranges[y]) = (symmetric(1.0), symmetric(2.0));
    let mut params = choose_params(&float, &ranges, &SCHEMES[2].into()).unwrap();
    let nearest = apply(&float, &params, &Rounding::default()).unwrap();
    assert_eq!(nearest, quantize(&float, &ranges, SCHEMES[2]).unwrap());
    let mut rounding = Rounding::default();
    rounding.0.insert((0, 1), vec![1, 2, -3, 4]);
    let chosen = apply(&float, &params, &rounding).unwrap();
    let codes = CodeTensor::new(Width::W8, Tensor::new([2, 2, 1, 1], vec![1, 2, -3, 4]).unwrap());
    assert_eq!(chosen.values[w].constant, Some(Constant::Codes(codes)));
    assert_eq!(quant(&chosen, w), quant(&nearest, w));
    params.values[y] = Some(QuantParams::per_tensor(0.5, 3, Width::W8));
    let wider = apply(&float, &params, &Rounding::default()).unwrap();
    assert_eq!(*quant(&wider, y), QuantParams::per_tensor(0.5, 3, Width::W8));
    for (codes, expected) in [
        (vec![1, 2, 3], "does not hold 3 elements"),
        (vec![0, 0, 0, 128], "128 is not a 8-bit code"),
    ] {
        rounding.0.insert((0, 1), codes);
        let message = refused(apply(&float, &params, &rounding));
        assert!(message.starts_with("in node \"n0\" (Conv): "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_was_not_calibrated_is_refused() {
    let graph = layer([1.0; 4], [0.0; 2]);
    let observer = Observer::new(&graph);
    let session = |calibrator| {
        refused(Session::new(graph.clone(), &observer, calibrator, SCHEMES[0]).map(|_| ()))
    };
    assert_eq!(session(Calibrator::MinMax), "calibration has seen no samples");
    let percentile = session(Calibrator::Percentile(0.0));
    assert_eq!(percentile, "percentile 0: expected more than 0, at most 100");
}

/// Each reads codes of its own.
#[test]
fn a_constant_has_not_too_many_users() {
    let graph = |users: usize| {
        let mut net = Net::new(0);
        let (x, w) = (net.input(&[1 << 20]), net.constant(Tensor::from_vec(vec![1.0; 1 << 20])));
        let y = (0..users).fold(x, |y, _| net.node(ADD, &[y, w]));
        net.finish(&[y])
    };
    let chosen = |graph: &Graph| {
        choose_params(graph, &vec![symmetric(1.0); graph.values.len()], &SCHEMES[3].into())
    };
    assert!(chosen(&graph(65)).is_ok());
    let error = refused(chosen(&graph(1000)));
    assert!(error.starts_with("in node \"n65\" (Add): unsupported: constant \""), "{error}");
    assert!(error.contains("has too many users"), "{error}");
}

/// A convolution, its bias and a Relu are one node: it is found by the name and type of each part.
#[test]
fn rules_choose_widths_by_name_type_and_value() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 2, 4, 4]);
    let (weight, bias) = (net.random(&[3, 2, 1, 1]), net.random(&[1, 3, 1, 1]));
    let conv = net.node(Op::Conv(Conv { window: Window::new([1, 1]), group: 1 }), &[x, weight]);
    let sum = net.node(Op::Add(Add { subtract: false }), &[conv, bias]);
    let relu = net.node(Op::Clip(Clip::RELU), &[sum]);
    let y = net.node(Op::Add(Add { subtract: false }), &[relu, relu]);
    let mut graph = net.finish(&[y]);
    for (node, (name, op_type)) in graph.nodes.iter_mut().zip([
        ("a/conv", "Conv"),
        ("a/bias", "Add"),
        ("a/relu", "Relu"),
        ("b/add", "Add"),
    ]) {
        node.parts.0 = vec![Arc::new(Part { name: name.into(), op_type: op_type.into() })];
    }
    prepare(&mut graph).unwrap();
    assert_eq!(graph.nodes.len(), 2);
    let widths = |rules: &str| {
        let plan = Recipe::from_json(rules).and_then(|r| r.plan(&graph, Scheme::default()));
        plan.map(|plan| {
            let of = |scheme: Scheme| (scheme.activation_width.bits(), scheme.weight_width.bits());
            [of(plan.of_input(graph.inputs[0])), of(plan.of_node(0)), of(plan.of_node(1))]
        })
    };
    for (rules, expected) in [
        ("[]", [(8, 8); 3]),
        (r#"[{"nodes": "relu", "activations": 16}]"#, [(8, 8), (16, 8), (8, 8)]),
        (r#"[{"types": ["Relu", "Gemm"], "weights": 16}]"#, [(8, 8), (8, 16), (8, 8)]),
        (r#"[{"nodes": "^b/", "types": ["Add"], "activations": 16}]"#, [(8, 8), (8, 8), (16, 8)]),
        (r#"[{"values": "^v0$", "activations": 16}]"#, [(16, 8), (8, 8), (8, 8)]),
        (
            r#"{"version": 1, "defaults": {"activations": 16}, "rules": [{"nodes": "conv", "activations": 8}]}"#,
            [(16, 8), (8, 8), (16, 8)],
        ),
        (
            r#"[{"nodes": "", "activations": 16}, {"types": ["Conv"], "activations": 8}]"#,
            [(8, 8), (8, 8), (16, 8)],
        ),
    ] {
        assert_eq!(widths(rules).unwrap(), expected, "{rules}");
    }
    for (rules, expected) in [
        (
            r#"[{"nodes": "pool", "activations": 16}]"#,
            "rule 1 matches nothing: {\"nodes\":\"pool\"}",
        ),
        (r#"[{"nodes": "(", "activations": 16}]"#, "rule 1: "),
        (r#"[{"activations": 16}]"#, "rule 1: it asks for no"),
        (
            r#"[{"nodes": "a", "activations": 12}]"#,
            "rule 1: activations of 12 bits, expected 8 or 16",
        ),
        (r#"[{"nodes": "a", "activation": 16}]"#, "rule 1: there is no setting \"activation\""),
        (r#"{"version": 2}"#, "a recipe of version 2, expected 1"),
        (r#"{"rules": []}"#, "not a recipe: missing field `version`"),
        (r#"{"version": 1, "rule": []}"#, "not a recipe: unknown field `rule`"),
        (r#"{"version": 1, "defaults": {"scheme": "log"}}"#, "scheme \"log\", expected"),
    ] {
        let message = refused(widths(rules));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

/// A peak of 100 among numbers up to 1: only where everything is to be kept are there few codes for these.
#[test]
fn rules_choose_the_calibrator_of_a_value() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 4000]);
    let twice = net.node(Op::Add(Add { subtract: false }), &[x, x]);
    let y = net.node(Op::Mean(Mean { reduced: vec![false, true] }), &[twice]);
    let mut peak = random_inputs(&net.finish(&[y]), &mut Rng(1), 1.0);
    peak[0].data_mut()[7] = 100.0;
    let scales = |defaults: &str, rules: &str| {
        let mut net = Net::new(1);
        let x = net.input(&[1, 4000]);
        let twice = net.node(Op::Add(Add { subtract: false }), &[x, x]);
        let y = net.node(Op::Mean(Mean { reduced: vec![false, true] }), &[twice]);
        let quantizer = Quantizer::from_graph(net.finish(&[y])).unwrap();
        let quantizer = quantizer.calibrate_stream([peak.clone()]).unwrap();
        let recipe = format!(r#"{{"version": 1, "defaults": {defaults}, "rules": {rules}}}"#);
        let recipe = Recipe::from_json(&recipe).unwrap();
        let quantized = quantizer.recipe(recipe).quantize().unwrap();
        assert!(quantized.idle_rules.is_empty(), "{:?}", quantized.idle_rules);
        [x, twice].map(|v| quantized.graph.values[v].quant.as_ref().unwrap().scale[0] > 0.1)
    };
    let percentile = r#"{"calibrator": "percentile", "percentile": 99}"#;
    assert_eq!(scales(percentile, "[]"), [false, false]);
    assert_eq!(scales(percentile, r#"[{"values": "v0", "calibrator": "minmax"}]"#), [true, false]);
    assert_eq!(
        scales(r#"{"calibrator": "minmax"}"#, r#"[{"values": "v1", "percentile": 99}]"#),
        [true, false]
    );
    assert_eq!(scales(r#"{"calibrator": "minmax"}"#, "[]"), [true, true]);
    for (settings, expected) in [
        (r#"{"calibrator": "mean"}"#, "defaults: calibrator \"mean\", expected \"auto\""),
        (r#"{"calibrator": "mse", "percentile": 9}"#, "a percentile beside calibrator \"mse\""),
        (r#"{"percentile": 0}"#, "percentile 0: expected more than 0"),
        (r#"{"steps": ["magic"]}"#, "there is no step \"magic\", only \"narrow-ranges\", "),
        (r#"{"output_bits": 9}"#, "output_bits of 9 bits, expected 8 or 16"),
    ] {
        let recipe = Recipe::from_json(&format!(r#"{{"version": 1, "defaults": {settings}}}"#));
        let message = refused(recipe.and_then(|recipe| recipe.check()));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
