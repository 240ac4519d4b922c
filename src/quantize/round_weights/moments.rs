//! Second moments of what a layer multiplies with its weights, and codes that are best under them.

use crate::kernels::float::{Matrix, add_matmul};

/// Share of the mean square that is added to each: fewer samples than there are say too much of the rest.
const DAMPING: f64 = 0.1;
/// Positions of one sample are alike: no more of them count as samples of their own.
const ALIKE: usize = 8;
/// Rows that are worked on at a time, so that a line of the factor is read once for all of them.
const ROWS: usize = 16;

/// `H = E[(x−μ)(x−μ)ᵀ]`, damped, of the `depth` numbers `x` that a row of weights is multiplied with: weights that are
/// off by `e` make the mean squared error `e H eᵀ`.
pub(super) struct Moments {
    depth: usize,
    pub(super) h: Vec<f32>,
}

/// What a row of weights may become: codes of `lowest..=highest`, in units of a scale of its own.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    pub lowest: f64,
    pub highest: f64,
}

impl Codes {
    fn nearest(self, x: f64, scale: f64) -> f64 {
        (x / scale).round_ties_even().clamp(self.lowest, self.highest)
    }
}

impl Moments {
    /// Those of the columns `first..first + depth` of `x [rows, pitch]`, `positions` rows of each sample; around their
    /// mean if it is made up for.
    pub fn new(
        x: &[f32],
        pitch: usize,
        [first, depth]: [usize; 2],
        positions: usize,
        is_centred: bool,
    ) -> Self {
        let rows = x.len() / pitch;
        let mut means = vec![0f64; depth];
        if is_centred {
            for row in x.chunks_exact(pitch) {
                means.iter_mut().zip(&row[first..]).for_each(|(mean, &x)| *mean += x as f64);
            }
            means.iter_mut().for_each(|mean| *mean /= rows as f64);
        }
        let centred = x.chunks_exact(pitch).flat_map(|row| {
            row[first..][..depth].iter().zip(&means).map(|(&x, mean)| (x as f64 - mean) as f32)
        });
        let centred: Vec<f32> = centred.collect();
        let mut sums = vec![0f32; depth * depth];
        let [of, by] = [(1, depth), (depth, 1)].map(|strides| Matrix { data: &centred, strides });
        add_matmul([depth, rows, depth], of, by, &mut sums);
        let samples = rows / positions.max(1) * positions.min(ALIKE);
        Self::damped(depth, sums.iter().map(|&sum| sum as f64 / rows as f64).collect(), samples)
    }

    /// From moments of `samples`: fewer than `depth` say little of what is beside the diagonal.
    fn damped(depth: usize, mut h: Vec<f64>, samples: usize) -> Self {
        let shrink = depth as f64 / (depth + samples) as f64;
        let diagonal = || (0..depth).map(|i| i * depth + i);
        let mean = diagonal().map(|i| h[i]).sum::<f64>() / depth as f64;
        for (i, x) in h.iter_mut().enumerate() {
            match i / depth == i % depth {
                true => *x += DAMPING * mean,
                false => *x *= 1.0 - shrink,
            }
        }
        if !(mean.is_finite() && mean > 0.0) {
            // Nothing is known, or squares are no numbers: all count the same.
            h.fill(0.0);
            diagonal().for_each(|i| h[i] = 1.0);
        }
        Self { depth, h: h.into_iter().map(|x| x as f32).collect() }
    }

    /// `e H eᵀ` of each row of `errors [rows, depth]`.
    pub fn energies(&self, errors: &[f32]) -> Vec<f64> {
        let (k, rows) = (self.depth, errors.len() / self.depth);
        let mut products = vec![0f32; errors.len()];
        let [e, h] = [errors, &self.h].map(|data| Matrix { data, strides: (k, 1) });
        add_matmul([rows, k, k], e, h, &mut products);
        let pairs = products.chunks_exact(k).zip(errors.chunks_exact(k));
        pairs.map(|(p, e)| p.iter().zip(e).map(|(&p, &e)| p as f64 * e as f64).sum()).collect()
    }

    /// The nearest codes of `w [rows, depth]`.
    pub fn nearest(&self, w: &[f32], scales: &[f64], codes: Codes) -> Vec<f32> {
        let rows = w.chunks_exact(self.depth).zip(scales);
        let code = |(row, &scale): (&[f32], &f64)| {
            row.iter().map(|&w| codes.nearest(w as f64, scale) as f32).collect::<Vec<_>>()
        };
        rows.flat_map(code).collect()
    }

    /// Errors of codes `q` of `w`.
    pub fn errors(&self, w: &[f32], q: &[f32], scales: &[f64]) -> Vec<f32> {
        let pairs = w.iter().zip(q).enumerate();
        let error = |(i, (&w, &q)): (usize, (&f32, &f32))| {
            (q as f64 * scales[i / self.depth] - w as f64) as f32
        };
        pairs.map(error).collect()
    }

    /// Good codes of `w [rows, depth]`: of the nearest ones and those of [`feedback`](Self::feedback), for each row those
    /// that make less of `e H eᵀ`.
    pub fn best(&self, w: &[f32], scales: &[f64], codes: Codes) -> Vec<f32> {
        let energies = |q: &[f32]| self.energies(&self.errors(w, q, scales));
        let (mut best, other) =
            (self.nearest(w, scales, codes), self.feedback(w, scales, codes, 1));
        let is_less: Vec<bool> =
            energies(&other).iter().zip(energies(&best)).map(|(&a, b)| a < b).collect();
        let rows = best.chunks_exact_mut(self.depth).zip(other.chunks_exact(self.depth));
        for ((best, other), _) in rows.zip(is_less).filter(|(_, is_less)| *is_less) {
            best.copy_from_slice(other);
        }
        best
    }

    /// Codes of `w [rows, depth]` that make less of `e H eᵀ` than the nearest ones: one after the other is rounded, those
    /// that count most first, and its error is made up for by the rest; then each in turn is moved to where it is best,
    /// given all others.
    ///
    /// Frantar et al. 2022, <https://arxiv.org/abs/2210.17323>.
    pub fn feedback(&self, w: &[f32], scales: &[f64], codes: Codes, passes: usize) -> Vec<f32> {
        let k = self.depth;
        // Those that count most are last in the factor, and rounded first.
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| self.h[a * k + a].total_cmp(&self.h[b * k + b]));
        let h: Vec<f64> = order
            .iter()
            .flat_map(|&i| order.iter().map(move |&j| self.h[i * k + j] as f64))
            .collect();
        let factor = cholesky(&h, k);
        let mut result = vec![0f32; w.len()];
        for (first, part) in w.chunks(ROWS * k).enumerate() {
            let scales = &scales[first * ROWS..];
            let rows = part.len() / k;
            let at = |row: usize, j: usize| part[row * k + order[j]] as f64;
            // For each row the errors so far, and what they make of each column of the factor.
            let (mut errors, mut sums) = (vec![0f64; part.len()], vec![0f64; part.len()]);
            for j in (0..k).rev() {
                let line = &factor[j * k..][..j + 1];
                for row in 0..rows {
                    let sums = &mut sums[row * k..][..j + 1];
                    let (w, scale) = (at(row, j), scales[row]);
                    let q = codes.nearest(w - sums[j] / line[j], scale);
                    let error = q * scale - w;
                    errors[row * k + j] = error;
                    sums.iter_mut().zip(line).for_each(|(sum, l)| *sum += error * l);
                }
            }
            for _ in 0..passes {
                descend(&h, &mut errors, scales, codes, at);
            }
            for (row, errors) in errors.chunks_exact(k).enumerate() {
                for (j, error) in errors.iter().enumerate() {
                    let q = ((at(row, j) + error) / scales[row]).round();
                    result[first * ROWS * k + row * k + order[j]] = q as f32;
                }
            }
        }
        result
    }
}

/// Moves each code of each row to where `e H eᵀ` is least, given all others.
fn descend(
    h: &[f64],
    errors: &mut [f64],
    scales: &[f64],
    codes: Codes,
    w: impl Fn(usize, usize) -> f64,
) {
    let k = h.len().isqrt();
    for (row, errors) in errors.chunks_exact_mut(k).enumerate() {
        let scale = scales[row];
        let mut slopes = vec![0f64; k];
        for (line, &error) in h.chunks_exact(k).zip(&*errors) {
            slopes.iter_mut().zip(line).for_each(|(slope, h)| *slope += error * h);
        }
        for j in (0..k).rev() {
            let line = &h[j * k..][..k];
            let best = codes.nearest(w(row, j) + errors[j] - slopes[j] / line[j], scale);
            let moved = best * scale - w(row, j) - errors[j];
            if moved.abs() > 0.5 * scale {
                errors[j] += moved;
                slopes.iter_mut().zip(line).for_each(|(slope, h)| *slope += moved * h);
            }
        }
    }
}

/// `L`, lower triangular, with `L Lᵀ = h [k, k]`, which is positive definite.
fn cholesky(h: &[f64], k: usize) -> Vec<f64> {
    let mut l = vec![0f64; k * k];
    for i in 0..k {
        let (done, rest) = l.split_at_mut(i * k);
        let own = &mut rest[..k];
        for j in 0..i {
            own[j] = (h[i * k + j] - dot(&own[..j], &done[j * k..][..j])) / done[j * k + j];
        }
        let left = h[i * k + i] - dot(&own[..i], &own[..i]);
        // Damping keeps it positive, but for what rounding takes away.
        own[i] = left.max(1e-9 * h[i * k + i]).sqrt();
    }
    l
}

/// `Σ a·b`, eight sums at a time, in an order that is always the same.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f64; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}
