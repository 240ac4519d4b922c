use super::*;
use crate::ops::Op;
use crate::quant::Width;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// The first or last index with the largest element.
fn index<T: Number>(op: &Op, x: &Tensor<T>) -> Tensor<i32> {
    let Op::ArgMax(ArgMax { axis, keepdims, last }) = *op else { unreachable!() };
    let mut shape = x.shape().to_vec();
    let size = std::mem::replace(&mut shape[axis], 1);
    if !keepdims {
        shape.remove(axis);
    }
    tabulate(&shape, |y| {
        let (before, after) = y.split_at(axis);
        let after = &after[keepdims as usize..];
        let along = |i: usize| at(x, &[before, &[i], after].concat());
        let largest = (0..size).map(along).reduce(|a, b| if b > a { b } else { a }).unwrap();
        let mut maxima = (0..size).filter(|&i| along(i) == largest);
        (if last { maxima.last() } else { maxima.next() }).unwrap() as i32
    })
}

fn define(op: &Op, inputs: &[Tensor<f64>]) -> Fractions<f64> {
    index(op, &inputs[0]).map(|&i| (i as f64, 1.0))
}

/// In units of 2^-62, as `check` wants it.
fn define_exactly(op: &Op, inputs: &[Tensor<i128>]) -> Fractions<i128> {
    index(op, &inputs[0]).map(|&i| ((i as i128) << 62, 1))
}

fn argmax(axis: usize, shape: &[usize]) -> impl Iterator<Item = Case> {
    [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .map(move |(keepdims, last)| case(Op::ArgMax(ArgMax { axis, keepdims, last }), &[shape]))
}

#[test]
fn equals_the_definition() {
    let mut cases: Vec<Case> = (0..4).flat_map(|axis| argmax(axis, &[2, 3, 4, 5])).collect();
    cases.extend(argmax(0, &[17]));
    cases.extend(argmax(1, &[3, 1]));
    cases.extend(argmax(1, &[1, 256]));
    cases.extend(argmax(1, &[1, 3, 2, 2]).map(|case| case.channels_last(0)));
    check(&cases, define, define_exactly);
}

#[test]
fn more_classes_than_codes_are_refused() {
    for (classes, width, expected) in [
        (257, Width::W8, "ArgMax over 257 classes needs 16-bit activations"),
        (65537, Width::W8, "ArgMax over 65537 classes: codes have 8 bits"),
        (65537, Width::W16, "ArgMax over 65537 classes: codes have 16 bits"),
    ] {
        let float = argmax(1, &[1, classes]).next().unwrap().graph(0);
        let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
        let scheme = SCHEMES[3].with_widths(width, Width::W8);
        let message = refused(lower(&quantize(&float, &ranges, scheme).unwrap()));
        assert!(message.contains(expected), "{message}");
    }
    let float = argmax(1, &[1, 4]).next().unwrap().graph(0);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
    let mut graph = quantize(&float, &ranges, SCHEMES[3]).unwrap();
    graph.values[1].quant.as_mut().unwrap().scale[0] = 0.5;
    let message = refused(lower(&graph));
    assert!(message.contains("the scale of an index is 5e-1, only 1 is known"), "{message}");
}

#[test]
fn attributes_follow_the_standard() {
    let import = |attributes: &[(&str, Attribute)]| {
        ArgMax::import(&mut onnx_node("ArgMax", &[&[2, 3, 4]], attributes))
    };
    assert_eq!(import(&[]).unwrap(), ArgMax { axis: 0, keepdims: true, last: false });
    let [one, zero] = [1, 0].map(Attribute::Int);
    let attributes = [("axis", Attribute::Int(-1)), ("keepdims", zero), ("select_last_index", one)];
    assert_eq!(import(&attributes).unwrap(), ArgMax { axis: 2, keepdims: false, last: true });
    let message = refused(ArgMax { axis: 2, keepdims: true, last: false }.infer_shape(&[&[2, 3]]));
    assert!(message.contains("axis 2 of shape [2, 3]"), "{message}");
}
