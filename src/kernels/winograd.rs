//! Convolutions of 3×3 windows with fewer products: tiles of 2×2 or 4×4 windows at a time, by F(2×2, 3×3) and
//! F(4×4, 3×3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), in integers.
//!
//! For a tile of pixels `d` and weights `g` of a channel, the sums of its windows are
//!
//! `Y = Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A`, with `Σ` over the channels, `⊙` element by element, and
//!
//! ```text
//!      1  0 -1  0         1    0    0          1  1  1  0
//! Bᵀ = 0  1  1  0    G =  1/2  1/2  1/2   Aᵀ = 0  1 -1 -1
//!      0 -1  1  0         1/2 -1/2  1/2
//!      0  1  0 -1         0    0    1
//!
//!      4  0 -5  0  1  0        1/4    0    0
//!      0 -4 -4  1  1  0       -1/6 -1/6 -1/6        1  1  1  1  1  0
//! Bᵀ = 0  4 -4 -1  1  0   G = -1/6  1/6 -1/6   Aᵀ = 0  1 -1  2 -2  0
//!      0 -2 -1  2  1  0       1/24 1/12  1/6        0  1  1  4  4  0
//!      0  2 -1 -2  1  0       1/24 -1/12 1/6        0  1 -1  8 -8  1
//!      0  4  0 -5  0  1         0    0    1
//! ```
//!
//! These are 16 products for 4 windows, or 36 for 16, instead of 9 for each. With the denominators of each
//! row of `G` left out, weights are integers, of at most `9 · 128` or `49 · 128`; bytes become at most `4 · 255`
//! or `68 · 255`; so both fit 16 bits. The denominators come back as factors of `Aᵀ`, whose rows then give
//! multiples of `Y`: by 4, or by 9 times a power of two. All sums may wrap: they are exact modulo `2^32`, and so
//! is a division by 9, which is a product with its inverse. The power of two, at most 64, is shifted out at the
//! end; a layer is taken only if `Y` is so small for all codes that 64 or 4 times it fits 32 bits.

use super::isa::Choice;
use super::packed::{Aligned, Block, Packed, Shape, channel_of, signed_sums};
use super::product::{Buffer, Sums, Windows};
use super::simd::{Job, Pairs, ROWS, Vector, accumulate, finish};
use super::with_pairs;
use crate::arith::Products;

/// Weights of a window.
const TAPS: usize = 9;
/// The most tiles that are worked on at a time.
const TILES: usize = 24;
/// Codes between one element and the next beyond those of the tiles. Without, all elements of a tile might
/// fall into the same set of the cache.
const GAP: usize = 32;
/// The most codes of a register.
const WIDEST: usize = 32;

/// `Bᵀ d`, for a side of `T` pixels.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn differences<S: Pairs, const T: usize>(d: [S::V; T]) -> [S::V; T] {
    let mut t = d;
    // SAFETY: the machine has the instructions, as this function demands.
    unsafe {
        if T == 4 {
            t[0] = S::sub_codes(d[0], d[2]);
            t[1] = S::add_codes(d[1], d[2]);
            t[2] = S::sub_codes(d[2], d[1]);
            t[3] = S::sub_codes(d[1], d[3]);
        } else {
            let [even, odd] = [S::sub_codes(d[4], d[2]), S::sub_codes(d[3], d[1])];
            t[0] = S::add_codes(four::<S>(S::sub_codes(d[0], d[2])), even);
            let a = S::sub_codes(d[4], four::<S>(d[2]));
            let b = S::sub_codes(d[3], four::<S>(d[1]));
            t[1] = S::add_codes(a, b);
            t[2] = S::sub_codes(a, b);
            let twice = S::add_codes(odd, odd);
            t[3] = S::add_codes(even, twice);
            t[4] = S::sub_codes(even, twice);
            t[5] = S::sub_codes(S::sub_codes(d[5], d[3]), S::add_codes(twice, twice));
        }
    }
    t
}

/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn four<S: Pairs>(a: S::V) -> S::V {
    // SAFETY: the machine has the instructions, as this function demands.
    unsafe {
        let twice = S::add_codes(a, a);
        S::add_codes(twice, twice)
    }
}

/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn twice<S: Pairs>(a: S::V) -> S::V {
    // SAFETY: the machine has the instructions, as this function demands.
    unsafe { S::add(a, a) }
}

/// `Aᵀ m` times the denominators of `G`: 2; or 24, 12, 6 and 6.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn combine<S: Pairs, const T: usize>(m: [S::V; T]) -> [S::V; 4] {
    let mut y = [m[0]; 4];
    // SAFETY: the machine has the instructions, as this function demands.
    unsafe {
        if T == 4 {
            y[0] = S::add(m[0], S::add(m[1], m[2]));
            y[1] = S::sub(S::sub(m[1], m[2]), m[3]);
        } else {
            let [p, q] = [S::add(m[1], m[2]), S::sub(m[1], m[2])];
            let [r, s] = [S::add(m[3], m[4]), S::sub(m[3], m[4])];
            let three = S::add(S::add(m[0], m[0]), m[0]);
            y[0] = S::add(twice::<S>(S::sub(three, twice::<S>(p))), r);
            y[1] = S::sub(s, twice::<S>(q));
            y[2] = S::sub(r, p);
            let three = S::add(S::add(m[5], m[5]), m[5]);
            y[3] = S::sub(twice::<S>(S::add(s, three)), q);
        }
    }
    y
}

/// `2^SHIFT[i]` is the power of two of row `i` of [`combine`], for a side of 4 and of 6 pixels.
const SHIFT: [[i32; 4]; 2] = [[1, 1, 0, 0], [3, 2, 1, 1]];
/// Times 9 it is 1, modulo `2^32`.
const NINTH: i32 = 0x38E3_8E39;

/// `Bᵀ d B` of a tile: element `i` of all channels at `to + i · step`.
///
/// # Safety
/// Each of the pixels has as many channels, and there is room for whole registers of them.
struct Transform<const T: usize> {
    pixels: [[*const u8; T]; T],
    channels: usize,
    to: *mut i16,
    step: usize,
}

impl<S: Pairs, const T: usize> Job<S> for Transform<T> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { pixels, channels, to, step } = self;
        let width = 2 * S::LANES;
        let mut copies = [[[0_u8; WIDEST]; T]; T];
        for channel in (0..channels).step_by(width) {
            // SAFETY: pixels and room are there, as `Transform` demands; the last codes are copied to where there are more behind.
            unsafe {
                let mut at = pixels;
                for (at, copies) in at.iter_mut().zip(&mut copies) {
                    for (at, copy) in at.iter_mut().zip(copies) {
                        *at = at.add(channel);
                        if channel + width > channels {
                            at.copy_to_nonoverlapping(copy.as_mut_ptr(), channels - channel);
                            *at = copy.as_ptr();
                        }
                    }
                }
                let mut columns = [[S::codes(at[0][0]); T]; T];
                for (j, column) in columns.iter_mut().enumerate() {
                    for (i, codes) in column.iter_mut().enumerate() {
                        *codes = S::codes(at[i][j]);
                    }
                    *column = differences::<S, T>(*column);
                }
                for i in 0..T {
                    let mut row = columns[0];
                    for (codes, column) in row.iter_mut().zip(columns) {
                        *codes = column[i];
                    }
                    for (j, v) in differences::<S, T>(row).into_iter().enumerate() {
                        S::save(v, to.add((T * i + j) * step + channel).cast());
                    }
                }
            }
        }
    }
}

/// The products of one element of all tiles and a block of `N` registers, summed over the channels. The
/// sums of a tile are `to_step` words behind those of the one before.
///
/// # Safety
/// There are `groups` words of weights for each lane, and of codes for each tile, which are `step` codes apart;
/// there is room for the results.
struct Multiply<const N: usize> {
    weight: *const u32,
    groups: usize,
    x: *const i16,
    step: usize,
    tiles: usize,
    to: *mut u32,
    to_step: usize,
}

impl<S: Pairs, const N: usize> Job<S> for Multiply<N> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { weight, groups, x, step, tiles, to, to_step } = self;
        let (mut tile, mut parts) = (0, tiles.div_ceil(ROWS));
        while tile < tiles {
            let rows = (tiles - tile).div_ceil(parts);
            // The last tiles fetch the weights behind these, which are used next.
            let next = weight.wrapping_add(if parts == 1 { groups * N * S::LANES } else { 0 });
            macro_rules! rows {
                ($($rows:literal),*) => {
                    match rows {
                        $($rows => {
                            let zero = S::load([0; 16].as_ptr());
                            let mut acc = [[zero; N]; $rows];
                            let offsets = (0..groups).map(|g| {
                                for line in (0..N * S::LANES).step_by(16) {
                                    S::fetch(next.wrapping_add(g * N * S::LANES + line));
                                }
                                g * 2
                            });
                            accumulate::<S, $rows, N>(&mut acc, weight, x.add(tile * step), step, offsets);
                            for (r, acc) in acc.into_iter().enumerate() {
                                for (v, acc) in acc.into_iter().enumerate() {
                                    S::save(acc, to.add((tile + r) * to_step + v * S::LANES));
                                }
                            }
                        })*
                        _ => unreachable!("at most {ROWS} rows"),
                    }
                };
            }
            // SAFETY: codes, weights and room are there, as `Multiply` demands; `tile + rows` are at most all tiles.
            unsafe { rows!(1, 2, 3, 4, 5, 6) };
            tile += rows;
            parts -= 1;
        }
    }
}

/// `Y` of each tile for a block of `N` registers, and the codes of that.
///
/// # Safety
/// `block` is one of `p`; `m` holds all elements of all tiles, and `y` their windows, of which `line` are in a line.
struct Inverse<'a, const T: usize, const N: usize> {
    p: &'a Packed,
    block: &'a Block,
    m: *const u32,
    tiles: &'a [Tile],
    y: *mut u8,
    line: usize,
}

impl<S: Pairs, const T: usize, const N: usize> Job<S> for Inverse<'_, T, N> {
    #[allow(clippy::needless_range_loop)] // the index is that of several arrays
    #[inline(always)]
    unsafe fn run(self) {
        let Self { p, block, m, tiles, y, line } = self;
        let shift = SHIFT[T / 6];
        // SAFETY: sums and pixels are there, as `Inverse` demands.
        unsafe {
            for (t, tile) in tiles.iter().enumerate() {
                let m = m.add(t * T * T * N * S::LANES);
                let mut sums = [[[S::load(m); N]; 4]; 4];
                for v in 0..N {
                    let bias = S::load(p.bias.as_ptr().add(block.lane + v * S::LANES).cast());
                    let mut columns = [[bias; 4]; T];
                    for (j, column) in columns.iter_mut().enumerate() {
                        let mut elements = [bias; T];
                        for (i, element) in elements.iter_mut().enumerate() {
                            *element = S::load(m.add(((T * i + j) * N + v) * S::LANES));
                        }
                        *column = combine::<S, T>(elements);
                    }
                    for i in 0..T - 2 {
                        let mut row = [bias; T];
                        for (sum, column) in row.iter_mut().zip(columns) {
                            *sum = column[i];
                        }
                        let all = combine::<S, T>(row);
                        for j in 0..T - 2 {
                            let sum = if T == 4 { all[j] } else { S::multiply(all[j], NINTH) };
                            sums[i][j][v] = S::add(S::shift(sum, shift[i] + shift[j]), bias);
                        }
                    }
                }
                let (step, y) = (p.channels(), y.add(tile.at * p.channels() + block.channel));
                for (i, sums) in sums.iter_mut().enumerate().take(tile.rows) {
                    // Those behind the last are stored in the same place.
                    for j in tile.columns..T - 2 {
                        sums[j] = sums[tile.columns - 1];
                    }
                    let y = y.add(i * line * step);
                    match T {
                        4 => finish::<S, 2, N>(p, block, [sums[0], sums[1]], y, step, tile.columns),
                        _ => finish::<S, 4, N>(p, block, *sums, y, step, tile.columns),
                    }
                }
            }
        }
    }
}

/// Some windows side by side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tile {
    image: usize,
    /// Its first window.
    top: usize,
    left: usize,
    rows: usize,
    columns: usize,
    /// Pixels of the output before it.
    at: usize,
}

/// One convolution, ready to be computed.
#[derive(Clone, Debug)]
pub struct Winograd {
    windows: Windows,
    /// Pixels on a side of a tile: 4 or 6.
    side: usize,
    /// All but the weights.
    packed: Packed,
    /// Of each block `[element][group][lane]`, pairs of weights.
    weight: Aligned<u32>,
    /// Pairs of channels.
    groups: usize,
    /// Channels in whole registers.
    depth: usize,
    /// Registers of the largest block, in words.
    width: usize,
    /// A pixel of padding.
    outside: Vec<u8>,
}

impl Winograd {
    /// The weights are `[out_ch][3][3][in_ch]`; `side` is 4 or 6. `None` if it is no such convolution, if the
    /// instructions are not meant for codes of 16 bits, or if the sums might not fit.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 32 bits.
    pub fn new(choice: Choice, p: &Products<i8>, windows: Windows, side: usize) -> Option<Self> {
        let shape = with_pairs!(choice.isa, S => Some(S::shape()), else None)?;
        let depth = p.weight.len() / p.bias.len().max(1);
        let (lo, hi) = if choice.isa.flip() == 0 { (-128, 127) } else { (0, 255) };
        let most = if side == 4 { 1 << 29 } else { 1 << 25 };
        let fits = |w: &[i8]| {
            let [plus, minus] = signed_sums(w);
            (plus * hi + minus * lo).max(-plus * lo - minus * hi) < most
        };
        let applies = windows.kernel == [3; 2]
            && windows.stride == [1; 2]
            && windows.dilation == [1; 2]
            && depth == TAPS * windows.x_shape[3]
            && depth > 0;
        let exact = applies && p.weight.chunks_exact(depth).all(fits);
        exact.then(|| Self::of(choice, shape, p, windows, side))
    }

    fn of(choice: Choice, shape: Shape, p: &Products<i8>, w: Windows, side: usize) -> Self {
        let (c, elements) = (w.x_shape[3], side * side);
        let (groups, depth) = (c.div_ceil(2), c.next_multiple_of(2 * shape.lanes));
        let packed = Packed::new(choice, shape, p, 0..p.bias.len(), 0, false, |_, _| None);
        let lanes = |block: &Block| block.vectors * shape.lanes;
        let all: usize = packed.blocks.iter().map(lanes).sum();
        let mut weight = Aligned::new(all * groups * elements);
        for block in &packed.blocks {
            let lanes = lanes(block);
            let of_block =
                &mut weight[block.lane * groups * elements..][..lanes * groups * elements];
            // A pair of channels at a time: places that are far apart often share a set of the cache.
            let mut pairs = vec![0; elements * lanes];
            for pair in 0..groups {
                pairs.fill(0);
                for (half, at) in
                    [0, 1].iter().flat_map(|half| (0..lanes).map(move |at| (half, at)))
                {
                    let (channel, o) =
                        (2 * pair + half, channel_of(shape.lanes, block.vectors, at));
                    if channel >= c || o >= block.len {
                        continue;
                    }
                    let g = &p.weight[(block.channel + o) * TAPS * c..][..TAPS * c];
                    let g = std::array::from_fn(|tap| g[tap * c + channel].into());
                    let u = if side == 4 { weights(g, rows_of_4) } else { weights(g, rows_of_6) };
                    for (i, row) in u.iter().take(side).enumerate() {
                        for (j, &u) in row.iter().take(side).enumerate() {
                            pairs[(i * side + j) * lanes + at] |= (u as u16 as u32) << (16 * half);
                        }
                    }
                }
                for (i, part) in pairs.chunks_exact(lanes).enumerate() {
                    of_block[(i * groups + pair) * lanes..][..lanes].copy_from_slice(part);
                }
            }
        }
        let width = packed.blocks.iter().map(lanes).max().unwrap_or(0);
        Self { windows: w, side, packed, weight, groups, depth, width, outside: vec![w.zero; c] }
    }

    /// The side with which it probably takes least, if less than a
    /// [`Product`](super::product::Product).
    pub fn pays(choice: Choice, windows: &Windows, out_ch: usize) -> Option<usize> {
        let ([n, _, _, c], [oh, ow]) = (windows.x_shape, windows.out);
        // With codes of 8 bits a product takes half as long.
        let halves = if choice.isa.flip() == 0 { 1 } else { 2 };
        let whole = TAPS * n * oh * ow * c * out_ch / halves;
        // Of a tile an input channel takes as long as 4 products, and an output channel as 13; and a weight
        // takes as long to come as 4 products with it, or 8 shorter ones.
        let cost = |side: usize| {
            let tiles = n * oh.div_ceil(side - 2) * ow.div_ceil(side - 2);
            side * side * (tiles * (c * out_ch + 4 * c + 13 * out_ch) + 4 * halves * c * out_ch)
        };
        let side = if cost(4) < cost(6) { 4 } else { 6 };
        (!choice.without.winograd && cost(side) < whole).then_some(side)
    }

    /// Lines of the output.
    fn lines(&self) -> usize {
        self.windows.lines()
    }

    /// Lines of a tile: all of these take little longer than one.
    fn tile_lines(&self) -> usize {
        self.side - 2
    }

    /// Codes of the output in a line.
    fn line_len(&self) -> usize {
        self.windows.out[1] * self.packed.channels()
    }

    /// Codes between one element of the tiles and the next.
    fn step(&self) -> usize {
        TILES * self.depth + GAP
    }

    fn strips<S: Pairs, const T: usize>(
        &self,
        x: &[u8],
        first: usize,
        y: &mut [u8],
        buffer: &mut Buffer,
    ) {
        let (lines, step, groups) = (y.len() / self.line_len(), self.step(), self.groups);
        assert!(first + lines <= self.lines() && y.len() == lines * self.line_len());
        assert!(buffer.0.len() >= self.buffer());
        let mut tiles = self.tiles(first, lines);
        let all = tiles.clone().count();
        let most = all.div_ceil(all.div_ceil(TILES));
        let codes: *mut i16 = buffer.0.as_mut_ptr().cast();
        let mut strip = [Tile::default(); TILES];
        loop {
            let mut count = 0;
            for (i, (to, tile)) in strip[..most].iter_mut().zip(&mut tiles).enumerate() {
                (*to, count) = (tile, i + 1);
                let (pixels, channels) = (self.pixels(x, &tile), self.windows.x_shape[3]);
                // SAFETY: only machines with the instructions have a `Packed`; the buffer has room for the
                // codes of `most` tiles.
                unsafe {
                    let to = codes.add(i * self.depth);
                    S::run(Transform::<T> { pixels, channels, to, step });
                }
            }
            if count == 0 {
                return;
            }
            for block in &self.packed.blocks {
                macro_rules! block {
                    ($n:literal) => {{
                        let lanes = $n * S::LANES;
                        // SAFETY: the same. The buffer has room for the sums behind the codes; the tiles
                        // are those of `y`.
                        unsafe {
                            let m: *mut u32 = codes.add(T * T * step).cast();
                            for i in 0..T * T {
                                let begin = (block.lane * T * T + i * lanes) * groups;
                                let weight = self.weight[begin..][..lanes * groups].as_ptr();
                                let (x, to) = (codes.add(i * step), m.add(i * lanes));
                                let (step, tiles, to_step) = (self.depth, count, T * T * lanes);
                                S::run(Multiply::<$n> { weight, groups, x, step, tiles, to, to_step });
                            }
                            let (p, tiles, y) = (&self.packed, &strip[..count], y.as_mut_ptr());
                            let line = self.windows.out[1];
                            S::run(Inverse::<T, $n> { p, block, m, tiles, y, line });
                        }
                    }};
                }
                match block.vectors {
                    4 => block!(4),
                    2 => block!(2),
                    _ => block!(1),
                }
            }
        }
    }

    /// All tiles of some lines of windows.
    fn tiles(&self, first: usize, lines: usize) -> impl Iterator<Item = Tile> + Clone {
        let ([oh, ow], side) = (self.windows.out, self.tile_lines());
        let (mut line, mut left) = (first, 0);
        std::iter::from_fn(move || {
            let (image, top) = (line / oh, line % oh);
            let rows = (first + lines - line).min(oh - top).min(side);
            let at = (line - first) * ow + left;
            let tile = Tile { image, top, left, rows, columns: (ow - left).min(side), at };
            left += side;
            if left >= ow {
                (line, left) = (line + rows, 0);
            }
            (rows > 0).then_some(tile)
        })
    }

    /// The pixels of a tile, or those of padding.
    fn pixels<const T: usize>(&self, x: &[u8], tile: &Tile) -> [[*const u8; T]; T] {
        let w = &self.windows;
        let [_, h, width, c] = w.x_shape;
        let mut pixels = [[self.outside.as_ptr(); T]; T];
        for (i, line) in pixels.iter_mut().enumerate() {
            let row = (tile.top + i).wrapping_sub(w.pad[0]);
            for (j, pixel) in line.iter_mut().enumerate() {
                let column = (tile.left + j).wrapping_sub(w.pad[1]);
                if row < h && column < width {
                    *pixel = x[((tile.image * h + row) * width + column) * c..][..c].as_ptr();
                }
            }
        }
        pixels
    }
}

impl Sums for Winograd {
    fn path(&self) -> &'static str {
        "winograd"
    }

    fn macs(&self) -> u64 {
        (self.lines() * self.line_len() * TAPS * self.windows.x_shape[3]) as u64
    }

    fn cost(&self) -> u64 {
        self.macs() / 2
    }

    fn unit(&self) -> usize {
        self.tile_lines() * self.line_len()
    }

    fn size(&self) -> usize {
        4 * self.weight.len() + self.packed.size() + self.outside.len()
    }

    fn buffer(&self) -> usize {
        self.side * self.side * (self.step() / 2 + TILES * self.width)
    }

    fn run(&self, x: &[u8], begin: usize, y: &mut [u8], buffer: &mut Buffer) {
        if y.is_empty() {
            return;
        }
        let first = begin / self.line_len();
        with_pairs!(self.packed.isa(), S => match self.side {
            4 => self.strips::<S, 4>(x, first, y, buffer),
            _ => self.strips::<S, 6>(x, first, y, buffer),
        }, else unreachable!("`new` gives none"));
    }
}

/// `G g` for a column of weights, without the denominators.
fn rows_of_4(g: [i16; 3]) -> [i16; 6] {
    [2 * g[0], g[0] + g[1] + g[2], g[0] - g[1] + g[2], 2 * g[2], 0, 0]
}

/// The same for a side of 6 pixels.
fn rows_of_6([a, b, c]: [i16; 3]) -> [i16; 6] {
    [a, a + b + c, a - b + c, a + 2 * b + 4 * c, a - 2 * b + 4 * c, c]
}

/// `G g Gᵀ`, where `g` has an element for each tap.
fn weights(g: [i16; TAPS], rows: impl Fn([i16; 3]) -> [i16; 6]) -> [[i16; 6]; 6] {
    let columns = [0, 1, 2].map(|j| rows([0, 3, 6].map(|i| g[i + j])));
    std::array::from_fn(|i| rows(columns.map(|column| column[i])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arith::Multiplier;
    use crate::kernels::isa::{Isa, Without};
    use crate::kernels::product::Product;
    use crate::testing::Rng;

    fn choices() -> impl Iterator<Item = Choice> {
        let isas = [Isa::Portable, Isa::Avx2, Isa::Avx512Vnni].into_iter();
        let here = isas.filter(|isa| isa.is_available());
        here.map(|isa| Choice { isa, without: Without::default() })
    }

    fn windows(x_shape: [usize; 4], out: [usize; 2]) -> Windows {
        let [kernel, stride, dilation, pad] = [[3; 2], [1; 2], [1; 2], [1; 2]];
        Windows { x_shape, out, kernel, stride, dilation, pad, zero: 0 }
    }

    /// On codes of which all, or every other one, are `ends`.
    fn check(choice: Choice, p: &Products<i8>, mut windows: Windows, side: usize, ends: [i8; 2]) {
        let flip = choice.isa.flip();
        windows.zero = p.x_zero_point as u8 ^ flip;
        let winograd = Winograd::new(choice, p, windows, side).unwrap();
        let product = Product::new(choice, p, windows, 1);
        let len = windows.x_shape.iter().product();
        let x: Vec<u8> = (0..len).map(|i| ends[i % 2] as u8 ^ flip).collect();
        let [mut y, mut expected] =
            [0, 1].map(|byte| vec![byte; product.lines() * product.line_len()]);
        let [mut a, mut b] = [winograd.buffer(), product.buffer()].map(Buffer::new);
        // From an odd line on, too.
        let (line, first) = (winograd.line_len(), (winograd.lines() / 2) | 1);
        let first = first.min(winograd.lines());
        winograd.run(&x, first * line, &mut y[first * line..], &mut a);
        winograd.run(&x, 0, &mut y[..first * line], &mut a);
        product.run(&x, 0, &mut expected, &mut b);
        assert_eq!(y, expected, "{choice:?}, side {side}, {windows:?}, {ends:?}");
        assert_eq!((winograd.macs(), winograd.lines()), (product.macs(), product.lines()));
    }

    #[test]
    fn products_and_fewer_products_are_equal() {
        let mut rng = Rng(1);
        for (choice, side) in choices().flat_map(|choice| [(choice, 4), (choice, 6)]) {
            for [n, h, w, c, out_ch] in
                [[1, 1, 1, 1, 1], [2, 5, 7, 33, 40], [3, 14, 9, 16, 17], [1, 31, 30, 6, 70]]
            {
                let weights = rng.pick(&[[-128; 4], [127; 4], [-128, 127, 1, -77]]);
                let weight: Vec<i8> = (0..out_ch * TAPS * c).map(|_| rng.pick(&weights)).collect();
                let bias: Vec<i32> =
                    (0..out_ch).map(|_| rng.pick(&[0, 1 << 30, -1 << 30, 77_777])).collect();
                let m = rng.pick(&[1e-5, 3e-8, 0.25]);
                let p = Products {
                    weight: &weight,
                    bias: &bias,
                    multiplier: &vec![Multiplier::from_f32(m).unwrap(); out_ch],
                    x_zero_point: rng.pick(&[-128, 127, 5]),
                    y_zero_point: -3,
                    clamp: (-128, 127),
                };
                for ends in [[-128, -128], [127, 127], [-128, 127], [3, -90]] {
                    check(choice, &p, windows([n, h, w, c], [h, w]), side, ends);
                }
            }
        }
    }

    /// The largest sums that are taken are exact, and the next ones are refused.
    #[test]
    fn sums_fit_or_the_layer_is_refused() {
        for (choice, side) in choices().flat_map(|choice| [(choice, 4), (choice, 6)]) {
            let most: i64 = if side == 4 { 1 << 29 } else { 1 << 25 };
            for (weight, code) in [(-128, -128), (127, -128), (-128, 127), (127, 127)] {
                // Bytes of the arena: unsigned ones are 128 more than codes.
                let byte = |code: i64| if choice.isa.flip() == 0 { code } else { code + 128 };
                let largest = byte(-128).abs().max(byte(127)) * (weight as i64).abs();
                let last = ((most - 1) / (TAPS as i64 * largest)) as usize;
                // With the sign of the smaller end more would fit.
                let sum = |c: usize| {
                    let [lo, hi] =
                        [-128, 127].map(|code| byte(code) * weight as i64 * 9 * c as i64);
                    hi.max(lo).max(-lo.min(hi))
                };
                for c in [last, last + 1, last + 30] {
                    let p = Products {
                        weight: &vec![weight; TAPS * c],
                        bias: &[0],
                        multiplier: &[Multiplier::from_f32(1e-7).unwrap()],
                        x_zero_point: 0,
                        y_zero_point: 0,
                        clamp: (-128, 127),
                    };
                    let windows = Windows { pad: [0; 2], ..windows([1, 4, 5, c], [2, 3]) };
                    let fits = sum(c) < most;
                    assert_eq!(Winograd::new(choice, &p, windows, side).is_some(), fits, "{c}");
                    if fits {
                        check(choice, &p, windows, side, [code; 2]);
                    }
                }
            }
        }
    }

    #[test]
    fn what_it_is_not_for_is_refused() {
        let p = Products {
            weight: &[1; 2 * TAPS * 2],
            bias: &[0; 2],
            multiplier: &[Multiplier::from_f32(0.1).unwrap(); 2],
            x_zero_point: 0,
            y_zero_point: 0,
            clamp: (-128, 127),
        };
        let fit = windows([1, 9, 9, 2], [9, 9]);
        let choice = Choice { isa: Isa::Portable, without: Without::default() };
        assert!(Winograd::new(choice, &p, fit, 4).is_some());
        assert!(Winograd::new(Choice { isa: Isa::AvxVnni, ..choice }, &p, fit, 4).is_none());
        for other in [
            Windows { stride: [2; 2], out: [5, 5], ..fit },
            Windows { dilation: [1, 2], pad: [1, 2], ..fit },
            Windows { kernel: [3, 1], pad: [1, 0], ..fit },
            // In groups.
            Windows { x_shape: [1, 9, 9, 4], ..fit },
        ] {
            assert!(Winograd::new(choice, &p, other, 6).is_none(), "{other:?}");
        }
        let pays = |isa, side, c| {
            let large = windows([1, side, side, c], [side, side]);
            Winograd::pays(Choice { isa, ..choice }, &large, c)
        };
        assert_eq!(pays(Isa::Avx2, 56, 64), Some(6));
        assert_eq!(pays(Isa::Avx512Vnni, 56, 64), Some(6));
        assert_eq!(pays(Isa::Avx2, 6, 64), Some(4));
        assert_eq!([pays(Isa::Avx2, 1, 512), pays(Isa::Avx2, 0, 16)], [None; 2]);
        assert_eq!(pays(Isa::Avx512Vnni, 7, 512), None);
    }
}
