//! Nodes that are no sums of constant products: for each, the loop of `kernels` that computes it, for codes of
//! the widths that it has.

mod elementwise;
mod lines;
mod matrices;
mod moves;
mod pools;
mod rows;

use std::fmt::Debug;

use super::arena::{Scratch, to_bytes};
use crate::codes::Codes;
use crate::kernels::isa::Isa;
use crate::ops::IntOp;
use crate::quant::Width;

/// Codes of a line of the cache, for loops to which it is all the same.
const UNIT: usize = 64;

/// The codes of argument `i`, as they lie in memory.
pub type Arguments<'a> = &'a (dyn Fn(usize) -> &'a [u8] + Sync);

/// A node that is computed in parts.
pub trait Loop: Debug + Send + Sync {
    /// The name of the kernel.
    fn path(&self) -> &'static str;

    /// Codes of the result that are computed together.
    fn unit(&self) -> usize;

    /// An estimate of how long a code of the result takes on one thread, in picoseconds.
    fn picoseconds(&self) -> u64;

    /// Products that are summed.
    fn macs(&self) -> u64 {
        0
    }

    /// Bytes of constants.
    fn size(&self) -> usize {
        0
    }

    /// Numbers of each kind that a thread needs room for.
    fn numbers(&self) -> usize {
        0
    }

    /// Panels that a thread needs, of 32 bits and of 64.
    fn panels(&self) -> [usize; 2] {
        [0; 2]
    }

    /// The codes of the result from `first` on, as many as `y` holds: whole units, but for the last.
    fn run(&self, isa: Isa, x: Arguments, first: usize, y: &mut [u8], scratch: &mut Scratch);
}

/// `$body` with a type for codes of this width in the arena, or of each of two.
macro_rules! with_stored {
    ($width:expr, $x:ident => $body:expr) => {
        match $width.bytes() {
            1 => {
                type $x = u8;
                $body
            }
            _ => {
                type $x = [u8; 2];
                $body
            }
        }
    };
    ($widths:expr, $x:ident, $y:ident => $body:expr) => {{
        let [of_x, of_y] = $widths;
        with_stored!(of_x, $x => with_stored!(of_y, $y => $body))
    }};
}
use with_stored;

/// The loop for `op`, whose arguments and result have codes of these widths.
pub fn of(isa: Isa, op: &IntOp, widths: [Width; 2]) -> Option<Box<dyn Loop>> {
    elementwise::of(isa, op, widths)
        .or_else(|| pools::of(isa, op, widths))
        .or_else(|| moves::of(isa, op, widths))
        .or_else(|| lines::of(op, widths))
        .or_else(|| matrices::of(op, widths))
}

/// A table by code, from the lowest code of an argument of this width on, in the order of the bits of its codes,
/// as the arena holds them.
fn by_bits(isa: Isa, table: &Codes, width: Width) -> Vec<u8> {
    let mut bytes = to_bytes(table, isa.flip());
    // Signed numbers begin with 0.
    if isa.flip() == 0 || width.bytes() > 1 {
        let half = bytes.len() / 2;
        bytes.rotate_left(half);
    }
    bytes
}
