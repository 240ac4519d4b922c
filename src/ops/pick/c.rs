//! The constants of `slice.c`.

use super::{PickInt, int};
use crate::ops::language::c::{Element, Node};
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for PickInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("slice.inc", include_str!("slice.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let size = c.size;
        let last = self.offsets.len() - self.shape.last().copied().unwrap_or(0);
        let dense = self.offsets[last..].windows(2).all(|w| w[0].checked_add(1) == Some(w[1]));
        let nowhere = self.offsets[last..].contains(&int::NONE);
        c.value("rank", self.shape.len().max(1))
            .sizes("shape", &self.shape)
            .array("offsets", Element::U32, self.offsets.iter().copied())
            .value("fill", self.fill)
            .value("size", size)
            .value("offset_count", self.offsets.len())
            .value("dense", dense && !nowhere)
            .call("pick", None);
    }
}
