//! The parameters of `max_pool.sv`.

use super::MaxPoolInt;
use crate::ops::language::sv::{Geometry, LANDING, Machine, Node, WIDEN, code_bits};
use crate::ops::language::{Emit, Source, Sv};
use crate::ops::product::{WINDOW, divisors, landing_depth};

impl Emit<Sv> for MaxPoolInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("max_pool.sv", include_str!("max_pool.sv")).on(&[WIDEN, WINDOW, LANDING]) }
    }

    fn emit(&self, sv: &mut Node) {
        let p = &self.0;
        let ([_, h, w, c], [_, oh, ow, _]) = (p.x_shape, p.y_shape);
        let taps = p.kernel[0] * p.kernel[1];
        let geometry = |lanes: usize| Geometry {
            x: [h, w, c],
            y: [oh, ow],
            kernel: p.kernel,
            stride: p.stride,
            dilation: p.dilation,
            pad: p.pad,
            lanes,
            groups: c / lanes,
            repeats: 1,
        };
        let lanes = divisors(c).into_iter().filter(|&lanes| lanes <= taps);
        let enough = lanes.clone().find(|&lanes| geometry(lanes).cycles() <= sv.target);
        let lanes = enough.or(lanes.max()).unwrap_or(1);
        let (geometry, depth) = (geometry(lanes), landing_depth(lanes, taps));
        sv.module = "max_pool";
        sv.folding = [lanes, lanes];
        sv.int("X", code_bits(sv.widths[0]));
        geometry.emit(sv);
        sv.int("DH", p.dilation[0]).int("DW", p.dilation[1]).int("PE", lanes).int("DEPTH", depth);
        sv.machine = Machine::Windows { geometry, per: lanes, latency: 5, hold: 1, depth };
    }
}
