//! What is said of values that have lost much, one network for each kind.

use super::*;
use crate::calibrate::Calibrator;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::unary::Unary;
use crate::quant::Scheme;
use crate::quantize::LossKind::*;

/// What is found where samples `x` calibrate `net` with the result `y`.
fn found(net: Net, y: ValueId, samples: Vec<Vec<f32>>, scheme: Scheme) -> Vec<Loss> {
    let graph = net.finish(&[y]);
    let shape = graph.values[graph.inputs[0]].shape.clone();
    let samples = samples.into_iter().map(|x| vec![Tensor::new(&shape[..], x).unwrap()]);
    let quantizer = Quantizer::from_graph(graph).unwrap().scheme(scheme);
    let quantizer = quantizer.calibrator(Calibrator::Percentile(99.9));
    let quantizer = quantizer.output_width(scheme.activation_width);
    quantizer.calibrate_stream(samples).unwrap().quantize().unwrap().losses
}

fn samples(len: usize, largest: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
    let mut rng = Rng(9);
    let sample = |rng: &mut Rng| {
        let x = rng.reals(&[len], 1.0);
        x.data().iter().enumerate().map(|(i, x)| x * largest(i)).collect()
    };
    (0..16).map(|_| sample(&mut rng)).collect()
}

const SCALE: Scheme = Scheme::new(Preset::Scale);

fn kinds(losses: &[Loss]) -> Vec<(&str, LossKind)> {
    losses.iter().map(|loss| (loss.value.as_str(), loss.kind)).collect()
}

#[test]
fn nothing_is_said_of_a_network_that_loses_nothing() {
    for scheme in SCHEMES {
        let mut net = Net::new(0);
        let x = net.input(&[1, 8, 4, 4]);
        let (w, b) = (net.random(&[8, 8, 1, 1]), net.random(&[8]));
        let y = net.node(POINTWISE, &[x, w, b]);
        let z = net.node(ADD, &[x, y]);
        let found = found(net, z, samples(128, |_| 1.0), scheme);
        assert_eq!(kinds(&found), [], "{found:?} under {scheme:?}");
    }
}

#[test]
fn an_argument_that_hardly_counts_is_named() {
    for op in [ADD, Op::Concat(Concat { axis: 1 })] {
        let mut net = Net::new(0);
        let x = net.input(&[1, 64]);
        let small = net.node(Op::Unary(Unary::Sigmoid), &[x]);
        let large = net.constant(Tensor::from_vec([1000.0, 999.0].repeat(32)));
        let large = net.node(Op::Mul(crate::ops::mul::Mul), &[x, large]);
        let y = net.node(op, &[large, small]);
        let name = net.graph.values[small].name.clone();
        let found = found(net, y, samples(64, |_| 1.0), SCALE);
        let loss = found.iter().find(|loss| loss.kind == FewCodes).unwrap();
        assert_eq!((loss.value.as_str(), loss.number), (name.as_str(), 1.0));
        assert!(loss.what.contains("uses 1 of 256 codes of "), "{loss}");
    }
}

#[test]
fn ranges_that_cut_off_energy_or_are_empty_are_named() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 4096]);
    let y = net.node(Op::Clip(Clip::RELU), &[x]);
    let z = net.node(Op::Clip(Clip { lo: 7.0, hi: 7.0 }), &[y]);
    // One in 4096 is a thousand times as large.
    let large = samples(4096, |i| if i == 77 { 1000.0 } else { 1.0 });
    let found = found(net, z, large, SCALE);
    let expected = [("v0", Clipped), ("v2", Constant)];
    assert_eq!(kinds(&found), expected, "{found:?}");
}

#[test]
fn channels_of_few_codes_are_named_once() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 32]);
    let weights =
        Tensor::new([32, 32], (0..1024).map(|i| if i % 32 == 3 { 1.0 } else { 1e-3 }).collect());
    let w = net.constant(weights.unwrap());
    let y = net.node(Op::Linear(Linear { transposed: false }), &[x, w]);
    let found =
        found(net, y, samples(32, |i| if i == 5 { 1000.0 } else { 1.0 }), SCALE.per_tensor());
    assert_eq!(kinds(&found)[..2], [("v0", SmallChannels), ("c1", SmallChannels)], "{found:?}");
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|loss| loss.number == 31.0), "{found:?}");
}

#[test]
fn weights_that_a_bias_takes_the_codes_of_are_named() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 64]);
    let (w, b) = (
        net.constant(Tensor::new([64, 2], vec![1e-7; 128]).unwrap()),
        net.constant(Tensor::from_vec(vec![1e4; 2])),
    );
    let y = net.node(Op::Linear(Linear { transposed: false }), &[x, w, b]);
    let wide = SCALE.with_widths(Width::W16, Width::W16);
    let found = found(net, y, samples(64, |_| 1e6), wide);
    assert!(kinds(&found).contains(&("c1", Bias)), "{found:?}");
}

/// What is left of two that are alike has their error, and little else.
#[test]
fn a_value_that_is_much_less_exact_than_its_arguments_is_named() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 256]);
    let more = net.constant(Tensor::from_vec([1.01, 1.0101].repeat(128)));
    let more = net.node(Op::Mul(crate::ops::mul::Mul), &[x, more]);
    let [a, b] = [x, more].map(|x| net.node(Op::Unary(Unary::Sigmoid), &[x]));
    let y = net.node(Op::Add(Add { subtract: true }), &[a, b]);
    let name = net.graph.values[y].name.clone();
    let found = found(net, y, samples(256, |_| 1.0), SCALE);
    assert_eq!(kinds(&found), [(name.as_str(), Noise)], "{found:?}");
    assert!(found[0].number < 20.0, "{found:?}");
    assert!(found[0].to_string().contains(" dB, what it is computed from "));
}
