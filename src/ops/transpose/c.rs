//! The constants of `transpose.c`.

use super::TransposeInt;
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for TransposeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("transpose.inc", include_str!("transpose.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: if self.is_copy() { vec![0] } else { vec![] }, ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        c.value("rank", self.shape.len().max(1))
            .sizes("shape", &self.shape)
            .sizes("strides", &self.strides)
            .value("size", self.shape.iter().product::<usize>())
            .call("transpose", None);
    }
}
