//! Products of two matrices of codes. They are summed as floating-point numbers: as long as no sum can leave the
//! integers that the type holds, each is exact, in any order.

use super::elementwise::{Stored, Target, for_each_isa, scaled};
use super::isa::Isa;

/// Rows that are multiplied together.
pub const ROWS: usize = 6;

/// Numbers side by side in registers.
pub trait Panel: Copy + Default + Send + Sync + 'static {
    /// How many.
    const LEN: usize;

    /// The largest power of two up to which they are exact.
    const EXACT: i64;

    /// Number `i`.
    fn get(&self, i: usize) -> f64;

    /// Makes `code` number `i`.
    fn set(&mut self, i: usize, code: i32);

    /// Adds number `i` of `a` times each number of `b`.
    fn add_product<const FUSED: bool>(&mut self, a: &Self, i: usize, b: &Self);
}

macro_rules! panel {
    ($number:ty, $len:literal) => {
        impl Panel for [$number; $len] {
            const LEN: usize = $len;
            const EXACT: i64 = 1 << <$number>::MANTISSA_DIGITS;

            #[inline(always)]
            #[allow(clippy::unnecessary_cast)]
            fn get(&self, i: usize) -> f64 {
                self[i] as f64
            }

            #[inline(always)]
            fn set(&mut self, i: usize, code: i32) {
                self[i] = code as $number;
            }

            #[inline(always)]
            fn add_product<const FUSED: bool>(&mut self, a: &Self, i: usize, b: &Self) {
                for j in 0..$len {
                    self[j] = match FUSED {
                        true => a[i].mul_add(b[j], self[j]),
                        false => a[i] * b[j] + self[j],
                    };
                }
            }
        }
    };
}
panel!(f32, 16);
panel!(f64, 8);

/// Panels that hold `columns` numbers of each of `rows`.
pub fn panels<P: Panel>(rows: usize, columns: usize) -> usize {
    columns.div_ceil(P::LEN) * rows
}

for_each_isa! {
    /// Columns side by side: panel `j / LEN · rows + i` holds `x[i][j] − zero` as number `j % LEN`.
    fn pack_columns[X: Stored, P: Panel](x: &[X], columns: usize, zero: i32, flip: u8, to: &mut [P]) {
        let rows = x.len() / columns.max(1);
        for (first, to) in (0..columns).step_by(P::LEN).zip(to.chunks_exact_mut(rows.max(1))) {
            let len = P::LEN.min(columns - first);
            for (x, to) in x.chunks_exact(columns).zip(to) {
                *to = P::default();
                for (i, &x) in x[first..][..len].iter().enumerate() {
                    to.set(i, x.get(flip) - zero);
                }
            }
        }
    }

    /// Panel `k` holds `x[i · step + k] − zero` as number `i`, for up to [`ROWS`] rows of as many codes as there
    /// are panels.
    fn pack_rows[X: Stored, P: Panel](x: &[X], rows: usize, step: usize, zero: i32, flip: u8, to: &mut [P]) {
        for i in 0..rows {
            for (&x, to) in x[i * step..].iter().zip(&mut *to) {
                to.set(i, x.get(flip) - zero);
            }
        }
    }

    /// For each group `j` of as many panels of `columns` as `rows` has, and each row `i`, panel `j · ROWS + i` of
    /// `sums`: the products of row and columns.
    fn multiply[P: Panel](rows: &[P], columns: &[P], sums: &mut [P]) {
        let groups = columns.chunks_exact(rows.len().max(1));
        for (columns, sums) in groups.zip(sums.as_chunks_mut::<ROWS>().0) {
            let mut sum = [P::default(); ROWS];
            for (row, column) in rows.iter().zip(columns) {
                for (i, sum) in sum.iter_mut().enumerate() {
                    sum.add_product::<FUSED>(row, i, column);
                }
            }
            *sums = sum;
        }
    }

    /// `y = clamp(round(sum · factor) + zy)` for the sums of row `row` in panels, as [`multiply`] leaves them.
    fn finish[P: Panel, Y: Stored](sums: &[P], row: usize, factor: f64, to: &Target, flip: u8, y: &mut [Y]) {
        for (sums, y) in sums.as_chunks::<ROWS>().0.iter().zip(y.chunks_mut(P::LEN)) {
            for (i, y) in y.iter_mut().enumerate() {
                *y = to.code(scaled(sums[row].get(i), factor), flip);
            }
        }
    }

    /// `y = clamp(round(sum · factor) + zy)`, with a factor for each channel.
    fn finish_channels[Y: Stored](sums: &[f64], factors: &[f64], to: &Target, flip: u8, y: &mut [Y]) {
        let n = factors.len().max(1);
        for (sums, y) in sums.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            for ((y, &sum), &factor) in y.iter_mut().zip(sums).zip(factors) {
                *y = to.code(scaled(sum, factor), flip);
            }
        }
    }
}
