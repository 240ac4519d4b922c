//! Convolutions and linear layers of codes or weights of 16 bits, and with results of 16 bits.
//!
//! Codes and weights are widened to 16 bits and multiplied in pairs. Sums of 32 bits may wrap on the way: only
//! the last one has to fit. Where it may not, it is added in 64 bits from parts that fit: the products of some
//! words of codes each, with the weights themselves or with their higher and their lower bytes.

use std::ops::Range;

use super::isa::{Choice, Isa};
use super::layout::{Layout, Reading};
use super::packed::{Aligned, Block};
use super::product::{Buffer, Sums, Windows};
use super::simd::{Job, ROWS, Words, accumulate};
use super::with_words;
use crate::arith::{Code, Multiplier, Products, requantize};

/// The most sums of a row of a tile.
const WIDEST: usize = 64;
/// Added to a number below `2^51`, it leaves its integer part, rounded half to even, in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Words of a part take about as long as adding its sums, if they are so many.
const WORDS: usize = 8;

/// One convolution or linear layer, ready to be computed.
#[derive(Clone, Debug)]
pub struct Wide {
    isa: Isa,
    layout: Layout,
    /// For each group of channels, how far their first channel is from the first.
    groups: Vec<(usize, Packed)>,
    /// Each channel has a window of its own.
    depthwise: bool,
    /// Bytes of a code of the argument, and of the result.
    bytes: [usize; 2],
    /// What padding holds.
    zero: i16,
}

/// Weights and what goes with them, of the channels of one group.
#[derive(Clone, Debug)]
struct Packed {
    blocks: Vec<Block>,
    /// Of each block and each part `[word][lane]`.
    weight: Aligned<u32>,
    parts: Vec<Part>,
    /// `[lane]`, with the input's zero point moved into it; wrapped to 32 bits, where sums fit.
    bias: Aligned<i64>,
    wrapped: Aligned<i32>,
    /// Sums need more than 32 bits.
    wide: bool,
    /// `[lane]`, if the product of each sum and it can be rounded in `f64`, once.
    factor: Option<Aligned<f64>>,
    multiplier: Vec<Multiplier>,
    y_zero_point: i32,
    clamp: (i32, i32),
}

/// Products whose sum fits 32 bits, if not all do.
#[derive(Clone, Debug)]
struct Part {
    /// Of these words of a window.
    words: Range<usize>,
    /// With these bits of a weight, which are so many above the lowest.
    bits: fn(i32) -> i32,
    shift: u32,
}

fn all(weight: i32) -> i32 {
    weight
}

fn high(weight: i32) -> i32 {
    (weight + 128) >> 8
}

fn low(weight: i32) -> i32 {
    weight - (high(weight) << 8)
}

impl Packed {
    /// `codes` is what an argument's codes can be.
    fn new<S: Words, W: Code>(
        p: &Products<W>,
        channels: Range<usize>,
        layout: &Layout,
        codes: Range<i64>,
    ) -> Self {
        let depth = p.weight.len() / p.bias.len().max(1);
        let rows: Vec<&[W]> = channels.clone().map(|o| &p.weight[o * depth..][..depth]).collect();
        let words: Vec<[Option<usize>; 2]> =
            (0..layout.offsets.len()).map(|g| [0, 1].map(|i| layout.weight(g, i))).collect();
        let (z, mut bias) = (p.x_zero_point as i64, Vec::new());
        let (mut most, mut largest) = (0, 0.0_f64);
        for (o, row) in channels.clone().zip(&rows) {
            let of_sign = |sign: i32| row.iter().map(|&w| (sign * w.into()).max(0) as i64).sum();
            let [plus, minus]: [i64; 2] = [1, -1].map(of_sign);
            let (lo, hi, of) = (codes.start - z, codes.end - 1 - z, p.bias[o] as i64);
            let sum = (of + plus * hi - minus * lo).max(-(of + plus * lo - minus * hi));
            most = most.max(sum);
            largest = largest.max(sum as f64 * factor(p.multiplier[o]));
            bias.push(of - z * (plus - minus));
        }
        let wide = most > i32::MAX as i64;
        let whole = Part { words: 0..words.len(), bits: all, shift: 0 };
        let parts = match wide {
            true => parts(&rows, &words, i32::MAX as i64 / -codes.start),
            false => vec![whole],
        };
        let steps: usize = parts.iter().map(|part| part.words.len()).sum();
        let (mut blocks, mut weights, mut all_lanes) = (Vec::new(), 0, 0);
        for channel in (0..channels.len()).step_by(S::LANES * S::VECTORS) {
            let len = (channels.len() - channel).min(S::LANES * S::VECTORS);
            let vectors = len.div_ceil(S::LANES).next_power_of_two();
            blocks.push(Block { channel, len, vectors, weight: weights, lane: all_lanes });
            weights += steps * vectors * S::LANES;
            all_lanes += vectors * S::LANES;
        }
        let fits = match S::FUSED {
            true => most < 1 << 51,
            false => most < 1 << 29,
        };
        let exact = fits && largest < i32::MAX as f64 - 1.0;
        let mut packed = Self {
            weight: Aligned::new(weights),
            parts,
            bias: Aligned::new(all_lanes),
            wrapped: Aligned::new(all_lanes),
            wide,
            factor: exact.then(|| Aligned::new(all_lanes)),
            multiplier: p.multiplier[channels].to_vec(),
            y_zero_point: p.y_zero_point,
            clamp: p.clamp,
            blocks,
        };
        for block in &packed.blocks {
            let lanes = block.vectors * S::LANES;
            for lane in 0..block.len {
                let o = block.channel + lane;
                packed.bias[block.lane + lane] = bias[o];
                packed.wrapped[block.lane + lane] = bias[o] as i32;
                if let Some(factors) = &mut packed.factor {
                    factors[block.lane + lane] = factor(packed.multiplier[o]);
                }
            }
            let mut to = packed.weight[block.weight..].chunks_exact_mut(lanes);
            for part in &packed.parts {
                for (word, to) in words[part.words.clone()].iter().zip(&mut to) {
                    for (row, to) in rows[block.channel..][..block.len].iter().zip(to) {
                        let code =
                            |at: Option<usize>| at.map_or(0, |at| (part.bits)(row[at].into()));
                        *to = code(word[0]) as u16 as u32 | (code(word[1]) as u32) << 16;
                    }
                }
            }
        }
        packed
    }

    fn size(&self) -> usize {
        let doubles = self.bias.len() + self.factor.as_ref().map_or(0, |f| f.len());
        4 * (self.weight.len() + self.wrapped.len()) + 8 * doubles
    }
}

fn factor(m: Multiplier) -> f64 {
    m.significand as f64 / (1u64 << m.shift) as f64
}

/// Of all words of a window. The sum of the magnitudes of a part's weights is at most `most`.
fn parts<W: Code>(rows: &[&[W]], words: &[[Option<usize>; 2]], most: i64) -> Vec<Part> {
    let parts = |bits: fn(i32) -> i32, shift| {
        let (mut parts, mut begin) = (Vec::new(), 0);
        let mut sums = vec![0; rows.len()];
        for (end, word) in words.iter().enumerate() {
            let magnitudes = rows.iter().map(|row| {
                let of = |at: &usize| bits(row[*at].into()).unsigned_abs() as i64;
                word.iter().flatten().map(of).sum::<i64>()
            });
            let magnitudes: Vec<i64> = magnitudes.collect();
            if sums.iter().zip(&magnitudes).any(|(sum, magnitude)| sum + magnitude > most) {
                parts.push(Part { words: begin..end, bits, shift });
                begin = end;
                sums.fill(0);
            }
            sums.iter_mut().zip(magnitudes).for_each(|(sum, magnitude)| *sum += magnitude);
        }
        parts.push(Part { words: begin..words.len(), bits, shift });
        let fit = sums.iter().all(|&sum| sum <= most);
        (fit, parts)
    };
    match parts(all, 0) {
        (true, parts) if (parts.len() - 1) * WORDS <= words.len() => parts,
        _ => [parts(high, 8).1, parts(low, 0).1].concat(),
    }
}

impl Wide {
    /// The weights are `[out_ch][kh][kw][in_ch / group]`; codes of the argument and of the result take so
    /// many `bytes`, 1 or 2. The windows' own padding is not used.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 53 bits.
    pub fn new<W: Code>(
        choice: Choice,
        p: &Products<W>,
        windows: Windows,
        group: usize,
        bytes: [usize; 2],
    ) -> Self {
        let isa = choice.isa;
        assert!(isa.is_available(), "this machine has no {isa}");
        with_words!(isa, S => Self::of::<S, W>(choice, p, windows.simplified(), group, bytes))
    }

    fn of<S: Words, W: Code>(
        choice: Choice,
        p: &Products<W>,
        w: Windows,
        group: usize,
        bytes: [usize; 2],
    ) -> Self {
        let (out_ch, in_ch) = (p.bias.len(), w.x_shape[3]);
        let depthwise = group > 1 && group == in_ch && in_ch == out_ch && !choice.without.depthwise;
        let (word, beyond) = if depthwise { (1, WIDEST) } else { (2, 2) };
        // Codes lie in the arena with their low byte first.
        let direct = !choice.without.direct && !depthwise && cfg!(target_endian = "little");
        let reading = Reading { bytes: [bytes[0], 2], word, beyond, direct };
        let layout = Layout::new(w, in_ch / group, p.weight.len(), reading);
        let codes = if bytes[0] == 1 { -128..128 } else { -0x8000..0x8000 };
        let groups = if depthwise { 1 } else { group };
        let packed = (0..groups).map(|g| {
            let channels = g * out_ch / groups..(g + 1) * out_ch / groups;
            (g * in_ch / groups, Packed::new::<S, W>(p, channels, &layout, codes.clone()))
        });
        let (groups, zero) = (packed.collect(), p.x_zero_point as i16);
        Self { isa: choice.isa, layout, groups, depthwise, bytes, zero }
    }

    fn out_ch(&self) -> usize {
        self.groups.iter().map(|(_, p)| p.multiplier.len()).sum()
    }

    /// Codes of the output in a line.
    fn line_len(&self) -> usize {
        self.layout.windows.out[1] * self.out_ch()
    }

    /// Output channels of a block, if there is but one window and all channels are in one group.
    fn block_of_window(&self) -> Option<usize> {
        let len = |p: &Packed| Some(p.blocks.first()?.len).filter(|_| !self.depthwise);
        self.layout.windows.block_of_one(&self.groups, len)
    }

    fn bands<S: Words>(
        &self,
        x: &[u8],
        first: usize,
        y: &mut [u8],
        blocks: Range<usize>,
        buffer: &mut Buffer,
    ) {
        let (flip, bytes) = (self.isa.flip(), self.bytes[0]);
        let pixel = if blocks.end == usize::MAX { self.out_ch() * self.bytes[1] } else { y.len() };
        let widen = |x: &[u8], to: *mut i16| {
            // SAFETY: there is room for as many codes.
            unsafe {
                match bytes {
                    1 => {
                        let to = std::slice::from_raw_parts_mut(to, x.len());
                        to.iter_mut().zip(x).for_each(|(to, &x)| *to = (x ^ flip) as i8 as i16);
                    }
                    _ if cfg!(target_endian = "little") => {
                        to.cast::<u8>().copy_from_nonoverlapping(x.as_ptr(), x.len());
                    }
                    _ => {
                        let to = std::slice::from_raw_parts_mut(to, x.len() / 2);
                        let codes = to.iter_mut().zip(x.as_chunks().0);
                        codes.for_each(|(to, &x)| *to = i16::from_le_bytes(x));
                    }
                }
            }
        };
        self.layout.bands(x, first, y, pixel, buffer, self.zero, widen, |x, lines, y| {
            // SAFETY: the machine has the instructions, as `new` has asserted; `x` holds all codes that the
            // windows span.
            unsafe { self.band::<S>(x, lines, y, pixel, blocks.clone()) }
        });
    }

    /// All windows of `lines` lines.
    ///
    /// # Safety
    /// The machine has the instructions, and `x` holds all codes.
    unsafe fn band<S: Words>(
        &self,
        x: *const i16,
        lines: usize,
        y: &mut [u8],
        pixel: usize,
        blocks: Range<usize>,
    ) {
        let flip = self.isa.flip();
        let (mut sums, mut wide) = (Lines([0; ROWS * WIDEST]), Lines([0; ROWS * WIDEST]));
        let mut channel = 0;
        for (begin, p) in &self.groups {
            let range = blocks.start..blocks.end.min(p.blocks.len());
            for block in &p.blocks[range] {
                let lanes = block.vectors * S::LANES;
                self.layout.tiles(lines, |row, from, step, rows| {
                    let own = if self.depthwise { block.channel } else { 0 };
                    let y = &mut y[row * pixel + channel * self.bytes[1]..];
                    let (sums, wide) = (&mut sums.0[..rows * lanes], &mut wide.0[..rows * lanes]);
                    // SAFETY: `rows` windows lie there.
                    unsafe {
                        let x = x.add(begin + from + own);
                        self.sums::<S>(p, block, x, step, sums, wide);
                        S::run(Round { p, block, sums, wide });
                        let (len, lanes) = (block.len, block.vectors * S::LANES);
                        match self.bytes[1] {
                            1 => S::run(Put::<1> { p, sums, lanes, len, y, pixel, flip }),
                            _ => S::run(Put::<2> { p, sums, lanes, len, y, pixel, flip }),
                        }
                    }
                });
                channel += block.len;
            }
        }
    }

    /// The sums of windows that are `step` codes apart: in `wide` if `p` is.
    ///
    /// # Safety
    /// The machine has the instructions, and `x` holds all codes of as many windows as there are sums.
    unsafe fn sums<S: Words>(
        &self,
        p: &Packed,
        block: &Block,
        x: *const i16,
        step: usize,
        sums: &mut [i32],
        wide: &mut [i64],
    ) {
        let lanes = block.vectors * S::LANES;
        let rows = sums.len() / lanes;
        let start = if p.wide { &[0; WIDEST] } else { &p.wrapped[block.lane..][..lanes] };
        let mut weight = &p.weight[block.weight..];
        for row in wide.chunks_exact_mut(lanes).take(if p.wide { rows } else { 0 }) {
            row.copy_from_slice(&p.bias[block.lane..][..lanes]);
        }
        for part in &p.parts {
            let offsets = &self.layout.offsets[part.words.clone()];
            assert!(weight.len() >= offsets.len() * lanes && start.len() >= lanes);
            let windows = Tile { start, weight, x, step, offsets, sums };
            macro_rules! run {
                ($($rows:literal),*) => {
                    match (self.depthwise, rows, block.vectors) {
                        (true, _, 4) => S::run(Each::<4>(windows, rows)),
                        (true, _, 2) => S::run(Each::<2>(windows, rows)),
                        (true, _, _) => S::run(Each::<1>(windows, rows)),
                        $((_, $rows, 4) => S::run(Same::<$rows, 4>(windows)),
                        (_, $rows, 2) => S::run(Same::<$rows, 2>(windows)),
                        (_, $rows, _) => S::run(Same::<$rows, 1>(windows)),)*
                        _ => unreachable!("at most {ROWS} rows"),
                    }
                };
            }
            // SAFETY: the machine has the instructions, as this function demands; constants are there, as
            // asserted, and there is room for the sums of all rows.
            unsafe {
                run!(1, 2, 3, 4, 5, 6);
                if p.wide {
                    S::run(Add { part: sums, shift: part.shift, to: wide });
                }
            }
            weight = &weight[offsets.len() * lanes..];
        }
    }
}

/// No register's numbers lie across two lines of the cache.
#[repr(align(64))]
struct Lines<T>([T; ROWS * WIDEST]);

/// Sums of a block of some windows, from `start` on.
struct Tile<'a> {
    start: &'a [i32],
    weight: &'a [u32],
    x: *const i16,
    step: usize,
    offsets: &'a [u32],
    sums: &'a mut [i32],
}

/// Of `R` windows, where all channels have the same codes.
struct Same<'a, const R: usize, const N: usize>(Tile<'a>);

impl<S: Words, const R: usize, const N: usize> Job<S> for Same<'_, R, N> {
    #[inline(always)]
    unsafe fn run(self) {
        let Tile { start, weight, x, step, offsets, sums } = self.0;
        // SAFETY: constants, codes and room for sums are there, as who runs it has made sure.
        unsafe {
            let mut acc = [[S::load(start.as_ptr().cast()); N]; R];
            for acc in &mut acc {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::load(start.as_ptr().add(v * S::LANES).cast());
                }
            }
            let offsets = offsets.iter().map(|&offset| offset as usize);
            accumulate::<S, R, N>(&mut acc, weight.as_ptr(), x, step, offsets);
            save::<S, R, N>(acc, sums.as_mut_ptr());
        }
    }
}

/// Of so many windows, where each channel has codes of its own.
struct Each<'a, const N: usize>(Tile<'a>, usize);

impl<S: Words, const N: usize> Job<S> for Each<'_, N> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self(Tile { start, weight, x, step, offsets, sums }, rows) = self;
        let (start, sums) = (start.as_ptr(), sums.as_mut_ptr());
        macro_rules! rows {
            ($row:expr, $r:literal) => {
                // SAFETY: constants, codes and room for sums are there, as who runs it has made sure.
                unsafe {
                    let mut acc = [[S::load(start.cast()); N]; $r];
                    for acc in &mut acc {
                        for (v, acc) in acc.iter_mut().enumerate() {
                            *acc = S::load(start.add(v * S::LANES).cast());
                        }
                    }
                    for (weight, &offset) in weight.chunks_exact(N * S::LANES).zip(offsets) {
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let x = x.add(($row + r) * step + offset as usize);
                            for (v, acc) in acc.iter_mut().enumerate() {
                                let w = S::load(weight.as_ptr().add(v * S::LANES));
                                *acc = S::dot(*acc, S::extended(x.add(v * S::LANES)), w);
                            }
                        }
                    }
                    save::<S, $r, N>(acc, sums.add($row * N * S::LANES));
                }
            };
        }
        for row in (0..rows).step_by(3) {
            match rows - row {
                1 => rows!(row, 1),
                2 => rows!(row, 2),
                _ => rows!(row, 3),
            }
        }
    }
}

/// # Safety
/// There is room for all sums.
#[inline(always)]
unsafe fn save<S: Words, const R: usize, const N: usize>(acc: [[S::V; N]; R], to: *mut i32) {
    for (r, acc) in acc.into_iter().enumerate() {
        for (v, acc) in acc.into_iter().enumerate() {
            // SAFETY: as this function demands.
            unsafe { S::save(acc, to.add((r * N + v) * S::LANES).cast()) };
        }
    }
}

/// Adds sums of 32 bits, so much above the lowest bit.
struct Add<'a> {
    part: &'a [i32],
    shift: u32,
    to: &'a mut [i64],
}

impl<S: Words> Job<S> for Add<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        for (to, &part) in self.to.iter_mut().zip(self.part) {
            *to = to.wrapping_add((part as i64) << self.shift);
        }
    }
}

/// Rounds sums times their factors: those of `wide`, if `p` is, to `sums`.
struct Round<'a> {
    p: &'a Packed,
    block: &'a Block,
    sums: &'a mut [i32],
    wide: &'a [i64],
}

impl<S: Words> Job<S> for Round<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { p, block: &Block { channel, len, vectors, lane, .. }, sums, wide } = self;
        let lanes = vectors * S::LANES;
        let multipliers = &p.multiplier[channel..][..len];
        let code = |sum: i64, &m: &Multiplier| {
            let code: i16 = match p.wide {
                true => requantize(sum, m, p.y_zero_point, p.clamp),
                false => requantize(sum as i32, m, p.y_zero_point, p.clamp),
            };
            code as i32 - p.y_zero_point
        };
        for (sums, wide) in sums.chunks_exact_mut(lanes).zip(wide.chunks_exact(lanes)) {
            match &p.factor {
                Some(factor) if p.wide => {
                    for ((q, &sum), &factor) in sums.iter_mut().zip(wide).zip(&factor[lane..]) {
                        // The sum as `f64`, for which not all machines have an instruction.
                        let bits = (sum as u64).wrapping_add(ROUND.to_bits());
                        let sum = f64::from_bits(bits) - ROUND;
                        let rounded = match S::FUSED {
                            true => sum.mul_add(factor, ROUND),
                            false => sum * factor + ROUND,
                        };
                        *q = rounded.to_bits() as i32;
                    }
                }
                Some(factor) => {
                    for (v, sums) in sums.chunks_exact_mut(S::LANES).enumerate() {
                        let (factor, sums) = (&factor[lane + v * S::LANES..], sums.as_mut_ptr());
                        // SAFETY: the machine has the instructions, as who runs it has made sure; there is a
                        // factor for each lane.
                        unsafe {
                            let q = S::round_double(S::load(sums.cast()), factor.as_ptr());
                            S::save(q, sums.cast());
                        }
                    }
                }
                None if p.wide => {
                    for ((q, &sum), m) in sums.iter_mut().zip(wide).zip(multipliers) {
                        *q = code(sum, m);
                    }
                }
                None => {
                    for (q, m) in sums.iter_mut().zip(multipliers) {
                        *q = code((*q).into(), m);
                    }
                }
            }
        }
    }
}

/// Stores the codes of the rows of a tile, `B` bytes of each; rows are `pixel` bytes apart.
struct Put<'a, const B: usize> {
    p: &'a Packed,
    sums: &'a [i32],
    lanes: usize,
    len: usize,
    y: &'a mut [u8],
    pixel: usize,
    flip: u8,
}

impl<S: Words, const B: usize> Job<S> for Put<'_, B> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { p, len, flip, .. } = self;
        let zero = p.y_zero_point;
        let (lo, hi) = (p.clamp.0 - zero, p.clamp.1 - zero);
        let code = |q: i32| q.max(lo).min(hi) + zero;
        for (sums, y) in self.sums.chunks_exact(self.lanes).zip(self.y.chunks_mut(self.pixel)) {
            if B == 1 {
                y[..len].iter_mut().zip(sums).for_each(|(y, &q)| *y = code(q) as u8 ^ flip);
                continue;
            }
            let codes = y[..2 * len].as_chunks_mut().0.iter_mut();
            codes.zip(sums).for_each(|(y, &q)| *y = (code(q) as i16).to_le_bytes());
        }
    }
}

impl Sums for Wide {
    fn path(&self) -> &'static str {
        if self.depthwise { "depthwise16" } else { "product16" }
    }

    fn macs(&self) -> u64 {
        let w = &self.layout.windows;
        let group = if self.depthwise { w.x_shape[3] } else { self.groups.len().max(1) };
        let depth = w.kernel[0] * w.kernel[1] * w.x_shape[3] / group;
        (w.lines() * self.line_len() * depth) as u64
    }

    fn cost(&self) -> u64 {
        let longer = if self.isa.flip() == 0 { 1 } else { 2 };
        let parts = self.groups.first().map_or(1, |(_, p)| p.parts.len().min(2));
        self.macs() * longer * parts as u64 * if self.depthwise { 4 } else { 1 }
    }

    /// A block of channels of the only window, or a line.
    fn unit(&self) -> usize {
        self.block_of_window().unwrap_or(self.line_len()) * self.bytes[1]
    }

    fn size(&self) -> usize {
        4 * self.layout.offsets.len() + self.groups.iter().map(|(_, p)| p.size()).sum::<usize>()
    }

    fn buffer(&self) -> usize {
        self.layout.buffer
    }

    fn run(&self, x: &[u8], begin: usize, y: &mut [u8], buffer: &mut Buffer) {
        if y.is_empty() || self.groups.is_empty() {
            return;
        }
        let unit = self.unit();
        let (first, blocks) = match self.block_of_window() {
            Some(_) => (0, begin / unit..(begin + y.len()).div_ceil(unit)),
            None => (begin / unit, 0..usize::MAX),
        };
        with_words!(self.isa, S => self.bands::<S>(x, first, y, blocks, buffer));
    }
}
