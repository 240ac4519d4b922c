//! Sums of products of reals, with the same bits on every machine.
//!
//! A result begins with what stands in its place, and each term is added to it by one fused multiply-add, in the
//! order of the terms. Registers hold results that lie side by side, never terms of one result; so neither their
//! width, nor the number of threads, nor how the results are divided changes a bit. (NaN excepted, of which there
//! are many.)

use super::isa::Isa;
use super::packed::Aligned;
use super::simd::{Job, Vector};
use super::with_simd;

/// Terms that are added before the sums go back to memory: their inputs stay in the cache.
const TERMS: usize = if cfg!(miri) { 4 } else { 512 };
/// Registers side by side.
const SIDE: usize = 3;
/// The most results side by side.
const WIDEST: usize = SIDE * 16;
/// The most rows that are worked on at a time.
const ROWS: usize = 8;

/// Results in a line: the `i`-th meets element `x + i · x_step` of the input and is element `y + i · y_step` of the
/// output.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Line {
    pub x: usize,
    pub y: usize,
    pub len: usize,
}

/// For each row `r`, and each `i` of each line,
/// `y[line.y + i · y_step + r · y_row] += Σ_t w[r · w_row + t · w_term] · x[line.x + i · x_step + offsets[t]]`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct FloatSums<'a> {
    pub rows: usize,
    pub w: &'a [f32],
    pub w_row: usize,
    pub w_term: usize,
    pub x: &'a [f32],
    pub x_step: usize,
    pub offsets: &'a [usize],
    pub lines: &'a [Line],
    pub y_row: usize,
    pub y_step: usize,
}

impl FloatSums<'_> {
    /// Adds all terms to `y`.
    ///
    /// # Panics
    /// If an element lies outside of its slice.
    pub fn add_to(&self, y: &mut [f32]) {
        self.add_with(Isa::detect(), y);
    }

    /// The same with these instructions.
    ///
    /// # Panics
    /// If an element lies outside of its slice, or the machine has no `isa`.
    pub(crate) fn add_with(&self, isa: Isa, y: &mut [f32]) {
        let (Some(&furthest), Some(row)) = (self.offsets.iter().max(), self.rows.checked_sub(1))
        else {
            return;
        };
        let within = |start: usize, steps: [(usize, usize); 2], len: usize| {
            let last =
                steps.iter().try_fold(start, |at, &(n, step)| at.checked_add(n.checked_mul(step)?));
            last.is_some_and(|last| last < len)
        };
        let fits = |line: &Line| match line.len.checked_sub(1) {
            Some(i) => {
                within(line.x, [(i, self.x_step), (1, furthest)], self.x.len())
                    && within(line.y, [(i, self.y_step), (row, self.y_row)], y.len())
            }
            None => true,
        };
        assert!(within(
            0,
            [(row, self.w_row), (self.offsets.len() - 1, self.w_term)],
            self.w.len()
        ));
        assert!(self.lines.iter().all(fits) && isa.is_available());
        let mut panel = Aligned::new(self.offsets.len().min(TERMS) * SIDE * isa.lanes());
        let steps: Vec<usize> = (0..panel.len()).step_by(SIDE * isa.lanes()).collect();
        // SAFETY: the machine has the instructions, and all elements are inside their slices.
        with_simd!(isa, S => unsafe {
            S::run(Add { sums: self, panel: &mut panel, steps: &steps, y: y.as_mut_ptr() });
        });
    }
}

/// The job: `steps` are the offsets of the terms in `panel`, which has room for [`TERMS`] of them.
struct Add<'a> {
    sums: &'a FloatSums<'a>,
    panel: &'a mut [f32],
    steps: &'a [usize],
    y: *mut f32,
}

/// Where results that lie side by side in registers come from: the lanes from `lane` on are `len` of a line.
#[derive(Clone, Copy, Default)]
struct Run {
    lane: usize,
    x: usize,
    y: usize,
    len: usize,
}

impl<S: Vector> Job<S> for Add<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let s = self.sums;
        let width = SIDE * S::LANES;
        let mut runs = [Run::default(); WIDEST];
        let mut apart = [[0.0; WIDEST]; ROWS];
        let (mut line, mut done) = (0, 0);
        while line < s.lines.len() {
            // The next results, until the registers are full.
            let (mut count, mut lanes) = (0, 0);
            while line < s.lines.len() && lanes < width {
                let Line { x, y, len } = s.lines[line];
                let part = (len - done).min(width - lanes);
                if part > 0 {
                    let (x, y) = (x + done * s.x_step, y + done * s.y_step);
                    runs[count] = Run { lane: lanes, x, y, len: part };
                    (count, lanes) = (count + 1, lanes + part);
                }
                done += part;
                if done == len {
                    (line, done) = (line + 1, 0);
                }
            }
            if lanes == 0 {
                return;
            }
            let runs = &runs[..count];
            let last = runs[count - 1];
            let whole = lanes.is_multiple_of(S::LANES);
            let y_whole = whole && s.y_step == 1 && last.y + last.len - runs[0].y == lanes;
            let direct = whole && s.x_step == 1 && count == 1 && s.rows < ROWS;
            for first in (0..s.offsets.len()).step_by(TERMS) {
                let mut offsets = &s.offsets[first..s.offsets.len().min(first + TERMS)];
                // SAFETY: the furthest elements of `x`, `w` and `y` are inside their slices.
                unsafe {
                    let mut x = s.x.as_ptr().add(runs[0].x);
                    if !direct {
                        pack(s, runs, offsets, width, self.panel.as_mut_ptr());
                        offsets = &self.steps[..offsets.len()];
                        x = self.panel.as_ptr();
                    }
                    let w = s.w.as_ptr().add(first * s.w_term);
                    let apart = (!y_whole).then_some(&mut apart);
                    let part = Part { s, w, x, offsets, runs, y: self.y, apart };
                    match lanes.div_ceil(S::LANES) {
                        1 => part.rows::<S, 1>(),
                        2 => part.rows::<S, 2>(),
                        _ => part.rows::<S, SIDE>(),
                    }
                }
            }
        }
    }
}

/// The inputs of `runs` for each term, `width` apart.
///
/// # Safety
/// They are in `s.x`, and there is room for them.
#[inline(always)]
unsafe fn pack(s: &FloatSums, runs: &[Run], offsets: &[usize], width: usize, mut to: *mut f32) {
    for &offset in offsets {
        for run in runs {
            // SAFETY: the inputs of each run are there, and room for a panel, as this function demands.
            unsafe {
                let (x, to) = (s.x.as_ptr().add(run.x + offset), to.add(run.lane));
                match s.x_step {
                    1 if run.len == width => to.copy_from_nonoverlapping(x, width),
                    1 => (0..run.len).for_each(|i| *to.add(i) = *x.add(i)),
                    step => (0..run.len).for_each(|i| *to.add(i) = *x.add(i * step)),
                }
            }
        }
        // SAFETY: the same; behind the last one it is not read.
        to = to.wrapping_add(width);
    }
}

/// Some terms of the results in `runs`, from `w`, and from `x` as the offsets say. The sums are kept `apart` where
/// they do not lie side by side in `y`.
struct Part<'a> {
    s: &'a FloatSums<'a>,
    w: *const f32,
    x: *const f32,
    offsets: &'a [usize],
    runs: &'a [Run],
    y: *mut f32,
    apart: Option<&'a mut [[f32; WIDEST]; ROWS]>,
}

impl Part<'_> {
    /// All rows, of `N` registers.
    ///
    /// # Safety
    /// The machine has the instructions, and all elements are there.
    #[inline(always)]
    unsafe fn rows<S: Vector, const N: usize>(mut self) {
        let mut first = 0;
        while first < self.s.rows {
            // SAFETY: what `tile` demands, this function does.
            unsafe {
                // More rows would not fit into the registers of machines with few of them.
                first += match (self.s.rows - first, S::VECTORS) {
                    (1, _) => self.tile::<S, 1, N>(first),
                    (_, 4) => self.tile::<S, ROWS, N>(first),
                    _ => self.tile::<S, { ROWS / 2 }, N>(first),
                };
            }
        }
    }

    /// `R` rows, from `first` on. Returns their number.
    ///
    /// # Safety
    /// As for [`rows`](Self::rows).
    #[inline(always)]
    unsafe fn tile<S: Vector, const R: usize, const N: usize>(&mut self, first: usize) -> usize {
        let s = self.s;
        let (mut y, mut w, mut to) = ([self.y; R], [self.w; R], [self.y; R]);
        // SAFETY: the machine has the instructions, and all elements are there, as `rows` demands.
        unsafe {
            for r in 0..R {
                // A row that does not exist is the last one once more, and gives the same.
                let row = if first + r < s.rows { first + r } else { s.rows - 1 };
                w[r] = self.w.add(row * s.w_row);
                y[r] = self.y.add(row * s.y_row);
                to[r] = match &mut self.apart {
                    Some(apart) => apart[r].as_mut_ptr(),
                    None => y[r].add(self.runs[0].y),
                };
            }
            if self.apart.is_some() {
                for run in self.runs {
                    for i in 0..run.len {
                        for r in 0..R {
                            *to[r].add(run.lane + i) = *y[r].add(run.y + i * s.y_step);
                        }
                    }
                }
            }
            let mut sums = [[S::load(to[0].cast()); N]; R];
            for (sums, to) in sums.iter_mut().zip(to) {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(to.add(v * S::LANES).cast());
                }
            }
            let mut term = 0;
            for &offset in self.offsets {
                let x = self.x.add(offset);
                let mut input = [sums[0][0]; N];
                for (v, input) in input.iter_mut().enumerate() {
                    *input = S::load(x.add(v * S::LANES).cast());
                }
                for (sums, w) in sums.iter_mut().zip(w) {
                    let weight = S::splat(w.add(term).cast());
                    for (sum, &input) in sums.iter_mut().zip(&input) {
                        *sum = S::fused(*sum, input, weight);
                    }
                }
                term += s.w_term;
            }
            for (sums, to) in sums.into_iter().zip(to) {
                for (v, sum) in sums.into_iter().enumerate() {
                    S::save(sum, to.add(v * S::LANES).cast());
                }
            }
            if self.apart.is_some() {
                for run in self.runs {
                    for i in 0..run.len {
                        for r in 0..R {
                            *y[r].add(run.y + i * s.y_step) = *to[r].add(run.lane + i);
                        }
                    }
                }
            }
        }
        R
    }
}

/// A matrix in a slice: element `(row, column)` is at `row · strides.0 + column · strides.1`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance between rows and between columns.
    pub strides: (usize, usize),
}

impl Matrix<'_> {
    fn transposed(self) -> Self {
        Self { strides: (self.strides.1, self.strides.0), ..self }
    }
}

/// `c += a · b`, with `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]`.
///
/// # Panics
/// If a matrix does not fit its slice.
pub fn add_matmul(size: [usize; 3], a: Matrix, b: Matrix, c: &mut [f32]) {
    add_matmul_with(Isa::detect(), size, a, b, c);
}

fn add_matmul_with(isa: Isa, [m, k, n]: [usize; 3], a: Matrix, b: Matrix, c: &mut [f32]) {
    // What registers along a side of a product cost: steps, and copies of their inputs.
    let cost = |side: usize, rows: usize, step: usize| {
        let copies = if step == 1 { side.div_ceil(isa.lanes()) } else { side };
        side.div_ceil(isa.lanes()) * rows + 2 * copies
    };
    let along_rows = cost(n, m, b.strides.1) <= cost(m, n, a.strides.0);
    // Or else the product of the transposed matrices.
    let (rows, len, w, x, y_row, y_step) = match along_rows {
        true => (m, n, a, b, n, 1),
        false => (n, m, b.transposed(), a.transposed(), 1, n),
    };
    let offsets: Vec<usize> = (0..k).map(|t| t * x.strides.0).collect();
    let sums = FloatSums {
        rows,
        w: w.data,
        w_row: w.strides.0,
        w_term: w.strides.1,
        x: x.data,
        x_step: x.strides.1,
        offsets: &offsets,
        lines: &[Line { x: 0, y: 0, len }],
        y_row,
        y_step,
    };
    sums.add_with(isa, c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Numbers of all sizes, some of them 0, of which sums are never exact.
    fn numbers(rng: &mut Rng, n: usize) -> Vec<f32> {
        let number = |_| match rng.next() {
            bits if bits % 16 == 0 => 0.0,
            bits => f32::from_bits((bits >> 32) as u32 & 0x81ff_ffff | 0x3c00_0000),
        };
        (0..n).map(number).collect()
    }

    fn isas() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The definition, term by term; `f32::mul_add` is exact on every machine.
    fn define(s: &FloatSums, y: &mut [f32]) {
        for r in 0..s.rows {
            for line in s.lines {
                for i in 0..line.len {
                    let y = &mut y[line.y + i * s.y_step + r * s.y_row];
                    for (t, offset) in s.offsets.iter().enumerate() {
                        let x = s.x[line.x + i * s.x_step + offset];
                        *y = x.mul_add(s.w[r * s.w_row + t * s.w_term], *y);
                    }
                }
            }
        }
    }

    fn bits(y: &[f32]) -> Vec<u32> {
        y.iter().map(|y| y.to_bits()).collect()
    }

    fn check(s: FloatSums, start: &[f32]) {
        let mut expected = start.to_vec();
        define(&s, &mut expected);
        for isa in isas() {
            let mut y = start.to_vec();
            s.add_with(isa, &mut y);
            let shape = FloatSums { w: &[], x: &[], ..s };
            assert_eq!(bits(&y), bits(&expected), "{isa}: {shape:?}");
        }
    }

    /// Lines of these lengths, with gaps between them.
    fn lines(lengths: &[usize], x_step: usize, y_step: usize, gap: usize) -> Vec<Line> {
        let mut next = Line { x: 2, y: 0, len: 0 };
        let line = |&len: &usize| {
            let line = Line { len, ..next };
            (next.x, next.y) = (line.x + len * x_step + gap, line.y + len * y_step + gap / 2);
            line
        };
        lengths.iter().map(line).collect()
    }

    /// Rows, terms and results around every size of block; lines that are whole and lines with gaps.
    #[test]
    fn all_machines_add_the_terms_in_one_order() {
        let mut rng = Rng(1);
        let (lens, terms, rows) = match cfg!(miri) {
            true => (&[1, 6][..], &[2][..], &[1, 5][..]),
            false => (
                &[1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 96, 97, 144][..],
                &[1, 2, 9, 40][..],
                &[1, 2, 4, 5, 7, 8, 9, 17][..],
            ),
        };
        for (&len, &k) in lens.iter().flat_map(|len| terms.iter().map(move |k| (len, k))) {
            let offsets: Vec<usize> = (0..k).map(|_| rng.next() as usize % 50).collect();
            for (i, &rows) in rows.iter().enumerate() {
                let lengths =
                    [&[len][..], &[1, len], &[len / 3, 0, len - len / 3], &vec![3; len / 3 + 1]];
                for (x_step, y_step, turned) in
                    [(1, 1, false), (1, 1, true), (1, 2, false), (2, 1, false), (3, 3, true)]
                {
                    let lines = lines(lengths[(i + k + x_step) % 4], x_step, y_step, i % 2 * 3);
                    let room = lines
                        .iter()
                        .map(|l| l.x + l.y + l.len * x_step.max(y_step))
                        .max()
                        .unwrap_or(0)
                        + 50;
                    let (w, x) = (numbers(&mut rng, rows * k), numbers(&mut rng, room));
                    let (w_row, w_term) = if turned { (1, rows) } else { (k, 1) };
                    // Rows far apart, or side by side between the results.
                    let lines: Vec<Line> = match turned {
                        true => lines.iter().map(|l| Line { y: l.y * rows, ..*l }).collect(),
                        false => lines,
                    };
                    let (y_row, y_step) = if turned { (1, y_step * rows) } else { (room, y_step) };
                    let (offsets, lines) = (&offsets[..], &lines[..]);
                    let sums = FloatSums {
                        rows,
                        w: &w,
                        w_row,
                        w_term,
                        x: &x,
                        x_step,
                        offsets,
                        lines,
                        y_row,
                        y_step,
                    };
                    check(sums, &numbers(&mut rng, room * rows));
                }
            }
        }
    }

    /// More terms than are added at a time.
    #[test]
    fn long_sums_are_added_in_one_order() {
        let mut rng = Rng(2);
        for k in if cfg!(miri) {
            vec![TERMS + 1]
        } else {
            vec![TERMS - 1, TERMS, TERMS + 1, 3 * TERMS + 7]
        } {
            for (rows, len) in
                if cfg!(miri) { vec![(1, 3)] } else { vec![(1, 48), (1, 5), (3, 100), (10, 17)] }
            {
                let (w, x) = (numbers(&mut rng, rows * k), numbers(&mut rng, len * k));
                let offsets: Vec<usize> = (0..k).map(|t| t * len).collect();
                let (offsets, lines) = (&offsets[..], &[Line { x: 0, y: 0, len }]);
                let steps = FloatSums {
                    rows,
                    w: &w,
                    w_row: k,
                    w_term: 1,
                    x: &x,
                    x_step: 1,
                    offsets,
                    lines,
                    y_row: len,
                    y_step: 1,
                };
                check(steps, &numbers(&mut rng, rows * len));
            }
        }
    }

    /// Along rows or along columns, of every memory order.
    #[test]
    fn products_of_matrices_are_the_same_bits_everywhere() {
        let mut rng = Rng(3);
        let sizes: &[[usize; 3]] = match cfg!(miri) {
            true => &[[1, 3, 5], [5, 3, 1], [3, 0, 2], [0, 3, 2]],
            false => &[
                [1, 40, 33],
                [33, 40, 1],
                [5, 7, 50],
                [50, 7, 5],
                [17, 16, 16],
                [1, 1, 1],
                [3, 0, 2],
                [0, 3, 2],
            ],
        };
        for &[m, k, n] in sizes {
            let (a, b, c) =
                (numbers(&mut rng, m * k), numbers(&mut rng, k * n), numbers(&mut rng, m * n));
            for a_strides in [(k, 1), (1, m)] {
                for b_strides in [(n, 1), (1, k)] {
                    let a = Matrix { data: &a, strides: a_strides };
                    let b = Matrix { data: &b, strides: b_strides };
                    let at =
                        |m: Matrix, i: usize, j: usize| m.data[i * m.strides.0 + j * m.strides.1];
                    let sum = |(i, &c): (usize, &f32)| {
                        (0..k).fold(c, |sum, t| at(a, i / n, t).mul_add(at(b, t, i % n), sum))
                    };
                    let expected: Vec<f32> = c.iter().enumerate().map(sum).collect();
                    for isa in isas() {
                        let mut y = c.clone();
                        add_matmul_with(isa, [m, k, n], a, b, &mut y);
                        assert_eq!(
                            bits(&y),
                            bits(&expected),
                            "{isa}: {m} x {k} x {n}, {a_strides:?} {b_strides:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_by_hand() {
        let a = Matrix { data: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], strides: (3, 1) };
        let mut c = [0.0, 1.0, 0.0, 0.0];
        add_matmul([2, 3, 2], a, a.transposed(), &mut c);
        assert_eq!(c, [14.0, 33.0, 32.0, 77.0]);
    }

    /// From exact fractions. Other orders end one to five units higher or lower: the last term first, even and odd
    /// terms, or both halves apart, the start added last, a rounding of each product, or one of the whole.
    #[test]
    fn sums_by_hand() {
        let w = [0.33, -0.26, 1.58, 1.32, 0.63, -2.2, 0.05, 0.68];
        let x = [1.0, -0.62, 1.82, -1.32, -0.66, 0.94, 0.05, 2.0];
        let (offsets, lines) = (&[0, 1, 2, 3, 4, 5, 6, 7], &[Line { x: 0, y: 0, len: 1 }]);
        let (w_row, w_term, x_step, y_row, y_step) = (8, 1, 1, 1, 1);
        let sums = FloatSums {
            rows: 1,
            w: &w,
            w_row,
            w_term,
            x: &x,
            x_step,
            offsets,
            lines,
            y_row,
            y_step,
        };
        for isa in isas() {
            let mut y = [0.25];
            sums.add_with(isa, &mut y);
            assert_eq!(y[0].to_bits(), 0x3f40_cb2c, "{isa}");
        }
    }

    #[test]
    fn elements_outside_of_their_slices_are_refused() {
        let one = Line { x: 0, y: 0, len: 2 };
        let fits = FloatSums {
            rows: 2,
            w: &[1.0; 4],
            w_row: 2,
            w_term: 1,
            x: &[1.0; 4],
            x_step: 1,
            offsets: &[0, 2],
            lines: &[one],
            y_row: 2,
            y_step: 1,
        };
        fits.add_to(&mut [0.0; 4]);
        let far = usize::MAX / 2;
        for wrong in [
            FloatSums { rows: 3, ..fits },
            FloatSums { w_row: 3, ..fits },
            FloatSums { w_term: far, ..fits },
            FloatSums { x_step: 2, ..fits },
            FloatSums { offsets: &[3, 0], ..fits },
            FloatSums { offsets: &[usize::MAX, 0], ..fits },
            FloatSums { lines: &[Line { x: 1, ..one }], ..fits },
            FloatSums { lines: &[Line { y: 1, ..one }], ..fits },
            FloatSums { lines: &[Line { len: 3, ..one }], ..fits },
            FloatSums { y_row: far, rows: 2, ..fits },
            FloatSums { y_step: 2, ..fits },
        ] {
            let refused = std::panic::catch_unwind(|| wrong.add_to(&mut [0.0; 4]));
            assert!(refused.is_err(), "{wrong:?}");
        }
        FloatSums { offsets: &[], ..fits }.add_to(&mut []);
        FloatSums { rows: 0, ..fits }.add_to(&mut []);
    }
}
