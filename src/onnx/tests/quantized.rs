//! Quantization that makes no sense, or that the integer arithmetic does not cover.

use super::*;
use crate::quant::Width;

/// `y = relu(dequantize(quantize(x)))`, quantized.
pub fn qdq() -> ModelProto {
    let q = |i: &str, o: &str| node("QuantizeLinear", &[i, "s", "z"], o);
    let dq = |i: &str, o: &str| node("DequantizeLinear", &[i, "s", "z"], o);
    let nodes =
        vec![q("x", "xq"), dq("xq", "xd"), node("Relu", &["xd"], "r"), q("r", "rq"), dq("rq", "y")];
    model(nodes, vec![real("s", &[], &[0.5]), int8("z", &[], &[3])])
}

/// As [`refused`], but when the integer graph is made.
#[track_caller]
fn not_lowered(model: &ModelProto, expected: &str) {
    let mut graph = read(model).unwrap();
    passes::prepare(&mut graph);
    let error = lower(&graph).unwrap_err().to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

#[test]
fn codes_that_are_read_as_something_else() {
    let other = |g: &mut GraphProto| g.initializer.push(real("s2", &[], &[0.25]));
    let differ = edited(qdq(), |g| {
        other(g);
        g.node[1].input[1] = "s2".into();
    });
    refused(
        &differ,
        "in node \"xd_node\" (DequantizeLinear): unsupported: codes \"xq\" were made with another",
    );
    let codes = edited(qdq(), |g| g.node[2].input[0] = "xq".into());
    refused(&codes, "in node \"r_node\" (Relu): unsupported: input \"xq\" is made of codes");
    let output = edited(qdq(), |g| g.output[0].name = "rq".into());
    refused(&output, "output \"rq\" is not real");
    let real_twice = edited(qdq(), |g| g.node[0].input[0] = "xq".into());
    refused(&real_twice, "input \"xq\" is not computed");
    let real_input = edited(qdq(), |g| {
        g.node.remove(0);
        g.node[0].input[0] = "x".into();
    });
    refused(&real_input, "input \"x\" is not made of codes");
}

/// Nothing computes it, so it has no codes of its own.
#[test]
fn an_output_that_is_an_input() {
    for outputs in [["y", "x"], ["x", "y"]] {
        let direct = edited(conv(vec![]), |g| g.output = outputs.map(output).into());
        refused(&direct, "output \"x\" is an input");
    }
}

#[test]
fn used_with_and_without_quantization() {
    let mixed = edited(qdq(), |g| {
        g.node[2].op_type = "Add".into();
        g.node[2].input.push("x".into());
    });
    refused(&mixed, "\"x\" is used both with and without being quantized");
    let output = edited(qdq(), |g| g.output.push(output("r")));
    not_lowered(&output, "\"r\" is not quantized");
    // The same behind another name of the value.
    for quantized in ["x", "same"] {
        let other = if quantized == "x" { "same" } else { "x" };
        let alias = edited(qdq(), |g| {
            g.node[0].input[0] = quantized.into();
            g.node[2].op_type = "Add".into();
            g.node[2].input.push(other.into());
            g.node.insert(0, node("Identity", &["x"], "same"));
        });
        refused(&alias, "is used both with and without being quantized");
    }
    let missing = edited(qdq(), |g| {
        g.node.truncate(3);
        g.node[2].output[0] = "y".into();
    });
    not_lowered(&missing, "value \"y\" is not quantized");
}

#[test]
fn scales_and_zero_points() {
    for (scale, text) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let model = edited(qdq(), |g| g.initializer[0] = real("s", &[], &[scale]));
        let expected = format!(
            "(QuantizeLinear): codes read with \"s\": scale must be positive and finite, got {text}"
        );
        refused(&model, &expected);
    }
    let with = |zero: TensorProto| {
        edited(qdq(), |g| g.initializer[1] = TensorProto { name: "z".into(), ..zero })
    };
    let int32 = |z: i32| tensor("z", dt::INT32, &[], z.to_le_bytes().to_vec());
    refused(&with(int32(3)), "zero point 3 of 32-bit codes");
    refused(&with(tensor("z", dt::INT64, &[], vec![0; 8])), "codes made of int64");
    refused(&with(tensor("z", 21, &[], vec![0])), "activations made of uint4");
    refused(&with(int8("z", &[2], &[1, 2])), "2 zero points for 1 scales");
    refused(&with(real("z", &[], &[0.0])), "the zero point must be a constant of integers");
    let wide = TensorProto { int32_data: vec![128], raw_data: None, ..int8("z", &[], &[]) };
    refused(&with(wide), "tensor \"z\" holds 128, which is no int8");
    let scales = |dims: &[i64], n: usize| {
        edited(qdq(), |g| g.initializer[0] = real("s", dims, &vec![0.5; n]))
    };
    refused(&scales(&[3], 3), "expected 2 scales for shape [1, 2, 4, 4], got 3");
    refused(&scales(&[1, 2], 2), "scales of shape [1, 2]");
    not_lowered(&scales(&[2], 2), "value \"x\" needs 8 or 16 bits and one scale");
    let computed = edited(qdq(), |g| g.node[0].input[1] = "x".into());
    refused(&computed, "the scale must be a constant");
    let few = edited(qdq(), |g| g.node[0].input.truncate(1));
    refused(&few, "(QuantizeLinear): ");
    let block = edited(qdq(), |g| g.node[0].attribute.push(int("block_size", 2)));
    refused(&block, "attribute \"block_size\"");
}

/// Codes of weight and bias count in units that the accumulator shares.
#[test]
fn scales_that_do_not_fit_together() {
    let with = |weight_axis: i64, bias_scale: f32| {
        let mut model = qdq();
        let g = graph(&mut model);
        let dq = |i: &str, s: &str, z: &str, o: &str| node("DequantizeLinear", &[i, s, z], o);
        g.node[2] = node("Conv", &["xd", "w", "b"], "r");
        g.node.insert(0, dq("wq", "ws", "wz", "w").with(int("axis", weight_axis)));
        g.node.insert(1, dq("bq", "bs", "bz", "b").with(int("axis", 0)));
        g.initializer.extend([
            int8("wq", &[2, 2, 1, 1], &[1, 2, 3, 4]),
            real("ws", &[2], &[0.25, 0.125]),
            int8("wz", &[2], &[0; 2]),
            tensor("bq", dt::INT32, &[2], vec![0; 8]),
            real("bs", &[2], &[bias_scale, 0.0625]),
            tensor("bz", dt::INT32, &[2], vec![0; 8]),
        ]);
        model
    };
    survive(&with(0, 0.125).encode_to_vec()).unwrap();
    not_lowered(
        &with(1, 0.125),
        "in node \"r_node\" (Conv): unsupported: \"w\" has scales along axis 1, expected 0",
    );
    // Others round that unit differently.
    lower(&read(&with(0, 0.125f32.next_up())).unwrap()).unwrap();
    let large = edited(with(0, 0.125f32.next_up()), |g| {
        let codes = [1 << 30, 0].map(i32::to_le_bytes).concat();
        g.initializer[5] = tensor("bq", dt::INT32, &[2], codes);
    });
    not_lowered(&large, "the bias of channel 0 has scale 1.2500001e-1, expected 1.25e-1");
    not_lowered(
        &with(0, 0.5),
        "the bias of channel 0 has scale 5e-1, expected 1.25e-1: input times weight",
    );
}

/// A weight whose channels have zero points of their own becomes symmetric codes with one more bit,
/// whether the file holds its codes or lets QuantizeLinear make them.
#[test]
fn zero_points_of_channels() {
    let with = |weight: &str, zero_points: &[u8]| {
        let mut model = qdq();
        let g = graph(&mut model);
        g.node[2] = node("Conv", &["xd", "w"], "r");
        let dq = node("DequantizeLinear", &["wq", "ws", "wz"], "w").with(int("axis", 0));
        let q = node("QuantizeLinear", &["wr", "ws", "wz"], "wq").with(int("axis", 0));
        g.node.insert(0, dq);
        if weight == "wr" {
            g.node.insert(0, q);
        }
        let channels = &[zero_points.len() as i64];
        g.initializer.extend([
            tensor("wq", dt::UINT8, &[2, 2, 1, 1], vec![0, 7, 255, 201]),
            real("wr", &[2, 2, 1, 1], &[-9.0, -0.75, 27.5, 0.125]),
            real("ws", &[2], &[0.25, 0.125]),
            tensor("wz", dt::UINT8, channels, zero_points.to_vec()),
        ]);
        g.initializer.retain(|t| !["wq", "wr"].contains(&&*t.name) || t.name == weight);
        model
    };
    for source in ["wq", "wr"] {
        let graph = read(&with(source, &[10, 200])).unwrap();
        let weight =
            graph.values.iter().find(|v| v.name.starts_with("wq") || v.name == "w").unwrap();
        let quant = weight.quant.as_ref().unwrap();
        assert_eq!(
            (quant.width, quant.zero_point, &quant.scale[..]),
            (Width::W16, 0, &[0.25, 0.125][..])
        );
        // The real ones: -9 / 0.25 is beyond code 0, 27.5 / 0.125 beyond code 255.
        let Some(Constant::Codes(codes)) = &weight.constant else { panic!("no codes") };
        assert_eq!(codes.widened().data(), [-10, -3, 55, 1], "{source}");
        lower(&graph).unwrap();
        refused(&with(source, &[10, 200, 3]), "3 zero points for 2 scales");
    }
}

/// A zero point that is left out is 0 of the type that the codes have.
#[test]
fn the_type_of_codes() {
    let zero_point_of_x = |model: &ModelProto| {
        let graph = read(model).unwrap();
        graph.values[graph.inputs[0]].quant.as_ref().unwrap().zero_point
    };
    let bare = edited(qdq(), |g| {
        g.initializer[1] = int8("z", &[], &[0]);
        g.node[1].input.truncate(2);
    });
    assert_eq!(zero_point_of_x(&bare), 0);
    let of = |data_type: i32| {
        edited(qdq(), |g| {
            g.node[0].input.truncate(2);
            g.node[1].input.truncate(2);
            g.node[0].attribute.push(int("output_dtype", data_type as i64));
        })
    };
    assert_eq!([dt::INT8, dt::UINT8].map(|t| zero_point_of_x(&of(t))), [0, -128]);
    refused(&of(17), "codes made of float8e4m3fn");
    let other = edited(qdq(), |g| g.node[0].attribute.push(int("output_dtype", 2)));
    refused(&other, "codes and zero point have different types");
    let double = edited(qdq(), |g| g.node[1].attribute.push(int("output_dtype", 11)));
    refused(&double, "attribute \"output_dtype\" is double");
    // Version 23 says what the quotient and the result are made of.
    let explicit = edited(qdq(), |g| {
        g.node[0].attribute.extend([
            int("output_dtype", 3),
            int("precision", 1),
            int("block_size", 0),
        ]);
        g.node[1].attribute.push(int("output_dtype", 1));
    });
    assert_eq!(read(&explicit).unwrap(), read(&qdq()).unwrap());
}

/// Codes of 16 bits leave no room for a zero point, unless they are near it.
#[test]
fn weights_of_16_bits_with_a_zero_point() {
    let with = |codes: [u16; 4]| {
        let mut model = qdq();
        let g = graph(&mut model);
        g.node[2] = node("Conv", &["xd", "w"], "r");
        g.node.insert(0, node("DequantizeLinear", &["wq", "s", "wz"], "w"));
        let raw = codes.map(u16::to_le_bytes).concat();
        g.initializer.push(tensor("wq", dt::UINT16, &[2, 2, 1, 1], raw));
        g.initializer.push(tensor("wz", dt::UINT16, &[], 20000u16.to_le_bytes().to_vec()));
        model
    };
    lower(&read(&with([0, 1, 20000, 52767])).unwrap()).unwrap();
    not_lowered(&with([0; 4].map(|_| 52768)), "a weight is 32768 steps from its zero point");
}

#[test]
fn codes_may_have_several_readers() {
    let dq = |i: &str, s: &str, o: &str| node("DequantizeLinear", &[i, s, "z"], o);
    let add = |a: &str, b: &str, o: &str| node("Add", &[a, b], o);
    for data_type in [dt::UINT8, dt::INT8, dt::UINT16, dt::INT16] {
        let bytes = |codes: &[i32]| match data_type {
            dt::UINT8 | dt::INT8 => codes.iter().map(|&c| c as u8).collect::<Vec<u8>>(),
            _ => codes.iter().flat_map(|&c| (c as u16).to_le_bytes()).collect(),
        };
        let constants = vec![
            real("s1", &[], &[0.5]),
            real("s2", &[], &[0.25]),
            tensor("z", data_type, &[], bytes(&[7])),
            tensor("c", data_type, &[2, 1, 1], bytes(&[9, 100])),
        ];
        let nodes = vec![
            dq("c", "s1", "a"),
            dq("c", "s2", "b"),
            node("Cast", &["c"], "whole").with(int("to", dt::FLOAT as i64)),
            add("x", "a", "xa"),
            add("xa", "b", "xab"),
            add("xab", "whole", "y"),
        ];
        let graph = read(&model(nodes, constants)).unwrap();
        let constant = |i: usize| {
            let v = graph.nodes[i].inputs[1];
            graph.values[v].to_real().unwrap().data().to_vec()
        };
        assert_eq!(constant(0), [1.0, 46.5], "type {data_type}");
        assert_eq!(constant(1), [0.5, 23.25], "type {data_type}");
        assert_eq!(constant(2), [9.0, 100.0], "type {data_type}");
    }
}

/// Codes of 16 bits hold both kinds, or the input is refused by name.
#[test]
fn two_kinds_of_codes_of_an_input_fit_16_bits() {
    let two = |first: f32, second: f32| {
        let zero = tensor("zero", dt::INT8, &[], vec![0]);
        let mut nodes = Vec::new();
        for (scale, part) in [("first", "a"), ("second", "b")] {
            let [codes, real, out] = ["codes", "real", "out"].map(|name| format!("{part}_{name}"));
            nodes.push(node("QuantizeLinear", &["x", scale, "zero"], &codes));
            nodes.push(node("DequantizeLinear", &[&codes, scale, "zero"], &real));
            nodes.push(node("Relu", &[&real], &out));
        }
        nodes.push(node("Add", &["a_out", "b_out"], "y"));
        model(nodes, vec![real("first", &[], &[first]), real("second", &[], &[second]), zero])
    };
    let graph = read(&two(0.01, 0.3)).unwrap();
    assert_eq!(graph.values[graph.inputs[0]].quant.as_ref().unwrap().width, Width::W16);
    refused(
        &two(0.0005, 0.3),
        "input \"x\" is quantized in two ways, and 16 bits do not hold both",
    );
}
