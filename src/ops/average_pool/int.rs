//! Integer reference of `average_pool`. `core` only: it can be deployed as it is.

use crate::arith::{Code, Multiplier, round_ratio};

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
    /// `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// Padding counts as real 0; otherwise only taps inside the input count.
    pub count_include_pad: bool,
    /// `x_scale / y_scale`.
    pub multiplier: Multiplier,
    /// Code of real 0 in the input.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range; a fused ReLU raises the lower end to `y_zero_point`.
    pub clamp: (i32, i32),
}

/// `y = clamp(round(sum (x - zx) / count * multiplier) + zy)`, the division and the product rounded
/// once, together.
pub fn average_pool<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    let [_, h, w, c] = p.x_shape;
    let [_, oh, ow, _] = p.y_shape;
    for (i, y) in y.iter_mut().enumerate() {
        let (pixel, channel) = (i / c, i % c);
        let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        let (rows, counted_rows) = p.span(0, oy, h);
        let (columns, counted_columns) = p.span(1, ox, w);
        let mut sum = 0;
        for iy in rows {
            for ix in columns.clone() {
                let x: i32 = x[((image * h + iy) * w + ix) * c + channel].into();
                sum += (x - p.x_zero_point) as i64;
            }
        }
        let count = (counted_rows * counted_columns) as i64;
        let product = sum * p.multiplier.significand as i64;
        let q = round_ratio(product, count, p.multiplier.shift);
        *y = Y::code(q, p.y_zero_point, p.clamp);
    }
}

impl Params {
    /// Input positions of the window of output position `o`, and by how many it is averaged.
    fn span(&self, axis: usize, o: usize, size: usize) -> (core::ops::Range<usize>, usize) {
        let begin = o * self.stride[axis];
        let pad = self.pads[axis];
        let end = (begin + self.kernel[axis]).min(size + pad + self.pads[axis + 2]);
        let inside = begin.saturating_sub(pad)..end.saturating_sub(pad).min(size);
        let counted = if self.count_include_pad { end - begin } else { inside.len() };
        (inside, counted)
    }
}
