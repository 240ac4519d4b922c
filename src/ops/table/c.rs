//! The constants of `clip.c`.

use super::TableInt;
use crate::ops::language::c::{Element, Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for TableInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("clip.inc", include_str!("clip.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: vec![0], ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        let size = c.size;
        c.array("table", Element::Code, self.0.iter()).value("size", size).call("table", None);
    }
}
