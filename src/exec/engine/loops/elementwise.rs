//! Functions of one code, or of one code of each of two arguments.

use super::rows::{Gathered, Rows};
use super::{Arguments, Loop, UNIT, with_stored};
use crate::exec::engine::arena::Scratch;
use crate::kernels::elementwise::{Ratio, Scaled, Stored, Sum, add, mul, recode, table};
use crate::kernels::isa::Isa;
use crate::ops::IntOp;
use crate::ops::recode::RecodeInt;
use crate::quant::Width;

pub fn of(isa: Isa, op: &IntOp, widths: [Width; 2]) -> Option<Box<dyn Loop>> {
    Some(match op {
        IntOp::Add(op) => {
            let sum = Sum {
                factor: op.factor,
                shift: op.shift,
                zero_point: op.zero_point,
                y_zero_point: op.y_zero_point,
                clamp: op.clamp,
                bound: op.bound,
            };
            let rows = Rows::of(&op.shape, [&op.strides[0], &op.strides[1]]);
            Box::new(Pairs { function: Function::Add(sum), rows, widths })
        }
        IntOp::Mul(op) => {
            let scaled = Scaled {
                multiplier: op.multiplier,
                zero_point: op.zero_point,
                y_zero_point: op.y_zero_point,
                clamp: op.clamp,
            };
            let rows = Rows::of(&op.shape, [&op.strides[0], &op.strides[1]]);
            Box::new(Pairs { function: Function::Mul(scaled), rows, widths })
        }
        IntOp::Clip(RecodeInt::Table(table))
        | IntOp::Recode(RecodeInt::Table(table))
        | IntOp::Function(table)
        | IntOp::Unary(table) => {
            let table = super::by_bits(isa, &table.0, widths[0]);
            Box::new(Table { table, widths })
        }
        IntOp::Clip(RecodeInt::Scaled(p)) | IntOp::Recode(RecodeInt::Scaled(p)) => {
            let ratio = Ratio {
                numerator: p.numerator,
                denominator: p.denominator,
                shift: p.shift,
                x_zero_point: p.x_zero_point,
                y_zero_point: p.y_zero_point,
                clamp: p.clamp,
            };
            Box::new(Scale { ratio, widths })
        }
        _ => return None,
    })
}

/// A function of two arguments that are broadcast.
#[derive(Debug)]
struct Pairs {
    function: Function,
    rows: Rows<2>,
    widths: [Width; 2],
}

#[derive(Debug)]
enum Function {
    Add(Sum),
    Mul(Scaled),
}

impl Loop for Pairs {
    fn path(&self) -> &'static str {
        match self.function {
            Function::Add(_) => "add",
            Function::Mul(_) => "mul",
        }
    }

    fn unit(&self) -> usize {
        self.rows.unit
    }

    fn picoseconds(&self) -> u64 {
        250
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], _: &mut Scratch) {
        let flip = isa.flip();
        with_stored!(self.widths, X, Y => {
            let [a, b] = [X::all(x(0)), X::all(x(1))];
            let ([of_a, of_b], [step_a, step_b]) = ([(); 2].map(|()| Gathered::<X>::new()), self.rows.steps);
            let (mut of_a, mut of_b) = (of_a, of_b);
            self.rows.each(first, Y::all_mut(y), |[from_a, from_b], y| {
                let a = of_a.row(a, from_a, step_a, y.len());
                let b = of_b.row(b, from_b, step_b, y.len());
                match &self.function {
                    Function::Add(sum) => add(isa, sum, flip, a, b, y),
                    Function::Mul(scaled) => mul(isa, scaled, flip, a, b, y),
                }
            });
        });
    }
}

/// The code for each code.
#[derive(Debug)]
struct Table {
    /// As the codes of the result lie in memory.
    table: Vec<u8>,
    widths: [Width; 2],
}

impl Loop for Table {
    fn path(&self) -> &'static str {
        "table"
    }

    fn unit(&self) -> usize {
        UNIT
    }

    fn picoseconds(&self) -> u64 {
        1000
    }

    fn size(&self) -> usize {
        self.table.len()
    }

    fn run(&self, _: Isa, x: Arguments, first: usize, y: &mut [u8], _: &mut Scratch) {
        with_stored!(self.widths, X, Y => {
            let y = Y::all_mut(y);
            let x = &X::all(x(0))[first..][..y.len()];
            table(Y::all(&self.table), x, y);
        });
    }
}

/// Codes of 16 bits under another scale.
#[derive(Debug)]
struct Scale {
    ratio: Ratio,
    widths: [Width; 2],
}

impl Loop for Scale {
    fn path(&self) -> &'static str {
        "recode"
    }

    fn unit(&self) -> usize {
        UNIT
    }

    fn picoseconds(&self) -> u64 {
        500
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], _: &mut Scratch) {
        with_stored!(self.widths, X, Y => {
            let y = Y::all_mut(y);
            let x = &X::all(x(0))[first..][..y.len()];
            recode(isa, &self.ratio, isa.flip(), x, y);
        });
    }
}
