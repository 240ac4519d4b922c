//! The constants of `int.rs`, which is deployed as it is.

use super::ConvInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};
use crate::ops::product::with_written;

impl Emit<Rust> for ConvInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("conv.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let acc = self.acc.type_name();
        let params = with_written!(&self.acc, products, of => {
            r.constant("", &format!("conv::Params<{of}>"), &self.params(products))
        });
        r.call(format!("conv::conv::<_, _, _, {acc}>"), format!("&{params}"), None);
    }
}
