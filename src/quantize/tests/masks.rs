//! Masks before a softmax.

use super::*;
use crate::exec::int::IntExecutor;

const T: usize = 6;

/// `softmax(x + constant)` of scores of `T` positions, each seeing itself and those before it: what is behind it is
/// `hidden`, to the rest a number is added that may be another one for each.
fn causal(hidden: f32, moved: bool, bias: f32) -> Graph {
    let mut net = Net::new(5);
    let x = net.input(&[1, 2, T, T]);
    let seen = |i: usize| i % T <= i / T;
    let numbers = (0..T * T).map(|i| if seen(i) { bias * (i % 5) as f32 } else { hidden });
    let mask = net.constant(Tensor::new([T, T], numbers.collect()).unwrap());
    let mut s = net.node(ADD, &[mask, x]);
    if moved {
        s = net.node(Op::Reshape(Reshape { shape: vec![2, T, T] }), &[s]);
        let rows = net.constant(Tensor::new([T, 1], vec![0.5; T]).unwrap());
        s = net.node(ADD, &[s, rows]);
    }
    let axis = if moved { 2 } else { 3 };
    let y = net.node(Op::Softmax(Softmax { axis }), &[s]);
    net.finish(&[y])
}

fn samples(graph: &Graph) -> Vec<Vec<Tensor<f32>>> {
    (0..16).map(|seed| random_inputs(graph, &mut Rng(seed), 8.0)).collect()
}

#[test]
fn what_a_mask_hides_has_no_share_and_costs_no_steps() {
    for preset in [Preset::Scale, Preset::Shift] {
        for hidden in [f32::NEG_INFINITY, f32::MIN, -1e9, -1e4, -100.0] {
            for (moved, bias) in [(false, 0.0), (true, 0.0), (false, 1.5), (true, 0.25)] {
                let float = causal(hidden, moved, bias);
                let samples = samples(&float);
                let quantizer = Quantizer::from_graph(float.clone()).unwrap();
                let quantizer = quantizer.scheme(Scheme::new(preset)).steps(steps_of(0));
                let quantizer = quantizer.calibrate_stream(samples.clone()).unwrap();
                let quantized = quantizer.quantize().unwrap();
                let integers = IntExecutor::new(quantized.integer.clone());
                let (mut signal, mut noise) = (0.0, 0.0);
                for x in &samples {
                    let expected = run_float(&float, x).0.swap_remove(0);
                    let y = integers.run(x).unwrap().swap_remove(0);
                    for (i, (&y, &p)) in y.data().iter().zip(expected.data()).enumerate() {
                        let is_hidden = i % T > i / T % T;
                        assert!(!is_hidden || y == 0.0, "{hidden} {i}: {y}");
                        signal += (p as f64).powi(2);
                        noise += (y as f64 - p as f64).powi(2);
                    }
                }
                let db = 10.0 * (signal / noise).log10();
                let least = if preset == Preset::Scale { 30.0 } else { 26.0 };
                assert!(db > least, "{preset:?} {hidden} {moved} {bias}: {db} dB");
            }
        }
    }
}

/// Where something else reads the sum it must have codes of its own.
#[test]
fn a_mask_that_others_read_is_refused() {
    let mut graph = causal(f32::NEG_INFINITY, false, 0.0);
    graph.outputs.push(graph.nodes[0].output);
    let error = refused(Quantizer::from_graph(graph).map(|_| ()));
    assert!(error.contains("holds -inf, as masks do"), "{error}");
}

#[test]
fn numbers_that_no_mask_hides_are_refused() {
    let graph = causal(f32::NEG_INFINITY, false, 0.0);
    let samples: Vec<_> = (0..4).map(|s| random_inputs(&graph, &mut Rng(s), 4000.0)).collect();
    let quantizer = Quantizer::from_graph(graph).unwrap().calibrate_stream(samples).unwrap();
    let error = refused(quantizer.quantize().map(|_| ()));
    assert!(error.contains("beside a mask"), "{error}");
}
