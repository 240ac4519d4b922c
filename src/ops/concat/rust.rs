//! The constants of `int.rs`, which is deployed as it is.

use super::ConcatInt;
use crate::ops::language::rust::{Node, code};
use crate::ops::language::{Emit, Rust, Source};
use crate::quant::Width;

impl Emit<Rust> for ConcatInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("concat.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        for (i, part) in self.0.iter().enumerate() {
            let (suffix, of) = (format!("_{i}"), format!("concat::Params<{}>", code(r.width)));
            let name = match r.width {
                Width::W4 | Width::W8 => r.constant(&suffix, &of, &part.params::<i8>()),
                Width::W16 => r.constant(&suffix, &of, &part.params::<i16>()),
                Width::W32 => unreachable!("activations have 8 or 16 bits"),
            };
            r.call("concat::concat", format!("&{name}"), Some(i));
        }
    }
}
