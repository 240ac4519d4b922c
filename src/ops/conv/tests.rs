use super::*;
use crate::codes::CodeTensor;
use crate::ops::{IntOp, Op};
use crate::testing::graph::{Constant, Graph};
use crate::testing::lower::lower;
use crate::testing::*;

/// `y[n, o] = bias[o] + Σ x[n, c] · weight[o, c]` over the taps of each position.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    by_image(inputs, |inputs| define_image(op, inputs))
}

fn define_image<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Conv(Conv { window, group }) = op else { unreachable!() };
    let (x, weight) = (&inputs[0], &inputs[1]);
    let (images, out_ch, per_group) = (x.shape()[0], weight.shape()[0], weight.shape()[1]);
    let [rows, columns] = [0, 1].map(|axis| taps(window, axis, x.shape()[axis + 2]));
    tabulate(&[images, out_ch, rows.len(), columns.len()], |y| {
        let mut sum = inputs.get(2).map_or(T::from(0), |bias| at(bias, &[y[1]]));
        let first = y[1] / (out_ch / group) * per_group;
        for c in 0..per_group {
            for (ky, iy) in rows[y[2]].iter().enumerate() {
                for (kx, ix) in columns[y[3]].iter().enumerate() {
                    if let (Some(iy), Some(ix)) = (*iy, *ix) {
                        let x = at(x, &[y[0], first + c, iy, ix]);
                        sum = sum + x * at(weight, &[y[1], c, ky, kx]);
                    }
                }
            }
        }
        (sum, T::from(1))
    })
}

fn conv(window: Window, group: usize, shapes: &[&[usize]]) -> Case {
    case(Op::Conv(Conv { window, group }), shapes)
}

#[test]
fn equals_the_definition() {
    let plain = Window::new;
    let cases = [
        conv(plain([1, 1]), 1, &[&[1, 1, 1, 1], &[1, 1, 1, 1]]),
        conv(plain([1, 1]), 1, &[&[2, 17, 3, 2], &[3, 17, 1, 1], &[3]]),
        conv(plain([3, 3]), 1, &[&[1, 3, 5, 6], &[17, 3, 3, 3], &[17]]),
        // 1x1 output; a 2-D kernel that is not square.
        conv(plain([4, 5]), 1, &[&[1, 3, 4, 5], &[2, 3, 4, 5], &[2]]),
        conv(Window { pads: [1; 4], ..plain([3, 3]) }, 1, &[&[2, 1, 4, 4], &[3, 1, 3, 3], &[3]]),
        conv(
            Window { stride: [2, 2], pads: [0, 1, 2, 0], ..plain([3, 2]) },
            1,
            &[&[1, 3, 6, 5], &[4, 3, 3, 2], &[4]],
        ),
        conv(Window { stride: [3, 2], ..plain([2, 1]) }, 1, &[&[1, 3, 8, 5], &[2, 3, 2, 1]]),
        conv(
            Window { dilation: [2, 3], pads: [2, 3, 1, 0], ..plain([3, 2]) },
            1,
            &[&[1, 2, 6, 5], &[3, 2, 3, 2], &[3]],
        ),
        conv(plain([2, 2]), 3, &[&[1, 6, 3, 4], &[9, 2, 2, 2], &[9]]),
        // Depthwise, with a channel multiplier of 1 and of 2.
        conv(
            Window { pads: [1; 4], ..plain([3, 3]) },
            17,
            &[&[1, 17, 4, 3], &[17, 1, 3, 3], &[17]],
        ),
        conv(Window { stride: [2, 1], ..plain([3, 3]) }, 3, &[&[1, 3, 5, 4], &[6, 1, 3, 3], &[6]]),
        // Windows that lie wholly in the padding see zeros.
        conv(
            Window { pads: [3, 0, 0, 3], ..plain([2, 2]) },
            1,
            &[&[1, 1, 2, 2], &[1, 1, 2, 2], &[1]],
        ),
        conv(plain([3, 3]), 1, &[&[1, 3, 4, 4], &[3, 3, 3, 3], &[3]]).clamp(0.0, f32::INFINITY),
        conv(plain([3, 3]), 1, &[&[1, 3, 4, 4], &[3, 3, 3, 3], &[3]]).clamp(0.0, 6.0),
        conv(plain([1, 2]), 1, &[&[1, 3, 4, 4], &[3, 3, 1, 2], &[3]]).clamp(0.25, 2.5),
        conv(plain([1, 2]), 1, &[&[1, 3, 4, 4], &[3, 3, 1, 2], &[3]])
            .clamp(f32::NEG_INFINITY, -0.1),
        // Sequences.
        conv(plain([1, 1]), 1, &[&[2, 3, 1], &[4, 3, 1], &[4]]),
        conv(
            Window { stride: [1, 2], pads: [0, 2, 0, 1], ..plain([1, 5]) },
            1,
            &[&[2, 3, 17], &[9, 3, 5], &[9]],
        ),
        conv(Window { dilation: [1, 3], ..plain([1, 3]) }, 17, &[&[1, 17, 9], &[17, 1, 3]]),
        conv(Window { pads: [0, 4, 0, 0], ..plain([1, 2]) }, 2, &[&[1, 4, 6], &[6, 2, 2], &[6]]),
    ];
    check(&cases, define, define);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let op = |group| Op::Conv(Conv { window: Window::new([3, 3]), group });
    for (group, shapes, expected) in [
        (1, vec![&[1, 3, 8, 8][..]], "expected 2 to 3 inputs, got 1"),
        (1, vec![&[1, 3, 8][..], &[4, 3, 3, 3]], "input of shape [1, 3, 8] and weight of shape"),
        (1, vec![&[1, 2, 8, 8][..], &[4, 3, 3, 3]], "expected 3 x 1 groups input channels, got 2"),
        (3, vec![&[1, 3, 8, 8][..], &[4, 1, 3, 3]], "4 output channels"),
        (1, vec![&[1, 3, 8, 8][..], &[4, 3, 3, 5]], "expected a kernel of [3, 3]"),
        (1, vec![&[1, 3, 8, 8][..], &[4, 3, 3, 3], &[3]], "expected 4 biases"),
        (1, vec![&[1, 3, 8, 2][..], &[4, 3, 3, 3]], "does not fit into the padded width of 2"),
    ] {
        let message = refused(op(group).infer_shape(&shapes));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn attributes_that_are_not_known_are_refused() {
    let node = |attributes: &[(&str, Attribute)]| {
        onnx_node("Conv", &[&[1, 3, 8, 8], &[4, 3, 3, 3]], attributes)
    };
    let text = |s: &str| Attribute::String(s.into());
    check_refusals([
        (
            onnx_node("Conv", &[&[1, 3, 8, 8, 8], &[4, 3, 3, 3, 3]], &[]),
            "only 1-D and 2-D are known",
        ),
        (
            onnx_node("Conv", &[&[1, 3, 8], &[4, 3, 3]], &[("strides", ints(&[1, 1]))]),
            "expected 1 sizes",
        ),
        (
            onnx_node("Conv", &[&[1, 3, 8], &[4, 3, 3]], &[("pads", ints(&[1; 4]))]),
            "expected 2 sizes",
        ),
        (onnx_node("Conv", &[&[1, 3, 8, 8]], &[]), "input 1 is missing"),
        (node(&[("group", Attribute::Int(0))]), "group"),
        (node(&[("group", Attribute::Float(1.0))]), "group"),
        (node(&[("kernel_shape", ints(&[5, 5]))]), "kernel_shape"),
        (node(&[("strides", ints(&[1]))]), "strides"),
        (node(&[("strides", ints(&[0, 1]))]), "strides"),
        (node(&[("dilations", ints(&[1, 1, 1]))]), "dilations"),
        (node(&[("pads", ints(&[1, 1]))]), "pads"),
        (node(&[("pads", ints(&[-1, 0, 0, 0]))]), "pads"),
        (node(&[("auto_pad", text("SAME"))]), "auto_pad"),
        (node(&[("auto_pad", text("SAME_UPPER")), ("pads", ints(&[1; 4]))]), "auto_pad"),
    ]);
}

/// By hand, from `pad = (ceil(size / stride) - 1) * stride + extent - size`.
#[test]
fn auto_pad_by_hand() {
    for (mode, size, kernel, stride, dilation, pads) in [
        ("NOTSET", [5, 5], [3, 3], [1, 1], [1, 1], [0, 0, 0, 0]),
        ("VALID", [5, 5], [3, 3], [2, 2], [1, 1], [0, 0, 0, 0]),
        ("SAME_UPPER", [5, 5], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
        ("SAME_UPPER", [5, 6], [2, 3], [1, 2], [1, 1], [0, 0, 1, 1]),
        ("SAME_LOWER", [5, 6], [2, 3], [1, 2], [1, 1], [1, 1, 0, 0]),
        ("SAME_UPPER", [7, 7], [1, 2], [3, 3], [1, 1], [0, 0, 0, 1]),
        ("SAME_LOWER", [9, 8], [3, 2], [1, 1], [2, 3], [2, 2, 2, 1]),
        ("SAME_UPPER", [9, 8], [3, 2], [1, 1], [2, 3], [2, 1, 2, 2]),
    ] {
        let attributes = [
            ("auto_pad", Attribute::String(mode.into())),
            ("strides", ints(&stride)),
            ("dilations", ints(&dilation)),
        ];
        let shapes = [&[1, 1, size[0], size[1]][..], &[1, 1, kernel[0], kernel[1]]];
        let mut node = onnx_node("Conv", &shapes, &attributes);
        let conv = Conv::import(&mut node).unwrap();
        assert_eq!(conv.window.pads, pads, "{mode} {size:?} {kernel:?} {stride:?} {dilation:?}");
        assert!(node.attributes.is_empty());
    }
}

/// Quantized, with a bias code that the caller chooses.
fn with_bias(code: i32) -> Graph {
    let float = conv(Window::new([2, 2]), 1, &[&[1, 3, 2, 2], &[1, 3, 2, 2], &[1]]).graph(1);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(1), 1.0));
    let mut graph = quantizations(&float, &ranges).next().unwrap();
    let bias = graph.nodes[0].inputs[2];
    let code = CodeTensor::I32(Tensor::from_vec(vec![code]));
    graph.values[bias].constant = Some(Constant::Codes(code));
    graph
}

#[test]
fn sums_beyond_31_bits_are_as_exact() {
    for sign in [1, -1] {
        let IntOp::Conv(small) = lower(&with_bias(sign)).unwrap().nodes.remove(0).op else {
            unreachable!()
        };
        // Zero point 0: the bound is |bias| + 128 Σ|w|.
        let largest = sign * (i32::MAX - small.acc.bound as i32 + 1);
        let graph = with_bias(largest);
        assert_eq!(lower(&graph).unwrap().nodes[0].op.acc_bound(), Some(i32::MAX as i64));
        for pattern in PATTERNS {
            let y = run_int(&graph, &pattern_codes(&graph, &mut Rng(2), pattern));
            assert_eq!(y.data(), [if sign > 0 { 127 } else { -128 }]);
        }
        // One more needs 64 bits, and has the same codes on either side.
        let graph = with_bias(largest + sign);
        assert_eq!(lower(&graph).unwrap().nodes[0].op.acc_bound(), Some(1 << 31));
        for pattern in PATTERNS {
            let y = run_int(&graph, &pattern_codes(&graph, &mut Rng(2), pattern));
            assert_eq!(y.data(), [if sign > 0 { 127 } else { -128 }]);
        }
    }
}

#[test]
fn rescaling_factors_out_of_range_are_refused() {
    for scale in [1e-30, 1e30] {
        let mut graph = with_bias(0);
        graph.values.last_mut().unwrap().quant.as_mut().unwrap().scale = vec![scale];
        let message = refused(lower(&graph));
        assert!(message.starts_with("in node \"n0\" (Conv): rescaling factor"), "{message}");
    }
}

/// Bit for bit: from the bias on, one fused multiply-add for each term in the order of the weight; padding adds
/// zeros.
#[test]
fn reals_are_summed_in_one_order() {
    let mut rng = Rng(1);
    let mut equal = |conv: Conv, x_shape: [usize; 4], per_group: usize, bias: bool| {
        let out_ch = conv.group * per_group;
        let [kh, kw] = conv.window.kernel;
        let shapes = [x_shape, [out_ch, x_shape[1] / conv.group, kh, kw]];
        let Ok(shape) = conv.infer_shape(&[&shapes[0], &shapes[1]]) else { return false };
        let mut inputs: Vec<_> = shapes.iter().map(|shape| rng.reals(shape, 1.0)).collect();
        inputs.extend(bias.then(|| rng.reals(&[out_ch], 1.0)));
        let y = conv.eval_f32(&inputs.iter().collect::<Vec<_>>());
        let (x, weight, w) = (&inputs[0], &inputs[1], &conv.window);
        let expected = tabulate(&shape, |p| {
            let mut sum = inputs.get(2).map_or(0.0, |bias| bias.data()[p[1]]);
            for c in 0..shapes[1][1] {
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let row = w.position(0, p[2], ky, x_shape[2]);
                    let place = row.zip(w.position(1, p[3], kx, x_shape[3]));
                    let channel = p[1] / per_group * shapes[1][1] + c;
                    let x = place.map_or(0.0, |(iy, ix)| at(x, &[p[0], channel, iy, ix]));
                    sum = x.mul_add(at(weight, &[p[1], c, ky, kx]), sum);
                }
            }
            sum.to_bits()
        });
        assert_eq!(y.map(|y| y.to_bits()), expected, "{conv:?} of {x_shape:?}");
        true
    };
    let window =
        |kernel, stride, dilation, pads| Window { stride, dilation, pads, ..Window::new(kernel) };
    let mut count = 0;
    for (i, size) in [[1, 1], [4, 5], [7, 16], [9, 17], [5, 48], [16, 33]].into_iter().enumerate() {
        for kernel in [[1, 1], [3, 3], [2, 5], [1, 4]] {
            for stride in [[1, 1], [2, 2], [3, 1], [1, 4], [5, 7]] {
                for (dilation, pads) in [
                    ([1, 1], [0; 4]),
                    ([1, 1], [1; 4]),
                    ([2, 3], [2, 0, 1, 5]),
                    ([1, 2], [0, 9, 7, 0]),
                ] {
                    let window = window(kernel, stride, dilation, pads);
                    for (group, in_ch, per_group) in [(1, 3, 5), (3, 1, 1), (2, 2, 9), (2, 1, 2)] {
                        let shape = [1 + i % 2, group * in_ch, size[0], size[1]];
                        count +=
                            equal(Conv { window, group }, shape, per_group, i % 3 > 0) as usize;
                    }
                }
            }
        }
    }
    assert!(count > 1000, "{count}");
    // More terms than are padded at a time; and padding too large to be written out.
    let around = window([3, 3], [1, 1], [1, 1], [1; 4]);
    assert!(equal(Conv { window: around, group: 1 }, [1, 130, 5, 6], 9, true));
    let large = window([2, 2], [900, 700], [700, 900], [1500, 1000, 2000, 700]);
    for (group, in_ch) in [(1, 2), (2, 1)] {
        assert!(equal(Conv { window: large, group }, [1, in_ch * group, 3, 2], 1, true));
        // A step that is never taken.
        let far = window([1, 1], [1 << 40, 1 << 30], [1, 1], [0; 4]);
        assert!(equal(Conv { window: far, group }, [1, in_ch * group, 3, 2], 1, true));
    }
}
