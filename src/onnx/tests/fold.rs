//! Arithmetic on shapes, as exporters write it.

use super::super::fold::{Args, fold};
use super::*;
use crate::graph::Folding;
use crate::ops::{Attribute, Input, OnnxNode};
use crate::tensor::Tensor;

fn list(data: &[i64]) -> Input {
    Input::Ints(Tensor::from_vec(data.to_vec()))
}

fn scalar(i: i64) -> Input {
    Input::Ints(Tensor::new([], vec![i]).unwrap())
}

fn matrix(shape: [usize; 2], data: &[i64]) -> Input {
    Input::Ints(Tensor::new(shape, data.to_vec()).unwrap())
}

fn reals(data: &[f32]) -> Input {
    Input::Real(Tensor::from_vec(data.to_vec()))
}

fn computed(shape: &[usize]) -> Input {
    Input::Activation(shape.to_vec())
}

fn folded(
    op_type: &str,
    opset: i64,
    inputs: &[Input],
    attributes: &[(&str, Attribute)],
) -> Option<Result<Input>> {
    let mut node = OnnxNode { opset, ..OnnxNode::new(op_type) };
    node.inputs = inputs.iter().cloned().map(Some).collect();
    let attributes = attributes.iter().cloned();
    node.attributes = attributes.map(|(name, value)| (name.into(), value)).collect();
    let types = vec![dt::INT64; inputs.len()];
    let folding = &mut Folding::default();
    let args =
        Args { node: &mut node, types, value_type: dt::INT64, folding, outputs: 1, more: vec![] };
    let result = fold(args)?;
    assert!(result.is_err() || node.attributes.is_empty(), "{node:?}");
    Some(result.map(|mut all| Input::from(all.swap_remove(0))))
}

#[test]
fn single_nodes() {
    use Attribute::{Int, Ints};
    const MAX: i64 = i64::MAX;
    let x = || computed(&[2, 3, 4, 5]);
    let six = || list(&[0, 1, 2, 3, 4, 5]);
    let two_by_three = || matrix([2, 3], &[0, 1, 2, 3, 4, 5]);
    let to = |i| vec![("to", Int(i))];
    let axes = |a: &[i64]| vec![("axes", Ints(a.to_vec()))];
    for (op_type, opset, inputs, attributes, expected) in [
        ("Shape", 13, vec![x()], vec![], list(&[2, 3, 4, 5])),
        ("Shape", 15, vec![x()], vec![("start", Int(1)), ("end", Int(-1))], list(&[3, 4])),
        ("Shape", 15, vec![x()], vec![("start", Int(-9)), ("end", Int(9))], list(&[2, 3, 4, 5])),
        ("Shape", 15, vec![x()], vec![("start", Int(3)), ("end", Int(1))], list(&[])),
        ("Size", 13, vec![x()], vec![], scalar(120)),
        ("ConstantOfShape", 13, vec![list(&[2])], vec![], reals(&[0.0, 0.0])),
        (
            "ConstantOfShape",
            13,
            vec![list(&[3])],
            vec![("value", Attribute::Tensor(list(&[7])))],
            list(&[7, 7, 7]),
        ),
        (
            "ConstantOfShape",
            13,
            vec![list(&[])],
            vec![],
            Input::Real(Tensor::new([], vec![0.0]).unwrap()),
        ),
        ("Range", 13, vec![scalar(2), scalar(9), scalar(3)], vec![], list(&[2, 5, 8])),
        ("Range", 13, vec![scalar(5), scalar(0), scalar(-2)], vec![], list(&[5, 3, 1])),
        ("Range", 13, vec![scalar(5), scalar(5), scalar(1)], vec![], list(&[])),
        (
            "Range",
            13,
            vec![scalar(i64::MIN), scalar(MAX), scalar(MAX)],
            vec![],
            list(&[i64::MIN, -1, MAX - 1]),
        ),
        ("Cast", 13, vec![list(&[-2, 0, 3])], to(1), reals(&[-2.0, 0.0, 3.0])),
        ("Cast", 13, vec![list(&[-2, 0, 3])], to(9), list(&[1, 0, 1])),
        ("Cast", 13, vec![reals(&[-2.7, 2.7, 1e30])], to(7), list(&[-2, 2, MAX])),
        ("Gather", 13, vec![six(), scalar(-1)], vec![], scalar(5)),
        ("Gather", 13, vec![six(), list(&[4, 0])], vec![("axis", Int(0))], list(&[4, 0])),
        ("Gather", 13, vec![two_by_three(), scalar(1)], vec![("axis", Int(1))], list(&[1, 4])),
        ("Gather", 13, vec![reals(&[0.5, 2.0]), list(&[1])], vec![], reals(&[2.0])),
        ("Unsqueeze", 11, vec![scalar(3)], axes(&[0]), list(&[3])),
        ("Unsqueeze", 13, vec![six(), list(&[0])], vec![], matrix([1, 6], &[0, 1, 2, 3, 4, 5])),
        ("Squeeze", 11, vec![matrix([1, 2], &[8, 9])], axes(&[0]), list(&[8, 9])),
        ("Squeeze", 13, vec![matrix([1, 2], &[8, 9])], vec![], list(&[8, 9])),
        ("Expand", 13, vec![list(&[7]), list(&[3])], vec![], list(&[7, 7, 7])),
        ("Expand", 13, vec![list(&[1, 2]), list(&[2, 1])], vec![], matrix([2, 2], &[1, 2, 1, 2])),
        ("Transpose", 13, vec![two_by_three()], vec![], matrix([3, 2], &[0, 3, 1, 4, 2, 5])),
        ("Reshape", 13, vec![six(), list(&[2, -1])], vec![], two_by_three()),
        ("Slice", 13, vec![six(), list(&[1]), list(&[MAX])], vec![], list(&[1, 2, 3, 4, 5])),
        ("Slice", 13, vec![six(), list(&[-2]), list(&[MAX]), list(&[0])], vec![], list(&[4, 5])),
        (
            "Slice",
            13,
            vec![six(), list(&[4]), list(&[-1000]), list(&[0]), list(&[-2])],
            vec![],
            list(&[4, 2, 0]),
        ),
        ("Slice", 13, vec![six(), list(&[3]), list(&[3])], vec![], list(&[])),
        // The rows from the last to the first, as PyTorch writes the pads of `F.pad`.
        (
            "Slice",
            13,
            vec![
                matrix([2, 2], &[1, 2, 3, 4]),
                list(&[-1]),
                list(&[i64::MIN]),
                list(&[0]),
                list(&[-1]),
            ],
            vec![],
            matrix([2, 2], &[3, 4, 1, 2]),
        ),
        ("Expand", 13, vec![list(&[1]), list(&[3])], vec![], list(&[1, 1, 1])),
        (
            "Slice",
            9,
            vec![six()],
            vec![("starts", Ints(vec![2])), ("ends", Ints(vec![4])), ("axes", Ints(vec![0]))],
            list(&[2, 3]),
        ),
        (
            "Concat",
            13,
            vec![list(&[1]), list(&[]), list(&[2, 3])],
            vec![("axis", Int(0))],
            list(&[1, 2, 3]),
        ),
        (
            "Where",
            13,
            vec![list(&[1, 0, 1]), list(&[1, 2, 3]), scalar(9)],
            vec![],
            list(&[1, 9, 3]),
        ),
        ("Equal", 13, vec![list(&[1, -1]), list(&[-1])], vec![], list(&[0, 1])),
        ("Greater", 13, vec![list(&[1, 2, 3]), scalar(2)], vec![], list(&[0, 0, 1])),
        ("Less", 13, vec![list(&[1, 2, 3]), scalar(2)], vec![], list(&[1, 0, 0])),
        ("And", 13, vec![list(&[1, 1, 0]), list(&[1, 0, 0])], vec![], list(&[1, 0, 0])),
        ("Or", 13, vec![list(&[1, 1, 0]), list(&[1, 0, 0])], vec![], list(&[1, 1, 0])),
        ("Not", 13, vec![list(&[1, 0])], vec![], list(&[0, 1])),
        ("Neg", 13, vec![list(&[3, -4])], vec![], list(&[-3, 4])),
        ("Abs", 13, vec![list(&[3, -4])], vec![], list(&[3, 4])),
        // As in C: the quotient is cut off towards 0.
        (
            "Div",
            13,
            vec![list(&[7, -7, 7, -7]), list(&[2, 2, -2, -2])],
            vec![],
            list(&[3, -3, -3, 3]),
        ),
        // As in Python without fmod: the sign of the divisor.
        (
            "Mod",
            13,
            vec![list(&[7, -7, 7, -7]), list(&[4, 4, -4, -4])],
            vec![],
            list(&[3, 1, -1, -3]),
        ),
        (
            "Mod",
            13,
            vec![list(&[7, -7, 7, -7]), list(&[4, 4, -4, -4])],
            vec![("fmod", Int(1))],
            list(&[3, -3, 3, -3]),
        ),
        ("Min", 13, vec![list(&[7, 1]), list(&[3]), scalar(2)], vec![], list(&[2, 1])),
        ("Max", 13, vec![list(&[7, 1]), list(&[3])], vec![], list(&[7, 3])),
        ("ReduceProd", 13, vec![six()], vec![("keepdims", Int(0))], scalar(0)),
        ("ReduceSum", 13, vec![six(), list(&[0])], vec![], list(&[15])),
        ("ReduceMax", 11, vec![six()], axes(&[-1]), list(&[5])),
        ("ReduceMin", 11, vec![list(&[4, 2])], vec![("keepdims", Int(0))], scalar(2)),
    ] {
        let context = format!("{op_type} {opset} {inputs:?} {attributes:?}");
        let result = folded(op_type, opset, &inputs, &attributes).expect(&context);
        assert_eq!(result.expect(&context), expected, "{context}");
    }
}

#[test]
fn broken_and_huge_ones_are_refused() {
    use Attribute::Int;
    const MIN: i64 = i64::MIN;
    const MAX: i64 = i64::MAX;
    let one = || list(&[1]);
    for (op_type, inputs, attributes, expected) in [
        ("ConstantOfShape", vec![list(&[1 << 27])], vec![], "too large to compute"),
        ("ConstantOfShape", vec![list(&[MAX, MAX])], vec![], ""),
        ("ConstantOfShape", vec![list(&[-1])], vec![], ""),
        ("Expand", vec![one(), list(&[1 << 40])], vec![], "too large to compute"),
        ("Expand", vec![one(), list(&[MAX, MAX])], vec![], ""),
        (
            "Range",
            vec![scalar(0), scalar(MAX), scalar(1)],
            vec![],
            "shape [9223372036854775807] has too many elements",
        ),
        ("Range", vec![scalar(0), scalar(5), scalar(0)], vec![], "a range with step 0"),
        ("Range", vec![scalar(0), list(&[1, 2]), scalar(1)], vec![], "expected one integer, got 2"),
        ("Add", vec![list(&[MAX]), one()], vec![], "overflow"),
        ("Sub", vec![list(&[MIN]), one()], vec![], "overflow"),
        ("Mul", vec![list(&[1 << 40]), list(&[1 << 40])], vec![], "overflow"),
        ("Div", vec![one(), list(&[0])], vec![], "overflow, or a division by zero"),
        ("Div", vec![list(&[MIN]), list(&[-1])], vec![], "overflow"),
        ("Mod", vec![one(), list(&[0])], vec![], "division by zero"),
        ("ReduceProd", vec![list(&[MAX, 2])], vec![], "overflow in ReduceProd"),
        ("ReduceSum", vec![list(&[MAX, 1])], vec![], "overflow in ReduceSum"),
        ("ReduceMax", vec![list(&[])], vec![], "ReduceMax of no elements"),
        ("Gather", vec![one(), scalar(1)], vec![], "index 1 of an axis of 1"),
        ("Gather", vec![one(), scalar(MIN)], vec![], "index -9223372036854775808"),
        ("Gather", vec![one(), scalar(0)], vec![("axis", Int(1))], "axis 1 of shape [1]"),
        ("Slice", vec![one(), one(), list(&[2]), list(&[1])], vec![], "axis 1 of shape [1]"),
        ("Slice", vec![one(), one(), one(), list(&[0]), list(&[0])], vec![], "step 0"),
        ("Add", vec![list(&[1, 2]), list(&[1, 2, 3])], vec![], "do not broadcast"),
        ("Squeeze", vec![list(&[1, 2]), list(&[0])], vec![], "axis 0 of shape [2] is not 1"),
        ("Unsqueeze", vec![one(), list(&[3])], vec![], "axis 3 of a tensor of rank 2"),
        ("Transpose", vec![one()], vec![("perm", Attribute::Ints(vec![-1]))], "no permutation"),
        ("Concat", vec![one(), one()], vec![("axis", Int(1))], "axis 1 of shape [1]"),
        ("Concat", vec![one(), reals(&[1.0])], vec![("axis", Int(0))], "of different types"),
        ("Cast", vec![one()], vec![("to", Int(8))], "a cast of constants to string"),
        ("Cast", vec![one()], vec![], "attribute \"to\" is missing"),
    ] {
        let context = format!("{op_type} {inputs:?}");
        let error = folded(op_type, 13, &inputs, &attributes).expect(&context).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?} for {context}");
    }
    for (op_type, inputs) in [
        ("Add", vec![computed(&[1]), list(&[1])]),
        ("Add", vec![reals(&[1.0]), reals(&[1.0])]),
        ("Floor", vec![reals(&[1.0])]),
        ("Sigmoid", vec![reals(&[1.0])]),
        ("Gather", vec![computed(&[4]), scalar(0)]),
    ] {
        assert!(folded(op_type, 13, &inputs, &[]).is_none(), "{op_type} is for others");
    }
}

fn int64(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    tensor(name, dt::INT64, dims, data.iter().flat_map(|i| i.to_le_bytes()).collect())
}

/// `x.view(x.size(0), -1)` and `x.expand(...)`, as PyTorch exports them.
#[test]
fn chains_of_nodes() {
    let view = vec![
        node("Shape", &["x"], "s"),
        node("Gather", &["s", "zero"], "n").with(int("axis", 0)),
        node("Unsqueeze", &["n", "first"], "n1"),
        node("Concat", &["n1", "rest"], "to").with(int("axis", 0)),
        node("Reshape", &["x", "to"], "y"),
    ];
    let pixels = vec![
        node("Shape", &["x"], "s"),
        node("Slice", &["s", "two", "end"], "hw"),
        node("ReduceProd", &["hw"], "n"),
        node("Div", &["n", "three"], "third"),
        node("Sub", &["third", "one"], "four"),
        node("Concat", &["four", "rest"], "to").with(int("axis", 0)),
        node("Reshape", &["x", "to"], "y"),
    ];
    let expand = vec![
        node("ConstantOfShape", &["one"], "ones").with(AttributeProto {
            t: Some(Box::new(int64("", &[1], &[1]))),
            r#type: at::TENSOR,
            ..int("value", 0)
        }),
        node("Mul", &["ones", "rest"], "minus"),
        node("Equal", &["rest", "minus"], "is_minus"),
        node("Where", &["is_minus", "ones", "rest"], "size"),
        node("Expand", &["two", "size"], "twos"),
        node("Concat", &["twos", "rest"], "to").with(int("axis", 0)),
        node("Reshape", &["x", "to"], "y"),
    ];
    for (nodes, expected) in [(view, [1, 32]), (pixels, [4, 8]), (expand, [2, 16])] {
        let constants = vec![
            int64("zero", &[], &[0]),
            int64("first", &[1], &[0]),
            int64("one", &[1], &[1]),
            int64("two", &[1], &[2]),
            int64("three", &[1], &[3]),
            int64("end", &[1], &[i64::MAX]),
            int64("rest", &[1], &[-1]),
        ];
        let graph = read(&model(nodes, constants)).unwrap();
        assert_eq!(graph.values[graph.outputs[0]].shape, expected);
        assert_eq!(graph.nodes.len(), 1);
    }
}
