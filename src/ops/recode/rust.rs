//! The constants of `int.rs`, which is deployed as it is.

use super::RecodeInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for RecodeInt {
    fn source(&self) -> &'static Source {
        match self {
            Self::Table(table) => Emit::<Rust>::source(table),
            Self::Scaled(_) => const { &Source::new("recode.rs", include_str!("int.rs")) },
        }
    }

    fn emit(&self, r: &mut Node) {
        match self {
            Self::Table(table) => Emit::<Rust>::emit(table, r),
            Self::Scaled(params) => {
                let params = r.constant("", "recode::Params", params);
                r.call("recode::recode", format!("&{params}"), None);
            }
        }
    }
}
