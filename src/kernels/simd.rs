//! What the inner loops need of a machine, and the loops themselves, written once.
//!
//! Codes lie in 32-bit words: 4 of 8 bits, or 2 of 16. [`Simd::dot`] multiplies the codes of each word by
//! as many weights and adds the products to a sum of 32 bits, exactly.

use super::packed::{Block, Limits, Packed, Rounding, Shape};

/// The most rows of windows that are multiplied together.
pub(super) const ROWS: usize = 6;

/// A code as a kernel reads it, from a byte of the arena.
pub(super) trait Element: Copy {
    fn of(byte: u8) -> Self;
}

impl Element for i16 {
    #[inline(always)]
    fn of(byte: u8) -> Self {
        (byte as i8).into()
    }
}

impl Element for i8 {
    #[inline(always)]
    fn of(byte: u8) -> Self {
        byte as i8
    }
}

impl Element for u8 {
    #[inline(always)]
    fn of(byte: u8) -> Self {
        byte
    }
}

/// Registers of a machine. All methods are meant to be inlined into entry points, which are compiled with the
/// machine's features.
///
/// # Safety
/// Whoever calls a method, here or in the traits below, promises that the machine has the instructions of the
/// type, and that the memory is there: a register behind `from` and `to`, a word behind `x`, a register of factors
/// behind `factor`, and in each row `y` that is meant, room for `len` codes, which are at most those of its
/// registers.
pub(super) trait Vector: Copy {
    /// [`LANES`](Self::LANES) numbers of 32 bits.
    type V: Copy;
    /// A code of the input.
    type X: Element;
    const LANES: usize;
    /// The most registers side by side in a product: 1, 2 or 4.
    const VECTORS: usize;
    /// Codes in a word, and registers side by side in a depthwise convolution.
    const GROUP: usize = 4 / size_of::<Self::X>();

    unsafe fn load(from: *const u32) -> Self::V;
    unsafe fn save(v: Self::V, to: *mut u32);
    /// The word at `x` in all lanes.
    unsafe fn splat(x: *const Self::X) -> Self::V;
    /// `acc + Σ x · w` over the codes of each lane.
    unsafe fn dot(acc: Self::V, x: Self::V, w: Self::V) -> Self::V;
    /// `rne(acc · factor)`; see [`Rounding::Single`].
    unsafe fn round(acc: Self::V, factor: *const f32) -> Self::V;
    /// The same; see [`Rounding::Double`].
    unsafe fn round_double(acc: Self::V, factor: *const f64) -> Self::V;
    /// Codes of 4 registers: of one row if `N` is 4, of two if 2, of four if 1; `len` of each.
    unsafe fn store<const N: usize>(q: [Self::V; 4], limits: Limits, y: [*mut u8; 4], len: usize);
    /// `acc + x · w` of numbers of type `f32`, rounded once.
    unsafe fn fused(acc: Self::V, x: Self::V, w: Self::V) -> Self::V;

    /// Entry point: calls the job's method, which is inlined into it.
    unsafe fn run<J: Job<Self>>(job: J);

    /// Of products.
    fn shape() -> Shape {
        Shape { lanes: Self::LANES, group: Self::GROUP, vectors: Self::VECTORS }
    }
}

/// Work that is compiled with a machine's features.
///
/// # Safety
/// Whoever calls it promises that the machine has the instructions of `S`, and what the job itself demands.
pub(super) trait Job<S> {
    unsafe fn run(self);
}

/// What products and depthwise convolutions need of a machine. All methods but the first are entry points.
///
/// # Safety
/// As for [`Vector`]. `interleave` reads `len` codes of each of the first [`GROUP`](Vector::GROUP) rows, and writes
/// whole registers; `widen` writes as many codes as it reads; the others demand what the functions demand that
/// they name.
pub(super) trait Simd: Vector {
    /// The codes of `len` channels in [`GROUP`](Vector::GROUP) rows, a word for each channel.
    unsafe fn interleave(rows: [*const u8; 4], len: usize, to: *mut u32);

    /// See [`tile`].
    unsafe fn tile<const R: usize, const N: usize>(
        p: &Packed,
        block: &Block,
        x: *const Self::X,
        step: usize,
        offsets: &[u32],
        y: *mut u8,
        y_step: usize,
    );
    /// See [`depthwise`].
    unsafe fn depthwise<const T: usize>(
        p: &Packed,
        block: &Block,
        x: *const u32,
        step: usize,
        taps: &[u32],
        y: &mut [u8],
        y_step: usize,
    );
    /// See [`spread`].
    unsafe fn spread(
        rows: [*const u8; 4],
        steps: [usize; 4],
        columns: usize,
        len: usize,
        to: *mut u32,
        to_step: usize,
    );
    /// As codes of the input.
    unsafe fn widen(x: &[u8], to: *mut Self::X);
}

/// The entry points of a [`Simd`], compiled with its features.
macro_rules! entry_points {
    ($(#[$features:meta])?) => {
        $(#[$features])?
        #[inline(never)]
        unsafe fn tile<const R: usize, const N: usize>(
            p: &Packed,
            block: &Block,
            x: *const Self::X,
            step: usize,
            offsets: &[u32],
            y: *mut u8,
            y_step: usize,
        ) {
            // SAFETY: what `tile` demands, `Simd::tile` does.
            unsafe { crate::kernels::simd::tile::<Self, R, N>(p, block, x, step, offsets, y, y_step) }
        }

        $(#[$features])?
        #[inline(never)]
        unsafe fn depthwise<const T: usize>(
            p: &Packed,
            block: &Block,
            x: *const u32,
            step: usize,
            taps: &[u32],
            y: &mut [u8],
            y_step: usize,
        ) {
            // SAFETY: what `depthwise` demands, `Simd::depthwise` does.
            unsafe {
                match Self::GROUP {
                    4 => crate::kernels::simd::depthwise::<Self, T, 4>(p, block, x, step, taps, y, y_step),
                    _ => crate::kernels::simd::depthwise::<Self, T, 2>(p, block, x, step, taps, y, y_step),
                }
            }
        }

        $(#[$features])?
        unsafe fn spread(
            rows: [*const u8; 4],
            steps: [usize; 4],
            columns: usize,
            len: usize,
            to: *mut u32,
            to_step: usize,
        ) {
            // SAFETY: what `spread` demands, `Simd::spread` does.
            unsafe { crate::kernels::simd::spread::<Self>(rows, steps, columns, len, to, to_step) }
        }

        $(#[$features])?
        unsafe fn widen(x: &[u8], to: *mut Self::X) {
            for (i, &x) in x.iter().enumerate() {
                // SAFETY: there is room for as many codes, as `Simd` demands.
                unsafe { *to.add(i) = crate::kernels::simd::Element::of(x) };
            }
        }
    };
}
pub(super) use entry_points;

/// What [`winograd`](super::winograd) needs of a machine: codes of 16 bits, two in a word.
///
/// # Safety
/// As for [`Vector`]. `codes` reads as many bytes as a register has codes.
pub(super) trait Pairs: Vector<X = i16> {
    /// Twice [`LANES`](Vector::LANES) bytes of the arena, as they are: signed or unsigned.
    unsafe fn codes(x: *const u8) -> Self::V;
    /// Sums of 16 bits.
    unsafe fn add_codes(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub_codes(a: Self::V, b: Self::V) -> Self::V;
    /// Sums of 32 bits, which may wrap.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// Low words of products.
    unsafe fn multiply(a: Self::V, b: i32) -> Self::V;
    /// Quotients by `2^n`, rounded down.
    unsafe fn shift(a: Self::V, n: i32) -> Self::V;
    /// Reads a line of the cache soon; it may be anywhere.
    fn fetch(line: *const u32);
}

/// What [`wide`](super::wide) needs of a machine: codes of 16 bits, two in a word.
///
/// # Safety
/// As for [`Vector`]. `extended` reads as many codes as a register has words.
pub(super) trait Words: Vector<X = i16> {
    /// Products and sums of `f64` may be rounded at once.
    const FUSED: bool = true;
    /// A code in each word.
    unsafe fn extended(x: *const i16) -> Self::V;
}

/// Stores the codes of `R` rows from their sums; rows of `y` are `y_step` apart, and those from `rows` on
/// are that before. The usual case is unrolled, so that sums never leave their registers.
///
/// # Safety
/// `block` is one of `p`, and each row of `y` has room for its codes.
#[inline(always)]
pub(super) unsafe fn finish<S: Vector, const R: usize, const N: usize>(
    p: &Packed,
    block: &Block,
    acc: [[S::V; N]; R],
    y: *mut u8,
    y_step: usize,
    rows: usize,
) {
    // SAFETY: there is a factor for each lane; the rows are below `rows`.
    let to = |row: usize| unsafe { y.add(row.min(rows - 1) * y_step) };
    macro_rules! store {
        ($acc:expr, $first:expr, $round:expr) => {{
            let (mut q, mut y) = ([$acc[0][0]; 4], [y; 4]);
            for i in 0..4 {
                let row = if $first + i / N < R { $first + i / N } else { R - 1 };
                q[i] = $round($acc[row][i % N], block.lane + i % N * S::LANES);
                y[i / N] = to(row);
            }
            S::store::<N>(q, p.limits, y, block.len);
        }};
    }
    // SAFETY: there are factors for the lanes of the block, and room in its rows, as this function demands.
    unsafe {
        if p.rounding == Rounding::Single {
            let factor = p.single.as_ptr();
            macro_rules! unrolled {
                ($($i:literal),*) => {$(
                    if $i * (4 / N) < R {
                        store!(acc, $i * (4 / N), |sum, lane| S::round(sum, factor.add(lane)));
                    }
                )*};
            }
            unrolled!(0, 1, 2, 3, 4, 5);
            return;
        }
        let mut sums = [[acc[0][0]; N]; R];
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = acc;
            }
        }
        for first in (0..R).step_by(4 / N) {
            if p.rounding == Rounding::Double {
                let factor = p.double.as_ptr();
                store!(sums, first, |sum, lane| S::round_double(sum, factor.add(lane)));
                continue;
            }
            for i in 0..4 {
                let row = (first + i / N).min(R - 1);
                one_by_one::<S>(p, block, sums[row][i % N], i % N, to(row));
            }
        }
    }
}

/// The codes of register `vector` of a block.
///
/// # Safety
/// As for [`finish`].
#[cold]
unsafe fn one_by_one<S: Vector>(p: &Packed, block: &Block, sum: S::V, vector: usize, to: *mut u8) {
    let mut sums = [0_u32; 16];
    // SAFETY: a register has at most 16 lanes; `code` gives places below the block's length.
    unsafe {
        S::save(sum, sums.as_mut_ptr());
        for (lane, &sum) in sums.iter().enumerate().take(S::LANES) {
            let at = vector * S::LANES + lane;
            if let Some((place, code)) = p.code(S::LANES, block, at, sum as i32) {
                *to.add(place) = code;
            }
        }
    }
}

/// Adds to `R` by `N` sums the products of the groups at `offsets` from `x + r · step` with their weights.
///
/// # Safety
/// All codes and weights are there.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Vector, const R: usize, const N: usize>(
    acc: &mut [[S::V; N]; R],
    mut weight: *const u32,
    x: *const S::X,
    step: usize,
    offsets: impl Iterator<Item = usize>,
) {
    for offset in offsets {
        // SAFETY: all codes and weights are there, as this function demands.
        unsafe {
            let x = x.add(offset);
            let mut w = [acc[0][0]; N];
            for (v, w) in w.iter_mut().enumerate() {
                *w = S::load(weight.add(v * S::LANES));
            }
            weight = weight.add(N * S::LANES);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(x.add(r * step));
                for (acc, &w) in acc.iter_mut().zip(&w) {
                    *acc = S::dot(*acc, x, w);
                }
            }
        }
    }
}

/// `R` windows and one block of `N` registers. Window `r` has its codes at `x + r · step`, the groups at
/// `offsets`.
///
/// # Safety
/// `block` is one of `p`, `offsets` has as many elements as `p` groups, all codes are there, and `y` has
/// room for a block in each of `R` rows that are `y_step` apart.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const R: usize, const N: usize>(
    p: &Packed,
    block: &Block,
    x: *const S::X,
    step: usize,
    offsets: &[u32],
    y: *mut u8,
    y_step: usize,
) {
    // SAFETY: the block, its windows and its rows are there, as this function demands.
    unsafe {
        let mut acc = [[S::load(p.bias.as_ptr().cast()); N]; R];
        for v in 0..N {
            let bias = S::load(p.bias.as_ptr().add(block.lane + v * S::LANES).cast());
            for acc in &mut acc {
                acc[v] = bias;
            }
        }
        let weight = p.weight.as_ptr().add(block.weight);
        let offsets = offsets.iter().map(|&offset| offset as usize);
        accumulate::<S, R, N>(&mut acc, weight, x, step, offsets);
        finish::<S, R, N>(p, block, acc, y, y_step, R);
    }
}

/// One row of a depthwise convolution, one block of `N` registers: `y[pixel] = Σ x[pixel · step + taps[t]] ·
/// w[t]`, where each word of `x` holds a channel's codes in several rows. `T` is the number of taps, or 0;
/// `y` holds all pixels, `y_step` apart.
///
/// # Safety
/// `block` is one of `p`, `taps` has as many elements as `p` groups, all words are there, and `y` has room for
/// a block from each pixel on.
#[inline(always)]
pub(super) unsafe fn depthwise<S: Simd, const T: usize, const N: usize>(
    p: &Packed,
    block: &Block,
    x: *const u32,
    step: usize,
    taps: &[u32],
    y: &mut [u8],
    y_step: usize,
) {
    // SAFETY: the block, its words and its pixels are there, as this function demands; the number of pixels follows from the room.
    unsafe {
        let pixels = (y.len() + y_step - block.len) / y_step;
        let y = y.as_mut_ptr();
        let mut bias = [S::load(p.bias.as_ptr().cast()); N];
        for (v, bias) in bias.iter_mut().enumerate() {
            *bias = S::load(p.bias.as_ptr().add(block.lane + v * S::LANES).cast());
        }
        let weight = p.weight.as_ptr().add(block.weight);
        let mut w = [[bias[0]; N]; T];
        for (t, w) in w.iter_mut().enumerate() {
            for (v, w) in w.iter_mut().enumerate() {
                *w = S::load(weight.add((t * N + v) * S::LANES));
            }
        }
        let mut pixel = 0;
        macro_rules! pixels {
            ($count:expr) => {{
                let mut acc = [bias; $count];
                for (i, acc) in acc.iter_mut().enumerate() {
                    let at = if pixel + i < pixels { pixel + i } else { pixels - 1 };
                    let x = x.add(at * step);
                    for t in 0..if T > 0 { T } else { taps.len() } {
                        let x = x.add(*taps.get_unchecked(t) as usize);
                        for (v, acc) in acc.iter_mut().enumerate() {
                            let x = S::load(x.add(v * S::LANES));
                            let w = match T {
                                0 => S::load(weight.add((t * N + v) * S::LANES)),
                                _ => w[t][v],
                            };
                            *acc = S::dot(*acc, x, w);
                        }
                    }
                }
                let y = y.add(pixel * y_step);
                finish::<S, $count, N>(p, block, acc, y, y_step, pixels - pixel);
                pixel += $count;
            }};
        }
        while pixel < pixels {
            match N {
                4 => pixels!(1),
                _ => pixels!(2),
            }
        }
    }
}

/// [`Simd::interleave`] for `columns` pixels, whose codes are `steps` apart in each row, and their
/// words `to_step`.
///
/// # Safety
/// Each of the first [`Simd::GROUP`] rows holds `len` codes of all pixels, and there is room for whole
/// registers at `to`.
#[inline(always)]
pub(super) unsafe fn spread<S: Simd>(
    rows: [*const u8; 4],
    steps: [usize; 4],
    columns: usize,
    len: usize,
    to: *mut u32,
    to_step: usize,
) {
    for column in 0..columns {
        // SAFETY: all codes and the room for words are there, as this function demands.
        unsafe {
            let mut at = rows;
            for (row, step) in at.iter_mut().zip(steps).take(S::GROUP) {
                *row = row.add(column * step);
            }
            S::interleave(at, len, to.add(column * to_step));
        }
    }
}
