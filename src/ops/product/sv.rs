//! Sums of products in hardware: how they are folded, and the constants of `product.sv`.

use super::Accumulator;
use crate::ops::language::Source;
use crate::ops::language::sv::{
    Factors, Geometry, LANDING, Machine, Node, RESCALE, WIDEN, code_bits,
};

/// Windows over an image.
pub const WINDOW: Source = Source::new("window.sv", include_str!("window.sv"));

/// Convolutions and linear layers.
pub const CONV: Source = Source::new("conv.sv", include_str!("../conv/conv.sv")).on(&[
    WIDEN,
    WINDOW,
    Source::new("product.sv", include_str!("product.sv")).on(&[RESCALE, LANDING]),
]);

/// Cycles from the last tap of a sum until its code lands, if no products are added before the sum.
const LATENCY: u64 = 14;

impl Accumulator {
    /// The module `conv` over an image, whose channels are divided into `groups`.
    pub fn emit_sv(&self, sv: &mut Node, image: Geometry, groups: usize) {
        let lanewise = groups > 1 && groups == image.x[2] && groups == self.bias.len();
        let geometry = self.folded(sv.target, image, groups, lanewise);
        let [simd, pe] = match lanewise {
            true => [1, geometry.lanes],
            false => [geometry.lanes, self.bias.len() / groups / geometry.repeats],
        };
        let depth = landing_depth(pe, geometry.taps());
        sv.module = "conv";
        sv.folding = [simd, pe];
        sv.multipliers = simd * pe;
        sv.codes().int("W", code_bits(self.width)).int("OC", self.bias.len()).int("GROUPS", groups);
        geometry.emit(sv);
        sv.int("DH", geometry.dilation[0]).int("DW", geometry.dilation[1]);
        sv.int("LANEWISE", lanewise as i64)
            .int("SIMD", simd)
            .int("PE", pe)
            .int("XZ", self.x_zero_point);
        sv.limits(self.y_zero_point, self.clamp).int("DEPTH", depth as i64);
        self.emit_sums(sv, simd, pe);
        let latency = LATENCY + (simd > 1) as u64;
        sv.machine = Machine::Windows { geometry, per: pe, latency, hold: 1, depth };
    }

    /// Of all ways to fold the image that meet the target the one with fewest multipliers; the fastest if none
    /// does.
    fn folded(&self, target: u64, image: Geometry, groups: usize, lanewise: bool) -> Geometry {
        let (in_ch, out_ch) = (image.x[2] / groups, self.bias.len() / groups);
        let all = if lanewise {
            let lanes = divisors(groups).into_iter();
            lanes
                .map(|pe| {
                    (
                        1,
                        pe,
                        Geometry { lanes: pe, groups: groups / pe, repeats: 1, ..image.clone() },
                    )
                })
                .collect()
        } else {
            let mut all = Vec::new();
            for simd in divisors(in_ch) {
                for pe in divisors(out_ch) {
                    let geometry =
                        Geometry { lanes: simd, groups, repeats: out_ch / pe, ..image.clone() };
                    all.push((simd, pe, geometry));
                }
            }
            all
        };
        let rank = |(simd, pe, geometry): &(usize, usize, Geometry)| {
            let (cycles, multipliers) = (geometry.cycles(), (simd * pe) as u64);
            let order = if cycles <= target { (0, multipliers) } else { (1, cycles) };
            (order, *simd > 8, simd.abs_diff(*pe), cycles)
        };
        let fits = all.into_iter().filter(|(_, pe, geometry)| *pe <= geometry.taps());
        fits.min_by_key(rank).map_or(image, |(_, _, geometry)| geometry)
    }

    /// Weights, in the order in which they are used, and what makes sums into codes.
    fn emit_sums(&self, sv: &mut Node, simd: usize, pe: usize) {
        let (depth, bits, z) = (self.depth(), code_bits(self.width), self.x_zero_point as i64);
        let weight = |o: usize, k: usize| self.weight.get(o * depth + k) as i64;
        let word = |o: usize, k: usize| {
            let each = (0..pe * simd).map(|i| (weight(o + i / simd, k + i % simd), bits));
            each.collect::<Vec<_>>()
        };
        let blocks = (0..self.bias.len()).step_by(pe);
        let words = blocks.flat_map(|o| (0..depth).step_by(simd).map(move |k| (o, k)));
        sv.memory("WEIGHTS", words.map(|(o, k)| word(o, k)));
        let least = bits.max(code_bits(sv.widths[0]));
        let acc = sv.sum("ACC", self.bound, least);
        sv.bits("BOUND", acc, self.bound);
        let factors = Factors::new(&self.multiplier, 0);
        let (significand_bits, extra) = (factors.significand_bits, factors.extra);
        sv.int("SIG", significand_bits).int("UP", factors.up);
        sv.int("BASE", factors.base).int("EXTRA", extra);
        let constant = |(o, &(significand, shift)): (usize, &(i64, i64))| {
            let bias = self.bias[o] as i64 - z * (0..depth).map(|k| weight(o, k)).sum::<i64>();
            vec![(bias, acc), (significand, significand_bits), (shift, extra)]
        };
        sv.memory("CONSTANTS", factors.each.iter().enumerate().map(constant));
    }
}

/// Room for results so that groups of `taps` beats follow each other: for those that are on their way, too.
pub fn landing_depth(per: usize, taps: usize) -> usize {
    (per * (2 + (16 + per).div_ceil(taps))).next_power_of_two()
}

/// All of them.
pub fn divisors(n: usize) -> Vec<usize> {
    (1..=n).filter(|d| n.is_multiple_of(*d)).collect()
}

impl Geometry {
    /// The parameters that all modules with windows have.
    pub fn emit(&self, sv: &mut Node) {
        sv.int("IH", self.x[0]).int("IW", self.x[1]).int("IC", self.x[2]);
        sv.int("OH", self.y[0]).int("OW", self.y[1]);
        sv.int("KH", self.kernel[0]).int("KW", self.kernel[1]);
        sv.int("SH", self.stride[0]).int("SW", self.stride[1]);
        sv.int("PT", self.pad[0]).int("PL", self.pad[1]);
    }
}
