use super::*;
use crate::exec::float::FloatExecutor;
use crate::ops::conv::Conv;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::linear::Linear;
use crate::ops::matmul::MatMul;
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Op, Window};
use crate::quant::Preset;
use crate::testing::{Net, Rng, random_inputs, refused};

fn network() -> Graph {
    let mut net = Net::new(0);
    let x = net.input(&[1, 3, 4, 4]);
    let weight = net.random(&[5, 3, 2, 2]);
    let c = net.node(Op::Conv(Conv { window: Window::new([2, 2]), group: 1 }), &[x, weight]);
    let y = net.node(Op::Softmax(Softmax { axis: 1 }), &[c]);
    let mut graph = net.finish(&[y]);
    graph.name = "net".into();
    graph
}

/// What these samples, which are of all magnitudes, leave behind.
fn observed(graph: &Graph, samples: impl Iterator<Item = u64>) -> Observer {
    let executor = FloatExecutor::new(graph);
    let mut observer = Observer::new(graph);
    for seed in samples {
        let mut rng = Rng(seed);
        let magnitude = rng.pick(&[1e-30, 1e-3, 1.0, 7.3, 1e6]);
        let inputs = random_inputs(graph, &mut rng, magnitude);
        observer.see_sample(&executor, &inputs).unwrap();
    }
    observer
}

#[test]
fn what_is_written_is_read() {
    let graph = network();
    for samples in [1, 2, 9] {
        let observer = observed(&graph, 0..samples);
        let json = observer.to_json(&graph);
        let again = Observer::from_json(&json, &graph).unwrap();
        assert_eq!(again, observer);
        assert_eq!(again.to_json(&graph), json);
        assert_eq!(again.samples(), samples);
    }
}

/// Layers of every kind that adds up products, and functions that the machine's own library would compute otherwise.
fn all_sums() -> Graph {
    let mut net = Net::new(7);
    let x = net.input(&[1, 3, 19, 17]);
    let conv = |net: &mut Net, x, window, group, [out_ch, in_ch]: [usize; 2]| {
        let Window { kernel: [kh, kw], .. } = window;
        let inputs = [x, net.random(&[out_ch, in_ch, kh, kw]), net.random(&[out_ch])];
        net.node(Op::Conv(Conv { window, group }), &inputs)
    };
    let plain = Window::new([3, 3]);
    let strided = Window { stride: [2, 2], pads: [1; 4], ..plain };
    let x = conv(&mut net, x, strided, 1, [20, 3]);
    let x = net.node(Op::Unary(Unary::HardSwish), &[x]);
    let x = conv(&mut net, x, Window { pads: [1; 4], ..plain }, 20, [20, 1]);
    let x = net.node(Op::Unary(Unary::Gelu { tanh: false }), &[x]);
    let x = conv(&mut net, x, Window { dilation: [2, 1], pads: [2, 1, 2, 1], ..plain }, 4, [36, 5]);
    let x = net.node(Op::Unary(Unary::Tanh), &[x]);
    let x = conv(&mut net, x, Window::new([1, 1]), 1, [50, 36]);
    let inputs = [x, net.random(&[50, 3, 2, 3]), net.random(&[3])];
    let window = Window { stride: [1, 2], ..Window::new([2, 3]) };
    let up = ConvTranspose { window, output_padding: [0; 2], group: 1 };
    let x = net.node(Op::ConvTranspose(up), &inputs);
    let x = net.node(Op::Unary(Unary::Sigmoid), &[x]);
    let weight = net.random(&[19, 23]);
    let a = net.node(Op::Linear(Linear { transposed: false }), &[x, weight]);
    let a = net.node(Op::Softmax(Softmax { axis: 3 }), &[a]);
    let turned = net.node(Op::Transpose(Transpose { perm: vec![0, 1, 3, 2] }), &[a]);
    let y = net.node(Op::MatMul(MatMul), &[a, turned]);
    net.finish(&[y])
}

/// The bits are those that every machine computes: the suite runs on others, too.
#[test]
fn what_is_seen_has_the_same_bits_on_every_machine() {
    let json = observed(&all_sums(), 0..5).to_json(&all_sums());
    let hash = |hash: u64, byte: u8| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3);
    let hash = json.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    assert_eq!(hash, 0xb352_204e_9296_b6ef, "{hash:#x}");
}

#[test]
fn shards_in_any_split_and_order_give_the_bits_of_one_pass() {
    let graph = network();
    let whole = observed(&graph, 0..10);
    let scheme = Scheme::new(Preset::Scale);
    for shards in
        [vec![0..5, 5..10], vec![9..10, 0..1, 1..9], (0..10).map(|i| i..i + 1).rev().collect()]
    {
        let mut merged = Observer::new(&graph);
        for shard in shards {
            let json = observed(&graph, shard).to_json(&graph);
            merged.merge(Observer::from_json(&json, &graph).unwrap());
        }
        assert_eq!(merged, whole);
        assert_eq!(merged.to_json(&graph), whole.to_json(&graph));
        for calibrator in [
            Calibrator::MinMax,
            Calibrator::MovingAverage,
            Calibrator::Percentile(99.0),
            Calibrator::Mse(scheme),
            Calibrator::Entropy,
        ] {
            assert_eq!(merged.ranges(calibrator), whole.ranges(calibrator));
        }
        for v in graph.activations() {
            let means = |o: &Observer| o.channel_means(v, &graph.values[v].shape).unwrap();
            assert_eq!(means(&merged), means(&whole));
        }
    }
}

#[test]
fn ranges_and_means_by_hand() {
    let mut net = Net::new(0);
    let x = net.input(&[2, 2, 1, 2]);
    let y = net.node(Op::Softmax(Softmax { axis: 0 }), &[x]);
    let z = net.node(Op::Unary(Unary::Neg), &[x]);
    let graph = net.finish(&[y, z]);
    let executor = FloatExecutor::new(&graph);
    let mut observer = Observer::new(&graph);
    for data in [[1.0, 2.0, -4.0, 0.0, 3.0, 2.0, 0.5, 0.5], [-1.0; 8]] {
        let x = Tensor::new([2, 2, 1, 2], data.to_vec()).unwrap();
        executor.run(&[x], |v, x| observer.see(v, x)).unwrap();
    }
    let seen = observer.histogram(x).unwrap();
    assert_eq!(Calibrator::MinMax.range(seen), Range { lo: -4.0, hi: 3.0 });
    assert_eq!(Calibrator::MovingAverage.range(seen), Range { lo: -2.5, hi: 1.0 });
    // Results, and what a final softmax is computed from, are never clipped.
    for v in [x, y, z] {
        let [whole, mean] = [Calibrator::MinMax, Calibrator::MovingAverage];
        assert_eq!(observer.ranges(mean)[v], observer.ranges(whole)[v]);
    }
    assert_eq!(observer.channel_means(0, &[2, 2, 1, 2]), Some(vec![0.5, -0.875]));
}

/// Statistics without what was seen of channels, as older versions wrote them, say so.
#[test]
fn channels_are_known_or_not() {
    let graph = network();
    let observer = observed(&graph, 0..3);
    assert!(graph.activations().all(|v| observer.channels(v).is_some()));
    let mut old: serde_json::Value = serde_json::from_str(&observer.to_json(&graph)).unwrap();
    for value in old["values"].as_array_mut().unwrap() {
        value.as_object_mut().unwrap().remove("channels");
    }
    let mut old = Observer::from_json(&old.to_string(), &graph).unwrap();
    assert!(graph.activations().all(|v| old.channels(v).is_none()));
    assert_eq!(old.ranges(Calibrator::MinMax), observer.ranges(Calibrator::MinMax));
    old.merge(observed(&graph, 3..5));
    assert!(graph.activations().all(|v| old.channels(v).is_none()));
}

/// Against a network that computes it.
#[test]
fn rescaled_is_what_would_have_been_seen() {
    let graph = network();
    let executor = FloatExecutor::new(&graph);
    let factors = [0.25f32, 3.0, 1.5];
    let (mut plain, mut scaled) = (Observer::new(&graph), Observer::new(&graph));
    for seed in 0..40 {
        let x = random_inputs(&graph, &mut Rng(seed), 2.0);
        let times = |i: usize, x: f32| x * factors[i / 16];
        let data = x[0].data().iter().enumerate().map(|(i, &x)| times(i, x)).collect();
        plain.see_sample(&executor, &x).unwrap();
        scaled.see_sample(&executor, &[Tensor::new([1, 3, 4, 4], data).unwrap()]).unwrap();
    }
    let mut all: Vec<Vec<f32>> = graph.values.iter().map(|_| vec![]).collect();
    all[0] = factors.to_vec();
    let rescaled = plain.rescaled(&all);
    let [is, real] = [&rescaled, &scaled].map(|observer| observer.histogram(0).unwrap());
    assert_eq!(is.range(), real.range());
    assert_eq!(is.total(), real.total());
    for share in [0.5, 0.9, 0.99] {
        let (a, b) = (is.percentile(share), real.percentile(share));
        assert!((a.lo / b.lo - 1.0).abs() < 0.1 && (a.hi / b.hi - 1.0).abs() < 0.1, "{a:?} {b:?}");
    }
    let means = |o: &Observer| o.channel_means(0, &[1, 3, 4, 4]).unwrap();
    for (a, b) in means(&rescaled).iter().zip(&means(&scaled)) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
    assert_eq!(rescaled.histogram(1), plain.histogram(1));
}

/// Sums beyond what fixed-point numbers hold stop counting; they do not wrap.
#[test]
fn enormous_values_do_not_overflow() {
    let graph = network();
    let executor = FloatExecutor::new(&graph);
    let x = Tensor::new([1, 3, 4, 4], vec![1e37; 48]).unwrap();
    let mut observer = Observer::new(&graph);
    for _ in 0..3 {
        executor.run(std::slice::from_ref(&x), |v, x| observer.see(v, x)).unwrap();
    }
    assert!(observer.channel_means(0, &[1, 3, 4, 4]).unwrap()[0] > 0.0);
}

#[test]
fn broken_statistics_are_refused() {
    let graph = network();
    let json = observed(&graph, 0..3).to_json(&graph);
    for len in 0..json.len() {
        let truncated = Observer::from_json(&json[..len], &graph).unwrap_err().to_string();
        assert!(truncated.contains("not calibration statistics"), "{len}: {truncated}");
    }
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let number = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (path, with, expected) in [
        ("/values/0/name", "\"other\"", "of another network: no value \"other\""),
        ("/values/0/name", "\"c1\"", "no value \"c1\""),
        ("/values/1/name", "\"v0\"", "value \"v0\" stands twice"),
        ("/values", "[]", "say nothing of value \"v0\""),
        ("/values/0/counts", "[]", "value \"v0\": the counts are not of all its elements"),
        ("/values/0/counts", "[[0, -1]]", "not calibration statistics"),
        ("/values/0/counts", "[[0, 281474976710656]]", "bin 0 with 281474976710656 counts"),
        ("/values/0/counts", "[[4096, 1]]", "bin 4096 with 1 counts"),
        ("/values/0/counts", "[[18446744073709551615, 1]]", "bin 18446744073709551615"),
        ("/values/0/counts", "[[5, 1], [5, 1]]", "bin 5 with 1 counts"),
        ("/values/0/lo_bits", "2143289344", "range NaN to"),
        ("/values/0/hi_bits", "2139095040", "to inf"),
        ("/values/0/lo_bits", "2130706432", "value \"v0\": range 17"),
        ("/values/0/exponent", "129", "in bins of 2^129"),
        ("/values/0/exponent", "-161", "in bins of 2^-161"),
        ("/values/0/lo_sum", "\"1e9\"", "\"1e9\" is not an integer"),
        ("/values/0/hi_sum", "\"\"", "is not an integer"),
        ("/values/0/samples", "18446744073709551615", "in 18446744073709551615 of 3 samples"),
        ("/values/0/samples", "2", "value \"v0\": 3 of 3 channels in 2 of 3 samples"),
        ("/values/0/lo_bits", "3296722944", "its range does not end where its counts do"),
        ("/values/0/hi_bits", "1258291200", "its range does not end where its counts do"),
        ("/values/0/exponent", "0", "its range does not end where its counts do"),
        ("/values/0/lo_sum", "\"-99999999999999999999999999999999\"", "sums of its ends"),
        ("/values/0/hi_sum", "\"99999999999999999999999999999999\"", "sums of its ends"),
        ("/values/0/lo_sum", "\"99999999999999999999999999999999\"", "sums of its ends"),
        (
            "/values/0/channel_sums/1",
            "\"9999999999999999999999999999999\"",
            "sums of its channels are outside its range",
        ),
        ("/values/0/channels/1", "null", "not calibration statistics"),
        ("/values/0/channels/0/lo_bits", "2139095040", "channels that cannot have been seen"),
        ("/values/0/channels/0/hi_bits", "1900671690", "its channels have another range"),
        ("/values/0/channels/0/squares", "\"-1\"", "channels that cannot have been seen"),
        ("/values/0/channels/0/inside", "1000", "channels that cannot have been seen"),
        ("/values/0/channels/0/bins/0", "[[96, 1]]", "channels that cannot have been seen"),
        ("/values/0/channels/0/bins/0", "[[5, 1000]]", "channels that cannot have been seen"),
        ("/values/0/channel_sums", "[\"1\", \"2\"]", "2 of 3 channels"),
        ("/values/0/channel_sums", "[\"1\", \"2\", \"x\"]", "\"x\" is not an integer"),
        ("/samples", "18446744073709551615", "statistics of 18446744073709551615 samples"),
        ("/samples", "-1", "not calibration statistics"),
        ("/samples", "0", "calibration statistics of 0 samples"),
        ("/samples", "4", "in 3 of 4 samples"),
        ("/network", "\"other\"", "are of network \"other\", not of \"net\""),
        ("/network", "7", "not calibration statistics"),
        ("/kept/0", "[]", "a kept sample has 0 of 1 inputs"),
        ("/kept/0/0", "\"\"", "does not hold 0 elements"),
        ("/kept/0/0", "\"7fc00000\"", "a kept sample holds what is no finite number"),
        ("/kept/0/0", "\"0000000g\"", "a kept sample holds what is no finite number"),
        ("/kept/0/0", "\"123\"", "a kept sample holds what is no finite number"),
    ] {
        let mut broken = value.clone();
        *broken.pointer_mut(path).unwrap() = number(with);
        let error = Observer::from_json(&broken.to_string(), &graph).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?} for {path} {with}");
    }
    let more = json.replacen('{', "{\"more\":1,", 1);
    assert!(Observer::from_json(&more, &graph).is_err());
}

#[test]
fn a_share_of_nothing_is_refused() {
    let graph = network();
    let observer = observed(&graph, 0..2);
    for percent in [0.0, -1.0, 100.1, f64::NAN] {
        let calibrator = Calibrator::Percentile(percent);
        assert!(refused(calibrator.check()).contains("expected more than 0, at most 100"));
        let ranges = observer.ranges(calibrator);
        assert!(ranges.iter().flatten().all(|range| range.lo <= range.hi), "{percent}: {ranges:?}");
    }
}

/// Any number of threads sees what one sees.
#[test]
fn threads_see_the_bits_of_one_pass() {
    let graph = network();
    let samples: Vec<Tensor<f32>> =
        (0..9).map(|seed| random_inputs(&graph, &mut Rng(seed), 3.0).remove(0)).collect();
    let executor = FloatExecutor::new(&graph);
    let [one, many] = [1, 4].map(|n| {
        let workers = Workers::new(std::num::NonZeroUsize::new(n).unwrap());
        observe(&executor, &samples, workers).unwrap()
    });
    assert_eq!(one, many);
    assert_eq!(one.samples(), 9);
    let nothing = observe(&executor, &Vec::new(), Workers::default()).unwrap();
    assert_eq!(nothing, Observer::new(&graph));
}
