//! The constants of `int.rs`, which is deployed as it is.

use super::MulInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for MulInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("mul.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "mul::Params", &self.params());
        r.call("mul::mul", format!("&{params}"), None);
    }
}
