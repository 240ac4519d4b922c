//! The constants of `int.rs`, which is deployed as it is.

use super::ConvTransposeInt;
use crate::ops::language::rust::Node;
use crate::ops::language::{Emit, Rust, Source};
use crate::ops::product::with_written;

impl Emit<Rust> for ConvTransposeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("conv_transpose.rs", include_str!("int.rs")) }
    }

    fn emit(&self, r: &mut Node) {
        let acc = self.acc.type_name();
        let params = with_written!(&self.acc, products, of => {
            r.constant("", &format!("conv_transpose::Params<{of}>"), &self.params(products))
        });
        r.call(
            format!("conv_transpose::conv_transpose::<_, _, _, {acc}>"),
            format!("&{params}"),
            None,
        );
    }
}
