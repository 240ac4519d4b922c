use super::*;
use crate::ops::Op;
use crate::ops::onnx_node::Attribute;
use crate::testing::*;

/// The same elements in the same order.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Reshape(Reshape { shape }) = op else { unreachable!() };
    Tensor::new(shape.clone(), inputs[0].data().iter().map(|&x| (x, T::from(1))).collect()).unwrap()
}

fn reshape(shape: &[usize], x: &[usize]) -> Case {
    case(Op::Reshape(Reshape { shape: shape.to_vec() }), &[x])
}

#[test]
fn equals_the_definition() {
    check(
        &[
            reshape(&[1], &[]),
            reshape(&[], &[1, 1]),
            reshape(&[6], &[2, 3]),
            reshape(&[1, 60], &[1, 3, 4, 5]),
            reshape(&[1, 60], &[1, 3, 4, 5]).channels_last(0),
            reshape(&[5, 4, 3, 2], &[2, 3, 4, 5]).channels_last(0),
            reshape(&[2, 17, 1, 1], &[2, 17]),
        ],
        define,
        define,
    );
}

fn node(target: &[i64], x: &[usize], attributes: &[(&str, Attribute)]) -> OnnxNode {
    let mut node = onnx_node("Reshape", &[x], attributes);
    node.inputs.push(Some(Input::Ints(Tensor::from_vec(target.to_vec()))));
    node
}

#[test]
fn shapes_by_hand() {
    let x: &[usize] = &[2, 3, 4];
    for (target, expected) in [
        (&[6, 4][..], &[6, 4][..]),
        (&[0, -1], &[2, 12]),
        (&[-1], &[24]),
        (&[0, 0, -1, 2], &[2, 3, 2, 2]),
        (&[24, 1, 1], &[24, 1, 1]),
    ] {
        assert_eq!(
            Reshape::import(&mut node(target, x, &[])).unwrap().shape,
            expected,
            "{target:?}"
        );
    }
    for (axis, expected) in [(0, [1, 24]), (1, [2, 12]), (2, [6, 4]), (3, [24, 1]), (-1, [6, 4])] {
        let mut node = onnx_node("Flatten", &[x], &[("axis", Attribute::Int(axis))]);
        assert_eq!(Reshape::import(&mut node).unwrap().shape, expected, "{axis}");
    }
    assert_eq!(Reshape::import(&mut onnx_node("Flatten", &[x], &[])).unwrap().shape, [2, 12]);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let x: &[usize] = &[2, 3, 4];
    let mut computed = node(&[], x, &[]);
    computed.inputs[1] = Some(Input::Activation(vec![2]));
    check_refusals([
        (node(&[-1, -1], x, &[]), "more than one -1"),
        (node(&[-2, 12], x, &[]), "[-2, 12]"),
        (node(&[1, 1, 1, 0], x, &[]), "[1, 1, 1, 0]"),
        (node(&[0, -1], x, &[("allowzero", Attribute::Int(1))]), "[0, -1]"),
        (node(&[i64::MAX, i64::MAX, -1], x, &[]), "too many elements"),
        (onnx_node("Reshape", &[x], &[]), "the shape is missing"),
        (computed, "input 1 must be a constant of integers"),
        (onnx_node("Flatten", &[x], &[("axis", Attribute::Int(4))]), "axis 4"),
        (onnx_node("Flatten", &[x], &[("axis", Attribute::Int(-4))]), "axis -4"),
    ]);
    for target in [&[5, -1][..], &[25]] {
        let op = Reshape::import(&mut node(target, x, &[])).unwrap();
        assert!(refused(op.infer_shape(&[x])).contains("does not fit the shape"), "{target:?}");
    }
}

/// A first axis that stays may be a batch of any size.
#[test]
fn the_first_axis_is_exported_as_a_copy() {
    let exported =
        |shape: &[usize]| Reshape { shape: shape.to_vec() }.export(&[&[2, 6]], 13).inputs;
    assert_eq!(exported(&[2, 3, 2]), [Some(Input::Ints(Tensor::from_vec(vec![0, 3, 2])))]);
    assert_eq!(exported(&[3, 4]), [Some(Input::Ints(Tensor::from_vec(vec![3, 4])))]);
}
