//! One node: which kernel computes it, and on what.

use std::ops::Range;

use super::moves::Moves;
use super::{Layer, Options, Policy, Source};
use crate::arith::{Code, Products, round_ratio, strided_index};
use crate::codes::Codes;
use crate::graph::ValueId;
use crate::kernels::depthwise::Depthwise;
use crate::kernels::elementwise::{Scaled, Sum, add, max_pool, mean, mul};
use crate::kernels::isa::{Choice, Isa};
use crate::kernels::product::{Buffer, Product, Sums, Windows};
use crate::kernels::team::Team;
use crate::kernels::winograd::Winograd;
use crate::lower::IntNode;
use crate::ops::IntOp;
use crate::ops::average_pool::AveragePoolInt;
use crate::ops::conv::ConvInt;
use crate::ops::product::{Accumulator, is_wide};
use crate::ops::recode::RecodeInt;
use crate::quant::Width;
use crate::tensor::strides;

/// A layer that takes less time, in nanoseconds, runs on one thread.
const WORTH_SHARING: u64 = 5_000;
/// Codes of a line of the cache, for kernels to which it is all the same.
const UNIT: usize = 64;
/// Sums of more codes have no table.
const MEAN_TABLE: usize = 1 << 20;

/// Memory of one thread.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    buffer: Buffer,
    sums: Vec<u32>,
    /// Codes of a line of an input before its axes are moved.
    pub planes: Vec<u8>,
}

/// Elements of each part of [`Scratch`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    buffer: usize,
    sums: usize,
    pub planes: usize,
}

impl Sizes {
    /// What serves both.
    pub fn max(self, other: Self) -> Self {
        Self {
            buffer: self.buffer.max(other.buffer),
            sums: self.sums.max(other.sums),
            planes: self.planes.max(other.planes),
        }
    }

    pub fn scratch(self) -> Scratch {
        Scratch {
            buffer: Buffer::new(self.buffer),
            sums: vec![0; self.sums],
            planes: vec![0; self.planes],
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
    /// The path that has not stood the test, if one has been tried.
    failed: Option<&'static str>,
    inputs: Vec<Source>,
    /// The result, and where it lies.
    pub value: ValueId,
    pub output: Range<usize>,
    /// Width of the codes of the arguments, and of the result.
    widths: [Width; 2],
    /// Bytes of the result that one thread computes at a time.
    part: usize,
}

#[derive(Debug)]
enum Kind {
    /// Convolution or linear layer.
    Sums(Box<dyn Sums>),
    Add(Sum, Rows),
    Mul(Scaled, Rows),
    /// Codes that only move.
    Moves(Moves),
    /// The mean of all pixels of an image: number of channels, and the code for each sum.
    Mean(usize, Vec<u8>),
    MaxPool(Windows),
    /// The byte for each byte.
    Table(Vec<u8>),
    Copy,
    /// The operator's reference.
    Reference(IntOp),
}

impl Step {
    /// The kernel for `node`, if there is one and it computes what the node's reference does.
    pub fn new(
        node: &IntNode,
        inputs: Vec<Source>,
        output: Range<usize>,
        widths: [Width; 2],
        options: Options,
        alone: &mut Team,
    ) -> Self {
        let Some(kind) = Kind::fast(options, &node.op, &inputs, output.len(), widths) else {
            let kind = Kind::Reference(node.op.clone());
            return Self::of(node, kind, inputs, output, widths, options);
        };
        Self::tested(node, kind, inputs, output, widths, options, alone)
    }

    /// With `kind`, or with the reference where that computes something else on random codes.
    ///
    /// Sums of products are not tried here: their reference takes as long as a run of it.
    fn tested(
        node: &IntNode,
        kind: Kind,
        inputs: Vec<Source>,
        output: Range<usize>,
        widths: [Width; 2],
        options: Options,
        alone: &mut Team,
    ) -> Self {
        let mut next = 0;
        let elsewhere = inputs.iter().map(|source| match source {
            Source::Constant(codes) => Source::Constant(codes.clone()),
            &Source::Arena(_, len) => {
                next += len;
                Source::Arena(next - len, len)
            }
        });
        let elsewhere = elsewhere.collect();
        let step = Self::of(node, kind, elsewhere, next..next + output.len(), widths, options);
        if matches!(step.kind, Kind::Sums(_)) || step.equals(&node.op, options.isa, alone) {
            return Self { inputs, output, ..step };
        }
        let failed = Some(step.layer().path);
        let kind = Kind::Reference(node.op.clone());
        Self { failed, ..Self::of(node, kind, inputs, output, widths, options) }
    }

    /// Whether it computes what `op` does from random codes at the begin of the arena.
    fn equals(&self, op: &IntOp, isa: Isa, alone: &mut Team) -> bool {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let random = (0..self.output.start).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        });
        let mut arena: Vec<u8> = random.collect();
        arena.resize(self.output.end, 0);
        self.run(isa, &mut arena, alone, &mut [self.sizes().scratch()]);
        let mut expected = vec![0; self.output.len()];
        let input = |i: usize| self.inputs[i].bytes(&arena);
        self.reference(op, isa.flip(), input, &mut expected);
        expected == arena[self.output.clone()]
    }

    /// What `op` itself computes.
    fn reference<'a>(&self, op: &IntOp, flip: u8, input: impl Fn(usize) -> &'a [u8], y: &mut [u8]) {
        let [of_x, of_y] = self.widths;
        let arguments: Vec<Codes> =
            (0..self.inputs.len()).map(|i| to_codes(of_x, input(i), flip)).collect();
        let mut result = Codes::zeros(of_y, y.len() / of_y.bytes());
        op.eval(&arguments.iter().collect::<Vec<_>>(), &mut result);
        y.copy_from_slice(&to_bytes(&result, flip));
    }

    fn of(
        node: &IntNode,
        kind: Kind,
        inputs: Vec<Source>,
        output: Range<usize>,
        widths: [Width; 2],
        Options { threads, isa, policy, .. }: Options,
    ) -> Self {
        let len = output.len();
        // Products, and what is computed at once: how many of these, and codes in each.
        let (macs, unit) = match &kind {
            Kind::Sums(sums) => (sums.macs(), sums.unit()),
            Kind::MaxPool(w) => (0, w.out[1] * w.x_shape[3]),
            Kind::Add(_, rows) | Kind::Mul(_, rows) => (0, rows.unit),
            Kind::Table(_) => (0, UNIT),
            Kind::Mean(..) | Kind::Moves(_) | Kind::Copy | Kind::Reference(_) => (0, len),
        };
        let unit = unit.max(1);
        let units = len.div_ceil(unit);
        let worth_sharing =
            policy == Policy::Everything || kind.nanoseconds(isa, len) >= WORTH_SHARING;
        let part = match threads > 1 && worth_sharing {
            true => units.div_ceil(threads),
            false => units,
        };
        let (name, operator) = (node.origin.clone(), node.op.name());
        let part = (part * unit).max(1);
        let (failed, value) = (None, node.output);
        Self { name, operator, macs, kind, failed, inputs, value, output, widths, part }
    }

    pub fn layer(&self) -> Layer<'_> {
        let path = match &self.kind {
            Kind::Sums(sums) => sums.path(),
            Kind::Add(..) => "add",
            Kind::Mul(..) => "mul",
            Kind::Moves(_) => "moves",
            Kind::Mean(..) => "mean",
            Kind::MaxPool(_) => "max_pool",
            Kind::Table(_) => "table",
            Kind::Copy => "copy",
            Kind::Reference(_) => "reference",
        };
        let Self { name, operator, failed, macs, .. } = self;
        Layer { name, operator, path, failed: *failed, macs: *macs }
    }

    /// Width of the result's codes.
    pub fn width(&self) -> Width {
        self.widths[1]
    }

    /// Whether threads share it.
    pub fn is_shared(&self) -> bool {
        self.part < self.output.len()
    }

    /// Bytes of packed constants.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Sums(sums) => sums.size(),
            Kind::Table(table) | Kind::Mean(_, table) => table.len(),
            Kind::Moves(moves) => moves.size(),
            _ => 0,
        }
    }

    /// What each thread needs.
    pub fn sizes(&self) -> Sizes {
        let none = Sizes::default();
        match &self.kind {
            Kind::Sums(sums) => Sizes { buffer: sums.buffer(), ..none },
            Kind::Mean(channels, _) => Sizes { sums: *channels, ..none },
            _ => none,
        }
    }

    /// Computes the result from its arguments in `arena`.
    pub fn run(&self, isa: Isa, arena: &mut [u8], team: &mut Team, scratch: &mut [Scratch]) {
        // The result lies beside the arguments, never over them.
        let (before, rest) = arena.split_at_mut(self.output.start);
        let (y, after) = rest.split_at_mut(self.output.len());
        let (before, after) = (&*before, &*after);
        let input = |i: usize| -> &[u8] {
            match &self.inputs[i] {
                Source::Constant(codes) => codes,
                Source::Arena(_, 0) => &[],
                &Source::Arena(begin, len) if begin < self.output.start => &before[begin..][..len],
                &Source::Arena(begin, len) => &after[begin - self.output.end..][..len],
            }
        };
        let (part, flip) = (self.part, isa.flip());
        match &self.kind {
            Kind::Sums(sums) => {
                let x = input(0);
                team.share(y, part, scratch, |i, y, scratch| {
                    sums.run(x, i * part, y, &mut scratch.buffer);
                });
            }
            Kind::Add(sum, rows) => {
                let arguments = [input(0), input(1)];
                team.share(y, part, scratch, |i, y, _| {
                    rows.each(arguments, i * part, y, |a, b, y| add(isa, sum, flip, a, b, y));
                });
            }
            Kind::Mul(scaled, rows) => {
                let arguments = [input(0), input(1)];
                team.share(y, part, scratch, |i, y, _| {
                    rows.each(arguments, i * part, y, |a, b, y| mul(isa, scaled, flip, a, b, y));
                });
            }
            Kind::Moves(moves) => moves.run(input, flip, y),
            Kind::Mean(c, table) => {
                let x = input(0);
                let images = x.chunks_exact((x.len() / (y.len() / c).max(1)).max(1));
                for (x, y) in images.zip(y.chunks_exact_mut(*c)) {
                    mean(isa, x, flip, table, &mut scratch[0].sums, y);
                }
            }
            Kind::MaxPool(windows) => {
                let (x, lines) = (input(0), part / (windows.out[1] * windows.x_shape[3]).max(1));
                team.share(y, part, scratch, |i, y, _| {
                    max_pool(isa, windows, flip, x, i * lines, y);
                });
            }
            Kind::Table(table) => {
                let x = input(0);
                team.share(y, part, scratch, |i, y, _| {
                    let x = &x[i * part..][..y.len()];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = table[x as usize]);
                });
            }
            // The plan may leave the codes where they are.
            Kind::Copy => match self.inputs[0] {
                Source::Arena(begin, _) if begin == self.output.start => {}
                _ => y.copy_from_slice(input(0)),
            },
            Kind::Reference(op) => self.reference(op, flip, input, y),
        }
    }
}

impl Kind {
    /// `None` if there is no kernel for it.
    fn fast(
        options: Options,
        op: &IntOp,
        inputs: &[Source],
        len: usize,
        widths: [Width; 2],
    ) -> Option<Self> {
        let Options { isa, without, policy, .. } = options;
        let choice = Choice { isa, without };
        if widths != [Width::W8; 2] {
            return match op {
                IntOp::Reshape(op) | IntOp::Transpose(op) if op.is_copy() => Some(Self::Copy),
                _ => Moves::of(op, inputs, len, widths[0]).map(Self::Moves),
            };
        }
        match op {
            IntOp::Conv(conv) => Self::conv(choice, policy, conv),
            IntOp::Linear(linear) => {
                let products = products_of(&linear.0)?;
                let out_ch = products.bias.len();
                let windows = Windows::rows(len / out_ch, products.weight.len() / out_ch);
                Some(Self::Sums(Box::new(Product::new(choice, &products, windows, 1))))
            }
            IntOp::Add(op) => {
                let sum = Sum {
                    factor: op.factor,
                    shift: op.shift,
                    zero_point: op.zero_point,
                    y_zero_point: op.y_zero_point,
                    clamp: op.clamp,
                    bound: op.bound,
                };
                Rows::of(&op.shape, &op.strides).map(|rows| Self::Add(sum, rows))
            }
            IntOp::Mul(op) => {
                let scaled = Scaled {
                    multiplier: op.multiplier,
                    zero_point: op.zero_point,
                    y_zero_point: op.y_zero_point,
                    clamp: op.clamp,
                };
                Rows::of(&op.shape, &op.strides).map(|rows| Self::Mul(scaled, rows))
            }
            IntOp::AveragePool(op) => Self::mean(isa, op),
            IntOp::MaxPool(op) => {
                let p = &op.0;
                Some(Self::MaxPool(Windows {
                    x_shape: p.x_shape,
                    out: [p.y_shape[1], p.y_shape[2]],
                    kernel: p.kernel,
                    stride: p.stride,
                    dilation: p.dilation,
                    pad: p.pad,
                    zero: 0,
                }))
            }
            IntOp::Clip(RecodeInt::Table(table))
            | IntOp::Recode(RecodeInt::Table(table))
            | IntOp::Unary(table) => {
                let Codes::I8(table) = &table.0 else { return None };
                let byte =
                    |byte: u8| table[((byte ^ isa.flip()) as i8).position()] as u8 ^ isa.flip();
                Some(Self::Table((0..=255).map(byte).collect()))
            }
            IntOp::Reshape(op) | IntOp::Transpose(op) if op.is_copy() => Some(Self::Copy),
            _ => Moves::of(op, inputs, len, Width::W8).map(Self::Moves),
        }
    }

    fn conv(choice: Choice, policy: Policy, op: &ConvInt) -> Option<Self> {
        let products = products_of(&op.acc)?;
        let (window, group) = (op.conv.window, op.conv.group);
        let [_, _, _, in_ch] = op.x_shape;
        let [_, oh, ow, out_ch] = op.y_shape;
        let [top, left, ..] = window.pads;
        let windows = Windows {
            x_shape: op.x_shape,
            out: [oh, ow],
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            pad: [top, left],
            zero: op.acc.x_zero_point as u8 ^ choice.isa.flip(),
        };
        let side = match policy {
            Policy::Fastest => Winograd::pays(choice, &windows, out_ch),
            // With either side.
            Policy::Everything => (!choice.without.winograd).then_some(4 + 2 * (out_ch % 2)),
        };
        if let (1, Some(side)) = (group, side)
            && let Some(winograd) = Winograd::new(choice, &products, windows, side)
        {
            return Some(Self::Sums(Box::new(winograd)));
        }
        Some(match !choice.without.depthwise && group > 1 && group == in_ch && in_ch == out_ch {
            true => Self::Sums(Box::new(Depthwise::new(choice, &products, windows))),
            false => Self::Sums(Box::new(Product::new(choice, &products, windows, group))),
        })
    }

    /// If the window is the whole image: every sum of its codes, each 128 more than it is, has an entry.
    fn mean(isa: Isa, op: &AveragePoolInt) -> Option<Self> {
        let p = &op.params;
        let [_, h, w, c] = p.x_shape;
        let all = p.kernel == [h, w] && p.y_shape[1..3] == [1; 2] && p.pads == [0; 4];
        let count = (h * w) as i64;
        if !all || is_wide(op.bound) || h * w * 255 >= MEAN_TABLE || c == 0 {
            return None;
        }
        let code = |sum: i64| {
            let sum = sum - count * (128 + p.x_zero_point as i64);
            let product = sum * p.multiplier.significand as i64;
            let code =
                i8::code(round_ratio(product, count, p.multiplier.shift), p.y_zero_point, p.clamp);
            code as u8 ^ isa.flip()
        };
        Some(Self::Mean(c, (0..=count * 255).map(code).collect()))
    }

    /// An estimate of how long it takes on one thread, for a result of `len` codes.
    fn nanoseconds(&self, isa: Isa, len: usize) -> u64 {
        let products = match isa {
            Isa::Portable => 10,
            Isa::NeonDot | Isa::Avx2 => 60,
            Isa::AvxVnni => 120,
            _ => 240,
        };
        match self {
            Self::Sums(sums) => sums.cost() / products,
            Self::Add(..) | Self::Mul(..) => len as u64 / 4,
            Self::MaxPool(w) => (len * w.kernel[0] * w.kernel[1]) as u64 / 16,
            Self::Table(_) => len as u64,
            Self::Mean(..) | Self::Moves(_) | Self::Copy | Self::Reference(_) => 0,
        }
    }
}

/// A result as rows along which both arguments lie side by side.
#[derive(Debug)]
struct Rows {
    /// Codes in a row.
    len: usize,
    /// Codes that are computed at once: a row, or any part of the only one.
    unit: usize,
    shape: Vec<usize>,
    strides: [Vec<usize>; 2],
}

impl Rows {
    /// `None` if an argument is broadcast along the last axis.
    fn of(shape: &[usize], of_arguments: &[Vec<usize>; 2]) -> Option<Self> {
        let whole = strides(shape);
        let alike = |&axis: &usize| {
            shape[axis] == 1 || of_arguments.iter().all(|strides| strides[axis] == whole[axis])
        };
        let outer = (0..shape.len()).rev().find(|axis| !alike(axis)).map_or(0, |axis| axis + 1);
        let len: usize = shape[outer..].iter().product();
        (outer == 0 || len > 1).then(|| Self {
            len,
            unit: if outer == 0 { UNIT } else { len },
            shape: shape[..outer].to_vec(),
            strides: [0, 1].map(|i| of_arguments[i][..outer].to_vec()),
        })
    }

    /// Calls `f` for each row, or part of one, of `y`, which begins at code `first` of the result.
    fn each(
        &self,
        [a, b]: [&[u8]; 2],
        first: usize,
        y: &mut [u8],
        f: impl Fn(&[u8], &[u8], &mut [u8]),
    ) {
        let (mut at, mut rest) = (first, y);
        while !rest.is_empty() {
            let (row, column) = (at / self.len, at % self.len);
            let (y, more) = rest.split_at_mut((self.len - column).min(rest.len()));
            let [from_a, from_b] =
                [0, 1].map(|i| strided_index(row, &self.shape, &self.strides[i]) + column);
            f(&a[from_a..][..y.len()], &b[from_b..][..y.len()], y);
            (at, rest) = (at + y.len(), more);
        }
    }
}

impl Source {
    /// The codes as bytes, if they are in the model or in `arena`.
    pub fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        match self {
            &Self::Arena(begin, len) => &arena[begin..][..len],
            Self::Constant(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Arena(_, len) => *len,
            Self::Constant(codes) => codes.len(),
        }
    }
}

/// Codes of 8 bits lie in memory as the kernels of the chosen instructions want them, `flip` apart, those of 16
/// as two bytes.
pub fn to_codes(width: Width, bytes: &[u8], flip: u8) -> Codes {
    match width {
        Width::W4 | Width::W8 => Codes::I8(bytes.iter().map(|byte| (byte ^ flip) as i8).collect()),
        Width::W16 | Width::W32 => {
            let pairs = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            Codes::I16(pairs.collect())
        }
    }
}

/// The reverse of [`to_codes`].
pub fn to_bytes(codes: &Codes, flip: u8) -> Vec<u8> {
    match codes {
        Codes::I8(codes) => codes.iter().map(|&code| code as u8 ^ flip).collect(),
        Codes::I16(codes) => codes.iter().flat_map(|code| code.to_le_bytes()).collect(),
    }
}

/// The constants of a sum of 8-bit products in 32 bits.
fn products_of(acc: &Accumulator) -> Option<Products<'_, i8>> {
    match &acc.weight {
        Codes::I8(weight) if !is_wide(acc.bound) && !acc.bias.is_empty() => {
            Some(acc.products(weight))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::pick::PickInt;

    /// What a kernel says that is not the node's: the reference stands in, and the layer says so.
    #[test]
    fn a_kernel_that_computes_something_else_is_found_out() {
        let picks = |offsets: [u32; 8]| {
            IntOp::Slice(PickInt { shape: vec![8], offsets: offsets.to_vec(), fill: 0 })
        };
        let op = picks([0, 1, 2, 3, 4, 5, 6, 7]);
        let node =
            IntNode { name: "node".into(), origin: "node".into(), op, inputs: vec![0], output: 1 };
        let (inputs, mut alone) = (vec![Source::Arena(64, 8)], Team::new(1).unwrap());
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let options = Options { isa, ..Options::default() };
            let moves = |op| Kind::Moves(Moves::of(&op, &inputs, 8, Width::W8).unwrap());
            let swapped = moves(picks([0, 1, 2, 3, 4, 5, 6, 6]));
            let mut table: Vec<u8> = (0..=255).collect();
            table.rotate_left(1);
            for (kind, failed) in [
                (moves(node.op.clone()), None),
                (swapped, Some("moves")),
                (Kind::Copy, None),
                (Kind::Table(table), Some("table")),
            ] {
                let widths = [Width::W8; 2];
                let step =
                    Step::tested(&node, kind, inputs.clone(), 0..8, widths, options, &mut alone);
                assert_eq!(step.layer().failed, failed);
                assert_eq!(step.layer().path == "reference", failed.is_some());
                let mut arena: Vec<u8> = (0..72).collect();
                step.run(isa, &mut arena, &mut alone, &mut [Scratch::default()]);
                assert_eq!(arena[..8], [64, 65, 66, 67, 68, 69, 70, 71]);
            }
        }
    }
}
