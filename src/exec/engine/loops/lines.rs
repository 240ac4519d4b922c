//! Functions of several codes that stay near each other: softmax, normalizations, interpolation, and slopes.

use super::rows::Rows;
use super::{Arguments, Loop, with_stored};
use crate::codes::with_codes;
use crate::exec::engine::arena::Scratch;
use crate::kernels::elementwise::{Stored, Target};
use crate::kernels::isa::Isa;
use crate::kernels::reduce::{
    Normalize, Resize, Slopes, Softmax, argmax, normalize, prelu, resize, softmax,
};
use crate::ops::IntOp;
use crate::ops::argmax::int::Params as ArgMax;
use crate::ops::normalize::NormalizeInt;
use crate::ops::prelu::PReluInt;
use crate::ops::resize::int::Between;
use crate::ops::resize::{LinearInt, ResizeInt};
use crate::quant::Width;

pub fn of(op: &IntOp, widths: [Width; 2]) -> Option<Box<dyn Loop>> {
    let lines = |kind, path, unit, picoseconds, numbers| {
        Some(Box::new(Lines { kind, path, unit, picoseconds, numbers, widths }) as Box<dyn Loop>)
    };
    match op {
        IntOp::Softmax(op) => {
            let y = Target::new(op.y_zero_point, op.clamp);
            let tables = [&op.fine[..], &op.coarse];
            let softmax = Softmax::new(tables, op.multiplier, y, [op.size, op.stride]);
            lines(Kind::Softmax(softmax), "softmax", op.size * op.stride, 4000, op.size)
        }
        IntOp::Normalize(op) => {
            let (one, size) = normalization(op);
            let unit = one.block;
            lines(Kind::Normalize(one), "normalize", unit, 3000, size)
        }
        IntOp::Resize(ResizeInt::Linear(op)) => {
            let unit = op.columns.len() * op.x_shape[3];
            lines(Kind::Resize(interpolation(op)), "resize", unit, 2000, 0)
        }
        IntOp::ArgMax(op) => {
            let to = Target::new(op.0.y_zero_point, op.0.clamp);
            lines(Kind::ArgMax(op.0, to), "argmax", 1, 1000 * op.0.size as u64, 0)
        }
        IntOp::PRelu(op) => {
            let rows = Rows::of(&op.shape, [&crate::tensor::strides(&op.shape), &op.strides]);
            let unit = rows.unit;
            lines(slopes(op, rows), "prelu", unit, 700, 0)
        }
        _ => None,
    }
}

#[derive(Debug)]
struct Lines {
    kind: Kind,
    path: &'static str,
    unit: usize,
    picoseconds: u64,
    numbers: usize,
    widths: [Width; 2],
}

#[derive(Debug)]
enum Kind {
    Softmax(Softmax),
    Normalize(Normalize),
    Resize(Resize),
    ArgMax(ArgMax, Target),
    /// With the slopes, and what they are multiplied by.
    PRelu(Slopes, Vec<[f64; 2]>, Rows<2>),
}

fn normalization(op: &NormalizeInt) -> (Normalize, usize) {
    let places = op.places;
    // Channels of one code each are a run.
    let (runs, run_stride, length, stride, steps) = match places.length {
        1 => (1, 0, places.channels, places.channel_stride, [0, places.factor_strides.1]),
        length => {
            let steps = [places.factor_strides.1, 0];
            (places.channels, places.channel_stride, length, places.stride, steps)
        }
    };
    let offset = op.offset.iter().map(|&offset| (offset as i64) << op.offset_shift);
    let one = Normalize {
        factor: op.factor.clone(),
        offset: offset.collect(),
        shift: op.shift,
        unit_shift: op.unit_shift,
        square_shift: op.square_shift,
        epsilon: op.epsilon,
        centered: op.centered,
        x_zero_point: op.x_zero_point,
        y: Target::new(op.y_zero_point, op.clamp),
        inner: places.inner,
        inner_stride: places.inner_stride,
        block: places.outer_stride,
        runs,
        run_stride,
        length,
        stride,
        factor_strides: [places.factor_strides.0, steps[0], steps[1]],
    };
    (one, runs * length)
}

fn interpolation(op: &LinearInt) -> Resize {
    let one = 1i64 << op.weight_bits;
    let neighbours = |list: &[Between]| {
        let both = |b: &Between| {
            ([b.low as usize, b.high as usize], [(one - b.weight) as f64, b.weight as f64])
        };
        list.iter().map(both).collect()
    };
    let shift = op.multiplier.shift + 2 * op.weight_bits;
    Resize {
        x_shape: op.x_shape,
        rows: neighbours(&op.rows),
        columns: neighbours(&op.columns),
        factor: op.multiplier.significand as f64 / 2f64.powi(shift as i32),
        x_zero_point: op.x_zero_point,
        y: Target::new(op.y_zero_point, op.clamp),
    }
}

fn slopes(op: &PReluInt, rows: Rows<2>) -> Kind {
    let real = |m: crate::arith::Multiplier| m.significand as f64 / (1u64 << m.shift) as f64;
    let slopes = with_codes!(&op.slope, slopes => {
        slopes.iter().zip(&op.negative).map(|(&slope, &m)| [slope as f64, real(m)]).collect()
    });
    let common = Slopes {
        positive: real(op.positive),
        x_zero_point: op.x_zero_point,
        y: Target::new(op.y_zero_point, op.clamp),
    };
    Kind::PRelu(common, slopes, rows)
}

impl Loop for Lines {
    fn path(&self) -> &'static str {
        self.path
    }

    fn unit(&self) -> usize {
        self.unit
    }

    fn picoseconds(&self) -> u64 {
        self.picoseconds
    }

    fn numbers(&self) -> usize {
        self.numbers
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], scratch: &mut Scratch) {
        let flip = isa.flip();
        with_stored!(self.widths, X, Y => {
            let (x, y) = (X::all(x(0)), Y::all_mut(y));
            match &self.kind {
                Kind::Softmax(p) => {
                    softmax(isa, p, flip, &x[first..][..y.len()], &mut scratch.numbers, y);
                }
                Kind::Normalize(p) => {
                    normalize(isa, p, flip, &x[first..][..y.len()], &mut scratch.sums, y);
                }
                Kind::Resize(p) => resize(isa, p, flip, x, first / self.unit.max(1), y),
                Kind::ArgMax(p, to) => {
                    argmax(isa, p.size, p.stride, p.last, to, flip, x, first, y);
                }
                Kind::PRelu(p, slopes, rows) => rows.each(first, y, |[from, slope], y| {
                    let x = &x[from..][..y.len()];
                    match rows.steps[1] {
                        0 => prelu(isa, p, &slopes[slope..=slope], flip, x, y),
                        1 => prelu(isa, p, &slopes[slope..][..y.len()], flip, x, y),
                        step => {
                            for (i, y) in y.iter_mut().enumerate() {
                                let (x, y) = (&x[i..=i], std::slice::from_mut(y));
                                prelu(isa, p, &slopes[slope + i * step..][..1], flip, x, y);
                            }
                        }
                    }
                }),
            }
        });
    }
}
