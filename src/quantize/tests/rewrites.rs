//! Corrected biases, and what a quantized file leaves unsaid.

use super::*;
use crate::exec::float::FloatExecutor;
use crate::quant::{Scheme, Width};
use crate::testing::tabulate;

const LINEAR: Op = Op::Linear(Linear { transposed: false });
const IMAGE: &[usize] = &[2, 3, 4, 4];

/// Builds a network with one input of shape `x`, whose outputs `build` returns.
fn net(x: &[usize], build: impl Fn(&mut Net, usize) -> Vec<usize>) -> Graph {
    let mut net = Net::new(3);
    let x = net.input(x);
    let outputs = build(&mut net, x);
    net.finish(&outputs)
}

/// Channels that are constant over the pixels of all samples.
fn constant_channels(shape: &[usize], values: &[f32]) -> Tensor<f32> {
    tabulate(shape, |p| values[p[1]])
}

fn observe(graph: &Graph, inputs: &[Tensor<f32>]) -> Observer {
    let executor = FloatExecutor::new(graph);
    let mut observer = Observer::new(graph);
    for x in inputs {
        executor.run(std::slice::from_ref(x), |v, x| observer.see(v, x)).unwrap();
    }
    observer
}

/// Mean of each channel of what a network computes.
fn means(graph: &Graph, x: &Tensor<f32>) -> Vec<f64> {
    let (y, _) = run_float(graph, std::slice::from_ref(x));
    let (channels, inner) = (y[0].shape()[1], y[0].shape()[2..].iter().product::<usize>());
    let mut sums = vec![0.0; channels];
    for (i, plane) in y[0].data().chunks_exact(inner).enumerate() {
        sums[i % channels] += plane.iter().map(|&x| x as f64).sum::<f64>();
    }
    let count = (y[0].data().len() / channels) as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// A network whose weights, but nothing else, are those of `quantized`.
fn with_weights_of(graph: &Graph, quantized: &Graph) -> Graph {
    let mut rounded = graph.clone();
    let weight = graph.nodes[0].inputs[1];
    let codes = quantized.values[quantized.nodes[0].inputs[1]].to_real().unwrap();
    rounded.values[weight].constant = Some(Constant::Real(codes.into_owned()));
    rounded
}

#[test]
fn corrected_biases_take_the_mean_error_of_rounded_weights_back() {
    let window = Window { pads: [1, 0, 2, 1], stride: [2, 1], ..Window::new([3, 2]) };
    let convolution = |group| Op::Conv(Conv { window, group });
    for (op, weight, channels) in [
        (convolution(1), &[4, 3, 3, 2][..], 4),
        (convolution(3), &[6, 1, 3, 2], 6),
        (LINEAR, &[3, 5], 5),
        (Op::Linear(Linear { transposed: true }), &[5, 3], 5),
    ] {
        for bias in [false, true] {
            let shape: &[usize] = if weight.len() == 2 { &[2, 3] } else { &[2, 3, 5, 4] };
            let graph = net(shape, |net, x| {
                let mut inputs = vec![x, net.random(weight)];
                if bias {
                    inputs.push(net.random(&[channels]));
                }
                vec![net.node(op.clone(), &inputs)]
            });
            // The channels keep their means over the samples.
            let samples = [[0.5, -2.0, 3.0], [1.5, 1.0, -1.0]];
            let samples = samples.map(|values| constant_channels(shape, &values));
            let mean = constant_channels(shape, &[1.0, -0.5, 1.0]);
            let observer = observe(&graph, &samples);
            for scheme in SCHEMES {
                let ranges = observer.ranges(Calibrator::MinMax);
                let quantized = quantize(&graph, &ranges, scheme).unwrap();
                let mut corrected = graph.clone();
                let changes =
                    super::super::correct_bias::correct_bias(&mut corrected, &quantized, &observer);
                assert_eq!(changes.len(), 1);
                let expected = means(&graph, &mean);
                let rounded = means(&with_weights_of(&graph, &quantized), &mean);
                let now = means(&with_weights_of(&corrected, &quantized), &mean);
                let distance = |got: &[f64]| -> f64 {
                    expected.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
                };
                let context = format!("{weight:?} {bias} {scheme:?}");
                let coarse = scheme.weight_width == Width::W16 || distance(&rounded) > 1e-4;
                assert!(coarse, "{context}: nothing to correct");
                assert!(distance(&now) < 2e-6, "{context}: {}", distance(&now));
                // And with codes: all that is left is the rounding of the bias.
                let codes =
                    quantize_corrected(&graph, &observer, Calibrator::MinMax, scheme).unwrap();
                let node = &codes.nodes[0];
                let step = codes.values[node.inputs[2]].quant.as_ref().unwrap();
                let step = step.scale.iter().copied().fold(0.0, f32::max) as f64;
                let mut integer = with_weights_of(&corrected, &codes);
                let real_bias = codes.values[node.inputs[2]].to_real().unwrap();
                let bias = integer.nodes[0].inputs[2];
                integer.values[bias].constant = Some(Constant::Real(real_bias.into_owned()));
                let left = distance(&means(&integer, &mean));
                assert!(left <= step / 2.0 + 2e-6, "{context}: {left} of {step}");
                lower(&codes).unwrap();
            }
        }
    }
}

const SCHEME: Scheme = SCHEMES[2];

fn ranges(graph: &Graph) -> Vec<Option<Range>> {
    vec![Some(Range { lo: -1.0, hi: 3.0 }); graph.values.len()]
}

#[test]
fn what_moves_codes_inherits_parameters_from_either_side() {
    let flatten = Op::Reshape(Reshape { shape: vec![2, 48] });
    let pool = Op::MaxPool(MaxPool(Window::new([1, 1])));
    let graph = net(IMAGE, |net, x| {
        let a = net.node(ADD, &[x, x]);
        let b = net.node(pool.clone(), &[a]);
        let c = net.node(flatten.clone(), &[b]);
        vec![net.node(ADD, &[c, c])]
    });
    let whole = quantize(&graph, &ranges(&graph), SCHEME).unwrap();
    for unsaid in [vec![2], vec![3], vec![2, 3], vec![1], vec![1, 2], vec![1, 3]] {
        let mut file = whole.clone();
        unsaid.iter().for_each(|&v: &usize| file.values[v].quant = None);
        complete_params(&mut file).unwrap();
        assert_eq!(file, whole, "{unsaid:?}");
        lower(&file).unwrap();
    }
    // Nobody can know them without a value that says them.
    let mut none = whole.clone();
    [1, 2, 3].into_iter().for_each(|v| none.values[v].quant = None);
    complete_params(&mut none).unwrap();
    assert!(refused(lower(&none)).contains("is not quantized"));
    let mut float = graph.clone();
    complete_params(&mut float).unwrap();
    assert_eq!(float, graph);
}

#[test]
fn real_biases_become_codes() {
    for scheme in SCHEMES {
        let graph =
            net(IMAGE, |net, x| {
                let (weight, bias) = (net.random(&[5, 3, 2, 2]), net.random(&[5]));
                vec![net.node(
                    Op::Conv(Conv { window: Window::new([2, 2]), group: 1 }),
                    &[x, weight, bias],
                )]
            });
        let whole = quantize(&graph, &ranges(&graph), scheme).unwrap();
        let bias = whole.nodes[0].inputs[2];
        let mut file = whole.clone();
        file.values[bias] = graph.values[bias].clone();
        complete_params(&mut file).unwrap();
        assert_eq!(file, whole);
        // Without codes of the weight there is no unit to count in: the bias stays real.
        let weight = whole.nodes[0].inputs[1];
        file.values[weight] = graph.values[weight].clone();
        file.values[bias] = graph.values[bias].clone();
        complete_params(&mut file).unwrap();
        assert!(file.values[bias].quant.is_none());
        let message = refused(lower(&file));
        assert!(message.contains("must be a quantized constant"), "{message}");
    }
}
