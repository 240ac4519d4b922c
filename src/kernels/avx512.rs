//! AVX-512 with VNNI: `vpdpbusd` multiplies 4 unsigned codes by 4 weights and adds all to 32 bits.

use std::arch::asm;
use std::arch::x86_64::*;

use super::packed::{Block, Limits, Packed};
use super::simd::{Job, Pairs, Simd, Vector, Words, entry_points};

/// Codes of 8 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni;

/// Codes of 16 bits, for [`super::winograd`] and [`super::wide`]: `vpdpwssd`.
#[derive(Clone, Copy)]
pub(super) struct Avx512Pairs;

/// Added to a number, they leave its integer part, rounded half to even, in the low bits.
const ROUND: f32 = 12_582_912.0;
const ROUND_DOUBLE: f64 = 6_755_399_441_055_744.0;

/// What both have in common.
macro_rules! common {
    () => {
        type V = __m512i;
        const LANES: usize = 16;
        const VECTORS: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: *const Self::X) -> __m512i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { _mm512_set1_epi32(x.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn load(from: *const u32) -> __m512i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn save(v: __m512i, to: *mut u32) {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { _mm512_storeu_si512(to.cast(), v) }
        }

        #[inline(always)]
        unsafe fn round(acc: __m512i, factor: *const f32) -> __m512i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                let factor = _mm512_loadu_ps(factor);
                let q = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), factor, _mm512_set1_ps(ROUND));
                _mm512_sub_epi32(_mm512_castps_si512(q), _mm512_set1_epi32(ROUND.to_bits() as i32))
            }
        }

        #[inline(always)]
        unsafe fn round_double(acc: __m512i, factor: *const f64) -> __m512i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                let (f0, f1) = (_mm512_loadu_pd(factor), _mm512_loadu_pd(factor.add(8)));
                let round = _mm512_set1_pd(ROUND_DOUBLE);
                let low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(acc));
                let high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(acc));
                let low = _mm512_castpd_si512(_mm512_fmadd_pd(low, f0, round));
                let high = _mm512_castpd_si512(_mm512_fmadd_pd(high, f1, round));
                let even =
                    _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                _mm512_permutex2var_epi32(low, even, high)
            }
        }

        #[inline(always)]
        unsafe fn fused(acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
            // SAFETY: the machine has the instructions, as `Vector` demands.
            unsafe {
                let (acc, x, w) =
                    (_mm512_castsi512_ps(acc), _mm512_castsi512_ps(x), _mm512_castsi512_ps(w));
                _mm512_castps_si512(_mm512_fmadd_ps(x, w, acc))
            }
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        #[inline(never)]
        unsafe fn run<J: Job<Self>>(job: J) {
            // SAFETY: the machine has the instructions, and what the job demands is the caller's to promise.
            unsafe { job.run() }
        }

        #[inline(always)]
        unsafe fn store<const N: usize>(
            q: [__m512i; 4],
            limits: Limits,
            y: [*mut u8; 4],
            len: usize,
        ) {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                // Saturation at 16 bits changes nothing: the limits are closer, also after the zero point is
                // added.
                let zero_point = _mm512_set1_epi16(limits.zero_point);
                let low = _mm512_adds_epi16(_mm512_packs_epi32(q[0], q[1]), zero_point);
                let high = _mm512_adds_epi16(_mm512_packs_epi32(q[2], q[3]), zero_point);
                let codes = _mm512_packus_epi16(low, high);
                let codes = _mm512_min_epu8(codes, _mm512_set1_epi8(limits.hi as i8));
                let codes = _mm512_max_epu8(codes, _mm512_set1_epi8(limits.lo as i8));
                match N {
                    4 if len == 64 => _mm512_storeu_si512(y[0].cast(), codes),
                    4 => _mm512_mask_storeu_epi8(y[0].cast(), u64::MAX >> (64 - len), codes),
                    2 => {
                        let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
                        let codes = _mm512_permutexvar_epi64(order, codes);
                        let mask = u32::MAX >> (32 - len);
                        _mm256_mask_storeu_epi8(y[0].cast(), mask, _mm512_castsi512_si256(codes));
                        let second = _mm512_extracti64x4_epi64::<1>(codes);
                        _mm256_mask_storeu_epi8(y[1].cast(), mask, second);
                    }
                    _ => {
                        let order =
                            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                        let codes = _mm512_permutexvar_epi32(order, codes);
                        let mask = u16::MAX >> (16 - len);
                        _mm_mask_storeu_epi8(y[0].cast(), mask, _mm512_castsi512_si128(codes));
                        let second = _mm512_extracti32x4_epi32::<1>(codes);
                        _mm_mask_storeu_epi8(y[1].cast(), mask, second);
                        let third = _mm512_extracti32x4_epi32::<2>(codes);
                        _mm_mask_storeu_epi8(y[2].cast(), mask, third);
                        let fourth = _mm512_extracti32x4_epi32::<3>(codes);
                        _mm_mask_storeu_epi8(y[3].cast(), mask, fourth);
                    }
                }
            }
        }
    };
}

impl Vector for Avx512Vnni {
    type X = u8;

    common!();

    #[inline(always)]
    unsafe fn dot(acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the machine has the instructions, as `Vector` demands.
        unsafe { _mm512_dpbusd_epi32(acc, x, w) }
    }
}

impl Simd for Avx512Vnni {
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4], len: usize, to: *mut u32) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Simd` demands.
        unsafe {
            let mut x = [_mm512_setzero_si512(); 4];
            for (x, row) in x.iter_mut().zip(rows) {
                *x = match len {
                    64 => _mm512_loadu_si512(row.cast()),
                    _ => _mm512_maskz_loadu_epi8(u64::MAX >> (64 - len), row.cast()),
                };
            }
            let low = [_mm512_unpacklo_epi8(x[0], x[1]), _mm512_unpacklo_epi8(x[2], x[3])];
            let high = [_mm512_unpackhi_epi8(x[0], x[1]), _mm512_unpackhi_epi8(x[2], x[3])];
            let to: *mut __m512i = to.cast();
            to.write_unaligned(_mm512_unpacklo_epi16(low[0], low[1]));
            to.add(1).write_unaligned(_mm512_unpackhi_epi16(low[0], low[1]));
            to.add(2).write_unaligned(_mm512_unpacklo_epi16(high[0], high[1]));
            to.add(3).write_unaligned(_mm512_unpackhi_epi16(high[0], high[1]));
        }
    }

    entry_points!(#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]);
}

/// Instead of the intrinsic, of which compilers make a product and a sum.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn dpwssd(mut acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
    // SAFETY: it works on these registers alone.
    unsafe {
        asm!(
            "vpdpwssd {acc}, {x}, {w}",
            acc = inout(zmm_reg) acc,
            x = in(zmm_reg) x,
            w = in(zmm_reg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

impl Vector for Avx512Pairs {
    type X = i16;

    common!();

    #[inline(always)]
    unsafe fn dot(acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the machine has the instructions, as `Vector` demands.
        unsafe { dpwssd(acc, x, w) }
    }
}

impl Words for Avx512Pairs {
    #[inline(always)]
    unsafe fn extended(x: *const i16) -> __m512i {
        // SAFETY: the machine has the instructions, and the memory is there, as `Words` demands.
        unsafe { _mm512_cvtepi16_epi32(_mm256_loadu_si256(x.cast())) }
    }
}

impl Pairs for Avx512Pairs {
    #[inline(always)]
    unsafe fn codes(x: *const u8) -> __m512i {
        // SAFETY: the machine has the instructions, and the memory is there, as `Pairs` demands.
        unsafe { _mm512_cvtepu8_epi16(_mm256_loadu_si256(x.cast())) }
    }

    #[inline(always)]
    unsafe fn add_codes(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm512_add_epi16(a, b) }
    }

    #[inline(always)]
    unsafe fn sub_codes(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm512_sub_epi16(a, b) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m512i, b: i32) -> __m512i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm512_mullo_epi32(a, _mm512_set1_epi32(b)) }
    }

    #[inline(always)]
    unsafe fn shift(a: __m512i, n: i32) -> __m512i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm512_srav_epi32(a, _mm512_set1_epi32(n)) }
    }

    #[inline(always)]
    fn fetch(line: *const u32) {
        // SAFETY: an address that is not valid has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
}
