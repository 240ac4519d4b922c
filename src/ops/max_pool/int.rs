//! Integer reference of `max_pool`. `core` only: it can be deployed as it is.

use crate::arith::Code;

/// Integer constants of one pooling. Shapes are `[n, h, w, c]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
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
    /// Rows above and columns left of the input.
    pub pad: [usize; 2],
}

/// `y[n][oy][ox][c] = max x[n][iy][ix][c]` over the taps inside the input, where
/// `iy = oy * stride + ky * dilation - pad`, likewise `ix`.
pub fn max_pool<X: Code>(x: &[X], p: &Params, y: &mut [X]) {
    let [_, h, w, c] = p.x_shape;
    let [_, oh, ow, _] = p.y_shape;
    for (pixel, y) in y.chunks_exact_mut(c).enumerate() {
        let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        y.fill(X::MIN);
        for ky in 0..p.kernel[0] {
            // Positions above or left of the input wrap to huge numbers: outside as well.
            let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
            for kx in 0..p.kernel[1] {
                let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pad[1]);
                if iy < h && ix < w {
                    let x = &x[((image * h + iy) * w + ix) * c..][..c];
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x.max(*y);
                    }
                }
            }
        }
    }
}
