//! Rust for every machine: codes of 16 bits in pairs, 4 sums at a time.

use super::packed::{Block, Limits, Packed};
use super::simd::{Job, Pairs, Simd, Vector, Words, entry_points};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

/// Added to a number below `2^31`, it leaves its integer part, rounded half to even, in the low bits.
const ROUND_DOUBLE: f64 = 6_755_399_441_055_744.0;

impl Vector for Scalar {
    type V = [i32; 4];
    type X = i16;
    const LANES: usize = 4;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u32) -> [i32; 4] {
        // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn save(v: [i32; 4], to: *mut u32) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
        unsafe { to.cast::<[i32; 4]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn splat(x: *const i16) -> [i32; 4] {
        // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
        let [low, high] = unsafe { x.cast::<[i16; 2]>().read_unaligned() };
        [low as u16 as i32 | (high as i32) << 16; 4]
    }

    #[inline(always)]
    unsafe fn dot(acc: [i32; 4], x: [i32; 4], w: [i32; 4]) -> [i32; 4] {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: all machines of this kind have SSE2; the types have the same bits.
        unsafe {
            use std::arch::x86_64::{__m128i, _mm_add_epi32, _mm_madd_epi16};
            let [acc, x, w] = [acc, x, w].map(|v| std::mem::transmute::<[i32; 4], __m128i>(v));
            std::mem::transmute(_mm_add_epi32(acc, _mm_madd_epi16(x, w)))
        }
        #[cfg(not(target_arch = "x86_64"))]
        pairs(acc, x, w)
    }

    #[inline(always)]
    unsafe fn round(_: [i32; 4], _: *const f32) -> [i32; 4] {
        unreachable!("not every machine has a fused multiply-add")
    }

    #[inline(always)]
    unsafe fn round_double(acc: [i32; 4], factor: *const f64) -> [i32; 4] {
        // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
        let factor = unsafe { factor.cast::<[f64; 4]>().read_unaligned() };
        let mut q = [0; 4];
        for i in 0..4 {
            q[i] = (acc[i] as f64 * factor[i] + ROUND_DOUBLE).to_bits() as i32;
        }
        q
    }

    #[inline(always)]
    unsafe fn fused(acc: [i32; 4], x: [i32; 4], w: [i32; 4]) -> [i32; 4] {
        let real = |word: i32| f32::from_bits(word as u32);
        let mut sum = acc;
        for i in 0..4 {
            sum[i] = multiply_add(real(x[i]), real(w[i]), real(acc[i])).to_bits() as i32;
        }
        sum
    }

    #[inline(never)]
    unsafe fn run<J: Job<Self>>(job: J) {
        // SAFETY: the machine has the instructions, and what the job demands is the caller's to promise.
        unsafe { job.run() }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(q: [[i32; 4]; 4], limits: Limits, y: [*mut u8; 4], len: usize) {
        let (lo, hi) = (limits.lo as i8 as i32, limits.hi as i8 as i32);
        for (i, q) in q.into_iter().enumerate() {
            for (lane, q) in q.into_iter().enumerate() {
                let at = i % N * 4 + lane;
                let code = q.saturating_add(limits.zero_point.into()).max(lo).min(hi) as u8;
                if at < len {
                    // SAFETY: there is room for `len` codes.
                    unsafe { *y[i / N].add(at) = code };
                }
            }
        }
    }
}

impl Simd for Scalar {
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4], len: usize, to: *mut u32) {
        for i in 0..len {
            // SAFETY: the rows hold `len` codes, and there is room for as many words.
            unsafe {
                let [a, b] = [*rows[0].add(i) as i8 as u16, *rows[1].add(i) as i8 as u16];
                *to.add(i) = a as u32 | (b as u32) << 16;
            }
        }
    }

    entry_points!();
}

/// `a · b + c`, rounded once; by an instruction where all machines of the kind have it.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    match cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        true => a.mul_add(b, c),
        false => multiply_add_by_doubles(a, b, c),
    }
}

/// [`multiply_add`] without the instruction. The product is exact in `f64`. Where the sum is not, the last bit
/// of a neighbour that is odd keeps the second rounding from seeing a tie, or a number, that was none.
#[inline(always)]
fn multiply_add_by_doubles(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (a as f64 * b as f64, c as f64);
    let sum = product + c;
    // What the rounding of the sum took away (Knuth).
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    let away_from_zero = (error > 0.0) == (sum > 0.0);
    let inexact = (error > 0.0) | (error < 0.0);
    let odd = match inexact & (bits & 1 == 0) {
        true => {
            if away_from_zero {
                bits + 1
            } else {
                bits - 1
            }
        }
        false => bits,
    };
    f64::from_bits(odd) as f32
}

/// [`Simd::dot`] without instructions of a machine.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline(always)]
fn pairs(acc: [i32; 4], x: [i32; 4], w: [i32; 4]) -> [i32; 4] {
    let mut sum = acc;
    for i in 0..4 {
        let first = (x[i] as i16 as i32) * (w[i] as i16 as i32);
        let second = (x[i] >> 16) * (w[i] >> 16);
        sum[i] = acc[i].wrapping_add(first).wrapping_add(second);
    }
    sum
}

/// A function of each two elements; on x86-64 an instruction of SSE2, which compilers miss.
macro_rules! each {
    ($a:ident, $b:ident, $f:ident, $t:ty, $sse2:ident) => {{
        #[cfg(target_arch = "x86_64")]
        // SAFETY: all machines of this kind have SSE2; the types have the same size.
        unsafe {
            use std::arch::x86_64::{__m128i, $sse2};
            let [a, b] = std::mem::transmute::<[[i32; 4]; 2], [__m128i; 2]>([$a, $b]);
            std::mem::transmute::<__m128i, [i32; 4]>($sse2(a, b))
        }
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: the types have the same size.
        unsafe {
            let [mut a, b] = std::mem::transmute::<[[i32; 4]; 2], [$t; 2]>([$a, $b]);
            for (a, b) in a.iter_mut().zip(b) {
                *a = a.$f(b);
            }
            std::mem::transmute::<$t, [i32; 4]>(a)
        }
    }};
}

impl Words for Scalar {
    const FUSED: bool = false;

    #[inline(always)]
    unsafe fn extended(x: *const i16) -> [i32; 4] {
        // SAFETY: the memory is there, as `Words` demands.
        unsafe { x.cast::<[i16; 4]>().read_unaligned().map(i32::from) }
    }
}

impl Pairs for Scalar {
    #[inline(always)]
    unsafe fn codes(x: *const u8) -> [i32; 4] {
        // SAFETY: the machine has the instructions, and the memory is there, as `Pairs` demands; the types have the same size.
        unsafe {
            std::mem::transmute::<[i16; 8], [i32; 4]>(x.cast::<[i8; 8]>().read().map(i16::from))
        }
    }

    #[inline(always)]
    unsafe fn add_codes(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        each!(a, b, wrapping_add, [i16; 8], _mm_add_epi16)
    }

    #[inline(always)]
    unsafe fn sub_codes(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        each!(a, b, wrapping_sub, [i16; 8], _mm_sub_epi16)
    }

    #[inline(always)]
    unsafe fn add(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        each!(a, b, wrapping_add, [i32; 4], _mm_add_epi32)
    }

    #[inline(always)]
    unsafe fn sub(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        each!(a, b, wrapping_sub, [i32; 4], _mm_sub_epi32)
    }

    #[inline(always)]
    unsafe fn multiply(a: [i32; 4], b: i32) -> [i32; 4] {
        a.map(|a| a.wrapping_mul(b))
    }

    #[inline(always)]
    unsafe fn shift(a: [i32; 4], n: i32) -> [i32; 4] {
        a.map(|a| a >> n)
    }

    #[inline(always)]
    fn fetch(_: *const u32) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// `f32::mul_add` is exact on every machine.
    #[test]
    fn a_product_and_a_sum_are_rounded_once() {
        let mut rng = Rng(1);
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::from_bits(0x80_0001),
            1.0 + f32::EPSILON,
            1.0 - f32::EPSILON / 2.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            4097.0,
            16_777_217.0,
        ];
        let equal = |a: f32, b: f32, c: f32| {
            let (sum, exact) = (multiply_add_by_doubles(a, b, c), a.mul_add(b, c));
            assert!(
                sum.to_bits() == exact.to_bits() || sum.is_nan() && exact.is_nan(),
                "{a:e} · {b:e} + {c:e}: {sum:e}, not {exact:e}"
            );
        };
        for a in special {
            for b in special {
                special.iter().for_each(|&c| equal(a, b, c));
            }
        }
        for _ in 0..if cfg!(miri) { 10 } else { 300_000 } {
            let [a, b, c] = [0; 3].map(|_| f32::from_bits(rng.next() as u32));
            equal(a, b, c);
            // Ties, and what is just beside them: a product that is nearly a half of the sum's last bit.
            let near =
                |x: f32, exponent: u32| f32::from_bits(x.to_bits() & 0x807f_ffff | exponent << 23);
            let shift = rng.next() as u32 % 60;
            equal(near(a, 127), near(b, 127), near(c, 97 + shift));
            let few = |x: f32| f32::from_bits(x.to_bits() & 0x807f_f000 | 127 << 23);
            equal(few(a), few(b), near(c, 97 + shift));
        }
    }

    #[test]
    fn pairs_are_multiplied_alike() {
        let mut rng = Rng(1);
        let codes = [-0x8000, -0x7FFF, -128, -1, 0, 1, 3, 127, 0x7FFE, 0x7FFF];
        let mut word = || rng.pick(&codes) as i16 as u16 as i32 | rng.pick(&codes) << 16;
        for i in 0..if cfg!(miri) { 10 } else { 1000 } {
            let acc = [i, -i, i32::MAX, i32::MIN];
            let (x, w) = ([0; 4].map(|_| word()), [0; 4].map(|_| word()));
            let code = |word: i32, i: usize| (word >> (16 * i)) as i16 as i32;
            let sum = |l: usize| {
                [0, 1]
                    .iter()
                    .fold(acc[l], |sum, &i| sum.wrapping_add(code(x[l], i) * code(w[l], i)))
            };
            let expected = [0, 1, 2, 3].map(sum);
            assert_eq!(pairs(acc, x, w), expected);
            // SAFETY: it needs nothing that some machine lacks.
            assert_eq!(unsafe { Scalar::dot(acc, x, w) }, expected);
        }
    }
}
