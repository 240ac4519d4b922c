//! The constants of `argmax.c`.

use super::ArgMaxInt;
use crate::ops::language::c::Node;
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for ArgMaxInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("argmax.inc", include_str!("argmax.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let count = c.size;
        c.value("size", self.0.size)
            .value("stride", self.0.stride)
            .value("last", self.0.last)
            .value("y_zero_point", self.0.y_zero_point)
            .value("clamp", self.0.clamp)
            .value("count", count)
            .call("argmax", None);
    }
}
