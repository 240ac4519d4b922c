//! The noise that quantization makes at the outputs, as a function of the factors of channels, and the factors for which
//! it is least.
//!
//! With `u` the binary logarithms of the factors, all that is summed is `2^(linear in u)`: convex.

use std::sync::Arc;

use libm::{exp2, log2};

/// A maximum is taken as a norm of this order, so that there is a gradient.
const ORDER: f64 = 14.0;
/// Factors lie in `2^±LARGEST`.
const LARGEST: f64 = 14.0;
/// Steps of the descent.
const STEPS: usize = 200;
const RATE: f64 = 0.08;

/// A value: `δ²/12 · Σ_c A[c] · 2^(−2u_c)` with `δ = max_c (limit[c] · 2^u_c) / levels`.
#[derive(Clone, Debug)]
pub struct Rounded {
    pub vars: Vec<usize>,
    /// Logarithms of the limits of channels.
    pub limits: Vec<f64>,
    /// What noise in a channel does.
    pub sensitivity: Vec<f64>,
    pub levels: f64,
}

/// A weight: `δ²/12 · Σ_groups (Σ_o gain[o] · 2^(−2u_o)) · (Σ_i energy[i] · 2^(2u_i))`, with
/// `δ = max (|w[o][i]| · 2^(u_o − u_i)) / levels`, or one δ for each output channel.
#[derive(Debug)]
pub struct Weight {
    pub outputs: Vec<usize>,
    pub inputs: Vec<usize>,
    pub group: usize,
    /// `|w[o][i]|` by the largest one, to the power of [`ORDER`]; the inputs of a group one after the other.
    powers: Vec<f64>,
    largest: f64,
    pub gain: Vec<f64>,
    pub energy: Vec<f64>,
    /// `2^(bits − 1) − 1`.
    pub levels: f64,
    pub per_channel: bool,
}

impl Weight {
    /// Output and input channels of a group.
    pub fn group_sizes(&self) -> (usize, usize) {
        (self.outputs.len() / self.group, self.inputs.len() / self.group)
    }

    /// One of magnitudes `|w[o][i]|`, without noise yet.
    pub fn new(outputs: Vec<usize>, inputs: Vec<usize>, group: usize, magnitudes: &[f64]) -> Self {
        let largest = magnitudes.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let power = |w: &f64| libm::pow((w / largest).max(1e-12), ORDER);
        Self {
            outputs,
            inputs,
            group,
            powers: magnitudes.iter().map(power).collect(),
            largest,
            gain: vec![],
            energy: vec![],
            levels: 1.0,
            per_channel: false,
        }
    }
}

/// All that makes noise, and what limits factors.
#[derive(Clone, Debug, Default)]
pub struct Noise {
    pub count: usize,
    pub values: Vec<Rounded>,
    pub weights: Arc<Vec<Weight>>,
    /// `u[a] ≤ u[b] + limit` for each `(a, b, limit)`.
    pub caps: Vec<(usize, usize, f64)>,
}

impl Noise {
    /// The logarithms of the factors with the least noise: Adam, on the logarithm of the noise, whose weights count
    /// `eta` times.
    pub fn least(&self, eta: f64) -> Vec<f64> {
        let mut u = vec![0.0; self.count];
        let (mut first, mut second) = (u.clone(), u.clone());
        let mut best = (f64::INFINITY, u.clone());
        let (mut decay, mut slow_decay) = (1.0, 1.0);
        for step in 0..STEPS {
            let mut gradient = vec![0.0; self.count];
            let noise = self.at(&u, eta, &mut gradient);
            if noise < best.0 {
                best = (noise, u.clone());
            }
            (decay, slow_decay) = (decay * 0.9, slow_decay * 0.99);
            let rate = if step < STEPS * 3 / 5 { RATE } else { RATE / 5.0 };
            for v in 1..self.count {
                let g = gradient[v] / noise;
                first[v] = 0.9 * first[v] + 0.1 * g;
                second[v] = 0.99 * second[v] + 0.01 * g * g;
                let scale = (second[v] / (1.0 - slow_decay)).sqrt() + 1e-6;
                u[v] = (u[v] - rate * first[v] / (1.0 - decay) / scale).clamp(-LARGEST, LARGEST);
            }
            self.cap(&mut u);
        }
        best.1
    }

    fn cap(&self, u: &mut [f64]) {
        for &(a, b, limit) in &self.caps {
            // What is fixed does not give way.
            if a == 0 { u[b] = u[b].max(-limit) } else { u[a] = u[a].min(u[b] + limit) }
        }
    }

    /// The noise at `u`; adds its gradient (times `1 / ln 2`).
    fn at(&self, u: &[f64], eta: f64, gradient: &mut [f64]) -> f64 {
        let values: f64 = self.values.iter().map(|value| value.at(u, gradient)).sum();
        let weights: f64 = self.weights.iter().map(|weight| weight.at(u, eta, gradient)).sum();
        values + weights
    }
}

impl Rounded {
    fn at(&self, u: &[f64], gradient: &mut [f64]) -> f64 {
        let exponents = self.vars.iter().zip(&self.limits).map(|(&v, limit)| limit + u[v]);
        let exponents: Vec<f64> = exponents.collect();
        let largest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = exponents.iter().map(|e| exp2(ORDER * (e - largest))).collect();
        let sum: f64 = powers.iter().sum();
        let step = largest + log2(sum) / ORDER - log2(self.levels);
        let terms = self.vars.iter().zip(&self.sensitivity);
        let terms: Vec<f64> = terms.map(|(&v, a)| a * exp2(2.0 * (step - u[v])) / 12.0).collect();
        let noise: f64 = terms.iter().sum();
        for ((&v, term), power) in self.vars.iter().zip(&terms).zip(&powers) {
            gradient[v] += 2.0 * (noise * power / sum - term);
        }
        noise
    }
}

impl Weight {
    fn at(&self, u: &[f64], eta: f64, gradient: &mut [f64]) -> f64 {
        let most = |vars: &[usize], sign: f64| {
            vars.iter().map(|&v| sign * u[v]).fold(f64::NEG_INFINITY, f64::max)
        };
        let (top, bottom) = (most(&self.outputs, 1.0), most(&self.inputs, -1.0));
        let power = |e: f64| exp2(ORDER * e);
        let out: Vec<f64> = self.outputs.iter().map(|&v| power(u[v] - top)).collect();
        let inside: Vec<f64> = self.inputs.iter().map(|&v| power(-u[v] - bottom)).collect();
        let energy = self.inputs.iter().zip(&self.energy);
        let energy: Vec<f64> = energy.map(|(&v, e)| e * exp2(2.0 * u[v])).collect();
        let gain = self.outputs.iter().zip(&self.gain);
        let gain: Vec<f64> = gain.map(|(&v, g)| g * exp2(-2.0 * u[v])).collect();
        let (outs, ins) = self.group_sizes();
        let of_group = |x: &[f64], n: usize| -> Vec<f64> {
            x.chunks_exact(n).map(|part| part.iter().sum()).collect()
        };
        let energies = of_group(&energy, ins);
        let unit = eta * self.largest * self.largest / (12.0 * self.levels * self.levels);
        let rows: Vec<f64> = (0..self.outputs.len())
            .map(|o| dot(&self.powers[o * ins..][..ins], &inside[o / outs * ins..][..ins]))
            .collect();
        // For each output channel its noise, and how that depends on the power of one weight.
        let (noise, slopes): (Vec<f64>, Vec<f64>) = if self.per_channel {
            let of = |(o, row): (usize, &f64)| {
                // The factor of the channel is one of its step, too: the noise does not depend on it.
                let row = row.max(f64::MIN_POSITIVE);
                let square = exp2(2.0 * (bottom + log2(row) / ORDER));
                let noise = unit * self.gain[o] * square * energies[o / outs];
                (noise, noise / row)
            };
            rows.iter().enumerate().map(of).unzip()
        } else {
            let sum: f64 = out.iter().zip(&rows).map(|(o, row)| o * row).sum();
            let sum = sum.max(f64::MIN_POSITIVE);
            let square = unit * exp2(2.0 * (top + bottom + log2(sum) / ORDER));
            let noise = (0..gain.len()).map(|o| square * gain[o] * energies[o / outs]);
            let noise: Vec<f64> = noise.collect();
            let total: f64 = noise.iter().sum();
            for (o, &v) in self.outputs.iter().enumerate() {
                gradient[v] += 2.0 * (total * out[o] * rows[o] / sum - noise[o]);
            }
            (noise, out.iter().map(|out| out * total / sum).collect())
        };
        let mut columns = vec![0.0; self.inputs.len()];
        for (o, slope) in slopes.iter().enumerate() {
            let row = &self.powers[o * ins..][..ins];
            let columns = &mut columns[o / outs * ins..][..ins];
            columns.iter_mut().zip(row).for_each(|(sum, power)| *sum += slope * power);
        }
        let noises = of_group(&noise, outs);
        for (i, &v) in self.inputs.iter().enumerate() {
            let of_energy = noises[i / ins] * energy[i] / energies[i / ins].max(f64::MIN_POSITIVE);
            gradient[v] += 2.0 * (of_energy - inside[i] * columns[i]);
        }
        noises.iter().sum()
    }
}

/// Four sums at a time, in an order that is always the same.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        (0..4).for_each(|i| sums[i] += a[i] * b[i]);
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
