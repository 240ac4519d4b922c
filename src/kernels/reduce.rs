//! Pools and means: loops over many codes for one of the result.

use super::elementwise::{ROUND, Stored, Target, for_each_isa, scaled};
use super::isa::Isa;
use super::product::Windows;
use crate::arith::{Multiplier, round_ratio, round_shift};

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
                *y = self.y.rounded(round_ratio(product, count as i64, shift), flip);
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
    fn tabulated_mean[Y: Stored](x: &[u8], flip: u8, table: &[Y], sums: &mut [i32], y: &mut [Y]) {
        let sums = &mut sums[..y.len()];
        sums.fill(0);
        for x in x.chunks_exact(y.len().max(1)) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += (x ^ flip ^ 0x80) as i32;
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

/// Constants of [`softmax`]; see [`crate::ops::softmax::int::Params`].
#[derive(Clone, Debug)]
pub struct Softmax {
    fine: Vec<i32>,
    coarse: Vec<i32>,
    /// Of the distances of 8-bit codes.
    exps: Vec<f64>,
    multiplier: Multiplier,
    y: Target,
    /// Codes of one softmax, and the distance between them.
    size: usize,
    stride: usize,
}

impl Softmax {
    /// With tables of exponentials, over so many codes at this distance.
    pub fn new(
        [fine, coarse]: [&[i32]; 2],
        multiplier: Multiplier,
        y: Target,
        [size, stride]: [usize; 2],
    ) -> Self {
        let [fine, coarse] = [fine, coarse].map(<[i32]>::to_vec);
        let mut softmax = Self { fine, coarse, exps: vec![], multiplier, y, size, stride };
        softmax.exps = (0..256).map(|distance| softmax.exp(distance)).collect();
        softmax
    }

    #[inline(always)]
    fn exp(&self, distance: usize) -> f64 {
        let product = self.coarse[distance >> 8] as i64 * self.fine[distance & 255] as i64;
        round_shift(product, 30) as f64
    }

    /// Of some codes, which are not more than `exps`. Quotients are exact enough as those of a [`Mean`] are:
    /// exponentials have 24 bits, and the factor, too.
    #[inline(always)]
    fn one<'x, 'y, X: Stored + 'x, Y: Stored + 'y>(
        &self,
        x: impl Iterator<Item = &'x X> + Clone,
        flip: u8,
        exps: &mut [f64],
        y: impl Iterator<Item = &'y mut Y>,
    ) {
        let max = x.clone().fold(i32::MIN, |max, x| x.get(flip).max(max));
        let mut sum = 0.0;
        for (exp, x) in exps.iter_mut().zip(x) {
            let distance = (max - x.get(flip)) as usize;
            *exp = match size_of::<X>() {
                1 => self.exps[distance & 255],
                _ => self.exp(distance),
            };
            sum += *exp;
        }
        let Multiplier { significand, shift } = self.multiplier;
        let (significand, divisor) = (significand as f64, sum * (1u64 << shift) as f64);
        for (y, exp) in y.zip(&*exps) {
            *y = self.y.code(exp * significand / divisor, flip);
        }
    }
}

/// Constants of [`normalize`]; see [`crate::ops::normalize::int::Params`]. A group has `runs` of `length` codes.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Normalize {
    pub factor: Vec<i32>,
    pub offset: Vec<i64>,
    pub shift: u32,
    pub unit_shift: i32,
    pub square_shift: i32,
    pub epsilon: i64,
    pub centered: bool,
    pub x_zero_point: i32,
    pub y: Target,
    /// Groups that lie beside one another, and the distance between them.
    pub inner: usize,
    pub inner_stride: usize,
    /// Codes of a block of them.
    pub block: usize,
    pub runs: usize,
    pub run_stride: usize,
    pub length: usize,
    pub stride: usize,
    /// Distance between the factors of groups, of runs and of the codes of a run; the last is 0 or 1.
    pub factor_strides: [usize; 3],
}

/// Constants of [`prelu`]; see [`crate::ops::prelu::int::Params`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Slopes {
    pub positive: f64,
    pub x_zero_point: i32,
    pub y: Target,
}

/// Constants of [`resize`]; see [`crate::ops::resize::int::Params`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Resize {
    pub x_shape: [usize; 4],
    /// Lower and upper neighbour, and the weights of both.
    pub rows: Vec<([usize; 2], [f64; 2])>,
    pub columns: Vec<([usize; 2], [f64; 2])>,
    /// Of sums with these weights.
    pub factor: f64,
    pub x_zero_point: i32,
    pub y: Target,
}

for_each_isa! {
    /// The softmax of each `size` codes. `exps` has room for as many numbers.
    fn softmax[X: Stored, Y: Stored](p: &Softmax, flip: u8, x: &[X], exps: &mut [f64], y: &mut [Y]) {
        let exps = &mut exps[..p.size];
        for block in 0..x.len() / (p.size * p.stride).max(1) {
            for first in block * p.size * p.stride..block * p.size * p.stride + p.stride {
                match p.stride {
                    1 => p.one(x[first..][..p.size].iter(), flip, exps, y[first..].iter_mut()),
                    step => {
                        let (x, y) = (x[first..].iter(), y[first..].iter_mut());
                        p.one(x.step_by(step).take(p.size), flip, exps, y.step_by(step));
                    }
                }
            }
        }
    }

    /// Each group of some blocks divided by its deviation or length. `codes` has room for those of a group.
    fn normalize[X: Stored, Y: Stored](p: &Normalize, flip: u8, x: &[X], codes: &mut [i32], y: &mut [Y]) {
        let size = p.runs * p.length;
        let (codes, count) = (&mut codes[..size], if p.centered { size as i64 } else { 1 });
        for g in 0..x.len() / p.block.max(1) * p.inner {
            let first = g / p.inner * p.block + g % p.inner * p.inner_stride;
            for (run, codes) in codes.chunks_exact_mut(p.length).enumerate() {
                let x = x[first + run * p.run_stride..].iter();
                let code = |x: &X| x.get(flip) - p.x_zero_point;
                match p.stride {
                    1 => codes.iter_mut().zip(x).for_each(|(code_of, x)| *code_of = code(x)),
                    _ => codes.iter_mut().zip(x.step_by(p.stride)).for_each(|(code_of, x)| *code_of = code(x)),
                }
            }
            let mut sum: i64 = codes.iter().map(|&x| x as i64).sum();
            let squares: i64 = codes.iter().map(|&x| x as i64 * x as i64).sum();
            if !p.centered {
                sum = 0;
            }
            let spread = count * squares - sum * sum;
            let spread = match p.square_shift >= 0 {
                true => spread << p.square_shift,
                false => spread >> -p.square_shift,
            };
            let w = (spread + p.epsilon).max(1) as u64;
            let even = w.leading_zeros() as i32 / 2;
            let reciprocal = (1u64 << 60) / (w << (2 * even)).isqrt();
            let shift = (p.unit_shift - even).clamp(1, 62) as u32;
            let reciprocal = reciprocal as f64 / (1u64 << shift) as f64;
            let (count, sum) = (count as f64, sum as f64);
            // Units have fewer bits than an `i32`.
            let unit = |code: i32| {
                (scaled(code as f64 * count - sum, reciprocal) + ROUND).to_bits() as i32 as i64
            };
            for (run, codes) in codes.chunks_exact(p.length).enumerate() {
                let [of_group, of_run, step] = p.factor_strides;
                let at = g % p.inner * of_group + run * of_run;
                let (factor, offset) = (&p.factor[at..], &p.offset[at..]);
                let y = &mut y[first + run * p.run_stride..];
                let code = |x: i32, factor: i32, offset: i64| {
                    p.y.rounded(round_shift(unit(x) * factor as i64 + offset, p.shift), flip)
                };
                match (p.stride, step) {
                    (1, 1) => {
                        for (((y, &x), &factor), &offset) in y.iter_mut().zip(codes).zip(factor).zip(offset) {
                            *y = code(x, factor, offset);
                        }
                    }
                    (1, _) => {
                        let (factor, offset) = (factor[0], offset[0]);
                        y.iter_mut().zip(codes).for_each(|(y, &x)| *y = code(x, factor, offset));
                    }
                    (stride, step) => {
                        for (i, (y, &x)) in y.iter_mut().step_by(stride).zip(codes).enumerate() {
                            *y = code(x, factor[i * step], offset[i * step]);
                        }
                    }
                }
            }
        }
    }

    /// `y = clamp(round((x − zx) · positive) + zy)`, and times slope and factor where that is negative; there is
    /// one slope, or one for each code.
    fn prelu[X: Stored, Y: Stored](p: &Slopes, slopes: &[[f64; 2]], flip: u8, x: &[X], y: &mut [Y]) {
        let code = |x: X, [slope, negative]: [f64; 2]| {
            let x = (x.get(flip) - p.x_zero_point) as f64;
            let (x, factor) = if x < 0.0 { (x * slope, negative) } else { (x, p.positive) };
            p.y.code(scaled(x, factor), flip)
        };
        match slopes {
            &[one] => y.iter_mut().zip(x).for_each(|(y, &x)| *y = code(x, one)),
            _ => y.iter_mut().zip(x).zip(slopes).for_each(|((y, &x), &slope)| *y = code(x, slope)),
        }
    }

    /// The lines `first..` of a resize with linear interpolation, as many as `y` holds.
    fn resize[X: Stored, Y: Stored](p: &Resize, flip: u8, x: &[X], first: usize, y: &mut [Y]) {
        let ([_, h, w, c], oh, ow) = (p.x_shape, p.rows.len(), p.columns.len());
        for (line, y) in (first..).zip(y.chunks_exact_mut((ow * c).max(1))) {
            let (rows, [above, below]) = p.rows[line % oh];
            let [upper, lower] = rows.map(|iy| &x[(line / oh * h + iy) * w * c..][..w * c]);
            for (y, &(columns, [left, right])) in y.chunks_exact_mut(c).zip(&p.columns) {
                let [a, b] = columns.map(|ix| &upper[ix * c..][..c]);
                let [d, e] = columns.map(|ix| &lower[ix * c..][..c]);
                let code = |x: &X| (x.get(flip) - p.x_zero_point) as f64;
                for ((((y, a), b), d), e) in y.iter_mut().zip(a).zip(b).zip(d).zip(e) {
                    let upper = code(a) * left + code(b) * right;
                    let lower = code(d) * left + code(e) * right;
                    *y = p.y.code(scaled(upper * above + lower * below, p.factor), flip);
                }
            }
        }
    }

    /// Places of the largest of each `size` codes: of the first of them, or the last.
    fn argmax[X: Stored, Y: Stored](size: usize, stride: usize, last: bool, to: &Target, flip: u8, x: &[X], first: usize, y: &mut [Y]) {
        for (n, y) in (first..).zip(y) {
            let x = x[n / stride * stride * size + n % stride..].iter().step_by(stride);
            let (mut best, mut place) = (i32::MIN, 0);
            for (i, x) in x.take(size).enumerate() {
                let code = x.get(flip);
                if code > best || last && code == best {
                    (best, place) = (code, i);
                }
            }
            *y = to.code(place as f64, flip);
        }
    }
}
