//! Codes that stay where they are are wires.

use super::TransposeInt;
use crate::ops::language::sv::Node;
use crate::ops::language::{Emit, Source, Sv};
use crate::quant::Width;

impl Emit<Sv> for TransposeInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("", "") }
    }

    fn needs(&self, _: Width) -> Option<String> {
        match self.is_copy() {
            true => None,
            false => Some("a buffer that moves codes to other places in a frame".into()),
        }
    }

    fn emit(&self, _: &mut Node) {}
}
