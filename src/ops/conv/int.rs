//! Integer reference of `conv`. `core` only: it can be deployed as it is.

use crate::arith::{Multiplier, requantize};

/// Integer constants of one convolution. Shapes are `[n, h, w, c]`.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// `[out_ch, kh, kw, in_ch / group]`, symmetric.
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
pub fn conv_i8(x: &[i8], p: &Params, y: &mut [i8]) {
    let [_, h, w, in_ch] = p.x_shape;
    let [n, oh, ow, out_ch] = p.y_shape;
    let [kh, kw] = p.kernel;
    let (in_per_group, out_per_group) = (in_ch / p.group, out_ch / p.group);
    for (pixel, y) in y.chunks_exact_mut(out_ch).enumerate().take(n * oh * ow) {
        let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        for (o, y) in y.iter_mut().enumerate() {
            let first = o / out_per_group * in_per_group;
            let mut acc = p.bias[o];
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
                    let weight = &p.weight[((o * kh + ky) * kw + kx) * in_per_group..];
                    for (&x, &weight) in x.iter().zip(weight) {
                        acc += (x as i32 - p.x_zero_point as i32) * weight as i32;
                    }
                }
            }
            *y = requantize(acc, p.multiplier[o], p.y_zero_point, p.clamp);
        }
    }
}
