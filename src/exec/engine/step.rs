//! One node: which kernel computes it, and on what.

use std::ops::Range;

use super::arena::{Scratch, Sizes, to_bytes, to_codes};
use super::loops::{self, Loop};
use super::moves::Moves;
use super::{Layer, Options, Policy, Source};
use crate::arith::Products;
use crate::codes::{Codes, with_codes};
use crate::graph::ValueId;
use crate::kernels::depthwise::Depthwise;
use crate::kernels::isa::{Choice, Isa};
use crate::kernels::product::{Product, Sums, Windows};
use crate::kernels::team::Team;
use crate::kernels::wide::Wide;
use crate::kernels::winograd::Winograd;
use crate::lower::IntNode;
use crate::ops::IntOp;
use crate::ops::conv::ConvInt;
use crate::ops::product::{Accumulator, is_wide};
use crate::quant::Width;

/// So many codes of a result are computed twice when the engine is made, where its first ones can be computed alone.
const TRIED: usize = 1 << 12;
/// A layer that takes less time, in nanoseconds, runs on one thread.
const WORTH_SHARING: u64 = 5_000;

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
    /// Anything else that is computed.
    Loop(Box<dyn Loop>),
    /// Codes that only move.
    Moves(Moves),
    Copy,
    /// The operator's reference.
    Reference(Box<IntOp>),
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
            let kind = Kind::Reference(Box::new(node.op.clone()));
            return Self::of(node, kind, inputs, output, widths, options);
        };
        Self::tested(node, kind, inputs, output, widths, options, alone)
    }

    /// With `kind`, or with the reference where that computes something else on random codes.
    ///
    /// Of long results the first lines are tried, and as much of another one as the last line has. Sums of products
    /// are not tried here: their reference takes as long as a run of it.
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
        let len = kind.tried(&node.op, output.len() / widths[1].bytes()) * widths[1].bytes();
        let step = Self::of(node, kind, elsewhere, next..next + len, widths, options);
        let (failed, kind) = match step.macs > 0 || step.equals(&node.op, options.isa, alone) {
            true => (None, step.kind),
            false => (Some(step.layer().path), Kind::Reference(Box::new(node.op.clone()))),
        };
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
        let (len, codes) = (output.len(), output.len() / widths[1].bytes());
        // Products, and what is computed at once: how many of these, and codes in each.
        let (macs, unit) = match &kind {
            Kind::Sums(sums) => (sums.macs(), sums.unit()),
            Kind::Loop(one) => (one.macs(), one.unit().saturating_mul(widths[1].bytes())),
            Kind::Moves(_) | Kind::Copy | Kind::Reference(_) => (0, len),
        };
        let unit = unit.clamp(1, len.max(1));
        let units = len.div_ceil(unit);
        let worth_sharing =
            policy == Policy::Everything || kind.nanoseconds(isa, codes) >= WORTH_SHARING;
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
            Kind::Loop(one) => one.path(),
            Kind::Moves(_) => "moves",
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
            Kind::Loop(one) => one.size(),
            Kind::Moves(moves) => moves.size(),
            _ => 0,
        }
    }

    /// What each thread needs.
    pub fn sizes(&self) -> Sizes {
        let none = Sizes::default();
        match &self.kind {
            Kind::Sums(sums) => Sizes { buffer: sums.buffer(), ..none },
            Kind::Loop(one) => Sizes { numbers: one.numbers(), panels: one.panels(), ..none },
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
            Kind::Loop(one) => team.share(y, part, scratch, |i, y, scratch| {
                one.run(isa, &input, i * part / self.widths[1].bytes(), y, scratch);
            }),
            Kind::Moves(moves) => moves.run(input, flip, y),
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
        match op {
            IntOp::Conv(conv) => Self::conv(choice, policy, conv, widths),
            IntOp::Linear(linear) => {
                let acc = &linear.0;
                let (out_ch, size) = (acc.bias.len().max(1), widths[1].bytes());
                let windows = Windows::rows(len / size / out_ch, acc.weight.len() / out_ch);
                Self::product(choice, acc, windows, 1, widths)
            }
            IntOp::Reshape(op) | IntOp::Transpose(op) if op.is_copy() => Some(Self::Copy),
            _ => {
                let moves = Moves::of(op, inputs, len, widths[0]).map(Self::Moves);
                moves.or_else(|| loops::of(isa, op, widths).map(Self::Loop))
            }
        }
    }

    fn conv(choice: Choice, policy: Policy, op: &ConvInt, widths: [Width; 2]) -> Option<Self> {
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
        let Some(products) = products_of(&op.acc, widths) else {
            return Self::product(choice, &op.acc, windows, group, widths);
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
        match !choice.without.depthwise && group > 1 && group == in_ch && in_ch == out_ch {
            true => Some(Self::Sums(Box::new(Depthwise::new(choice, &products, windows)))),
            false => Self::product(choice, &op.acc, windows, group, widths),
        }
    }

    fn product(
        choice: Choice,
        acc: &Accumulator,
        windows: Windows,
        group: usize,
        widths: [Width; 2],
    ) -> Option<Self> {
        if acc.bias.is_empty() {
            return None;
        }
        Some(Self::Sums(match products_of(acc, widths) {
            Some(products) => Box::new(Product::new(choice, &products, windows, group)),
            None => {
                let bytes = widths.map(Width::bytes);
                with_codes!(&acc.weight, weight => {
                    Box::new(Wide::new(choice, &acc.products(weight), windows, group, bytes))
                })
            }
        }))
    }

    /// How many codes of a result of `len` are tried.
    fn tried(&self, op: &IntOp, len: usize) -> usize {
        match self {
            Self::Loop(one) if op.computes_first() => {
                let unit = one.unit().clamp(1, len.max(1));
                len.min(TRIED.next_multiple_of(unit) + len % unit)
            }
            _ => len,
        }
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
            Self::Loop(one) => len as u64 * one.picoseconds() / 1000,
            Self::Moves(_) | Self::Copy | Self::Reference(_) => 0,
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

/// The constants of sums of 8-bit products in 32 bits, for results of 8 bits.
fn products_of(acc: &Accumulator, widths: [Width; 2]) -> Option<Products<'_, i8>> {
    match &acc.weight {
        Codes::I8(weight)
            if widths == [Width::W8; 2] && !is_wide(acc.bound) && !acc.bias.is_empty() =>
        {
            Some(acc.products(weight))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::add::AddInt;
    use crate::ops::pick::PickInt;
    use crate::ops::table::TableInt;

    /// Of a long result a part is tried: a wrong factor and a wrong end are found all the same.
    #[test]
    fn a_long_kernel_that_computes_something_else_is_found_out() {
        const LEN: usize = (1 << 16) + 17;
        let add = |factor: i64, len: usize| {
            IntOp::Add(AddInt {
                factor: [factor, 5],
                shift: 3,
                zero_point: [3, -4],
                y_zero_point: 7,
                clamp: (-128, 127),
                shape: vec![len],
                strides: [vec![1], vec![1]],
                bound: 1 << 12,
            })
        };
        let node = IntNode {
            name: "node".into(),
            origin: "node".into(),
            op: add(4, LEN),
            inputs: vec![0, 1],
            output: 2,
        };
        let inputs = [0, 1].map(|i| Source::Arena((1 + i) << 17, LEN)).to_vec();
        let mut alone = Team::new(1).unwrap();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let options = Options { isa, ..Options::default() };
            let of = |op| Kind::Loop(loops::of(isa, &op, [Width::W8; 2]).unwrap());
            let mut tested = |kind: Kind| {
                let (inputs, widths) = (inputs.clone(), [Width::W8; 2]);
                Step::tested(&node, kind, inputs, 0..LEN, widths, options, &mut alone)
            };
            assert_eq!(of(add(4, LEN)).tried(&node.op, LEN), TRIED + 17);
            let right = tested(of(add(4, LEN)));
            assert_eq!((right.layer().failed, right.output), (None, 0..LEN));
            let wrong = tested(of(add(3, LEN)));
            assert_eq!((wrong.layer().failed, wrong.layer().path), (Some("add"), "reference"));
        }
    }

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
            let mut table: Vec<i8> = (-128..=127).collect();
            table.rotate_left(1);
            let table = IntOp::Unary(TableInt(Codes::I8(table)));
            let table = loops::of(isa, &table, [Width::W8; 2]).unwrap();
            for (kind, failed) in [
                (moves(node.op.clone()), None),
                (swapped, Some("moves")),
                (Kind::Copy, None),
                (Kind::Loop(table), Some("table")),
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
