//! SystemVerilog: a module for each node, between streams of codes that go one at a time with a valid and a ready.

pub mod machine;

use super::{Language, Source};
use crate::arith::Multiplier;
use crate::quant::Width;
pub use machine::{Geometry, Machine};

/// SystemVerilog.
#[derive(Clone, Copy, Debug)]
pub struct Sv;

impl Language for Sv {
    /// Why a node is refused, if it is.
    type Needs = Option<String>;
    type Node = Node;
}

macro_rules! source {
    ($name:ident, $file:literal, $path:literal, $about:literal $(, $on:expr)*) => {
        #[doc = $about]
        pub const $name: Source = Source::new($file, include_str!($path)).on(&[$($on),*]);
    };
}

source!(ROUND_SHIFT, "round_shift.sv", "../../../arith/round_shift.sv", "Rounds a shift.");
source!(
    REQUANTIZE,
    "requantize.sv",
    "../../../arith/requantize.sv",
    "Rounds a shift to a code.",
    ROUND_SHIFT
);
source!(
    RESCALE,
    "rescale.sv",
    "../../../arith/rescale.sv",
    "Turns an accumulator into a code.",
    REQUANTIZE
);
source!(DIVIDE, "divide.sv", "../../../arith/divide.sv", "Divides, a bit a cycle.");
source!(RATIO, "ratio.sv", "../../../arith/ratio.sv", "Divides to a code.", DIVIDE, REQUANTIZE);
source!(FIFO, "fifo.sv", "fifo.sv", "First in, first out.");
source!(LANDING, "landing.sv", "landing.sv", "Where results of a pipeline land.", FIFO);
source!(WIDEN, "widen.sv", "widen.sv", "Several codes become one beat.");
source!(QUEUE, "queue.sv", "queue.sv", "Stands where branches join.");
source!(FORK, "fork_stream.sv", "fork_stream.sv", "One stream becomes several.");
source!(CONSTANT, "constant.sv", "constant.sv", "Codes that are part of the network.");
source!(FRAME, "frame.sv", "frame.sv", "Tells the end of a frame.");

/// What one node is told, and what it says.
#[derive(Clone, Debug)]
pub struct Node {
    /// No more than so many cycles between frames, if that can be.
    pub target: u64,
    /// Codes of the first argument, and of the result.
    pub sizes: [usize; 2],
    /// Widths of their codes.
    pub widths: [Width; 2],
    /// The module.
    pub module: &'static str,
    /// What it is given; more than one argument are called `a` and `b`, one is `s`.
    pub parameters: Vec<(&'static str, Parameter)>,
    /// What it reads when it starts.
    pub memories: Vec<Memory>,
    /// When it takes codes and gives results.
    pub machine: Machine,
    /// Multipliers of codes.
    pub multipliers: usize,
    /// Codes of the argument, and of the result, that go through it in parallel.
    pub folding: [usize; 2],
    /// What no sum exceeds, and the bits that it has.
    pub sum: Option<(i64, usize)>,
    /// Shape of the result, and strides of each argument along it, if one may be broadcast.
    pub strides: Option<(Vec<usize>, [Vec<usize>; 2])>,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// An `int`.
    Int(i64),
    /// As many bits as this, of this number.
    Bits(usize, i64),
}

/// The words of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The parameter that names its file.
    pub parameter: &'static str,
    /// Bits of a word.
    pub bits: usize,
    /// Each in hexadecimal digits.
    pub words: Vec<String>,
}

impl Node {
    /// Nothing yet.
    pub fn new(target: u64, sizes: [usize; 2], widths: [Width; 2]) -> Self {
        Self {
            target,
            sizes,
            widths,
            module: "",
            parameters: vec![],
            memories: vec![],
            machine: Machine::default(),
            multipliers: 0,
            folding: [1, 1],
            sum: None,
            strides: None,
        }
    }

    /// A parameter of type `int`.
    pub fn int(&mut self, name: &'static str, value: impl TryInto<i64>) -> &mut Self {
        let value = Parameter::Int(value.try_into().unwrap_or(i64::MAX));
        self.parameters.push((name, value));
        self
    }

    /// A parameter of so many bits.
    pub fn bits(&mut self, name: &'static str, bits: usize, value: i64) -> &mut Self {
        self.parameters.push((name, Parameter::Bits(bits, value)));
        self
    }

    /// The widths of argument and result.
    pub fn codes(&mut self) -> &mut Self {
        let [x, y] = self.widths.map(code_bits);
        self.int("X", x).int("Y", y)
    }

    /// Zero point of the result, and its limits.
    pub fn limits(&mut self, zero_point: i32, (lo, hi): (i32, i32)) -> &mut Self {
        self.int("YZ", zero_point).int("LO", lo).int("HI", hi)
    }

    /// A memory, each word of which are fields of so many bits, the lowest first.
    pub fn memory(
        &mut self,
        parameter: &'static str,
        words: impl IntoIterator<Item = Vec<(i64, usize)>>,
    ) -> &mut Self {
        let words: Vec<Vec<(i64, usize)>> = words.into_iter().collect();
        let bits = words.first().map_or(0, |word| word.iter().map(|(_, bits)| bits).sum());
        let words = words.iter().map(|word| hexadecimal(word)).collect();
        self.memories.push(Memory { parameter, bits, words });
        self
    }

    /// The bits of a sum that `bound` proves, and `least` at least, as parameter `name`.
    pub fn sum(&mut self, name: &'static str, bound: i64, least: usize) -> usize {
        let bits = bits_of(bound).max(least);
        self.sum = Some((bound, bits));
        self.int(name, bits);
        bits
    }
}

/// Bits of a code.
pub fn code_bits(width: Width) -> usize {
    width.bits() as usize
}

/// Bits of the integers from `-bound` to `bound`.
pub fn bits_of(bound: i64) -> usize {
    65 - bound.leading_zeros() as usize
}

/// The fields, the lowest first, as one number.
fn hexadecimal(fields: &[(i64, usize)]) -> String {
    let bits = fields.iter().flat_map(|&(value, bits)| (0..bits).map(move |i| value >> i & 1));
    let bits: Vec<i64> = bits.collect();
    let digit = |four: &[i64]| four.iter().rev().fold(0, |digit, bit| 2 * digit + bit);
    let digits = bits.chunks(4).rev().map(|four| format!("{:x}", digit(four)));
    digits.collect()
}

/// Factors as the module `rescale` takes them: what all have in common is wiring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    /// Bits of a significand; 1 if all are powers of two.
    pub significand_bits: usize,
    /// Shifts to the left, before that to the right.
    pub up: u32,
    /// The shift to the right that all have in common, at least 1.
    pub base: u32,
    /// Bits of the shift that they do not share.
    pub extra: usize,
    /// Significand, and shift beside `base`, of each.
    pub each: Vec<(i64, i64)>,
}

impl Factors {
    /// Those of `multipliers`, divided by `2^more`.
    pub fn new(multipliers: &[Multiplier], more: u32) -> Self {
        let zeros = multipliers.iter().map(|m| m.significand.trailing_zeros()).min().unwrap_or(0);
        let shifts = multipliers.iter().map(|m| (m.shift + more) as i64 - zeros as i64);
        let least = shifts.clone().min().unwrap_or(1);
        let spread = shifts.clone().max().unwrap_or(1) - least;
        let up = (1 - least).max(0) as u32;
        let significands = multipliers.iter().map(|m| (m.significand >> zeros) as i64);
        let most = significands.clone().max().unwrap_or(1);
        Self {
            significand_bits: bits_of(most) - 1,
            up,
            base: (least + up as i64) as u32,
            extra: (bits_of(spread) - 1).max(1),
            each: significands.zip(shifts.map(|shift| shift - least)).collect(),
        }
    }

    /// The same with a significand that holds the shift to the left.
    pub fn shifted(mut self) -> Self {
        self.each.iter_mut().for_each(|(significand, _)| *significand <<= self.up);
        self.significand_bits += self.up as usize;
        Self { up: 0, ..self }
    }

    /// One, for modules that have it as a parameter.
    pub fn emit(&self, sv: &mut Node) {
        let (significand, bits) = (self.each[0].0, self.significand_bits);
        sv.int("SIG", bits).bits("SIGNIFICAND", bits, significand).int("BASE", self.base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_hold_the_bound_and_no_more() {
        for bound in [1, 2, 3, 127, 128, 1 << 30, (1 << 53) - 1] {
            let highest = (1_i64 << (bits_of(bound) - 1)) - 1;
            assert!(bound <= highest && bound > highest / 2, "{bound}");
        }
    }

    #[test]
    fn fields_stand_side_by_side() {
        assert_eq!(hexadecimal(&[(-1, 4), (2, 8)]), "02f");
        assert_eq!(hexadecimal(&[(-2, 3), (1, 2)]), "0e");
    }

    /// What is wiring and what is stored give the same factor.
    #[test]
    fn factors_are_exact() {
        for list in [&[0.5_f32, 0.25][..], &[0.1, 0.3, 7.5], &[8.0], &[1e-9], &[100.0, 1e-5]] {
            let multipliers: Vec<Multiplier> =
                list.iter().map(|&factor| Multiplier::from_f32(factor).unwrap()).collect();
            let factors = Factors::new(&multipliers, 0);
            assert!(factors.base >= 1);
            for (&(significand, shift), &factor) in factors.each.iter().zip(list) {
                let exponent = factors.up as i32 - factors.base as i32 - shift as i32;
                assert_eq!(significand as f64 * 2f64.powi(exponent), factor as f64);
                assert!(significand < 1 << factors.significand_bits && shift < 1 << factors.extra);
            }
        }
        let powers = [0.5, 16.0].map(|factor| Multiplier::from_f32(factor).unwrap());
        assert_eq!(Factors::new(&powers, 0).significand_bits, 1);
    }
}
