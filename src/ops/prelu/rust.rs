//! The constants of `int.rs`, which is deployed as it is.

use super::PReluInt;
use crate::codes::with_codes;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for PReluInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("prelu.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let of = format!("prelu::Params<{}>", self.slope.type_name());
        let params = with_codes!(&self.slope, slope => r.constant("", &of, &self.params(slope)));
        r.call("prelu::prelu", format!("&{params}"), None);
    }
}
