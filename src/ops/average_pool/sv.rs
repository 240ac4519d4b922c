//! The parameters of `average_pool.sv`; of `mean.sv` where the window is the whole image.

use super::AveragePoolInt;
use crate::ops::language::sv::{Geometry, LANDING, Machine, Node, RATIO, RESCALE};
use crate::ops::language::{Emit, Source, Sv};
use crate::ops::mean::{MEAN, Sums, emit_mean};
use crate::ops::product::{WINDOW, landing_depth};
use crate::quant::Width;

impl Emit<Sv> for AveragePoolInt {
    fn source(&self) -> &'static Source {
        match self.is_whole() {
            true => const { &MEAN },
            false => {
                const {
                    &Source::new("average_pool.sv", include_str!("average_pool.sv"))
                        .on(&[WINDOW, RESCALE, RATIO, LANDING])
                }
            }
        }
    }

    fn needs(&self, _: Width) -> Option<String> {
        let p = &self.params;
        let reaches = |axis: usize| {
            let end = (p.y_shape[1 + axis] - 1) * p.stride[axis] + p.kernel[axis];
            end > p.x_shape[1 + axis] + p.pads[axis] + p.pads[axis + 2]
        };
        let is_cut = p.count_include_pad && (reaches(0) || reaches(1));
        is_cut.then(|| "windows that count padding and reach beyond it".into())
    }

    fn emit(&self, sv: &mut Node) {
        let p = &self.params;
        let ([_, h, w, c], [_, oh, ow, _]) = (p.x_shape, p.y_shape);
        let sums = Sums {
            count: p.kernel[0] * p.kernel[1],
            bound: self.bound,
            multiplier: p.multiplier,
            x_zero_point: p.x_zero_point,
        };
        if self.is_whole() {
            emit_mean(sv, c, &sums);
            sv.limits(p.y_zero_point, p.clamp);
            return;
        }
        let geometry = Geometry {
            x: [h, w, c],
            y: [oh, ow],
            kernel: p.kernel,
            stride: p.stride,
            dilation: [1, 1],
            pad: [p.pads[0], p.pads[1]],
            lanes: 1,
            groups: c,
            repeats: 1,
        };
        sv.module = "average_pool";
        sv.codes();
        geometry.emit(sv);
        let depth = landing_depth(1, sums.count);
        let counted = !p.count_include_pad && self.reaches_padding();
        let divider = sums.emit(sv, !counted);
        sv.int("COUNTED", counted as i64).int("XZ", p.x_zero_point).int("DEPTH", depth);
        sv.limits(p.y_zero_point, p.clamp);
        let (latency, hold) = divider.map_or((11, 1), |bits| (bits + 11, bits + 8));
        sv.machine = Machine::Windows { geometry, per: 1, latency, hold, depth };
    }
}

impl AveragePoolInt {
    /// Whether there is one window, and it is the image.
    fn is_whole(&self) -> bool {
        let p = &self.params;
        p.pads == [0; 4] && p.kernel == p.x_shape[1..3] && p.y_shape[1..3] == [1, 1]
    }

    /// Whether some window is not wholly inside the image.
    fn reaches_padding(&self) -> bool {
        let p = &self.params;
        let end = |axis: usize| (p.y_shape[1 + axis] - 1) * p.stride[axis] + p.kernel[axis];
        let outside = |axis: usize| p.pads[axis] > 0 || end(axis) > p.x_shape[1 + axis];
        outside(0) || outside(1)
    }
}
