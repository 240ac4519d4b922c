//! The constants of `conv_transpose.c`.

use super::ConvTransposeInt;
use crate::ops::Window;
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::ops::product::PRODUCT;
use crate::quant::Width;

impl Emit<C> for ConvTransposeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("conv_transpose.inc", include_str!("conv_transpose.c")).on(&[PRODUCT]) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { weights: self.acc.width, ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        self.acc.emit(c, self.acc.weight.iter().collect(), false);
        let Window { kernel, stride, dilation, pads: [top, left, ..], .. } = self.conv.window;
        c.value("x_shape", self.x_shape)
            .value("y_shape", self.y_shape)
            .value("kernel", kernel)
            .value("stride", stride)
            .value("dilation", dilation)
            .value("pad", [top, left])
            .value("group", self.conv.group)
            .value("x_zero_point", self.acc.x_zero_point)
            .call("conv_transpose", None);
    }
}
