//! The parameters of `softmax.sv`.

use super::SoftmaxInt;
use crate::arith::round_shift;
use crate::ops::language::sv::{Factors, Machine, Node, RATIO};
use crate::ops::language::{Emit, Source, Sv};
use crate::quant::Width;

impl Emit<Sv> for SoftmaxInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("softmax.sv", include_str!("softmax.sv")).on(&[RATIO]) }
    }

    fn needs(&self, width: Width) -> Option<String> {
        match (width, self.stride) {
            (Width::W16, _) => Some("a softmax of codes of 16 bits".into()),
            (_, 1) => None,
            _ => Some("a softmax over codes that do not follow each other in memory".into()),
        }
    }

    fn emit(&self, sv: &mut Node) {
        let factors = Factors::new(&[self.multiplier], 0).shifted();
        let exp = |&fine: &i32| round_shift(self.coarse[0] as i64 * fine as i64, 30);
        sv.module = "softmax";
        sv.codes().int("SIZE", self.size);
        factors.emit(sv);
        sv.limits(self.y_zero_point, self.clamp);
        sv.memory("EXP", self.fine.iter().map(exp).map(|exp| vec![(exp, 24)]));
        let (size, bits) = (self.size, 25 + factors.significand_bits as u64);
        sv.machine = Machine::Batch { size, think: 1 + 3 * size as u64, each: bits + 8 };
    }
}
