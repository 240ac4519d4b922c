//! The constants of `int.rs`, which is deployed as it is.

use super::ResizeInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for ResizeInt {
    fn source(&self) -> &'static Source {
        match self {
            Self::Nearest(pick) => Emit::<Rust>::source(pick),
            Self::Linear(_) => const { &Source::new("resize.rs", include_str!("int.rs")) },
        }
    }

    fn emit(&self, r: &mut Node) {
        match self {
            Self::Nearest(pick) => Emit::<Rust>::emit(pick, r),
            Self::Linear(p) => {
                let params = r.constant("", "resize::Params", &p.params());
                r.call("resize::resize_linear", format!("&{params}"), None);
            }
        }
    }
}
