//! Integer reference of `normalize`. `core` only: it can be deployed as it is.

use crate::arith::{Code, round_shift};

/// Integer constants of one normalization.
///
/// Group `g` begins at `g / inner * outer_stride + g % inner * inner_stride`, and has `channels` runs of
/// `length` elements.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// Factors, one or one for each channel of each inner group.
    pub factor: &'a [i32],
    /// What is added, likewise.
    pub offset: &'a [i32],
    /// Left shift of what is added.
    pub offset_shift: u32,
    /// Right shift of the sum of both.
    pub shift: u32,
    /// Right shift of a normalized value, with which a root of 1 begins.
    pub unit_shift: i32,
    /// Left shift of the sum of squares, a right one where it is negative.
    pub square_shift: i32,
    /// What is added to the sum of squares.
    pub epsilon: i64,
    /// Whether the mean is subtracted.
    pub centered: bool,
    /// Code of real 0 in the input; 0 where the mean is subtracted.
    pub x_zero_point: i32,
    /// Code of real 0 in the output.
    pub y_zero_point: i32,
    /// Output range.
    pub clamp: (i32, i32),
    /// Number of groups.
    pub groups: usize,
    /// Groups that lie beside one another.
    pub inner: usize,
    /// Distance between blocks of so many groups.
    pub outer_stride: usize,
    /// Distance between the groups of a block.
    pub inner_stride: usize,
    /// Channels of a group.
    pub channels: usize,
    /// Distance between them.
    pub channel_stride: usize,
    /// Elements of a channel.
    pub length: usize,
    /// Distance between them.
    pub stride: usize,
    /// Distance between the factors of groups and of channels.
    pub factor_strides: (usize, usize),
}

/// `floor(sqrt(w))`, bit by bit.
fn square_root(w: u64) -> u64 {
    let add = |root: u64, bit: u32| {
        let next = root | 1 << bit;
        if next * next <= w { next } else { root }
    };
    (0..32).rev().fold(0, add)
}

/// `y = clamp(round(u * factor + offset) + zy)` with `u = round(n / sqrt(W))`, where `n` is
/// `N * x - sum x` and `W` is `N * sum x^2 - (sum x)^2 + epsilon`, or, not centered, `x - zx` and
/// `sum (x - zx)^2 + epsilon`.
pub fn normalize<X: Code, Y: Code>(x: &[X], p: &Params, y: &mut [Y]) {
    let count = if p.centered { (p.channels * p.length) as i64 } else { 1 };
    for g in 0..p.groups {
        let first = g / p.inner * p.outer_stride + g % p.inner * p.inner_stride;
        let position = |c: usize, i: usize| first + c * p.channel_stride + i * p.stride;
        let code = |at: usize| {
            let x: i32 = x[at].into();
            (x - p.x_zero_point) as i64
        };
        let (mut sum, mut squares) = (0, 0);
        for c in 0..p.channels {
            for i in 0..p.length {
                let x = code(position(c, i));
                sum += x;
                squares += x * x;
            }
        }
        if !p.centered {
            sum = 0;
        }
        let spread = count * squares - sum * sum;
        let spread = match p.square_shift >= 0 {
            true => spread << p.square_shift,
            false => spread >> -p.square_shift,
        };
        let w = (spread + p.epsilon).max(1) as u64;
        // An even shift brings the root into 2^31..2^32.
        let even = w.leading_zeros() as i32 / 2;
        let reciprocal = ((1 << 60) / square_root(w << (2 * even))) as i64;
        let shift = (p.unit_shift - even).clamp(1, 62) as u32;
        for c in 0..p.channels {
            let channel = g % p.inner * p.factor_strides.0 + c * p.factor_strides.1;
            let (factor, offset) = (p.factor[channel] as i64, p.offset[channel] as i64);
            let offset = offset << p.offset_shift;
            for i in 0..p.length {
                let at = position(c, i);
                let unit = round_shift((count * code(at) - sum) * reciprocal, shift);
                let q = round_shift(unit * factor + offset, p.shift);
                y[at] = Y::code(q, p.y_zero_point, p.clamp);
            }
        }
    }
}
