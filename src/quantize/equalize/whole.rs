//! Factors that are powers of two, where steps are, too: the noise goes up and down in steps.

use super::noise::{LARGEST, Noise, Rounded, Weight};

/// A limit is passed by so much, as a logarithm, before a step doubles.
const SOFT: f64 = 0.15;
/// At most so often every variable is tried.
const SWEEPS: usize = 4;
/// A gain that counts, as a share of all noise.
const LEAST: f64 = 1e-7;

/// A descent, one or some variables at a time.
struct Search<'a> {
    noise: &'a Noise,
    eta: f64,
    u: Vec<f64>,
    /// By variable: values with such channels,
    values: Vec<Vec<usize>>,
    /// weights, each with the input channels that have it,
    weights: Vec<Vec<(usize, Vec<usize>)>>,
    /// and caps.
    caps: Vec<Vec<usize>>,
    /// Of each weight and output channel `max_i (log |w[o][i]| − u_i)`.
    rows: Vec<Vec<f64>>,
    costs: [Vec<f64>; 2],
}

impl Noise {
    /// Whole numbers near `u` with little noise under scales that are powers of two; those of weights count `eta` times.
    pub fn whole(&self, u: &[f64], eta: f64) -> Vec<f64> {
        let mut search = Search::new(self, eta, self.rounded(u));
        let mut last = f64::INFINITY;
        for _ in 0..SWEEPS {
            search.move_all();
            search.move_each();
            let now = search.total();
            if now >= 0.999 * last {
                break;
            }
            last = now;
        }
        search.u
    }
}

impl<'a> Search<'a> {
    fn new(noise: &'a Noise, eta: f64, u: Vec<f64>) -> Self {
        let (mut values, mut caps) = (vec![vec![]; u.len()], vec![vec![]; u.len()]);
        let mut weights: Vec<Vec<(usize, Vec<usize>)>> = vec![vec![]; u.len()];
        for (index, value) in noise.values.iter().enumerate() {
            value.vars.iter().for_each(|&v| values[v].push(index));
        }
        values.iter_mut().for_each(|list| list.dedup());
        for (index, weight) in noise.weights.iter().enumerate() {
            let mut see = |v: usize, input: Option<usize>| {
                if weights[v].last().is_none_or(|(last, _)| *last != index) {
                    weights[v].push((index, vec![]));
                }
                if let (Some(input), Some((_, inputs))) = (input, weights[v].last_mut()) {
                    inputs.push(input);
                }
            };
            weight.outputs.iter().for_each(|&v| see(v, None));
            weight.inputs.iter().enumerate().for_each(|(i, &v)| see(v, Some(i)));
        }
        for (index, &(a, b, _)) in noise.caps.iter().enumerate() {
            caps[a].push(index);
            caps[b].push(index);
        }
        let rows: Vec<Vec<f64>> = noise.weights.iter().map(|weight| rows(weight, &u)).collect();
        let of_values = noise.values.iter().map(|value| of_value(value, &u)).collect();
        let pairs = noise.weights.iter().zip(&rows);
        let of_weights = pairs.map(|(weight, rows)| of_weight(weight, rows, &u, eta)).collect();
        Self { noise, eta, u, values, weights, caps, rows, costs: [of_values, of_weights] }
    }

    fn total(&self) -> f64 {
        self.costs.iter().flatten().sum()
    }

    /// One variable after the other.
    fn move_each(&mut self) {
        let least = LEAST * self.total() / self.u.len() as f64;
        for a in 1..self.u.len() {
            let _ = self.attempt(&[a], 1.0, least) || self.attempt(&[a], -1.0, least);
        }
    }

    /// All channels of a value at once, and those that decide about the step of a weight.
    fn move_all(&mut self) {
        let least = LEAST * self.total();
        for value in &self.noise.values {
            let vars = distinct(value.vars.iter().copied());
            let _ = self.attempt(&vars, 1.0, least) || self.attempt(&vars, -1.0, least);
        }
        for (index, weight) in self.noise.weights.iter().enumerate() {
            let top = |search: &Self| {
                let exponents = search.rows[index].iter().zip(&weight.outputs);
                exponents.map(|(row, &v)| row + search.u[v]).fold(f64::NEG_INFINITY, f64::max)
            };
            let ceiling = top(self).floor();
            let exponents = self.rows[index].iter().zip(&weight.outputs);
            let high = exponents.filter(|(row, v)| **row + self.u[**v] >= ceiling);
            let high = distinct(high.map(|(_, &v)| v));
            let _ = self.attempt(&high, -1.0, least);
            let ceiling = top(self).floor();
            let (outs, ins) = weight.group_sizes();
            let reach = |(at, &log): (usize, &f32)| {
                let (o, i) = (at / ins, at / ins / outs * ins + at % ins);
                let exponent = log as f64 + self.u[weight.outputs[o]] - self.u[weight.inputs[i]];
                (exponent >= ceiling).then_some(weight.inputs[i])
            };
            let low = distinct(weight.logs.iter().enumerate().filter_map(reach));
            let _ = self.attempt(&low, 1.0, least);
        }
    }

    /// Adds `by` to these variables, if that is allowed and the noise is less by `least` or more.
    fn attempt(&mut self, vars: &[usize], by: f64, least: f64) -> bool {
        if vars.iter().any(|&a| a == 0 || (self.u[a] + by).abs() > LARGEST) {
            return false;
        }
        vars.iter().for_each(|&a| self.u[a] += by);
        let holds = |&cap: &usize| {
            let (a, b, limit) = self.noise.caps[cap];
            self.u[a] <= self.u[b] + limit
        };
        let allowed = vars.iter().all(|&a| self.caps[a].iter().all(holds));
        let accepted = allowed && self.accept(vars, by, least);
        if !accepted {
            vars.iter().for_each(|&a| self.u[a] -= by);
        }
        accepted
    }

    fn accept(&mut self, vars: &[usize], by: f64, least: f64) -> bool {
        let mut gain = 0.0;
        let mut values = Vec::new();
        for index in distinct(vars.iter().flat_map(|&a| self.values[a].iter().copied())) {
            let cost = of_value(&self.noise.values[index], &self.u);
            gain += self.costs[0][index] - cost;
            values.push((index, cost));
        }
        let mut weights = Vec::new();
        let touched = vars.iter().flat_map(|&a| self.weights[a].iter().map(|(index, _)| *index));
        for index in distinct(touched) {
            let weight = &self.noise.weights[index];
            let rows = match vars {
                &[a] => self.rows_after(index, a, by),
                _ => rows(weight, &self.u),
            };
            let cost = of_weight(weight, &rows, &self.u, self.eta);
            gain += self.costs[1][index] - cost;
            weights.push((index, cost, rows));
        }
        if gain <= least {
            return false;
        }
        values.into_iter().for_each(|(index, cost)| self.costs[0][index] = cost);
        for (index, cost, rows) in weights {
            (self.costs[1][index], self.rows[index]) = (cost, rows);
        }
        true
    }

    /// The rows of a weight after variable `a` has become more by `by`.
    fn rows_after(&self, index: usize, a: usize, by: f64) -> Vec<f64> {
        let weight = &self.noise.weights[index];
        let inputs = self.weights[a].iter().find(|(of, _)| *of == index);
        let inputs = inputs.map_or(&[][..], |(_, inputs)| inputs);
        if inputs.len() > 4 {
            return rows(weight, &self.u);
        }
        let mut new = self.rows[index].clone();
        let (outs, ins) = weight.group_sizes();
        for &i in inputs {
            let first = i / ins * outs;
            for (o, most) in new.iter_mut().enumerate().skip(first).take(outs) {
                let now = weight.logs[o * ins + i % ins] as f64 - self.u[a];
                if now >= *most {
                    *most = now;
                } else if now + by >= *most {
                    *most = row(weight, &self.u, o);
                }
            }
        }
        new
    }
}

fn distinct(list: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut list: Vec<usize> = list.collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// `2^(2e)` for a whole number `e`.
fn power_of_four(e: f64) -> f64 {
    f64::from_bits(((1023 + 2 * e as i64).clamp(1, 2046) as u64) << 52)
}

fn row(weight: &Weight, u: &[f64], o: usize) -> f64 {
    let (outs, ins) = weight.group_sizes();
    let inputs = &weight.inputs[o / outs * ins..][..ins];
    let exponents = weight.logs[o * ins..][..ins].iter().zip(inputs);
    exponents.map(|(&log, &v)| log as f64 - u[v]).fold(f64::NEG_INFINITY, f64::max)
}

fn rows(weight: &Weight, u: &[f64]) -> Vec<f64> {
    (0..weight.outputs.len()).map(|o| row(weight, u, o)).collect()
}

fn of_value(value: &Rounded, u: &[f64]) -> f64 {
    let exponents = value.vars.iter().zip(&value.limits).map(|(&v, limit)| limit + u[v]);
    let top = exponents.fold(f64::NEG_INFINITY, f64::max);
    let step = (top - libm::log2(value.levels) - SOFT).ceil();
    let terms = value.vars.iter().zip(&value.sensitivity);
    terms.map(|(&v, a)| a * power_of_four(-u[v])).sum::<f64>() * power_of_four(step) / 12.0
}

fn of_weight(weight: &Weight, rows: &[f64], u: &[f64], eta: f64) -> f64 {
    let (outs, ins) = weight.group_sizes();
    let energy = |i: usize| weight.energy[i] * power_of_four(u[weight.inputs[i]]);
    let energies = (0..weight.group).map(|g| (g * ins..(g + 1) * ins).map(energy).sum());
    let energies: Vec<f64> = energies.collect();
    let exponents = rows.iter().zip(&weight.outputs).map(|(row, &v)| row + u[v]);
    let top = exponents.fold(f64::NEG_INFINITY, f64::max);
    let noise = |(o, row): (usize, &f64)| {
        let top = if weight.per_channel { row + u[weight.outputs[o]] } else { top };
        let passed = weight.gain[o] * power_of_four(-u[weight.outputs[o]]);
        passed * power_of_four(top.floor() + 1.0) * energies[o / outs]
    };
    let codes = weight.levels + 1.0;
    rows.iter().enumerate().map(noise).sum::<f64>() * eta / (12.0 * codes * codes)
}
