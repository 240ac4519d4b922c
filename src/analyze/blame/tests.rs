//! Networks with one planted cause each: it is named first. On the healthy network none is.

use super::*;
use crate::graph::ValueId;
use crate::ops::Op;
use crate::ops::Window;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::quant::{Preset, Range, Scheme, Width};
use crate::quantize::quantize;
use crate::testing::{Net, Rng, SCHEMES, run_float};

const POINTWISE: Op = Op::Conv(Conv {
    window: Window {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pads: [0; 4],
        ceil_mode: false,
    },
    group: 1,
});
const CHANNELS: usize = 16;
const SCALE: Scheme = Scheme::new(Preset::Scale);
/// Weights that lose nothing, whatever their channels.
const EXACT_WEIGHTS: Scheme = SCALE.with_widths(Width::W8, Width::W16);

struct Samples(Vec<Tensor<f32>>);

impl crate::data::Samples for Samples {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        Ok(vec![self.0[i].clone()])
    }
}

fn samples(largest: f32) -> Samples {
    let mut rng = Rng(11);
    let sample = |_| rng.reals(&[1, 3, 6, 6], 0.5).map(|x| largest * (x + 0.5));
    Samples((0..6).map(sample).collect())
}

/// Three convolutions; the weights and biases of each are `edit`ed, by its number.
struct Planted {
    graph: Graph,
    /// Results of the layers.
    results: Vec<ValueId>,
}

fn network(edit: impl Fn(usize, &mut [f32], &mut [f32])) -> Planted {
    let mut net = Net::new(5);
    let mut x = net.input(&[1, 3, 6, 6]);
    let mut results = Vec::new();
    for (layer, (from, to)) in
        [(3, CHANNELS), (CHANNELS, CHANNELS), (CHANNELS, 8)].into_iter().enumerate()
    {
        let mut w = net.rng.reals(&[to, from, 1, 1], 1.0);
        let mut b = net.rng.reals(&[to], 0.5);
        edit(layer, w.data_mut(), b.data_mut());
        let (w, b) = (net.constant(w), net.constant(b));
        x = net.node(POINTWISE, &[x, w, b]);
        if layer < 2 {
            net.graph.nodes[layer].clamp = Clip::RELU;
        }
        results.push(x);
    }
    Planted { graph: net.finish(&[x]), results }
}

fn ranges(graph: &Graph) -> Vec<Option<Range>> {
    let samples = samples(1.0);
    let of = |x: &Tensor<f32>| run_float(graph, std::slice::from_ref(x)).1;
    let join = |a: Vec<Option<Range>>, b: Vec<Option<Range>>| {
        let union = |(a, b): (Option<Range>, Option<Range>)| Some(facts::union(a?, b?));
        a.into_iter().zip(b).map(union).collect()
    };
    samples.0.iter().map(of).reduce(join).unwrap()
}

fn blamed(quantized: &Graph, float: &Graph) -> Blame {
    blame(quantized, float, &samples(1.0), Workers::default()).unwrap()
}

/// The kind and place of what is named first, and all of it for whoever reads a failure.
#[track_caller]
fn is_named(blame: &Blame, kind: CauseKind, at: &str) {
    let first = blame.named().next().map(|cause| (cause.kind, cause.at.as_str()));
    assert_eq!(first, Some((kind, at)), "{:#?}", blame.causes);
    let cause = &blame.causes[0];
    assert!(cause.gain_db > 1.7 && !cause.remedy.is_empty(), "{cause:?}");
}

fn name(graph: &Graph, v: ValueId) -> &str {
    &graph.values[v].name
}

#[test]
fn nothing_is_named_on_a_healthy_network() {
    let Planted { graph, .. } = network(|_, _, _| ());
    for scheme in SCHEMES.into_iter().filter(|scheme| scheme.weight_width != Width::W4) {
        let blame = blamed(&quantize(&graph, &ranges(&graph), scheme).unwrap(), &graph);
        assert_eq!(blame.named().count(), 0, "{scheme:?}: {:#?}", blame.causes);
        // What is simulated is what is computed.
        assert!(blame.simulation_db > 60.0, "{}", blame.simulation_db);
        assert!((0.6..1.4).contains(&blame.units_sum), "{scheme:?}: {}", blame.units_sum);
    }
}

/// What equalization leaves: channels that are another power of two times as large, and weights behind them as much smaller.
#[test]
fn factors_of_channels_are_no_loss() {
    let factor = |c: usize| [0.5, 2.0, 1.0, 0.25, 4.0][c % 5];
    let Planted { graph, .. } = network(|_, _, _| ());
    let equalized = network(|layer, w, b| match layer {
        0 => (0..CHANNELS).for_each(|c| {
            w[3 * c..3 * c + 3].iter_mut().for_each(|w| *w *= factor(c));
            b[c] *= factor(c);
        }),
        1 => w.chunks_mut(CHANNELS).for_each(|row| {
            row.iter_mut().enumerate().for_each(|(c, w)| *w /= factor(c));
        }),
        _ => {}
    });
    let samples = samples(1.0);
    let [a, b] = [&graph, &equalized.graph].map(|graph| run_float(graph, &samples.0[..1]).0);
    assert_eq!(a, b);
    for scheme in SCHEMES.into_iter().filter(|it| it.per_channel && it.weight_width == Width::W8) {
        let scheme = scheme.with_widths(Width::W16, scheme.weight_width);
        let quantized = quantize(&equalized.graph, &ranges(&equalized.graph), scheme).unwrap();
        let blame = blamed(&quantized, &graph);
        assert!((0.6..1.4).contains(&blame.units_sum), "{scheme:?}: {}", blame.units_sum);
        let exact = |unit: &&UnitBlame| unit.accumulated_db.is_some_and(|db| db < 25.0);
        assert_eq!(blame.units.iter().filter(exact).count(), 0, "{:#?}", blame.units);
    }
}

#[test]
fn clipping_and_coarse_steps_are_named() {
    let Planted { graph, results } = network(|_, _, _| ());
    for (factor, kind) in [(0.3, CauseKind::Clipping), (40.0, CauseKind::CoarseStep)] {
        for &v in &results {
            let mut ranges = ranges(&graph);
            ranges[v] = ranges[v].map(|r| Range { lo: factor * r.lo, hi: factor * r.hi });
            let quantized = quantize(&graph, &ranges, SCALE).unwrap();
            is_named(&blamed(&quantized, &graph), kind, name(&graph, v));
        }
    }
}

#[test]
fn imbalance_of_weights_is_named() {
    // The first channel is 0 throughout, so that a large weight for it changes nothing.
    let Planted { graph, .. } = network(|layer, w, b| match layer {
        0 => b[0] = -100.0,
        1 => {
            w[..CHANNELS].fill(0.0);
            w[0] = 100.0;
        }
        _ => {}
    });
    let quantized = quantize(&graph, &ranges(&graph), SCALE.per_tensor()).unwrap();
    is_named(&blamed(&quantized, &graph), CauseKind::WeightImbalance, "n1");
    let per_channel = quantize(&graph, &ranges(&graph), SCALE).unwrap();
    assert!(blamed(&per_channel, &graph).evaluation.output_sqnr_db > Some(15.0));
}

/// The first `count` channels of the first result are `factor` times as large, and are read by weights as much smaller.
fn unbalanced(count: usize, factor: f32) -> Planted {
    network(|layer, w, b| match layer {
        0 => {
            w[..3 * count].iter_mut().for_each(|w| *w *= factor);
            b[..count].iter_mut().for_each(|b| *b *= factor);
        }
        1 => w.chunks_mut(CHANNELS).for_each(|row| {
            row[..count].iter_mut().for_each(|w| *w /= factor);
        }),
        _ => {}
    })
}

#[test]
fn imbalance_of_activations_is_named() {
    let Planted { graph, results } = unbalanced(6, 100.0);
    let quantized = quantize(&graph, &ranges(&graph), EXACT_WEIGHTS).unwrap();
    is_named(&blamed(&quantized, &graph), CauseKind::ActivationImbalance, name(&graph, results[0]));
}

#[test]
fn dead_channels_are_named() {
    let Planted { graph, results } = unbalanced(6, 1.0 / 1000.0);
    let quantized = quantize(&graph, &ranges(&graph), EXACT_WEIGHTS).unwrap();
    let blame = blamed(&quantized, &graph);
    is_named(&blame, CauseKind::DeadCodes, name(&graph, results[0]));
    assert!(blame.causes[0].number >= 3.0, "{:?}", blame.causes[0]);
}

#[test]
fn shifts_of_biases_are_named() {
    let Planted { graph, .. } = network(|_, _, _| ());
    for layer in 0..3 {
        let shifted = network(|own, _, b| {
            b.iter_mut().filter(|_| own == layer).for_each(|b| *b += 0.5);
        });
        let quantized = quantize(&shifted.graph, &ranges(&shifted.graph), SCALE).unwrap();
        is_named(&blamed(&quantized, &graph), CauseKind::BiasShift, &format!("n{layer}"));
    }
}

#[test]
fn ratios_of_what_is_joined_are_named() {
    let mut net = Net::new(6);
    let x = net.input(&[1, 3, 6, 6]);
    let small = net.rng.reals(&[8, 3, 1, 1], 0.002);
    let (small, large) = (net.constant(small), net.random(&[8, 3, 1, 1]));
    let (a, b) = (net.node(POINTWISE, &[x, small]), net.node(POINTWISE, &[x, large]));
    let joined = net.node(Op::Concat(Concat { axis: 1 }), &[a, b]);
    let mut w = net.rng.reals(&[4, 16, 1, 1], 1.0);
    w.data_mut().chunks_mut(16).for_each(|row| row[..8].iter_mut().for_each(|w| *w *= 500.0));
    let w = net.constant(w);
    let y = net.node(POINTWISE, &[joined, w]);
    let graph = net.finish(&[y]);
    let quantized = quantize(&graph, &ranges(&graph), EXACT_WEIGHTS).unwrap();
    is_named(&blamed(&quantized, &graph), CauseKind::ScaleRatio, name(&graph, joined));
}

#[test]
fn wrong_preprocessing_is_named_before_all_else() {
    let Planted { graph, .. } = network(|_, _, _| ());
    let quantized = quantize(&graph, &ranges(&graph), SCALE).unwrap();
    for (largest, remedy) in [(255.0, "--scale 1/255"), (1.0 / 255.0, "--scale 255")] {
        let found = blame(&quantized, &graph, &samples(largest), Workers::default()).unwrap();
        is_named(&found, CauseKind::Preprocessing, name(&graph, graph.inputs[0]));
        assert!(found.causes[0].remedy.starts_with(remedy), "{:?}", found.causes[0]);
    }
}
