use super::*;
use crate::ops::Attribute;
use crate::ops::Op;
use crate::ops::{Window, max_pool::MaxPool, softmax::Softmax};
use crate::quant::{QuantParams, Range, Width};
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// Along `axis`, the arguments one behind the other.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let &Op::Concat(Concat { axis }) = op else { unreachable!() };
    let mut shape = inputs[0].shape().to_vec();
    shape[axis] = inputs.iter().map(|x| x.shape()[axis]).sum();
    tabulate(&shape, |y| {
        let mut position = y.to_vec();
        for x in inputs {
            match position[axis].checked_sub(x.shape()[axis]) {
                Some(rest) => position[axis] = rest,
                None => return (at(x, &position), T::from(1)),
            }
        }
        unreachable!("beyond the last argument");
    })
}

fn concat(axis: usize, shapes: &[&[usize]]) -> Case {
    case(Op::Concat(Concat { axis }), shapes)
}

#[test]
fn equals_the_definition() {
    let mut cases = vec![
        concat(0, &[&[1]]),
        concat(0, &[&[17], &[1], &[3]]),
        concat(0, &[&[2, 3], &[4, 3]]),
        concat(1, &[&[3, 2], &[3, 1], &[3, 5], &[3, 2]]),
        concat(2, &[&[2, 3, 4], &[2, 3, 1]]),
        concat(1, &[&[3, 2], &[3, 4]]).clamp(0.0, f32::INFINITY),
        concat(1, &[&[3, 2], &[3, 4]]).clamp(-0.25, 0.5),
        concat(1, &[&[1, 2, 3, 4], &[1, 3, 3, 4]]).clamp(0.1, 0.5).channels_last(0),
    ];
    for axis in 0..4 {
        let (mut a, mut b) = (vec![2, 3, 4, 5], vec![2, 3, 4, 5]);
        (a[axis], b[axis]) = (1, 4);
        let two = || concat(axis, &[&a, &b]);
        cases.extend([
            two(),
            two().channels_last(0),
            two().channels_last(1),
            two().channels_last(0).channels_last(1),
            two().constant(0).channels_last(1),
            two().constant(1).channels_last(0),
            concat(axis, &[&a, &b, &a]).channels_last(2).constant(0),
        ]);
    }
    check(&cases, define, define);
}

/// Files may give each argument other parameters than the result. Every code, against
/// DequantizeLinear and QuantizeLinear of ONNX in `f32`.
#[test]
fn all_256_codes_of_arguments_with_other_parameters() {
    let float = concat(0, &[&[256], &[256], &[256]]).graph(0);
    let range = Some(Range { lo: -1.0, hi: 2.0 });
    let mut graph = quantize(&float, &[range; 4], SCHEMES[2]).unwrap();
    let inputs = graph.inputs.clone();
    let y = graph.values[graph.nodes[0].output].quant.clone().unwrap();
    for (scale, zero_point) in [(0.3, -128), (1e-4, 7), (0.07, 127), (y.scale[0], 0)] {
        // The second argument keeps the result's parameters, the third has its scale alone.
        let params = [(scale, zero_point), (y.scale[0], y.zero_point), (y.scale[0], zero_point)];
        for (&v, (scale, zero_point)) in inputs.iter().zip(params) {
            graph.values[v].quant = Some(QuantParams::per_tensor(scale, zero_point, Width::W8));
        }
        let codes = vec![Tensor::from_vec((-128..=127).collect()); 3];
        let code = |(scale, zero_point): (f32, i32), code: i32| {
            let real = (code - zero_point) as f64 * scale as f64;
            let steps = (real / y.scale[0] as f64).round_ties_even();
            (steps + y.zero_point as f64).clamp(-128.0, 127.0) as i32
        };
        let all = |&of: &_| (-128..=127).map(|x| code(of, x)).collect::<Vec<_>>();
        let expected = params.iter().flat_map(all).collect::<Vec<_>>();
        assert_eq!(run_int(&graph, &codes).data(), expected, "{scale} {zero_point}");
        let tables = |op: &crate::ops::IntOp| match op {
            crate::ops::IntOp::Concat(ConcatInt(parts)) => {
                parts.iter().map(|part| part.table.is_some()).collect::<Vec<_>>()
            }
            _ => unreachable!(),
        };
        let other = zero_point != y.zero_point;
        assert_eq!(tables(&lower(&graph).unwrap().nodes[0].op), [true, false, other]);
    }
}

/// Codes are copied where they can be: also through what moves them, not through what fixes them.
#[test]
fn arguments_and_result_share_the_union_of_their_ranges() {
    let mut net = Net::new(0);
    let (a, b, c) = (net.input(&[1, 2, 3, 3]), net.input(&[1, 2, 3, 3]), net.input(&[1, 2, 3, 3]));
    let pool = Op::MaxPool(MaxPool(Window::new([1, 1])));
    let pooled = net.node(pool.clone(), &[b]);
    let softmax = net.node(Op::Softmax(Softmax { axis: 1 }), &[c]);
    let y = net.node(Op::Concat(Concat { axis: 1 }), &[a, pooled, softmax]);
    let moved = net.node(pool, &[y]);
    let z = net.node(Op::Concat(Concat { axis: 0 }), &[moved, y]);
    let graph = net.finish(&[z]);
    let mut ranges = vec![Some(Range { lo: 0.0, hi: 1.0 }); graph.values.len()];
    for (v, lo, hi) in [(a, -1.0, 0.5), (b, -0.5, 2.0), (c, -9.0, 9.0), (z, -3.0, 0.0)] {
        ranges[v] = Some(Range { lo, hi });
    }
    for scheme in SCHEMES {
        let quantized = quantize(&graph, &ranges, scheme).unwrap();
        let quant = |v: usize| quantized.values[v].quant.as_ref().unwrap();
        let union = scheme.activation(Range { lo: -3.0, hi: 2.0 });
        for v in [a, b, pooled, y, moved, z] {
            assert_eq!(*quant(v), union, "value {v} under {scheme:?}");
        }
        assert_eq!(*quant(softmax), scheme.unit());
        assert_eq!(*quant(c), scheme.activation(Range { lo: -9.0, hi: 9.0 }));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = |axis, shapes: &[&[usize]]| refused(Concat { axis }.infer_shape(shapes));
    assert!(shape(0, &[]).contains("expected at least 1 input"));
    assert!(shape(1, &[&[2]]).contains("axis 1 of shape [2]"));
    assert!(shape(0, &[&[2, 3], &[2, 4]]).contains("differ beside axis 0"));
    assert!(shape(0, &[&[2, 3], &[2]]).contains("differ beside axis 0"));
    let axis = |axis| onnx_node("Concat", &[&[2, 3], &[2, 3]], &[("axis", Attribute::Int(axis))]);
    assert_eq!(Concat::import(&mut axis(-1)).unwrap(), Concat { axis: 1 });
    check_refusals([
        (onnx_node("Concat", &[&[2], &[2]], &[]), "attribute \"axis\" is missing"),
        (onnx_node("Concat", &[&[2]], &[("axis", ints(&[0]))]), "axis"),
        (axis(3), "axis 3 of a tensor of rank 2"),
        (axis(-3), "axis -3 of a tensor of rank 2"),
    ]);
}
