//! The parameters of `clip.sv`.

use super::TableInt;
use crate::ops::language::sv::{LANDING, Machine, Node, code_bits};
use crate::ops::language::{Emit, Source, Sv};

impl Emit<Sv> for TableInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("clip.sv", include_str!("clip.sv")).on(&[LANDING]) }
    }

    fn emit(&self, sv: &mut Node) {
        let bits = code_bits(sv.widths[1]);
        // The lowest code has the bits of half of them.
        let half = self.0.len() / 2;
        let all = (half..2 * half).chain(0..half).map(|i| vec![(self.0.get(i) as i64, bits)]);
        sv.module = "clip";
        sv.codes().memory("TABLE", all);
        sv.machine = Machine::Flow { period: 1, silent: 0, latency: 1, hold: 1, depth: 4 };
    }
}
