//! Parameters of biases.

use crate::quant::{Granularity, QuantParams, Width};

/// 32-bit codes in units of `x_scale · w_scale`, as the accumulator, for a bias of `channels` numbers.
pub(super) fn bias_params(x: &QuantParams, w: &QuantParams, channels: usize) -> QuantParams {
    let (granularity, channels) = match w.granularity {
        Granularity::PerTensor => (Granularity::PerTensor, 1),
        Granularity::PerChannel { .. } => (Granularity::PerChannel { axis: 0 }, channels),
    };
    let scale = w.scale.iter().cycle().take(channels).map(|w| x.scale[0] * w).collect();
    QuantParams { scale, zero_point: 0, width: Width::W32, granularity }
}
