//! The constants of `product.c`: blocks of weights, and how sums are rescaled.

use super::{Accumulator, acc_bound, pairs};
use crate::arith::Multiplier;
use crate::ops::language::Source;
use crate::ops::language::c::{Element, Node};
use crate::quant::{QuantParams, Width};

/// What the operators that sum products include in C.
pub const PRODUCT: Source = Source::new("product.inc", include_str!("product.c"))
    .on(&[Source::new("dsp.h", include_str!("dsp.h"))]);

impl Accumulator {
    /// The weights in the order of `product.c`, in blocks of `rows` output channels, for the
    /// channels of each group by itself.
    pub fn blocked(&self, groups: usize, rows: usize) -> Vec<i32> {
        let (depth, out_ch) = (self.depth(), self.bias.len() / groups);
        let padded = depth.next_multiple_of(4);
        let mut blocked = vec![0; groups * out_ch.next_multiple_of(rows) * padded];
        for (i, code) in self.weight.iter().enumerate() {
            let (group, o, k) = (i / depth / out_ch, i / depth % out_ch, i % depth);
            let first = group * out_ch.next_multiple_of(rows) * padded;
            let block = o / rows * padded / 4 + k / 4;
            let within = match self.width {
                Width::W4 => o % rows / 2 * 8 + k % 4 / 2 * 4 + o % 2 * 2 + k % 2,
                _ => o % rows * 4 + k % 4,
            };
            blocked[first + block * 4 * rows + within] = code;
        }
        blocked
    }

    /// The member `product` of the constants in C. With `fold` the input's zero point is moved into the
    /// bias.
    pub fn emit(&self, c: &mut Node, weight: Vec<i32>, fold: bool) {
        let weight = match self.width {
            Width::W4 => pairs(weight).into_iter().map(|pair| (pair as i8).into()).collect(),
            _ => weight,
        };
        let (depth, z) = (self.depth(), self.x_zero_point as i64);
        let sums = (0..self.bias.len())
            .map(|o| (o * depth..(o + 1) * depth).map(|i| self.weight.get(i) as i64).sum::<i64>());
        let bias =
            self.bias.iter().zip(sums).map(|(&b, sum)| b as i64 - if fold { z * sum } else { 0 });
        c.array("product.weight", Element::Weight, weight)
            .array("product.bias", Element::Acc, bias)
            .value("product.depth", depth)
            .value("product.out_ch", self.bias.len());
        self.emit_requant(c);
        c.value("product.requant.y_zero_point", self.y_zero_point)
            .value("product.requant.clamp", self.clamp)
            .value("product.bound", self.bound);
    }

    /// How sums are rescaled: the first form of `product.c` whose conditions all channels meet. The code of the
    /// general one is shared.
    fn emit_requant(&self, c: &mut Node) {
        const FORM: &str = "product.requant.form";
        let shifts = if let Some(shifts) = self.shifts().filter(|_| !c.types.wide) {
            c.name(FORM, "REQUANT_SHIFT");
            shifts
        } else if let Some((factors, shifts)) =
            self.high_words(c.types.x, c.types.y).filter(|_| !c.types.wide)
        {
            c.name(FORM, "REQUANT_HIGH").array("product.requant.factor", Element::I32, factors);
            shifts
        } else {
            let multipliers = self.multiplier.iter().copied();
            c.name(FORM, "REQUANT_GENERAL")
                .array("product.requant.multiplier", Element::Multiplier, multipliers)
                .read_by_shared_code(128);
            vec![0]
        };
        match shifts.iter().all(|shift| *shift == shifts[0]) {
            true => c.value("product.requant.shift", shifts[0]),
            false => c.array("product.requant.shifts", Element::U8, shifts),
        };
    }

    /// REQUANT_SHIFT: every factor is a power of two, and the half that is added fits.
    fn shifts(&self) -> Option<Vec<u32>> {
        let shift = |m: &Multiplier| {
            let shift = m.shift.checked_sub(23)?;
            let fits = (1..=30).contains(&shift) && self.bound + (1 << (shift - 1)) < 1 << 31;
            (m.significand == 1 << 23 && fits).then_some(shift)
        };
        self.multiplier.iter().map(shift).collect()
    }

    /// REQUANT_HIGH: factors and shifts, if no sum of any channel can be a tie.
    fn high_words(&self, x: Width, y: Width) -> Option<(Vec<i32>, Vec<u32>)> {
        let x = QuantParams::per_tensor(1.0, self.x_zero_point, x);
        let depth = self.depth();
        let never_ties = |(o, m): (usize, &Multiplier)| {
            let weight = (o * depth..(o + 1) * depth).map(|i| self.weight.get(i) as i64);
            // A sum of 0 is no tie.
            let bound = acc_bound(weight, self.bias[o], &x).max(1);
            m.significand.trailing_zeros() + bound.ilog2() < m.shift - 1
        };
        if !self.multiplier.iter().enumerate().all(never_ties) {
            return None;
        }
        // 31 bits leave room for another 7; one shift for all channels, if they are as near as that.
        let largest = self.multiplier.iter().map(|m| m.shift).max()?.max(33);
        let shift = |m: &Multiplier| if largest - m.shift <= 7 { largest } else { m.shift.max(33) };
        let shifts: Vec<u32> = self.multiplier.iter().map(shift).collect();
        let allowed = 33..=if y == Width::W8 { 52 } else { 44 };
        let factor = |(m, shift): (&Multiplier, &u32)| {
            let more = shift - m.shift;
            (more <= 7 && allowed.contains(shift)).then_some(m.significand << more)
        };
        let factors = self.multiplier.iter().zip(&shifts).map(factor).collect::<Option<_>>()?;
        Some((factors, shifts))
    }
}
