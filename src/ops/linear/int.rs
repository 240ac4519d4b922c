//! Integer reference of `linear`. `core` only: it can be deployed as it is.

use crate::arith::{Acc, Code, Products, Weight};

/// `y[r][o] = requantize(bias[o] + sum_i (x[r][i] - x_zero_point) * weight[o][i])`; the weight is
/// `[out_ch, in_ch]`.
pub fn linear<X: Code, Y: Code, W: Weight, A: Acc>(x: &[X], p: &Products<W>, y: &mut [Y]) {
    let out_ch = p.bias.len();
    let in_ch = x.len() / (y.len() / out_ch);
    for (x, y) in x.chunks_exact(in_ch).zip(y.chunks_exact_mut(out_ch)) {
        for (o, y) in y.iter_mut().enumerate() {
            *y = p.requantize(p.accumulate(A::from(p.bias[o]), x, o * in_ch), o);
        }
    }
}
