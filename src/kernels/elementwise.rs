//! Loops over codes without sums of products. They are written once; the compiler makes vectors of them for
//! each instruction set.

use super::isa::Isa;
use crate::arith::{Multiplier, rescale, round_ratio, round_shift};

/// Defines functions that are compiled for each instruction set. The first argument chooses. `FUSED` says
/// whether it has a fused multiply-add.
macro_rules! for_each_isa {
    ($(
        $(#[$doc:meta])*
        fn $name:ident $([$($t:ident: $bound:ident),*])? ($($arg:ident: $type:ty),* $(,)?) $body:block
    )*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// If the machine has no `isa`, or a length does not fit.
        #[allow(clippy::too_many_arguments)]
        pub fn $name $(<$($t: $bound),*>)? (isa: Isa, $($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters, clippy::too_many_arguments)]
            fn generic<const FUSED: bool $($(, $t: $bound)*)?>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<$($t: $bound),*>)? ($($arg: $type),*) {
                generic::<true $($(, $t)*)?>($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<$($t: $bound),*>)? ($($arg: $type),*) {
                generic::<true $($(, $t)*)?>($($arg),*);
            }

            assert!(isa.is_available(), "this machine has no {isa}");
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has the instructions, as asserted.
                Isa::Avx2 | Isa::AvxVnni => unsafe { avx2 $(::<$($t),*>)? ($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the same.
                Isa::Avx512Vnni => unsafe { avx512 $(::<$($t),*>)? ($($arg),*) },
                _ => generic::<{ cfg!(target_arch = "aarch64") } $($(, $t)*)?>($($arg),*),
            }
        }
    )*};
}
pub(super) use for_each_isa;

/// A code as it lies in the arena of an engine: a byte, which is the code `^ flip`, or a pair of bytes, the
/// lower one first.
pub trait Stored: Copy + Send + Sync {
    /// Codes one behind the other.
    fn all(bytes: &[u8]) -> &[Self];

    /// The same, to be written.
    fn all_mut(bytes: &mut [u8]) -> &mut [Self];

    /// The code.
    fn get(self, flip: u8) -> i32;

    /// Its bits as a number.
    fn bits(self) -> usize;

    /// The lowest bits of `code`.
    fn put(code: i32, flip: u8) -> Self;

    /// The greater one of two codes.
    fn greater(self, other: Self, flip: u8) -> Self;

    /// The lowest code.
    fn lowest(flip: u8) -> Self {
        Self::put(-128 << (8 * (size_of::<Self>() - 1)), flip)
    }
}

impl Stored for u8 {
    fn all(bytes: &[u8]) -> &[Self] {
        bytes
    }

    fn all_mut(bytes: &mut [u8]) -> &mut [Self] {
        bytes
    }

    #[inline(always)]
    fn get(self, flip: u8) -> i32 {
        (self ^ flip) as i8 as i32
    }

    #[inline(always)]
    fn bits(self) -> usize {
        self.into()
    }

    #[inline(always)]
    fn put(code: i32, flip: u8) -> Self {
        code as u8 ^ flip
    }

    #[inline(always)]
    fn greater(self, other: Self, flip: u8) -> Self {
        // Bytes in whose order codes are: unsigned.
        let order = flip ^ 0x80;
        (self ^ order).max(other ^ order) ^ order
    }
}

impl Stored for [u8; 2] {
    fn all(bytes: &[u8]) -> &[Self] {
        bytes.as_chunks().0
    }

    fn all_mut(bytes: &mut [u8]) -> &mut [Self] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn get(self, _: u8) -> i32 {
        i16::from_le_bytes(self) as i32
    }

    #[inline(always)]
    fn bits(self) -> usize {
        u16::from_le_bytes(self).into()
    }

    #[inline(always)]
    fn put(code: i32, _: u8) -> Self {
        (code as i16).to_le_bytes()
    }

    #[inline(always)]
    fn greater(self, other: Self, _: u8) -> Self {
        i16::from_le_bytes(self).max(i16::from_le_bytes(other)).to_le_bytes()
    }
}

/// What rounded numbers become: `clamp(q + zero_point)`, with this zero point and these limits.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    zero_point: i32,
    /// Less the zero point.
    lo: f64,
    hi: f64,
}

/// `x + 1.5 · 2^52` has the integer next to `x`, of two the even one, in its low bits.
pub(super) const ROUND: f64 = 6_755_399_441_055_744.0;

impl Target {
    /// Of codes with this zero point in `clamp`.
    pub fn new(zero_point: i32, clamp: (i32, i32)) -> Self {
        let limit = |code: i32| (code - zero_point) as f64;
        Self { zero_point, lo: limit(clamp.0), hi: limit(clamp.1) }
    }

    /// The code of `q`, rounded half to even. As the limits are integers, they may come before.
    #[inline(always)]
    pub fn code<Y: Stored>(&self, q: f64, flip: u8) -> Y {
        let q = if q > self.lo { q } else { self.lo };
        let q = if q < self.hi { q } else { self.hi };
        Y::put((q + ROUND).to_bits() as i32 + self.zero_point, flip)
    }

    /// The same of an integer.
    #[inline(always)]
    pub fn rounded<Y: Stored>(&self, q: i64, flip: u8) -> Y {
        let (lo, hi) = (self.lo as i64, self.hi as i64);
        Y::put(q.max(lo).min(hi) as i32 + self.zero_point, flip)
    }
}

/// `x · factor`, rounded once, half to even, where an `f64` holds both exactly. Of more than 51 bits it is only as
/// far from 0.
///
/// The product is rounded to an `f64` first. Where that makes it a tie, the rest says on which side it was.
#[inline(always)]
pub fn scaled(x: f64, factor: f64) -> f64 {
    let product = x * factor;
    let rest = x.mul_add(factor, -product);
    let q = (product + ROUND) - ROUND;
    let beyond = product - q;
    if (beyond.abs() == 0.5) & (beyond * rest > 0.0) { q + 2.0 * beyond } else { q }
}

/// Constants of [`add`]; see [`crate::ops::add::int::Params`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Sum {
    pub factor: [i64; 2],
    pub shift: u32,
    pub zero_point: [i32; 2],
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    /// The sum never exceeds this.
    pub bound: i64,
}

/// Constants of [`mul`]; see [`crate::ops::mul::int::Params`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Scaled {
    pub multiplier: Multiplier,
    pub zero_point: [i32; 2],
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
}

/// Constants of [`recode`]; see [`crate::ops::recode::int::Params`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Ratio {
    pub numerator: i64,
    pub denominator: i64,
    pub shift: u32,
    pub x_zero_point: i32,
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
}

/// `y = table[x]`, by the bits of the code as it lies in memory.
///
/// # Panics
/// If the table has no entry for each of them.
pub fn table<X: Stored, Y: Stored>(table: &[Y], x: &[X], y: &mut [Y]) {
    assert!(table.len() == 1 << (8 * size_of::<X>()) && x.len() == y.len());
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = table[x.bits()]);
}

for_each_isa! {
    /// `y = clamp(round_shift((a − za) · fa + (b − zb) · fb, shift) + zy)`.
    fn add[X: Stored, Y: Stored](p: &Sum, flip: u8, a: &[X], b: &[X], y: &mut [Y]) {
        assert!(a.len() == y.len() && b.len() == y.len());
        let [za, zb] = p.zero_point;
        let (lo, hi) = (p.clamp.0 - p.y_zero_point, p.clamp.1 - p.y_zero_point);
        // Whether `f64` holds every sum exactly, in any order, and 32 bits what it is rounded to.
        if p.bound < 1 << 52 && p.bound >> p.shift < (1 << 31) - 1 {
            let unit = 1.0 / (1u64 << p.shift) as f64;
            let [fa, fb] = p.factor.map(|f| f as f64 * unit);
            let zero = -(za as f64 * fa + zb as f64 * fb);
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let (a, b) = (a.get(flip) as f64, b.get(flip) as f64);
                let sum = match FUSED {
                    true => b.mul_add(fb, a.mul_add(fa, zero)),
                    false => a * fa + zero + b * fb,
                };
                let q = (sum + ROUND).to_bits() as i32;
                *y = Y::put(q.max(lo).min(hi) + p.y_zero_point, flip);
            }
        } else {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let (a, b) = ((a.get(flip) - za) as i64, (b.get(flip) - zb) as i64);
                let q = round_shift(a * p.factor[0] + b * p.factor[1], p.shift);
                *y = Y::put(q.clamp(lo.into(), hi.into()) as i32 + p.y_zero_point, flip);
            }
        }
    }

    /// `y = clamp(rescale((a − za) · (b − zb), m) + zy)`.
    fn mul[X: Stored, Y: Stored](p: &Scaled, flip: u8, a: &[X], b: &[X], y: &mut [Y]) {
        assert!(a.len() == y.len() && b.len() == y.len());
        let [za, zb] = p.zero_point;
        let (lo, hi) = (p.clamp.0 - p.y_zero_point, p.clamp.1 - p.y_zero_point);
        let factor = p.multiplier.significand as f64 / (1u64 << p.multiplier.shift) as f64;
        // Products of 8 bits are at most 2^16, so `f64` holds them times the factor. 32 bits hold the result:
        if size_of::<X>() == 1 && factor < (1 << 14) as f64 {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let product = ((a.get(flip) - za) * (b.get(flip) - zb)) as f64 * factor;
                let q = (product + ROUND).to_bits() as i32;
                *y = Y::put(q.max(lo).min(hi) + p.y_zero_point, flip);
            }
        } else if FUSED {
            let to = Target::new(p.y_zero_point, p.clamp);
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let product = (a.get(flip) - za) as f64 * (b.get(flip) - zb) as f64;
                *y = to.code(scaled(product, factor), flip);
            }
        } else {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let product = (a.get(flip) - za) as i64 * (b.get(flip) - zb) as i64;
                let q = rescale(product, p.multiplier).clamp(lo.into(), hi.into());
                *y = Y::put(q as i32 + p.y_zero_point, flip);
            }
        }
    }

    /// `y = clamp(round((x − zx) · numerator / denominator · 2^-shift) + zy)`.
    fn recode[X: Stored, Y: Stored](p: &Ratio, flip: u8, x: &[X], y: &mut [Y]) {
        assert_eq!(x.len(), y.len());
        if FUSED && p.denominator == 1 && p.numerator < 1 << 53 {
            let factor = p.numerator as f64 / (1u64 << p.shift) as f64;
            let to = Target::new(p.y_zero_point, p.clamp);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = to.code(scaled((x.get(flip) - p.x_zero_point) as f64, factor), flip);
            }
            return;
        }
        let (lo, hi) = (p.clamp.0 - p.y_zero_point, p.clamp.1 - p.y_zero_point);
        for (y, &x) in y.iter_mut().zip(x) {
            let product = (x.get(flip) - p.x_zero_point) as i64 * p.numerator;
            let q = match p.denominator {
                1 => round_shift(product, p.shift),
                denominator => round_ratio(product, denominator, p.shift),
            };
            *y = Y::put(q.clamp(lo.into(), hi.into()) as i32 + p.y_zero_point, flip);
        }
    }

    /// `y = clamp(rne(x / scale) + zero_point) ^ flip`, for finite `x`; as
    /// [`QuantParams::quantize`](crate::quant::QuantParams::quantize) to 8 or 16 bits.
    fn quantize[Y: Stored](x: &[f32], scale: f32, zero_point: i32, flip: u8, y: &mut [Y]) {
        // Limits that are integers may come before the rounding. Adding `1.5 · 2^23` rounds half to even,
        // and then the low bits are the integer.
        const ROUND: f32 = 12_582_912.0;
        assert_eq!(x.len(), y.len());
        let lowest = Y::lowest(flip).get(flip);
        let (lo, hi) = ((lowest - zero_point) as f32, (!lowest - zero_point) as f32);
        let zero_point = zero_point - ROUND.to_bits() as i32;
        for (y, &x) in y.iter_mut().zip(x) {
            let q = x / scale;
            let q = if q > lo { q } else { lo };
            let q = if q < hi { q } else { hi };
            *y = Y::put((q + ROUND).to_bits() as i32 + zero_point, flip);
        }
    }

    /// `[c][pixels]` to `[pixels][c]`.
    fn interleave[Y: Stored](x: &[Y], c: usize, y: &mut [Y]) {
        assert_eq!(x.len(), y.len());
        let pixels = x.len() / c.max(1);
        if c == 3 {
            let (first, rest) = x.split_at(pixels);
            let (second, third) = rest.split_at(pixels);
            for (((y, &a), &b), &c) in y.as_chunks_mut::<3>().0.iter_mut().zip(first).zip(second).zip(third) {
                *y = [a, b, c];
            }
            return;
        }
        for (channel, x) in x.chunks_exact(pixels.max(1)).enumerate() {
            y[channel..].iter_mut().step_by(c).zip(x).for_each(|(y, &x)| *y = x);
        }
    }
}
