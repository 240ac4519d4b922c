//! The constants of `max_pool.c`.

use super::MaxPoolInt;
use crate::ops::language::c::Node;
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for MaxPoolInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("max_pool.inc", include_str!("max_pool.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let p = &self.0;
        c.value("x_shape", p.x_shape)
            .value("y_shape", p.y_shape)
            .value("kernel", p.kernel)
            .value("stride", p.stride)
            .value("dilation", p.dilation)
            .value("pad", p.pad)
            .call("max_pool", None);
    }
}
