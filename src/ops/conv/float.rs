//! The convolution of reals, without copies of its windows.
//!
//! The terms of a result are added in the order of the weight: channels, rows, columns. Padding counts: it adds zeros.

use super::Conv;
use crate::kernels::float::{FloatSums, Line};
use crate::ops::Window;

/// Terms for which the input is padded at a time.
const TERMS: usize = 512;
/// Results of a depthwise convolution are computed in multiples of this: the lanes of the widest register.
const LANES: usize = 16;
/// Padding that makes a plane this much larger than four times its size is not written out.
const LARGE: usize = 1 << 20;

/// `n` times a plane of `len` elements for each channel, filled with its bias.
pub fn biases(n: usize, channels: usize, len: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = Vec::with_capacity(n * channels * len);
    for channel in (0..n).flat_map(|_| 0..channels) {
        y.resize(y.len() + len, bias.map_or(0.0, |bias| bias[channel]));
    }
    y
}

/// One group of one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub in_ch: usize,
    pub out_ch: usize,
    /// `[h, w]` of the input.
    pub size: [usize; 2],
    /// `[oh, ow]` of the output.
    pub out: [usize; 2],
}

impl Conv {
    /// Adds all products to `y [out_ch, oh, ow]`; `x` is `[in_ch, h, w]` and `weight` `[out_ch, in_ch, kh, kw]`.
    /// `scratch` is kept from group to group.
    pub(super) fn add_products(
        &self,
        g: Group,
        x: &[f32],
        weight: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let w = &self.window;
        let seen = |axis: usize| {
            (g.out[axis] - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1
        };
        let padded = [seen(0), seen(1)];
        let [top, left, ..] = w.pads;
        let inside = (top, left) == (0, 0) && padded[0] <= g.size[0] && padded[1] <= g.size[1];
        let len = |[h, w]: [usize; 2]| h * w;
        if g.in_ch == 1 && g.out_ch == 1 && len(padded) <= 4 * len(g.size) + LARGE {
            return self.add_depthwise(g, padded, x, weight, y, scratch);
        }
        if inside {
            return self.add_lines(g, g.size, x, weight, 0, y);
        }
        if len(padded) > 4 * len(g.size) + LARGE {
            return self.add_one_by_one(g, x, weight, y);
        }
        let some = (TERMS / len(w.kernel)).clamp(1, g.in_ch);
        scratch.x.clear();
        scratch.x.resize(some * len(padded), 0.0);
        for (i, x) in x.chunks(some * len(g.size)).enumerate() {
            for (x, to) in x.chunks_exact(len(g.size)).zip(scratch.x.chunks_exact_mut(len(padded)))
            {
                let lines = x.chunks_exact(g.size[1]).zip(to.chunks_exact_mut(padded[1]).skip(top));
                for (x, to) in lines {
                    to.iter_mut().skip(left).zip(x).for_each(|(to, &x)| *to = x);
                }
            }
            let x = &scratch.x[..x.len() / len(g.size) * len(padded)];
            self.add_lines(g, padded, x, weight, i * some, y);
        }
    }

    /// The terms of the channels in `x`, of planes of `size`, of which the first one is `channel`.
    fn add_lines(
        &self,
        g: Group,
        size: [usize; 2],
        x: &[f32],
        weight: &[f32],
        channel: usize,
        y: &mut [f32],
    ) {
        let Window { kernel: [kh, kw], stride, dilation, .. } = self.window;
        let ([oh, ow], [h, pitch]) = (g.out, size);
        let channels = x.len() / (h * pitch);
        let taps = (0..kh)
            .flat_map(|ky| (0..kw).map(move |kx| ky * dilation[0] * pitch + kx * dilation[1]));
        let offsets: Vec<usize> =
            (0..channels).flat_map(|c| taps.clone().map(move |tap| c * h * pitch + tap)).collect();
        let lines: Vec<Line> = match stride[0] * pitch == stride[1] * ow {
            true => vec![Line { x: 0, y: 0, len: oh * ow }],
            false => {
                (0..oh).map(|oy| Line { x: oy * stride[0] * pitch, y: oy * ow, len: ow }).collect()
            }
        };
        let sums = FloatSums {
            rows: g.out_ch,
            w: &weight[channel * kh * kw..],
            w_row: g.in_ch * kh * kw,
            w_term: 1,
            x,
            x_step: stride[1],
            offsets: &offsets,
            lines: &lines,
            y_row: oh * ow,
            y_step: 1,
        };
        sums.add_to(y);
    }

    /// One channel to one channel. Pixels that are a stride apart are laid side by side, so that all results lie in
    /// one line, with a few between the rows that are none.
    fn add_depthwise(
        &self,
        g: Group,
        padded: [usize; 2],
        x: &[f32],
        weight: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Window { kernel: [kh, kw], stride, dilation: [dh, dw], pads, .. } = self.window;
        let ([h, w], [oh, ow], [top, left, ..]) = (g.size, g.out, pads);
        // A longer step is never taken.
        let [sh, sw] = [0, 1].map(|axis| stride[axis].min(padded[axis]));
        let pitch = padded[1].div_ceil(sw);
        let plane = padded[0].div_ceil(sh) * pitch;
        let at = |y: usize, x: usize| (y % sh * sw + x % sw) * plane + y / sh * pitch + x / sw;
        let len = ((oh - 1) * pitch + ow).next_multiple_of(LANES);
        scratch.offsets.clear();
        scratch.offsets.extend((0..kh).flat_map(|ky| (0..kw).map(move |kx| at(ky * dh, kx * dw))));
        // What is no pixel stays 0 from plane to plane.
        scratch.x.resize(sh * sw * plane + len, 0.0);
        for (iy, line) in
            x.chunks_exact(w).enumerate().take((padded[0] - top.min(padded[0])).min(h))
        {
            for phase in 0..sw.min(padded[1]) {
                // The first pixel of the line in this phase.
                let first = (phase + sw - left % sw) % sw;
                let end = w.min(padded[1].saturating_sub(left));
                if first < end {
                    let to = &mut scratch.x[at(iy + top, first + left)..];
                    match sw {
                        1 => to[..end].copy_from_slice(&line[..end]),
                        _ => {
                            let from = line[first..end].iter().step_by(sw);
                            to.iter_mut().zip(from).for_each(|(to, &x)| *to = x);
                        }
                    }
                }
            }
        }
        scratch.y.clear();
        scratch.y.resize(len, y[0]);
        let sums = FloatSums {
            rows: 1,
            w: weight,
            w_row: 0,
            w_term: 1,
            x: &scratch.x,
            x_step: 1,
            offsets: &scratch.offsets,
            lines: &[Line { x: 0, y: 0, len }],
            y_row: 0,
            y_step: 1,
        };
        sums.add_to(&mut scratch.y);
        for (y, from) in y.chunks_exact_mut(ow).zip(scratch.y.chunks(pitch)) {
            y.copy_from_slice(&from[..ow]);
        }
    }

    /// The same without a copy of the input, for padding that is much larger than it.
    fn add_one_by_one(&self, g: Group, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let (w, [h, width], [oh, ow]) = (&self.window, g.size, g.out);
        let [kh, kw] = w.kernel;
        for (at, y) in y.iter_mut().enumerate() {
            let (o, oy, ox) = (at / (oh * ow), at / ow % oh, at % ow);
            for (t, &weight) in
                weight[o * g.in_ch * kh * kw..][..g.in_ch * kh * kw].iter().enumerate()
            {
                let (c, ky, kx) = (t / (kh * kw), t / kw % kh, t % kw);
                let place = w.position(0, oy, ky, h).zip(w.position(1, ox, kx, width));
                let x = place.map_or(0.0, |(iy, ix)| x[(c * h + iy) * width + ix]);
                *y = x.mul_add(weight, *y);
            }
        }
    }
}

/// Memory that is kept from group to group.
#[derive(Default)]
pub(super) struct Scratch {
    x: Vec<f32>,
    y: Vec<f32>,
    offsets: Vec<usize>,
}
