//! What the operators share that sum products: integer constants, the proof that their sums fit, and the
//! inner loops in C.

mod accumulator;
mod c;
mod sv;

pub use accumulator::{
    Accumulator, acc_bound, accumulators, check_bound, is_wide, pairs, sum_bound, weight_codes,
};
pub(super) use accumulator::{with_products, with_written};
pub use c::PRODUCT;
pub use sv::{CONV, WINDOW, divisors, landing_depth};
