//! What is strange about the samples of a calibration.

use crate::calibrate::Observer;
use crate::graph::{Graph, ValueId};
use crate::ops::{OutputParams, Role};
use crate::tensor::Tensor;
use crate::text::printable;

/// Fewer say little about the ranges of other data.
const FEW: u64 = 10;
/// Where a network is trained, biases are not so much smaller than what they are added to.
const UNLIKELY: f32 = 50.0;

/// In words what should be looked at, line by line.
pub(super) fn hints(graph: &Graph, observer: &Observer) -> Vec<String> {
    let mut hints = Vec::new();
    let samples = observer.samples();
    if samples < FEW {
        let s = if samples == 1 { "" } else { "s" };
        hints.push(format!("calibrated on {samples} sample{s}: 100 or more are advised"));
    }
    if let Some(distinct) = observer.distinct().filter(|&distinct| distinct < samples) {
        hints.push(format!(
            "only {distinct} of {samples} samples differ: each counts once for each time"
        ));
    }
    for (place, &v) in graph.inputs.iter().enumerate() {
        let kept: Vec<_> = observer.kept().map(|inputs| &inputs[place]).collect();
        if are_unscaled_pixels(graph, v, &kept) {
            let name = printable(&graph.values[v].name);
            hints.push(format!(
                "input \"{name}\" holds whole numbers of 0..255, as pixels do, and is much for the first layer: is \
                 --scale 1/255 missing?"
            ));
        }
    }
    hints
}

/// Whether samples of `v` look like bytes, and make numbers far beyond the biases of the layer that reads them.
fn are_unscaled_pixels(graph: &Graph, v: ValueId, samples: &[&Tensor<f32>]) -> bool {
    // A network that says that it takes bytes does what they need.
    if graph.values[v].given.is_some() {
        return false;
    }
    let numbers = || samples.iter().flat_map(|x| x.data());
    let is_byte = |&x: &f32| (0.0..=255.0).contains(&x) && x.fract() == 0.0;
    let is_much = samples.first().and_then(|x| is_much_for_reader(graph, v, (*x).clone()));
    is_much == Some(true) && numbers().all(is_byte) && numbers().any(|&x| x > 127.0)
}

/// Whether the layer that reads `v` makes much of the numbers `x`; `None` if there is no such.
fn is_much_for_reader(graph: &Graph, mut v: ValueId, mut x: Tensor<f32>) -> Option<bool> {
    for node in &graph.nodes {
        if node.inputs[0] != v {
            continue;
        }
        let constants = node.inputs[1..].iter().map(|&v| graph.values[v].to_real());
        let constants = constants.collect::<Option<Vec<_>>>()?;
        let arguments: Vec<_> = [&x].into_iter().chain(constants.iter().map(|c| &**c)).collect();
        let y = node.op.eval_f32(&arguments);
        if node.op.output_params() == OutputParams::SameAsInput {
            (v, x) = (node.output, y);
            continue;
        }
        let largest = |x: &Tensor<f32>| x.data().iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let has_weight = arguments.len() > 1 && matches!(node.op.role(1), Role::Weight { .. });
        let bias = arguments.get(2).map_or(0.0, |bias| largest(bias));
        return has_weight.then_some(largest(&y) > UNLIKELY * bias);
    }
    None
}
