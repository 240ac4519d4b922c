//! Convolutions of 3×3 windows with fewer products: tiles of 2×2 windows at a time, by F(2×2, 3×3) of Lavin
//! and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), in integers.
//!
//! For a tile of 4×4 pixels `d` and weights `g` of a channel, the sums of the four windows are
//!
//! `Y = Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A`, with `Σ` over the channels, `⊙` element by element, and
//!
//! ```text
//!      1  0 -1  0         1    0    0          1  1  1  0
//! Bᵀ = 0  1  1  0    G =  1/2  1/2  1/2   Aᵀ = 0  1 -1 -1
//!      0 -1  1  0         1/2 -1/2  1/2
//!      0  1  0 -1         0    0    1
//! ```
//!
//! These are 16 products instead of 36. Codes are below 128 in size, so those of `Bᵀ d B` are at most 512.
//! With `2G` for `G`, weights are integers of at most `9 · 128`, and the result is `4 Y`. Both factors fit 16
//! bits. All sums may wrap, as the exact result fits: a layer is taken only if `4 Y` is below `2^31` for
//! all codes. Then `4 Y / 4` is the sum of the products itself.

use super::isa::{Choice, Isa};
use super::packed::{Aligned, Block, Packed, Shape, channel_of};
use super::product::{Buffer, Windows};
use super::simd::{ROWS, Simd, accumulate, finish};
use super::with_simd;
use crate::arith::Products;

/// Elements of a tile.
const TILE: usize = 16;
/// Weights of a window.
const TAPS: usize = 9;
/// The most tiles that are worked on at a time. Their products are 24 KiB in 8 lanes.
const TILES: usize = 24;
/// Codes between one element and the next beyond those of the tiles. Without, all elements of a tile might
/// fall into the same set of the cache.
const GAP: usize = 32;
/// The most codes of a register.
const WIDEST: usize = 16;

/// What the transforms need of a machine whose codes have 16 bits. The last method is an entry point, as
/// in [`Simd`].
///
/// # Safety
/// As for [`Simd`].
pub(super) trait Pairs: Simd<X = i16> {
    /// Twice [`LANES`](Simd::LANES) codes.
    unsafe fn codes(x: *const u8) -> Self::V;
    /// Sums of 16 bits.
    unsafe fn add_codes(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub_codes(a: Self::V, b: Self::V) -> Self::V;
    /// Sums of 32 bits, which may wrap.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// Quotients by 4, rounded down.
    unsafe fn quarter(a: Self::V) -> Self::V;
    /// Reads a line of the cache soon; it may be anywhere.
    fn fetch(line: *const u32);

    /// Entry point: calls the job's method, which is inlined into it.
    unsafe fn run<J: Job<Self>>(job: J);
}

/// One of the three parts of the work.
///
/// # Safety
/// As for [`Simd`]; and as the job says.
pub(super) trait Job<S> {
    unsafe fn run(self);
}

/// `Bᵀ d`.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn differences<S: Pairs>(d: [S::V; 4]) -> [S::V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            S::sub_codes(d[0], d[2]),
            S::add_codes(d[1], d[2]),
            S::sub_codes(d[2], d[1]),
            S::sub_codes(d[1], d[3]),
        ]
    }
}

/// `Aᵀ m`.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn both<S: Pairs>(m: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: the caller's promise.
    unsafe { [S::add(m[0], S::add(m[1], m[2])), S::sub(S::sub(m[1], m[2]), m[3])] }
}

/// `Bᵀ d B` of a tile: element `i` of all channels at `to + i · step`. Each of the pixels has as many
/// channels, and there is room for whole registers of them.
struct Transform {
    pixels: [*const u8; TILE],
    channels: usize,
    to: *mut i16,
    step: usize,
}

impl<S: Pairs> Job<S> for Transform {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { pixels, channels, to, step } = self;
        let width = 2 * S::LANES;
        let mut copies = [[0_u8; WIDEST]; TILE];
        for channel in (0..channels).step_by(width) {
            // SAFETY: the caller's promise; the last codes are copied to where there are more behind.
            unsafe {
                let mut at = pixels;
                for at in &mut at {
                    *at = at.add(channel);
                }
                if channel + width > channels {
                    for (at, copy) in at.iter_mut().zip(&mut copies) {
                        at.copy_to_nonoverlapping(copy.as_mut_ptr(), channels - channel);
                        *at = copy.as_ptr();
                    }
                }
                let mut columns = [[S::codes(at[0]); 4]; 4];
                for (j, column) in columns.iter_mut().enumerate() {
                    for (i, codes) in column.iter_mut().enumerate() {
                        *codes = S::codes(at[4 * i + j]);
                    }
                    *column = differences::<S>(*column);
                }
                for i in 0..4 {
                    let mut row = columns[0];
                    for (codes, column) in row.iter_mut().zip(columns) {
                        *codes = column[i];
                    }
                    for (j, v) in differences::<S>(row).into_iter().enumerate() {
                        S::save(v, to.add((4 * i + j) * step + channel).cast());
                    }
                }
            }
        }
    }
}

/// The products of one element of all tiles and a block of `N` registers, summed over the channels. The
/// elements of each tile lie side by side in `to`. There are `groups` words of weights for each lane, and of
/// codes for each tile, which are `step` codes apart; there is room for the results.
struct Multiply<const N: usize> {
    weight: *const u32,
    groups: usize,
    x: *const i16,
    step: usize,
    tiles: usize,
    to: *mut u32,
}

impl<S: Pairs, const N: usize> Job<S> for Multiply<N> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { weight, groups, x, step, tiles, to } = self;
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
                                S::fetch(next.wrapping_add(g * N * S::LANES));
                                g * S::GROUP
                            });
                            accumulate::<S, $rows, N>(&mut acc, weight, x.add(tile * step), step, offsets);
                            for (r, acc) in acc.into_iter().enumerate() {
                                for (v, acc) in acc.into_iter().enumerate() {
                                    S::save(acc, to.add(((tile + r) * TILE * N + v) * S::LANES));
                                }
                            }
                        })*
                        _ => unreachable!("at most {ROWS} rows"),
                    }
                };
            }
            // SAFETY: the caller's promise; `tile + rows` are at most all tiles.
            unsafe { rows!(1, 2, 3, 4, 5, 6) };
            tile += rows;
            parts -= 1;
        }
    }
}

/// `Aᵀ m A / 4` of each tile for a block of `N` registers, and the codes of that. `block` is one of `p`; `m`
/// holds all elements of all tiles, and `y` their windows, of which `line` are in a line.
struct Inverse<'a, const N: usize> {
    p: &'a Packed,
    block: &'a Block,
    m: *const u32,
    tiles: &'a [Tile],
    y: *mut u8,
    line: usize,
}

impl<S: Pairs, const N: usize> Job<S> for Inverse<'_, N> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { p, block, m, tiles, y, line } = self;
        // SAFETY: the caller's promise.
        unsafe {
            for (t, tile) in tiles.iter().enumerate() {
                let m = m.add(t * TILE * N * S::LANES);
                let mut sums = [[[S::load(m); N]; 2]; 2];
                for v in 0..N {
                    let bias = S::load(p.bias.as_ptr().add(block.lane + v * S::LANES).cast());
                    let mut columns = [[bias; 2]; 4];
                    for (j, column) in columns.iter_mut().enumerate() {
                        let mut elements = [bias; 4];
                        for (i, element) in elements.iter_mut().enumerate() {
                            *element = S::load(m.add(((4 * i + j) * N + v) * S::LANES));
                        }
                        *column = both::<S>(elements);
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let mut row = [bias; 4];
                        for (sum, column) in row.iter_mut().zip(columns) {
                            *sum = column[i];
                        }
                        let [left, right] = both::<S>(row);
                        sums[0][v] = S::add(S::quarter(left), bias);
                        sums[1][v] = S::add(S::quarter(right), bias);
                    }
                }
                if tile.columns == 1 {
                    // Both are stored in the same place.
                    (sums[0][1], sums[1][1]) = (sums[0][0], sums[1][0]);
                }
                let step = p.channels();
                let y = y.add(tile.at * step + block.channel);
                finish::<S, 2, N>(p, block, sums[0], y, step, tile.columns);
                if tile.rows == 2 {
                    finish::<S, 2, N>(p, block, sums[1], y.add(line * step), step, tile.columns);
                }
            }
        }
    }
}

/// Up to 2×2 windows.
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
    /// The weights are `[out_ch][3][3][in_ch]`. `None` if it is no such convolution, if the instructions
    /// are not meant for codes of 16 bits, or if the sums might not fit.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 32 bits.
    pub fn new(choice: Choice, p: &Products<i8>, windows: Windows) -> Option<Self> {
        let shape = with_simd!(choice.isa, S => S::shape());
        let depth = p.weight.len() / p.bias.len().max(1);
        let fits = |w: &[i8]| w.iter().map(|&w| w.unsigned_abs() as u64).sum::<u64>() < 1 << 22;
        let applies = windows.kernel == [3; 2]
            && windows.stride == [1; 2]
            && windows.dilation == [1; 2]
            && depth == TAPS * windows.x_shape[3]
            && depth > 0;
        let wanted = shape.group == 2 && !choice.without.winograd;
        let exact = wanted && applies && p.weight.chunks_exact(depth).all(fits);
        exact.then(|| Self::of(choice, shape, p, windows))
    }

    fn of(choice: Choice, shape: Shape, p: &Products<i8>, w: Windows) -> Self {
        let c = w.x_shape[3];
        let (groups, depth) = (c.div_ceil(2), c.next_multiple_of(2 * shape.lanes));
        let packed = Packed::new(choice, shape, p, 0..p.bias.len(), 0, false, |_, _| None);
        let mut weight = Aligned::new(0);
        let width = packed.blocks.iter().map(|b| b.vectors * shape.lanes).max().unwrap_or(0);
        if let Some(last) = packed.blocks.last() {
            weight = Aligned::new((last.lane + last.vectors * shape.lanes) * groups * TILE);
        }
        for block in &packed.blocks {
            let lanes = block.vectors * shape.lanes;
            let of_block = &mut weight[block.lane * groups * TILE..][..lanes * groups * TILE];
            for at in 0..lanes {
                let o = channel_of(shape.lanes, block.vectors, at);
                if o >= block.len {
                    continue;
                }
                let g = &p.weight[(block.channel + o) * TAPS * c..][..TAPS * c];
                for channel in 0..c {
                    let u = weights(|tap| g[tap * c + channel].into());
                    for (i, u) in u.into_iter().enumerate() {
                        let word = &mut of_block[(i * groups + channel / 2) * lanes + at];
                        *word |= (u as u16 as u32) << (channel % 2 * 16);
                    }
                }
            }
        }
        Self { windows: w, packed, weight, groups, depth, width, outside: vec![w.zero; c] }
    }

    /// Whether it probably takes less time than a [`Product`](super::product::Product): of a tile, an input
    /// channel takes as long as 4 products, and an output channel as 13.
    pub fn pays(windows: &Windows, out_ch: usize) -> bool {
        let ([n, _, _, c], [oh, ow]) = (windows.x_shape, windows.out);
        let tiles = n * oh.div_ceil(2) * ow.div_ceil(2);
        let products = c * out_ch + 4 * c + 13 * out_ch;
        tiles >= 4 && TILE * tiles * products < TAPS * n * oh * ow * c * out_ch
    }

    /// Lines of the output.
    pub fn lines(&self) -> usize {
        self.windows.lines()
    }

    /// Codes of the output in a line. Two lines take little longer than one.
    pub fn line_len(&self) -> usize {
        self.windows.out[1] * self.packed.channels()
    }

    /// Products that are summed, without the transforms.
    pub fn macs(&self) -> u64 {
        (self.lines() * self.line_len() * TAPS * self.windows.x_shape[3]) as u64
    }

    /// Bytes of the constants.
    pub fn size(&self) -> usize {
        4 * self.weight.len() + self.packed.size() + self.outside.len()
    }

    /// Words that a [`Buffer`] needs.
    pub fn buffer(&self) -> usize {
        TILE * (self.step() / 2) + TILES * TILE * self.width
    }

    /// Codes between one element of the tiles and the next.
    fn step(&self) -> usize {
        TILES * self.depth + GAP
    }

    /// The lines `first..` of the output, as many as `y` holds.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn run(&self, x: &[u8], first: usize, y: &mut [u8], buffer: &mut Buffer) {
        match self.packed.isa() {
            _ if y.is_empty() => {}
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => self.strips::<super::avx2::Avx2>(x, first, y, buffer),
            _ => self.strips::<super::scalar::Scalar>(x, first, y, buffer),
        }
    }

    fn strips<S: Pairs>(&self, x: &[u8], first: usize, y: &mut [u8], buffer: &mut Buffer) {
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
                    S::run(Transform { pixels, channels, to, step });
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
                            let m: *mut u32 = codes.add(TILE * step).cast();
                            for i in 0..TILE {
                                let begin = (block.lane * TILE + i * lanes) * groups;
                                let weight = self.weight[begin..][..lanes * groups].as_ptr();
                                let (x, to) = (codes.add(i * step), m.add(i * lanes));
                                let (step, tiles) = (self.depth, count);
                                S::run(Multiply::<$n> { weight, groups, x, step, tiles, to });
                            }
                            let (p, tiles, y) = (&self.packed, &strip[..count], y.as_mut_ptr());
                            S::run(Inverse::<$n> { p, block, m, tiles, y, line: self.windows.out[1] });
                        }
                    }};
                }
                match block.vectors {
                    2 => block!(2),
                    _ => block!(1),
                }
            }
        }
    }

    /// All tiles of some lines of windows.
    fn tiles(&self, first: usize, lines: usize) -> impl Iterator<Item = Tile> + Clone {
        let [oh, ow] = self.windows.out;
        let (mut line, mut left) = (first, 0);
        std::iter::from_fn(move || {
            let (image, top) = (line / oh, line % oh);
            let rows = (first + lines - line).min(oh - top).min(2);
            let at = (line - first) * ow + left;
            let tile = Tile { image, top, left, rows, columns: (ow - left).min(2), at };
            left += 2;
            if left >= ow {
                (line, left) = (line + rows, 0);
            }
            (rows > 0).then_some(tile)
        })
    }

    /// The pixels of a tile, or those of padding.
    fn pixels(&self, x: &[u8], tile: &Tile) -> [*const u8; TILE] {
        let w = &self.windows;
        let [_, h, width, c] = w.x_shape;
        std::array::from_fn(|i| {
            let row = (tile.top + i / 4).wrapping_sub(w.pad[0]);
            let column = (tile.left + i % 4).wrapping_sub(w.pad[1]);
            match row < h && column < width {
                true => x[((tile.image * h + row) * width + column) * c..][..c].as_ptr(),
                false => self.outside.as_ptr(),
            }
        })
    }
}

/// `2G g (2G)ᵀ`, where `g` has an element for each tap.
fn weights(g: impl Fn(usize) -> i16) -> [i16; TILE] {
    let one = |g: [i16; 3]| [2 * g[0], g[0] + g[1] + g[2], g[0] - g[1] + g[2], 2 * g[2]];
    let columns = [0, 1, 2].map(|j| one([0, 3, 6].map(|i| g(i + j))));
    let rows = [0, 1, 2, 3].map(|i| one(columns.map(|column| column[i])));
    std::array::from_fn(|i| rows[i / 4][i % 4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arith::Multiplier;
    use crate::kernels::isa::Without;
    use crate::kernels::product::Product;
    use crate::ops::testing::Rng;

    const ISAS: [Isa; 2] = [Isa::Portable, Isa::Avx2];

    fn choice(isa: Isa) -> Choice {
        Choice { isa, without: Without::default() }
    }

    fn windows(x_shape: [usize; 4], out: [usize; 2], zero: u8) -> Windows {
        let [kernel, stride, dilation, pad] = [[3; 2], [1; 2], [1; 2], [1; 2]];
        Windows { x_shape, out, kernel, stride, dilation, pad, zero }
    }

    /// On codes of which all, or every other one, are `ends`.
    fn check(isa: Isa, p: &Products<i8>, windows: Windows, ends: [i8; 2]) {
        let winograd = Winograd::new(choice(isa), p, windows).unwrap();
        let product = Product::new(choice(isa), p, windows, 1);
        let len = windows.x_shape.iter().product();
        let x: Vec<u8> = (0..len).map(|i| ends[i % 2] as u8).collect();
        let [mut y, mut expected] =
            [0, 1].map(|byte| vec![byte; product.lines() * product.line_len()]);
        let [mut a, mut b] = [winograd.buffer(), product.buffer()].map(Buffer::new);
        // From an odd line on, too.
        let (line, first) = (winograd.line_len(), (winograd.lines() / 2) | 1);
        let first = first.min(winograd.lines());
        winograd.run(&x, first, &mut y[first * line..], &mut a);
        winograd.run(&x, 0, &mut y[..first * line], &mut a);
        product.run(&x, 0, &mut expected, &mut b);
        assert_eq!(y, expected, "{isa}, {windows:?}, {ends:?}");
        assert_eq!((winograd.macs(), winograd.lines()), (product.macs(), product.lines()));
    }

    #[test]
    fn products_and_fewer_products_are_equal() {
        let mut rng = Rng(1);
        for isa in ISAS.into_iter().filter(|isa| isa.is_available()) {
            for [n, h, w, c, out_ch] in
                [[1, 1, 1, 1, 1], [2, 5, 7, 33, 40], [3, 14, 9, 16, 17], [1, 31, 30, 6, 70]]
            {
                let weight: Vec<i8> = (0..out_ch * TAPS * c)
                    .map(|_| rng.pick(&[-128, 127, -128, 127, 1, 0, -77]))
                    .collect();
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
                    check(isa, &p, windows([n, h, w, c], [h, w], p.x_zero_point as u8), ends);
                }
            }
        }
    }

    #[test]
    fn sums_fit_or_the_layer_is_refused() {
        // Four times `9 · 128² · c` is below 2^31 up to c = 3640.
        for (c, fits) in [(3640, true), (3641, false)] {
            for weight in [-128, 127] {
                let p = Products {
                    weight: &vec![weight; TAPS * c],
                    bias: &[0],
                    multiplier: &[Multiplier::from_f32(1e-7).unwrap()],
                    x_zero_point: 0,
                    y_zero_point: 0,
                    clamp: (-128, 127),
                };
                let windows = Windows { pad: [0; 2], ..windows([1, 4, 5, c], [2, 3], 0) };
                for isa in ISAS.into_iter().filter(|isa| isa.is_available()) {
                    assert_eq!(
                        Winograd::new(choice(isa), &p, windows).is_some(),
                        fits || weight == 127
                    );
                    if fits {
                        check(isa, &p, windows, [-128, -128]);
                        check(isa, &p, windows, [127, 127]);
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
        let fit = windows([1, 9, 9, 2], [9, 9], 0);
        assert!(Winograd::new(choice(Isa::Portable), &p, fit).is_some());
        for isa in [Isa::AvxVnni, Isa::Avx512Vnni].into_iter().filter(|isa| isa.is_available()) {
            assert!(Winograd::new(choice(isa), &p, fit).is_none());
        }
        for other in [
            Windows { stride: [2; 2], out: [5, 5], ..fit },
            Windows { dilation: [1, 2], pad: [1, 2], ..fit },
            Windows { kernel: [3, 1], pad: [1, 0], ..fit },
            // In groups.
            Windows { x_shape: [1, 9, 9, 4], ..fit },
        ] {
            assert!(Winograd::new(choice(Isa::Portable), &p, other).is_none(), "{other:?}");
        }
        let large = |side, c| windows([1, side, side, c], [side, side], 0);
        assert!(Winograd::pays(&large(8, 16), 16) && Winograd::pays(&large(7, 32), 32));
        assert!(!Winograd::pays(&large(7, 8), 8) && !Winograd::pays(&large(1, 512), 512));
        assert!(!Winograd::pays(&large(0, 16), 16));
    }
}
