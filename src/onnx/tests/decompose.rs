//! Operators that become several nodes, against the formulas of ONNX.

use super::*;
use crate::quant::Width;
use crate::tensor::Tensor;
use crate::testing::exec::float::FloatExecutor;
use crate::testing::{Rng, at, tabulate};

fn int64(name: &str, data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|i| i.to_le_bytes()).collect();
    tensor(name, dt::INT64, &[data.len() as i64], raw)
}

fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: Some(s.into()), r#type: at::STRING, ..int(name, 0) }
}

pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), r#type: at::FLOAT, ..int(name, 0) }
}

/// One node of `x` and of constants, with its outputs.
fn of(dims: &[i64], node: NodeProto, constants: Vec<TensorProto>, version: i64) -> ModelProto {
    let outputs = node.output.clone();
    let mut model = model(vec![node], constants);
    model.opset_import = vec![opset("", version)];
    graph(&mut model).input = vec![value("x", dims)];
    graph(&mut model).output = outputs.iter().map(|name| output(name)).collect();
    model
}

/// The input, and the outputs that the imported network computes; the same after export.
fn run(model: &ModelProto) -> (Tensor<f32>, Vec<Tensor<f32>>) {
    let mut graph = read(model).unwrap();
    let x = Rng(5).reals(&graph.values[graph.inputs[0]].shape, 2.0);
    let compute = |graph: &Graph| {
        FloatExecutor::new(graph).run(std::slice::from_ref(&x), |_, _| Ok(())).unwrap()
    };
    let y = compute(&graph);
    let names: Vec<&str> = graph.outputs.iter().map(|&v| graph.values[v].name.as_str()).collect();
    let expected: Vec<&str> =
        model.graph.as_ref().unwrap().output.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, expected);
    passes::prepare(&mut graph);
    let again = import(&export(&graph), None).unwrap();
    compute(&again).iter().zip(&y).for_each(|(again, y)| close(again, &y.map(|&y| y as f64)));
    (x, y)
}

#[track_caller]
fn close(got: &Tensor<f32>, expected: &Tensor<f64>) {
    assert_eq!(got.shape(), expected.shape());
    for (&got, &expected) in got.data().iter().zip(expected.data()) {
        let error = (got as f64 - expected).abs();
        assert!(error <= 2e-5 * expected.abs().max(1.0), "{got}, not {expected}");
    }
}

#[test]
fn split() {
    let attribute = |split: &[i64]| vec![ints("split", split)];
    let given = |split: &[i64]| vec![int64("sizes", split)];
    for (version, axis, count, attributes, constants, sizes) in [
        (11, 1, 2, vec![], vec![], vec![3, 3]),
        (11, -1, 3, attribute(&[1, 2, 2]), vec![], vec![1, 2, 2]),
        (13, 1, 3, vec![], vec![], vec![2, 2, 2]),
        (13, 2, 2, vec![], given(&[3, 1]), vec![3, 1]),
        // The last part of an uneven split is the smaller one.
        (18, 3, 2, vec![int("num_outputs", 2)], vec![], vec![3, 2]),
        (18, 1, 1, vec![int("num_outputs", 1)], vec![], vec![6]),
    ] {
        let mut node = node("Split", &["x"], "y0").with(int("axis", axis));
        node.output = (0..count).map(|i| format!("y{i}")).collect();
        node.input.extend(constants.first().map(|_: &TensorProto| "sizes".to_string()));
        node.attribute.extend(attributes);
        let (x, y) = run(&of(&[2, 6, 4, 5], node, constants, version));
        let axis = axis.rem_euclid(4) as usize;
        let mut start = 0;
        for (size, y) in sizes.into_iter().zip(&y) {
            let mut shape = x.shape().to_vec();
            shape[axis] = size;
            let expected = tabulate(&shape, |position| {
                let mut position = position.to_vec();
                position[axis] += start;
                at(&x, &position)
            });
            assert_eq!(*y, expected);
            start += size;
        }
    }
    let broken = |version, attributes: Vec<AttributeProto>, outputs: &[&str]| {
        let mut node = NodeProto { attribute: attributes, ..node("Split", &["x"], "y") };
        node.output = outputs.iter().map(|&o| o.into()).collect();
        of(&[1, 6, 4, 4], node, vec![], version)
    };
    let (two, axis) = (["y", "z"], || int("axis", 1));
    for (version, attributes, outputs, expected) in [
        (11, vec![axis(), ints("split", &[1, 4])], &two[..], "a split of 6 elements into [1, 4]"),
        (11, vec![axis(), ints("split", &[6, 0])], &two, "into [6, 0] for 2 outputs"),
        (11, vec![axis(), ints("split", &[2, 2, 2])], &two, "for 2 outputs"),
        (11, vec![axis(), ints("split", &[-1, 7])], &two, "-1 is not a size"),
        (18, vec![axis(), int("num_outputs", 3)], &two, "\"num_outputs\" is not 2"),
        (13, vec![int("axis", 4)], &two, "axis 4 of shape"),
        (13, vec![], &two, "a split of 1 elements into [1, 0]"),
    ] {
        refused(&broken(version, attributes, outputs), expected);
    }
}

#[test]
fn reshapes() {
    let with = |name: &str, axes: &[i64]| node(name, &["x"], "y").with(ints("axes", axes));
    let given = |name: &str| node(name, &["x", "axes"], "y");
    for (node, axes, version, shape) in [
        (node("Squeeze", &["x"], "y"), &[][..], 13, &[3, 4][..]),
        (with("Squeeze", &[2]), &[], 11, &[1, 3, 4]),
        (given("Squeeze"), &[-4, 2], 13, &[3, 4]),
        (with("Unsqueeze", &[0, -1]), &[], 11, &[1, 1, 3, 1, 4, 1]),
        (given("Unsqueeze"), &[2], 13, &[1, 3, 1, 1, 4]),
        (node("Cast", &["x"], "y").with(int("to", 1)), &[], 13, &[1, 3, 1, 4]),
        (node("Flatten", &["x"], "y").with(int("axis", 2)), &[], 13, &[3, 4]),
    ] {
        let (x, y) = run(&of(&[1, 3, 1, 4], node, vec![int64("axes", axes)], version));
        assert_eq!((y[0].shape(), y[0].data()), (shape, x.data()));
    }
    let of_x = |node, version| of(&[1, 3, 1, 4], node, vec![int64("axes", &[1])], version);
    refused(&of_x(with("Squeeze", &[1]), 11), "axis 1 of shape [1, 3, 1, 4] is not 1");
    refused(&of_x(given("Squeeze"), 13), "axis 1 of shape [1, 3, 1, 4] is not 1");
    refused(&of_x(with("Unsqueeze", &[5]), 11), "axis 5 of a tensor of rank 5");
    let double = node("Cast", &["x"], "y").with(int("to", 11));
    refused(&of_x(double, 13), "a cast to double, only float is known");
}

/// `y[n, c, h·b + dy, w·b + dx] = x[n, (dy·b + dx)·C + c, h, w]`, or `x[n, c·b² + dy·b + dx, h, w]`.
#[test]
fn depth_and_space() {
    for (mode, dims, b) in [
        ("DCR", [2, 12, 2, 3], 2),
        ("CRD", [2, 12, 2, 3], 2),
        ("DCR", [1, 9, 1, 2], 3),
        ("CRD", [1, 18, 2, 1], 3),
    ] {
        let block = int("blocksize", b as i64);
        let to_space =
            node("DepthToSpace", &["x"], "y").with(block.clone()).with(text("mode", mode));
        let (x, y) = run(&of(&dims, to_space, vec![], 13));
        let channels = dims[1] as usize / (b * b);
        let shape = [dims[0] as usize, channels, dims[2] as usize * b, dims[3] as usize * b];
        let expected = tabulate(&shape, |p| {
            let (c, dy, dx) = (p[1], p[2] % b, p[3] % b);
            let channel = match mode {
                "DCR" => (dy * b + dx) * channels + c,
                _ => c * b * b + dy * b + dx,
            };
            at(&x, &[p[0], channel, p[2] / b, p[3] / b])
        });
        assert_eq!(y[0], expected, "{mode}");
        let to_depth = node("SpaceToDepth", &["x"], "y").with(block);
        let back: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let (x, y) = run(&of(&back, to_depth, vec![], 13));
        let expected = tabulate(&dims.map(|d| d as usize), |p| {
            let (block, c) = (p[1] / channels, p[1] % channels);
            at(&x, &[p[0], c, p[2] * b + block / b, p[3] * b + block % b])
        });
        assert_eq!(y[0], expected);
    }
    let with = |op_type, dims: &[i64], b| {
        of(dims, node(op_type, &["x"], "y").with(int("blocksize", b)), vec![], 13)
    };
    refused(&with("DepthToSpace", &[1, 6, 2, 2], 2), "6 channels in blocks of 2x2");
    refused(&with("SpaceToDepth", &[1, 6, 2, 3], 2), "2x3 pixels in blocks of 2");
    refused(&with("SpaceToDepth", &[1, 6, 2, 3], 0), "\"blocksize\" must be 1 to 64");
    refused(&with("DepthToSpace", &[1, 6, 2, 3], i64::MAX), "\"blocksize\" must be 1 to 64");
    let mode =
        node("DepthToSpace", &["x"], "y").with(int("blocksize", 2)).with(text("mode", "RCD"));
    refused(&of(&[1, 4, 2, 2], mode, vec![], 13), "attribute \"mode\" is \"RCD\"");
}

#[test]
fn gather() {
    for (axis, indices, dims, expected, positions) in [
        (2, &[1, 2][..], &[2][..], &[2, 3, 2, 5][..], &[1, 2][..]),
        (1, &[2, 0], &[1, 2], &[2, 1, 2, 4, 5], &[2, 0]),
        (-1, &[-1], &[], &[2, 3, 4], &[4]),
        (3, &[4, 2, 0, -3], &[4], &[2, 3, 4, 4], &[4, 2, 0, 2]),
    ] {
        let mut list = int64("i", indices);
        list.dims = dims.to_vec();
        let node = node("Gather", &["x", "i"], "y").with(int("axis", axis));
        let model = of(&[2, 3, 4, 5], node, vec![list], 13);
        let (x, y) = run(&model);
        assert_eq!(y[0].shape(), expected);
        let axis = axis.rem_euclid(4) as usize;
        let mut shape = x.shape().to_vec();
        shape[axis] = positions.len();
        let picked = tabulate(&shape, |p| {
            let mut p = p.to_vec();
            p[axis] = positions[p[axis]];
            at(&x, &p)
        });
        assert_eq!(y[0].data(), picked.data());
    }
    let of_index = |i: i64| {
        let node = node("Gather", &["x", "i"], "y").with(int("axis", 1));
        of(&[2, 3, 4, 5], node, vec![int64("i", &[i])], 13)
    };
    refused(&of_index(3), "index 3 of an axis of 3");
    refused(&of_index(-4), "index -4 of an axis of 3");
    refused(&of_index(i64::MIN), "of an axis of 3");
}

#[test]
fn powers_sums_and_quotients() {
    let dims = [1, 2, 2, 3];
    let exponent = |e: f32| {
        let node = vec![node("Sigmoid", &["x"], "s"), node("Pow", &["s", "e"], "y")];
        edited(model(node, vec![real("e", &[], &[e])]), |g| g.input = vec![value("x", &dims)])
    };
    for e in [2.0, 3.0, 0.5, -1.0, 1.7, 4.0, 0.0] {
        let (x, y) = run(&exponent(e));
        close(&y[0], &x.map(|&x| (1.0 / (1.0 + (-x as f64).exp())).powf(e as f64)));
    }
    let nodes = vec![
        node("Sigmoid", &["x"], "s"),
        node("Div", &["x", "s"], "q"),
        node("Div", &["q", "four"], "d"),
        node("Sum", &["x", "d", "four"], "y"),
    ];
    let sum = model(nodes, vec![real("four", &[], &[4.0])]);
    let (x, y) = run(&sum);
    close(&y[0], &x.map(|&x| (x as f64) + x as f64 * (1.0 + (-x as f64).exp()) / 4.0 + 4.0));
    let one = vec![node("Sigmoid", &["x"], "s"), node("Sum", &["s"], "y")];
    let (x, y) = run(&model(one, vec![]));
    close(&y[0], &x.map(|&x| 1.0 / (1.0 + (-x as f64).exp())));
}

/// `f` of the mean over all elements that agree on the axes that are not `reduced`.
fn means(x: &Tensor<f64>, reduced: &[usize]) -> Tensor<f64> {
    let shape = x.shape().to_vec();
    let axes = |which: bool| -> Vec<usize> {
        (0..shape.len()).map(|a| if reduced.contains(&a) == which { shape[a] } else { 1 }).collect()
    };
    let count: usize = axes(true).iter().product();
    tabulate(&shape, |p| {
        let mut sum = 0.0;
        tabulate(&axes(true), |offset| {
            let own = p.iter().enumerate().map(|(a, &i)| if reduced.contains(&a) { 0 } else { i });
            sum += at(x, &own.zip(offset).map(|(i, o)| i + o).collect::<Vec<_>>());
        });
        sum / count as f64
    })
}

/// `(x − mean) / √(variance + epsilon) · scale + bias`
fn normalized(
    x: &Tensor<f32>,
    reduced: &[usize],
    epsilon: f64,
    affine: impl Fn(&[usize]) -> [f64; 2],
) -> Tensor<f64> {
    let x = x.map(|&x| x as f64);
    let mean = means(&x, reduced);
    let square = tabulate(x.shape(), |p| (at(&x, p) - at(&mean, p)).powi(2));
    let variance = means(&square, reduced);
    tabulate(x.shape(), |p| {
        let [scale, bias] = affine(p);
        (at(&x, p) - at(&mean, p)) / (at(&variance, p) + epsilon).sqrt() * scale + bias
    })
}

#[test]
fn normalizations() {
    let (scale, bias) = ([1.5, -0.5, 2.0], [0.25, 1.0, -3.0]);
    let constants =
        |n: usize| vec![real("s", &[n as i64], &scale[..n]), real("b", &[n as i64], &bias[..n])];
    let affine = |i: usize| [scale[i] as f64, bias[i] as f64];
    for dims in [&[2, 3, 4, 5][..], &[2, 3, 7], &[1, 3, 2, 2, 2]] {
        let instance =
            node("InstanceNormalization", &["x", "s", "b"], "y").with(float("epsilon", 0.01));
        let (x, y) = run(&of(dims, instance, constants(3), 13));
        let reduced: Vec<usize> = (2..dims.len()).collect();
        close(&y[0], &normalized(&x, &reduced, 0.01_f32 as f64, |p| affine(p[1])));
    }
    let instance = node("InstanceNormalization", &["x", "s", "b"], "y");
    refused(&of(&[2, 3], instance, constants(3), 13), "shape [2, 3]: only [n, c, ..] is known");
    for (dims, axis, reduced) in [(&[2, 4, 3][..], -1, vec![2]), (&[2, 2, 2, 3], 1, vec![1, 2, 3])]
    {
        let layer = node("LayerNormalization", &["x", "s", "b"], "y").with(int("axis", axis));
        let (x, y) = run(&of(dims, layer, constants(3), 17));
        close(&y[0], &normalized(&x, &reduced, 1e-5_f32 as f64, |p| affine(*p.last().unwrap())));
    }
    let plain = node("LayerNormalization", &["x", "s"], "y");
    let (x, y) = run(&of(&[4, 3], plain, vec![real("s", &[3], &scale)], 17));
    close(&y[0], &normalized(&x, &[1], 1e-5_f32 as f64, |p| [scale[p[1]] as f64, 0.0]));
    let stash = node("LayerNormalization", &["x", "s"], "y").with(int("stash_type", 10));
    refused(&of(&[4, 3], stash, constants(3), 17), "attribute \"stash_type\"");
    let axis = node("LayerNormalization", &["x", "s"], "y").with(int("axis", 3));
    refused(&of(&[4, 3], axis, constants(3), 17), "axis 3 of a tensor of rank 2");
}

#[test]
fn means_and_maxima() {
    let with = |keep: i64, axes: &[i64]| {
        node("ReduceMean", &["x"], "y").with(int("keepdims", keep)).with(ints("axes", axes))
    };
    for (node, version, reduced, shape) in [
        (with(0, &[2, 3]), 13, vec![2, 3], &[2, 3][..]),
        (with(1, &[-1]), 13, vec![3], &[2, 3, 4, 1]),
        (with(0, &[1]), 11, vec![1], &[2, 4, 5]),
        (node("ReduceMean", &["x", "axes"], "y").with(int("keepdims", 0)), 18, vec![1, 3], &[2, 4]),
        (node("ReduceMean", &["x"], "y"), 18, vec![0, 1, 2, 3], &[1, 1, 1, 1]),
        (node("GlobalMaxPool", &["x"], "y"), 13, vec![], &[2, 3, 1, 1]),
    ] {
        let largest = node.op_type == "GlobalMaxPool";
        let (x, y) = run(&of(&[2, 3, 4, 5], node, vec![int64("axes", &[1, 3])], version));
        assert_eq!(y[0].shape(), shape);
        if largest {
            let planes = x.data().chunks_exact(20);
            let max = planes.map(|plane| plane.iter().copied().fold(f32::MIN, f32::max));
            assert_eq!(y[0].data(), max.collect::<Vec<_>>());
            continue;
        }
        let all = means(&x.map(|&x| x as f64), &reduced);
        let size: Vec<usize> =
            (0..4).map(|a| if reduced.contains(&a) { 1 } else { x.shape()[a] }).collect();
        let expected = tabulate(&size, |p| at(&all, p));
        close(&y[0], &expected.reshape(shape).unwrap());
    }
    // Along no axis at all: the values themselves.
    let noop = vec![
        node("Sigmoid", &["x"], "s"),
        node("ReduceMean", &["s"], "y").with(int("noop_with_empty_axes", 1)),
    ];
    let mut noop = model(noop, vec![]);
    noop.opset_import = vec![opset("", 18)];
    let (x, y) = run(&noop);
    close(&y[0], &x.map(|&x| 1.0 / (1.0 + (-x as f64).exp())));
}

/// An index is an integer in the file and a real number here.
#[test]
fn argmax_and_its_cast() {
    let argmax = |x: &str, y: &str| node("ArgMax", &[x], y).with(int("axis", 1));
    let cast = |to: i64| node("Cast", &["i"], "y").with(int("to", to));
    for nodes in
        [vec![argmax("x", "y")], vec![argmax("x", "i"), cast(1)], vec![argmax("x", "i"), cast(6)]]
    {
        let graph = read(&model(nodes, vec![])).unwrap();
        assert_eq!((graph.nodes.len(), graph.values[graph.outputs[0]].name.as_str()), (1, "y"));
        let again = import(&export(&graph), None).unwrap();
        assert_eq!(again.nodes[0].op, graph.nodes[0].op);
    }
    refused(&model(vec![argmax("x", "i"), cast(9)], vec![]), "int64 cast to bool");
    refused(
        &model(vec![argmax("x", "i"), node("Relu", &["i"], "y")], vec![]),
        "in node \"y_node\" (Relu): unsupported: input \"i\" is made of integers",
    );
    let mut both = model(vec![argmax("x", "i"), cast(1)], vec![]);
    graph(&mut both).output.push(output("i"));
    refused(&both, "\"i\" and \"y\" are both outputs");

    // Behind codes, the index has scale 1; what is written and read again is the same.
    let mut quantized = qdq();
    graph(&mut quantized).node[2] = argmax("xd", "y");
    graph(&mut quantized).node.truncate(3);
    let mut graph = read(&quantized).unwrap();
    crate::testing::quantize::complete_params(&mut graph).unwrap();
    let y = &graph.values[graph.outputs[0]];
    assert_eq!(y.quant, Some(crate::quant::QuantParams::per_tensor(1.0, -128, Width::W8)));
    let mut again = import(&export(&graph), None).unwrap();
    crate::testing::quantize::prepare(&mut again).unwrap();
    assert_eq!(lower(&again).unwrap(), lower(&graph).unwrap());
    // On codes, too.
    let on_codes = edited(quantized, |g| g.node[2].input[0] = "xq".into());
    read(&on_codes).unwrap();
}

/// Scale and offset that the network computes are nodes behind it; what is divided by a length is one node.
#[test]
fn normalizations_of_other_kinds() {
    let constant = || real("s", &[3], &[1.5, -0.5, 2.0]);
    let rms = node("RMSNormalization", &["x", "s"], "y");
    let (x, y) = run(&of(&[4, 3], rms, vec![constant()], 23));
    let x = x.map(|&x| x as f64);
    let square =
        |p: &[usize], count: f64| (0..3).map(|i| at(&x, &[p[0], i]).powi(2)).sum::<f64>() / count;
    let scale = [1.5, -0.5, 2.0];
    close(
        &y[0],
        &tabulate(&[4, 3], |p| at(&x, p) / (square(p, 3.0) + 1e-5_f32 as f64).sqrt() * scale[p[1]]),
    );
    let length = node("LpNormalization", &["x"], "y");
    let (_, y) = run(&of(&[4, 3], length, vec![], 13));
    close(&y[0], &tabulate(&[4, 3], |p| at(&x, p) / square(p, 1.0).sqrt()));
    let squares =
        node("ReduceSumSquare", &["x"], "y").with(ints("axes", &[1])).with(int("keepdims", 0));
    let (x, y) = run(&of(&[4, 3], squares, vec![], 13));
    let x = x.map(|&x| x as f64);
    close(&y[0], &tabulate(&[4], |p| (0..3).map(|i| at(&x, &[p[0], i]).powi(2)).sum()));
    let length = node("ReduceL2", &["x"], "y").with(ints("axes", &[1])).with(int("keepdims", 0));
    let (_, y) = run(&of(&[4, 3], length, vec![], 13));
    close(&y[0], &tabulate(&[4], |p| square(p, 1.0).sqrt()));
}

/// Constants of any rank on either side, and transposed ones, are factors.
#[test]
fn products_with_constants() {
    let product = |a: &Tensor<f64>, b: &Tensor<f64>, position: &[usize]| -> f64 {
        let (lead, at_end) = position.split_at(position.len() - 2);
        let k = a.shape()[a.shape().len() - 1];
        let one = |x: &Tensor<f64>, last: [usize; 2]| {
            let own = x.shape().len() - 2;
            let lead = lead[lead.len().saturating_sub(own)..].iter().zip(x.shape());
            at(x, &[lead.map(|(&p, &d)| p % d).collect::<Vec<_>>(), last.to_vec()].concat())
        };
        (0..k).map(|i| one(a, [at_end[0], i]) * one(b, [i, at_end[1]])).sum()
    };
    let weight = |shape: &[usize]| Rng(9).reals(shape, 1.0);
    for (x, w, first, shape) in [
        (&[2, 3, 4][..], &[2, 4, 5][..], false, &[2, 3, 5][..]),
        (&[2, 3, 4], &[1, 4, 5], false, &[2, 3, 5]),
        (&[2, 4], &[1, 1, 4, 5], false, &[1, 1, 2, 5]),
        (&[3, 4], &[2, 4, 5], false, &[2, 3, 5]),
        (&[2, 3, 4], &[5, 3], true, &[2, 5, 4]),
        (&[3, 4], &[2, 1, 5, 3], true, &[2, 1, 5, 4]),
        (&[2, 3, 4], &[4], false, &[2, 3]),
        (&[2, 3, 4], &[3], true, &[2, 4]),
    ] {
        let dims: Vec<i64> = w.iter().map(|&d| d as i64).collect();
        let constant = real("w", &dims, weight(w).data());
        let inputs = if first { ["w", "x"] } else { ["x", "w"] };
        let x: Vec<i64> = x.iter().map(|&d| d as i64).collect();
        let (x, y) = run(&of(&x, node("MatMul", &inputs, "y"), vec![constant], 13));
        let (x, mut w) = (x.map(|&x| x as f64), weight(w).map(|&x| x as f64));
        let mut whole = shape.to_vec();
        if let &[k] = w.shape() {
            w = w.reshape(if first { [1, k] } else { [k, 1] }).unwrap();
            whole.insert(shape.len() - first as usize, 1);
        }
        let (a, b) = if first { (&w, &x) } else { (&x, &w) };
        close(&y[0], &tabulate(&whole, |p| product(a, b, p)).reshape(shape).unwrap());
    }
    for (transposed, first) in [(0, true), (1, true), (1, false), (2, true), (3, false)] {
        let [of_a, of_b] = [transposed & 1, transposed >> 1];
        let attributes = vec![
            int("transA", of_a),
            int("transB", of_b),
            float("alpha", 0.5),
            float("beta", -2.0),
        ];
        let inputs = if first { ["w", "x", "c"] } else { ["x", "w", "c"] };
        let gemm = NodeProto { attribute: attributes, ..node("Gemm", &inputs, "y") };
        let turned = |turn: i64, m: usize, n: usize| if turn == 1 { [n, m] } else { [m, n] };
        let [a, b] = [turned(of_a, 3, 4), turned(of_b, 4, 5)];
        let (x, w) = if first { (b, a) } else { (a, b) };
        let constants = vec![
            real("w", &w.map(|d| d as i64), weight(&w).data()),
            real("c", &[3, 1], &[1.0, 2.0, 3.0]),
        ];
        let (x, y) = run(&of(&x.map(|d| d as i64), gemm, constants, 13));
        let (x, w) = (x.map(|&x| x as f64), weight(&w).map(|&x| x as f64));
        let (a, b) = if first { (&w, &x) } else { (&x, &w) };
        let [a, b] = [(a, of_a), (b, of_b)]
            .map(|(m, turn)| if turn == 1 { m.transpose(&[1, 0]) } else { m.clone() });
        close(&y[0], &tabulate(&[3, 5], |p| 0.5 * product(&a, &b, p) - 2.0 * (p[0] + 1) as f64));
    }
}

/// A sum is a mean times its count; the larger one of a value and a number is a clamp.
#[test]
fn sums_along_axes_and_limits() {
    for (opset, keep) in [(11, 1), (13, 0), (18, 1)] {
        let mut total = node("ReduceSum", &["x"], "y").with(int("keepdims", keep));
        let mut constants = vec![];
        match opset {
            11 => total = total.with(ints("axes", &[-1])),
            _ => {
                total.input.push("axes".into());
                constants.push(int64("axes", &[-1]));
            }
        }
        let (x, y) = run(&of(&[4, 3], total, constants, opset));
        let x = x.map(|&x| x as f64);
        let shape = if keep == 1 { vec![4, 1] } else { vec![4] };
        close(&y[0], &tabulate(&shape, |p| (0..3).map(|i| at(&x, &[p[0], i])).sum()));
    }
    let limit = |name: &str, x: f32| real(name, &[], &[x]);
    for (op_type, of_two) in [("Max", f64::max as fn(f64, f64) -> f64), ("Min", f64::min)] {
        let bound = node(op_type, &["a", "x", "b"], "y");
        let constants = vec![limit("a", 0.25), limit("b", 0.5)];
        let (x, y) = run(&of(&[4, 3], bound, constants, 13));
        let both = of_two(0.25, 0.5);
        close(&y[0], &tabulate(&[4, 3], |p| of_two(at(&x, p) as f64, both)));
    }
    let many = node("Max", &["x", "a", "b"], "y");
    let constants = vec![real("a", &[3], &[1.0, 0.0, -1.0]), limit("b", -0.25)];
    let (x, y) = run(&of(&[4, 3], many, constants, 13));
    let largest = |p: &[usize]| (at(&x, p) as f64).max([1.0, 0.0, -0.25][p[1]]);
    close(&y[0], &tabulate(&[4, 3], largest));
    let chosen = node("Where", &["c", "x", "b"], "y");
    refused(&of(&[4, 3], chosen, vec![limit("b", 1.0), limit("c", 1.0)], 13), "no constant");
}

/// Until opset 12 all axes from one on were one.
#[test]
fn old_softmax_runs_over_all_axes_from_one_on() {
    for (op_type, axis) in [("Softmax", 1), ("Softmax", 0), ("Softmax", -1), ("LogSoftmax", 1)] {
        let node = node(op_type, &["x"], "y").with(int("axis", axis));
        let (x, y) = run(&of(&[2, 3, 4], node, vec![], 11));
        let size = match axis {
            0 => 24,
            1 => 12,
            _ => 4,
        };
        let expected = x.data().chunks(size).flat_map(|line| {
            let sum: f64 = line.iter().map(|&x| (x as f64).exp()).sum();
            line.iter().map(move |&x| match op_type {
                "Softmax" => (x as f64).exp() / sum,
                _ => x as f64 - sum.ln(),
            })
        });
        close(&y[0], &Tensor::new([2, 3, 4], expected.collect()).unwrap());
    }
}

/// Also one that no other factor has.
#[test]
fn einsum_sums_over_labels_that_are_left_out() {
    let mut node = node("Einsum", &["x"], "y");
    node.attribute.push(text("equation", "bij->ib"));
    let (x, y) = run(&of(&[2, 3, 4], node, vec![], 13));
    let sum = |i: usize, b: usize| x.data()[(b * 3 + i) * 4..][..4].iter().map(|&x| x as f64).sum();
    let expected = (0..6).map(|at| sum(at / 2, at % 2)).collect();
    close(&y[0], &Tensor::new([3, 2], expected).unwrap());
}

/// `y = x · w / 2 − 3 · x`, and with a number for each place.
#[test]
fn what_a_gemm_adds_may_be_computed_or_a_matrix() {
    let w: Vec<f32> = (0..16).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
    let c: Vec<f32> = (0..12).map(|i| i as f32).collect();
    for added in ["x", "c"] {
        let attributes = vec![float("alpha", 0.5), float("beta", -3.0)];
        let gemm = NodeProto { attribute: attributes, ..node("Gemm", &["x", "w", added], "y") };
        let constants = vec![real("w", &[4, 4], &w), real("c", &[3, 4], &c)];
        let (x, y) = run(&of(&[3, 4], gemm, constants, 13));
        for (i, &y) in y[0].data().iter().enumerate() {
            let (row, column) = (i / 4, i % 4);
            let sum: f32 = (0..4).map(|k| x.data()[row * 4 + k] * w[k * 4 + column]).sum();
            let more = if added == "x" { x.data()[i] } else { c[i] };
            assert!((y - (0.5 * sum - 3.0 * more)).abs() < 1e-4, "{added} {i}: {y}");
        }
    }
}

/// Indices that are given, of a table of `[3, 4, 2]` along each axis, also counted from behind.
#[test]
fn parts_of_a_table_along_any_axis() {
    let sizes = [3, 4, 2];
    let table: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let indices = [1, 0, 1, 1];
    for axis in [0, 1, 2, -1] {
        let gather = node("Gather", &["e", "x"], "y").with(int("axis", axis));
        let mut model = of(&[2, 2], gather, vec![real("e", &[3, 4, 2], &table)], 13);
        let input = graph(&mut model).input[0].r#type.as_mut().unwrap();
        input.tensor_type.as_mut().unwrap().elem_type = dt::INT64;
        let network = read(&model).unwrap();
        let x = Tensor::new([2, 2], indices.map(|i| i as f32).to_vec()).unwrap();
        let executor = crate::testing::exec::float::FloatExecutor::new(&network);
        let y = executor.run(&[x], |_, _| Ok(())).unwrap().swap_remove(0);
        let axis = axis.rem_euclid(3) as usize;
        let shape = [&sizes[..axis], &[2, 2], &sizes[axis + 1..]].concat();
        assert_eq!(y.shape(), shape);
        let expected = tabulate(&shape, |p| {
            let index = indices[2 * p[axis] + p[axis + 1]];
            let place = [&p[..axis], &[index], &p[axis + 2..]].concat();
            table[(place[0] * 4 + place[1]) * 2 + place[2]]
        });
        assert_eq!(y, expected);
        let again = import(&export(&network), None).unwrap();
        let x = Tensor::new([2, 2], indices.map(|i| i as f32).to_vec()).unwrap();
        let executor = crate::testing::exec::float::FloatExecutor::new(&again);
        assert_eq!(executor.run(&[x], |_, _| Ok(())).unwrap()[0], expected);
    }
}
