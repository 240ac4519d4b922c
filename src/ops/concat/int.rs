//! Integer reference of `concat`. `core` only: it can be deployed as it is.

use crate::arith::{Code, strided_index};

/// Where one argument goes.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a, Y> {
    /// Shape of the argument, in the order of the output's memory.
    pub shape: &'a [usize],
    /// Strides of the argument along these axes.
    pub x_strides: &'a [usize],
    /// Strides of the output along these axes.
    pub y_strides: &'a [usize],
    /// Position of the argument's first element in the output.
    pub offset: usize,
    /// The output code for each code of the argument, from the lowest on, where they differ.
    pub table: Option<&'a [Y]>,
}

/// Copies one argument to its place in `y`.
pub fn concat<X: Code, Y: Code>(x: &[X], p: &Params<Y>, y: &mut [Y]) {
    for i in 0..x.len() {
        let code = x[strided_index(i, p.shape, p.x_strides)];
        y[p.offset + strided_index(i, p.shape, p.y_strides)] = match p.table {
            Some(table) => table[code.position()],
            None => Y::code(0, code.into(), (i32::MIN, i32::MAX)),
        };
    }
}
