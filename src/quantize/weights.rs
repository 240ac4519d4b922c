//! Parameters of weights.

use crate::quant::{Granularity, QuantParams, Scheme};
use crate::tensor::Tensor;

/// Symmetric codes for a weight whose output channels lie along `axis`, between an argument of scale
/// `x_scale` and a result of scale `y_scale`.
///
/// The scale follows from the largest weight of a channel (or of the tensor), but is no smaller than
/// the rest of the arithmetic allows: the bias, in units of `x_scale · w_scale`, stays below 2^30, and
/// the rescaling factor `x_scale · w_scale / y_scale` above 2^-30. Only a channel whose weights are all
/// but zero beside its bias is touched by that.
pub(super) fn weight_params(
    weight: &Tensor<f32>,
    axis: usize,
    bias: Option<&Tensor<f32>>,
    [x_scale, y_scale]: [f32; 2],
    scheme: Scheme,
) -> QuantParams {
    // A slope may be a single number.
    let per_channel = scheme.per_channel && axis < weight.shape().len();
    let channels = weight.shape().get(axis).copied().unwrap_or(1);
    let inner: usize = weight.shape().iter().skip(axis + 1).product();
    let mut max_abs = vec![0f32; channels];
    for (i, weights) in weight.data().chunks(inner.max(1)).enumerate() {
        let max = &mut max_abs[i % channels];
        *max = weights.iter().fold(*max, |max, w| max.max(w.abs()));
    }
    if !per_channel {
        max_abs = vec![max_abs.into_iter().fold(0.0, f32::max)];
    }
    let floors = scale_floors(max_abs.len(), bias, [x_scale, y_scale], scheme);
    let scale = max_abs.iter().zip(floors).map(|(&max_abs, floor)| {
        scheme.symmetric_scale(max_abs, scheme.weight_width.bits()).max(floor)
    });
    let granularity = match per_channel {
        true => Granularity::PerChannel { axis },
        false => Granularity::PerTensor,
    };
    QuantParams { scale: scale.collect(), zero_point: 0, width: scheme.weight_width, granularity }
}

/// What each of `count` scales of a weight must be at least, see [`weight_params`].
pub(super) fn scale_floors(
    count: usize,
    bias: Option<&Tensor<f32>>,
    [x_scale, y_scale]: [f32; 2],
    scheme: Scheme,
) -> Vec<f32> {
    let mut largest_bias = vec![0f32; count];
    for (o, b) in bias.iter().flat_map(|bias| bias.data()).enumerate() {
        // The channels of a grouped transposed convolution share scales between groups.
        let max = &mut largest_bias[o % count];
        *max = max.max(b.abs());
    }
    const ROOM: f32 = (1u32 << 30) as f32;
    let floor = |bias: f32| (bias / (x_scale * ROOM)).max(y_scale / (x_scale * ROOM));
    largest_bias.into_iter().map(|bias| scheme.round_up(floor(bias))).collect()
}
