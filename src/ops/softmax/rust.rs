//! The constants of `int.rs`, which is deployed as it is.

use super::SoftmaxInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for SoftmaxInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("softmax.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "softmax::Params", &self.params());
        r.call("softmax::softmax", format!("&{params}"), None);
    }
}
