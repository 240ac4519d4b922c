//! The constants of `matmul.c`.

use super::MatMulInt;
use crate::ops::language::c::Node;
use crate::ops::language::{C, Emit, Source};

impl Emit<C> for MatMulInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("matmul.inc", include_str!("matmul.c")) }
    }

    fn emit(&self, c: &mut Node) {
        let [m, k, n] = self.sizes;
        c.value("rank", self.batch.len())
            .sizes("batch", &self.batch)
            .sizes("strides[0]", &self.strides[0])
            .sizes("strides[1]", &self.strides[1])
            .value("m", m)
            .value("k", k)
            .value("n", n)
            .value("multiplier", self.multiplier)
            .value("zero_point", self.zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp)
            .value("count", self.batch.iter().product::<usize>())
            .value("bound", self.bound)
            .call("matmul", None);
    }
}
