//! The inner loops of [`super::portable`] with AVX2 and FMA.
//!
//! Codes are widened to 16 bits; `vpmaddwd` multiplies pairs and adds the two products to 32 bits, which
//! is exact: each is at most 2^14. Sums are rescaled in `f64`: a sum of 32 bits and a factor of 24 bits
//! are exact, and a fused multiply-add of `1.5 · 2^52` rounds their exact product once, to an integer,
//! half to even; that integer then stands in the low bits.

use std::arch::x86_64::*;
use std::ops::Range;

use super::portable::{LANES, Packed, Sum, Windows, copy, quantize_all};

/// Rows of a tile: 12 of 16 registers hold their sums.
const TILE: usize = 6;

/// `1.5 · 2^52`: added to it, a number loses its fraction.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Codes of a depthwise block, from the order in which they are packed to that of memory.
const DEPTHWISE_SHUFFLE: [i8; LANES] = [0, 1, 8, 9, 4, 5, 12, 13, 2, 3, 10, 11, 6, 7, 14, 15];

/// `rne(acc · factor)`, of each lane; the middle pairs of lanes are swapped.
///
/// # Safety
/// There must be 8 factors.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn rescale(acc: __m256i, factor: *const f64) -> __m256i {
    let round = _mm256_set1_pd(ROUND);
    // SAFETY: the caller's promise.
    let (f0, f1) = unsafe { (_mm256_loadu_pd(factor), _mm256_loadu_pd(factor.add(4))) };
    let low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(acc));
    let high = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(acc));
    let low = _mm256_castpd_ps(_mm256_fmadd_pd(low, f0, round));
    let high = _mm256_castpd_ps(_mm256_fmadd_pd(high, f1, round));
    _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(low, high))
}

/// What [`codes`] needs beside the sums.
#[derive(Clone, Copy)]
struct Limits {
    zero_point: __m256i,
    lo: __m256i,
    hi: __m256i,
}

impl Limits {
    #[target_feature(enable = "avx2,fma")]
    fn new(zero_point: i32, clamp: (i32, i32)) -> Self {
        Self {
            zero_point: _mm256_set1_epi16(zero_point as i16),
            lo: _mm256_set1_epi8(clamp.0 as i8),
            hi: _mm256_set1_epi8(clamp.1 as i8),
        }
    }

    /// The codes of two pixels from their rescaled sums. Saturation at 16 bits changes nothing: the
    /// limits are closer, also after the zero point is added.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn pack(self, [p, q]: [[__m256i; 2]; 2]) -> [__m128i; 2] {
        let p = _mm256_adds_epi16(_mm256_packs_epi32(p[0], p[1]), self.zero_point);
        let q = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), self.zero_point);
        let codes = _mm256_packs_epi16(p, q);
        let codes = _mm256_max_epi8(_mm256_min_epi8(codes, self.hi), self.lo);
        let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(codes);
        [_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes)]
    }
}

/// The first `width` codes of a block, at most [`LANES`].
///
/// # Safety
/// `y` must have room for them.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store(codes: __m128i, y: *mut i8, width: usize) {
    // SAFETY: `width` codes are written, for which there is room.
    unsafe {
        match width {
            LANES => _mm_storeu_si128(y.cast(), codes),
            8 => _mm_storel_epi64(y.cast(), codes),
            _ => {
                let mut all = [0_i8; LANES];
                _mm_storeu_si128(all.as_mut_ptr().cast(), codes);
                y.copy_from_nonoverlapping(all.as_ptr(), width);
            }
        }
    }
}

/// Stores the codes of two pixels from their sums; with `SHUFFLE` in the order of a depthwise block.
///
/// # Safety
/// `block` is one of `p`, and both `y` have room for its codes.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn finish<const SHUFFLE: bool>(
    p: &Packed,
    limits: Limits,
    block: usize,
    acc: [[__m256i; 2]; 2],
    y: [*mut i8; 2],
) {
    let width = p.width(block);
    if !p.narrow {
        for (acc, y) in acc.into_iter().zip(y) {
            let mut sums = [0; LANES];
            // SAFETY: there is room for 16 sums; `width` codes are written, for which there is room.
            let y = unsafe {
                _mm256_storeu_si256(sums.as_mut_ptr().cast(), acc[0]);
                _mm256_storeu_si256(sums.as_mut_ptr().add(8).cast(), acc[1]);
                std::slice::from_raw_parts_mut(y, width)
            };
            p.codes(block, &sums, y);
        }
        return;
    }
    // SAFETY: there are 16 factors for each block, and room for `width` codes in each `y`.
    unsafe {
        let factor = p.factor.as_ptr().add(block * LANES);
        let [p0, p1] = [rescale(acc[0][0], factor), rescale(acc[0][1], factor.add(8))];
        let [q0, q1] = [rescale(acc[1][0], factor), rescale(acc[1][1], factor.add(8))];
        for (codes, y) in limits.pack([[p0, p1], [q0, q1]]).into_iter().zip(y) {
            let codes = match SHUFFLE {
                true => _mm_shuffle_epi8(codes, _mm_loadu_si128(DEPTHWISE_SHUFFLE.as_ptr().cast())),
                false => codes,
            };
            store(codes, y, width);
        }
    }
}

/// See [`super::portable::product`].
///
/// # Safety
/// `blocks` are blocks of `p`; `x` holds `rows` rows, and `y` has room for their codes.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn product(
    p: &Packed,
    blocks: Range<usize>,
    x: &[i16],
    rows: usize,
    y: &mut [i8],
    y_stride: usize,
) {
    let limits = Limits::new(p.y_zero_point, p.clamp);
    let first = blocks.start;
    for block in blocks {
        let (mut row, mut tiles) = (0, rows.div_ceil(TILE));
        while row < rows {
            let tile = (rows - row).div_ceil(tiles);
            // SAFETY: rows `row..row + tile` are rows of `x` and `y`, and `block` is one of those for
            // which there is room.
            unsafe {
                let x = x.as_ptr().add(row * p.stride());
                let y = y.as_mut_ptr().add(row * y_stride + (block - first) * LANES);
                match tile {
                    1 => product_tile::<1>(p, limits, block, x, y, y_stride),
                    2 => product_tile::<2>(p, limits, block, x, y, y_stride),
                    3 => product_tile::<3>(p, limits, block, x, y, y_stride),
                    4 => product_tile::<4>(p, limits, block, x, y, y_stride),
                    5 => product_tile::<5>(p, limits, block, x, y, y_stride),
                    _ => product_tile::<TILE>(p, limits, block, x, y, y_stride),
                }
            }
            row += tile;
            tiles -= 1;
        }
    }
}

/// The sums of `R` rows and one block of channels. A function of its own, so that sums stay in
/// registers until the last one is done.
///
/// # Safety
/// As for [`product`], from the first of the rows and the block on.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn sums<const R: usize>(
    p: &Packed,
    block: usize,
    x: *const i16,
    to: &mut [[__m256i; 2]; R],
) {
    let stride = p.stride();
    // SAFETY: a block has 16 biases and 32 weights for each pair; a row has `stride` codes, and a pair
    // is read as one number of 32 bits.
    unsafe {
        let bias = p.bias.as_ptr().add(block * LANES);
        let bias = [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())];
        let mut acc = [bias; R];
        let mut weight = p.weight.as_ptr().add(block * p.groups * 2 * LANES);
        for pair in 0..p.groups {
            let w0 = _mm256_loadu_si256(weight.cast());
            let w1 = _mm256_loadu_si256(weight.add(LANES).cast());
            weight = weight.add(2 * LANES);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = x.add(r * stride + 2 * pair).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(x);
                acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(x, w0));
                acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(x, w1));
            }
        }
        *to = acc;
    }
}

/// `R` rows and one block of channels.
///
/// # Safety
/// As for [`product`], from the first of the rows and the block on.
#[target_feature(enable = "avx2,fma")]
unsafe fn product_tile<const R: usize>(
    p: &Packed,
    limits: Limits,
    block: usize,
    x: *const i16,
    y: *mut i8,
    y_stride: usize,
) {
    let mut acc = [[_mm256_setzero_si256(); 2]; R];
    // SAFETY: the caller's promise.
    unsafe { sums(p, block, x, &mut acc) };
    let mut r = 0;
    while r < R {
        let other = (r + 1).min(R - 1);
        // SAFETY: both rows have room for the codes of the block. The last one of an odd number is
        // written twice.
        unsafe {
            let y = [y.add(r * y_stride), y.add(other * y_stride)];
            finish::<false>(p, limits, block, [acc[r], acc[other]], y);
        }
        r += 2;
    }
}

/// See [`super::portable::depthwise`].
///
/// # Safety
/// `x` holds whole blocks of channels at all taps of all pixels, and `y` has room for their codes.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn depthwise(
    p: &Packed,
    x: &[i16],
    taps: &[usize],
    step: usize,
    pixels: usize,
    y: &mut [i8],
) {
    let (x, y, limits) = (x.as_ptr(), y.as_mut_ptr(), Limits::new(p.y_zero_point, p.clamp));
    let mut pixel = 0;
    while pixel < pixels {
        let other = (pixel + 1).min(pixels - 1);
        for block in 0..p.blocks() {
            // SAFETY: the pixels are below `pixels`, and the block is one of `p`.
            unsafe {
                let x = [pixel, other].map(|pixel| x.add(pixel * step + block * LANES));
                let y = [pixel, other].map(|pixel| y.add(pixel * p.channels + block * LANES));
                match taps.len() {
                    10 => depthwise_block::<10>(p, limits, block, x, taps, y),
                    26 => depthwise_block::<26>(p, limits, block, x, taps, y),
                    _ => depthwise_block::<0>(p, limits, block, x, taps, y),
                }
            }
        }
        pixel += 2;
    }
}

/// Two pixels and one block of channels. `T` is the number of taps, or 0.
///
/// # Safety
/// As for [`depthwise`], from the pixels and the block on.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn depthwise_block<const T: usize>(
    p: &Packed,
    limits: Limits,
    block: usize,
    x: [*const i16; 2],
    taps: &[usize],
    y: [*mut i8; 2],
) {
    let taps = if T > 0 { &taps[..T] } else { taps };
    // SAFETY: a block has 16 biases and 32 weights for each pair of taps; there are 16 codes at each tap.
    unsafe {
        let bias = p.bias.as_ptr().add(block * LANES);
        let bias = [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())];
        let mut acc = [bias; 2];
        let weight = p.weight.as_ptr().add(block * p.groups * 2 * LANES);
        for (pair, taps) in taps.chunks_exact(2).enumerate() {
            let w0 = _mm256_loadu_si256(weight.add(pair * 2 * LANES).cast());
            let w1 = _mm256_loadu_si256(weight.add(pair * 2 * LANES + LANES).cast());
            for (acc, x) in acc.iter_mut().zip(x) {
                let a = _mm256_loadu_si256(x.add(taps[0]).cast());
                let b = _mm256_loadu_si256(x.add(taps[1]).cast());
                let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), w0);
                let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w1);
                acc[0] = _mm256_add_epi32(acc[0], low);
                acc[1] = _mm256_add_epi32(acc[1], high);
            }
        }
        finish::<true>(p, limits, block, acc, y);
    }
}

/// See [`Windows::gather`].
#[target_feature(enable = "avx2,fma")]
pub fn gather(w: &Windows, x: &[i8], first: usize, stride: usize, to: &mut [i16]) {
    w.gather(x, first, stride, to);
}

/// See [`Windows::gather`].
#[target_feature(enable = "avx2,fma")]
pub fn gather_bytes(w: &Windows, x: &[i8], first: usize, stride: usize, to: &mut [u8]) {
    w.gather(x, first, stride, to);
}

/// See [`super::portable::widen`].
#[target_feature(enable = "avx2,fma")]
pub fn widen(x: &[i8], to: &mut [i16]) {
    copy(x, to);
}

/// See [`super::portable::quantize`].
#[target_feature(enable = "avx2,fma")]
pub fn quantize(x: &[f32], scale: f32, zero_point: i32, y: &mut [i8]) {
    quantize_all(x, scale, zero_point, y);
}

/// See [`super::portable::add`]. `f64` holds codes times factors and their sum exactly.
///
/// # Safety
/// All three slices have the same length.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn add(p: &Sum, a: &[i8], b: &[i8], y: &mut [i8]) {
    let limits = Limits::new(p.y_zero_point, p.clamp);
    let unit = 1.0 / (1u64 << p.shift) as f64;
    let [fa, fb] = p.factor.map(|f| _mm256_set1_pd(f as f64 * unit));
    let [za, zb] = p.zero_point.map(|z| _mm256_set1_epi32(z));
    let round = _mm256_set1_pd(ROUND);
    let whole = y.len() / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        let mut halves = [_mm256_setzero_si256(); 2];
        for (half, to) in halves.iter_mut().enumerate() {
            // SAFETY: 8 codes are read from `i + 8 · half` on, below the length of both.
            let (a, b) = unsafe {
                let at = i + 8 * half;
                (
                    _mm_loadl_epi64(a.as_ptr().add(at).cast()),
                    _mm_loadl_epi64(b.as_ptr().add(at).cast()),
                )
            };
            let a = _mm256_sub_epi32(_mm256_cvtepi8_epi32(a), za);
            let b = _mm256_sub_epi32(_mm256_cvtepi8_epi32(b), zb);
            let low = _mm256_fmadd_pd(
                _mm256_cvtepi32_pd(_mm256_castsi256_si128(b)),
                fb,
                _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(a)), fa),
            );
            let high = _mm256_fmadd_pd(
                _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(b)),
                fb,
                _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(a)), fa),
            );
            let low = _mm256_castpd_ps(_mm256_add_pd(low, round));
            let high = _mm256_castpd_ps(_mm256_add_pd(high, round));
            *to = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
        }
        let [codes, _] = limits.pack([halves; 2]);
        // Position j of the result holds element ORDER[j].
        const ORDER: [i8; LANES] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];
        // SAFETY: 16 codes are written from `i` on, below the length.
        unsafe {
            let codes = _mm_shuffle_epi8(codes, _mm_loadu_si128(ORDER.as_ptr().cast()));
            _mm_storeu_si128(y.as_mut_ptr().add(i).cast(), codes);
        }
    }
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b).skip(whole) {
        *y = p.add_one(a, b);
    }
}
