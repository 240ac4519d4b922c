use super::*;
use crate::ops::Op;
use crate::testing::*;

/// `y[n, o] = bias[o] + Σ x[n, c] · weight[c, o]` over the taps that fall on each position.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    by_image(inputs, |inputs| define_image(op, inputs))
}

fn define_image<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::ConvTranspose(ConvTranspose { window, output_padding, group }) = op else {
        unreachable!()
    };
    let (x, weight) = (&inputs[0], &inputs[1]);
    let &[images, in_ch, h, w] = x.shape() else { unreachable!() };
    let (per_group, kernel) = (weight.shape()[1], window.kernel);
    let size = |axis: usize| {
        let reach = ([h, w][axis] - 1) * window.stride[axis];
        let extent = (kernel[axis] - 1) * window.dilation[axis] + 1;
        reach + extent + output_padding[axis] - window.pads[axis] - window.pads[axis + 2]
    };
    // Pairs of tap and input position that meet at output position `o`.
    let pairs = |axis: usize, o: usize| {
        let all = (0..kernel[axis]).flat_map(move |k| (0..[h, w][axis]).map(move |i| (k, i)));
        let falls = move |k: usize, i: usize| i * window.stride[axis] + k * window.dilation[axis];
        all.filter(move |&(k, i)| falls(k, i) == o + window.pads[axis])
    };
    tabulate(&[images, per_group * group, size(0), size(1)], |y| {
        let mut sum = inputs.get(2).map_or(T::from(0), |bias| at(bias, &[y[1]]));
        let channels = in_ch / group;
        for c in y[1] / per_group * channels..(y[1] / per_group + 1) * channels {
            for (ky, iy) in pairs(0, y[2]) {
                for (kx, ix) in pairs(1, y[3]) {
                    let weight = at(weight, &[c, y[1] % per_group, ky, kx]);
                    sum = sum + at(x, &[y[0], c, iy, ix]) * weight;
                }
            }
        }
        (sum, T::from(1))
    })
}

fn transposed(
    window: Window,
    output_padding: [usize; 2],
    group: usize,
    shapes: &[&[usize]],
) -> Case {
    case(Op::ConvTranspose(ConvTranspose { window, output_padding, group }), shapes)
}

#[test]
fn equals_the_definition() {
    let plain = Window::new;
    let stride = |kernel, stride| Window { stride, ..Window::new(kernel) };
    let cases = [
        transposed(plain([1, 1]), [0, 0], 1, &[&[1, 1, 1, 1], &[1, 1, 1, 1]]),
        transposed(plain([1, 1]), [0, 0], 1, &[&[2, 17, 3, 2], &[17, 3, 1, 1], &[3]]),
        transposed(plain([3, 2]), [0, 0], 1, &[&[2, 3, 4, 5], &[3, 2, 3, 2], &[2]]),
        // As decoders have it: each pixel to 2x2, with and without overlap.
        transposed(stride([2, 2], [2, 2]), [0, 0], 1, &[&[1, 3, 3, 4], &[3, 4, 2, 2], &[4]]),
        transposed(
            Window { pads: [1; 4], ..stride([3, 3], [2, 2]) },
            [1, 1],
            1,
            &[&[1, 3, 3, 4], &[3, 2, 3, 3], &[2]],
        ),
        // A stride beyond the kernel leaves gaps that hold the bias.
        transposed(stride([1, 2], [3, 4]), [2, 0], 1, &[&[1, 2, 2, 3], &[2, 3, 1, 2], &[3]]),
        transposed(
            Window { dilation: [2, 3], pads: [1, 0, 2, 3], ..stride([3, 2], [1, 2]) },
            [0, 1],
            1,
            &[&[1, 2, 4, 3], &[2, 3, 3, 2]],
        ),
        // Groups: several channels in each, and depthwise with a multiplier of 1 and of 2.
        transposed(stride([2, 3], [2, 1]), [0, 0], 3, &[&[1, 6, 2, 3], &[6, 2, 2, 3], &[6]]),
        transposed(
            Window { pads: [1, 0, 0, 1], ..stride([3, 3], [2, 2]) },
            [1, 0],
            5,
            &[&[2, 5, 3, 3], &[5, 1, 3, 3], &[5]],
        ),
        transposed(stride([2, 2], [1, 2]), [0, 1], 2, &[&[1, 2, 3, 3], &[2, 2, 2, 2], &[4]]),
        transposed(plain([2, 2]), [0, 0], 1, &[&[1, 2, 3, 3], &[2, 3, 2, 2], &[3]])
            .clamp(0.0, f32::INFINITY),
        transposed(plain([2, 2]), [0, 0], 1, &[&[1, 2, 3, 3], &[2, 3, 2, 2], &[3]])
            .clamp(-0.5, 1.5),
        // Sequences.
        transposed(stride([1, 3], [1, 2]), [0, 1], 1, &[&[2, 3, 7], &[3, 2, 3], &[2]]),
        transposed(
            Window { dilation: [1, 2], pads: [0, 2, 0, 1], ..plain([1, 4]) },
            [0, 0],
            2,
            &[&[1, 4, 6], &[4, 3, 4]],
        ),
    ];
    check(&cases, define, define);
}

fn node(attributes: &[(&str, Attribute)]) -> OnnxNode {
    onnx_node("ConvTranspose", &[&[1, 2, 4, 5], &[2, 3, 3, 2]], attributes)
}

/// By hand: `total = (size − 1) · stride + extent + output_padding − wanted`.
#[test]
fn pads_by_hand() {
    let text = |s: &str| ("auto_pad", Attribute::String(s.into()));
    let strides = || ("strides", ints(&[2, 2]));
    let shape = |shape: &[i64]| ("output_shape", ints(shape));
    // The full output is 9 x 10.
    for (attributes, pads, output) in [
        (vec![], [0; 4], [9, 10]),
        (vec![("pads", ints(&[1, 0, 2, 3]))], [1, 0, 2, 3], [6, 7]),
        (vec![("output_padding", ints(&[1, 0]))], [0; 4], [10, 10]),
        (vec![text("VALID")], [0; 4], [9, 10]),
        (vec![text("NOTSET")], [0; 4], [9, 10]),
        (vec![text("SAME_UPPER")], [0, 0, 1, 0], [8, 10]),
        (vec![text("SAME_LOWER")], [1, 0, 0, 0], [8, 10]),
        (vec![shape(&[6, 7])], [2, 2, 1, 1], [6, 7]),
        // Pads beside an output shape are ignored: so says ONNX.
        (vec![shape(&[6, 7]), ("pads", ints(&[9; 4]))], [2, 2, 1, 1], [6, 7]),
        (vec![shape(&[6, 7]), text("SAME_UPPER")], [1, 1, 2, 2], [6, 7]),
        (vec![shape(&[7, 8]), ("output_padding", ints(&[1, 0]))], [2, 1, 1, 1], [7, 8]),
    ] {
        let mut node = attributes
            .iter()
            .fold(node(&[strides()]), |node, (name, value)| node.with(name, value.clone()));
        let op = ConvTranspose::import(&mut node).unwrap();
        assert_eq!(op.window.pads, pads, "{attributes:?}");
        let y = op.infer_shape(&[&[1, 2, 4, 5], &[2, 3, 3, 2]]).unwrap();
        assert_eq!(y, [1, 3, output[0], output[1]], "{attributes:?}");
        assert!(node.attributes.is_empty(), "{node:?}");
    }
}

#[test]
fn attributes_that_are_not_known_are_refused() {
    check_refusals([
        (onnx_node("ConvTranspose", &[&[1, 2], &[2, 3]], &[]), "only 1-D and 2-D"),
        (onnx_node("ConvTranspose", &[&[1, 2, 4, 5]], &[]), "input 1 is missing"),
        (node(&[("group", Attribute::Int(0))]), "group"),
        (node(&[("kernel_shape", ints(&[5, 5]))]), "kernel_shape"),
        (node(&[("strides", ints(&[0, 1]))]), "strides"),
        (node(&[("dilations", ints(&[1]))]), "dilations"),
        (node(&[("pads", ints(&[1, 1]))]), "pads"),
        (node(&[("auto_pad", Attribute::String("SAME".into()))]), "auto_pad"),
        (
            node(&[("auto_pad", Attribute::String("SAME_UPPER".into())), ("pads", ints(&[1; 4]))]),
            "auto_pad",
        ),
        (node(&[("output_padding", ints(&[1]))]), "attribute \"output_padding\": expected 2"),
        (node(&[("output_padding", ints(&[-1, 0]))]), "output_padding"),
        (node(&[("output_shape", ints(&[7, 8]))]), "output of [7, 8] is larger than [6, 6]"),
    ]);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let op = |group, pads| ConvTranspose {
        window: Window { pads, ..Window::new([3, 2]) },
        output_padding: [0; 2],
        group,
    };
    for (group, pads, shapes, expected) in [
        (1, [0; 4], vec![&[1, 2, 4, 5][..]], "expected 2 to 3 inputs, got 1"),
        (1, [0; 4], vec![&[1, 2, 4][..], &[2, 3, 3, 2]], "input of shape [1, 2, 4] and weight"),
        (1, [0; 4], vec![&[1, 4, 4, 5][..], &[2, 3, 3, 2]], "expected 2 input channels"),
        (3, [0; 4], vec![&[1, 2, 4, 5][..], &[2, 3, 3, 2]], "in 3 groups"),
        (1, [0; 4], vec![&[1, 2, 4, 5][..], &[2, 3, 2, 2]], "expected a kernel of [3, 2]"),
        (2, [0; 4], vec![&[1, 2, 4, 5][..], &[2, 3, 3, 2], &[3]], "expected 6 biases"),
        (1, [3, 0, 3, 0], vec![&[1, 2, 4, 5][..], &[2, 3, 3, 2]], "leave nothing of the output"),
    ] {
        let message = refused(op(group, pads).infer_shape(&shapes));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

/// Bit for bit: from the bias on, one fused multiply-add for each term, tap by tap, and for each tap channel by
/// channel.
#[test]
fn reals_are_summed_in_one_order() {
    let mut rng = Rng(1);
    for (i, size) in [[1, 1], [4, 5], [3, 17], [2, 33]].into_iter().enumerate() {
        for (kernel, stride, dilation, pads, output_padding) in [
            ([1, 1], [1, 1], [1, 1], [0; 4], [0, 0]),
            ([2, 2], [2, 2], [1, 1], [0; 4], [0, 0]),
            ([3, 3], [2, 2], [1, 1], [1; 4], [1, 1]),
            ([4, 2], [1, 3], [2, 1], [0, 1, 3, 0], [0, 2]),
            ([3, 5], [3, 1], [1, 2], [2, 4, 0, 3], [0, 0]),
        ] {
            for (group, in_ch, per_group) in [(1, 3, 9), (3, 1, 1), (2, 2, 2)] {
                let window = Window { stride, dilation, pads, ..Window::new(kernel) };
                let op = ConvTranspose { window, output_padding, group };
                let [kh, kw] = kernel;
                let x_shape = [1 + i % 2, group * in_ch, size[0], size[1]];
                let shapes = [x_shape, [group * in_ch, per_group, kh, kw]];
                let shape = op.infer_shape(&[&shapes[0], &shapes[1]]).unwrap();
                let [x, weight] = shapes.map(|shape| rng.reals(&shape, 1.0));
                let bias = rng.reals(&[shape[1]], 1.0);
                let y = op.eval_f32(&[&x, &weight, &bias]);
                let expected = tabulate(&shape, |p| {
                    let mut sum = bias.data()[p[1]];
                    for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                        let from = |axis: usize, k: usize| {
                            let full =
                                (p[axis + 2] + pads[axis]).checked_sub(k * dilation[axis])?;
                            let i = full / stride[axis];
                            (full % stride[axis] == 0 && i < size[axis]).then_some(i)
                        };
                        let (Some(iy), Some(ix)) = (from(0, ky), from(1, kx)) else { continue };
                        for c in p[1] / per_group * in_ch..(p[1] / per_group + 1) * in_ch {
                            let w = at(&weight, &[c, p[1] % per_group, ky, kx]);
                            sum = at(&x, &[p[0], c, iy, ix]).mul_add(w, sum);
                        }
                    }
                    sum.to_bits()
                });
                assert_eq!(y.map(|y| y.to_bits()), expected, "{op:?} of {x_shape:?}");
            }
        }
    }
}
