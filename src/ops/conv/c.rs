//! The constants of `conv.c`.

use super::ConvInt;
use crate::ops::Window;
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::ops::product::PRODUCT;
use crate::quant::Width;

impl Emit<C> for ConvInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("conv.inc", include_str!("conv.c")).on(&[PRODUCT]) }
    }

    fn needs(&self, width: Width) -> Needs {
        Needs {
            weights: self.acc.width,
            scratch: Some(self.scratch(width)),
            writes_over: if self.writes_over() { vec![0] } else { vec![] },
        }
    }

    fn emit(&self, c: &mut Node) {
        let groups = self.conv.group;
        let weight = match self.is_depthwise() {
            true => self.acc.weight.iter().collect(),
            false => self.acc.blocked(groups, 2),
        };
        self.acc.emit(c, weight, true);
        let Window { kernel, stride, dilation, pads: [top, left, ..], .. } = self.conv.window;
        c.value("x_shape", self.x_shape)
            .value("y_shape", self.y_shape)
            .value("kernel", kernel)
            .value("stride", stride)
            .value("dilation", dilation)
            .value("pad", [top, left])
            .value("group", self.conv.group)
            .value("x_zero_point", self.acc.x_zero_point)
            .read_by_shared_code(if self.is_depthwise() { 0 } else { 128 })
            .call("conv", None);
    }
}

impl ConvInt {
    fn is_depthwise(&self) -> bool {
        self.conv.group > 1 && self.conv.group == self.x_shape[3]
    }

    /// Whether no pixel that is still to be read is written: the input of each window is its own place.
    fn writes_over(&self) -> bool {
        let [n, h, w, in_ch] = self.x_shape;
        let [_, oh, ow, out_ch] = self.y_shape;
        let Window { kernel, pads, .. } = self.conv.window;
        let point = kernel == [1, 1] && pads == [0; 4] && self.conv.group == 1 && out_ch <= in_ch;
        n == 1 && oh * ow <= h * w && (point || self.is_depthwise() && in_ch == out_ch)
    }

    /// Bytes for columns of inputs, or for one plane.
    fn scratch(&self, width: Width) -> usize {
        let Window { kernel: [kh, kw], stride, dilation, .. } = self.conv.window;
        let [_, oh, ow, _] = self.y_shape;
        if self.is_depthwise() {
            let rows = (oh - 1) * stride[0] + (kh - 1) * dilation[0] + 1;
            let pitch = ow.next_multiple_of(2) * stride[1] + (kw - 1) * dilation[1];
            let line = if self.acc.width == Width::W4 { kh * kw } else { 0 };
            2 * rows * pitch.next_multiple_of(2) + line
        } else {
            let in_per_group = self.x_shape[3] / self.conv.group;
            let depth = (kh * kw * in_per_group).next_multiple_of(4);
            let stage = if in_per_group.is_multiple_of(4) { 0 } else { width.bytes() * depth };
            6 * depth + stage
        }
    }
}
