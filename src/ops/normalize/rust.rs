//! The constants of `int.rs`, which is deployed as it is.

use super::NormalizeInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for NormalizeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("normalize.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "normalize::Params", &self.params());
        r.call("normalize::normalize", format!("&{params}"), None);
    }
}
