//! The constants of `int.rs`, which is deployed as it is.

use super::MeanInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for MeanInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("mean.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "mean::Params", &self.params());
        r.call("mean::mean", format!("&{params}"), None);
    }
}
