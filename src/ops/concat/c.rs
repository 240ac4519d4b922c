//! The constants of `concat.c`.

use super::{ConcatInt, Part};
use crate::ops::language::c::{Element, Node};
use crate::ops::language::{C, Emit, Source};
use crate::ops::table::TableInt;
use crate::tensor::strides;

impl Emit<C> for ConcatInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("concat.inc", include_str!("concat.c")) }
    }

    fn emit(&self, c: &mut Node) {
        for (i, part) in self.0.iter().enumerate() {
            let (block, pitch) = part.block().unwrap_or((0, 0));
            if block == 0 {
                c.value("rank", part.shape.len().max(1))
                    .sizes("shape", &part.shape)
                    .sizes("x_strides", &part.x_strides)
                    .sizes("y_strides", &part.y_strides);
            }
            c.value("offset", part.offset);
            if let Some(TableInt(table)) = &part.table {
                c.array("table", Element::Code, table.iter());
            }
            c.value("size", part.shape.iter().product::<usize>())
                .value("block", block)
                .value("pitch", pitch)
                .call("concat", Some(i));
        }
    }
}

impl Part {
    /// Length of the runs that stay together in the result, and the distance between them.
    fn block(&self) -> Option<(usize, usize)> {
        let dense = strides(&self.shape);
        let together = (0..self.shape.len()).rev().take_while(|&k| self.y_strides[k] == dense[k]);
        let axis = self.shape.len() - together.count();
        let block = self.shape[axis..].iter().product();
        let pitch = if axis == 0 { block } else { self.y_strides[axis - 1] };
        let outer = strides(&self.shape[..axis]).iter().map(|s| s * pitch).collect::<Vec<_>>();
        (self.x_strides == dense && outer == self.y_strides[..axis]).then_some((block, pitch))
    }
}
