use std::num::NonZeroUsize;

use super::*;
use crate::calibrate::{Calibrator, Observer, observe};
use crate::data::Workers;
use crate::graph::Graph;
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::mean::Mean;
use crate::ops::reshape::Reshape;
use crate::ops::{Op, Window};
use crate::quant::Scheme;
use crate::quantize::step;
use crate::testing::{Net, Rng};

const SAMPLES: usize = 12;

/// Layers of all kinds: dense and with padding, depthwise, grouped, linear.
fn network() -> Graph {
    let mut net = Net::new(7);
    let x = net.input(&[1, 4, 9, 9]);
    let window = Window { pads: [1; 4], stride: [2, 1], ..Window::new([3, 3]) };
    let mut layer = |x, group: usize, shape: &[usize], window| {
        let (weight, bias) = (net.random(shape), net.random(&shape[..1]));
        net.node(Op::Conv(Conv { window, group }), &[x, weight, bias])
    };
    let dense = layer(x, 1, &[8, 4, 3, 3], window);
    let depthwise = layer(dense, 8, &[8, 1, 3, 3], Window { dilation: [1, 2], ..window });
    let grouped = layer(depthwise, 2, &[6, 4, 1, 1], Window::new([1, 1]));
    let pooled = net.node(Op::Mean(Mean { reduced: vec![false, false, true, true] }), &[grouped]);
    let pooled = net.node(Op::Reshape(Reshape { shape: vec![1, 6] }), &[pooled]);
    let (weight, bias) = (net.random(&[6, 5]), net.random(&[5]));
    let y = net.node(Op::Linear(Linear { transposed: false }), &[pooled, weight, bias]);
    net.finish(&[y])
}

/// Samples whose neighbouring numbers are alike.
fn samples(graph: &Graph) -> Vec<Tensor<f32>> {
    let shape = &graph.values[graph.inputs[0]].shape;
    let mut rng = Rng(3);
    let smooth = |x: Tensor<f32>| {
        let mut last = 0.0;
        x.map(|&x| {
            last = 0.8 * last + x;
            last
        })
    };
    (0..SAMPLES).map(|_| smooth(rng.reals(shape, 1.0))).collect()
}

fn seen(graph: &Graph, samples: &[Tensor<f32>]) -> Observer {
    observe(&FloatExecutor::new(graph), &samples.to_vec(), Workers::default()).unwrap()
}

fn session<'a>(
    graph: &Graph,
    observer: &'a Observer,
    scheme: Scheme,
    threads: usize,
) -> Session<'a> {
    let workers = Workers::new(NonZeroUsize::new(threads).unwrap());
    Session::by(workers, graph.clone(), observer, Calibrator::MinMax, scheme.into()).unwrap()
}

#[test]
fn energies_fall_and_codes_stay_within_their_range() {
    let mut rng = Rng(1);
    for (depth, width) in [(1, 8), (9, 8), (40, 8), (9, 4), (40, 4)] {
        let mixed = rng.reals(&[depth, depth], 1.0);
        let x: Vec<f32> = (0..200)
            .flat_map(|_| {
                let of = rng.reals(&[depth], 1.0);
                let row = |mix: &[f32]| mix.iter().zip(of.data()).map(|(a, b)| a * b).sum::<f32>();
                mixed.data().chunks(depth).map(row).collect::<Vec<_>>()
            })
            .collect();
        let moments = Moments::new(&x, depth, [0, depth], 4, true);
        let rows = 21;
        let w = rng.reals(&[rows, depth], 1.0);
        let highest = (1i32 << (width - 1)) - 1;
        let codes = Codes { lowest: (-highest - 1) as f64, highest: highest as f64 };
        // Some are clipped.
        let scales: Vec<f64> = (0..rows).map(|i| 1.0 / (highest as usize + i % 2) as f64).collect();
        let energies = |q: &[f32]| moments.energies(&moments.errors(w.data(), q, &scales));
        let nearest = energies(&moments.nearest(w.data(), &scales, codes));
        let best = moments.best(w.data(), &scales, codes);
        let is_code =
            |q: &f32| q.fract() == 0.0 && (codes.lowest..=codes.highest).contains(&(*q as f64));
        assert!(best.iter().all(is_code));
        let best = energies(&best);
        assert!(nearest.iter().zip(&best).all(|(nearest, best)| best <= nearest));
        if depth > 1 {
            let sum = |energies: &[f64]| energies.iter().sum::<f64>();
            assert!(sum(&best) < 0.9 * sum(&nearest), "{depth}: {best:?} {nearest:?}");
        }
    }
}

/// Rounding with one column after the other, the rest fitted to what is left by least squares each time.
#[test]
fn the_rest_makes_up_for_each_error_as_well_as_it_can() {
    let mut rng = Rng(2);
    let x = rng.reals(&[50, 3], 1.0);
    let moments = Moments::new(x.data(), 3, [0, 3], 1, false);
    let h = |i: usize, j: usize| moments.h[3 * i + j] as f64;
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| h(b, b).total_cmp(&h(a, a)));
    let [a, b, c] = order;
    let w = [0.31f32, -0.47, 0.23];
    let (scale, codes) = (0.1, Codes { lowest: -8.0, highest: 7.0 });
    let round = |x: f64| (x / scale).round_ties_even() * scale;
    let real = |i: usize| w[i] as f64;
    let error_a = round(real(a)) - real(a);
    // The b and c that are best, given that error.
    let det = h(b, b) * h(c, c) - h(b, c) * h(b, c);
    let best_b = real(b) - error_a * (h(a, b) * h(c, c) - h(a, c) * h(b, c)) / det;
    let error_b = round(best_b) - real(b);
    let best_c = real(c) - (error_a * h(a, c) + error_b * h(b, c)) / h(c, c);
    let mut expected = [0.0; 3];
    for (i, error) in [(a, error_a), (b, error_b), (c, round(best_c) - real(c))] {
        expected[i] = ((real(i) + error) / scale).round() as f32;
    }
    assert_eq!(moments.feedback(&w, &[scale], codes, 0), expected);
}

#[test]
fn results_are_nearer_and_do_not_depend_on_threads_or_parts() {
    let graph = network();
    let samples = samples(&graph);
    let observer = seen(&graph, &samples);
    let mut merged = seen(&graph, &samples[7..]);
    merged.merge(seen(&graph, &samples[..7]));
    let (scale, shift) = (Scheme::new(Preset::Scale), Scheme::new(Preset::Shift));
    let mut nearer = 0;
    for (scheme, weights) in [
        (scale, Width::W8),
        (shift, Width::W8),
        (shift.per_tensor(), Width::W8),
        (scale, Width::W4),
    ] {
        // Results of 16 bits lose nothing by themselves.
        let scheme = scheme.with_widths(Width::W16, weights);
        let run = |observer, threads, names: &[&str]| {
            let mut session = session(&graph, observer, scheme, threads);
            let steps: Vec<_> = names.iter().map(|name| step(name).unwrap()).collect();
            let reports = session.run(&steps).unwrap();
            (session.quantized().unwrap(), reports)
        };
        let both = ["round-weights", "bias-correction"];
        let (quantized, reports) = run(&observer, 1, &both);
        let Report { changes, gain_db, .. } = &reports[0];
        assert_eq!(changes.is_empty(), *gain_db < Some(0.0), "{scheme:?}: {gain_db:?}");
        nearer += (*gain_db > Some(0.0)) as usize;
        for threads in [2, 3] {
            assert_eq!(run(&observer, threads, &both), (quantized.clone(), reports.clone()));
        }
        assert_eq!(run(&merged, 2, &both).0, quantized);
        // Without the step it is what it was without any.
        let (without, _) = run(&observer, 2, &["bias-correction"]);
        let mut alone = session(&graph, &observer, scheme, 1);
        BiasCorrection.run(&mut alone).unwrap();
        assert_eq!(alone.quantized().unwrap(), without);
    }
    assert!(nearer > 0);
}

#[test]
fn without_samples_or_squares_that_are_numbers_codes_are_the_nearest_ones() {
    let graph = network();
    let mut observer = Observer::new(&graph);
    let network = FloatExecutor::new(&graph);
    for sample in samples(&graph) {
        network.run(&[sample], |v, x| observer.see(v, x)).unwrap();
    }
    let scheme = Scheme::new(Preset::Shift);
    let plain = session(&graph, &observer, scheme, 1).quantized().unwrap();
    let mut rounded = session(&graph, &observer, scheme, 1);
    rounded.run(&[step("round-weights").unwrap()]).unwrap();
    assert_eq!(rounded.quantized().unwrap(), plain);

    let codes = Codes { lowest: -128.0, highest: 127.0 };
    let w = Rng(5).reals(&[6], 1.0);
    for magnitude in [0.0, 1e-30, 1e30] {
        let x = Rng(4).reals(&[10, 3], magnitude);
        let moments = Moments::new(x.data(), 3, [0, 3], 1, true);
        let scales = [0.01; 2];
        let nearest = moments.nearest(w.data(), &scales, codes);
        assert_eq!(moments.best(w.data(), &scales, codes), nearest, "{magnitude}");
    }
}
