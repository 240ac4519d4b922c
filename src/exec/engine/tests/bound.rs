//! Sums that reach the largest accumulator that is proved: inputs by the signs of the weights, and biases
//! that fill what is left. The oracle is exact and shares no code with the operators.

use super::*;
use crate::codes::CodeTensor;
use crate::graph::{Constant, Graph, Node, Parts, Value};
use crate::ops::clip::Clip;
use crate::testing::{check_c, tabulate};

/// A convolution, or a linear layer, which is one with a window of one pixel on an image of one.
#[derive(Clone, Debug)]
struct Layer {
    /// Of activations and of weights.
    widths: [Width; 2],
    /// `[in_ch, h, w]`.
    x: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: [usize; 4],
    group: usize,
    linear: bool,
    /// For each output channel, `[in_ch / group, kh, kw]`.
    weight: Vec<Vec<i64>>,
    bias: Vec<i64>,
    x_zero: i64,
    y_zero: i64,
    /// Of the result: the scale of the sums is 1.
    y_scale: f32,
}

impl Layer {
    fn random(rng: &mut Rng, kind: usize) -> Self {
        let widths = rng.pick(&[
            [Width::W8; 2],
            [Width::W8; 2],
            [Width::W8; 2],
            [Width::W8, Width::W16],
            [Width::W16, Width::W8],
            [Width::W16; 2],
            [Width::W8, Width::W4],
            [Width::W16, Width::W4],
        ]);
        let channels = rng.pick(&[1, 2, 3, 4, 8, 16, 24, 40]);
        let [h, w] = [0; 2].map(|_| rng.pick(&[3, 5, 6, 9]));
        let (mut kernel, mut stride, mut pads) = ([1; 2], [1; 2], [0; 4]);
        let (mut x, mut group, mut out_ch) = ([channels, h, w], 1, rng.pick(&[1, 4, 8, 17]));
        match kind {
            0 => (kernel, pads) = ([3, 3], [1; 4]),
            1 => {}
            2 => {
                (kernel, pads, group) = ([3, 3], [1; 4], channels);
                stride = rng.pick(&[[1, 1], [2, 2]]);
                out_ch = channels * rng.pick(&[1, 1, 2]);
            }
            3 => {
                (kernel, pads) = (rng.pick(&[[3, 3], [2, 2], [3, 1]]), [1, 0, 0, 1]);
                stride = rng.pick(&[[1, 1], [2, 1]]);
            }
            _ => (x, out_ch) = ([rng.pick(&[1, 3, 64, 127, 1000, 4096, 66_000]), 1, 1], 2),
        }
        let depth = x[0] / group * kernel[0] * kernel[1];
        let (lo, hi) = (widths[1].lowest() as i64, widths[1].highest() as i64);
        let all: Vec<i64> = (lo..=hi).collect();
        let lists = [vec![hi], vec![lo], vec![lo, hi], vec![lo + 1, hi], vec![lo, 0, 0, 0], all];
        let list = &lists[rng.pick(&[0, 0, 1, 1, 2, 3, 4, 5])];
        let weight = (0..out_ch).map(|_| (0..depth).map(|_| rng.pick(list)).collect()).collect();
        let (lo, hi) = (widths[0].lowest() as i64, widths[0].highest() as i64);
        let x_zero = rng.pick(&[lo, hi, 0, lo + 77]);
        let y_zero = rng.pick(&[lo, 0, hi, 5]);
        let mut layer = Self {
            widths,
            x,
            kernel,
            stride,
            pads,
            group,
            weight,
            x_zero,
            y_zero,
            linear: kind > 3,
            bias: Vec::new(),
            y_scale: 1.0,
        };
        layer.bias = layer
            .weight
            .iter()
            .map(|weight| {
                let magnitudes: i64 = weight.iter().map(|w| w.abs()).sum();
                let moved = (x_zero * weight.iter().sum::<i64>()).abs();
                let taken =
                    ((x_zero - lo).max(hi - x_zero) * magnitudes).max(moved - lo * magnitudes);
                let room = i32::MAX as i64 - taken;
                if room > 0 { room * rng.pick(&[1, -1]) } else { rng.pick(&[-1000, 1000]) }
            })
            .collect();
        let largest = (0..out_ch).map(|o| layer.largest(o)).max().unwrap();
        layer.y_scale = largest as f32 / hi as f32 * rng.pick(&[1.0, 1.0, 0.25, 1.7]);
        layer
    }

    /// The largest magnitude of the sums of channel `o`.
    fn largest(&self, o: usize) -> i64 {
        let (lo, hi) = (self.widths[0].lowest() as i64, self.widths[0].highest() as i64);
        let end = |up: bool| -> i64 {
            let term = |&w: &i64| {
                if (w > 0) == up { (hi - self.x_zero) * w } else { (lo - self.x_zero) * w }
            };
            self.bias[o] + self.weight[o].iter().map(term).sum::<i64>()
        };
        end(true).abs().max(end(false).abs())
    }

    fn out(&self) -> [usize; 2] {
        [0, 1].map(|a| {
            (self.x[a + 1] + self.pads[a] + self.pads[a + 2] - self.kernel[a]) / self.stride[a] + 1
        })
    }

    fn graph(&self) -> Graph {
        let shapes = match self.linear {
            true => {
                [vec![1, self.x[0]], vec![self.weight.len(), self.x[0]], vec![1, self.weight.len()]]
            }
            false => {
                let [h, w] = self.out();
                let of_weight = [self.weight.len(), self.x[0] / self.group];
                [
                    [&[1][..], &self.x].concat(),
                    [of_weight, self.kernel].concat(),
                    vec![1, self.weight.len(), h, w],
                ]
            }
        };
        let mut graph = Graph::default();
        let mut add =
            |name: &str, shape: &[usize], scale: f32, zero: i64, width, codes: Option<&[i64]>| {
                let tensor = |codes: &[i64]| {
                    let codes = codes.iter().map(|&code| code as i32).collect();
                    Constant::Codes(CodeTensor::new(width, Tensor::new(shape, codes).unwrap()))
                };
                graph.add_value(Value {
                    name: name.into(),
                    shape: shape.to_vec(),
                    quant: Some(QuantParams::per_tensor(scale, zero as i32, width)),
                    constant: codes.map(tensor),
                    given: None,
                })
            };
        let x = add("x", &shapes[0], 1.0, self.x_zero, self.widths[0], None);
        let w = add("w", &shapes[1], 1.0, 0, self.widths[1], Some(&self.weight.concat()));
        let b = add("b", &[self.bias.len()], 1.0, 0, Width::W32, Some(&self.bias));
        let y = add("y", &shapes[2], self.y_scale, self.y_zero, self.widths[0], None);
        let window = Window {
            kernel: self.kernel,
            stride: self.stride,
            pads: self.pads,
            ..Window::new(self.kernel)
        };
        let op = match self.linear {
            true => Op::Linear(Linear { transposed: true }),
            false => Op::Conv(Conv { window, group: self.group }),
        };
        let node = Node {
            name: "layer".into(),
            parts: Parts::default(),
            op,
            clamp: Clip::NONE,
            inputs: vec![x, w, b],
            output: y,
        };
        graph.nodes.push(node);
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        graph
    }

    /// Codes that make the sums of some channels as large, and as small, as they can be; and others.
    fn inputs(&self, rng: &mut Rng) -> Vec<Vec<i64>> {
        let (lo, hi) = (self.widths[0].lowest() as i64, self.widths[0].highest() as i64);
        let [c, h, w] = self.x;
        let mut all = vec![vec![hi; c * h * w], vec![lo; c * h * w]];
        all.push((0..c * h * w).map(|_| rng.pick(&[lo, hi])).collect());
        let (per_group, [kh, kw]) = (c / self.group, self.kernel);
        for o in [0, self.weight.len() - 1] {
            let group = o / (self.weight.len() / self.group);
            let sign = |i: usize| {
                let (channel, y, x) = (i / (h * w), i / w % h, i % w);
                // Windows begin where the padding ends, and at each multiple of the kernel's sides.
                let at = [(y + self.pads[0]) % kh, (x + self.pads[1]) % kw];
                let inside = channel / per_group == group;
                let at = (channel % per_group * kh + at[0]) * kw + at[1];
                inside && self.weight[o][at] > 0
            };
            let (up, down): (Vec<i64>, Vec<i64>) =
                (0..c * h * w).map(|i| if sign(i) { (hi, lo) } else { (lo, hi) }).unzip();
            all.extend([up, down]);
        }
        all
    }

    /// The exact sum of channel `o` with its window at `[y, x]`.
    fn sum(&self, codes: &[i64], o: usize, y: usize, x: usize) -> i128 {
        let [c, h, w] = self.x;
        let (per_group, [kh, kw]) = (c / self.group, self.kernel);
        let first = o / (self.weight.len() / self.group) * per_group;
        let mut sum = self.bias[o] as i128;
        for (i, weight) in self.weight[o].iter().enumerate() {
            let (channel, ky, kx) = (first + i / (kh * kw), i / kw % kh, i % kw);
            let (y, x) = (y * self.stride[0] + ky, x * self.stride[1] + kx);
            let (Some(y), Some(x)) = (y.checked_sub(self.pads[0]), x.checked_sub(self.pads[1]))
            else {
                continue;
            };
            if y < h && x < w {
                let code = codes[(channel * h + y) * w + x];
                sum += (code - self.x_zero) as i128 * *weight as i128;
            }
        }
        sum
    }

    /// The code of a sum: times the exact value of the factor, rounded once, half to even.
    fn code(&self, sum: i128) -> i32 {
        let factor = 1.0 / self.y_scale;
        let mut exponent = 0;
        let mut significand = factor as f64;
        while significand.fract() != 0.0 {
            (significand, exponent) = (significand * 2.0, exponent + 1);
        }
        let (product, unit) = (sum * significand as i128, 1_i128 << exponent);
        let (whole, rest) = (product.div_euclid(unit), product.rem_euclid(unit));
        let up = 2 * rest > unit || 2 * rest == unit && whole % 2 != 0;
        let code = whole + up as i128 + self.y_zero as i128;
        code.clamp(self.widths[0].lowest() as i128, self.widths[0].highest() as i128) as i32
    }
}

#[test]
fn sums_that_reach_the_bound_are_exact() {
    let mut rng = Rng(21);
    // Sums that reached 2^31 - 1 exactly, by the path that computed them.
    let mut reached = std::collections::BTreeMap::new();
    let mut in_c = Vec::new();
    for i in 0..200 {
        let layer = Layer::random(&mut rng, i % 5);
        let what = format!("layer {i}: {:?}, {:?}, {:?}", layer.widths, layer.x, layer.kernel);
        let graph = layer.graph();
        let Ok(int) = lower(&graph) else { continue };
        let bound = int.nodes[0].op.acc_bound().unwrap();
        let [h, w] = layer.out();
        let engines = engines(&int, &[1, 2]);
        let mut sessions: Vec<Session> = engines.iter().map(|e| e.session().unwrap()).collect();
        assert!(engines.iter().flat_map(Engine::layers).all(|layer| layer.path != "reference"));
        let mut runs = Vec::new();
        for codes in layer.inputs(&mut rng) {
            let shape = &graph.values[graph.inputs[0]].shape;
            let given = codes.iter().map(|&code| code as i32).collect();
            let given = Tensor::new(shape.clone(), given).unwrap();
            let real = [given.map(|&code| (code - layer.x_zero as i32) as f32)];
            let mut largest = 0;
            let expected = tabulate(&graph.values[graph.outputs[0]].shape, |at| {
                let sum = layer.sum(
                    &codes,
                    at[1],
                    at.get(2).map_or(0, |&y| y),
                    at.get(3).map_or(0, |&x| x),
                );
                largest = largest.max(sum.abs());
                layer.code(sum)
            });
            assert!(largest <= bound as i128, "{what}: {largest} is beyond {bound}");
            let got = IntExecutor::new(&int).run_codes(&real, |_, _| Ok(())).unwrap();
            assert_eq!(got, std::slice::from_ref(&expected), "{what}: reference");
            for (engine, session) in engines.iter().zip(&mut sessions) {
                let got = engine.run_codes(session, &real).unwrap();
                assert_eq!(got, std::slice::from_ref(&expected), "{what}: {:?}", engine.options());
                if largest == i32::MAX as i128 {
                    let path = engine.layers().next().unwrap().path;
                    *reached.entry(path).or_insert(0) += h * w;
                }
            }
            runs.push(vec![given]);
        }
        if i % 8 == i / 8 % 8 {
            in_c.push((graph, runs));
        }
    }
    for path in ["depthwise", "depthwise16", "product", "product16", "winograd"] {
        assert!(reached.contains_key(path), "{path} not among {reached:?}");
    }
    check_c(&in_c);
}
