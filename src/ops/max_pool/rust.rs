//! The constants of `int.rs`, which is deployed as it is.

use super::MaxPoolInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for MaxPoolInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("max_pool.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "max_pool::Params", &self.0);
        r.call("max_pool::max_pool", format!("&{params}"), None);
    }
}
