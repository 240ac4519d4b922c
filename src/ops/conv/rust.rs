//! The constants of `int.rs`, which is deployed as it is.

use super::ConvInt;
use crate::codes::with_codes;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};

impl Emit<Rust> for ConvInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("conv.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let (of, acc) = (self.acc.weight.type_name(), self.acc.type_name());
        let params = with_codes!(&self.acc.weight, weight => {
            let params = self.params(self.acc.products(weight));
            r.constant("", &format!("conv::Params<{of}>"), &params)
        });
        r.call(format!("conv::conv::<_, _, _, {acc}>"), format!("&{params}"), None);
    }
}
