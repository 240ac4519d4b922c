//! Depthwise convolutions: one sum for each channel, over its taps.
//!
//! For each line of the output, the codes that lie one above the other in its rows of the input become a
//! word for each channel and column, so that a tap of the kernel's width is one multiplication.

use super::isa::Choice;
use super::layout::offset;
use super::packed::{Block, Packed, Shape};
use super::product::{Buffer, Sums, Windows};
use super::simd::Simd;
use super::with_simd;
use crate::arith::Products;

/// Words that are worked on at a time, if one window has no more.
const WORDS: usize = 8 * 1024;
/// The most channels of a block.
const WIDEST: usize = 64;

/// One depthwise convolution, ready to be computed.
#[derive(Clone, Debug)]
pub struct Depthwise {
    windows: Windows,
    packed: Packed,
    /// Where the words of a window's groups lie, from its first one on.
    taps: Vec<u32>,
    /// Groups of rows.
    planes: usize,
    /// Channels of a whole block.
    width: usize,
    /// Windows of a line that are worked on at a time.
    columns: usize,
}

impl Depthwise {
    /// The weights are `[c][kh][kw]`.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 32 bits.
    pub fn new(choice: Choice, p: &Products<i8>, windows: Windows) -> Self {
        with_simd!(choice.isa, S => Self::of::<S>(choice, p, windows))
    }

    fn of<S: Simd>(choice: Choice, p: &Products<i8>, w: Windows) -> Self {
        assert_eq!(p.bias.len(), w.x_shape[3]);
        let [kh, kw] = w.kernel;
        let planes = kh.div_ceil(S::GROUP);
        let shape = Shape { lanes: S::LANES, group: S::GROUP, vectors: S::GROUP };
        let index = |g: usize, i: usize| {
            let (kx, ky) = (g / planes, g % planes * S::GROUP + i);
            (ky < kh).then_some(ky * kw + kx)
        };
        let packed = Packed::new(choice, shape, p, 0..p.bias.len(), planes * kw, true, index);
        let width = S::LANES * S::GROUP;
        let taps = (0..kw * planes).map(|g| {
            let (kx, plane) = (g / planes, g % planes);
            offset((kx * w.dilation[1] * planes + plane) * width)
        });
        let fit = (WORDS / (planes * width)).saturating_sub(w.extent()[1]) / w.stride[1] + 1;
        let columns = fit.clamp(1, w.out[1].max(1));
        Self { windows: w, packed, taps: taps.collect(), planes, width, columns }
    }

    /// Lines of the output.
    fn lines(&self) -> usize {
        self.windows.lines()
    }

    /// Codes of the output in a line.
    fn line_len(&self) -> usize {
        self.windows.out[1] * self.packed.channels()
    }

    fn lines_of<S: Simd>(&self, x: &[u8], first: usize, y: &mut [u8], buffer: &mut Buffer) {
        let w = &self.windows;
        let ([oh, ow], [_, h, width, c]) = (w.out, w.x_shape);
        assert!(x.len() == w.x_shape.iter().product::<usize>());
        assert!(y.len().is_multiple_of(ow * c));
        assert!(first + y.len() / (ow * c) <= self.lines() && buffer.0.len() >= self.buffer());
        for (line, y) in (first..).zip(y.chunks_exact_mut(ow * c)) {
            let (image, top) = (line / oh, line % oh * w.stride[0]);
            let image = &x[image * h * width * c..][..h * width * c];
            for block in &self.packed.blocks {
                for begin in (0..ow).step_by(self.columns) {
                    let columns = self.columns.min(ow - begin);
                    let y = &mut y[begin * c + block.channel..(begin + columns) * c];
                    // SAFETY: a machine without the instructions has no `Packed`. The buffer holds the words
                    // of all columns that the windows span, and `y` ends behind the last pixel.
                    unsafe {
                        let [_, span] = w.span([1, columns]);
                        let left = begin * w.stride[1];
                        for plane in 0..self.planes {
                            let to = buffer.0.as_mut_ptr().add(plane * self.width);
                            let row = top + plane * S::GROUP * w.dilation[0];
                            let count = (w.kernel[0] - plane * S::GROUP).min(S::GROUP);
                            self.fill::<S>(image, row, left, span, count, *block, to);
                        }
                        let (x, step) = (buffer.0.as_ptr(), w.stride[1] * self.planes * self.width);
                        let (p, taps) = (&self.packed, &self.taps);
                        match taps.len() {
                            3 => S::depthwise::<3>(p, block, x, step, taps, y, c),
                            6 => S::depthwise::<6>(p, block, x, step, taps, y, c),
                            10 => S::depthwise::<10>(p, block, x, step, taps, y, c),
                            15 => S::depthwise::<15>(p, block, x, step, taps, y, c),
                            _ => S::depthwise::<0>(p, block, x, step, taps, y, c),
                        }
                    }
                }
            }
        }
    }

    /// The words of one group of `count` rows of the padded input, from row `top` and column `left` on.
    ///
    /// # Safety
    /// The machine has the instructions; `to` has room for whole blocks of all columns.
    #[allow(clippy::too_many_arguments)]
    unsafe fn fill<S: Simd>(
        &self,
        image: &[u8],
        top: usize,
        left: usize,
        columns: usize,
        count: usize,
        Block { channel, len, .. }: Block,
        to: *mut u32,
    ) {
        let w = &self.windows;
        let [_, h, width, c] = w.x_shape;
        let zeros = [w.zero; WIDEST];
        let to_step = self.planes * self.width;
        // Columns inside of the image.
        let begin = w.pad[1].saturating_sub(left).min(columns);
        let end = (width + w.pad[1]).saturating_sub(left).clamp(begin, columns);
        let (mut rows, mut steps) = ([zeros.as_ptr(); 4], [0; 4]);
        for (i, row) in rows.iter_mut().enumerate().take(S::GROUP) {
            // Behind the kernel's rows any will do, for their weights are 0.
            let i = if i < count { i } else { 0 };
            let iy = (top + i * w.dilation[0]).wrapping_sub(w.pad[0]);
            if iy < h && begin < end {
                let first = (iy * width + left + begin - w.pad[1]) * c + channel;
                assert!(first + (end - begin - 1) * c + len <= image.len());
                *row = image[first..].as_ptr();
                steps[i] = c;
            }
        }
        for i in count..4 {
            steps[i] = steps[0];
        }
        // SAFETY: `zeros` holds a block, and each row inside the image all columns, as asserted.
        unsafe {
            let outside = [zeros.as_ptr(); 4];
            S::spread(outside, [0; 4], begin, len, to, to_step);
            S::spread(outside, [0; 4], columns - end, len, to.add(end * to_step), to_step);
            S::spread(rows, steps, end - begin, len, to.add(begin * to_step), to_step);
        }
    }
}

impl Sums for Depthwise {
    fn path(&self) -> &'static str {
        "depthwise"
    }

    fn macs(&self) -> u64 {
        let [kh, kw] = self.windows.kernel;
        (self.lines() * self.line_len() * kh * kw) as u64
    }

    fn cost(&self) -> u64 {
        4 * self.macs()
    }

    fn unit(&self) -> usize {
        self.line_len()
    }

    fn size(&self) -> usize {
        4 * self.taps.len() + self.packed.size()
    }

    fn buffer(&self) -> usize {
        self.windows.span([1, self.columns])[1] * self.planes * self.width
    }

    fn run(&self, x: &[u8], begin: usize, y: &mut [u8], buffer: &mut Buffer) {
        if !y.is_empty() {
            let first = begin / self.line_len();
            with_simd!(self.packed.isa(), S => self.lines_of::<S>(x, first, y, buffer));
        }
    }
}
