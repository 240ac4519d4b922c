//! Nodes that only move codes: which code goes where, found by running the node's reference once.

use super::Source;
use crate::codes::Codes;
use crate::ops::IntOp;
use crate::quant::Width;

/// So many codes lie side by side before and after, on average, or it is not worth while.
const RUN: usize = 4;

/// What becomes of a part of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    /// These codes of an argument.
    Argument(usize, usize),
    /// One code.
    Fill(i32),
}

/// A result in parts, from its begin to its end, in codes of some width.
#[derive(Clone, Debug)]
pub struct Moves(Vec<(usize, From)>, Width);

impl Moves {
    /// `None` if the node computes anything, or its codes lie too scattered.
    ///
    /// Every code of the arguments has a number. The reference moves the bytes of these numbers as if they
    /// were codes, one byte at a time, so that the result says which code comes from where. What stays the
    /// same when all bits are turned over is no code of an argument.
    pub fn of(op: &IntOp, inputs: &[Source], len: usize, width: Width) -> Option<Self> {
        if !op.moves_codes() {
            return None;
        }
        let counts = inputs.iter().map(|source| source.len() / width.bytes());
        let counts: Vec<usize> = counts.collect();
        let (total, len) = (counts.iter().sum::<usize>(), len / width.bytes());
        let run = |byte: u32, flip: u8| {
            let mut next = 0;
            let arguments = counts.iter().map(|count| {
                let numbers = next..next + count;
                next = numbers.end;
                Codes::new(width, numbers.map(|n| ((n >> (8 * byte)) as u8 ^ flip) as i8 as i32))
            });
            let arguments: Vec<Codes> = arguments.collect();
            let mut y = Codes::zeros(width, len);
            op.eval(&arguments.iter().collect::<Vec<_>>(), &mut y);
            y.iter().collect::<Vec<i32>>()
        };
        let (low, turned) = (run(0, 0), run(0, 0xFF));
        let mut numbers: Vec<usize> = low.iter().map(|&byte| byte as u8 as usize).collect();
        for byte in (1..usize::BITS / 8).take_while(|byte| total > 1 << (8 * byte)) {
            for (number, part) in numbers.iter_mut().zip(run(byte, 0)) {
                *number |= (part as u8 as usize) << (8 * byte);
            }
        }
        let mut begins = vec![0];
        begins.extend(counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }));
        let mut parts: Vec<(usize, From)> = Vec::new();
        for (i, &number) in numbers.iter().enumerate() {
            // The number of no code is that of an operator that does not keep its word: the step that is
            // made of it is found to be wrong when it is tried.
            let from = if low[i] == !turned[i] && number < total {
                let argument = begins.partition_point(|&begin| begin <= number) - 1;
                From::Argument(argument, number - begins[argument])
            } else {
                From::Fill(low[i])
            };
            let goes_on = match (parts.last(), from) {
                (Some((begin, From::Argument(a, at))), From::Argument(b, next)) => {
                    *a == b && at + (i - begin) == next
                }
                (Some((_, last)), from) => *last == from,
                (None, _) => false,
            };
            if !goes_on {
                parts.push((i, from));
            }
        }
        (parts.len() * RUN <= len).then_some(Self(parts, width))
    }

    /// Moves codes; those of 8 bits lie in memory as `code ^ flip`.
    pub fn run<'a>(&self, input: impl Fn(usize) -> &'a [u8], flip: u8, y: &mut [u8]) {
        let size = self.1.bytes();
        let ends = self.0.iter().skip(1).map(|(begin, _)| begin * size).chain([y.len()]);
        for ((begin, from), end) in self.0.iter().zip(ends) {
            let to = &mut y[begin * size..end];
            match *from {
                From::Argument(i, at) => to.copy_from_slice(&input(i)[at * size..][..to.len()]),
                From::Fill(code) if self.1 == Width::W8 => to.fill(code as u8 ^ flip),
                From::Fill(code) => {
                    let pair = (code as i16).to_le_bytes();
                    to.chunks_exact_mut(2).for_each(|to| to.copy_from_slice(&pair));
                }
            }
        }
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}
