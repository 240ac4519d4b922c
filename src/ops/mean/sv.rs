//! The parameters of `mean.sv`.

use super::MeanInt;
use crate::arith::Multiplier;
use crate::ops::language::sv::{Factors, LANDING, Machine, Node, RATIO, RESCALE, code_bits};
use crate::ops::language::{Emit, Source, Sv};
use crate::quant::Width;
use crate::tensor::strides;

/// The means of `channels` that come `positions` times.
pub const MEAN: Source =
    Source::new("mean.sv", include_str!("mean.sv")).on(&[RESCALE, RATIO, LANDING]);

impl Emit<Sv> for MeanInt {
    fn source(&self) -> &'static Source {
        const { &MEAN }
    }

    fn needs(&self, _: Width) -> Option<String> {
        match self.channels() {
            Some(_) => None,
            None => Some("a mean along axes that do not follow each other in memory".into()),
        }
    }

    fn emit(&self, sv: &mut Node) {
        let positions = self.reduced.0.iter().product();
        let mean = Sums {
            count: positions,
            bound: self.bound,
            multiplier: self.multiplier,
            x_zero_point: self.x_zero_point,
        };
        emit_mean(sv, self.channels().unwrap_or(1), &mean);
        sv.limits(self.y_zero_point, self.clamp);
    }
}

impl MeanInt {
    /// How many channels lie side by side, of which the same number of positions is averaged each.
    fn channels(&self) -> Option<usize> {
        let axes = |(sizes, steps): &(Vec<usize>, Vec<usize>)| -> Vec<(usize, usize)> {
            let both = sizes.iter().copied().zip(steps.iter().copied());
            both.filter(|&(size, _)| size != 1).collect()
        };
        let (kept, reduced) = (axes(&self.kept), axes(&self.reduced));
        let count: usize = reduced.iter().map(|(size, _)| size).product();
        let inner = reduced.last().map_or(1, |&(_, step)| step);
        let apart = |list: &[(usize, usize)], from: usize| {
            let (sizes, steps): (Vec<usize>, Vec<usize>) = list.iter().copied().unzip();
            strides(&sizes).into_iter().map(|step| step * from).eq(steps)
        };
        let before = |&&(_, step): &&(usize, usize)| step >= inner * count;
        let outer = kept.iter().take_while(before).count();
        let (outer, channels) = kept.split_at(outer);
        let side = channels.iter().map(|(size, _)| size).product::<usize>();
        let fits = apart(&reduced, inner) && apart(channels, 1) && apart(outer, inner * count);
        (fits && side == inner).then_some(inner)
    }
}

/// Sums that are divided by a count.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Sums {
    pub count: usize,
    pub bound: i64,
    pub multiplier: Multiplier,
    pub x_zero_point: i32,
}

impl Sums {
    /// The parameters of their size and of what makes them into codes; without an `exact` count, and where it is no
    /// power of two, there is a divider, and this is the number of its bits.
    pub fn emit(&self, sv: &mut Node, exact: bool) -> Option<u64> {
        let divides = !exact || !self.count.is_power_of_two();
        let factors =
            Factors::new(&[self.multiplier], if divides { 0 } else { self.count.ilog2() });
        let factors = if divides { factors.shifted() } else { factors };
        let sum = sv.sum("SUM", self.bound, code_bits(sv.widths[0]));
        sv.bits("C", sum, -(self.x_zero_point as i64) * self.count as i64);
        factors.emit(sv);
        sv.int("UP", factors.up);
        sv.int("DIVIDE", divides as i64);
        divides.then_some((sum + factors.significand_bits) as u64)
    }
}

/// The module `mean`.
pub fn emit_mean(sv: &mut Node, channels: usize, sums: &Sums) {
    sv.module = "mean";
    sv.codes().int("CHANNELS", channels).int("POSITIONS", sums.count);
    let (period, silent) = (channels * sums.count, channels * (sums.count - 1));
    let divider = sums.emit(sv, true);
    let (latency, hold) = divider.map_or((8, 1), |bits| (bits + 8, bits + 5));
    sv.machine = Machine::Flow { period, silent, latency, hold, depth: 16 };
}
