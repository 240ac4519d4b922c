//! Weights of 4 bits, from files and into files.

use super::*;
use crate::ops::IntOp;
use crate::quant::{Preset, Scheme, Width};
use crate::testing::lower::IntGraph;
use crate::testing::quantize::{export_checked, prepare, quantize};
use crate::testing::random_graphs::random_network;
use crate::testing::{Rng, random_inputs, run_float};

/// A convolution between pairs with a weight of `[3, 2, 1, 1]`, and a scale for each channel.
fn with_weight(codes: TensorProto, zero_points: Option<TensorProto>) -> ModelProto {
    let mut model = qdq();
    let g = graph(&mut model);
    let mut names = vec!["wq", "ws"];
    names.extend(zero_points.as_ref().map(|_| "wz"));
    g.node[2] = node("Conv", &["xd", "w"], "r");
    g.node.insert(0, node("DequantizeLinear", &names, "w").with(int("axis", 0)));
    g.initializer.extend([codes, real("ws", &[3], &[0.25, 0.125, 0.07])]);
    g.initializer.extend(zero_points);
    model
}

fn lowered(model: &ModelProto) -> (Graph, IntGraph) {
    let mut graph = read(model).unwrap();
    prepare(&mut graph).unwrap();
    let (_, integer) = export_checked(&graph).unwrap();
    (graph, integer)
}

/// The same network without the knowledge that its weight fits 4 bits.
fn in_8_bits(mut integer: IntGraph) -> IntGraph {
    for node in &mut integer.nodes {
        if let IntOp::Conv(conv) = &mut node.op {
            assert_eq!(conv.acc.width, Width::W4);
            conv.acc.width = Width::W8;
        }
    }
    integer
}

fn width_of(graph: &Graph) -> Width {
    graph.values.iter().find(|v| v.name == "w").unwrap().quant.as_ref().unwrap().width
}

const CODES: [i8; 6] = [1, -2, 7, -8, 5, -6];

#[test]
fn two_codes_of_a_byte() {
    let plain = lowered(&with_weight(int8("wq", &[3, 2, 1, 1], &CODES), None)).1;
    let signed = vec![0xE1, 0x87, 0xA5];
    let unsigned: Vec<u8> = signed.iter().map(|pair| pair ^ 0x88).collect();
    let zeros = |data_type, pairs: &[u8]| Some(tensor("wz", data_type, &[3], pairs.to_vec()));
    for (data_type, pairs, zero_points) in [
        (dt::INT4, &signed, None),
        (dt::INT4, &signed, zeros(dt::INT4, &[0, 0])),
        (dt::UINT4, &unsigned, zeros(dt::UINT4, &[0x88, 0xF8])),
    ] {
        let raw = tensor("wq", data_type, &[3, 2, 1, 1], pairs.clone());
        let listed = TensorProto {
            int32_data: pairs.iter().map(|&pair| pair.into()).collect(),
            raw_data: None,
            ..raw.clone()
        };
        for codes in [raw, listed] {
            let (graph, integer) = lowered(&with_weight(codes, zero_points.clone()));
            assert_eq!(in_8_bits(integer), plain);
            assert_eq!(width_of(&graph), Width::W4);
            assert!(graph.widened.is_empty());
        }
    }
    for (bytes, said) in [(2, "holds 2 bytes, expected 3"), (4, "holds 4 bytes, expected 3")] {
        refused(&with_weight(tensor("wq", dt::INT4, &[3, 2, 1, 1], vec![0; bytes]), None), said);
    }
    let wide = TensorProto {
        int32_data: vec![1, 2, 256],
        raw_data: None,
        ..tensor("wq", dt::UINT4, &[3, 2, 1, 1], vec![])
    };
    refused(&with_weight(wide, None), "holds 256, which is no pair of 4 bits");
}

/// With another zero point codes lie up to 15 steps from it: they are stored in 8 bits.
#[test]
fn other_zero_points_take_8_bits() {
    let pairs = vec![0xE1, 0x87, 0xA5];
    for (data_type, zero_points, zeros) in [
        (dt::INT4, vec![0x10, 0x0D], [0, 1, -3]),
        (dt::INT4, vec![0x11, 0x01], [1, 1, 1]),
        (dt::UINT4, vec![0x80, 0x0F], [0, 8, 15]),
        (dt::UINT4, vec![0x00, 0x00], [0, 0, 0]),
    ] {
        let half = if data_type == dt::INT4 { 0 } else { 16 };
        let code = |code: i8| if code < 0 { code + half } else { code };
        let codes: Vec<i8> = (0..6).map(|i| code(CODES[i]) - zeros[i / 2]).collect();
        let plain = lowered(&with_weight(int8("wq", &[3, 2, 1, 1], &codes), None)).1;
        let zero_points = tensor("wz", data_type, &[3], zero_points);
        let weight = tensor("wq", data_type, &[3, 2, 1, 1], pairs.clone());
        let (graph, integer) = lowered(&with_weight(weight, Some(zero_points)));
        assert_eq!(integer, plain, "{zeros:?}");
        assert_eq!(width_of(&graph), Width::W8);
        assert_eq!(graph.widened, ["w"]);
    }
}

/// QuantizeLinear makes codes of 4 bits of a constant; of an activation none are known.
#[test]
fn weights_are_rounded_to_4_bits_where_they_stand() {
    let numbers = [0.3, -0.375, 9.0, -9.0, 0.35, -0.42];
    let made = |data_type: i32| {
        edited(with_weight(real("wr", &[3, 2, 1, 1], &numbers), None), |g| {
            let q = node("QuantizeLinear", &["wr", "ws"], "wq").with(int("axis", 0));
            g.node.insert(0, q.with(int("output_dtype", data_type.into())));
        })
    };
    let expected = int8("wq", &[3, 2, 1, 1], &[1, -2, 7, -8, 5, -6]);
    let made_of = in_8_bits(lowered(&made(dt::INT4)).1).nodes;
    assert_eq!(made_of, lowered(&with_weight(expected, None)).1.nodes);
    let expected = int8("wq", &[3, 2, 1, 1], &[1, 0, 15, 0, 5, 0]);
    assert_eq!(lowered(&made(dt::UINT4)).1.nodes, lowered(&with_weight(expected, None)).1.nodes);
    let activation = edited(qdq(), |g| g.initializer[1] = tensor("z", dt::INT4, &[], vec![0]));
    refused(&activation, "activations made of int4");
}

/// Our own scale is for ±7; the file holds half as many bytes, and is read as the same network.
#[test]
fn schemes_of_4_bits() {
    let mut found = 0;
    for seed in 0..20 {
        let mut float = random_network(seed, 4);
        passes::prepare(&mut float);
        let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(seed), 1.0));
        let preset = [Preset::Scale, Preset::Shift][seed as usize % 2];
        let activations = [Width::W8, Width::W16][seed as usize / 2 % 2];
        let scheme = Scheme::new(preset).with_widths(activations, Width::W4);
        let quantized = quantize(&float, &ranges, scheme).unwrap();
        let (bytes, _) = export_checked(&quantized).unwrap();
        let model = ModelProto::decode(&*bytes).unwrap();
        let weights = quantized
            .values
            .iter()
            .filter(|v| v.quant.as_ref().is_some_and(|quant| quant.width == Width::W4));
        for value in weights {
            found += 1;
            assert_eq!(model.opset_import[0].version, Some(21));
            let Some(Constant::Codes(codes)) = &value.constant else { panic!("no codes") };
            let codes = codes.widened();
            let largest = codes.data().iter().map(|c| c.abs()).max();
            let all = if preset == Preset::Scale { 7..=7 } else { 4..=8 };
            assert!(all.contains(&largest.unwrap()), "{largest:?}");
            let name = format!("{}_codes", value.name);
            let tensor = model.graph.as_ref().unwrap().initializer.iter().find(|t| t.name == name);
            let tensor = tensor.unwrap();
            assert_eq!(tensor.data_type, dt::INT4);
            let len = tensor.raw_data.as_ref().unwrap().len();
            assert_eq!(len, codes.data().len().div_ceil(2));
        }
    }
    assert!(found > 30, "{found}");
}
