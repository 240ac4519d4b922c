use super::*;
use crate::testing::{Rng, rounded};

/// Scales as trained networks have them, powers of two, quotients with many ties, and far ones.
fn scales(rng: &mut Rng) -> (f32, f32) {
    match rng.pick(&[0, 1, 2, 3, 4]) {
        0 => (rng.pick(&[0.5, 1.0, 2.0, 0.125]), rng.pick(&[1.0, 0.25, 4.0, 256.0])),
        // Ratios of small integers: every other code is a tie.
        1 => (rng.pick(&[1.0, 3.0, 5.0, 7.0, 9.0]), rng.pick(&[2.0, 6.0, 10.0, 14.0, 18.0])),
        2 => (rng.pick(&[1e-30, 1.0, 1e30]), rng.pick(&[1e-30, 1e30, 3.0])),
        _ => {
            let mut scale = || f32::from_bits(0x3A00_0000 + (rng.next() as u32 & 0x03FF_FFFF));
            (scale(), scale())
        }
    }
}

/// `round_half_even((q − zx) · sx / sy) + zy`, with both scales as whole multiples of the smallest `f32`.
fn exact(q: i32, x: &QuantParams, y: &QuantParams) -> i128 {
    let parts =
        |s: f32| ((s.to_bits() & 0x7F_FFFF | 0x80_0000) as i128, (s.to_bits() >> 23) as i32);
    let ((a, of_a), (b, of_b)) = (parts(x.scale[0]), parts(y.scale[0]));
    let apart = (of_a - of_b).clamp(-60, 60);
    let numerator = ((q - x.zero_point) as i128 * a) << apart.max(0);
    let (lo, hi) = y.code_range();
    let code = rounded(numerator, b << (-apart).max(0)) + y.zero_point as i128;
    code.clamp(lo.into(), hi.into())
}

/// Each code of each width to each width.
#[test]
fn every_code_is_that_of_the_exact_quotient() {
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let [from, to] = [0; 2].map(|_| rng.pick(&[Width::W8, Width::W16]));
        let (sx, sy) = scales(&mut rng);
        let mut zero = |w: Width| rng.pick(&[0, w.lowest(), w.highest(), w.lowest() / 3]);
        let (x, y) = (
            QuantParams::per_tensor(sx, zero(from), from),
            QuantParams::per_tensor(sy, zero(to), to),
        );
        let (lo, hi) = x.code_range();
        let codes = Codes::new(from, lo..=hi);
        let mut got = Codes::zeros(to, codes.len());
        let op = crate::ops::IntOp::Recode(RecodeInt::new(&x, &y, y.code_range()));
        op.eval(&[&codes], &mut got);
        for (q, got) in codes.iter().zip(got.iter()) {
            assert_eq!(got as i128, exact(q, &x, &y), "seed {seed}: {q} of {x:?} to {y:?}");
        }
    }
}

/// `9 / 6 = 1.5` and `3 / 6 = 0.5`: no factor rounds both to the even neighbour.
#[test]
fn ties_that_no_factor_rounds_are_divided() {
    let x = QuantParams::per_tensor(1.0, 0, Width::W16);
    let y = QuantParams::per_tensor(6.0, 0, Width::W16);
    let op = RecodeInt::new(&x, &y, y.code_range());
    let RecodeInt::Scaled(params) = &op else { panic!("{op:?}") };
    assert_eq!(params.denominator, 3);
    let mut codes = [0_i8; 4];
    op.eval(&[&[3_i16, 9, -3, -9]], &mut codes);
    assert_eq!(codes, [0, 2, 0, -2]);
    let halves = RecodeInt::new(&x, &QuantParams::per_tensor(2.0, 0, Width::W8), (-128, 127));
    assert!(matches!(halves, RecodeInt::Scaled(Params { denominator: 1, .. })));
}

/// A constant of 4 bits lies in memory as one of 8.
#[test]
fn a_table_of_4_bits_has_an_entry_for_each_byte() {
    let x = QuantParams::per_tensor(0.5, 1, Width::W4);
    let y = QuantParams::per_tensor(0.25, 3, Width::W8);
    let Codes::I8(table) = super::table(&x, &y, y.code_range()).0 else { panic!("of 8 bits") };
    assert_eq!(table.len(), 256);
    for code in -8..8 {
        assert_eq!(i32::from(table[(code + 128) as usize]), 2 * (code - 1) + 3);
    }
}
