//! The parameters of `conv.sv`.

use super::ConvInt;
use crate::ops::Window;
use crate::ops::language::sv::{Geometry, Node};
use crate::ops::language::{Emit, Source, Sv};
use crate::ops::product::CONV;

impl Emit<Sv> for ConvInt {
    fn source(&self) -> &'static Source {
        const { &CONV }
    }

    fn emit(&self, sv: &mut Node) {
        let Window { kernel, stride, dilation, pads: [top, left, ..], .. } = self.conv.window;
        let ([_, h, w, c], [_, oh, ow, _]) = (self.x_shape, self.y_shape);
        let image = Geometry {
            x: [h, w, c],
            y: [oh, ow],
            kernel,
            stride,
            dilation,
            pad: [top, left],
            ..Geometry::default()
        };
        self.acc.emit_sv(sv, image, self.conv.group);
    }
}
