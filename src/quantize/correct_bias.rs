//! Rounding weights shifts the mean of a node's result; the bias takes it back.

use super::session::{Change, Report, Session, Step};
use crate::calibrate::Observer;
use crate::error::Result;
use crate::graph::{Graph, Index, Node, Value};
use crate::ops::{Op, image};
use crate::tensor::Tensor;

/// For each convolution and linear layer:
/// `bias[o] −= Σ (ŵ[o][i] − w[o][i]) · E[x[i]]`, where `ŵ` are the weights as codes, and `E[x[i]]` the mean
/// of the input channel over the calibration data. A tap counts for the share of output positions at which
/// it lies inside the input.
///
/// Nagel et al. 2019, <https://arxiv.org/abs/1906.04721>, §4.2.
#[derive(Clone, Copy, Debug)]
pub struct BiasCorrection;

impl Step for BiasCorrection {
    fn name(&self) -> &'static str {
        "bias-correction"
    }

    fn run(&self, session: &mut Session) -> Result<Report> {
        let quantized = session.quantized()?;
        session.uncorrected.get_or_insert_with(|| session.graph.clone());
        let seen = session.rescaled.as_deref().unwrap_or(session.observer);
        let changes = correct_bias(&mut session.graph, &quantized, seen);
        for &(index, _) in &changes {
            session.choose_constants(index)?;
        }
        let changes = changes.into_iter().map(|(_, change)| change).collect();
        Ok(Report { step: self.name(), changes, gain_db: None })
    }

    fn effort(&self) -> u8 {
        0
    }

    fn is_judged(&self) -> bool {
        false
    }
}

/// Corrects the biases of `graph`, from which `quantized` was made; returns the nodes whose bias is not what
/// it was.
pub(super) fn correct_bias(
    graph: &mut Graph,
    quantized: &Graph,
    observer: &Observer,
) -> Vec<(usize, Change)> {
    let mut changes = Vec::new();
    let mut uses = Index::new(graph);
    for index in 0..graph.nodes.len() {
        let (node, twin) = (&graph.nodes[index], &quantized.nodes[index]);
        let Some(shift) = mean_shift(graph, node, quantized, twin, observer) else { continue };
        let bias = match node.inputs.get(2) {
            Some(&v) => graph.real_constant(v).map(|b| b.data().to_vec()),
            None => Some(vec![0.0; shift.len()]),
        };
        let Some(bias) = bias.filter(|b| b.len() == shift.len()) else { continue };
        let corrected = bias.iter().zip(&shift).map(|(&b, shift)| (b as f64 - shift) as f32);
        let corrected = Tensor::from_vec(corrected.collect());
        let tensor = node.inputs.get(2).map_or("", |&v| &graph.values[v].name).to_owned();
        let largest = shift.iter().fold(0.0, |largest: f64, x| largest.max(x.abs())) as f32;
        let corrected = Value::real(format!("{}.corrected_bias", node.name), corrected);
        changes.push((index, Change { node: node.name.clone(), tensor, largest }));
        let v = uses.add_value(graph, corrected);
        uses.set_arguments(graph, index, 2, [v]);
    }
    changes
}

/// How far rounding the weights moves the mean of each output channel.
fn mean_shift(
    graph: &Graph,
    node: &Node,
    quantized: &Graph,
    twin: &Node,
    observer: &Observer,
) -> Option<Vec<f64>> {
    let x = &graph.values[node.inputs[0]];
    let means = observer.channel_means(node.inputs[0], &x.shape)?;
    let real = graph.real_constant(*node.inputs.get(1)?)?;
    let rounded = quantized.values[twin.inputs[1]].to_real()?;
    let errors = rounded.data().iter().zip(real.data()).map(|(r, w)| *r as f64 - *w as f64);
    // For each weight: its output channel, its input channel, and the share of positions it counts for.
    let place: Box<dyn Fn(usize) -> (usize, usize, f64)> = match (&node.op, real.shape()) {
        (Op::Conv(conv), kernel) => {
            let [out_ch, per_group, kh, kw] = image(kernel)?;
            let (x, y) = (image(&x.shape)?, image(&graph.values[node.output].shape)?);
            let shares = [0, 1].map(|axis| {
                let (size, out) = (x[2 + axis], y[2 + axis]);
                let share = |k| {
                    let inside =
                        (0..out).filter(|&o| conv.window.position(axis, o, k, size).is_some());
                    inside.count() as f64 / out as f64
                };
                (0..[kh, kw][axis]).map(share).collect::<Vec<_>>()
            });
            let group = conv.group;
            Box::new(move |i| {
                let (o, c) = (i / (per_group * kh * kw), i / (kh * kw) % per_group);
                let first = o / (out_ch / group) * per_group;
                (o, first + c, shares[0][i / kw % kh] * shares[1][i % kw])
            })
        }
        (Op::Linear(linear), &[a, b]) if x.shape.len() == 2 => match linear.transposed {
            true => Box::new(move |i| (i / b, i % b, 1.0)),
            false => Box::new(move |i| (i % b, (i / b).min(a), 1.0)),
        },
        _ => return None,
    };
    let mut shift = vec![0.0; graph.values[node.output].shape[1]];
    for (i, error) in errors.enumerate() {
        let (o, c, share) = place(i);
        shift[o] += error * share * means.get(c)?;
    }
    Some(shift)
}
