//! Convolutions and linear layers as products of matrices: every window is a row.
//!
//! Windows are not copied. The codes of one lie in the input at offsets that are the same for all, so the
//! kernel is given these. Only where windows reach into padding, or the kernel wants codes in 16 bits, some
//! lines of the input are copied to a [`Buffer`], padded.

use std::fmt::Debug;
use std::ops::Range;

use super::isa::Choice;
use super::packed::{Aligned, Packed};
use super::simd::{Element, ROWS, Simd};
use super::with_simd;
use crate::arith::Products;

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
    /// The byte that padding holds.
    pub zero: u8,
}

impl Windows {
    /// `rows` windows of `depth` codes, one behind the other.
    pub fn rows(rows: usize, depth: usize) -> Self {
        Self {
            x_shape: [1, rows, 1, depth],
            out: [rows, 1],
            kernel: [1; 2],
            stride: [1; 2],
            dilation: [1; 2],
            pad: [0; 2],
            zero: 0,
        }
    }

    /// Lines of windows, of all images.
    pub fn lines(&self) -> usize {
        self.x_shape[0] * self.out[0]
    }

    /// Rows and columns that a window spans.
    pub(super) fn extent(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.kernel[axis] - 1) * self.dilation[axis] + 1)
    }

    /// Rows and columns that `lines` by `columns` windows span.
    pub(super) fn span(&self, [lines, columns]: [usize; 2]) -> [usize; 2] {
        let [eh, ew] = self.extent();
        [
            lines.saturating_sub(1) * self.stride[0] + eh,
            columns.saturating_sub(1) * self.stride[1] + ew,
        ]
    }

    /// Whether each window is one pixel, and the next one the next pixel.
    fn is_point(&self) -> bool {
        self.kernel == [1; 2]
            && self.stride == [1; 2]
            && self.pad == [0; 2]
            && self.out == self.x_shape[1..3]
    }
}

/// Memory of one thread.
#[derive(Clone, Debug, Default)]
pub struct Buffer(pub(super) Aligned<u32>);

impl Buffer {
    /// Room for `words` numbers of 32 bits.
    pub fn new(words: usize) -> Self {
        Self(Aligned::new(words))
    }
}

/// # Panics
/// If a window spans more than `2^32` codes.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a window of more than 2^32 codes")
}

/// Words of input that are worked on at a time, at least and at most; in between, as many as weights.
const BAND: Range<usize> = 6 * 1024..32 * 1024;

/// A layer of sums of products, ready to be computed.
pub trait Sums: Debug + Send + Sync {
    /// The technique.
    fn path(&self) -> &'static str;
    /// Products that are summed, if each window is computed for itself.
    fn macs(&self) -> u64;
    /// As many products of a [`Product`] take about as long.
    fn cost(&self) -> u64 {
        self.macs()
    }
    /// Codes of the output that are computed together.
    fn unit(&self) -> usize;
    /// Bytes of the constants.
    fn size(&self) -> usize;
    /// Words that a [`Buffer`] needs.
    fn buffer(&self) -> usize;
    /// The codes of the output from `begin` on, as many as `y` holds: whole units, but for the last.
    ///
    /// # Panics
    /// If a slice is too short.
    fn run(&self, x: &[u8], begin: usize, y: &mut [u8], buffer: &mut Buffer);
}

/// One convolution or linear layer, ready to be computed.
#[derive(Clone, Debug)]
pub struct Product {
    windows: Windows,
    /// For each group of channels, how far their first channel is from the first.
    groups: Vec<(usize, Packed)>,
    /// Where the groups of codes of a window lie, from its first code on.
    offsets: Vec<u32>,
    /// Codes between one line of pixels and the next.
    line: usize,
    /// Lines of windows that are worked on at a time.
    band: usize,
    /// Windows are read where they are.
    direct: bool,
    /// Words of a [`Buffer`].
    buffer: usize,
}

impl Product {
    /// The weights are `[out_ch][kh][kw][in_ch / group]`.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 32 bits.
    pub fn new(choice: Choice, p: &Products<i8>, windows: Windows, group: usize) -> Self {
        let mut windows = windows;
        if windows.is_point() {
            let [n, h, w, c] = windows.x_shape;
            windows = Windows::rows(n * h * w, c);
        }
        with_simd!(choice.isa, S => Self::of::<S>(choice, p, windows, group))
    }

    fn of<S: Simd>(choice: Choice, p: &Products<i8>, w: Windows, group: usize) -> Self {
        let [_, h, width, c] = w.x_shape;
        let ([kh, kw], per_group) = (w.kernel, c / group);
        // Taps that lie side by side are one run of codes.
        let (runs, run) = match w.dilation[1] == 1 && group == 1 {
            true => (kh, kw * c),
            false => (kh * kw, per_group),
        };
        let groups_of_run = run.div_ceil(S::GROUP);
        let [rows, columns] = w.span(w.out);
        let inside = w.pad == [0; 2] && rows <= h && columns <= width;
        let direct = size_of::<S::X>() == 1 && inside && !choice.without.direct;
        let direct = direct && run % S::GROUP == 0;
        let line = if direct { width * c } else { columns * c };
        let mut offsets = Vec::with_capacity(runs * groups_of_run);
        for i in 0..runs {
            let tap = i * kh * kw / runs;
            let begin = tap / kw * w.dilation[0] * line + tap % kw * w.dilation[1] * c;
            offsets.extend((0..groups_of_run).map(|g| offset(begin + g * S::GROUP)));
        }
        let index = |g: usize, i: usize| {
            let at = g % groups_of_run * S::GROUP + i;
            (at < run).then_some(g / groups_of_run * run + at)
        };
        let out_ch = p.bias.len();
        let groups = (0..group).map(|g| {
            let channels = g * out_ch / group..(g + 1) * out_ch / group;
            let groups = runs * groups_of_run;
            (g * per_group, Packed::new(choice, S::shape(), p, channels, groups, false, index))
        });
        let groups: Vec<_> = groups.collect();
        let words = p.weight.len() / S::GROUP;
        let words = words.clamp(BAND.start, BAND.end) * S::GROUP;
        let band = (words / (line * w.stride[0]).max(1)).clamp(1, w.out[0].max(1));
        // Where lines follow on each other, whole tiles of them.
        let band = if band < w.out[0] && band > ROWS { band / ROWS * ROWS } else { band };
        // Behind the last code the last group may be read in vain.
        let codes = w.span([band, 0])[0] * line + S::GROUP;
        let buffer = if direct { 0 } else { (codes * size_of::<S::X>()).div_ceil(4) };
        Self { windows: w, groups, offsets, line, band, direct, buffer }
    }

    /// Lines of windows.
    pub(super) fn lines(&self) -> usize {
        self.windows.lines()
    }

    /// Codes of the output in a line.
    pub(super) fn line_len(&self) -> usize {
        self.windows.out[1] * self.out_ch()
    }

    fn out_ch(&self) -> usize {
        self.groups.iter().map(|(_, p)| p.channels()).sum()
    }

    /// Output channels of a block, if there is but one window and all channels are in one group.
    fn block_of_window(&self) -> Option<usize> {
        let one = self.lines() * self.windows.out[1] == 1 && self.groups.len() == 1;
        let block = one.then(|| self.groups[0].1.blocks.first());
        block.flatten().map(|block| block.len)
    }

    fn bands<S: Simd>(
        &self,
        x: &[u8],
        first: usize,
        y: &mut [u8],
        blocks: Range<usize>,
        buffer: &mut Buffer,
    ) {
        let w = &self.windows;
        let ([oh, ow], [_, h, width, c]) = (w.out, w.x_shape);
        assert_eq!(x.len(), w.x_shape.iter().product::<usize>());
        let out_ch = if blocks.end == usize::MAX { self.out_ch() } else { y.len() };
        let lines = y.len() / (ow * out_ch);
        assert!(first + lines <= self.lines() && y.len() == lines * ow * out_ch);
        let x: &[u8] = x;
        let mut line = first;
        let mut y = y;
        while line < first + lines {
            let (image, oy) = (line / oh, line % oh);
            let count = self.band.min(oh - oy).min(first + lines - line);
            let image = &x[image * h * width * c..][..h * width * c];
            let (now, rest) = y.split_at_mut(count * ow * out_ch);
            // SAFETY: a machine without the instructions has no `Packed`. `from` holds all rows that the
            // windows span, and `reach` is behind the last code that is read.
            unsafe {
                let (from, len) = match self.direct {
                    true => {
                        let from = &image[oy * w.stride[0] * self.line..];
                        (from.as_ptr().cast::<S::X>(), from.len())
                    }
                    false => self.copy::<S>(image, oy, count, buffer),
                };
                let [rows, columns] = w.span([count, ow]);
                let reach = (rows - 1) * self.line + columns * c;
                assert!(reach <= len);
                self.band::<S>(from, count, now, out_ch, blocks.clone());
            }
            (line, y) = (line + count, rest);
        }
    }

    /// The padded input of `count` lines from `oy` on; where it is, and its length, behind which a group of
    /// codes may be read.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn copy<S: Simd>(
        &self,
        image: &[u8],
        oy: usize,
        count: usize,
        buffer: &mut Buffer,
    ) -> (*const S::X, usize) {
        let w = &self.windows;
        let [_, h, width, c] = w.x_shape;
        let [rows, _] = w.span([count, 0]);
        let len = rows * self.line;
        let words = &mut *buffer.0;
        assert!(words.len() * 4 >= (len + S::GROUP) * size_of::<S::X>());
        let to = words.as_mut_ptr().cast::<S::X>();
        // SAFETY: `to` has room for `len` codes, as asserted, and any bits are a code.
        let codes = unsafe { std::slice::from_raw_parts_mut(to, len) };
        let zero = S::X::of(w.zero);
        for (row, to) in codes.chunks_exact_mut(self.line.max(1)).enumerate() {
            if row % w.stride[0] >= w.extent()[0] {
                continue;
            }
            let iy = (oy * w.stride[0] + row).wrapping_sub(w.pad[0]);
            if iy >= h {
                to.fill(zero);
                continue;
            }
            let (left, to) = to.split_at_mut((w.pad[1] * c).min(to.len()));
            let inside = (width * c).min(to.len());
            let (middle, right) = to.split_at_mut(inside);
            left.fill(zero);
            right.fill(zero);
            // SAFETY: the machine has the instructions; both have the same length.
            unsafe { S::widen(&image[iy * width * c..][..inside], middle.as_mut_ptr()) };
        }
        (to, len)
    }

    /// All windows of `lines` lines.
    ///
    /// # Safety
    /// The machine has the instructions; `x` holds all codes; `y` all results, of `out_ch` for each window.
    unsafe fn band<S: Simd>(
        &self,
        x: *const S::X,
        lines: usize,
        y: &mut [u8],
        out_ch: usize,
        blocks: Range<usize>,
    ) {
        let w = &self.windows;
        let (step, ow) = (w.stride[1] * w.x_shape[3], w.out[1]);
        let line = w.stride[0] * self.line;
        // Lines that follow on each other are one.
        let (lines, per_line) = if line == ow * step { (1, lines * ow) } else { (lines, ow) };
        let mut channel = 0;
        for (begin, p) in &self.groups {
            let range = blocks.start..blocks.end.min(p.blocks.len());
            for block in &p.blocks[range] {
                for i in 0..lines {
                    let (mut row, mut tiles) = (0, per_line.div_ceil(ROWS));
                    while row < per_line {
                        let rows = (per_line - row).div_ceil(tiles);
                        let at = (i * per_line + row) * out_ch + channel;
                        assert!(at + (rows - 1) * out_ch + block.len <= y.len());
                        // SAFETY: rows `row..row + rows` are rows of the line; `y` has room for them.
                        unsafe {
                            let x = x.add(begin + i * line + row * step);
                            let y = y.as_mut_ptr().add(at);
                            macro_rules! tile {
                                ($($rows:literal),*) => {
                                    match (rows, block.vectors) {
                                        $(($rows, 4) => S::tile::<$rows, 4>(p, block, x, step, &self.offsets, y, out_ch),
                                        ($rows, 2) => S::tile::<$rows, 2>(p, block, x, step, &self.offsets, y, out_ch),
                                        ($rows, _) => S::tile::<$rows, 1>(p, block, x, step, &self.offsets, y, out_ch),)*
                                        _ => unreachable!("at most {ROWS} rows"),
                                    }
                                };
                            }
                            tile!(1, 2, 3, 4, 5, 6);
                        }
                        row += rows;
                        tiles -= 1;
                    }
                }
                channel += block.len;
            }
        }
    }
}

impl Sums for Product {
    fn path(&self) -> &'static str {
        "product"
    }

    fn macs(&self) -> u64 {
        let [kh, kw] = self.windows.kernel;
        let depth = kh * kw * self.windows.x_shape[3] / self.groups.len().max(1);
        (self.lines() * self.line_len() * depth) as u64
    }

    /// A block of channels of the only window, or a line.
    fn unit(&self) -> usize {
        self.block_of_window().unwrap_or(self.line_len())
    }

    fn size(&self) -> usize {
        4 * self.offsets.len() + self.groups.iter().map(|(_, p)| p.size()).sum::<usize>()
    }

    fn buffer(&self) -> usize {
        self.buffer
    }

    fn run(&self, x: &[u8], begin: usize, y: &mut [u8], buffer: &mut Buffer) {
        let Some((_, packed)) = self.groups.first() else { return };
        if y.is_empty() {
            return;
        }
        let (first, blocks) = match self.block_of_window() {
            Some(len) => (0, begin / len..(begin + y.len()).div_ceil(len)),
            None => (begin / self.line_len(), 0..usize::MAX),
        };
        with_simd!(packed.isa(), S => self.bands::<S>(x, first, y, blocks, buffer));
    }
}
