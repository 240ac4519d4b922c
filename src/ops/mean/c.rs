//! The constants of `mean.c`.

use super::MeanInt;
use crate::ops::language::c::Node;
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for MeanInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("mean.inc", include_str!("mean.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let size = c.size;
        c.value("kept_rank", self.kept.0.len())
            .sizes("kept", &self.kept.0)
            .sizes("kept_strides", &self.kept.1)
            .value("reduced_rank", self.reduced.0.len())
            .sizes("reduced", &self.reduced.0)
            .sizes("reduced_strides", &self.reduced.1)
            .value("count", self.reduced.0.iter().product::<usize>())
            .value("multiplier", self.multiplier)
            .value("x_zero_point", self.x_zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp)
            .value("size", size)
            .value("bound", self.bound)
            .call("mean", None);
    }
}
