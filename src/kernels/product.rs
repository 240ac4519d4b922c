//! Convolutions and linear layers as products of matrices: every window is a row.

use std::fmt::Debug;
use std::ops::Range;

use super::isa::Choice;
pub use super::layout::{Buffer, Windows};
use super::layout::{Layout, Reading};
use super::packed::Packed;
use super::simd::{Element, ROWS, Simd};
use super::with_simd;
use crate::arith::Products;

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
    /// Bytes of the output that are computed together.
    fn unit(&self) -> usize;
    /// Bytes of the constants.
    fn size(&self) -> usize;
    /// Words that a [`Buffer`] needs.
    fn buffer(&self) -> usize;
    /// The bytes of the output from `begin` on, as many as `y` holds: whole units, but for the last.
    ///
    /// # Panics
    /// If a slice is too short.
    fn run(&self, x: &[u8], begin: usize, y: &mut [u8], buffer: &mut Buffer);
}

/// One convolution or linear layer, ready to be computed.
#[derive(Clone, Debug)]
pub struct Product {
    layout: Layout,
    /// For each group of channels, how far their first channel is from the first.
    groups: Vec<(usize, Packed)>,
}

impl Product {
    /// The weights are `[out_ch][kh][kw][in_ch / group]`.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 32 bits.
    pub fn new(choice: Choice, p: &Products<i8>, windows: Windows, group: usize) -> Self {
        let windows = windows.simplified();
        with_simd!(choice.isa, S => Self::of::<S>(choice, p, windows, group))
    }

    fn of<S: Simd>(choice: Choice, p: &Products<i8>, w: Windows, group: usize) -> Self {
        let (out_ch, per_group) = (p.bias.len(), w.x_shape[3] / group);
        let (word, bytes) = (S::GROUP, [1, size_of::<S::X>()]);
        let reading = Reading { bytes, word, beyond: word, direct: !choice.without.direct };
        let layout = Layout::new(w, per_group, p.weight.len(), reading);
        let groups = (0..group).map(|g| {
            let channels = g * out_ch / group..(g + 1) * out_ch / group;
            let (words, index) = (layout.offsets.len(), |g, i| layout.weight(g, i));
            let packed = Packed::new(choice, S::shape(), p, channels, words, false, index);
            (g * per_group, packed)
        });
        Self { groups: groups.collect(), layout }
    }

    /// Lines of windows.
    pub(super) fn lines(&self) -> usize {
        self.layout.windows.lines()
    }

    /// Codes of the output in a line.
    pub(super) fn line_len(&self) -> usize {
        self.layout.windows.out[1] * self.out_ch()
    }

    fn out_ch(&self) -> usize {
        self.groups.iter().map(|(_, p)| p.channels()).sum()
    }

    /// Output channels of a block, if there is but one window and all channels are in one group.
    fn block_of_window(&self) -> Option<usize> {
        self.layout.windows.block_of_one(&self.groups, |p| Some(p.blocks.first()?.len))
    }

    fn bands<S: Simd>(
        &self,
        x: &[u8],
        first: usize,
        y: &mut [u8],
        blocks: Range<usize>,
        buffer: &mut Buffer,
    ) {
        let out_ch = if blocks.end == usize::MAX { self.out_ch() } else { y.len() };
        let zero = S::X::of(self.layout.windows.zero);
        // SAFETY: a machine without the instructions has no `Packed`; as many codes are made as there are.
        let widen = |x: &[u8], to| unsafe { S::widen(x, to) };
        self.layout.bands(x, first, y, out_ch, buffer, zero, widen, |x, lines, y| {
            // SAFETY: the same; `x` holds all codes that the windows span.
            unsafe { self.band::<S>(x, lines, y, out_ch, blocks.clone()) }
        });
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
        let (mut channel, offsets) = (0, &self.layout.offsets);
        for (begin, p) in &self.groups {
            let range = blocks.start..blocks.end.min(p.blocks.len());
            for block in &p.blocks[range] {
                self.layout.tiles(lines, |row, from, step, rows| {
                    let at = row * out_ch + channel;
                    assert!(at + (rows - 1) * out_ch + block.len <= y.len());
                    // SAFETY: `rows` windows lie there; `y` has room for their codes.
                    unsafe {
                        let (x, y) = (x.add(begin + from), y.as_mut_ptr().add(at));
                        macro_rules! tile {
                            ($($rows:literal),*) => {
                                match (rows, block.vectors) {
                                    $(($rows, 4) => S::tile::<$rows, 4>(p, block, x, step, offsets, y, out_ch),
                                    ($rows, 2) => S::tile::<$rows, 2>(p, block, x, step, offsets, y, out_ch),
                                    ($rows, _) => S::tile::<$rows, 1>(p, block, x, step, offsets, y, out_ch),)*
                                    _ => unreachable!("at most {ROWS} rows"),
                                }
                            };
                        }
                        tile!(1, 2, 3, 4, 5, 6);
                    }
                });
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
        let w = &self.layout.windows;
        let depth = w.kernel[0] * w.kernel[1] * w.x_shape[3] / self.groups.len().max(1);
        (self.lines() * self.line_len() * depth) as u64
    }

    /// A block of channels of the only window, or a line.
    fn unit(&self) -> usize {
        self.block_of_window().unwrap_or(self.line_len())
    }

    fn size(&self) -> usize {
        4 * self.layout.offsets.len() + self.groups.iter().map(|(_, p)| p.size()).sum::<usize>()
    }

    fn buffer(&self) -> usize {
        self.layout.buffer
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
