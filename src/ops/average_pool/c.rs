//! The constants of `average_pool.c`.

use super::AveragePoolInt;
use crate::ops::language::c::Node;
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for AveragePoolInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("average_pool.inc", include_str!("average_pool.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let p = &self.params;
        c.value("x_shape", p.x_shape)
            .value("y_shape", p.y_shape)
            .value("kernel", p.kernel)
            .value("stride", p.stride)
            .value("pads", p.pads)
            .value("count_include_pad", p.count_include_pad)
            .value("multiplier", p.multiplier)
            .value("x_zero_point", p.x_zero_point)
            .value("y_zero_point", p.y_zero_point)
            .value("clamp", p.clamp)
            .value("bound", self.bound)
            .call("average_pool", None);
    }
}
