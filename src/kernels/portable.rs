//! Integer inner loops between 8-bit codes: what is packed for them, the loops in plain Rust, and the
//! choice between these and the ones of the machine. Every choice computes the codes of
//! `docs/semantics.md`.

use std::ops::{Deref, DerefMut, Range};

use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::{avx512, x86};
use crate::arith::{Multiplier, Products, requantize, round_shift};

/// Channels whose sums are rescaled together.
pub const LANES: usize = 16;
/// The most channels of a block.
pub const WIDEST: usize = 32;
/// Rows of windows that are multiplied together where there are as many.
pub const ROWS: usize = 12;

/// Which channel of a block each of its accumulators belongs to: the order in which AVX2 packs codes.
const PRODUCT_AVX2: [u8; 16] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];
/// The orders in which codes of two taps are interleaved.
const DEPTHWISE_AVX2: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];
const DEPTHWISE_AVX512: [u8; 32] = [
    0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21,
    22, 23, 28, 29, 30, 31,
];
const NATURAL: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Elements that begin where a line of the cache does, so that no vector lies across two.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    data: Vec<T>,
    begin: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let data = vec![T::default(); len + LINE / size_of::<T>()];
        let begin = data.as_ptr().align_offset(LINE).min(LINE / size_of::<T>());
        Self { data, begin, len }
    }
}

/// Bytes of a line of the cache.
const LINE: usize = 64;

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.begin..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.begin..][..self.len]
    }
}

/// Weights and what goes with them for sums of `depth` products in each channel, in blocks of channels
/// and groups of products, as one set of kernels wants them.
#[derive(Clone, Debug)]
pub struct Packed {
    isa: Isa,
    order: &'static [u8],
    depthwise: bool,
    /// Products in a group.
    group: usize,
    /// Groups in a sum.
    pub(super) groups: usize,
    pub(super) channels: usize,
    /// `[block][groups][order][group]`, 0 where there is no channel or no product.
    pub(super) weight: Aligned<i16>,
    /// The same, where codes have 8 bits in the kernel.
    pub(super) bytes: Aligned<i8>,
    /// The same, where they are real numbers.
    real: Aligned<f32>,
    /// `[block][order]`, with the input's zero point moved into it.
    pub(super) bias: Aligned<i32>,
    /// `[block][order]`.
    pub(super) factor: Aligned<f64>,
    multiplier: Vec<Multiplier>,
    pub(super) y_zero_point: i32,
    pub(super) clamp: (i32, i32),
    /// No rescaled sum leaves 32 bits.
    pub(super) narrow: bool,
    /// `f64` holds every sum times its factor.
    exact: bool,
}

impl Packed {
    /// For [`product`]: `weight` of the `channels` is `[channel][depth]`. No sum exceeds `bound`, which
    /// fits 32 bits.
    ///
    /// # Panics
    /// If the machine has no `isa`, or `bound` does not fit.
    pub fn for_product(
        isa: Isa,
        p: &Products<i8>,
        channels: Range<usize>,
        depth: usize,
        bound: i64,
    ) -> Self {
        let (order, group): (&[u8], usize) = match isa {
            Isa::Portable => (&NATURAL, 1),
            Isa::Avx2 => (&PRODUCT_AVX2, 2),
            Isa::Avx512Vnni => (&NATURAL, 4),
        };
        Self::new(isa, p, channels, depth, bound, order, group)
    }

    /// The same for [`depthwise`]; `depth` is the number of taps.
    ///
    /// # Panics
    /// As [`for_product`](Self::for_product).
    pub fn for_depthwise(isa: Isa, p: &Products<i8>, depth: usize, bound: i64) -> Self {
        let (order, group): (&[u8], usize) = match isa {
            Isa::Portable => (&NATURAL, 1),
            Isa::Avx2 => (&DEPTHWISE_AVX2, 2),
            Isa::Avx512Vnni => (&DEPTHWISE_AVX512, 2),
        };
        let packed = Self::new(isa, p, 0..p.bias.len(), depth, bound, order, group);
        Self { depthwise: true, ..packed }
    }

    fn new(
        isa: Isa,
        p: &Products<i8>,
        range: Range<usize>,
        depth: usize,
        bound: i64,
        order: &'static [u8],
        group: usize,
    ) -> Self {
        assert!(isa.is_available(), "this machine has no {isa}");
        assert!(bound <= i32::MAX as i64, "sums need more than 32 bits");
        let (channels, groups, lanes) = (range.len(), depth.div_ceil(group), order.len());
        let blocks = channels.div_ceil(lanes);
        let size = blocks * groups * group * lanes;
        let room = |these: usize| if group == these { size } else { 0 };
        let mut packed = Self {
            isa,
            order,
            depthwise: false,
            group,
            groups,
            channels,
            real: Aligned::new(room(1)),
            weight: Aligned::new(room(2)),
            bytes: Aligned::new(room(4)),
            bias: Aligned::new(blocks * lanes),
            factor: Aligned::new(blocks * lanes),
            multiplier: p.multiplier[range.clone()].to_vec(),
            y_zero_point: p.y_zero_point,
            clamp: p.clamp,
            narrow: true,
            exact: bound < 1 << 29,
        };
        // Codes of 8 bits are unsigned in the kernel, 128 more than they are; sums may wrap on the way.
        let zero_point = p.x_zero_point as i64 + if group == 4 { 128 } else { 0 };
        for at in 0..blocks * lanes {
            let (block, slot) = (at / lanes, at % lanes);
            let channel = block * lanes + order[slot] as usize;
            if channel >= channels {
                continue;
            }
            let o = range.start + channel;
            let weight = &p.weight[o * depth..][..depth];
            for (k, &w) in weight.iter().enumerate() {
                let to = ((block * groups + k / group) * lanes + slot) * group + k % group;
                match group {
                    1 => packed.real[to] = w.into(),
                    2 => packed.weight[to] = w.into(),
                    _ => packed.bytes[to] = w,
                }
            }
            let sum: i64 = weight.iter().map(|&w| w as i64).sum();
            packed.bias[at] = (p.bias[o] as i64 - zero_point * sum) as i32;
            let m = p.multiplier[o];
            packed.factor[at] = m.significand as f64 / (1u64 << m.shift) as f64;
            packed.narrow &= bound as f64 * packed.factor[at] < (1u32 << 31) as f64 - 1.0;
        }
        packed
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Channels in a block.
    pub fn lanes(&self) -> usize {
        self.order.len()
    }

    /// Number of blocks of channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.lanes())
    }

    /// The depth, rounded up to whole groups.
    pub fn stride(&self) -> usize {
        self.group * self.groups
    }

    /// Bytes of the constants.
    pub fn size(&self) -> usize {
        let weights = 4 * self.real.len() + 2 * self.weight.len() + self.bytes.len();
        weights + 4 * self.bias.len() + 8 * self.factor.len()
    }

    /// Number of channels in `block`.
    pub(super) fn width(&self, block: usize) -> usize {
        (self.channels - block * self.lanes()).min(self.lanes())
    }

    /// As [`codes`](Self::codes), where accumulators are in the order of the channels. Where `f64` holds
    /// the product, adding `1.5 · 2^52` rounds it half to even, and the low bits are the integer.
    fn codes_in_order(&self, block: usize, acc: &[i32; LANES], y: &mut [i8]) {
        if !(self.narrow && self.exact) {
            self.codes(block, acc, y);
            return;
        }
        let (zero, factor) = (self.y_zero_point, &self.factor[block * LANES..][..LANES]);
        let (lo, hi) = (self.clamp.0 - zero, self.clamp.1 - zero);
        let mut all = [0; LANES];
        for ((to, &acc), factor) in all.iter_mut().zip(acc).zip(factor) {
            let q = (acc as f64 * factor + 6_755_399_441_055_744.0).to_bits() as i32;
            *to = (q.max(lo).min(hi) + zero) as i8;
        }
        y.copy_from_slice(&all[..y.len()]);
    }

    /// The codes of a block from its accumulators.
    pub(super) fn codes(&self, block: usize, acc: &[i32], y: &mut [i8]) {
        for (&acc, &channel) in acc.iter().zip(self.order) {
            if let Some(y) = y.get_mut(channel as usize) {
                let m = self.multiplier[block * self.lanes() + channel as usize];
                *y = requantize(acc, m, self.y_zero_point, self.clamp);
            }
        }
    }
}

/// Room for gathered windows.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    real: Aligned<f32>,
    wide: Aligned<i16>,
    bytes: Aligned<u8>,
}

impl Gathered {
    /// Room for `len` codes, in the width that any kernel wants.
    pub fn new(isa: Isa, len: usize) -> Self {
        match isa {
            Isa::Portable => Self { real: Aligned::new(len), ..Self::default() },
            Isa::Avx2 => Self { wide: Aligned::new(len), ..Self::default() },
            Isa::Avx512Vnni => Self { bytes: Aligned::new(len), ..Self::default() },
        }
    }
}

/// `y[row][channel] = requantize(bias[channel] + Σ x[row][k] · weight[channel][k])` for the channels of
/// `blocks`, where row `i` of `x` is the window `first + i`. Rows of `y` are `y_stride` apart; its first
/// element is that of the first channel of the blocks.
///
/// # Panics
/// If a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn product(
    p: &Packed,
    blocks: Range<usize>,
    windows: &Windows,
    x: &[i8],
    (first, rows): (usize, usize),
    gathered: &mut Gathered,
    y: &mut [i8],
    y_stride: usize,
) {
    if rows == 0 || blocks.is_empty() {
        return;
    }
    assert!(blocks.end <= p.blocks() && !p.depthwise);
    let channels = p.channels.min(blocks.end * p.lanes()) - blocks.start * p.lanes();
    assert!(channels <= y_stride && y.len() >= (rows - 1) * y_stride + channels);
    assert!(windows.depth() <= p.stride());
    let len = rows * p.stride();
    match p.isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            let to = &mut gathered.wide[..len];
            // SAFETY: the machine has the instructions; `to` holds all rows, and `y` all codes.
            unsafe {
                x86::gather(windows, x, first, p.stride(), to);
                x86::product(p, blocks, to, rows, y, y_stride);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => {
            let to = &mut gathered.bytes[..len];
            // SAFETY: the machine has the instructions; `to` holds all rows, and `y` all codes.
            unsafe {
                x86::gather_bytes(windows, x, first, p.stride(), to);
                avx512::product(p, blocks, to, rows, y, y_stride);
            }
        }
        _ => {
            let to = &mut gathered.real[..len];
            windows.gather(x, first, p.stride(), to);
            product_portable(p, blocks, to, y, y_stride);
        }
    }
}

/// So many products of 8-bit codes sum to 2^24 at most, below which `f32` holds every integer.
const EXACT: usize = 1 << 10;

/// With products and partial sums in `f32`, which are exact, and which every machine does in vectors.
fn product_portable(p: &Packed, blocks: Range<usize>, x: &[f32], y: &mut [i8], y_stride: usize) {
    let first = blocks.start;
    for block in blocks {
        let weight = &p.real[block * p.groups * LANES..][..p.groups * LANES];
        for (row, x) in x.chunks_exact(p.stride()).enumerate() {
            let mut acc = [0; LANES];
            acc.copy_from_slice(&p.bias[block * LANES..][..LANES]);
            for (x, weight) in x.chunks(EXACT).zip(weight.chunks(EXACT * LANES)) {
                let sums = sum_products(x, weight.as_chunks().0);
                acc.iter_mut().zip(sums).for_each(|(acc, sum)| *acc += sum as i32);
            }
            let y = &mut y[row * y_stride + (block - first) * LANES..][..p.width(block)];
            p.codes_in_order(block, &acc, y);
        }
    }
}

fn sum_products(x: &[f32], weight: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (x, weight) in x.iter().zip(weight) {
        sums.iter_mut().zip(weight).for_each(|(sum, w)| *sum += x * w);
    }
    sums
}

/// `y[pixel][c] = requantize(bias[c] + Σ x[taps[t] + pixel · step + c] · weight[c][t])`, all channels of
/// `pixels` pixels. `taps` has [`stride`](Packed::stride) entries; those behind the last tap may be
/// anything inside `x`.
///
/// # Panics
/// If `y` is too short, or `x`, which must hold whole blocks at all taps.
pub fn depthwise(p: &Packed, x: &[i16], taps: &[usize], step: usize, pixels: usize, y: &mut [i8]) {
    if pixels == 0 || p.channels == 0 {
        return;
    }
    assert!(taps.len() == p.stride() && p.depthwise);
    let farthest = taps.iter().max().copied().unwrap_or(0);
    assert!(x.len() >= farthest + (pixels - 1) * step + p.blocks() * p.lanes());
    assert!(y.len() >= pixels * p.channels);
    match p.isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions; `x` holds whole blocks at all taps, and `y` all codes.
        Isa::Avx2 => unsafe { x86::depthwise(p, x, taps, step, pixels, y) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the same.
        Isa::Avx512Vnni => unsafe { avx512::depthwise(p, x, taps, step, pixels, y) },
        _ => depthwise_portable(p, x, taps, step, pixels, y),
    }
}

fn depthwise_portable(
    p: &Packed,
    x: &[i16],
    taps: &[usize],
    step: usize,
    pixels: usize,
    y: &mut [i8],
) {
    for (pixel, y) in y.chunks_exact_mut(p.channels).take(pixels).enumerate() {
        for (block, y) in y.chunks_mut(LANES).enumerate() {
            let mut acc = [0; LANES];
            acc.copy_from_slice(&p.bias[block * LANES..][..LANES]);
            let weight = p.real[block * p.groups * LANES..].as_chunks::<LANES>().0;
            for (taps, weight) in taps.chunks(EXACT).zip(weight.chunks(EXACT)) {
                let mut sums = [0.0; LANES];
                for (tap, weight) in taps.iter().zip(weight) {
                    let x = &x[tap + pixel * step + block * LANES..][..LANES];
                    for ((sum, &x), w) in sums.iter_mut().zip(x).zip(weight) {
                        *sum += x as f32 * w;
                    }
                }
                acc.iter_mut().zip(sums).for_each(|(acc, sum)| *acc += sum as i32);
            }
            p.codes_in_order(block, &acc, y);
        }
    }
}

/// Windows over an input `[n, h, w, c]`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Windows {
    pub x_shape: [usize; 4],
    /// `[oh, ow]`.
    pub out: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above and columns left of the input.
    pub pad: [usize; 2],
    /// The channels that are read.
    pub channels: (usize, usize),
    /// What padding holds.
    pub zero: i8,
}

/// A code as a kernel reads it.
pub(super) trait Element: Copy {
    fn of(code: i8) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn of(code: i8) -> Self {
        code.into()
    }
}

impl Element for i16 {
    #[inline(always)]
    fn of(code: i8) -> Self {
        code.into()
    }
}

impl Element for u8 {
    #[inline(always)]
    fn of(code: i8) -> Self {
        code as u8 ^ 0x80
    }
}

impl Windows {
    /// Codes in each window.
    pub fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.channels.1 - self.channels.0)
    }

    /// Whether each window is one pixel with all its channels, and the next one the next pixel.
    pub fn is_point(&self) -> bool {
        let [_, h, w, c] = self.x_shape;
        self.kernel == [1; 2] && self.out == [h, w] && self.pad == [0; 2] && self.channels == (0, c)
    }

    /// Copies the codes of the windows `first..` to rows of `stride` elements, as many as there are.
    #[inline(always)]
    pub(super) fn gather<T: Element>(&self, x: &[i8], first: usize, stride: usize, to: &mut [T]) {
        let [_, h, w, c] = self.x_shape;
        let [oh, ow] = self.out;
        let depth = self.depth();
        if self.is_point() && stride == depth {
            copy(&x[first * c..][..to.len()], to);
            return;
        }
        let (begin, end) = self.channels;
        let (taps, zero) = (self.kernel[1], T::of(self.zero));
        for (pixel, to) in (first..).zip(to.chunks_exact_mut(stride)) {
            let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            // Behind them any code will do, for its weight is 0.
            let to = &mut to[..depth];
            let across = taps * (end - begin);
            let left = (ox * self.stride[1]).wrapping_sub(self.pad[1]);
            for (ky, to) in to.chunks_exact_mut(across).enumerate() {
                let iy = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
                if iy >= h {
                    to.fill(zero);
                    continue;
                }
                let line = &x[(image * h + iy) * w * c..][..w * c];
                if self.dilation[1] == 1 && (begin, end) == (0, c) && left < w && left + taps <= w {
                    copy(&line[left * c..][..across], to);
                    continue;
                }
                for (kx, to) in to.chunks_exact_mut(end - begin).enumerate() {
                    let ix = left.wrapping_add(kx * self.dilation[1]);
                    if ix < w {
                        copy(&line[ix * c..][begin..end], to);
                    } else {
                        to.fill(zero);
                    }
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn copy<T: Element>(x: &[i8], to: &mut [T]) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to = T::of(x);
    }
}

/// Copies codes to 16 bits.
///
/// # Panics
/// If the machine has no `isa`.
pub fn widen(isa: Isa, x: &[i8], to: &mut [i16]) {
    assert!(isa.is_available());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions.
        Isa::Avx2 | Isa::Avx512Vnni => unsafe { x86::widen(x, to) },
        _ => copy(x, to),
    }
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

impl Sum {
    /// Whether `f64` holds every sum exactly, and 32 bits what it is rounded to.
    pub(super) fn narrow(&self) -> bool {
        self.bound < 1 << 53 && self.bound >> self.shift < (1 << 31) - 1
    }

    #[inline(always)]
    pub(super) fn add_one(&self, a: i8, b: i8) -> i8 {
        let (a, b) = (a as i64 - self.zero_point[0] as i64, b as i64 - self.zero_point[1] as i64);
        let q = round_shift(a * self.factor[0] + b * self.factor[1], self.shift);
        (q + self.y_zero_point as i64).clamp(self.clamp.0 as i64, self.clamp.1 as i64) as i8
    }
}

/// `y = clamp(round_shift((a − za) · fa + (b − zb) · fb, shift) + zy)`.
///
/// # Panics
/// If the lengths differ, or the machine has no `isa`.
pub fn add(isa: Isa, p: &Sum, a: &[i8], b: &[i8], y: &mut [i8]) {
    assert!(isa.is_available() && a.len() == y.len() && b.len() == y.len());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions; the lengths are the same.
        Isa::Avx2 | Isa::Avx512Vnni if p.narrow() => unsafe { x86::add(p, a, b, y) },
        _ => {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                *y = p.add_one(a, b);
            }
        }
    }
}

/// `y = clamp(rne(x / scale) + zero_point)`, for finite `x`; as
/// [`QuantParams::quantize`](crate::quant::QuantParams::quantize) to 8 bits.
///
/// # Panics
/// If the machine has no `isa`.
pub fn quantize(isa: Isa, x: &[f32], scale: f32, zero_point: i32, y: &mut [i8]) {
    assert!(isa.is_available());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions.
        Isa::Avx2 | Isa::Avx512Vnni => unsafe { x86::quantize(x, scale, zero_point, y) },
        _ => quantize_all(x, scale, zero_point, y),
    }
}

#[inline(always)]
pub(super) fn quantize_all(x: &[f32], scale: f32, zero_point: i32, y: &mut [i8]) {
    // Limits that are integers may come before the rounding. Adding `1.5 · 2^23` rounds half to even, and
    // then the low bits are the integer.
    const ROUND: f32 = 12_582_912.0;
    let (lo, hi) = ((-128 - zero_point) as f32, (127 - zero_point) as f32);
    let zero_point = zero_point - ROUND.to_bits() as i32;
    for (y, &x) in y.iter_mut().zip(x) {
        let q = x / scale;
        let q = if q > lo { q } else { lo };
        let q = if q < hi { q } else { hi };
        *y = ((q + ROUND).to_bits() as i32 + zero_point) as i8;
    }
}
