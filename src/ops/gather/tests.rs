use super::*;
use crate::ops::Op;
use crate::testing::*;

fn gather<T: Number>(op: &Op, inputs: &[Tensor<T>], one: T) -> Fractions<T> {
    let Op::Gather(op) = op else { unreachable!() };
    let mut shape = inputs[0].shape().to_vec();
    shape[op.axis] = op.positions.len();
    tabulate(&shape, |y| {
        let mut from = y.to_vec();
        from[op.axis] = op.positions[y[op.axis]];
        (at(&inputs[0], &from), one)
    })
}

#[test]
fn equals_the_definition() {
    let of = |axis, positions: &[usize], shape: &[usize]| {
        case(Op::Gather(Gather { axis, positions: positions.to_vec() }), &[shape])
    };
    let cases = [
        of(0, &[4, 0, 0, 2], &[5]),
        of(1, &[2, 1, 0], &[2, 3, 4, 5]),
        of(1, &[2, 2, 0, 1, 1], &[1, 3, 4, 5]).channels_last(0),
        of(3, &[0, 3, 4, 3], &[1, 3, 2, 5]).channels_last(0),
        of(2, &[0; 7], &[2, 3, 1]),
    ];
    check(&cases, |op, x| gather(op, x, 1.0), |op, x| gather(op, x, 1));
}

#[test]
fn indices_count_from_either_end() {
    assert_eq!(Gather::positions(&[-1, 0, -3], 3).unwrap(), [2, 0, 0]);
    for outside in [&[3][..], &[-4], &[]] {
        assert!(refused(Gather::positions(outside, 3)).contains("of an axis of 3"));
    }
    let op = Gather { axis: 1, positions: vec![2, 0] };
    assert!(refused(op.infer_shape(&[&[2, 2]])).contains("position 2 of an axis of 2"));
    assert!(refused(op.infer_shape(&[&[2]])).contains("axis 1 of shape [2]"));
}
