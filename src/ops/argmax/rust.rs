//! The constants of `int.rs`, which is deployed as it is.

use super::ArgMaxInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for ArgMaxInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("argmax.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "argmax::Params", &self.0);
        r.call("argmax::argmax", format!("&{params}"), None);
    }
}
