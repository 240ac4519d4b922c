//! Quantization that makes no sense, or that the integer arithmetic does not cover.

use super::*;

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
fn quantization_in_two_ways() {
    let other = |g: &mut GraphProto| g.initializer.push(real("s2", &[], &[0.25]));
    let differ = edited(qdq(), |g| {
        other(g);
        g.node[1].input[1] = "s2".into();
    });
    refused(
        &differ,
        "in node \"xd_node\" (DequantizeLinear): unsupported: codes \"xq\" were made with another",
    );
    let two = edited(qdq(), |g| {
        other(g);
        g.node[2].op_type = "Add".into();
        g.node[2].input.push("xd2".into());
        g.node.insert(2, node("QuantizeLinear", &["x", "s2", "z"], "xq2"));
        g.node.insert(3, node("DequantizeLinear", &["xq2", "s2", "z"], "xd2"));
    });
    refused(
        &two,
        "in node \"xq2_node\" (QuantizeLinear): unsupported: \"x\" is quantized in two ways",
    );
    let codes = edited(qdq(), |g| g.node[2].input[0] = "xq".into());
    refused(&codes, "in node \"r_node\" (Relu): unsupported: input \"xq\" is made of integers");
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

#[test]
fn used_with_and_without_quantization() {
    let mixed = edited(qdq(), |g| {
        g.node[2].op_type = "Add".into();
        g.node[2].input.push("x".into());
    });
    refused(&mixed, "\"x\" is used both with and without being quantized");
    let output = edited(qdq(), |g| g.output.push(value("r", &[])));
    refused(&output, "\"r\" is used both with and without being quantized");
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
        let expected = format!("(QuantizeLinear): scale must be positive and finite, got {text}");
        refused(&model, &expected);
    }
    let with = |zero: TensorProto| {
        edited(qdq(), |g| g.initializer[1] = TensorProto { name: "z".into(), ..zero })
    };
    let int32 = |z: i32| tensor("z", dt::INT32, &[], z.to_le_bytes().to_vec());
    refused(&with(int32(3)), "zero point 3 of 32-bit codes");
    refused(&with(tensor("z", dt::INT64, &[], vec![0; 8])), "codes of data type 7");
    refused(&with(tensor("z", 21, &[], vec![0])), "tensor \"z\" has data type 21");
    refused(&with(int8("z", &[2], &[1, 2])), "zero points differ between channels");
    refused(&with(real("z", &[], &[0.0])), "the zero point must be a constant of integers");
    let wide = TensorProto { int32_data: vec![128], raw_data: None, ..int8("z", &[], &[]) };
    refused(&with(wide), "tensor \"z\" holds 128, beyond its data type");
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
    not_lowered(
        &with(0, 0.5),
        "the bias of channel 0 has scale 5e-1, expected 1.25e-1: input times weight",
    );
}
