use super::*;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// `y[.., o] = bias[o] + Σ x[.., i] · weight[i, o]`.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Linear(Linear { transposed }) = *op else { unreachable!() };
    let (x, weight) = (&inputs[0], &inputs[1]);
    let (rows, in_ch) = (&x.shape()[..x.shape().len() - 1], *x.shape().last().unwrap());
    let shape = [rows, &[weight.shape()[!transposed as usize]]].concat();
    tabulate(&shape, |y| {
        let (&o, row) = y.split_last().unwrap();
        let mut sum = inputs.get(2).map_or(T::from(0), |bias| at(bias, &[o]));
        for i in 0..in_ch {
            let w = if transposed { at(weight, &[o, i]) } else { at(weight, &[i, o]) };
            sum = sum + at(x, &[row, &[i]].concat()) * w;
        }
        (sum, T::from(1))
    })
}

const OP: Op = Op::Linear(Linear { transposed: false });
const TRANSPOSED: Op = Op::Linear(Linear { transposed: true });

#[test]
fn equals_the_definition() {
    let cases = [
        case(OP, &[&[1, 1], &[1, 1], &[1]]),
        case(OP, &[&[3, 17], &[17, 5], &[5]]),
        case(OP, &[&[2, 5, 3], &[3, 17]]),
        case(OP, &[&[2, 1, 3, 4], &[4, 3]]),
        case(TRANSPOSED, &[&[1, 3], &[17, 3], &[17]]),
        case(TRANSPOSED, &[&[4, 33], &[1, 33]]),
        case(TRANSPOSED, &[&[2, 64], &[3, 64], &[3]]).clamp(0.0, f32::INFINITY),
        case(OP, &[&[2, 7], &[7, 3], &[3]]).clamp(0.0, 6.0),
        case(OP, &[&[2, 7], &[7, 3], &[3]]).clamp(0.5, 1.5),
    ];
    check(&cases, define, define);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    for (shapes, expected) in [
        (vec![&[2, 3][..]], "expected 2 to 3 inputs, got 1"),
        (vec![&[2, 3][..], &[3]], "expected a weight of rank 2"),
        (vec![&[3][..], &[3, 4]], "expected an input of [.., 3], got [3]"),
        (vec![&[2, 4][..], &[3, 4]], "expected an input of [.., 3], got [2, 4]"),
        (vec![&[2, 3][..], &[3, 4], &[3]], "expected 4 biases"),
    ] {
        let message = refused(OP.infer_shape(&shapes));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

fn gemm(attributes: &[(&str, Attribute)], constants: [Option<Tensor<f32>>; 2]) -> OnnxNode {
    let mut node = onnx_node("Gemm", &[&[3, 2], &[2, 3], &[3]], attributes);
    for (input, constant) in node.inputs[1..].iter_mut().zip(constants) {
        *input = constant.map(Input::Real).or(input.take());
    }
    node
}

#[test]
fn attributes_that_are_not_known_are_refused() {
    let bias = |shape: &[usize]| [None, Some(Rng(0).reals(shape, 1.0))];
    check_refusals([
        (gemm(&[("transA", Attribute::Int(1))], [None, None]), "transA"),
        (gemm(&[("transB", Attribute::Int(2))], [None, None]), "transB"),
        (gemm(&[("alpha", Attribute::Float(2.0))], [None, None]), "alpha"),
        (gemm(&[("beta", Attribute::Float(0.5))], [None, None]), "beta"),
        (gemm(&[("alpha", Attribute::Int(1))], [None, None]), "alpha"),
        (gemm(&[], bias(&[2])), "bias of shape [2]"),
        (gemm(&[], bias(&[3, 3])), "bias of shape [3, 3]"),
        // One bias for each row of the result, of which there are as many as channels.
        (gemm(&[], bias(&[3, 1])), "bias of shape [3, 1]"),
    ]);
}

#[test]
fn factors_move_into_the_constants_and_biases_become_a_row() {
    let weight = Rng(1).reals(&[2, 3], 1.0);
    for shape in [&[][..], &[1], &[1, 1], &[3], &[1, 3]] {
        let bias = Rng(2).reals(shape, 1.0);
        let factors = [("alpha", Attribute::Float(2.0)), ("beta", Attribute::Float(0.5))];
        let mut node = gemm(&factors, [Some(weight.clone()), Some(bias.clone())]);
        assert_eq!(Op::import(&mut node).unwrap().unwrap(), OP);
        assert_eq!(node.replaced[&1], weight.map(|w| w * 2.0));
        let expected = (0..3).map(|o| bias.data()[o % bias.data().len()] * 0.5);
        assert_eq!(node.replaced[&2], Tensor::from_vec(expected.collect()), "{shape:?}");
    }
}

#[test]
fn matmul_is_exported_where_gemm_does_not_reach() {
    assert_eq!(OP.export(&[&[2, 5, 3], &[3, 4]], 13).op_type, "MatMul");
    assert_eq!(OP.export(&[&[2, 3], &[3, 4]], 13).op_type, "Gemm");
}

/// `in_ch` inputs, all as far from the zero point as a code can be, and the largest weights.
#[test]
fn the_longest_sums_of_32_and_of_64_bits_are_exact() {
    let graph = |in_ch: usize| {
        let mut net = Net::new(0);
        let x = net.input(&[1, in_ch]);
        let w = net.constant(Tensor::new([in_ch, 2], [1.0, -1.0].repeat(in_ch)).unwrap());
        let y = net.node(OP, &[x, w]);
        let float = net.finish(&[y]);
        let mut ranges = vec![None; float.values.len()];
        ranges[x] = Some(Range { lo: -1.0, hi: 0.0 });
        ranges[y] = Some(Range { lo: -(in_ch as f32), hi: in_ch as f32 });
        quantize(&float, &ranges, SCHEMES[3]).unwrap()
    };
    // 255 · 127 · 66 311 is the last product below 2^31.
    for in_ch in [66_311, 66_312, 200_000] {
        let longest = graph(in_ch);
        let bound = lower(&longest).unwrap().nodes[0].op.acc_bound();
        assert_eq!(bound, Some(255 * 127 * in_ch as i64));
        let lowest = pattern_codes(&longest, &mut Rng(0), Pattern::Lowest);
        assert_eq!(run_int(&longest, &lowest).data(), [-128, 127]);
    }
}
