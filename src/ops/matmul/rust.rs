//! The constants of `int.rs`, which is deployed as it is.

use super::MatMulInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};
use crate::ops::product::is_wide;

impl Emit<Rust> for MatMulInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("matmul.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = r.constant("", "matmul::Params", &self.params());
        let acc = if is_wide(self.bound) { "i64" } else { "i32" };
        r.call(format!("matmul::matmul::<_, _, {acc}>"), format!("&{params}"), None);
    }
}
