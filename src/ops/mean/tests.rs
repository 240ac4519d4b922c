use super::*;
use crate::ops::Input;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// The sum over all elements that differ along the averaged axes only, by their number.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Mean(Mean { reduced }) = op else { unreachable!() };
    let x = &inputs[0];
    let some_of = |which: bool| -> Vec<usize> {
        let axes = x.shape().iter().zip(reduced);
        axes.map(|(&size, &r)| if r == which { size } else { 1 }).collect()
    };
    let window = some_of(true);
    let count: usize = window.iter().product();
    tabulate(&some_of(false), |y| {
        let mut sum = T::from(0);
        tabulate(&window, |offset| {
            let position: Vec<usize> = y.iter().zip(offset).map(|(y, i)| y + i).collect();
            sum = sum + at(x, &position);
        });
        (sum, T::from(count as i32))
    })
}

fn mean(reduced: &[bool], x: &[usize]) -> Case {
    case(Op::Mean(Mean { reduced: reduced.to_vec() }), &[x])
}

#[test]
fn equals_the_definition() {
    let mut cases = vec![
        mean(&[true], &[1]),
        mean(&[true], &[17]),
        mean(&[false, true], &[3, 17]),
        mean(&[true, false, true], &[3, 5, 4]),
        mean(&[false, true, false, true, true], &[2, 3, 2, 1, 4]),
        mean(&[false, false, true, true], &[1, 3, 4, 5]).clamp(0.0, f32::INFINITY),
        mean(&[false, true, false, false], &[1, 3, 4, 5]).clamp(-0.1, 0.1).channels_last(0),
    ];
    for set in 1..16 {
        let reduced = [0, 1, 2, 3].map(|axis| set >> axis & 1 == 1);
        cases.push(mean(&reduced, &[2, 3, 4, 5]));
        cases.push(mean(&reduced, &[2, 3, 4, 5]).channels_last(0));
    }
    check(&cases, define, define);
}

#[test]
fn axes_are_attributes_before_opset_18_and_arguments_after() {
    let x: &[usize] = &[2, 3, 4];
    let import = |opset, attributes: &[(&str, Attribute)], axes: Option<&[i64]>| {
        let mut node = onnx_node("ReduceMean", &[x], attributes);
        let axes = axes.map(|axes| Input::Ints(Tensor::from_vec(axes.to_vec())));
        (node.opset, _) = (opset, node.inputs.push(axes));
        Mean::import(&mut node).map(|mean| mean.reduced)
    };
    let all_kept = ("noop_with_empty_axes", Attribute::Int(1));
    for (opset, attributes, axes, expected) in [
        (13, vec![], None, [true; 3]),
        (13, vec![("axes", ints(&[-1]))], None, [false, false, true]),
        (18, vec![], Some(&[0, -2][..]), [true, true, false]),
        (18, vec![], None, [true; 3]),
        (18, vec![], Some(&[]), [true; 3]),
        (18, vec![all_kept.clone()], None, [false; 3]),
        (18, vec![all_kept.clone()], Some(&[1]), [false, true, false]),
    ] {
        assert_eq!(import(opset, &attributes, axes).unwrap(), expected, "{attributes:?} {axes:?}");
    }
    for axis in [3, -4] {
        let message = refused(import(13, &[("axes", ints(&[axis]))], None));
        assert!(message.contains(&format!("axis {axis} of a tensor of rank 3")), "{message}");
    }
    assert!(refused(import(13, &[("axes", Attribute::Int(0))], None)).contains("axes"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = refused(Mean { reduced: vec![true] }.infer_shape(&[&[2, 3]]));
    assert!(message.contains("expected an input of rank 1, got [2, 3]"), "{message}");
    let message = refused(Mean { reduced: vec![false; 2] }.infer_shape(&[&[2, 3]]));
    assert!(message.contains("a mean along no axis"), "{message}");
    let quantized = |n: usize, hi: f32| {
        let float = mean(&[true], &[n]).graph(0);
        let ranges = [Range { lo: -1.0, hi: 1.0 }, Range { lo: -hi, hi }].map(Some);
        lower(&quantize(&float, &ranges, SCHEMES[0]).unwrap())
    };
    let widest = quantized(1 << 24, 1.0).unwrap();
    assert_eq!(widest.nodes[0].op.acc_bound(), Some(1 << 31));
    assert!(refused(quantized(4, 1e-8)).contains("(Mean): rescaling factor"));
}
