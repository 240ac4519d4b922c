use super::*;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// `y[i] = a[i] ± b[i]`
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::Add(Add { subtract }) = *op else { unreachable!() };
    let sign = T::from(if subtract { -1 } else { 1 });
    let (a, b) = (&inputs[0], &inputs[1]);
    tabulate(&broadcast_shape(a.shape(), b.shape()), |y| {
        (broadcast_at(a, y) + broadcast_at(b, y) * sign, T::from(1))
    })
}

const ADD: Op = Op::Add(Add { subtract: false });
const SUBTRACT: Op = Op::Add(Add { subtract: true });

#[test]
fn equals_the_definition() {
    let add = |a: &[usize], b: &[usize]| case(ADD, &[a, b]);
    let image: &[usize] = &[2, 3, 4, 5];
    let mut cases = vec![
        add(&[1], &[1]),
        case(SUBTRACT, &[&[17], &[17]]),
        case(SUBTRACT, &[&[5], &[3, 1]]).clamp(0.0, 6.0),
        case(SUBTRACT, &[image, image]).channels_last(1),
        case(SUBTRACT, &[image, &[3, 1, 1]]).constant(1).channels_last(0),
        case(SUBTRACT, &[&[3, 1, 1], image]).constant(0),
        add(&[17], &[17]),
        add(&[3, 5], &[5]),
        add(&[5], &[3, 5]),
        add(&[3, 1], &[1, 5]),
        add(&[2, 3, 4], &[]),
        add(image, image).clamp(0.0, f32::INFINITY),
        add(image, image).clamp(0.0, 6.0),
        add(image, image).clamp(1.0, 2.0),
        // Both with the channels last; one only; the other only.
        add(image, image).channels_last(0).channels_last(1),
        add(image, image).channels_last(0),
        add(image, image).channels_last(1),
        add(&[2, 1, 4, 1], &[1, 3, 1, 5]).channels_last(0),
    ];
    for other in [&[2, 3, 1, 1][..], &[1, 3, 4, 1], &[1, 1, 1, 5], &[3, 4, 5], &[4, 1], &[5], &[]] {
        cases.push(add(image, other));
        cases.push(add(other, image).channels_last(1));
        cases.push(add(image, other).constant(1).channels_last(0));
        cases.push(add(other, image).constant(0).channels_last(1));
        cases.push(case(SUBTRACT, &[image, other]).channels_last(0));
        cases.push(case(SUBTRACT, &[other, image]).constant(0).channels_last(1));
    }
    check(&cases, define, define);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    assert!(refused(ADD.infer_shape(&[&[2, 3], &[2][..]])).contains("do not broadcast"));
    assert!(refused(ADD.infer_shape(&[&[2, 3]])).contains("expected 2 inputs, got 1"));
}

/// The shapes of both arguments and the largest magnitudes of arguments and result.
fn quantized([a, b, y]: [f32; 3]) -> crate::testing::graph::Graph {
    let float = case(ADD, &[&[4], &[4]]).graph(0);
    let ranges = [a, b, y].map(|hi| Some(Range { lo: -hi, hi }));
    quantize(&float, &ranges, SCHEMES[0]).unwrap()
}

#[test]
fn scales_too_far_apart_are_refused() {
    let message = refused(lower(&quantized([1e8, 1.0, 1e-4])));
    assert!(message.starts_with("in node \"n0\" (Add): "), "{message}");
    assert!(message.contains("too far from output scale"), "{message:?}");
}

/// Against the sum of the factors themselves, as integers of 128 bits.
#[test]
fn sums_of_unequal_summands_are_exact() {
    let mut rng = Rng(0);
    let mut below = 0;
    for round in 0..2000 {
        let widest = [[255, 255], [65535, 65535], [255, 65535]][round % 3];
        let mut ratio = |least: i32, most: i32| {
            let exponent = least + (rng.next() % (most - least) as u64) as i32;
            // Half of them are powers of two, which make ties.
            let digits = [0, rng.next() % (1 << 23)][rng.next() as usize % 2] as u32;
            f32::from_bits((127 + exponent) as u32 * (1 << 23) + digits)
        };
        let ratios = [ratio(-10, 3), ratio(-63, 3)];
        let Some(sum) = Sum::of(ratios, widest) else { continue };
        below += (sum.factors[1] == 1) as usize;
        assert!(sum.bound < 1 << 62 && (1..=62).contains(&sum.shift));
        // Each ratio in units of 2^-86.
        let exact = ratios.map(|ratio| (ratio as f64 * 2f64.powi(86)) as i128);
        for at in 0..200 {
            let code = |widest: i64, r: u64| r as i64 % (2 * widest + 1) - widest;
            let b = [0, 1, -1, code(widest[1], rng.next() >> 1)][at % 4];
            let a = code(widest[0], rng.next() >> 1);
            let got = crate::arith::round_shift(a * sum.factors[0] + b * sum.factors[1], sum.shift);
            let whole = a as i128 * exact[0] + b as i128 * exact[1];
            let odd = whole >> 86 & 1;
            let expected = (whole + (1 << 85) - 1 + odd) >> 86;
            assert_eq!(got as i128, expected, "{ratios:?} {a} {b}");
        }
    }
    assert!(below > 100, "{below} sums in which only a sign counts");
}

/// Powers of two make ties, which the smallest summand decides.
#[test]
fn a_sign_decides_a_tie() {
    for small in [0.0, 1e-45, 1e-30, 1e-12] {
        let sum = Sum::of([0.5, small], [255, 255]).unwrap();
        let code = |a: i64, b: i64| {
            crate::arith::round_shift(a * sum.factors[0] + b * sum.factors[1], sum.shift)
        };
        assert_eq!(
            [code(1, 0), code(1, 1), code(1, -1), code(3, -1), code(4, -255)],
            [0, 1, 0, 1, 2]
        );
    }
}

/// Scales `2^31` apart: the sum has 62 bits.
#[test]
fn the_widest_sums_are_exact() {
    let graph = quantized([2f32.powi(20), 2f32.powi(-11), 2f32.powi(20)]);
    let bound = lower(&graph).unwrap().nodes[0].op.acc_bound().unwrap();
    assert!((1 << 60..1 << 62).contains(&bound), "{bound}");
    // A tie of the large argument is decided by the smallest step of the small one.
    let double = quantized([2f32.powi(19), 2f32.powi(-11), 2f32.powi(20)]);
    let codes = [vec![1, 1, 1, -128], vec![0, 1, -1, -128]].map(Tensor::from_vec);
    assert_eq!(run_int(&double, &codes).data(), [0, 1, 0, -64]);
    assert_eq!(run_int(&graph, &codes).data(), [1, 1, 1, -128]);
}
