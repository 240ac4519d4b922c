use super::*;
use crate::ops::{IntOp, Op};
use crate::testing::lower::lower;
use crate::testing::*;

/// `[n, c, h, w]` to `[n, h, w, c]`, and back.
const LAST: [usize; 4] = [0, 2, 3, 1];
const FIRST: [usize; 4] = [0, 3, 1, 2];

/// `y[i[perm[0]], i[perm[1]], ..] = x[i]`.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Transpose(Transpose { perm }) = op else { unreachable!() };
    let x = &inputs[0];
    let shape: Vec<usize> = perm.iter().map(|&axis| x.shape()[axis]).collect();
    tabulate(&shape, |y| {
        let mut position = vec![0; perm.len()];
        perm.iter().zip(y).for_each(|(&axis, &i)| position[axis] = i);
        (at(x, &position), T::from(1))
    })
}

fn transpose(perm: &[usize], x: &[usize]) -> Case {
    case(Op::Transpose(Transpose { perm: perm.to_vec() }), &[x])
}

#[test]
fn equals_the_definition() {
    let image = &[2, 3, 4, 5];
    let mut cases = vec![
        transpose(&[0], &[17]),
        transpose(&[1, 0], &[3, 17]),
        transpose(&[1, 2, 0], &[2, 3, 4]),
        transpose(&[0, 2, 1], &[2, 3, 4]),
        transpose(&[0, 2, 1], &[2, 3, 4]).channels_last(0),
        transpose(&[4, 0, 3, 1, 2], &[1, 2, 3, 2, 4]),
        transpose(&[3, 2, 1, 0], &[1, 17, 1, 3]),
    ];
    for perm in [LAST, FIRST, [0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]] {
        cases.extend([transpose(&perm, image), transpose(&perm, image).channels_last(0)]);
    }
    check(&cases, define, define);
}

#[test]
fn what_moves_nothing_is_a_copy() {
    let copy = IntOp::Transpose(TransposeInt { shape: vec![120], strides: vec![1] });
    for (case, is_copy) in [
        (transpose(&FIRST, &[2, 4, 5, 3]), true),
        (transpose(&LAST, &[2, 3, 4, 5]).channels_last(0), true),
        (transpose(&[0, 2, 3, 1], &[2, 1, 6, 10]), true),
        (transpose(&LAST, &[2, 3, 4, 5]), false),
        (transpose(&FIRST, &[2, 4, 5, 3]).channels_last(0), false),
    ] {
        let float = case.graph(0);
        let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
        let int = lower(&quantizations(&float, &ranges).next().unwrap()).unwrap();
        assert_eq!(int.nodes[0].op == copy, is_copy, "{case:?}");
    }
}

#[test]
fn what_is_no_permutation_is_refused() {
    for perm in [&[0][..], &[0, 0], &[1, 2], &[0, 1, 2]] {
        let message = refused(Transpose { perm: perm.to_vec() }.infer_shape(&[&[2, 3]]));
        assert!(message.contains("is no permutation"), "{message}");
    }
    let mut node = onnx_node("Transpose", &[&[2, 3]], &[("perm", ints(&[-1, 0]))]);
    assert!(Transpose::import(&mut node).unwrap().infer_shape(&[&[2, 3]]).is_err());
    let perm = crate::ops::Attribute::Int(1);
    check_refusals([(onnx_node("Transpose", &[&[2, 3]], &[("perm", perm)]), "perm")]);
}

#[test]
fn without_a_permutation_the_axes_are_reversed() {
    let mut node = onnx_node("Transpose", &[&[2, 3, 4]], &[]);
    assert_eq!(Transpose::import(&mut node).unwrap().perm, [2, 1, 0]);
}
