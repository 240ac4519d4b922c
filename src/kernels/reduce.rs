//! Pools and means: loops over many codes for one of the result.

use super::elementwise::{Stored, Target, for_each_isa};
use super::isa::Isa;
use super::product::Windows;
use crate::arith::{Multiplier, round_ratio};

/// `clamp(round(sum / count · multiplier) + zy)`, the division and the product rounded once, together.
#[derive(Clone, Copy, Debug)]
pub struct Mean {
    multiplier: Multiplier,
    /// Code of real 0 in the input.
    x_zero_point: i32,
    y: Target,
    /// Quotients of an `f64` are exact enough.
    ///
    /// A quotient `n / d` that is no tie is at least `1 / (2 d)` from one. As `|n| < 2^52`, its rounding moves it by
    /// less, and never over a tie; a tie is not moved at all.
    exact: bool,
}

impl Mean {
    /// Of sums, less zero points, that are no more than `bound`.
    pub fn new(
        multiplier: Multiplier,
        zero_points: [i32; 2],
        clamp: (i32, i32),
        bound: i64,
    ) -> Self {
        let exact = bound as i128 * (multiplier.significand as i128) < 1 << 52;
        let [x_zero_point, zero_point] = zero_points;
        Self { multiplier, x_zero_point, y: Target::new(zero_point, clamp), exact }
    }

    /// The codes of the means of `count` codes each, of which `inside` are in the sums.
    #[inline(always)]
    fn codes<Y: Stored>(&self, sums: &[f64], [inside, count]: [usize; 2], flip: u8, y: &mut [Y]) {
        let zero = inside as f64 * self.x_zero_point as f64;
        let Multiplier { significand, shift } = self.multiplier;
        if self.exact {
            let (significand, divisor) =
                (significand as f64, count as f64 * (1u64 << shift) as f64);
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = self.y.code((sum - zero) * significand / divisor, flip);
            }
        } else {
            for (y, sum) in y.iter_mut().zip(sums) {
                let product = (sum - zero) as i64 * significand as i64;
                *y = self.y.code(round_ratio(product, count as i64, shift) as f64, flip);
            }
        }
    }
}

/// Constants of [`average_pool`]; see [`crate::ops::average_pool::int::Params`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Pool {
    pub x_shape: [usize; 4],
    pub out: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub pads: [usize; 4],
    pub count_include_pad: bool,
    pub mean: Mean,
}

impl Pool {
    /// Input positions of the window of output position `o`, and by how many it is averaged.
    #[inline(always)]
    fn span(&self, axis: usize, o: usize) -> (std::ops::Range<usize>, usize) {
        let (begin, size, pad) = (o * self.stride[axis], self.x_shape[1 + axis], self.pads[axis]);
        let end = (begin + self.kernel[axis]).min(size + pad + self.pads[axis + 2]);
        let inside = begin.saturating_sub(pad)..end.saturating_sub(pad).min(size);
        let counted = if self.count_include_pad { end - begin } else { inside.len() };
        (inside, counted)
    }
}

for_each_isa! {
    /// The lines `first..` of an average pool, as many as `y` holds. `sums` has room for all channels.
    fn average_pool[X: Stored, Y: Stored](p: &Pool, flip: u8, x: &[X], first: usize, sums: &mut [f64], y: &mut [Y]) {
        let ([_, h, w, c], [oh, ow]) = (p.x_shape, p.out);
        let sums = &mut sums[..c];
        for (line, y) in (first..).zip(y.chunks_exact_mut((ow * c).max(1))) {
            let (image, oy) = (line / oh, line % oh);
            let (rows, counted_rows) = p.span(0, oy);
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                let (columns, counted_columns) = p.span(1, ox);
                sums.fill(0.0);
                for iy in rows.clone() {
                    let pixels = (image * h + iy) * w;
                    let x = &x[(pixels + columns.start) * c..(pixels + columns.end) * c];
                    for x in x.chunks_exact(c) {
                        for (sum, &x) in sums.iter_mut().zip(x) {
                            *sum += x.get(flip) as f64;
                        }
                    }
                }
                let counts = [rows.len() * columns.len(), counted_rows * counted_columns];
                p.mean.codes(sums, counts, flip, y);
            }
        }
    }

    /// The means of codes at `offsets` from `x + i · step`, for each code `i` of `y`, each with `len` codes behind
    /// it. `sums` has room for all.
    fn mean_of[X: Stored, Y: Stored](
        mean: &Mean, flip: u8, x: &[X], step: usize, offsets: &[usize], len: usize, sums: &mut [f64], y: &mut [Y],
    ) {
        let sums = &mut sums[..y.len()];
        sums.fill(0.0);
        for &offset in offsets {
            let x = &x[offset..];
            match (step, len) {
                (1, 1) => sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x.get(flip) as f64),
                _ => {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let x = &x[i * step..][..len];
                        *sum += x.iter().map(|&x| x.get(flip) as i64).sum::<i64>() as f64;
                    }
                }
            }
        }
        mean.codes(sums, [offsets.len() * len; 2], flip, y);
    }

    /// `y[c] = table[Σ (x[pixel][c] ^ flip ^ 0x80)]`: for each channel the sum of codes, each 128 more than
    /// it is. `sums` has room for all channels.
    fn tabulated_mean[Y: Stored](x: &[u8], flip: u8, table: &[Y], sums: &mut [u32], y: &mut [Y]) {
        let sums = &mut sums[..y.len()];
        sums.fill(0);
        for x in x.chunks_exact(y.len().max(1)) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += (x ^ flip ^ 0x80) as u32;
            }
        }
        for (y, &sum) in y.iter_mut().zip(&*sums) {
            *y = table[sum as usize];
        }
    }

    /// The lines `first..` of a maximum pool, as many as `y` holds. Taps outside of the input do not count.
    fn max_pool[X: Stored](w: &Windows, flip: u8, x: &[X], first: usize, y: &mut [X]) {
        let [_, h, width, c] = w.x_shape;
        let [oh, ow] = w.out;
        for (line, y) in (first..).zip(y.chunks_exact_mut((ow * c).max(1))) {
            let (image, oy) = (line / oh, line % oh);
            y.fill(X::lowest(flip));
            for ky in 0..w.kernel[0] {
                let iy = (oy * w.stride[0] + ky * w.dilation[0]).wrapping_sub(w.pad[0]);
                if iy >= h {
                    continue;
                }
                let x = &x[(image * h + iy) * width * c..][..width * c];
                for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                    for kx in 0..w.kernel[1] {
                        let ix = (ox * w.stride[1] + kx * w.dilation[1]).wrapping_sub(w.pad[1]);
                        if ix < width {
                            for (y, &x) in y.iter_mut().zip(&x[ix * c..][..c]) {
                                *y = y.greater(x, flip);
                            }
                        }
                    }
                }
            }
        }
    }
}
