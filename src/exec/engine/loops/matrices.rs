//! Sums of products that are no layer of constants over windows: products of two results, and transposed
//! convolutions.

use std::fmt;

use super::{Arguments, Loop, with_stored};
use crate::arith::{Multiplier, strided_index};
use crate::exec::engine::arena::Scratch;
use crate::kernels::elementwise::{Stored, Target};
use crate::kernels::isa::Isa;
use crate::kernels::matrix::{
    Panel, ROWS, finish, finish_channels, multiply, pack_columns, pack_rows, panels,
};
use crate::ops::IntOp;
use crate::ops::conv_transpose::ConvTransposeInt;
use crate::ops::matmul::MatMulInt;
use crate::quant::Width;

/// Numbers of 32 bits, where they are exact.
type Single = [f32; 16];
/// Numbers of 64 bits.
type Double = [f64; 8];

pub fn of(op: &IntOp, widths: [Width; 2]) -> Option<Box<dyn Loop>> {
    match op {
        IntOp::MatMul(op) if op.bound < Single::EXACT => {
            Some(Box::new(Matrices::<Single>::of(op, widths)))
        }
        IntOp::MatMul(op) if op.bound < Double::EXACT => {
            Some(Box::new(Matrices::<Double>::of(op, widths)))
        }
        IntOp::ConvTranspose(op) if op.acc.bound < Single::EXACT => {
            Some(Box::new(Spread::<Single>::of(op, widths)))
        }
        IntOp::ConvTranspose(op) if op.acc.bound < Double::EXACT => {
            Some(Box::new(Spread::<Double>::of(op, widths)))
        }
        _ => None,
    }
}

fn factor(m: Multiplier) -> f64 {
    m.significand as f64 / (1u64 << m.shift) as f64
}

/// Panels of one thread.
pub trait Packed: Panel + fmt::Debug {
    /// So many of them, of 32 bits and of 64.
    fn count(panels: usize) -> [usize; 2];

    /// Those that a thread has.
    fn of(scratch: &mut Scratch) -> &mut [Self];
}

impl Packed for Single {
    fn count(panels: usize) -> [usize; 2] {
        [panels, 0]
    }

    fn of(scratch: &mut Scratch) -> &mut [Self] {
        &mut scratch.single
    }
}

impl Packed for Double {
    fn count(panels: usize) -> [usize; 2] {
        [0, panels]
    }

    fn of(scratch: &mut Scratch) -> &mut [Self] {
        &mut scratch.double
    }
}

/// A batch of products of two matrices.
#[derive(Debug)]
struct Matrices<P> {
    batch: Vec<usize>,
    strides: [Vec<usize>; 2],
    sizes: [usize; 3],
    zero_point: [i32; 2],
    factor: f64,
    y: Target,
    widths: [Width; 2],
    panels: std::marker::PhantomData<fn() -> P>,
}

impl<P: Packed> Matrices<P> {
    fn of(op: &MatMulInt, widths: [Width; 2]) -> Self {
        Self {
            batch: op.batch.clone(),
            strides: op.strides.clone(),
            sizes: op.sizes,
            zero_point: op.zero_point,
            factor: factor(op.multiplier),
            y: Target::new(op.y_zero_point, op.clamp),
            widths,
            panels: std::marker::PhantomData,
        }
    }

    fn run<X: Stored, Y: Stored>(
        &self,
        isa: Isa,
        [a, b]: [&[X]; 2],
        first: usize,
        y: &mut [Y],
        scratch: &mut Scratch,
    ) {
        let ([m, k, n], [za, zb], flip) = (self.sizes, self.zero_point, isa.flip());
        let side = panels::<P>(1, n);
        let (columns, rest) = P::of(scratch).split_at_mut(k * side);
        let (rows, rest) = rest.split_at_mut(k);
        let sums = &mut rest[..ROWS * side];
        let (mut row, mut rest, mut packed) = (first / n, y, None);
        while !rest.is_empty() {
            let (matrix, i) = (row / m, row % m);
            let [of_a, of_b] = [0, 1].map(|j| strided_index(matrix, &self.batch, &self.strides[j]));
            if packed != Some(of_b) {
                pack_columns(isa, &b[of_b..][..k * n], n, zb, flip, columns);
                packed = Some(of_b);
            }
            let count = ROWS.min(m - i).min(rest.len() / n);
            let (y, more) = rest.split_at_mut(count * n);
            pack_rows(isa, &a[of_a + i * k..], count, k, za, flip, rows);
            multiply(isa, rows, columns, sums);
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                finish(isa, sums, i, self.factor, &self.y, flip, y);
            }
            (row, rest) = (row + count, more);
        }
    }
}

impl<P: Packed> Loop for Matrices<P> {
    fn path(&self) -> &'static str {
        "matmul"
    }

    fn unit(&self) -> usize {
        self.sizes[2]
    }

    fn picoseconds(&self) -> u64 {
        1000 + self.sizes[1] as u64 * 500 / P::LEN as u64
    }

    fn macs(&self) -> u64 {
        (self.batch.iter().product::<usize>() * self.sizes.iter().product::<usize>()) as u64
    }

    fn panels(&self) -> [usize; 2] {
        let ([_, k, n], side) = (self.sizes, panels::<P>(1, self.sizes[2]));
        P::count(panels::<P>(k, n) + k + ROWS * side)
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], scratch: &mut Scratch) {
        with_stored!(self.widths, X, Y => {
            let arguments = [X::all(x(0)), X::all(x(1))];
            self.run(isa, arguments, first, Y::all_mut(y), scratch);
        });
    }
}

/// A transposed convolution. For each line of the result and each line of taps that falls on it, the pixels of a
/// line of the input are multiplied by all weights of these taps, and the products added where they belong.
#[derive(Debug)]
struct Spread<P> {
    x_shape: [usize; 4],
    /// `[oh, ow, out_ch]`
    y_shape: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    /// For each group and each line of taps.
    weights: Vec<Vec<P>>,
    group: usize,
    bias: Vec<f64>,
    factors: Vec<f64>,
    x_zero_point: i32,
    y: Target,
    widths: [Width; 2],
}

impl<P: Packed> Spread<P> {
    fn of(op: &ConvTransposeInt, widths: [Width; 2]) -> Self {
        let (window, group, acc) = (op.conv.window, op.conv.group, &op.acc);
        let [kh, kw] = window.kernel;
        let ([_, _, _, in_ch], [_, oh, ow, out_ch]) = (op.x_shape, op.y_shape);
        let [inputs, outputs] = [in_ch / group, out_ch / group];
        let line = |g: usize, ky: usize| {
            // As columns of a matrix `[input][kx][output]`.
            let mut to = vec![P::default(); panels::<P>(inputs, kw * outputs)];
            for column in 0..kw * outputs {
                let (kx, o) = (column / outputs, g * outputs + column % outputs);
                for c in 0..inputs {
                    let weight = acc.weight.get(((o * kh + ky) * kw + kx) * inputs + c);
                    to[column / P::LEN * inputs + c].set(column % P::LEN, weight);
                }
            }
            to
        };
        Self {
            x_shape: op.x_shape,
            y_shape: [oh, ow, out_ch],
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            pad: [window.pads[0], window.pads[1]],
            weights: (0..group * kh).map(|i| line(i / kh, i % kh)).collect(),
            group,
            bias: acc.bias.iter().map(|&bias| bias as f64).collect(),
            factors: acc.multiplier.iter().map(|&m| factor(m)).collect(),
            x_zero_point: acc.x_zero_point,
            y: Target::new(acc.y_zero_point, acc.clamp),
            widths,
        }
    }

    /// Adds the products of one line of the input with the taps of line `ky` to the sums of a line of the result.
    fn add<X: Stored>(&self, isa: Isa, x: &[X], ky: usize, sums: &mut [f64], room: &mut [P]) {
        let ([kh, kw], [_, ow, out_ch]) = (self.kernel, self.y_shape);
        let [_, _, w, in_ch] = self.x_shape;
        let [inputs, outputs] = [in_ch, out_ch].map(|channels| channels / self.group);
        let (rows, rest) = room.split_at_mut(inputs);
        let products = &mut rest[..panels::<P>(ROWS, kw * outputs)];
        for g in 0..self.group {
            for ix in (0..w).step_by(ROWS) {
                let count = ROWS.min(w - ix);
                let x = &x[ix * in_ch + g * inputs..];
                for i in 0..count {
                    pack_row(x, i, in_ch, self.x_zero_point, isa.flip(), rows);
                }
                multiply(isa, rows, &self.weights[g * kh + ky], products);
                for (i, kx) in (0..count).flat_map(|i| (0..kw).map(move |kx| (i, kx))) {
                    let at = (ix + i) * self.stride[1] + kx * self.dilation[1];
                    let ox = at.wrapping_sub(self.pad[1]);
                    if ox < ow {
                        let sums = &mut sums[ox * out_ch + g * outputs..][..outputs];
                        for (column, sum) in (kx * outputs..).zip(sums) {
                            let panel = &products[column / P::LEN * ROWS + i];
                            *sum += panel.get(column % P::LEN);
                        }
                    }
                }
            }
        }
    }
}

/// Row `i` alone of what `pack_rows` packs.
fn pack_row<X: Stored, P: Panel>(
    x: &[X],
    i: usize,
    step: usize,
    zero: i32,
    flip: u8,
    to: &mut [P],
) {
    for (&x, to) in x[i * step..].iter().zip(to) {
        to.set(i, x.get(flip) - zero);
    }
}

impl<P: Packed> Loop for Spread<P> {
    fn path(&self) -> &'static str {
        "transposed"
    }

    fn unit(&self) -> usize {
        self.y_shape[1] * self.y_shape[2]
    }

    fn picoseconds(&self) -> u64 {
        let macs = self.macs() / (self.y_shape.iter().product::<usize>() as u64).max(1);
        2000 + macs * 500 / P::LEN as u64
    }

    fn macs(&self) -> u64 {
        let taps = self.kernel[0] * self.kernel[1] * self.y_shape[2] / self.group;
        (self.x_shape.iter().product::<usize>() * taps) as u64
    }

    fn size(&self) -> usize {
        self.weights.iter().map(|line| size_of_val(line.as_slice())).sum()
    }

    fn numbers(&self) -> usize {
        self.unit()
    }

    fn panels(&self) -> [usize; 2] {
        let [inputs, outputs] = [self.x_shape[3], self.y_shape[2]].map(|c| c / self.group);
        P::count(inputs + panels::<P>(ROWS, self.kernel[1] * outputs))
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], scratch: &mut Scratch) {
        let ([_, h, w, in_ch], [oh, ow, out_ch]) = (self.x_shape, self.y_shape);
        let mut sums = std::mem::take(&mut scratch.numbers);
        let line = &mut sums[..ow * out_ch];
        with_stored!(self.widths, X, Y => {
            let x = X::all(x(0));
            let lines = Y::all_mut(y).chunks_exact_mut((ow * out_ch).max(1));
            for (i, y) in (first / self.unit().max(1)..).zip(lines) {
                line.chunks_exact_mut(out_ch).for_each(|sums| sums.copy_from_slice(&self.bias));
                for ky in 0..self.kernel[0] {
                    let at = (i % oh + self.pad[0]).checked_sub(ky * self.dilation[0]);
                    let Some(at) = at.filter(|at| at % self.stride[0] == 0) else { continue };
                    let iy = at / self.stride[0];
                    if iy < h {
                        let x = &x[(i / oh * h + iy) * w * in_ch..][..w * in_ch];
                        self.add(isa, x, ky, line, P::of(scratch));
                    }
                }
                finish_channels(isa, line, &self.factors, &self.y, isa.flip(), y);
            }
        });
        scratch.numbers = sums;
    }
}
