//! Integer reference of `conv`. `core` only: it can be deployed as it is.

use crate::arith::{Acc, Code, Products, Weight};

/// Integer constants of one convolution. Shapes are `[n, h, w, c]`.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a, W> {
    /// Weights `[out_ch, kh, kw, in_ch / group]`, and what goes with them.
    pub products: Products<'a, W>,
    /// Shape of the input.
    pub x_shape: [usize; 4],
    /// Shape of the output.
    pub y_shape: [usize; 4],
    /// `[kh, kw]`.
    pub kernel: [usize; 2],
    /// Step of the window along `[h, w]`.
    pub stride: [usize; 2],
    /// Distance between taps along `[h, w]`.
    pub dilation: [usize; 2],
    /// Rows above and columns left of the input, at real 0.
    pub pad: [usize; 2],
    /// Number of groups that channels are divided into.
    pub group: usize,
}

/// `y[n][oy][ox][o] = requantize(bias[o] + sum (x[n][iy][ix][c] - x_zero_point) * weight[o][ky][kx][c])`
/// over the taps inside the input, where `iy = oy * stride + ky * dilation - pad`, likewise `ix`.
pub fn conv<X: Code, Y: Code, W: Weight, A: Acc>(x: &[X], p: &Params<W>, y: &mut [Y]) {
    let bias = p.products.bias;
    let [_, h, w, in_ch] = p.x_shape;
    let [n, oh, ow, out_ch] = p.y_shape;
    let [kh, kw] = p.kernel;
    let (in_per_group, out_per_group) = (in_ch / p.group, out_ch / p.group);
    for (pixel, y) in y.chunks_exact_mut(out_ch).enumerate().take(n * oh * ow) {
        let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        for (o, y) in y.iter_mut().enumerate() {
            let first = o / out_per_group * in_per_group;
            let mut acc = A::from(bias[o]);
            for ky in 0..kh {
                // Positions above or left of the input wrap to huge numbers: outside as well.
                let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
                if iy >= h {
                    continue;
                }
                for kx in 0..kw {
                    let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pad[1]);
                    if ix >= w {
                        continue;
                    }
                    let x = &x[((image * h + iy) * w + ix) * in_ch + first..][..in_per_group];
                    let tap = (o * kh + ky) * kw + kx;
                    acc = p.products.accumulate(acc, x, tap * in_per_group);
                }
            }
            *y = p.products.requantize(acc, o);
        }
    }
}
