//! The constants of `int.rs`, which is deployed as it is.

use super::EmbeddingInt;
use crate::codes::with_codes;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for EmbeddingInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("embedding.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let of = format!("embedding::Params<{}>", self.table.type_name());
        let params = with_codes!(&self.table, table => r.constant("", &of, &self.params(table)));
        r.call("embedding::embedding", format!("&{params}"), None);
    }
}
