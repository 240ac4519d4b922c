//! The constants of `embedding.c`.

use super::EmbeddingInt;
use crate::ops::language::c::{Element, Node};
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for EmbeddingInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("embedding.inc", include_str!("embedding.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let size = c.size;
        c.array("table", Element::Code, self.table.iter())
            .value("rows", self.table.len() / self.row)
            .value("row", self.row)
            .value("x_zero_point", self.x_zero_point)
            .value("count", size / self.row)
            .call("embedding", None);
    }
}
