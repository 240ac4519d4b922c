//! The constants of `int.rs`, which is deployed as it is.

use super::AveragePoolInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for AveragePoolInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("average_pool.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "average_pool::Params", &self.params);
        r.call("average_pool::average_pool", format!("&{params}"), None);
    }
}
