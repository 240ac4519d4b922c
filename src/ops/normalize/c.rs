//! The constants of `normalize.c`.

use super::NormalizeInt;
use crate::ops::language::c::{Element, Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for NormalizeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("normalize.inc", include_str!("normalize.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: vec![0], ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        let p = &self.places;
        c.array("factor", Element::I32, self.factor.iter().copied())
            .array("offset", Element::I32, self.offset.iter().copied())
            .value("offset_shift", self.offset_shift)
            .value("shift", self.shift)
            .value("unit_shift", self.unit_shift)
            .value("square_shift", self.square_shift)
            .value("epsilon", self.epsilon)
            .value("centered", self.centered as i32)
            .value("x_zero_point", self.x_zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp)
            .value("groups", p.groups)
            .value("inner", p.inner)
            .value("outer_stride", p.outer_stride)
            .value("inner_stride", p.inner_stride)
            .value("channels", p.channels)
            .value("channel_stride", p.channel_stride)
            .value("length", p.length)
            .value("stride", p.stride)
            .value("factor_strides", p.factor_strides)
            .value("bound", self.bound)
            .call("normalize", None);
    }
}
