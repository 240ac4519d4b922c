//! The constants of `int.rs`, which is deployed as it is.

use super::AddInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for AddInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("add.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "add::Params", &self.params());
        r.call("add::add", format!("&{params}"), None);
    }
}
