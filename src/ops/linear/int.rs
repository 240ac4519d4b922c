//! Integer reference of `linear`. `core` only: it can be deployed as it is.

use crate::arith::{Multiplier, requantize};

/// Integer constants of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// `[out_ch, in_ch]`, symmetric.
    pub weight: &'a [i8],
    /// `[out_ch]`, in units of `x_scale * weight_scale[out_ch]`.
    pub bias: &'a [i32],
    /// `[out_ch]`, `x_scale * weight_scale[out_ch] / y_scale`.
    pub multiplier: &'a [Multiplier],
    /// Code of real 0 in the input.
    pub x_zero_point: i8,
    /// Code of real 0 in the output.
    pub y_zero_point: i8,
    /// Output range; a fused ReLU raises the lower end to `y_zero_point`.
    pub clamp: (i8, i8),
}

/// `y[r][o] = requantize(bias[o] + sum_i (x[r][i] - x_zero_point) * weight[o][i])`.
pub fn linear_i8(x: &[i8], p: &Params, y: &mut [i8]) {
    let out_ch = p.bias.len();
    let in_ch = p.weight.len() / out_ch;
    for (x, y) in x.chunks_exact(in_ch).zip(y.chunks_exact_mut(out_ch)) {
        for (o, (weight, y)) in p.weight.chunks_exact(in_ch).zip(y).enumerate() {
            let mut acc = p.bias[o];
            for (&x, &weight) in x.iter().zip(weight) {
                acc += (x as i32 - p.x_zero_point as i32) * weight as i32;
            }
            *y = requantize(acc, p.multiplier[o], p.y_zero_point, p.clamp);
        }
    }
}
