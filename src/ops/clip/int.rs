//! Integer reference of every unary function of a code. `core` only: it can be deployed as
//! it is.

/// `y[i] = table[x[i] + 128]`.
pub fn table_i8(x: &[i8], table: &[i8; 256], y: &mut [i8]) {
    for (&x, y) in x.iter().zip(y) {
        *y = table[(x as i16 + 128) as usize];
    }
}
