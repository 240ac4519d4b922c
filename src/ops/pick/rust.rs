//! The constants of `int.rs`, which is deployed as it is.

use super::PickInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for PickInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("slice.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let shape = r.constant("_SHAPE", "&[usize]", &self.shape.as_slice());
        let offsets = r.constant("_OFFSETS", "&[u32]", &self.offsets.as_slice());
        r.call("slice::pick", format!("{shape}, {offsets}, {}", self.fill), None);
    }
}
