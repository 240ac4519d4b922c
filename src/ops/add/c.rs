//! The constants of `add.c`.

use super::AddInt;
use crate::ops::broadcast::{dense_arguments, emit_strided};
use crate::ops::language::c::{Needs, Node};
use crate::ops::language::{C, Emit, Source};
use crate::quant::Width;

impl Emit<C> for AddInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("add.inc", include_str!("add.c")) }
    }

    fn needs(&self, _width: Width) -> Needs {
        Needs { writes_over: dense_arguments(&self.shape, &self.strides), ..Needs::default() }
    }

    fn emit(&self, c: &mut Node) {
        let folded = self.folded(c.types.x);
        let (factor, shift, offset, bound) =
            folded.unwrap_or((self.factor, self.shift, 0, self.bound));
        c.value("factor", factor)
            .value("shift", shift)
            .value("zero_point", self.zero_point)
            .value("y_zero_point", self.y_zero_point)
            .value("clamp", self.clamp);
        emit_strided(c, &self.shape, &self.strides);
        let narrow = folded.is_some() && bound < 1 << 31 && shift <= 30;
        let ties = folded.is_none() || Self::ties(factor, shift, offset, c.types.x);
        c.value("folded", folded.is_some())
            .value("offset", offset)
            .value("narrow", narrow)
            .value("ties", ties)
            .value("bound", bound)
            .read_by_shared_code(if folded.is_some() { 96 } else { 0 })
            .call("add", None);
    }
}

impl AddInt {
    /// The formula of `add.c` with everything that does not depend on codes in one constant: factors,
    /// shift and constant, and what they reach; `None` where it does not apply.
    fn folded(&self, width: Width) -> Option<([i64; 2], u32, i64, i64)> {
        let spare = (self.factor[0] | self.factor[1]).trailing_zeros().min(self.shift - 1);
        let factor = self.factor.map(|f| f >> spare);
        let shift = self.shift - spare;
        let magnitudes = factor[0].checked_abs()?.checked_add(factor[1].checked_abs()?)?;
        let zeros = factor.iter().zip(self.zero_point).map(|(&f, z)| f as i128 * z as i128);
        let above = (self.y_zero_point - self.clamp.0) as i128;
        let offset = (above << shift) + (1 << (shift - 1)) - zeros.sum::<i128>();
        let reach = offset.abs() + ((magnitudes as i128) << (width.bits() - 1));
        let fits = factor.iter().all(|f| i32::try_from(*f).is_ok());
        (fits && reach < 1 << 62 && reach >> shift < 1 << 30).then_some((
            factor,
            shift,
            offset as i64,
            reach as i64,
        ))
    }

    /// Whether a pair of codes may be a tie: 8-bit codes are tried.
    fn ties(factor: [i64; 2], shift: u32, offset: i64, width: Width) -> bool {
        let tie =
            |a: i64, b: i64| (offset + a * factor[0] + b * factor[1]) & ((1 << shift) - 1) == 0;
        width > Width::W8 || (-128..128).any(|a| (-128..128).any(|b| tie(a, b)))
    }
}
