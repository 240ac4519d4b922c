//! The constants of `int.rs`, which is deployed as it is.

use super::LinearInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};
use crate::ops::product::with_written;

impl Emit<Rust> for LinearInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("linear.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let params = with_written!(&self.0, products, of => {
            r.constant("", &format!("Products<{of}>"), &products)
        });
        let function = format!("linear::linear::<_, _, _, {}>", self.0.type_name());
        r.call(function, format!("&{params}"), None);
    }
}
