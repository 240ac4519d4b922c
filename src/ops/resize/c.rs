//! The constants of `resize.c`.

use super::ResizeInt;
use crate::ops::language::c::{Element, Node};
use crate::ops::language::{C, Emit, Source};

/// As in `resize.c`, on a 32-bit processor.
const BETWEEN: Element = Element::Struct("between", 12);

impl Emit<C> for ResizeInt {
    fn source(&self) -> &'static Source {
        match self {
            Self::Nearest(pick) => Emit::<C>::source(pick),
            Self::Linear(_) => const { &Source::new("resize.inc", include_str!("resize.c")) },
        }
    }

    fn emit(&self, c: &mut Node) {
        let p = match self {
            Self::Nearest(pick) => return Emit::<C>::emit(pick, c),
            Self::Linear(p) => p,
        };
        c.value("x_shape", p.x_shape)
            .array("rows", BETWEEN, p.rows.iter().copied())
            .array("columns", BETWEEN, p.columns.iter().copied())
            .value("multiplier", p.multiplier)
            .value("x_zero_point", p.x_zero_point)
            .value("y_zero_point", p.y_zero_point)
            .value("clamp", p.clamp)
            .value("y_size", [p.rows.len(), p.columns.len()])
            .value("bound", p.bound)
            .call("resize_linear", None);
    }
}
