//! The constants of `prelu.c`.

use super::PReluInt;
use crate::ops::language::c::{Element, Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for PReluInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("prelu.inc", include_str!("prelu.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { weights: self.slope.width(), writes_over: vec![0], scratch: None }
    }

    fn emit(&self, c: &mut Node) {
        let size = c.size;
        c.array("slope", Element::Weight, self.slope.iter())
            .array("negative", Element::Multiplier, self.negative.iter().copied())
            .value("positive", self.positive)
            .value("x_zero_point", self.x_zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp)
            .value("rank", self.shape.len().max(1))
            .sizes("shape", &self.shape)
            .sizes("strides", &self.strides)
            .value("size", size)
            .value("bound", self.bound)
            .call("prelu", None);
    }
}
