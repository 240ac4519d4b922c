use super::*;
use crate::ops::{IntOp, Op};
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// `y[.., i, j] = Σ_k a[.., i, k] · b[.., k, j]`
fn define<T: Number>(_: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let (a, b) = (&inputs[0], &inputs[1]);
    let (&[ref lead_a @ .., m, inner], &[ref lead_b @ .., _, n]) = (a.shape(), b.shape()) else {
        unreachable!()
    };
    let shape = [broadcast_shape(lead_a, lead_b), vec![m, n]].concat();
    tabulate(&shape, |y| {
        let (lead, &[i, j]) = y.split_last_chunk().unwrap();
        let products = (0..inner).map(|k| {
            let [a, b] = [(a, [i, k]), (b, [k, j])]
                .map(|(x, last)| broadcast_at(x, &[lead, &last].concat()));
            a * b
        });
        (products.fold(T::from(0), |sum, product| sum + product), T::from(1))
    })
}

fn matmul(a: &[usize], b: &[usize]) -> Case {
    case(Op::MatMul(MatMul), &[a, b])
}

#[test]
fn equals_the_definition() {
    let cases = [
        matmul(&[1, 1], &[1, 1]),
        matmul(&[3, 17], &[17, 5]),
        matmul(&[17, 1], &[1, 3]),
        matmul(&[1, 4], &[4, 1]),
        matmul(&[3, 4], &[4, 5]).clamp(0.0, f32::INFINITY),
        matmul(&[3, 4], &[4, 5]).clamp(-0.5, 0.25),
        // Batches: equal, one matrix for all, each side repeated along another axis.
        matmul(&[2, 3, 4], &[2, 4, 5]),
        matmul(&[2, 3, 4], &[4, 5]),
        matmul(&[3, 4], &[2, 4, 5]),
        matmul(&[1, 3, 4], &[5, 4, 2]),
        matmul(&[2, 1, 3, 4], &[1, 3, 4, 2]),
        matmul(&[3, 2, 4], &[2, 1, 4, 5]),
        matmul(&[2, 3, 4], &[2, 4, 5]).constant(1),
        matmul(&[3, 4], &[2, 4, 5]).constant(0),
        matmul(&[2, 3, 4, 5], &[5, 2]).channels_last(0),
        matmul(&[2, 3, 4, 5], &[2, 3, 5, 4]).channels_last(1),
        matmul(&[2, 3, 4, 5], &[2, 1, 5, 4]).channels_last(0).channels_last(1),
    ];
    check(&cases, define, define);
}

/// As attention has it: one value is both arguments.
#[test]
fn the_layouts_of_the_arguments_are_plain() {
    let float = matmul(&[2, 3, 4, 5], &[2, 3, 5, 4]).channels_last(0).graph(0);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut Rng(0), 1.0));
    let int = lower(&quantize(&float, &ranges, SCHEMES[3]).unwrap()).unwrap();
    let product = int.nodes.iter().find(|n| matches!(n.op, IntOp::MatMul(_))).unwrap();
    assert!(int.values[product.inputs[0]].name.ends_with(".nchw"));
}

#[test]
fn what_does_not_fit_is_refused() {
    for (a, b, expected) in [
        (&[2, 3][..], &[4, 5][..], "3 columns, 4 rows"),
        (&[3], &[3, 5], "rank 2 at least"),
        (&[2, 3], &[3], "rank 2 at least"),
        (&[2, 2, 3], &[3, 3, 5], "do not broadcast"),
    ] {
        let message = refused(MatMul.infer_shape(&[a, b]));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    let quantized = |k: usize, inputs: f32, hi: f32| {
        let float = matmul(&[1, k], &[k, 1]).graph(0);
        let ranges = [inputs, inputs, hi].map(|hi| Some(Range { lo: -hi, hi }));
        lower(&quantize(&float, &ranges, SCHEMES[0]).unwrap())
    };
    // Zero points 0: 128 · 128 · 2^17 needs 64 bits, and then no factor beyond 2^7.
    let widest = quantized((1 << 17) - 1, 1.0, 1.0).unwrap();
    assert_eq!(widest.nodes[0].op.acc_bound(), Some((1 << 31) - (1 << 14)));
    quantized(1 << 17, 1.0, 1.0).unwrap();
    quantized((1 << 17) - 1, 1e3, 1.0).unwrap();
    let message = refused(quantized(1 << 17, 1e3, 1.0));
    assert!(message.contains("can reach 2147483648, and its factor 8388608 * 2^-11"), "{message}");
    assert!(refused(quantized(4, 1e3, 1e-9)).contains("(MatMul): rescaling factor"));
}
