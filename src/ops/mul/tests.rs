use super::*;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// `y[i] = a[i] · b[i]`
fn define<T: Number>(_: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let (a, b) = (&inputs[0], &inputs[1]);
    tabulate(&broadcast_shape(a.shape(), b.shape()), |y| {
        (broadcast_at(a, y) * broadcast_at(b, y), T::from(1))
    })
}

fn mul(a: &[usize], b: &[usize]) -> Case {
    case(Op::Mul(Mul), &[a, b])
}

#[test]
fn equals_the_definition() {
    let image: &[usize] = &[2, 3, 4, 5];
    let mut cases = vec![
        mul(&[1], &[1]),
        mul(&[17], &[17]),
        mul(&[3, 5], &[5]),
        mul(&[3, 1], &[1, 5]),
        mul(&[2, 3, 4], &[]),
        mul(image, image).clamp(0.0, f32::INFINITY),
        mul(image, image).clamp(-0.5, 0.25),
        mul(image, image).channels_last(0).channels_last(1),
        mul(image, image).channels_last(0),
        mul(image, image).channels_last(1),
        mul(&[2, 1, 4, 1], &[1, 3, 1, 5]).channels_last(0),
    ];
    for other in [&[2, 3, 1, 1][..], &[1, 3, 4, 1], &[1, 1, 1, 5], &[3, 4, 5], &[4, 1], &[5], &[]] {
        cases.push(mul(image, other));
        cases.push(mul(other, image).channels_last(1));
        cases.push(mul(image, other).constant(1).channels_last(0));
        cases.push(mul(other, image).constant(0).channels_last(1));
    }
    check(&cases, define, define);
}

/// Both arguments at their far ends: the product is the proven bound.
#[test]
fn the_largest_product_is_the_bound() {
    let float = mul(&[1], &[1]).graph(0);
    let range = |lo, hi| Some(Range { lo, hi });
    for (x, code, widest) in [(range(0.0, 1.0), 127, 255), (range(-1.0, 0.0), -128, 255)] {
        let graph = quantize(&float, &[x, x, range(0.0, 1.0)], SCHEMES[2]).unwrap();
        let bound = lower(&graph).unwrap().nodes[0].op.acc_bound();
        assert_eq!(bound, Some(widest * widest));
        let codes = [code, code].map(|code| Tensor::from_vec(vec![code]));
        assert_eq!(run_int(&graph, &codes).data(), [127]);
    }
}

#[test]
fn a_division_multiplies_by_the_reciprocal() {
    let divisor = Tensor::from_vec(vec![2.0, -4.0, 3.0, 1e-3]);
    let mut node = onnx_node("Div", &[&[4]], &[]);
    node.inputs.push(Some(Input::Real(divisor)));
    assert_eq!(Mul::import(&mut node).unwrap(), Mul);
    let reciprocals = [0.5, -0.25, (1.0_f64 / 3.0) as f32, (1.0 / 1e-3_f32 as f64) as f32];
    assert_eq!(node.replaced[&1].data(), reciprocals);
    let constant = Some(Input::Real(Tensor::from_vec(vec![1.0])));
    let mut of_constant = onnx_node("Div", &[&[4]], &[]);
    of_constant.inputs.insert(0, constant);
    check_refusals([
        (onnx_node("Div", &[&[4], &[4]], &[]), "division by anything but a constant"),
        (onnx_node("Div", &[&[4]], &[]), "division by anything but a constant"),
        (of_constant, "division by anything but a constant"),
    ]);
}

#[test]
fn shapes_and_factors_that_do_not_fit_are_refused() {
    assert!(refused(Mul.infer_shape(&[&[2, 3], &[2]])).contains("do not broadcast"));
    assert!(refused(Mul.infer_shape(&[&[2, 3]])).contains("expected 2 inputs, got 1"));
    let float = mul(&[4], &[4]).graph(0);
    for (input, output) in [(1e-7, 1.0), (1e6, 1e-4)] {
        let ranges = [input, input, output].map(|hi| Some(Range { lo: -hi, hi }));
        let message = refused(lower(&quantize(&float, &ranges, SCHEMES[2]).unwrap()));
        assert!(message.starts_with("in node \"n0\" (Mul): rescaling factor"), "{message}");
    }
}
