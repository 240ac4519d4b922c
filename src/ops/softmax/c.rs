//! The constants of `softmax.c`.

use super::{EXP_ONE, SoftmaxInt};
use crate::ops::language::c::{Element, Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for SoftmaxInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("softmax.inc", include_str!("softmax.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: vec![0], ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        let count = c.size / self.size;
        c.array("fine", Element::I32, self.fine.iter().copied());
        if c.types.x > Width::W8 {
            c.array("coarse", Element::I32, self.coarse.iter().copied());
        }
        c.value("multiplier", self.multiplier)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp)
            .value("size", self.size)
            .value("stride", self.stride)
            .value("count", count)
            .value("bound", self.size as i64 * EXP_ONE)
            .call("softmax", None);
    }
}
