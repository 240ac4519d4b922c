//! The constants of `int.rs`, which is deployed as it is.

use super::LinearInt;
use crate::codes::with_codes;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for LinearInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("linear.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let of = format!("Products<{}>", self.0.weight.type_name());
        let params =
            with_codes!(&self.0.weight, weight => r.constant("", &of, &self.0.products(weight)));
        let function = format!("linear::linear::<_, _, _, {}>", self.0.type_name());
        r.call(function, format!("&{params}"), None);
    }
}
