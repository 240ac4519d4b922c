//! The constants of `recode.c`, or of the table.

use super::RecodeInt;
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for RecodeInt {
    fn source(&self) -> &'static Source {
        match self {
            Self::Table(table) => Emit::<C>::source(table),
            Self::Scaled(_) => const { &Source::new("recode.inc", include_str!("recode.c")) },
        }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: vec![0], ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        let p = match self {
            Self::Table(table) => return Emit::<C>::emit(table, c),
            Self::Scaled(params) => params,
        };
        let size = c.size;
        c.value("numerator", p.numerator)
            .value("denominator", p.denominator)
            .value("shift", p.shift)
            .value("x_zero_point", p.x_zero_point)
            .value("y_zero_point", p.y_zero_point)
            .value("clamp", p.clamp)
            .value("size", size)
            .call("recode", None);
    }
}
