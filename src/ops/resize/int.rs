//! Integer reference of linear `resize`. `core` only: it can be deployed as it is.

use crate::arith::{Code, Multiplier, rescale_wide};

/// Weights of an interpolation between codes `X` are multiples of `2^-weight_bits`: the mean of two of 16 bits is then
/// off by less than a step.
pub const fn weight_bits<X: Code>() -> u32 {
    if size_of::<X>() == 1 { 11 } else { 18 }
}

/// An output position between two input positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// Index of the lower neighbour.
    pub low: u32,
    /// Index of the upper neighbour.
    pub high: u32,
    /// Weight of the upper neighbour, in units of `2^-weight_bits`.
    pub weight: i64,
}

/// Integer constants of one resize. Shapes are `[n, h, w, c]`.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Shape of the input.
    pub x_shape: [usize; 4],
    /// For each output row.
    pub rows: &'a [Between],
    /// For each output column.
    pub columns: &'a [Between],
    /// `x_scale / y_scale`; its shift is at most 40.
    pub multiplier: Multiplier,
    /// Code of real 0 in the input.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
}

/// Both interpolations are summed exactly (30 bits for 8-bit codes, 52 for 16), rescaled and rounded once.
pub fn resize_linear<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    let [_, h, w, c] = p.x_shape;
    let one = 1i64 << weight_bits::<X>();
    let Multiplier { significand, shift } = p.multiplier;
    let multiplier = Multiplier { significand, shift: shift + 2 * weight_bits::<X>() };
    let (oh, ow) = (p.rows.len(), p.columns.len());
    for (i, y) in y.iter_mut().enumerate() {
        let (pixel, channel) = (i / c, i % c);
        let (image, row, column) =
            (pixel / (oh * ow), p.rows[pixel / ow % oh], p.columns[pixel % ow]);
        let at = |iy: u32, ix: u32| {
            let index = ((image * h + iy as usize) * w + ix as usize) * c + channel;
            let x: i32 = x[index].into();
            (x - p.x_zero_point) as i64
        };
        let across =
            |iy| at(iy, column.low) * (one - column.weight) + at(iy, column.high) * column.weight;
        let sum = across(row.low) * (one - row.weight) + across(row.high) * row.weight;
        *y = Y::code(rescale_wide(sum, multiplier), p.y_zero_point, p.clamp);
    }
}
