//! The constants of `linear.c`.

use super::LinearInt;
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::ops::product::PRODUCT;
use crate::quant::Width;

impl Emit<C> for LinearInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("linear.inc", include_str!("linear.c")).on(&[PRODUCT]) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { weights: self.0.width, ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        self.0.emit(c, self.0.blocked(1, 4), true);
        let rows = c.size / self.0.bias.len();
        c.value("rows", rows).read_by_shared_code(64).call("linear", None);
    }
}
