//! Parameters of biases.

use std::collections::HashMap;

use serde::Serialize;

use crate::graph::{Graph, ValueId};
use crate::ops::Role;
use crate::quant::{Granularity, QuantParams, Width};
use crate::tensor::Tensor;

/// 32-bit codes in units of `x_scale · w_scale`, as the accumulator, for a bias of `channels` numbers.
pub(super) fn bias_params(x: &QuantParams, w: &QuantParams, channels: usize) -> QuantParams {
    let (granularity, channels) = match w.granularity {
        Granularity::PerTensor => (Granularity::PerTensor, 1),
        Granularity::PerChannel { .. } => (Granularity::PerChannel { axis: 0 }, channels),
    };
    let scale = w.scale.iter().cycle().take(channels).map(|w| x.scale[0] * w).collect();
    QuantParams { scale, zero_point: 0, width: Width::W32, granularity }
}

/// How far rounding to codes of `params` moves a number of `bias`, at most, in steps of a result of scale `y_scale`.
pub(super) fn rounded_by(bias: &Tensor<f32>, params: &QuantParams, y_scale: f32) -> f64 {
    let codes = params.quantize_all(bias.data(), bias.shape());
    let moved = bias.data().iter().zip(codes).enumerate().map(|(o, (&real, code))| {
        let scale = params.scale[o % params.scale.len()] as f64;
        (real as f64 - code as f64 * scale).abs() / y_scale as f64
    });
    moved.fold(0.0, f64::max)
}

/// A bias that counts in units of input times weight, which are coarse beside the steps of a result of 16 bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoundedBias {
    /// Its name.
    pub bias: String,
    /// The result.
    pub result: String,
    /// How far rounding moves it at most, in steps of the result.
    pub steps: f64,
}

/// The biases that `file` has as real numbers, and that are off by a step or more as the codes that they are in `prepared`.
pub fn rounded_biases(file: &Graph, prepared: &Graph) -> Vec<RoundedBias> {
    let real = (0..file.values.len())
        .filter_map(|v| Some((&*file.values[v].name, file.real_constant(v)?)));
    let real: HashMap<&str, &Tensor<f32>> = real.collect();
    let biases = prepared.nodes.iter().flat_map(|node| {
        let biases = (0..node.inputs.len()).filter(|&i| node.op.role(i) == Role::Bias);
        biases.map(|i| (node.inputs[i], node.output))
    });
    let rounded = |(v, y): (ValueId, ValueId)| {
        let (value, result) = (&prepared.values[v], &prepared.values[y]);
        let steps = rounded_by(
            real.get(&*value.name)?,
            value.quant.as_ref()?,
            result.quant.as_ref()?.scale[0],
        );
        let (bias, result) = (value.name.clone(), result.name.clone());
        (steps >= 1.0).then_some(RoundedBias { bias, result, steps })
    };
    biases.filter_map(rounded).collect()
}
