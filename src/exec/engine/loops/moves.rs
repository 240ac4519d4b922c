//! Codes that move, but not many side by side; and arguments that are put together, each by a table.

use super::rows::Rows;
use super::{Arguments, Loop, UNIT, with_stored};
use crate::arith::strided_index;
use crate::exec::engine::arena::Scratch;
use crate::kernels::elementwise::Stored;
use crate::kernels::isa::Isa;
use crate::ops::IntOp;
use crate::ops::concat::ConcatInt;
use crate::ops::pick::PickInt;
use crate::ops::pick::int::NONE;
use crate::ops::resize::ResizeInt;
use crate::ops::transpose::TransposeInt;
use crate::quant::Width;

pub fn of(isa: Isa, op: &IntOp, widths: [Width; 2]) -> Option<Box<dyn Loop>> {
    match op {
        IntOp::Transpose(op) => Some(Box::new(Transposed::of(op, widths[1]))),
        IntOp::Gather(op)
        | IntOp::Slice(op)
        | IntOp::Pad(op)
        | IntOp::Resize(ResizeInt::Nearest(op)) => Some(Box::new(Picked::of(op, widths[1]))),
        IntOp::Concat(op) => Some(Box::new(Joined::of(isa, op, widths))),
        _ => None,
    }
}

/// Axes that change places: the last two are moved together.
#[derive(Debug)]
struct Transposed {
    outer: [Vec<usize>; 2],
    sides: [usize; 2],
    steps: [usize; 2],
    width: Width,
}

/// Sides of a part of a matrix whose lines stay in the cache.
const TILE: [usize; 2] = [32, 64];

impl Transposed {
    fn of(op: &TransposeInt, width: Width) -> Self {
        let outer = op.shape.len().saturating_sub(2);
        let last = |list: &[usize], other: usize| match list[outer..] {
            [] => [other; 2],
            [one] => [other, one],
            [a, b, ..] => [a, b],
        };
        Self {
            outer: [&op.shape, &op.strides].map(|list| list[..outer].to_vec()),
            sides: last(&op.shape, 1),
            steps: last(&op.strides, 0),
            width,
        }
    }
}

impl Loop for Transposed {
    fn path(&self) -> &'static str {
        "transpose"
    }

    fn unit(&self) -> usize {
        self.sides[1]
    }

    fn picoseconds(&self) -> u64 {
        1000
    }

    fn run(&self, _: Isa, x: Arguments, first: usize, y: &mut [u8], _: &mut Scratch) {
        let ([height, width], [down, right]) = (self.sides, self.steps);
        with_stored!(self.width, X => {
            let (x, mut y) = (X::all(x(0)), X::all_mut(y));
            let mut row = first / width.max(1);
            while !y.is_empty() {
                let (block, i) = (row / height, row % height);
                let count = (height - i).min(y.len() / width);
                let x = &x[strided_index(block, &self.outer[0], &self.outer[1]) + i * down..];
                let (part, rest) = y.split_at_mut(count * width);
                let [tall, broad] = TILE;
                for (strip, part) in part.chunks_mut(tall * width).enumerate() {
                    for left in (0..width).step_by(broad) {
                        for (i, y) in part.chunks_exact_mut(width).enumerate() {
                            let x = x[(strip * tall + i) * down + left * right..].iter();
                            let y = y[left..].iter_mut().take(broad);
                            y.zip(x.step_by(right.max(1))).for_each(|(y, &x)| *y = x);
                        }
                    }
                }
                (row, y) = (row + count, rest);
            }
        });
    }
}

/// Codes by their position along each axis.
#[derive(Debug)]
struct Picked {
    /// Sizes of the outer axes, and offsets along them.
    outer: Vec<Vec<u32>>,
    /// Offsets along a row.
    row: Vec<u32>,
    fill: i32,
    width: Width,
}

impl Picked {
    fn of(op: &PickInt, width: Width) -> Self {
        let mut rest = op.offsets.as_slice();
        let axes = op.shape.iter().map(|&size| {
            let (axis, more) = rest.split_at(size);
            rest = more;
            axis.to_vec()
        });
        let mut outer: Vec<Vec<u32>> = axes.collect();
        let mut row = outer.pop().unwrap_or_else(|| vec![0]);
        // Short axes are joined to rows.
        while row.len() < UNIT
            && let Some(axis) = outer.pop()
        {
            row = axis.iter().flat_map(|&a| row.iter().map(move |&b| sum(a, b))).collect();
        }
        Self { outer, row, fill: op.fill, width }
    }
}

/// Both offsets, if there is an element.
fn sum(a: u32, b: u32) -> u32 {
    if a == NONE || b == NONE { NONE } else { a + b }
}

impl Loop for Picked {
    fn path(&self) -> &'static str {
        "pick"
    }

    fn unit(&self) -> usize {
        self.row.len()
    }

    fn picoseconds(&self) -> u64 {
        1000
    }

    fn size(&self) -> usize {
        4 * (self.row.len() + self.outer.iter().map(Vec::len).sum::<usize>())
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], _: &mut Scratch) {
        with_stored!(self.width, X => {
            let (x, fill) = (X::all(x(0)), X::put(self.fill, isa.flip()));
            let rows = X::all_mut(y).chunks_exact_mut(self.row.len().max(1));
            for (row, y) in (first / self.row.len().max(1)..).zip(rows) {
                let (mut rest, mut begin) = (row, 0);
                for axis in self.outer.iter().rev() {
                    begin = sum(begin, axis[rest % axis.len()]);
                    rest /= axis.len();
                }
                if begin == NONE {
                    y.fill(fill);
                    continue;
                }
                let x = &x[begin as usize..];
                for (y, &offset) in y.iter_mut().zip(&self.row) {
                    *y = if offset == NONE { fill } else { x[offset as usize] };
                }
            }
        });
    }
}

/// Arguments put together.
#[derive(Debug)]
struct Joined {
    parts: Vec<Joint>,
    widths: [Width; 2],
}

/// Where an argument goes, and its table: the result's code for each of its codes, in the order of their bits.
#[derive(Debug)]
struct Joint {
    rows: Rows<2>,
    len: usize,
    offset: usize,
    table: Vec<u8>,
}

impl Joined {
    fn of(isa: Isa, op: &ConcatInt, widths: [Width; 2]) -> Self {
        let parts = op.0.iter().map(|part| Joint {
            rows: Rows::of(&part.shape, [&part.x_strides, &part.y_strides]),
            len: part.shape.iter().product(),
            offset: part.offset,
            table: part
                .table
                .as_ref()
                .map_or(vec![], |table| super::by_bits(isa, &table.0, widths[0])),
        });
        Self { parts: parts.collect(), widths }
    }
}

impl Loop for Joined {
    fn path(&self) -> &'static str {
        "concat"
    }

    /// All of it.
    fn unit(&self) -> usize {
        usize::MAX
    }

    fn picoseconds(&self) -> u64 {
        0
    }

    fn size(&self) -> usize {
        self.parts.iter().map(|part| part.table.len()).sum()
    }

    fn run(&self, isa: Isa, x: Arguments, _: usize, y: &mut [u8], _: &mut Scratch) {
        let flip = isa.flip();
        with_stored!(self.widths, X, Y => {
            let y = Y::all_mut(y);
            for (i, part) in self.parts.iter().enumerate() {
                let (x, table) = (X::all(x(i)), Y::all(&part.table));
                part.rows.places(0, part.len, |[from, to], len| {
                    let [of_x, of_y] = part.rows.steps.map(|step| step.max(1));
                    let x = x[from..].iter().step_by(of_x).take(len);
                    let y = y[part.offset + to..].iter_mut().step_by(of_y);
                    match table.is_empty() {
                        true => y.zip(x).for_each(|(y, &x)| *y = Y::put(x.get(flip), flip)),
                        false => y.zip(x).for_each(|(y, &x)| *y = table[x.bits()]),
                    }
                });
            }
        });
    }
}
