//! Integer reference of `conv_transpose`. `core` only: it can be deployed as it is.

use crate::arith::{Acc, Code, Products, Weight};

/// Integer constants of one transposed convolution. Shapes are `[n, h, w, c]`.
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
    /// Step that one input position makes in the output, along `[h, w]`.
    pub stride: [usize; 2],
    /// Distance between taps along `[h, w]`.
    pub dilation: [usize; 2],
    /// Rows cut off above and columns cut off left of the output.
    pub pad: [usize; 2],
    /// Number of groups that channels are divided into.
    pub group: usize,
}

/// `y[n][oy][ox][o] = requantize(bias[o] + sum (x[n][iy][ix][c] - x_zero_point) * weight[o][ky][kx][c])`
/// over the taps for which `iy * stride + ky * dilation - pad = oy`, likewise `ox`.
pub fn conv_transpose<X: Code, Y: Code, W: Weight, A: Acc>(x: &[X], p: &Params<W>, y: &mut [Y]) {
    let bias = p.products.bias;
    let [_, h, w, in_ch] = p.x_shape;
    let [_, oh, ow, out_ch] = p.y_shape;
    let [kh, kw] = p.kernel;
    let (in_per_group, out_per_group) = (in_ch / p.group, out_ch / p.group);
    for (i, y) in y.iter_mut().enumerate() {
        let (pixel, o) = (i / out_ch, i % out_ch);
        let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        let first = o / out_per_group * in_per_group;
        let mut acc = A::from(bias[o]);
        for ky in 0..kh {
            let Some(iy) = p.position(0, oy, ky, h) else { continue };
            for kx in 0..kw {
                let Some(ix) = p.position(1, ox, kx, w) else { continue };
                let x = &x[((image * h + iy) * w + ix) * in_ch + first..][..in_per_group];
                let tap = (o * kh + ky) * kw + kx;
                acc = p.products.accumulate(acc, x, tap * in_per_group);
            }
        }
        *y = p.products.requantize(acc, o);
    }
}

impl<W> Params<'_, W> {
    /// The input position whose tap `k` falls on output position `o`, if there is one.
    fn position(&self, axis: usize, o: usize, k: usize, size: usize) -> Option<usize> {
        let scaled = (o + self.pad[axis]).checked_sub(k * self.dilation[axis])?;
        let i = scaled / self.stride[axis];
        (scaled % self.stride[axis] == 0 && i < size).then_some(i)
    }
}
