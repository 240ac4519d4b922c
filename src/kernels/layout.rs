//! Where a kernel finds the codes of windows.
//!
//! Windows are not copied. The codes of one lie in the input at offsets that are the same for all, so the
//! kernel is given these. Only where windows reach into padding, or the kernel wants other codes than the
//! input's, some lines of the input are copied to a [`Buffer`], padded.

use std::ops::Range;

use super::packed::Aligned;
use super::simd::ROWS;

/// Words of input that are worked on at a time, at least and at most; in between, as many as weights.
const BAND: Range<usize> = 6 * 1024..32 * 1024;

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

    /// What `block` says of a group of channels, if there is but one window and one group.
    pub(super) fn block_of_one<P>(
        &self,
        groups: &[(usize, P)],
        block: impl Fn(&P) -> Option<usize>,
    ) -> Option<usize> {
        match groups {
            [(_, group)] if self.lines() * self.out[1] == 1 => block(group),
            _ => None,
        }
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

    /// The same as rows, if each window is one pixel, and the next one the next pixel.
    pub(super) fn simplified(self) -> Self {
        let [n, h, w, c] = self.x_shape;
        let point = self.kernel == [1; 2] && self.stride == [1; 2] && self.pad == [0; 2];
        if point && self.out == [h, w] { Self::rows(n * h * w, c) } else { self }
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

/// How a kernel reads codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Bytes of a code of the input, and of the kernel's.
    pub bytes: [usize; 2],
    /// Codes that are multiplied together, and the weights of a window.
    pub word: usize,
    /// Codes that may be read in vain behind the last one.
    pub beyond: usize,
    /// The kernel may read the input itself.
    pub direct: bool,
}

/// The codes of all windows of one layer.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub windows: Windows,
    reading: Reading,
    /// Where the words of a window lie, from its first code on.
    pub offsets: Vec<u32>,
    /// Codes of a window that lie side by side.
    run: usize,
    /// Codes between one line of pixels and the next.
    line: usize,
    /// Lines of windows that are worked on at a time.
    band: usize,
    /// Windows are read where they are.
    direct: bool,
    /// Words of a [`Buffer`].
    pub buffer: usize,
}

impl Layout {
    /// A window has `channels` of the channels of its pixels; the layer has so many `weights`.
    pub fn new(w: Windows, channels: usize, weights: usize, reading: Reading) -> Self {
        let Reading { bytes, word, beyond, direct } = reading;
        let ([_, h, width, c], [kh, kw]) = (w.x_shape, w.kernel);
        // Taps that lie side by side are one run of codes.
        let (runs, run) = match w.dilation[1] == 1 && channels == c {
            true => (kh, kw * c),
            false => (kh * kw, channels),
        };
        let [rows, columns] = w.span(w.out);
        let inside = w.pad == [0; 2] && rows <= h && columns <= width;
        let direct = direct && bytes[0] == bytes[1] && inside && run % word == 0;
        let line = if direct { width * c } else { columns * c };
        let words_of_run = run.div_ceil(word);
        let mut offsets = Vec::with_capacity(runs * words_of_run);
        for i in 0..runs {
            let tap = i * kh * kw / runs;
            let begin = tap / kw * w.dilation[0] * line + tap % kw * w.dilation[1] * c;
            offsets.extend((0..words_of_run).map(|g| offset(begin + g * word)));
        }
        let codes = (weights / word).clamp(BAND.start, BAND.end) * word;
        let band = (codes / (line * w.stride[0]).max(1)).clamp(1, w.out[0].max(1));
        // Where lines follow on each other, whole tiles of them.
        let band = if band < w.out[0] && band > ROWS { band / ROWS * ROWS } else { band };
        let codes = w.span([band, 0])[0] * line + beyond;
        let buffer = if direct { 0 } else { (codes * bytes[1]).div_ceil(4) };
        Self { windows: w, reading, offsets, run, line, band, direct, buffer }
    }

    /// Which weight of a channel is the `i`-th of word `g`, if any.
    pub fn weight(&self, g: usize, i: usize) -> Option<usize> {
        let words = self.run.div_ceil(self.reading.word);
        let at = g % words * self.reading.word + i;
        (i < self.reading.word && at < self.run).then_some(g / words * self.run + at)
    }

    /// Calls `f` for each band of the lines of windows from `first` on, whose results fill `y`, with `pixel`
    /// bytes for each window: with where the codes of its first window are, its number of lines, and its part
    /// of `y`. `widen` makes the kernel's codes of as
    /// many of the input; padding is `zero`.
    ///
    /// # Panics
    /// If a slice is too short.
    #[allow(clippy::too_many_arguments)]
    pub fn bands<X: Copy>(
        &self,
        x: &[u8],
        first: usize,
        y: &mut [u8],
        pixel: usize,
        buffer: &mut Buffer,
        zero: X,
        widen: impl Fn(&[u8], *mut X),
        mut f: impl FnMut(*const X, usize, &mut [u8]),
    ) {
        let (w, size) = (&self.windows, self.reading.bytes[0]);
        let ([oh, ow], [_, h, width, c]) = (w.out, w.x_shape);
        assert_eq!(x.len(), w.x_shape.iter().product::<usize>() * size);
        assert_eq!(size_of::<X>(), self.reading.bytes[1]);
        let lines = y.len() / (ow * pixel);
        assert!(first + lines <= w.lines() && y.len() == lines * ow * pixel);
        let mut line = first;
        let mut y = y;
        while line < first + lines {
            let (image, oy) = (line / oh, line % oh);
            let count = self.band.min(oh - oy).min(first + lines - line);
            let image = &x[image * h * width * c * size..][..h * width * c * size];
            let (now, rest) = y.split_at_mut(count * ow * pixel);
            let (from, len) = match self.direct {
                true => {
                    let from = &image[oy * w.stride[0] * self.line * size..];
                    (from.as_ptr().cast::<X>(), from.len() / size)
                }
                false => self.copy(image, oy, count, buffer, zero, &widen),
            };
            // `from` holds all rows that the windows span.
            let [rows, columns] = w.span([count, ow]);
            assert!((rows - 1) * self.line + columns * c <= len);
            f(from, count, now);
            (line, y) = (line + count, rest);
        }
    }

    /// The padded input of `count` lines from `oy` on; where it is, and its length.
    fn copy<X: Copy>(
        &self,
        image: &[u8],
        oy: usize,
        count: usize,
        buffer: &mut Buffer,
        zero: X,
        widen: &impl Fn(&[u8], *mut X),
    ) -> (*const X, usize) {
        let (w, size) = (&self.windows, self.reading.bytes[0]);
        let [_, h, width, c] = w.x_shape;
        let [rows, _] = w.span([count, 0]);
        let len = rows * self.line;
        let words = &mut *buffer.0;
        assert!(words.len() * 4 >= (len + self.reading.beyond) * size_of::<X>());
        let to = words.as_mut_ptr().cast::<X>();
        // SAFETY: `to` has room for `len` codes, as asserted, and any bits are a code.
        let codes = unsafe { std::slice::from_raw_parts_mut(to, len) };
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
            widen(&image[iy * width * c * size..][..inside * size], middle.as_mut_ptr());
        }
        (to, len)
    }

    /// Calls `f` for each tile of at most [`ROWS`] windows of `lines` lines: with the number of its first
    /// window, how far that is from the first one's codes, the codes between its windows, and how many there
    /// are.
    #[inline(always)]
    pub fn tiles(&self, lines: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
        let w = &self.windows;
        let (step, ow) = (w.stride[1] * w.x_shape[3], w.out[1]);
        let line = w.stride[0] * self.line;
        // Lines that follow on each other are one.
        let (lines, per_line) = if line == ow * step { (1, lines * ow) } else { (lines, ow) };
        for i in 0..lines {
            let (mut row, mut tiles) = (0, per_line.div_ceil(ROWS));
            while row < per_line {
                let rows = (per_line - row).div_ceil(tiles);
                f(i * per_line + row, i * line + row * step, step, rows);
                row += rows;
                tiles -= 1;
            }
        }
    }
}
