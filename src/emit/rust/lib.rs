//! A network in integers only, written by naive-ptq.
//!
//! @DOC
#![no_std]
#![forbid(unsafe_code)]

use core::ops::Range;

#[allow(dead_code)]
mod arith;
// @MODULES

#[allow(unused_imports)]
use arith::{Multiplier, Products};

/// Number of codes; several inputs lie one after the other.
pub const INPUT_SIZE: usize = @INPUT_SIZE;
/// Number of codes; several outputs lie one after the other.
pub const OUTPUT_SIZE: usize = @OUTPUT_SIZE;
/// Number of codes that a [`Net`] holds.
pub const ARENA_SIZE: usize = @ARENA_SIZE;

/// The memory that the network computes in.
pub struct Net {
    memory: [@CODE; ARENA_SIZE],
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Net {
    /// Memory for one computation at a time.
    pub const fn new() -> Self {
        Self { memory: [0; ARENA_SIZE] }
    }

    /// Computes the codes of the output from those of the input.
    pub fn run(&mut self, input: &[@CODE; INPUT_SIZE], output: &mut [@CODE; OUTPUT_SIZE]) {
        self.run_traced(input, output, |_, _| {});
    }

    /// As [`run`](Self::run); `trace` sees what each layer computes.
    pub fn run_traced(
        &mut self,
        input: &[@CODE; INPUT_SIZE],
        output: &mut [@CODE; OUTPUT_SIZE],
        mut trace: impl FnMut(usize, &[@CODE]),
    ) {
        let memory = &mut self.memory[..];
        // @BODY
    }
}

/// Several parts of the memory that do not overlap, by the plan.
fn places<const N: usize>(memory: &mut [@CODE], ranges: [Range<usize>; N]) -> [&mut [@CODE]; N] {
    match memory.get_disjoint_mut(ranges) {
        Ok(places) => places,
        Err(_) => unreachable!(),
    }
}

// @CONSTANTS
