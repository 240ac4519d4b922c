//! The constants of `mul.c`.

use super::MulInt;
use crate::ops::broadcast::{dense_arguments, emit_strided};
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for MulInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("mul.inc", include_str!("mul.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: dense_arguments(&self.shape, &self.strides), ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        c.value("multiplier", self.multiplier)
            .value("zero_point", self.zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp);
        emit_strided(c, &self.shape, &self.strides);
        c.value("bound", self.bound).call("mul", None);
    }
}
