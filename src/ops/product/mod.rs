//! What the operators share that sum products: integer constants, the proof that their sums fit, and the
//! inner loops in C.

mod accumulator;
mod c;

pub(super) use accumulator::with_products;
pub use accumulator::{
    Accumulator, acc_bound, accumulators, check_bound, is_wide, sum_bound, weight_codes,
};
pub use c::PRODUCT;
