//! Integer reference of every unary function of a code. `core` only: it can be deployed as
//! it is.

use crate::arith::Code;

/// `y[i] = table[x[i] - lowest code]`; the table has an entry for each code.
pub fn table<X: Code, Y: Code>(x: &[X], table: &[Y], y: &mut [Y]) {
    for (&x, y) in x.iter().zip(y) {
        *y = table[x.position()];
    }
}
