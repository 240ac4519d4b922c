//! A table; from 16 bits a factor, as a sum of one argument.

use super::RecodeInt;
use crate::ops::language::sv::Node;
use crate::ops::language::{Emit, Source, Sv};
use crate::quant::Width;

impl Emit<Sv> for RecodeInt {
    fn source(&self) -> &'static Source {
        match self {
            Self::Table(table) => Emit::<Sv>::source(table),
            Self::Scaled(_) => const { &Source::new("", "") },
        }
    }

    fn needs(&self, _: Width) -> Option<String> {
        match self {
            Self::Table(_) => None,
            Self::Scaled(_) => Some("codes of 16 bits that become others".into()),
        }
    }

    fn emit(&self, sv: &mut Node) {
        if let Self::Table(table) = self {
            Emit::<Sv>::emit(table, sv);
        }
    }
}
