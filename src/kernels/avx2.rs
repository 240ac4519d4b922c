//! AVX2 with FMA: codes of 16 bits, which `vpmaddwd` multiplies in pairs and adds to 32 bits. And the same
//! registers with AVX-VNNI: unsigned codes of 8 bits, as in [`super::avx512`].

use std::arch::x86_64::*;

use super::packed::{Block, Limits, Packed};
use super::simd::{Job, Pairs, Simd, Vector, Words, entry_points};

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// The same with AVX-VNNI.
#[derive(Clone, Copy)]
pub(super) struct AvxVnni;

/// Added to a number, they leave its integer part, rounded half to even, in the low bits.
const ROUND: f32 = 12_582_912.0;
const ROUND_DOUBLE: f64 = 6_755_399_441_055_744.0;

/// What both have in common.
macro_rules! common {
    () => {
        type V = __m256i;
        const LANES: usize = 8;
        const VECTORS: usize = 2;

        #[inline(always)]
        unsafe fn load(from: *const u32) -> __m256i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn save(v: __m256i, to: *mut u32) {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { _mm256_storeu_si256(to.cast(), v) }
        }

        #[inline(always)]
        unsafe fn splat(x: *const Self::X) -> __m256i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { _mm256_set1_epi32(x.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn round(acc: __m256i, factor: *const f32) -> __m256i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                let factor = _mm256_loadu_ps(factor);
                let q = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), factor, _mm256_set1_ps(ROUND));
                _mm256_sub_epi32(_mm256_castps_si256(q), _mm256_set1_epi32(ROUND.to_bits() as i32))
            }
        }

        #[inline(always)]
        unsafe fn round_double(acc: __m256i, factor: *const f64) -> __m256i {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                let round = _mm256_set1_pd(ROUND_DOUBLE);
                let (f0, f1) = (_mm256_loadu_pd(factor), _mm256_loadu_pd(factor.add(4)));
                let low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(acc));
                let high = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(acc));
                let low = _mm256_castpd_ps(_mm256_fmadd_pd(low, f0, round));
                let high = _mm256_castpd_ps(_mm256_fmadd_pd(high, f1, round));
                let q = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
                _mm256_permute4x64_epi64::<0b11_01_10_00>(q)
            }
        }

        #[inline(always)]
        unsafe fn fused(acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
            // SAFETY: the machine has the instructions, as `Vector` demands.
            unsafe {
                let (acc, x, w) =
                    (_mm256_castsi256_ps(acc), _mm256_castsi256_ps(x), _mm256_castsi256_ps(w));
                _mm256_castps_si256(_mm256_fmadd_ps(x, w, acc))
            }
        }
    };
}

impl Vector for Avx2 {
    type X = i16;

    common!();

    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn run<J: Job<Self>>(job: J) {
        // SAFETY: the machine has the instructions, and what the job demands is the caller's to promise.
        unsafe { job.run() }
    }

    #[inline(always)]
    unsafe fn dot(acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the machine has the instructions, as `Vector` demands.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, w)) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(q: [__m256i; 4], limits: Limits, y: [*mut u8; 4], len: usize) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
        unsafe {
            let [low, high] = halves(q, limits);
            let codes = _mm256_packs_epi16(low, high);
            let codes = _mm256_min_epi8(codes, _mm256_set1_epi8(limits.hi as i8));
            let codes = _mm256_max_epi8(codes, _mm256_set1_epi8(limits.lo as i8));
            put::<N>(codes, y, len);
        }
    }
}

impl Simd for Avx2 {
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4], len: usize, to: *mut u32) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Simd` demands.
        unsafe {
            let mut x = [_mm256_setzero_si256(); 2];
            for (x, row) in x.iter_mut().zip(rows) {
                let mut part = [0_u8; 16];
                let row = if len == 16 { row } else { copied(row, len, &mut part) };
                *x = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.cast()));
            }
            let to: *mut __m256i = to.cast();
            to.write_unaligned(_mm256_unpacklo_epi16(x[0], x[1]));
            to.add(1).write_unaligned(_mm256_unpackhi_epi16(x[0], x[1]));
        }
    }

    entry_points!(#[target_feature(enable = "avx2,fma")]);
}

impl Words for Avx2 {
    #[inline(always)]
    unsafe fn extended(x: *const i16) -> __m256i {
        // SAFETY: the machine has the instructions, and the memory is there, as `Words` demands.
        unsafe { _mm256_cvtepi16_epi32(_mm_loadu_si128(x.cast())) }
    }
}

impl Pairs for Avx2 {
    #[inline(always)]
    unsafe fn codes(x: *const u8) -> __m256i {
        // SAFETY: the machine has the instructions, and the memory is there, as `Pairs` demands.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(x.cast())) }
    }

    #[inline(always)]
    unsafe fn add_codes(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm256_add_epi16(a, b) }
    }

    #[inline(always)]
    unsafe fn sub_codes(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm256_sub_epi16(a, b) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm256_sub_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m256i, b: i32) -> __m256i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm256_mullo_epi32(a, _mm256_set1_epi32(b)) }
    }

    #[inline(always)]
    unsafe fn shift(a: __m256i, n: i32) -> __m256i {
        // SAFETY: the machine has the instructions, as `Pairs` demands.
        unsafe { _mm256_srav_epi32(a, _mm256_set1_epi32(n)) }
    }

    #[inline(always)]
    fn fetch(line: *const u32) {
        // SAFETY: an address that is not valid has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
}

impl Vector for AvxVnni {
    type X = u8;

    common!();

    #[target_feature(enable = "avx2,fma,avxvnni")]
    #[inline(never)]
    unsafe fn run<J: Job<Self>>(job: J) {
        // SAFETY: the machine has the instructions, and what the job demands is the caller's to promise.
        unsafe { job.run() }
    }

    #[inline(always)]
    unsafe fn dot(acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the machine has the instructions, as `Vector` demands.
        unsafe { _mm256_dpbusd_avx_epi32(acc, x, w) }
    }

    #[inline(always)]
    unsafe fn store<const N: usize>(q: [__m256i; 4], limits: Limits, y: [*mut u8; 4], len: usize) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
        unsafe {
            let [low, high] = halves(q, limits);
            let codes = _mm256_packus_epi16(low, high);
            let codes = _mm256_min_epu8(codes, _mm256_set1_epi8(limits.hi as i8));
            let codes = _mm256_max_epu8(codes, _mm256_set1_epi8(limits.lo as i8));
            put::<N>(codes, y, len);
        }
    }
}

impl Simd for AvxVnni {
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4], len: usize, to: *mut u32) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Simd` demands.
        unsafe {
            let mut x = [_mm256_setzero_si256(); 4];
            for (x, row) in x.iter_mut().zip(rows) {
                let mut part = [0_u8; 32];
                let row = if len == 32 { row } else { copied(row, len, &mut part) };
                *x = _mm256_loadu_si256(row.cast());
            }
            let low = [_mm256_unpacklo_epi8(x[0], x[1]), _mm256_unpacklo_epi8(x[2], x[3])];
            let high = [_mm256_unpackhi_epi8(x[0], x[1]), _mm256_unpackhi_epi8(x[2], x[3])];
            let to: *mut __m256i = to.cast();
            to.write_unaligned(_mm256_unpacklo_epi16(low[0], low[1]));
            to.add(1).write_unaligned(_mm256_unpackhi_epi16(low[0], low[1]));
            to.add(2).write_unaligned(_mm256_unpacklo_epi16(high[0], high[1]));
            to.add(3).write_unaligned(_mm256_unpackhi_epi16(high[0], high[1]));
        }
    }

    entry_points!(#[target_feature(enable = "avx2,fma,avxvnni")]);
}

/// The first `len` codes of a row, with anything behind them.
///
/// # Safety
/// The row must hold `len` codes, at most `L`.
#[inline(always)]
unsafe fn copied<const L: usize>(row: *const u8, len: usize, to: &mut [u8; L]) -> *const u8 {
    // SAFETY: `len` is below `L`, and the row holds as many.
    unsafe { to.as_mut_ptr().copy_from_nonoverlapping(row, len.min(L)) };
    to.as_ptr()
}

/// Output codes in 16 bits. Saturation changes nothing: the limits are closer, also after the zero point is
/// added.
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn halves(q: [__m256i; 4], limits: Limits) -> [__m256i; 2] {
    // SAFETY: the machine has the instructions.
    unsafe {
        let zero_point = _mm256_set1_epi16(limits.zero_point);
        [
            _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), zero_point),
            _mm256_adds_epi16(_mm256_packs_epi32(q[2], q[3]), zero_point),
        ]
    }
}

/// Stores `len` codes of each row: see [`Vector::store`].
///
/// # Safety
/// The machine must have AVX2, and the first `4 / N` rows room for `len` codes, at most `8 · N`.
#[inline(always)]
unsafe fn put<const N: usize>(codes: __m256i, y: [*mut u8; 4], len: usize) {
    // SAFETY: the machine has the instructions, and there is room for the codes.
    unsafe {
        if len == 8 * N {
            match N {
                4 => _mm256_storeu_si256(y[0].cast(), codes),
                2 => {
                    let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(codes);
                    _mm_storeu_si128(y[0].cast(), _mm256_castsi256_si128(codes));
                    _mm_storeu_si128(y[1].cast(), _mm256_extracti128_si256::<1>(codes));
                }
                _ => {
                    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                    let codes = _mm256_permutevar8x32_epi32(codes, order);
                    let [low, high] =
                        [_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes)];
                    _mm_storel_epi64(y[0].cast(), low);
                    _mm_storel_epi64(y[1].cast(), _mm_unpackhi_epi64(low, low));
                    _mm_storel_epi64(y[2].cast(), high);
                    _mm_storel_epi64(y[3].cast(), _mm_unpackhi_epi64(high, high));
                }
            }
            return;
        }
        let order = match N {
            4 => _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            2 => _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7),
            _ => _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7),
        };
        let mut all = [0_u8; 32];
        let codes = _mm256_permutevar8x32_epi32(codes, order);
        _mm256_storeu_si256(all.as_mut_ptr().cast(), codes);
        for (i, y) in y.into_iter().take(4 / N).enumerate() {
            y.copy_from_nonoverlapping(all.as_ptr().add(i * 8 * N), len);
        }
    }
}
