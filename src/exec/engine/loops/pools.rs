//! Pools and means.

use super::rows::Rows;
use super::{Arguments, Loop, with_stored};
use crate::arith::{Code, round_ratio};
use crate::codes::Codes;
use crate::exec::engine::arena::{Scratch, to_bytes};
use crate::kernels::elementwise::Stored;
use crate::kernels::isa::Isa;
use crate::kernels::product::Windows;
use crate::kernels::reduce::{Mean, Pool, average_pool, max_pool, mean_of, tabulated_mean};
use crate::ops::IntOp;
use crate::ops::average_pool::AveragePoolInt;
use crate::ops::mean::MeanInt;
use crate::ops::product::is_wide;
use crate::quant::Width;
use crate::tensor::{strided_indices, strides};

/// Sums of more codes have no table.
const TABULATED: usize = 1 << 20;

pub fn of(isa: Isa, op: &IntOp, widths: [Width; 2]) -> Option<Box<dyn Loop>> {
    Some(match op {
        IntOp::MaxPool(op) => {
            let p = &op.0;
            let windows = Windows {
                x_shape: p.x_shape,
                out: [p.y_shape[1], p.y_shape[2]],
                kernel: p.kernel,
                stride: p.stride,
                dilation: p.dilation,
                pad: p.pad,
                zero: 0,
            };
            Box::new(Largest { windows, width: widths[1] })
        }
        IntOp::AveragePool(op) => match Tabulated::of(isa, op, widths) {
            Some(mean) => Box::new(mean),
            None => Box::new(Averages::of(op, widths)),
        },
        IntOp::Mean(op) => Box::new(Means::of(op, widths)),
        _ => return None,
    })
}

/// A maximum pool.
#[derive(Debug)]
struct Largest {
    windows: Windows,
    width: Width,
}

impl Loop for Largest {
    fn path(&self) -> &'static str {
        "max_pool"
    }

    fn unit(&self) -> usize {
        self.windows.out[1] * self.windows.x_shape[3]
    }

    fn picoseconds(&self) -> u64 {
        (self.windows.kernel[0] * self.windows.kernel[1]) as u64 * 1000 / 16
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], _: &mut Scratch) {
        let first = first / self.unit().max(1);
        with_stored!(self.width, X => {
            max_pool(isa, &self.windows, isa.flip(), X::all(x(0)), first, X::all_mut(y));
        });
    }
}

/// The mean of all pixels of an image: every sum of its codes, each 128 more than it is, has an entry.
#[derive(Debug)]
struct Tabulated {
    channels: usize,
    pixels: usize,
    /// As the codes of the result lie in memory.
    table: Vec<u8>,
    width: Width,
}

impl Tabulated {
    fn of(isa: Isa, op: &AveragePoolInt, widths: [Width; 2]) -> Option<Self> {
        let p = &op.params;
        let [_, h, w, channels] = p.x_shape;
        let all = p.kernel == [h, w] && p.y_shape[1..3] == [1; 2] && p.pads == [0; 4];
        let (pixels, count) = (h * w, (h * w) as i64);
        if !all || widths[0].bytes() > 1 || is_wide(op.bound) || pixels * 255 >= TABULATED {
            return None;
        }
        let code = |sum: i64| -> i32 {
            let sum = sum - count * (128 + p.x_zero_point as i64);
            let product = sum * p.multiplier.significand as i64;
            let q = round_ratio(product, count, p.multiplier.shift);
            i16::code(q, p.y_zero_point, p.clamp).into()
        };
        let table = (0..=count * 255).map(code);
        let table = to_bytes(&Codes::new(widths[1], table), isa.flip());
        Some(Self { channels, pixels, table, width: widths[1] })
    }
}

impl Loop for Tabulated {
    fn path(&self) -> &'static str {
        "mean"
    }

    /// All of it: it takes less time than to wake a thread.
    fn unit(&self) -> usize {
        usize::MAX
    }

    fn picoseconds(&self) -> u64 {
        0
    }

    fn size(&self) -> usize {
        self.table.len()
    }

    fn numbers(&self) -> usize {
        self.channels
    }

    fn run(&self, isa: Isa, x: Arguments, _: usize, y: &mut [u8], scratch: &mut Scratch) {
        let images = x(0).chunks_exact((self.pixels * self.channels).max(1));
        with_stored!(self.width, Y => {
            let table = Y::all(&self.table);
            for (x, y) in images.zip(Y::all_mut(y).chunks_exact_mut(self.channels)) {
                tabulated_mean(isa, x, isa.flip(), table, &mut scratch.sums, y);
            }
        });
    }
}

/// An average pool.
#[derive(Debug)]
struct Averages {
    pool: Pool,
    widths: [Width; 2],
}

impl Averages {
    fn of(op: &AveragePoolInt, widths: [Width; 2]) -> Self {
        let p = &op.params;
        let zero_points = [p.x_zero_point, p.y_zero_point];
        let pool = Pool {
            x_shape: p.x_shape,
            out: [p.y_shape[1], p.y_shape[2]],
            kernel: p.kernel,
            stride: p.stride,
            pads: p.pads,
            count_include_pad: p.count_include_pad,
            mean: Mean::new(p.multiplier, zero_points, p.clamp, op.bound),
        };
        Self { pool, widths }
    }
}

impl Loop for Averages {
    fn path(&self) -> &'static str {
        "average_pool"
    }

    fn unit(&self) -> usize {
        self.pool.out[1] * self.pool.x_shape[3]
    }

    fn picoseconds(&self) -> u64 {
        1000 + (self.pool.kernel[0] * self.pool.kernel[1]) as u64 * 100
    }

    fn numbers(&self) -> usize {
        self.pool.x_shape[3]
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], scratch: &mut Scratch) {
        let (flip, line) = (isa.flip(), first / self.unit().max(1));
        with_stored!(self.widths, X, Y => {
            let (x, y) = (X::all(x(0)), Y::all_mut(y));
            average_pool(isa, &self.pool, flip, x, line, &mut scratch.numbers, y);
        });
    }
}

/// The mean over some axes.
#[derive(Debug)]
struct Means {
    mean: Mean,
    kept: Rows<1>,
    /// Where the codes of one mean lie: so many, side by side, at each of these places.
    len: usize,
    offsets: Vec<usize>,
    widths: [Width; 2],
}

impl Means {
    fn of(op: &MeanInt, widths: [Width; 2]) -> Self {
        let kept = Rows::of(&op.kept.0, [&op.kept.1]);
        let (shape, steps) = &op.reduced;
        // Codes side by side belong to one mean, or each to another.
        let beside = if kept.steps == [1] && kept.len > 1 {
            shape.len()
        } else {
            let whole = strides(shape);
            (0..shape.len())
                .rev()
                .take_while(|&a| steps[a] == whole[a])
                .last()
                .unwrap_or(shape.len())
        };
        let offsets = strided_indices(shape[..beside].to_vec(), steps[..beside].to_vec());
        let zero_points = [op.x_zero_point, op.y_zero_point];
        Self {
            mean: Mean::new(op.multiplier, zero_points, op.clamp, op.bound),
            kept,
            len: shape[beside..].iter().product(),
            offsets: offsets.collect(),
            widths,
        }
    }
}

impl Loop for Means {
    fn path(&self) -> &'static str {
        "mean"
    }

    fn unit(&self) -> usize {
        self.kept.unit
    }

    fn picoseconds(&self) -> u64 {
        1000 + (self.offsets.len() * self.len) as u64 * 100
    }

    fn size(&self) -> usize {
        size_of_val(self.offsets.as_slice())
    }

    fn numbers(&self) -> usize {
        self.kept.len
    }

    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], scratch: &mut Scratch) {
        let (offsets, [step]) = (&self.offsets, self.kept.steps);
        with_stored!(self.widths, X, Y => {
            let x = X::all(x(0));
            self.kept.each(first, Y::all_mut(y), |[from], y| {
                let (flip, sums) = (isa.flip(), &mut scratch.numbers);
                mean_of(isa, &self.mean, flip, &x[from..], step, offsets, self.len, sums, y);
            });
        });
    }
}
