//! The parameters of `add.sv`.

use super::AddInt;
use crate::ops::language::sv::{LANDING, Machine, Node, REQUANTIZE, bits_of};
use crate::ops::language::{Emit, Source, Sv};

impl Emit<Sv> for AddInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("add.sv", include_str!("add.sv")).on(&[REQUANTIZE, LANDING]) }
    }

    fn emit(&self, sv: &mut Node) {
        let zeros = self.factor.map(i64::trailing_zeros).into_iter().min().unwrap_or(0);
        let zeros = zeros.min(self.shift - 1);
        let factors = self.factor.map(|factor| factor >> zeros);
        let bits = factors.map(|factor| bits_of(factor.abs())).into_iter().max().unwrap_or(1);
        let zero = -(0..2).map(|i| self.zero_point[i] as i64 * factors[i]).sum::<i64>();
        sv.module = "add";
        sv.codes().int("F", bits).bits("FA", bits, factors[0]).bits("FB", bits, factors[1]);
        let sum = sv.sum("SUM", self.bound >> zeros, bits);
        sv.bits("C", sum, zero).int("BASE", self.shift - zeros);
        sv.limits(self.y_zero_point, self.clamp);
        sv.strides = Some((self.shape.clone(), self.strides.clone()));
        sv.machine = Machine::Flow { period: 1, silent: 0, latency: 7, hold: 1, depth: 16 };
    }
}
