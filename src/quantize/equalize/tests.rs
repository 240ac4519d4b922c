use std::num::NonZeroUsize;

use super::*;
use crate::calibrate::Observer;
use crate::data::{Dataset, Preprocess, Samples, Workers};
use crate::exec::engine::{Engine, Options};
use crate::exec::float::FloatExecutor;
use crate::ops::add::Add;
use crate::ops::average_pool::AveragePool;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::pad::{Mode, Pad};
use crate::ops::reshape::Reshape;
use crate::ops::slice::Slice;
use crate::ops::{Op, Window};
use crate::quant::{Scheme, Sqnr};
use crate::quantize::{Quantizer, prepare};
use crate::testing::random_graphs::random_network;
use crate::testing::{Net, Rng, random_inputs};

/// What `samples` show of `graph`.
fn seen(graph: &Graph, samples: &[Vec<Tensor<f32>>]) -> Observer {
    let network = FloatExecutor::new(graph);
    let mut observer = Observer::new(graph);
    samples.iter().for_each(|x| observer.see_sample(&network, x).unwrap());
    observer
}

/// `graph` with factors `2^k`, `|k| ≤ spread`, at random.
fn rescaled(graph: &Graph, samples: &[Vec<Tensor<f32>>], spread: i32, seed: u64) -> (Graph, usize) {
    let observer = seen(graph, samples);
    let scheme = Scheme::new(Preset::Shift).per_tensor();
    let mut session = Session::new(graph.clone(), &observer, Calibrator::MinMax, scheme).unwrap();
    let stats = stats(&session);
    let ties = Ties::new(graph, &stats);
    let mut rng = Rng(seed);
    let mut draw = || (rng.next() % (2 * spread as u64 + 1)) as f64 - spread as f64;
    let mut u: Vec<f64> = (0..ties.count).map(|_| draw()).collect();
    u[0] = 0.0;
    let caps = noise(&session, &ties, &stats).caps;
    for _ in 0..32 {
        for &(a, b, limit) in &caps {
            if a == 0 {
                u[b] = u[b].max((-limit).ceil())
            } else {
                u[a] = u[a].min((u[b] + limit).floor())
            }
        }
    }
    if caps.iter().any(|&(a, b, limit)| u[a] > u[b] + limit) {
        u.fill(0.0);
    }
    let free = u.iter().filter(|&&u| u != 0.0).count();
    rescale(&mut session, &factors(&ties, &u), &stats).unwrap();
    (session.graph, free)
}

fn outputs(graph: &Graph, x: &[Tensor<f32>]) -> Vec<Tensor<f32>> {
    FloatExecutor::new(graph).run(x, |_, _| Ok(())).unwrap()
}

/// Any operators, in any order: what an operator says about its channels is true.
#[test]
fn powers_of_two_leave_the_real_network_as_it_is_to_the_bit() {
    let mut moved = 0;
    for seed in 0..150 {
        let mut graph = random_network(seed, 9);
        prepare(&mut graph).unwrap();
        let samples: Vec<_> =
            (0..3).map(|i| random_inputs(&graph, &mut Rng(seed ^ i << 32), 1.0)).collect();
        let (twin, free) = rescaled(&graph, &samples, 3, seed);
        moved += free;
        for x in &samples {
            assert_eq!(outputs(&graph, x), outputs(&twin, x), "seed {seed}");
        }
    }
    assert!(moved > 300, "{moved} factors");
}

/// A residual stream, a depthwise convolution behind a ReLU6, parts, padding, and a Concat.
fn network() -> Graph {
    let mut net = Net::new(7);
    let conv = |kernel: [usize; 2], group| {
        let mut window = Window::new(kernel);
        window.pads = [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2];
        Op::Conv(Conv { window, group })
    };
    let x = net.input(&[1, 3, 6, 6]);
    let layer = |net: &mut Net, x, [out, per_group]: [usize; 2], kernel, group, hi| {
        let (w, b) = (net.random(&[out, per_group, kernel, kernel]), net.random(&[out]));
        let y = net.node(conv([kernel; 2], group), &[x, w, b]);
        if let (Some(hi), Some(node)) = (hi, net.graph.nodes.last_mut()) {
            node.clamp = Clip { lo: 0.0, hi };
        }
        y
    };
    let stream = layer(&mut net, x, [4, 3], 3, 1, None);
    let wide = layer(&mut net, stream, [8, 4], 1, 1, Some(6.0));
    let deep = layer(&mut net, wide, [8, 1], 3, 8, Some(f32::INFINITY));
    let back = layer(&mut net, deep, [4, 8], 1, 1, None);
    let sum = net.node(Op::Add(Add { subtract: false }), &[stream, back]);
    let half = net.node(Op::Slice(Slice::of(&[1, 4, 6, 6], 1, 1, 2)), &[sum]);
    let pad = Pad { before: vec![0, 1, 0, 0], after: vec![0, 2, 0, 0], mode: Mode::Constant(0.0) };
    let padded = net.node(Op::Pad(pad), &[half]);
    let both = net.node(Op::Concat(Concat { axis: 1 }), &[sum, padded]);
    let pool = AveragePool { window: Window::new([6, 6]), count_include_pad: false };
    let mean = net.node(Op::AveragePool(pool), &[both]);
    let flat = net.node(Op::Reshape(Reshape { shape: vec![1, 9] }), &[mean]);
    let w = net.random(&[9, 5]);
    let y = net.node(Op::Linear(Linear { transposed: false }), &[flat, w]);
    net.finish(&[y])
}

#[test]
fn ties_by_hand() {
    let graph = network();
    let samples: Vec<_> = (0..4).map(|seed| random_inputs(&graph, &mut Rng(seed), 4.0)).collect();
    let observer = seen(&graph, &samples);
    let scheme = Scheme::new(Preset::Shift);
    let session = Session::new(graph.clone(), &observer, Calibrator::MinMax, scheme).unwrap();
    let stats = stats(&session);
    let ties = Ties::new(&graph, &stats);
    let of = |node: usize| &ties.of[graph.nodes[node].output];
    let [stream, wide, deep, back, sum, half, padded, both, mean, flat, y] =
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(of);
    assert!([stream, back].iter().all(|&v| v == sum));
    assert_eq!(half[..], sum[1..3]);
    assert_eq!(padded[1..3], half[..]);
    assert_eq!(both[..], [&sum[..], &padded[..]].concat());
    assert!(mean == both && flat == both);
    assert!(y.iter().chain(&ties.of[graph.inputs[0]]).all(|&a| a == 0));
    let reaching: Vec<usize> = reaching(&graph.nodes[1], &stats).collect();
    assert!(!reaching.is_empty() && reaching.iter().all(|&c| wide[c] == wide[reaching[0]]));
    // Those of the stream, of the padding, of the depthwise convolution, of what stays below the limit; and 1.
    assert_eq!(ties.count, 1 + 4 + 3 + 8 + (8 - reaching.len() + 1));
    assert_eq!(deep.len(), 8);
    let (twin, free) = rescaled(&graph, &samples, 5, 1);
    assert!(free > 12, "{free}");
    for x in &samples {
        assert_eq!(outputs(&graph, x), outputs(&twin, x));
    }
}

/// Top-1 of what the bundled network quantizes to, by these steps.
fn accuracy(graph: &Graph, steps: Vec<Box<dyn Step>>, threads: usize) -> f64 {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion");
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let open = |name| Dataset::open(folder.join(name), &preprocess).unwrap();
    let inputs = graph.named_inputs();
    let (calib, test) =
        (open("calib.npz").fit(&inputs).unwrap(), open("test.npz").fit(&inputs).unwrap());
    let scheme = Scheme::new(Preset::Shift).per_tensor();
    let quantizer = Quantizer::from_graph(graph.clone()).unwrap().scheme(scheme);
    let threads = Workers::new(NonZeroUsize::new(threads).unwrap());
    let quantizer = quantizer.threads(threads).calibrate(&calib).unwrap().steps(steps);
    let engine = Engine::new(&quantizer.quantize().unwrap().integer, Options::default()).unwrap();
    let mut session = engine.session().unwrap();
    let right = (0..test.len()).filter(|&i| {
        let y = &engine.run(&mut session, &Samples::get(&test, i).unwrap()).unwrap()[0];
        let best = (0..y.data().len()).max_by(|&a, &b| y.data()[a].total_cmp(&y.data()[b]));
        best == test.label(i)
    });
    right.count() as f64 / test.len() as f64
}

/// The bundled network, and a twin that computes the same with channels of very different sizes.
#[test]
fn a_twin_with_unequal_channels_is_as_good() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion/float.onnx");
    let mut graph = crate::onnx::load(&path).unwrap();
    prepare(&mut graph).unwrap();
    let samples: Vec<_> = (0..2).map(|seed| random_inputs(&graph, &mut Rng(seed), 1.0)).collect();
    let (twin, free) = rescaled(&graph, &samples, 6, 3);
    assert!(free > 100, "{free}");
    samples.iter().for_each(|x| assert_eq!(outputs(&graph, x), outputs(&twin, x)));
    let naive = accuracy(&twin, vec![], 2);
    assert!(naive < 0.3, "{naive}");
    for graph in [&graph, &twin] {
        let equal = accuracy(graph, vec![Box::new(Equalize)], 2);
        assert!(equal >= 0.935, "{equal}");
    }
}

#[test]
fn factors_do_not_depend_on_threads() {
    let graph = network();
    let samples: Vec<_> = (0..12).map(|seed| random_inputs(&graph, &mut Rng(seed), 4.0)).collect();
    let scheme = Scheme::new(Preset::Shift).per_tensor();
    let (twin, _) = rescaled(&graph, &samples, 5, 2);
    let observer = seen(&twin, &samples);
    let run = |threads| {
        let workers = Workers::new(NonZeroUsize::new(threads).unwrap());
        let calibrator = Calibrator::Auto;
        let mut session =
            Session::by(workers, twin.clone(), &observer, calibrator, scheme.into()).unwrap();
        let report = Equalize.run(&mut session).unwrap();
        (session.graph, session.params, report)
    };
    let one = run(1);
    assert!(one.2.changes.len() > 4, "{:?}", one.2);
    for x in &samples {
        let mut same = Sqnr::default();
        for (a, b) in outputs(&graph, x).iter().zip(&outputs(&one.0, x)) {
            same.add(a.data(), b.data());
        }
        assert!(same.db() > 110.0, "{}", same.db());
    }
    assert_eq!(one, run(3));
}
