//! The inner loops of [`super::portable`] with AVX-512 and VNNI.
//!
//! `vpdpbusd` multiplies 4 unsigned codes by 4 weights and adds all to 32 bits. Codes are made unsigned by
//! adding 128, which the bias takes back; sums may wrap on the way, for the last one is proved to fit.
//! Sums are rescaled in `f64` as in [`super::x86`].

use std::arch::x86_64::*;
use std::ops::Range;

use super::portable::{LANES, Packed, ROWS, WIDEST};

/// `1.5 · 2^52`: added to it, a number loses its fraction.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// The constants that turn sums into codes.
#[derive(Clone, Copy)]
struct Limits {
    zero_point: __m512i,
    lo: __m512i,
    hi: __m512i,
}

impl Limits {
    #[target_feature(enable = "avx512f")]
    fn new(p: &Packed) -> Self {
        Self {
            zero_point: _mm512_set1_epi32(p.y_zero_point),
            lo: _mm512_set1_epi32(p.clamp.0),
            hi: _mm512_set1_epi32(p.clamp.1),
        }
    }

    /// The codes of 16 sums, in 32 bits.
    ///
    /// # Safety
    /// There must be 16 factors.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn codes(self, acc: __m512i, factor: *const f64) -> __m512i {
        // SAFETY: the caller's promise.
        let (f0, f1) = unsafe { (_mm512_loadu_pd(factor), _mm512_loadu_pd(factor.add(8))) };
        let round = _mm512_set1_pd(ROUND);
        let low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(acc));
        let high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(acc));
        let low = _mm512_castpd_si512(_mm512_fmadd_pd(low, f0, round));
        let high = _mm512_castpd_si512(_mm512_fmadd_pd(high, f1, round));
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let q = _mm512_permutex2var_epi32(low, even, high);
        let lo = _mm512_sub_epi32(self.lo, self.zero_point);
        let hi = _mm512_sub_epi32(self.hi, self.zero_point);
        _mm512_add_epi32(_mm512_min_epi32(_mm512_max_epi32(q, lo), hi), self.zero_point)
    }
}

/// See [`super::portable::product`].
///
/// # Safety
/// `blocks` are blocks of `p`; `x` holds `rows` rows, and `y` has room for their codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn product(
    p: &Packed,
    blocks: Range<usize>,
    x: &[u8],
    rows: usize,
    y: &mut [i8],
    y_stride: usize,
) {
    let (mut block, limits) = (blocks.start, Limits::new(p));
    while block < blocks.end {
        let two = block + 2 <= blocks.end;
        let (mut row, mut tiles) = (0, rows.div_ceil(ROWS));
        while row < rows {
            let tile = (rows - row).div_ceil(tiles);
            // SAFETY: rows `row..row + tile` are rows of `x` and `y`, and one or two blocks from `block`
            // on are of those for which there is room.
            unsafe {
                let x = x.as_ptr().add(row * p.stride());
                let y = y.as_mut_ptr().add(row * y_stride + (block - blocks.start) * LANES);
                macro_rules! tile {
                    ($($rows:literal),*) => {
                        match (tile, two) {
                            $(($rows, true) => product_tile::<$rows, 2>(p, limits, block, x, y, y_stride),)*
                            $(($rows, false) => product_tile::<$rows, 1>(p, limits, block, x, y, y_stride),)*
                            _ => unreachable!("at most {ROWS} rows"),
                        }
                    };
                }
                tile!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
            }
            row += tile;
            tiles -= 1;
        }
        block += 1 + two as usize;
    }
}

/// The sums of `R` rows and `B` blocks of channels. A function of its own, so that sums stay in
/// registers until the last one is done.
///
/// # Safety
/// As for [`product`], from the first of the rows and the block on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline(never)]
unsafe fn sums<const R: usize, const B: usize>(
    p: &Packed,
    block: usize,
    x: *const u8,
    to: &mut [[__m512i; B]; R],
) {
    let stride = p.stride();
    let mut acc = [[_mm512_setzero_si512(); B]; R];
    // SAFETY: a block has 16 biases and 64 weights for each group; a row has `stride` codes, and a group
    // is read as one number of 32 bits.
    unsafe {
        for b in 0..B {
            let bias = _mm512_loadu_si512(p.bias.as_ptr().add((block + b) * LANES).cast());
            for acc in &mut acc {
                acc[b] = bias;
            }
        }
        let weight = p.bytes.as_ptr().add(block * p.groups * 4 * LANES);
        for group in 0..p.groups {
            let mut w = [_mm512_setzero_si512(); B];
            for (b, w) in w.iter_mut().enumerate() {
                *w = _mm512_loadu_si512(weight.add((b * p.groups + group) * 4 * LANES).cast());
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = x.add(r * stride + 4 * group).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(x);
                for (acc, w) in acc.iter_mut().zip(w) {
                    *acc = _mm512_dpbusd_epi32(*acc, x, w);
                }
            }
        }
    }
    *to = acc;
}

/// `R` rows and `B` blocks of channels.
///
/// # Safety
/// As for [`product`], from the first of the rows and the block on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn product_tile<const R: usize, const B: usize>(
    p: &Packed,
    limits: Limits,
    block: usize,
    x: *const u8,
    y: *mut i8,
    y_stride: usize,
) {
    let mut acc = [[_mm512_setzero_si512(); B]; R];
    // SAFETY: the caller's promise.
    unsafe { sums(p, block, x, &mut acc) };
    for b in 0..B {
        let width = p.width(block + b);
        let mask = (u32::MAX >> (32 - width)) as __mmask16;
        // SAFETY: there are 16 factors for each block, and room for `width` codes in each row.
        unsafe {
            let factor = p.factor.as_ptr().add((block + b) * LANES);
            for (r, acc) in acc.iter().enumerate() {
                let y = y.add(r * y_stride + b * LANES);
                if p.narrow {
                    let codes = _mm512_cvtepi32_epi8(limits.codes(acc[b], factor));
                    _mm_mask_storeu_epi8(y, mask, codes);
                } else {
                    let mut sums = [0; LANES];
                    _mm512_storeu_si512(sums.as_mut_ptr().cast(), acc[b]);
                    p.codes(block + b, &sums, std::slice::from_raw_parts_mut(y, width));
                }
            }
        }
    }
}

/// See [`super::portable::depthwise`].
///
/// # Safety
/// `x` holds whole blocks of channels at all taps of all pixels, and `y` has room for their codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise(
    p: &Packed,
    x: &[i16],
    taps: &[usize],
    step: usize,
    pixels: usize,
    y: &mut [i8],
) {
    let (x, y, limits) = (x.as_ptr(), y.as_mut_ptr(), Limits::new(p));
    let mut pixel = 0;
    while pixel < pixels {
        let other = (pixel + 1).min(pixels - 1);
        for block in 0..p.blocks() {
            // SAFETY: the pixels are below `pixels`, and the block is one of `p`.
            unsafe {
                let x = [pixel, other].map(|pixel| x.add(pixel * step + block * WIDEST));
                let y = [pixel, other].map(|pixel| y.add(pixel * p.channels + block * WIDEST));
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
    let width = p.width(block);
    // SAFETY: a block has 32 biases and factors, and 64 weights for each pair of taps; there are 32 codes
    // at each tap, and room for `width` in each `y`.
    unsafe {
        let bias = p.bias.as_ptr().add(block * WIDEST);
        let bias = [_mm512_loadu_si512(bias.cast()), _mm512_loadu_si512(bias.add(LANES).cast())];
        let mut acc = [bias; 2];
        let weight = p.weight.as_ptr().add(block * p.groups * 2 * WIDEST);
        for (pair, taps) in taps.chunks_exact(2).enumerate() {
            let w0 = _mm512_loadu_si512(weight.add(pair * 2 * WIDEST).cast());
            let w1 = _mm512_loadu_si512(weight.add(pair * 2 * WIDEST + WIDEST).cast());
            for (acc, x) in acc.iter_mut().zip(x) {
                let a = _mm512_loadu_si512(x.add(taps[0]).cast());
                let b = _mm512_loadu_si512(x.add(taps[1]).cast());
                acc[0] = _mm512_dpwssd_epi32(acc[0], _mm512_unpacklo_epi16(a, b), w0);
                acc[1] = _mm512_dpwssd_epi32(acc[1], _mm512_unpackhi_epi16(a, b), w1);
            }
        }
        let factor = p.factor.as_ptr().add(block * WIDEST);
        for (acc, y) in acc.into_iter().zip(y) {
            if p.narrow {
                let low = limits.codes(acc[0], factor);
                let high = limits.codes(acc[1], factor.add(LANES));
                let codes = _mm512_cvtepi16_epi8(_mm512_packs_epi32(low, high));
                _mm256_mask_storeu_epi8(y, u32::MAX >> (WIDEST - width), codes);
            } else {
                let mut sums = [0; WIDEST];
                _mm512_storeu_si512(sums.as_mut_ptr().cast(), acc[0]);
                _mm512_storeu_si512(sums.as_mut_ptr().add(LANES).cast(), acc[1]);
                p.codes(block, &sums, std::slice::from_raw_parts_mut(y, width));
            }
        }
    }
}
