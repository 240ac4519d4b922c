//! Integer reference of `embedding`. `core` only: it can be deployed as it is.

use crate::arith::Code;

/// Integer constants of one table.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a, Y> {
    /// The rows, one after the other.
    pub table: &'a [Y],
    /// Number of elements of a row.
    pub row: usize,
    /// Code of index 0.
    pub x_zero_point: i32,
}

/// `y_n = table[clamp(x_n - zx, 0, rows - 1)]`, row by row.
pub fn embedding<X: Code, Y: Code>(x: &[X], p: &Params<Y>, y: &mut [Y]) {
    let last = (p.table.len() / p.row) as i32 - 1;
    for (&x, y) in x.iter().zip(y.chunks_exact_mut(p.row)) {
        let x: i32 = x.into();
        let first = (x - p.x_zero_point).clamp(0, last) as usize * p.row;
        y.copy_from_slice(&p.table[first..first + p.row]);
    }
}
