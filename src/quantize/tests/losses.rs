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
    let as_asked = |quantizer: Quantizer| {
        let quantizer = quantizer.scheme(scheme).calibrator(Calibrator::Percentile(99.9));
        let quantizer = quantizer.output_width(scheme.activation_width);
        match scheme.weight_width {
            // Or else the only layer would have 8.
            Width::W4 => {
                let rules = r#"[{"values": ".", "weights": 4}]"#;
                quantizer.recipe(Recipe::from_json(rules).unwrap())
            }
            _ => quantizer,
        }
    };
    quantized(net.finish(&[y]), samples, as_asked).losses
}

fn quantized(
    graph: Graph,
    samples: Vec<Vec<f32>>,
    as_asked: impl Fn(Quantizer) -> Quantizer,
) -> Quantized {
    let shape = graph.values[graph.inputs[0]].shape.clone();
    let samples = samples.into_iter().map(|x| vec![Tensor::new(&shape[..], x).unwrap()]);
    // Others would make up for what is to be lost.
    let quantizer = as_asked(Quantizer::from_graph(graph).unwrap()).steps(steps_of(0));
    quantizer.calibrate_stream(samples).unwrap().quantize().unwrap()
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

/// Boxes up to 1000, scores up to 1/8, joined; behind that codes may be moved.
fn head(moved: bool) -> Graph {
    let mut net = Net::new(0);
    let x = net.input(&[1, 4, 4, 4]);
    let large = net.constant(Tensor::new([4, 1, 1], vec![1000.0; 4]).unwrap());
    let boxes = net.node(Op::Mul(crate::ops::mul::Mul), &[x, large]);
    let small = net.constant(Tensor::new([1], vec![-3.0]).unwrap());
    let logits = net.node(ADD, &[x, small]);
    let scores = net.node(Op::Unary(Unary::Sigmoid), &[logits]);
    let scores = net.node(Op::Reshape(Reshape { shape: vec![1, 4, 4, 4] }), &[scores]);
    let mut y = net.node(Op::Concat(Concat { axis: 1 }), &[boxes, scores]);
    if moved {
        y = net.node(Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }), &[y]);
    }
    net.finish(&[y])
}

/// The remedy is none that is taken already, and helps.
#[test]
fn scores_beside_boxes_are_named_once_and_split_from_them() {
    let of = |moved, as_asked: &dyn Fn(Quantizer) -> Quantizer| {
        quantized(head(moved), samples(64, |_| 1.0), as_asked).losses
    };
    for (moved, remedies) in [(false, ["--split-outputs"; 2]), (true, ["--outputs"; 2])] {
        for (width, remedy) in [(None, remedies[0]), (Some(Width::W8), remedies[1])] {
            let width = |quantizer: Quantizer| match width {
                Some(width) => quantizer.output_width(width),
                None => quantizer,
            };
            let found = of(moved, &width);
            assert_eq!(found.len(), 1, "{found:?}");
            let is_wide = width(Quantizer::from_graph(head(moved)).unwrap());
            let narrow = is_wide.full_recipe().unwrap().defaults.output_bits == Some(8);
            assert!(found[0].remedy.contains(remedy), "{}", found[0]);
            assert_eq!(found[0].remedy.contains("16 bits"), narrow, "{}", found[0]);
        }
    }
    assert_eq!(of(false, &|quantizer| quantizer.split_outputs()), []);
}

/// Of what is computed from 16 bits, 16 bits are no remedy.
#[test]
fn a_remedy_is_one_that_is_left() {
    let remedies = |scheme: Scheme| {
        // A bias makes up for the mean of what weights lose, but not where samples differ in size.
        let is_wide = scheme.activation_width == Width::W16;
        let noise = if is_wide { 1e-4 } else { 1e-3 };
        let size = |k: usize| if is_wide { k as f32 / 8.0 } else { 1.0 };
        let mut net = Net::new(0);
        let x = net.input(&[1, 64]);
        // Sums of numbers that cancel but for a thousandth.
        let rows = (0..64)
            .flat_map(|i| [1.0, 1.0 + i as f32 / 1e4].map(|x| if i % 2 == 0 { x } else { -x }));
        let w = net.constant(Tensor::new([64, 2], rows.collect()).unwrap());
        let y = net.node(Op::Linear(Linear { transposed: false }), &[x, w]);
        let found = found(
            net,
            y,
            samples(64, |_| noise)
                .into_iter()
                .enumerate()
                .map(|(k, x)| x.iter().map(|x| (x + 1.0) * size(k)).collect())
                .collect(),
            scheme,
        );
        found.into_iter().map(|loss| loss.remedy).collect::<Vec<_>>()
    };
    for (activations, weights, remedy) in [
        (Width::W8, Width::W4, "8 bits"),
        (Width::W8, Width::W8, "16 bits"),
        (Width::W16, Width::W8, "give its weights 16 bits"),
    ] {
        let found = remedies(SCALE.with_widths(activations, weights));
        assert!(found.iter().any(|r| r.contains(remedy)), "{activations} {weights}: {found:?}");
    }
}

/// In the float network they are constants: that is said, but is no loss. One that varies and becomes one code is.
#[test]
fn dead_channels_are_losses_if_quantization_made_them() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 4, 4, 4]);
    let w = [1.0, 0.0, -1.0, 0.5]
        .iter()
        .enumerate()
        .flat_map(|(o, w)| (0..4).map(move |i| if i == o { *w } else { 0.0 }));
    let w = net.constant(Tensor::new([4, 4, 1, 1], w.collect()).unwrap());
    let y = net.node(POINTWISE, &[x, w]);
    let name = net.graph.values[y].name.clone();
    let quantized = quantized(net.finish(&[y]), samples(64, |_| 1.0), |quantizer| quantizer);
    assert_eq!(quantized.losses, []);
    let dead: Vec<_> = quantized.dead.iter().map(|it| (&it.value, it.dead, it.channels)).collect();
    assert_eq!(dead, [(&name, 1, 4)]);

    // Of the second channel all weights become 0, though together they are a fifth of the only one of the first.
    let mut net = Net::new(0);
    let x = net.input(&[1, 64]);
    let w = (0..64).flat_map(|i| [if i == 0 { 1.0 } else { 0.0 }, 0.003]);
    let w = net.constant(Tensor::new([64, 2], w.collect()).unwrap());
    let y = net.node(Op::Linear(Linear { transposed: false }), &[x, w]);
    let samples = samples(1, |_| 1.0).into_iter().map(|x| x.repeat(64)).collect();
    let found = found(net, y, samples, SCALE.per_tensor());
    assert_eq!(kinds(&found), [("c1", SmallChannels), ("v2", Dead)], "{found:?}");
}

/// What differs by little is a result of 16 bits that is finer than the products that it is made of.
#[test]
fn biases_that_are_coarse_beside_their_results_are_named() {
    let net = || {
        let mut net = Net::new(0);
        let x = net.input(&[1, 2]);
        let w = net.constant(Tensor::new([2, 1], vec![1.0, -1.0]).unwrap());
        let b = net.constant(Tensor::from_vec(vec![0.002]));
        let y = net.node(Op::Linear(Linear { transposed: false }), &[x, w, b]);
        net.finish(&[y])
    };
    let pairs: Vec<_> =
        samples(2, |_| 1.0).into_iter().map(|x| vec![x[0], x[0] + x[1] / 1000.0]).collect();
    for (width, is_named) in [(Width::W8, false), (Width::W16, true)] {
        let float = net();
        let as_asked = |quantizer: Quantizer| quantizer.output_width(width);
        let quantized = quantized(float.clone(), pairs.clone(), as_asked);
        let of_bias = quantized.losses.iter().find(|loss| loss.kind == Bias);
        assert_eq!(of_bias.is_some(), is_named, "{:?}", quantized.losses);
        // The same of a file in which it is real.
        let bias = quantized.graph.nodes[0].inputs[2];
        let mut file = quantized.graph.clone();
        let real = float.real_constant(float.nodes[0].inputs[2]).unwrap();
        file.values[bias] = Value::real("b", real.clone());
        let mut prepared = file.clone();
        complete_params(&mut prepared).unwrap();
        let rounded = rounded_biases(&file, &prepared);
        assert_eq!(rounded.len(), is_named as usize, "{rounded:?}");
        if let (Some(loss), [rounded]) = (of_bias, &rounded[..]) {
            assert!(loss.number > 8.0 && (loss.number - rounded.steps).abs() < 1.0, "{rounded:?}");
        }
    }
}

/// What is read by a layer without a bias gets one, which calibration has not seen.
#[test]
fn a_corrected_bias_is_no_constant_activation() {
    let mut net = Net::new(3);
    let x = net.input(&[1, 2, 3, 3]);
    let dead = net.node(Op::Clip(Clip { lo: 0.0, hi: f32::INFINITY }), &[x]);
    let weight = net.random(&[2, 2, 1, 1]);
    let y = net.node(POINTWISE, &[dead, weight]);
    let mut negative = samples(18, |_| 1.0);
    negative.iter_mut().flatten().for_each(|x| *x = -x.abs());
    let losses = quantized(net.finish(&[y]), negative, |quantizer| quantizer).losses;
    assert!(losses.iter().any(|loss| loss.what.contains("0 in all samples")), "{losses:?}");
}

/// Not on the network whose biases are corrected.
#[test]
fn what_is_said_of_an_output_is_what_the_float_network_shows() {
    let mut net = Net::new(5);
    let x = net.input(&[1, 8, 4, 4]);
    let weight = net.random(&[4, 8, 1, 1]);
    let y = net.node(POINTWISE, &[x, weight]);
    let float = net.finish(&[y]);
    let mut data = samples(128, |_| 1.0);
    data.iter_mut().flatten().for_each(|x| *x += 3.0);
    let quantized = quantized(float.clone(), data.clone(), |quantizer| quantizer);
    let (mut signal, mut noise) = (0.0_f64, 0.0_f64);
    for sample in data {
        let x = [Tensor::new([1, 8, 4, 4], sample).unwrap()];
        let real = run_float(&float, &x).0;
        let (quant, graph) = (|v| quant(&quantized.graph, v), &quantized.graph);
        let codes = quant(graph.inputs[0]).quantize_all(x[0].data(), x[0].shape());
        let codes = run_int(graph, &[Tensor::new(x[0].shape(), codes).unwrap()]);
        let got = quant(graph.outputs[0]).dequantize_all(codes.data(), codes.shape());
        for (r, y) in real[0].data().iter().zip(&got) {
            signal += (*r as f64).powi(2);
            noise += (*r as f64 - *y as f64).powi(2);
        }
    }
    let (seen, said) = (10.0 * (signal / noise).log10(), quantized.values.last().unwrap().sqnr_db);
    assert!((seen - said).abs() < 0.01, "{said} dB said, {seen} dB seen");
}
