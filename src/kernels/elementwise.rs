//! Loops over codes without sums of products. They are written once; the compiler makes vectors of them for
//! each instruction set.

use super::isa::Isa;
use super::product::Windows;
use crate::arith::{Multiplier, rescale, round_shift};

/// Defines functions that are compiled for each instruction set. The first argument chooses. `FUSED` says
/// whether it has a fused multiply-add.
macro_rules! for_each_isa {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// If the machine has no `isa`, or a length does not fit.
        #[allow(clippy::too_many_arguments)]
        pub fn $name(isa: Isa, $($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn generic<const FUSED: bool>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                generic::<true>($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn avx512($($arg: $type),*) {
                generic::<true>($($arg),*);
            }

            assert!(isa.is_available(), "this machine has no {isa}");
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has the instructions, as asserted.
                Isa::Avx2 | Isa::AvxVnni => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the same.
                Isa::Avx512Vnni => unsafe { avx512($($arg),*) },
                _ => generic::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    )*};
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

for_each_isa! {
    /// `y = clamp(round_shift((a − za) · fa + (b − zb) · fb, shift) + zy)`, of bytes that are codes, each
    /// `^ flip`.
    fn add(p: &Sum, flip: u8, a: &[u8], b: &[u8], y: &mut [u8]) {
        assert!(a.len() == y.len() && b.len() == y.len());
        let [za, zb] = p.zero_point;
        let (lo, hi) = (p.clamp.0 - p.y_zero_point, p.clamp.1 - p.y_zero_point);
        let code = |byte: u8| (byte ^ flip) as i8 as i32;
        // Whether `f64` holds every sum exactly, in any order, and 32 bits what it is rounded to.
        if p.bound < 1 << 52 && p.bound >> p.shift < (1 << 31) - 1 {
            let unit = 1.0 / (1u64 << p.shift) as f64;
            let [fa, fb] = p.factor.map(|f| f as f64 * unit);
            let zero = -(za as f64 * fa + zb as f64 * fb);
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let (a, b) = (code(a) as f64, code(b) as f64);
                let sum = match FUSED {
                    true => b.mul_add(fb, a.mul_add(fa, zero)),
                    false => a * fa + zero + b * fb,
                };
                // Adding `1.5 · 2^52` rounds half to even, and then the low bits are the integer.
                let q = (sum + 6_755_399_441_055_744.0).to_bits() as i32;
                *y = (q.max(lo).min(hi) + p.y_zero_point) as u8 ^ flip;
            }
        } else {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let (a, b) = ((code(a) - za) as i64, (code(b) - zb) as i64);
                let q = round_shift(a * p.factor[0] + b * p.factor[1], p.shift);
                *y = (q.clamp(lo.into(), hi.into()) as i32 + p.y_zero_point) as u8 ^ flip;
            }
        }
    }

    /// `y = clamp(rescale((a − za) · (b − zb), m) + zy)`, of bytes that are codes, each `^ flip`.
    fn mul(p: &Scaled, flip: u8, a: &[u8], b: &[u8], y: &mut [u8]) {
        assert!(a.len() == y.len() && b.len() == y.len());
        let [za, zb] = p.zero_point;
        let (lo, hi) = (p.clamp.0 - p.y_zero_point, p.clamp.1 - p.y_zero_point);
        let code = |byte: u8| (byte ^ flip) as i8 as i32;
        let factor = p.multiplier.significand as f64 / (1u64 << p.multiplier.shift) as f64;
        // Products are at most 2^16, so `f64` holds them times the factor. 32 bits hold the result:
        if factor < (1 << 14) as f64 {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let product = ((code(a) - za) * (code(b) - zb)) as f64 * factor;
                let q = (product + 6_755_399_441_055_744.0).to_bits() as i32;
                *y = (q.max(lo).min(hi) + p.y_zero_point) as u8 ^ flip;
            }
        } else {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                let product = (code(a) - za) as i64 * (code(b) - zb) as i64;
                let q = rescale(product, p.multiplier).clamp(lo.into(), hi.into());
                *y = (q as i32 + p.y_zero_point) as u8 ^ flip;
            }
        }
    }

    /// `y = clamp(rne(x / scale) + zero_point) ^ flip`, for finite `x`; as
    /// [`QuantParams::quantize`](crate::quant::QuantParams::quantize) to 8 bits.
    fn quantize(x: &[f32], scale: f32, zero_point: i32, flip: u8, y: &mut [u8]) {
        // Limits that are integers may come before the rounding. Adding `1.5 · 2^23` rounds half to even,
        // and then the low bits are the integer.
        const ROUND: f32 = 12_582_912.0;
        assert_eq!(x.len(), y.len());
        let (lo, hi) = ((-128 - zero_point) as f32, (127 - zero_point) as f32);
        let zero_point = zero_point - ROUND.to_bits() as i32;
        for (y, &x) in y.iter_mut().zip(x) {
            let q = x / scale;
            let q = if q > lo { q } else { lo };
            let q = if q < hi { q } else { hi };
            *y = ((q + ROUND).to_bits() as i32 + zero_point) as u8 ^ flip;
        }
    }

    /// `[c][pixels]` to `[pixels][c]`.
    fn interleave(x: &[u8], c: usize, y: &mut [u8]) {
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

    /// `y[c] = table[Σ (x[pixel][c] ^ flip ^ 0x80)]`: for each channel the sum of codes, each 128 more than
    /// it is. `sums` has room for all channels.
    fn mean(x: &[u8], flip: u8, table: &[u8], sums: &mut [u32], y: &mut [u8]) {
        let sums = &mut sums[..y.len()];
        sums.fill(0);
        for x in x.chunks_exact(y.len().max(1)) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += (x ^ flip ^ 0x80) as u32;
            }
        }
        for (y, &sum) in y.iter_mut().zip(&*sums) {
            *y = table[sum as usize];
        }
    }

    /// The lines `first..` of a maximum pool, as many as `y` holds. Bytes are codes, each `^ flip`; taps
    /// outside of the input do not count.
    fn max_pool(w: &Windows, flip: u8, x: &[u8], first: usize, y: &mut [u8]) {
        let [_, h, width, c] = w.x_shape;
        let [oh, ow] = w.out;
        // Bytes in whose order codes are: unsigned.
        let order = flip ^ 0x80;
        for (line, y) in (first..).zip(y.chunks_exact_mut((ow * c).max(1))) {
            let (image, oy) = (line / oh, line % oh);
            y.fill(0x80 ^ flip);
            for ky in 0..w.kernel[0] {
                let iy = (oy * w.stride[0] + ky * w.dilation[0]).wrapping_sub(w.pad[0]);
                if iy >= h {
                    continue;
                }
                let x = &x[(image * h + iy) * width * c..][..width * c];
                for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                    for kx in 0..w.kernel[1] {
                        let ix = (ox * w.stride[1] + kx * w.dilation[1]).wrapping_sub(w.pad[1]);
                        if ix < width {
                            for (y, &x) in y.iter_mut().zip(&x[ix * c..][..c]) {
                                *y = (*y ^ order).max(x ^ order) ^ order;
                            }
                        }
                    }
                }
            }
        }
    }
}
