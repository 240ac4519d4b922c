//! The constants of `int.rs`, which is deployed as it is.

use super::TransposeInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for TransposeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("transpose.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let shape = r.constant("_SHAPE", "&[usize]", &self.shape.as_slice());
        let strides = r.constant("_STRIDES", "&[usize]", &self.strides.as_slice());
        r.call("transpose::transpose", format!("{shape}, {strides}"), None);
    }
}
