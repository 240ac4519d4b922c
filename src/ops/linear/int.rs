//! Integer reference of `linear`. `core` only: it can be deployed as it is.

use crate::arith::{Acc, Code, Products};

/// `y[r][o] = requantize(bias[o] + sum_i (x[r][i] - x_zero_point) * weight[o][i])`; the weight is
/// `[out_ch, in_ch]`.
pub fn linear<X: Code, Y: Code, W: Code, A: Acc>(x: &[X], p: &Products<W>, y: &mut [Y]) {
    let out_ch = p.bias.len();
    let in_ch = p.weight.len() / out_ch;
    for (x, y) in x.chunks_exact(in_ch).zip(y.chunks_exact_mut(out_ch)) {
        for (o, (weight, y)) in p.weight.chunks_exact(in_ch).zip(y).enumerate() {
            *y = p.requantize(p.accumulate(A::from(p.bias[o]), x, weight), o);
        }
    }
}
