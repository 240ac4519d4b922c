//! The constants of `int.rs`, which is deployed as it is.

use super::TableInt;
use crate::codes::with_codes;
use crate::ops::language::rust::{Node, code};
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for TableInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("clip.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let of = format!("&[{}]", code(r.width));
        let table = with_codes!(&self.0, codes => r.constant("", &of, &codes.as_slice()));
        r.call("clip::table", table, None);
    }
}
