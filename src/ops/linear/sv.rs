//! The parameters of `conv.sv`: each row is a pixel.

use super::LinearInt;
use crate::ops::language::sv::{Geometry, Node};
use crate::ops::language::{Emit, Source, Sv};
use crate::ops::product::CONV;

impl Emit<Sv> for LinearInt {
    fn source(&self) -> &'static Source {
        const { &CONV }
    }

    fn emit(&self, sv: &mut Node) {
        let rows = sv.sizes[1] / self.0.bias.len();
        let image = Geometry {
            x: [rows, 1, sv.sizes[0] / rows],
            y: [rows, 1],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            ..Geometry::default()
        };
        self.0.emit_sv(sv, image, 1);
    }
}
