//! One node: which kernel computes it, and on what.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layer, Options, Source};
use crate::arith::{Code, Products, round_ratio};
use crate::codes::Codes;
use crate::kernels::isa::Isa;
use crate::kernels::portable::{
    Aligned, Gathered, LANES, Packed, ROWS, Sum, WIDEST, Windows, add, depthwise, product, widen,
};
use crate::lower::IntNode;
use crate::ops::accumulator::{Accumulator, is_wide};
use crate::ops::average_pool::int::Params as Average;
use crate::ops::conv::ConvInt;
use crate::ops::{IntOp, IntOperator};
use crate::tensor::strides;

/// A layer with fewer products runs on one thread: it would take less time than to wake another.
fn worth_sharing(isa: Isa) -> u64 {
    match isa {
        _ if cfg!(test) => 0,
        Isa::Portable => 200_000,
        Isa::Avx2 => 500_000,
        Isa::Avx512Vnni => 1_500_000,
    }
}
/// A product of a depthwise convolution takes as long as so many others.
const DEPTHWISE_COST: u64 = 4;
/// Elements of gathered windows that stay in the first cache.
const GATHERED: usize = 12 * 1024;

/// Memory of one thread.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Of a product.
    gathered: Gathered,
    /// Rows of a depthwise convolution.
    ring: Aligned<i16>,
    /// Where its taps lie.
    taps: Vec<usize>,
}

/// Elements of each part of [`Scratch`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    gathered: usize,
    ring: usize,
    taps: usize,
}

impl Sizes {
    /// What serves both.
    pub fn max(self, other: Self) -> Self {
        Self {
            gathered: self.gathered.max(other.gathered),
            ring: self.ring.max(other.ring),
            taps: self.taps.max(other.taps),
        }
    }

    pub fn scratch(self, isa: Isa) -> Scratch {
        Scratch {
            gathered: Gathered::new(isa, self.gathered),
            ring: Aligned::new(self.ring),
            taps: vec![0; self.taps],
        }
    }
}

/// A node, ready to be computed.
#[derive(Debug)]
pub struct Step {
    name: String,
    operator: &'static str,
    macs: u64,
    kind: Kind,
    inputs: Vec<Source>,
    pub output: Range<usize>,
    /// Parts of the work, for as many threads.
    parts: usize,
}

#[derive(Debug)]
enum Kind {
    /// Convolution or linear layer, for each group of channels: `rows` of `out_ch` codes.
    Product {
        groups: Vec<(Windows, Packed)>,
        rows: usize,
        out_ch: usize,
    },
    Depthwise(Windows, Packed),
    Add(Sum),
    /// The mean of all pixels.
    Mean(Average),
    Table(Vec<i8>),
    Copy,
    /// The operator's reference.
    Reference(IntOp),
}

impl Step {
    pub fn new(
        node: &IntNode,
        inputs: Vec<Source>,
        output: Range<usize>,
        Options { threads, isa }: Options,
    ) -> Self {
        let kind = Kind::new(isa, &node.op, &inputs, output.len());
        let macs = match &kind {
            Kind::Product { groups, rows, .. } => {
                let of = |(w, p): &(Windows, Packed)| (w.depth() * p.channels() * rows) as u64;
                groups.iter().map(of).sum()
            }
            Kind::Depthwise(windows, _) => {
                (output.len() * windows.kernel[0] * windows.kernel[1]) as u64
            }
            _ => 0,
        };
        let cost = if matches!(kind, Kind::Depthwise(..)) { DEPTHWISE_COST * macs } else { macs };
        let parts = if cost < worth_sharing(isa) { 1 } else { threads };
        let (name, operator) = (node.name.clone(), node.op.name());
        Self { name, operator, macs, kind, inputs, output, parts }
    }

    pub fn layer(&self) -> Layer<'_> {
        let path = match self.kind {
            Kind::Product { .. } => "product",
            Kind::Depthwise(..) => "depthwise",
            Kind::Add(_) => "add",
            Kind::Mean(_) => "mean",
            Kind::Table(_) => "table",
            Kind::Copy => "copy",
            Kind::Reference(_) => "reference",
        };
        Layer { name: &self.name, operator: self.operator, path, macs: self.macs }
    }

    /// Whether threads share it.
    pub fn is_shared(&self) -> bool {
        self.parts > 1
    }

    /// Bytes of packed constants.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Product { groups, .. } => groups.iter().map(|(_, p)| p.size()).sum(),
            Kind::Depthwise(_, packed) => packed.size(),
            Kind::Table(table) => table.len(),
            _ => 0,
        }
    }

    /// What each thread needs.
    pub fn sizes(&self) -> Sizes {
        match &self.kind {
            Kind::Product { groups, rows, .. } => {
                let most = groups.iter().map(|(_, p)| p.stride()).max().unwrap_or(0);
                Sizes { gathered: most * tile_rows(most).min(*rows), ..Sizes::default() }
            }
            Kind::Depthwise(w, p) => {
                Sizes { ring: Ring::new(w).len(), taps: p.stride(), ..Sizes::default() }
            }
            _ => Sizes::default(),
        }
    }

    /// What the reference needs: arguments and result.
    pub fn codes(&self) -> Option<(Vec<Codes>, Codes)> {
        match self.kind {
            Kind::Reference(IntOp::MaxPool(_) | IntOp::AveragePool(_)) => return None,
            Kind::Reference(_) => {}
            _ => return None,
        }
        let argument = |source: &Source| match source {
            Source::Arena(_, len) => Codes::zeros(8, *len),
            Source::Constant(codes) => Codes::I8(codes.clone()),
        };
        Some((self.inputs.iter().map(argument).collect(), Codes::zeros(8, self.output.len())))
    }

    pub fn run(
        &self,
        isa: Isa,
        arena: &mut [i8],
        scratch: &mut [Scratch],
        codes: &mut Option<(Vec<Codes>, Codes)>,
    ) {
        // The result lies beside the arguments, never over them.
        let (before, rest) = arena.split_at_mut(self.output.start);
        let (y, after) = rest.split_at_mut(self.output.len());
        let (before, after) = (&*before, &*after);
        let input = |i: usize| -> &[i8] {
            match &self.inputs[i] {
                Source::Constant(codes) => codes,
                Source::Arena(_, 0) => &[],
                &Source::Arena(begin, len) if begin < self.output.start => &before[begin..][..len],
                &Source::Arena(begin, len) => &after[begin - self.output.end..][..len],
            }
        };
        match &self.kind {
            Kind::Product { groups, rows: 1, .. } if groups.len() == 1 => {
                let (windows, packed) = &groups[0];
                let blocks = packed.blocks().div_ceil(self.parts);
                share(y, blocks * packed.lanes(), scratch, |part, y, scratch| {
                    let blocks = part * blocks..((part + 1) * blocks).min(packed.blocks());
                    let (gathered, width) = (&mut scratch.gathered, y.len());
                    product(packed, blocks, windows, input(0), (0, 1), gathered, y, width);
                });
            }
            Kind::Product { groups, rows, out_ch } => {
                let per_part = rows.div_ceil(self.parts).next_multiple_of(ROWS);
                share(y, per_part * out_ch, scratch, |part, y, scratch| {
                    products(groups, input(0), part * per_part, y, *out_ch, scratch);
                });
            }
            Kind::Depthwise(windows, packed) => {
                let line = windows.out[1] * packed.channels();
                let rows = y.len() / line.max(1);
                let per_part = rows.div_ceil(self.parts);
                share(y, per_part * line, scratch, |part, y, scratch| {
                    let ring = Ring::new(windows);
                    ring.run(isa, packed, input(0), part * per_part, y, scratch);
                });
            }
            Kind::Add(sum) => add(isa, sum, input(0), input(1), y),
            Kind::Mean(average) => mean(average, input(0), y),
            Kind::Table(table) => {
                y.iter_mut().zip(input(0)).for_each(|(y, x)| *y = table[x.position()]);
            }
            // The plan may leave the codes where they are.
            Kind::Copy => match self.inputs[0] {
                Source::Arena(begin, _) if begin == self.output.start => {}
                _ => y.copy_from_slice(input(0)),
            },
            Kind::Reference(IntOp::MaxPool(op)) => op.eval(&[input(0)], y),
            Kind::Reference(IntOp::AveragePool(op)) => op.eval(&[input(0)], y),
            Kind::Reference(op) => {
                let Some((arguments, Codes::I8(result))) = codes else { return };
                for (i, argument) in arguments.iter_mut().enumerate() {
                    if let (Codes::I8(to), Source::Arena(..)) = (argument, &self.inputs[i]) {
                        to.copy_from_slice(input(i));
                    }
                }
                let mut all = Codes::I8(std::mem::take(result));
                op.eval(&arguments.iter().collect::<Vec<_>>(), &mut all);
                if let Codes::I8(all) = all {
                    y.copy_from_slice(&all);
                    *result = all;
                }
            }
        }
    }
}

impl Kind {
    fn new(isa: Isa, op: &IntOp, inputs: &[Source], len: usize) -> Self {
        Self::fast(isa, op, inputs, len).unwrap_or_else(|| Self::Reference(op.clone()))
    }

    /// `None` if there is no kernel for it.
    fn fast(isa: Isa, op: &IntOp, inputs: &[Source], len: usize) -> Option<Self> {
        match op {
            IntOp::Conv(conv) => Self::conv(isa, conv),
            IntOp::Linear(linear) => {
                let products = products_of(&linear.0)?;
                let out_ch = products.bias.len();
                let (depth, rows) = (products.weight.len() / out_ch, len / out_ch);
                let windows = Windows {
                    x_shape: [rows, 1, 1, depth],
                    out: [1; 2],
                    kernel: [1; 2],
                    stride: [1; 2],
                    dilation: [1; 2],
                    pad: [0; 2],
                    channels: (0, depth),
                    zero: 0,
                };
                let packed = Packed::for_product(isa, &products, 0..out_ch, depth, linear.0.bound);
                Some(Self::Product { groups: vec![(windows, packed)], rows, out_ch })
            }
            IntOp::Add(op) => {
                let whole = strides(&op.shape);
                let alike = op.strides.iter().all(|s| *s == whole);
                let alike = alike && inputs.iter().all(|source| source.len() == len);
                alike.then_some(Self::Add(Sum {
                    factor: op.factor,
                    shift: op.shift,
                    zero_point: op.zero_point,
                    y_zero_point: op.y_zero_point,
                    clamp: op.clamp,
                    bound: op.bound,
                }))
            }
            IntOp::AveragePool(op) => {
                let p = &op.params;
                let all = p.kernel == p.x_shape[1..3] && p.y_shape[1..3] == [1; 2];
                let plain = p.pads == [0; 4] && !is_wide(op.bound);
                (all && plain).then_some(Self::Mean(*p))
            }
            IntOp::Clip(table) | IntOp::Unary(table) => match &table.0 {
                Codes::I8(table) => Some(Self::Table(table.clone())),
                Codes::I16(_) => None,
            },
            IntOp::Reshape(op) | IntOp::Transpose(op) if op.is_copy() => Some(Self::Copy),
            _ => None,
        }
    }

    fn conv(isa: Isa, op: &ConvInt) -> Option<Self> {
        let products = products_of(&op.acc)?;
        let (window, group, bound) = (op.conv.window, op.conv.group, op.acc.bound);
        let [_, _, _, in_ch] = op.x_shape;
        let [n, oh, ow, out_ch] = op.y_shape;
        let [top, left, ..] = window.pads;
        let windows = |channels: (usize, usize)| Windows {
            x_shape: op.x_shape,
            out: [oh, ow],
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            pad: [top, left],
            channels,
            zero: op.acc.x_zero_point as i8,
        };
        let taps = window.kernel[0] * window.kernel[1];
        if group > 1 && group == in_ch && in_ch == out_ch {
            let packed = Packed::for_depthwise(isa, &products, taps, bound);
            return Some(Self::Depthwise(windows((0, in_ch)), packed));
        }
        let (per_group, out_per_group) = (in_ch / group, out_ch / group);
        let groups = (0..group).map(|g| {
            let windows = windows((g * per_group, (g + 1) * per_group));
            let channels = g * out_per_group..(g + 1) * out_per_group;
            (windows, Packed::for_product(isa, &products, channels, taps * per_group, bound))
        });
        Some(Self::Product { groups: groups.collect(), rows: n * oh * ow, out_ch })
    }
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Self::Arena(_, len) => *len,
            Self::Constant(codes) => codes.len(),
        }
    }
}

/// The constants of a sum of 8-bit products in 32 bits.
fn products_of(acc: &Accumulator) -> Option<Products<'_, i8>> {
    match &acc.weight {
        Codes::I8(weight) if !is_wide(acc.bound) && !acc.bias.is_empty() => Some(Products {
            weight,
            bias: &acc.bias,
            multiplier: &acc.multiplier,
            x_zero_point: acc.x_zero_point,
            y_zero_point: acc.y_zero_point,
            clamp: acc.clamp,
        }),
        _ => None,
    }
}

/// Calls `f` for each `size` elements of `y` in threads of their own.
fn share(
    y: &mut [i8],
    size: usize,
    scratch: &mut [Scratch],
    f: impl Fn(usize, &mut [i8], &mut Scratch) + Sync,
) {
    if y.len() <= size {
        f(0, y, &mut scratch[0]);
        return;
    }
    let parts = y.par_chunks_mut(size).zip(scratch).with_max_len(1);
    parts.enumerate().for_each(|(part, (y, scratch))| f(part, y, scratch));
}

/// How many windows are gathered before they are multiplied.
fn tile_rows(stride: usize) -> usize {
    (GATHERED / stride.max(1) / ROWS * ROWS).max(ROWS)
}

/// The results of windows `first..`, as many as `y` holds.
fn products(
    groups: &[(Windows, Packed)],
    x: &[i8],
    first: usize,
    y: &mut [i8],
    out_ch: usize,
    scratch: &mut Scratch,
) {
    let tile = groups.iter().map(|(_, p)| tile_rows(p.stride())).min().unwrap_or(1);
    for (i, y) in y.chunks_mut(tile * out_ch).enumerate() {
        let rows = y.len() / out_ch;
        let mut channel = 0;
        for (windows, packed) in groups {
            let (all, range) = (0..packed.blocks(), (first + i * tile, rows));
            let (gathered, y) = (&mut scratch.gathered, &mut y[channel..]);
            product(packed, all, windows, x, range, gathered, y, out_ch);
            channel += packed.channels();
        }
    }
}

/// The rows of the padded input that one row of a depthwise convolution sees, in 16 bits: row `i` in
/// place `i` modulo their number.
struct Ring<'a> {
    windows: &'a Windows,
    rows: usize,
    columns: usize,
}

impl<'a> Ring<'a> {
    fn new(windows: &'a Windows) -> Self {
        let extent = |axis: usize| (windows.kernel[axis] - 1) * windows.dilation[axis] + 1;
        let columns = windows.out[1].saturating_sub(1) * windows.stride[1] + extent(1);
        Self { windows, rows: extent(0), columns }
    }

    /// Elements, with those that the last block of channels reads in vain.
    fn len(&self) -> usize {
        self.rows * self.columns * self.windows.x_shape[3] + WIDEST
    }

    /// The output rows `first..`, as many as `y` holds.
    fn run(
        &self,
        isa: Isa,
        packed: &Packed,
        x: &[i8],
        first: usize,
        y: &mut [i8],
        scratch: &mut Scratch,
    ) {
        let Windows { out: [oh, ow], kernel: [kh, kw], stride, dilation, .. } = *self.windows;
        let [_, h, w, c] = self.windows.x_shape;
        let line = self.columns * c;
        let Scratch { ring: codes, taps, .. } = scratch;
        let codes = &mut codes[..self.len()];
        let mut next = 0;
        for (row, y) in (first..).zip(y.chunks_exact_mut((ow * c).max(1))) {
            let (image, oy) = (row / oh, row % oh);
            let top = oy * stride[0];
            next = if row == first || oy == 0 { top } else { top.max(next) };
            while next < top + self.rows {
                let to = &mut codes[next % self.rows * line..][..line];
                let iy = next.wrapping_sub(self.windows.pad[0]);
                let x = (iy < h).then(|| &x[(image * h + iy) * w * c..]);
                self.fill(isa, x, to);
                next += 1;
            }
            taps.clear();
            for ky in 0..kh {
                let begin = (top + ky * dilation[0]) % self.rows * line;
                taps.extend((0..kw).map(|kx| begin + kx * dilation[1] * c));
            }
            taps.resize(packed.stride(), taps.last().copied().unwrap_or(0));
            depthwise(packed, codes, taps, stride[1] * c, ow, y);
        }
    }

    /// One row of the padded input.
    fn fill(&self, isa: Isa, x: Option<&[i8]>, to: &mut [i16]) {
        let (zero, [_, _, w, c]) = (self.windows.zero, self.windows.x_shape);
        let Some(x) = x else {
            to.fill(zero.into());
            return;
        };
        let (left, rest) = to.split_at_mut((self.windows.pad[1] * c).min(to.len()));
        let inside = (w * c).min(rest.len());
        let (middle, right) = rest.split_at_mut(inside);
        left.fill(zero.into());
        widen(isa, &x[..inside], middle);
        right.fill(zero.into());
    }
}

/// As the reference of `average_pool`, where the window is the whole image.
fn mean(p: &Average, x: &[i8], y: &mut [i8]) {
    let [_, h, w, c] = p.x_shape;
    for (x, y) in x.chunks_exact((h * w * c).max(1)).zip(y.chunks_exact_mut(c.max(1))) {
        for (block, y) in y.chunks_mut(LANES).enumerate() {
            let mut sums = [0_i32; LANES];
            for x in x.chunks_exact(c) {
                let x = &x[block * LANES..][..y.len()];
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x as i32);
            }
            for (y, sum) in y.iter_mut().zip(sums) {
                let count = (h * w) as i64;
                let sum = sum as i64 - count * p.x_zero_point as i64;
                let q =
                    round_ratio(sum * p.multiplier.significand as i64, count, p.multiplier.shift);
                *y = i8::code(q, p.y_zero_point, p.clamp);
            }
        }
    }
}
