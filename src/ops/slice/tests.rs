use super::*;
use crate::ops::Op;
use crate::testing::*;

/// `y[i_0, i_1, …] = x[start_0 + i_0 · step_0, …]`
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Slice(Slice { parts }) = op else { unreachable!() };
    let shape: Vec<usize> = parts.iter().map(|p| p.len).collect();
    tabulate(&shape, |y| {
        let position = parts.iter().zip(y).map(|(p, &i)| {
            usize::try_from(i64::try_from(p.start).unwrap() + i as i64 * p.step).unwrap()
        });
        (at(&inputs[0], &position.collect::<Vec<_>>()), T::from(1))
    })
}

/// A slice of a tensor of shape `x` by `(axis, start, end, step)`.
fn slice(x: &[usize], list: &[(usize, i64, i64, i64)]) -> Case {
    let all = |&len: &usize| Part { start: 0, step: 1, len };
    let mut parts: Vec<Part> = x.iter().map(all).collect();
    for &(axis, start, end, step) in list {
        parts[axis] = Slice::part(x[axis], start, end, step).unwrap();
    }
    case(Op::Slice(Slice { parts }), &[x])
}

#[test]
fn equals_the_definition() {
    const MAX: i64 = i64::MAX;
    let image: &[usize] = &[2, 5, 4, 6];
    let mut cases = vec![
        slice(&[1], &[]),
        slice(&[17], &[(0, 3, 12, 1)]),
        slice(&[17], &[(0, 3, 12, 1)]).clamp(-0.25, 0.5),
        slice(&[17], &[(0, -1, i64::MIN, -3)]),
        slice(&[4, 5], &[(1, 0, MAX, 2)]),
        slice(&[4, 5, 3], &[(0, 3, -5, -1), (2, -2, MAX, 1)]),
        slice(&[2, 1, 2, 3, 2], &[(3, 1, 2, 1), (4, 1, i64::MIN, -1)]),
    ];
    for list in [
        &[][..],
        &[(0, 1, 2, 1)],
        &[(1, 1, 4, 1)],
        &[(1, 4, i64::MIN, -2)],
        &[(2, 1, MAX, 2), (3, 5, 0, -2)],
        &[(0, -1, -3, -1), (1, -2, 9, 1), (2, -9, 9, 3), (3, 9, -9, -5)],
    ] {
        cases.extend([slice(image, list), slice(image, list).channels_last(0)]);
    }
    check(&cases, define, define);
}

/// Against a walk over the axis as ONNX describes it.
#[test]
fn every_start_end_and_step_of_short_axes() {
    let ends = [i64::MIN, i64::MIN + 1, -9, i64::MAX - 1, i64::MAX];
    let numbers = || (-7..=7).chain(ends);
    for n in 1..=5 {
        for (start, end) in numbers().flat_map(|start| numbers().map(move |end| (start, end))) {
            for step in [1, 2, 3, 7, i64::MAX, -1, -2, -5, -i64::MAX, i64::MIN] {
                let front = |i: i64| if i < 0 { i as i128 + n as i128 } else { i as i128 };
                let (last, lowest) = if step > 0 { (n, 0) } else { (n - 1, -1) };
                let mut i = front(start).clamp(0, last as i128);
                let end_at = front(end).clamp(lowest, last as i128);
                let mut expected = Vec::new();
                while if step > 0 { i < end_at } else { i > end_at } {
                    expected.push(i);
                    i += step as i128;
                }
                let part = Slice::part(n as usize, start, end, step).ok();
                let got = part.map_or(vec![], |p| {
                    (0..p.len as i128).map(|i| p.start as i128 + i * p.step as i128).collect()
                });
                assert_eq!(got, expected, "{start}..{end} by {step} of {n}");
            }
        }
    }
}

fn list(ints: &[i64]) -> Option<Input> {
    Some(Input::Ints(Tensor::from_vec(ints.to_vec())))
}

fn node(x: &[usize], inputs: &[Option<Input>]) -> OnnxNode {
    let mut node = onnx_node("Slice", &[x], &[]);
    node.inputs.extend_from_slice(inputs);
    node
}

#[test]
fn lists_are_attributes_before_opset_10_and_arguments_after() {
    let expected = slice(&[4, 5], &[(1, 1, 4, 1)]).op;
    let attributes = [("starts", ints(&[1])), ("ends", ints(&[-1])), ("axes", ints(&[1]))];
    let old = onnx_node("Slice", &[&[4, 5]], &attributes);
    let mut old = OnnxNode { opset: 9, ..old };
    let new = node(&[4, 5], &[list(&[1]), list(&[-1]), list(&[-1]), None]);
    for mut node in [old.clone(), new] {
        assert_eq!(Op::import(&mut node).unwrap().unwrap(), expected);
        assert!(node.attributes.is_empty() && node.inputs[1..].iter().all(Option::is_none));
    }
    // Without axes, the first ones.
    old.attributes.remove("axes");
    assert_eq!(Op::import(&mut old).unwrap().unwrap(), slice(&[4, 5], &[(0, 1, 3, 1)]).op);
}

#[test]
fn what_is_not_known_is_refused() {
    let x: &[usize] = &[4, 5];
    let computed = Some(Input::Activation(vec![1]));
    check_refusals([
        (node(x, &[list(&[1])]), "starts and ends must be given"),
        (node(x, &[]), "starts and ends must be given"),
        (node(x, &[list(&[1]), list(&[2, 3])]), "have different lengths"),
        (node(x, &[list(&[1]), list(&[2]), list(&[0, 1])]), "have different lengths"),
        (node(x, &[list(&[1]), list(&[2]), None, list(&[1, 1])]), "have different lengths"),
        (node(x, &[list(&[1]), list(&[2]), list(&[2])]), "axis 2 of shape [4, 5]"),
        (node(x, &[list(&[1]), list(&[2]), list(&[-3])]), "axis -3 of a tensor of rank 2"),
        (node(x, &[list(&[1]), list(&[2]), None, list(&[0])]), "a slice with step 0"),
        (node(x, &[list(&[2]), list(&[2])]), "a slice without elements, 2..2 by 1 of 4"),
        (node(x, &[list(&[9]), list(&[99])]), "a slice without elements, 4..99 by 1 of 4"),
        (node(x, &[computed.clone(), list(&[2])]), "input 1 must be a constant of integers"),
        (node(x, &[list(&[1]), list(&[2]), None, computed]), "input 4 must be a constant"),
    ]);
    let part = |start, step, len| Slice { parts: vec![Part { start, step, len }] };
    for slice in [part(4, 1, 1), part(2, 1, 3), part(1, -1, 3)] {
        assert!(refused(slice.infer_shape(&[&[4]])).contains("of axis 0 of [4]"));
    }
}
