use super::*;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// Where a walk of `steps` from `position` ends on an axis of `n`, `None` outside of it.
fn walk(mode: Mode, mut position: i64, n: i64) -> Option<usize> {
    while !(0..n).contains(&position) {
        position = match mode {
            Mode::Constant(_) => return None,
            Mode::Edge if position < 0 => position + 1,
            Mode::Edge => position - 1,
            Mode::Wrap if position < 0 => position + n,
            Mode::Wrap => position - n,
            Mode::Reflect if n == 1 => 0,
            Mode::Reflect if position < 0 => -position,
            Mode::Reflect => 2 * (n - 1) - position,
        };
    }
    Some(position as usize)
}

/// Each element of the result, by the rule of its mode; the value of a constant mode is 0 or as given.
fn padded<T: Copy>(pad: &Pad, x: &Tensor<T>, value: T) -> Tensor<T> {
    let sizes = x.shape().iter().zip(pad.before.iter().zip(&pad.after));
    let shape: Vec<usize> =
        sizes.map(|(&n, (before, after))| (n as i64 + before + after) as usize).collect();
    tabulate(&shape, |y| {
        let axes = y.iter().zip(&pad.before).zip(x.shape());
        let position: Option<Vec<usize>> =
            axes.map(|((&i, before), &n)| walk(pad.mode, i as i64 - before, n as i64)).collect();
        position.map_or(value, |position| at(x, &position))
    })
}

fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Pad(pad) = op else { unreachable!() };
    padded(pad, &inputs[0], T::from(0)).map(|&x| (x, T::from(1)))
}

fn pad(mode: Mode, x: &[usize], before: &[i64], after: &[i64]) -> Case {
    let (before, after) = (before.to_vec(), after.to_vec());
    case(Op::Pad(Pad { before, after, mode }), &[x])
}

#[test]
fn equals_the_definition() {
    let mut cases = Vec::new();
    for mode in [Mode::Constant(0.0), Mode::Reflect, Mode::Edge, Mode::Wrap] {
        let image = |before: &[i64], after: &[i64]| pad(mode, &[2, 3, 4, 5], before, after);
        cases.extend([
            pad(mode, &[1], &[2], &[1]),
            pad(mode, &[4], &[0], &[0]),
            pad(mode, &[4], &[3], &[3]),
            // Beyond what is mirrored or repeated once.
            pad(mode, &[3], &[8], &[11]),
            pad(mode, &[2, 5, 3], &[1, 0, 2], &[0, 4, 1]),
            // Negative pads take away.
            pad(mode, &[6], &[-2], &[-1]),
            pad(mode, &[6, 4], &[-1, 2], &[3, -3]),
            image(&[0, 0, 1, 1], &[0, 0, 1, 1]),
            image(&[0, 0, 1, 1], &[0, 0, 1, 1]).channels_last(0),
            image(&[0, 2, 0, 3], &[1, 0, 2, 0]).channels_last(0),
            image(&[0, -1, 2, -2], &[-1, 1, -2, 1]).channels_last(0),
            image(&[1, -1, 2, -2], &[-1, 1, -2, 1]),
            image(&[0, 0, 1, 1], &[0, 0, 1, 1]).clamp(0.0, 0.5),
        ]);
    }
    check(&cases, define, define);
}

/// Real numbers around the tensor, in reals, and as the code that `quantize` gives them.
#[test]
fn other_values_than_zero() {
    let x: &[usize] = &[1, 2, 3, 2];
    for (seed, value) in [-1.5_f32, -0.3, 0.75, 2.5].into_iter().enumerate() {
        for last in [false, true] {
            let case = pad(Mode::Constant(value), x, &[0, 1, 0, 2], &[1, 0, 1, 1]);
            let case = if last { case.channels_last(0) } else { case };
            let float = case.graph(0);
            let Op::Pad(pad) = &case.op else { unreachable!() };
            let inputs = random_inputs(&float, &mut Rng(seed as u64), 2.0);
            assert_eq!(run_float(&float, &inputs).0[0], padded(pad, &inputs[0], value));
            check_round_trip(&float, "value");
            for scheme in SCHEMES {
                let range = Some(Range { lo: -1.5, hi: 2.5 });
                let graph = quantize(&float, &vec![range; float.values.len()], scheme).unwrap();
                let quant = graph.values[0].quant.as_ref().unwrap();
                let steps = (value / quant.scale[0]).round_ties_even() as i32;
                let (lowest, highest) = quant.code_range();
                let fill = (steps + quant.zero_point).clamp(lowest, highest);

                for pattern in PATTERNS {
                    let codes = pattern_codes(&graph, &mut Rng(seed as u64), pattern);
                    let expected = padded(pad, &codes[0], fill);
                    assert_eq!(run_int(&graph, &codes), expected, "{value} {scheme:?}");
                }
            }
        }
    }
}

#[test]
fn values_without_a_code_are_refused() {
    let graph = |value: f32| {
        let float = pad(Mode::Constant(value), &[4], &[1], &[1]).graph(0);
        quantize(&float, &[Some(Range { lo: -1.0, hi: 1.0 }); 2], SCHEMES[2]).unwrap()
    };
    for value in [1.1, -1.1, f32::NEG_INFINITY, f32::NAN] {
        let message = refused(lower(&graph(value)));
        assert!(message.contains("(Pad): unsupported: padding with"), "{value}: {message}");
    }
    lower(&graph(1.003)).unwrap();
}

fn list(ints: &[i64]) -> Option<Input> {
    Some(Input::Ints(Tensor::from_vec(ints.to_vec())))
}

fn node(inputs: &[Option<Input>], attributes: &[(&str, Attribute)]) -> OnnxNode {
    let mut node = onnx_node("Pad", &[&[4, 5]], attributes);
    node.inputs.extend_from_slice(inputs);
    node
}

#[test]
fn pads_are_attributes_before_opset_11_and_arguments_after() {
    let value = Some(Input::Real(Tensor::new([], vec![2.0]).unwrap()));
    let old = node(&[], &[("pads", ints(&[1, 0, 2, -1])), ("value", Attribute::Float(2.0))]);
    let import = |mut node: OnnxNode| Pad::import(&mut node).unwrap();
    let expected = Pad { before: vec![1, 0], after: vec![2, -1], mode: Mode::Constant(2.0) };
    assert_eq!(import(OnnxNode { opset: 10, ..old }), expected);
    assert_eq!(import(node(&[list(&[1, 0, 2, -1]), value.clone()], &[])), expected);
    let axes = node(&[list(&[1, 2]), None, list(&[-1])], &[]);
    let expected = Pad { before: vec![0, 1], after: vec![0, 2], mode: Mode::Constant(0.0) };
    assert_eq!(import(axes), expected);
}

#[test]
fn what_is_not_known_is_refused() {
    let mode = |mode: &str| [("mode", Attribute::String(mode.into()))];
    let computed = Some(Input::Activation(vec![4]));
    check_refusals([
        (node(&[], &[]), "the pads are missing"),
        (node(&[list(&[0; 4])], &mode("symmetric")), "attribute \"mode\" is \"symmetric\""),
        (node(&[list(&[0; 3])], &[]), "3 pads for axes [0, 1]"),
        (node(&[list(&[0; 4]), None, list(&[0])], &[]), "4 pads for axes [0]"),
        (node(&[list(&[0; 2]), None, list(&[2])], &[]), "2 pads for axes [2]"),
        (node(&[list(&[0, 0, 1 << 24, 0])], &[]), "a pad of 16777216 elements"),
        (node(&[list(&[0, 0, i64::MIN, 0])], &[]), "a pad of -9223372036854775808 elements"),
        (node(std::slice::from_ref(&computed), &[]), "input 1 must be a constant of integers"),
        (node(&[list(&[0; 4]), computed], &[]), "input 2 must be one constant number"),
    ]);
    let pad = Pad { before: vec![-2], after: vec![-2], mode: Mode::Edge };
    assert!(refused(pad.infer_shape(&[&[4]])).contains("leave nothing of [4]"));
    assert!(refused(pad.infer_shape(&[&[4, 4]])).contains("expected an input of rank 1"));
}
