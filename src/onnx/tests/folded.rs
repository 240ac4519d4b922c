//! What other tools write around weights and biases disappears into them.

use super::*;
use crate::tensor::Tensor;
use crate::testing::Rng;
use crate::testing::exec::float::FloatExecutor;
use crate::testing::exec::int::IntExecutor;
use crate::testing::lower::IntGraph;
use crate::testing::quantize::{export_checked, prepare};

/// `x` of `shape` between pairs, `nodes` from `xd` to `r`, and a pair behind it.
fn between(shape: &[i64], nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let q = |i: &str, o: &str| node("QuantizeLinear", &[i, "s", "z"], o);
    let dq = |i: &str, o: &str| node("DequantizeLinear", &[i, "s", "z"], o);
    let nodes =
        [vec![q("x", "xq"), dq("xq", "xd")], nodes, vec![q("r", "rq"), dq("rq", "y")]].concat();
    let scales = vec![real("s", &[], &[0.05]), int8("z", &[], &[3])];
    edited(model(nodes, [scales, constants].concat()), |g| g.input = vec![value("x", shape)])
}

/// The integers of the only node that is no move.
fn integers(model: &ModelProto) -> (IntGraph, usize) {
    let mut graph = read(model).unwrap();
    prepare(&mut graph).unwrap();
    let (_, integer) = export_checked(&graph).unwrap();
    let layers: Vec<usize> =
        (0..integer.nodes.len()).filter(|&i| !integer.nodes[i].op.moves_codes()).collect();
    assert_eq!(
        layers.len(),
        1,
        "{:?}",
        integer.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>()
    );
    (integer, layers[0])
}

#[track_caller]
fn same(a: &ModelProto, b: &ModelProto) {
    let ((a, i), (b, j)) = (integers(a), integers(b));
    assert_eq!(a.nodes[i].op, b.nodes[j].op);
}

fn dq(codes: &str, scale: &str, output: &str, axis: i64) -> NodeProto {
    node("DequantizeLinear", &[codes, scale], output).with(int("axis", axis))
}

fn int32(name: &str, dims: &[i64], data: &[i32]) -> TensorProto {
    tensor(name, dt::INT32, dims, data.iter().flat_map(|i| i.to_le_bytes()).collect())
}

const WEIGHT: [i8; 8] = [1, -2, 3, 4, 127, -128, -7, 100];

/// A weight of `[4, 2]` and a bias in units of its two channels.
fn weight_and_bias() -> Vec<TensorProto> {
    vec![
        int8("wq", &[4, 2], &WEIGHT),
        real("ws", &[2], &[0.5, 0.25]),
        int32("bq", &[2], &[1000, -30]),
        real("bs", &[2], &[0.05 * 0.5, 0.05 * 0.25]),
    ]
}

fn gemm(x: &[i64], attributes: Vec<AttributeProto>) -> ModelProto {
    let gemm = NodeProto { attribute: attributes, ..node("Gemm", &["xd", "w", "b"], "r") };
    between(x, vec![dq("wq", "ws", "w", 1), dq("bq", "bs", "b", 0), gemm], weight_and_bias())
}

#[test]
fn an_added_bias_belongs_to_the_layer_at_any_rank() {
    let plain = gemm(&[3, 4], vec![]);
    for x in [&[3, 4][..], &[1, 3, 4], &[2, 1, 3, 4]] {
        for (shape, swapped) in [(&[2][..], false), (&[1, 2], true), (&[1, 1, 2], false)] {
            if shape.len() > x.len() {
                continue;
            }
            let inputs = if swapped { ["b", "m"] } else { ["m", "b"] };
            let nodes = vec![
                dq("wq", "ws", "w", 1),
                dq("bq", "bs", "b", shape.len() as i64 - 1),
                node("MatMul", &["xd", "w"], "m"),
                node("Add", &inputs, "r"),
            ];
            let mut model = between(x, nodes, weight_and_bias());
            graph(&mut model).initializer[4] = int32("bq", shape, &[1000, -30]);
            same(&model, &plain);
            // The same numbers, real.
            let real_bias = edited(model.clone(), |g| {
                g.initializer[4] = real("b", shape, &[1000.0 * 0.05 * 0.5, -30.0 * 0.05 * 0.25]);
                g.node.retain(|n| n.output[0] != "b");
                g.initializer.remove(5);
            });
            same(&real_bias, &plain);
        }
    }
    // Its product has codes of its own: two nodes.
    let apart = vec![
        dq("wq", "ws", "w", 1),
        dq("bq", "s", "b", 0),
        node("MatMul", &["xd", "w"], "m"),
        node("QuantizeLinear", &["m", "s", "z"], "mq"),
        node("DequantizeLinear", &["mq", "s", "z"], "md"),
        node("Add", &["md", "b"], "r"),
    ];
    let mut apart = between(&[3, 4], apart, weight_and_bias());
    graph(&mut apart).initializer[4] = int8("bq", &[2], &[9, 8]);
    graph(&mut apart).initializer.pop();
    let mut apart = read(&apart).unwrap();
    prepare(&mut apart).unwrap();
    assert_eq!(lower(&apart).unwrap().nodes.len(), 2);
}

/// A layer that has a bias already gets the sum of both.
#[test]
fn a_second_bias_is_added_to_the_first() {
    let twice = edited(gemm(&[3, 4], vec![]), |g| {
        g.node[4].output[0] = "m".into();
        g.node.insert(5, node("Add", &["m", "b"], "r"));
    });
    let plain =
        edited(gemm(&[3, 4], vec![]), |g| g.initializer[4] = int32("bq", &[2], &[2000, -60]));
    same(&twice, &plain);
}

#[test]
fn factors_of_a_product_are_in_the_scales() {
    let float = |name: &str, f: f32| AttributeProto {
        name: name.into(),
        r#type: at::FLOAT,
        f: Some(f),
        ..AttributeProto::default()
    };
    let scaled =
        |alpha: f32, beta: f32| gemm(&[3, 4], vec![float("alpha", alpha), float("beta", beta)]);
    let plain = |weight: f32, codes: [i32; 2]| {
        edited(gemm(&[3, 4], vec![]), |g| {
            g.initializer[3] = real("ws", &[2], &[0.5 * weight, 0.25 * weight]);
            g.initializer[4] = int32("bq", &[2], &codes);
            g.initializer[5] = real("bs", &[2], &[0.05 * 0.5 * weight, 0.05 * 0.25 * weight]);
        })
    };
    same(&scaled(0.25, 0.25), &plain(0.25, [1000, -30]));
    same(&scaled(0.25, 1.0), &plain(0.25, [4000, -120]));
    same(&scaled(1.0, 2.0), &plain(1.0, [2000, -60]));
    same(&scaled(2.0, -1.0), &plain(2.0, [-500, 15]));
    let opposite = edited(plain(1.0, [1000, -30]), |g| {
        let codes: Vec<u8> = WEIGHT.iter().flat_map(|&c| (-(c as i16)).to_le_bytes()).collect();
        g.initializer[2] = tensor("wq", dt::INT16, &[4, 2], codes);
    });
    same(&scaled(-1.0, 1.0), &opposite);
    refused(&scaled(0.0, 1.0), "times 0 has scale 0e0");
}

/// A normalization between pairs, of any rank: its factors are codes with a scale for each channel.
#[test]
fn normalizations_between_pairs() {
    for shape in [&[1, 2, 3, 2][..], &[4, 2], &[2, 2, 3]] {
        let norm = node("BatchNormalization", &["xd", "scale", "bias", "mean", "variance"], "r");
        let constants = vec![
            real("scale", &[2], &[-1.7, 0.003]),
            real("bias", &[2], &[0.31, 5.0]),
            real("mean", &[2], &[0.2, -40.0]),
            real("variance", &[2], &[2.0, 0.7]),
        ];
        let (integer, _) = integers(&between(shape, vec![norm], constants));
        let x = Rng(5).reals(&shape.iter().map(|&d| d as usize).collect::<Vec<_>>(), 5.0);
        let y = IntExecutor::new(&integer).run(std::slice::from_ref(&x)).unwrap();
        let inner: usize = x.shape()[2..].iter().product();
        let code =
            |x: f64| ((x / 0.05f32 as f64).round_ties_even() + 3.0).clamp(-128.0, 127.0) - 3.0;
        for (i, (&x, &y)) in x.data().iter().zip(y[0].data()).enumerate() {
            let c = i / inner % 2;
            let factor = [-1.7, 0.003][c] / ([2.0, 0.7][c] + 1e-5f64).sqrt();
            let real = (code(x.into()) * 0.05 - [0.2, -40.0][c]) * factor + [0.31, 5.0][c];
            assert_eq!((y / 0.05).round() as f64, code(real), "{shape:?} {x}");
        }
    }
}

/// Codes of a bias that count in other units are as real as any.
#[test]
fn biases_in_other_units() {
    let with = |codes: TensorProto, scale: &[f32]| {
        edited(gemm(&[3, 4], vec![]), |g| {
            g.initializer[4] = codes;
            g.initializer[5] = real("bs", if scale.len() == 1 { &[] } else { &[2] }, scale);
        })
    };
    let plain = with(int32("bq", &[2], &[320, -640]), &[0.05 * 0.5, 0.05 * 0.25]);
    same(&with(int8("bq", &[2], &[80, -80]), &[0.1]), &plain);
    same(&with(int32("bq", &[2], &[32, -32]), &[0.25]), &plain);
    let far = with(int32("bq", &[2], &[0, 1 << 30]), &[0.5]);
    let mut far = read(&far).unwrap();
    let error = prepare(&mut far).unwrap_err().to_string();
    assert!(error.contains("the bias of channel 1 is 42949672320 units"), "{error}");
}

/// Scales follow the axis of their channels.
#[test]
fn moved_weights_keep_their_scales() {
    let plain = gemm(&[3, 4], vec![]);
    let with = |codes: TensorProto, axis: i64, moves: Vec<NodeProto>, lists: Vec<TensorProto>| {
        edited(plain.clone(), |g| {
            g.initializer[2] = codes;
            g.initializer.extend(lists);
            g.node.remove(2);
            g.node.splice(2..2, [vec![dq("wq", "ws", "w0", axis)], moves].concat());
        })
    };
    let list = |name: &str, list: &[i64]| {
        tensor(
            name,
            dt::INT64,
            &[list.len() as i64],
            list.iter().flat_map(|i| i.to_le_bytes()).collect(),
        )
    };
    let turned = [1, 3, 127, -7, -2, 4, -128, 100];
    let transpose = || node("Transpose", &["w0"], "w").with(ints("perm", &[1, 0]));
    same(&with(int8("wq", &[2, 4], &turned), 0, vec![transpose()], vec![]), &plain);
    let squeeze = vec![node("Squeeze", &["w0", "axes"], "w")];
    same(
        &with(int8("wq", &[1, 4, 1, 2], &WEIGHT), 3, squeeze, vec![list("axes", &[0, 2])]),
        &plain,
    );
    let reshape = vec![node("Reshape", &["w0", "shape"], "w")];
    same(&with(int8("wq", &[2, 2, 2], &WEIGHT), 2, reshape, vec![list("shape", &[4, 2])]), &plain);
    let both = vec![
        node("Unsqueeze", &["w0", "axes"], "w1"),
        node("Transpose", &["w1"], "w2").with(ints("perm", &[2, 0, 1])),
        node("Reshape", &["w2", "shape"], "w"),
    ];
    let lists = vec![list("axes", &[0]), list("shape", &[4, 2])];
    same(&with(int8("wq", &[2, 4], &turned), 0, both, lists), &plain);
    // The other half belongs to another layer.
    let wide: Vec<i8> = WEIGHT.chunks(2).flat_map(|row| [9, row[0], row[1]]).collect();
    let slice = edited(plain.clone(), |g| {
        g.initializer[2] = int8("wq", &[4, 3], &wide);
        g.initializer.push(real("ws3", &[3], &[1.0, 0.5, 0.25]));
        g.initializer.extend([list("start", &[1]), list("end", &[3]), list("axes", &[1])]);
        g.node[2] = dq("wq", "ws3", "w0", 1);
        g.node.insert(3, node("Slice", &["w0", "start", "end", "axes"], "w"));
        g.initializer.remove(3);
    });
    same(&slice, &plain);
    // Channels that are torn apart have no axis any more.
    let torn = vec![node("Reshape", &["w0", "shape"], "w")];
    let torn = with(int8("wq", &[2, 4], &turned), 0, torn, vec![list("shape", &[4, 2])]);
    let mut torn = read(&torn).unwrap();
    prepare(&mut torn).unwrap();
    let error = lower(&torn).unwrap_err().to_string();
    assert!(error.contains("needs 8 or 16 bits and one scale"), "{error}");
}

/// Constant factors of any rank and width, on either side: each code is the exact result, rounded once.
#[test]
fn constants_of_any_rank_are_factors() {
    let bytes = |wide: bool, codes: &[i64]| -> Vec<u8> {
        codes.iter().flat_map(|c| c.to_le_bytes()[..1 + wide as usize].to_vec()).collect()
    };
    let halves = |codes: &[i64]| -> Vec<u8> {
        codes.chunks(2).map(|pair| (pair[0] & 15 | pair.get(1).unwrap_or(&0) << 4) as u8).collect()
    };
    for (data_type, lo, hi, zero) in [
        (dt::INT8, -128, 127, 0),
        (dt::UINT8, 0, 255, 7),
        (dt::INT16, -0x8000, 0x7FFF, 0),
        (dt::INT4, -8, 7, 0),
        (dt::UINT4, 0, 15, 3),
    ] {
        let pack = |codes: &[i64]| match data_type {
            dt::INT4 | dt::UINT4 => halves(codes),
            _ => bytes(data_type == dt::INT16, codes),
        };
        for (x, w, first, rows) in [
            (&[2, 3, 4][..], &[2, 4, 2][..], false, false),
            (&[2, 3, 4], &[1, 4, 2], false, false),
            (&[2, 3, 4], &[5, 3], true, false),
            (&[2, 3, 4], &[5, 3], true, zero == 0),
            (&[2, 3, 4], &[4], false, false),
        ] {
            let len: i64 = w.iter().product();
            let codes: Vec<i64> = (0..len).map(|i| lo + i * 37 % (hi - lo + 1)).collect();
            let scales = vec![0.4 / (hi - lo) as f32; if rows { w[0] as usize } else { 1 }];
            let dims: &[i64] = if rows { &w[..1] } else { &[] };
            let inputs = if first { ["w", "xd"] } else { ["xd", "w"] };
            let nodes = vec![
                node("DequantizeLinear", &["wq", "ws", "wz"], "w").with(int("axis", 0)),
                node("MatMul", &inputs, "r"),
            ];
            let constants = vec![
                tensor("wq", data_type, w, pack(&codes)),
                real("ws", dims, &scales),
                tensor("wz", data_type, dims, pack(&vec![zero; scales.len()])),
            ];
            let mut model = between(x, nodes, constants);
            model.opset_import = vec![opset("", 21)];
            let mut graph = read(&model).unwrap();
            prepare(&mut graph).unwrap();
            let (_, integer) = export_checked(&graph).unwrap();
            let shape: Vec<usize> = x.iter().map(|&d| d as usize).collect();
            let x = Rng(1).reals(&shape, 5.0).map(|x| (x / 0.05).round_ties_even() * 0.05);
            let y = IntExecutor::new(&integer).run(std::slice::from_ref(&x)).unwrap();
            let real = codes.iter().map(|&c| (c - zero) as f32 * scales[0]).collect();
            let w = Tensor::new(w.iter().map(|&d| d as usize).collect::<Vec<_>>(), real).unwrap();
            let plain = node("MatMul", &[["x", "w"], ["w", "x"]][first as usize], "r");
            let dims: Vec<i64> = w.shape().iter().map(|&d| d as i64).collect();
            let plain =
                edited(super::model(vec![plain], vec![super::real("w", &dims, w.data())]), |g| {
                    g.input =
                        vec![value("x", &shape.iter().map(|&d| d as i64).collect::<Vec<_>>())];
                    g.output = vec![output("r")];
                });
            let expected =
                FloatExecutor::new(read(&plain).unwrap()).run(&[x], |_, _| Ok(())).unwrap();
            assert_eq!(y[0].shape(), expected[0].shape());
            for (y, expected) in y[0].data().iter().zip(expected[0].data()) {
                let clipped = expected.clamp(-131.0 * 0.05, 124.0 * 0.05);
                assert!((y - clipped).abs() <= 0.5001 * 0.05, "{y}, not {expected}");
            }
        }
    }
}

/// A number that is dequantized is a number.
#[test]
fn numbers_between_pairs() {
    let pads: Vec<u8> = [0, 1, 0, 2].iter().flat_map(|i: &i64| i.to_le_bytes()).collect();
    for node_of in
        [|c: &str| node("Pad", &["xd", "p", c], "r"), |c: &str| node("Clip", &["xd", "", c], "r")]
    {
        let with = |c: &str| {
            let constants = vec![
                int8("cq", &[], &[23]),
                real("c", &[], &[1.0]),
                tensor("p", dt::INT64, &[4], pads.clone()),
            ];
            let nodes = vec![node("DequantizeLinear", &["cq", "s", "z"], "cd"), node_of(c)];
            let mut graph = read(&between(&[2, 3], nodes, constants)).unwrap();
            prepare(&mut graph).unwrap();
            export_checked(&graph).unwrap().1
        };
        assert_eq!(with("cd"), with("c"));
    }
}
