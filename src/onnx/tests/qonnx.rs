//! Quantizers of QONNX and limits of codes, compared with the formula of their definition.

use super::*;
use crate::quant::Width;
use crate::tensor::Tensor;
use crate::testing::Rng;
use crate::testing::exec::int::IntExecutor;
use crate::testing::lower::IntGraph;
use crate::testing::quantize::{export_checked, prepare};

const DOMAIN: &str = "qonnx.custom_op.general";

/// A Quant of `x` with its attributes `[signed, narrow]`.
#[derive(Clone, Copy, Debug)]
struct Quant {
    scale: f32,
    zero_point: f32,
    bits: u32,
    signed: bool,
    narrow: bool,
}

impl Quant {
    /// `clamp(round(x / scale + zero_point))`, back as a real number.
    fn apply(self, x: f32) -> f32 {
        let largest = f32::exp2(self.bits as f32 - self.signed as u32 as f32) - 1.0;
        let narrow = self.narrow as u32 as f32;
        let (lo, hi) = match self.signed {
            true => (narrow - largest - 1.0, largest),
            false => (0.0, largest - narrow),
        };
        let code = (x / self.scale + self.zero_point).round_ties_even();
        (code.clamp(lo, hi) - self.zero_point) * self.scale
    }

    fn node(self, x: &str, y: &str) -> (NodeProto, Vec<TensorProto>) {
        let [s, z, b] = ["s", "z", "b"].map(|what| format!("{y}_{what}"));
        let text = AttributeProto {
            name: "rounding_mode".into(),
            r#type: at::STRING,
            s: Some(b"ROUND".into()),
            ..AttributeProto::default()
        };
        let node = node("Quant", &[x, &s, &z, &b], y)
            .with(int("signed", self.signed.into()))
            .with(int("narrow", self.narrow.into()))
            .with(text);
        let constants = [(s, self.scale), (z, self.zero_point), (b, self.bits as f32)];
        let constants = constants.map(|(name, number)| real(&name, &[], &[number]));
        (NodeProto { domain: DOMAIN.into(), ..node }, constants.into())
    }
}

const BYTES: Quant = Quant { scale: 0.0625, zero_point: 0.0, bits: 8, signed: true, narrow: false };

fn bipolar(x: &str, scale: &str, y: &str) -> NodeProto {
    NodeProto { domain: DOMAIN.into(), ..node("BipolarQuant", &[x, scale], y) }
}

fn with(nodes: Vec<(NodeProto, Vec<TensorProto>)>, constants: Vec<TensorProto>) -> ModelProto {
    let (nodes, more): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
    let constants = [constants, more.concat()].concat();
    edited(model(nodes, constants), |g| g.node.iter_mut().for_each(|n| n.name.clear()))
}

/// The integer network; written and read again it is the same.
fn lowered(model: &ModelProto) -> IntGraph {
    let mut graph = read(model).unwrap();
    prepare(&mut graph).unwrap();
    export_checked(&graph).unwrap().1
}

/// 32 numbers, also beyond all codes, and between two of them.
fn numbers(scale: f32) -> Vec<f32> {
    let mut x = Rng(7).reals(&[32], 20.0).into_data();
    (0..8).for_each(|i| x[i] = (i as f32 - 4.0) * scale / 2.0);
    x
}

#[track_caller]
fn computes(model: &ModelProto, x: &[f32], expected: &[f32]) -> IntGraph {
    let integer = lowered(model);
    let x = Tensor::new([1, 2, 4, 4], x.to_vec()).unwrap();
    let y = IntExecutor::new(&integer).run(&[x]).unwrap();
    assert_eq!(y[0].data(), expected);
    integer
}

#[test]
fn an_input_of_1_to_8_bits_keeps_its_limits() {
    for bits in 1..=8 {
        for [signed, narrow] in [[true, false], [true, true], [false, false], [false, true]] {
            for zero_point in [0.0, 2.0] {
                if bits == 1 && (signed || zero_point != 0.0) {
                    continue;
                }
                let quant = Quant { scale: 0.07, zero_point, bits, signed, narrow };
                let x = numbers(quant.scale);
                let expected: Vec<f32> = x.iter().map(|&x| quant.apply(x)).collect();
                computes(&with(vec![quant.node("x", "y")], vec![]), &x, &expected);
            }
        }
    }
}

/// A product of constants with one scale for each channel, −1 and 1, and other widths, and what limits its result.
#[test]
fn weights_and_results_of_few_bits_are_the_ones_of_their_formula() {
    let scales = [0.5, 0.25, 2.0];
    let weight: Vec<f32> = (0..6).map(|i| (i * 7 % 11) as f32 * 0.4 - 2.1).collect();
    let real_weight = || real("w", &[3, 2, 1, 1], &weight);
    for bits in [1, 2, 4, 8] {
        let wq = Quant { scale: 1.0, zero_point: 0.0, bits, signed: true, narrow: true };
        let yq =
            Quant { scale: 0.25, zero_point: 0.0, bits: bits.max(2), signed: false, narrow: false };
        let (quantizer, mut constants) = wq.node("w", "wq");
        constants[0] = real("wq_s", &[3, 1, 1, 1], &scales);
        let quantizer = match bits {
            1 => bipolar("w", "wq_s", "wq"),
            _ => quantizer,
        };
        let nodes = vec![
            BYTES.node("x", "xq"),
            (quantizer, constants),
            (node("Conv", &["xq", "wq"], "c"), vec![]),
            yq.node("c", "y"),
        ];
        let x = numbers(1.0);
        let w = |i: usize| match bits {
            1 if weight[i] >= 0.0 => scales[i / 2],
            1 => -scales[i / 2],
            _ => Quant { scale: scales[i / 2], ..wq }.apply(weight[i]),
        };
        let sum = |i: usize| {
            let (o, place) = (i / 16, i % 16);
            let product = |c: usize| BYTES.apply(x[c * 16 + place]) * w(2 * o + c);
            yq.apply(product(0) + product(1))
        };
        let expected: Vec<f32> = (0..48).map(sum).collect();
        let integer = computes(&with(nodes, vec![real_weight()]), &x, &expected);
        assert_eq!(integer.nodes.len(), 1, "{bits} bits: limits are part of the convolution");
    }
}

/// Of a number, of codes, and of what a layer with normalization computes, whose factor may be negative.
#[test]
fn signs_are_those_of_their_formula() {
    let sign = |x: f32| if x >= 0.0 { 0.75 } else { -0.75 };
    let scale = || real("s", &[], &[0.75]);
    let mut x = numbers(0.125);
    x[9] = 1e-30;
    x[10] = -1e-30;
    let expected: Vec<f32> = x.iter().map(|&x| sign(x)).collect();
    computes(&with(vec![(bipolar("x", "s", "y"), vec![])], vec![scale()]), &x, &expected);
    let expected: Vec<f32> = x.iter().map(|&x| sign(BYTES.apply(x))).collect();
    let of_codes = vec![BYTES.node("x", "q"), (bipolar("q", "s", "y"), vec![])];
    computes(&with(of_codes, vec![scale()]), &x, &expected);

    let one = Quant { scale: 1.0, bits: 2, narrow: true, ..BYTES };
    let layer = vec![
        BYTES.node("x", "q"),
        one.node("w", "wq"),
        (node("Conv", &["q", "wq"], "c"), vec![]),
        (node("BatchNormalization", &["c", "g", "b", "m", "v"], "n"), vec![]),
        (bipolar("n", "s", "y"), vec![]),
    ];
    let constants = vec![
        scale(),
        real("w", &[2, 2, 1, 1], &[1.0, -1.0, 0.0, 1.0]),
        real("g", &[2], &[-0.5, 3.0]),
        real("b", &[2], &[0.25, 0.0]),
        real("m", &[2], &[1.0, -0.5]),
        real("v", &[2], &[1.0 - 1e-5, 4.0 - 1e-5]),
    ];
    let at = |c: usize, i: usize| BYTES.apply(x[c * 16 + i]);
    let of = |i: usize| match i {
        0..16 => sign(-0.5 * (at(0, i) - at(1, i) - 1.0) + 0.25),
        _ => sign(at(1, i - 16) + 0.5),
    };
    let expected: Vec<f32> = (0..32).map(of).collect();
    computes(&with(layer, constants), &x, &expected);
}

/// QuantizeLinear, Clip, DequantizeLinear: of an activation and of a weight, signed and not.
#[test]
fn limited_codes_are_the_ones_of_few_bits() {
    let unsigned = |name: &str, codes: &[u8]| tensor(name, dt::UINT8, &[], codes.to_vec());
    for (lo, hi, zero_point) in [(-127, 127, 0), (-8, 7, 0), (-7, 7, 3), (0, 127, -5)] {
        for r#as in [dt::INT8, dt::UINT8] {
            let code = |name: &str, code: i8| match r#as {
                dt::INT8 => int8(name, &[], &[code]),
                _ => unsigned(name, &[code as u8 ^ 0x80]),
            };
            let pair = |x: &str, y: &str| {
                let [q, c] = ["q", "c"].map(|what| format!("{y}{what}"));
                let nodes = [
                    node("QuantizeLinear", &[x, "s", "z"], &q),
                    node("Clip", &[&q, "lo", "hi"], &c),
                    node("DequantizeLinear", &[&c, "s", "z"], y),
                ];
                nodes.map(|node| (node, vec![]))
            };
            let mut nodes = pair("x", "xd").to_vec();
            nodes.extend(pair("w", "wd"));
            nodes.push((node("Conv", &["xd", "wd"], "r"), vec![]));
            nodes.extend(pair("r", "y"));
            let weight = [4.0, -2.3, 0.3, 1.0];
            let constants = vec![
                real("s", &[], &[0.25]),
                code("z", zero_point),
                code("lo", lo),
                code("hi", hi),
                real("w", &[2, 2, 1, 1], &weight),
            ];
            let round = |x: f32| {
                let (zero, lo, hi) = (zero_point as f32, lo as f32, hi as f32);
                (((x / 0.25).round_ties_even() + zero).clamp(lo, hi) - zero) * 0.25
            };
            let x = numbers(0.25);
            let sum = |i: usize| {
                let product = |c: usize| round(x[c * 16 + i % 16]) * round(weight[i / 16 * 2 + c]);
                round(product(0) + product(1))
            };
            let expected: Vec<f32> = (0..32).map(sum).collect();
            let integer = computes(&with(nodes, constants), &x, &expected);
            // Its limits are part of the convolution.
            assert_eq!(integer.nodes.last().unwrap().op.name(), "Conv");
        }
    }
}

/// 16 bits of a bias, in other units than those of the accumulator.
#[test]
fn a_bias_may_have_more_bits() {
    let bias = Quant { scale: 0.25, bits: 16, ..BYTES };
    let nodes = vec![
        BYTES.node("x", "q"),
        Quant { scale: 1.0, ..BYTES }.node("w", "wq"),
        bias.node("b", "bq"),
        (node("Conv", &["q", "wq", "bq"], "c"), vec![]),
        BYTES.node("c", "y"),
    ];
    let constants =
        vec![real("w", &[2, 2, 1, 1], &[1.0, 0.0, 0.0, 1.0]), real("b", &[2], &[1.1, -300.0])];
    let x = numbers(0.0625);
    let of = |(i, &x): (usize, &f32)| BYTES.apply(BYTES.apply(x) + [1.0, -300.0][i / 16]);
    let expected: Vec<f32> = x.iter().enumerate().map(of).collect();
    let integer = computes(&with(nodes, constants), &x, &expected);
    assert_eq!(integer.values[integer.inputs[0]].quant.width, Width::W8);
}

#[test]
fn quantizers_that_are_not_known() {
    let quantized =
        |edit: fn(&mut GraphProto)| edited(with(vec![BYTES.node("x", "y")], vec![]), edit);
    fn constant(g: &mut GraphProto, index: usize, numbers: &[f32]) {
        let dims: &[i64] = if numbers.len() == 1 { &[] } else { &[1, 2, 1, 1] };
        g.initializer[index] = real(&g.initializer[index].name.clone(), dims, numbers);
    }
    for (edit, said) in [
        ((|g| constant(g, 0, &[0.0])) as fn(&mut GraphProto), "(Quant): a scale of 0"),
        (|g| constant(g, 0, &[0.5, 0.25]), "2 scales of an activation, only one is known"),
        (|g| constant(g, 1, &[0.5]), "zero point [0.5]: only one integer is known"),
        (|g| constant(g, 1, &[200.0]), "zero point 200 of codes -128..127"),
        (|g| constant(g, 2, &[9.0]), "9 bits: only 1 to 8 are known"),
        (|g| constant(g, 2, &[2.5]), "number of bits [2.5]: only one integer is known"),
        (|g| g.node[0].attribute[0].i = Some(2), "attribute \"signed\": expected 0 or 1, got 2"),
        (
            |g| g.node[0].attribute[2].s = Some(b"FLOOR".into()),
            "attribute \"rounding_mode\" is \"FLOOR\"",
        ),
        (|g| g.node[0].attribute.push(int("other", 1)), "attribute \"other\""),
        (|g| g.node[0].input.truncate(3), "expected at least 4 inputs, got 3"),
        (|g| g.node[0].input[1] = "x".into(), "input \"x\" is not constant"),
        (|g| g.node[0].domain.clear(), "operator type \"Quant\""),
        (|g| g.node[0].op_type = "Trunc".into(), "operators of domain \"qonnx.custom_op.general\""),
    ] {
        refused(&quantized(edit), said);
    }
}
