//! Constants of sums of products, in the order in which the kernels read them.

use std::ops::{Deref, DerefMut, Range};

use super::isa::{Choice, Isa};
use crate::arith::{Multiplier, Products, requantize};

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Elements that begin where a line of the cache does, so that no vector lies across two.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    data: Vec<T>,
    begin: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let data = vec![T::default(); len + LINE / size_of::<T>()];
        let begin = data.as_ptr().align_offset(LINE).min(LINE / size_of::<T>());
        Self { data, begin, len }
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.begin..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.begin..][..self.len]
    }
}

/// What a kernel's registers look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Sums of 32 bits in a register.
    pub lanes: usize,
    /// Products that are added to one sum at a time: codes in 32 bits.
    pub group: usize,
    /// Registers side by side.
    pub vectors: usize,
}

/// How a sum becomes an integer. Each rounds the exact product once, half to even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// By a fused multiply-add of `f32`: sums are below `2^24` and results below `2^22`.
    Single,
    /// By one of `f64`: results are below `2^31`.
    Double,
    /// One by one in 64-bit integers.
    Integer,
}

/// Output codes: all as bytes of the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub zero_point: i16,
    pub lo: u8,
    pub hi: u8,
}

impl Limits {
    pub fn new(isa: Isa, zero_point: i32, clamp: (i32, i32)) -> Self {
        let offset = if isa.flip() == 0 { 0 } else { 128 };
        let byte = |code: i32| code as u8 ^ isa.flip();
        Self { zero_point: (zero_point + offset) as i16, lo: byte(clamp.0), hi: byte(clamp.1) }
    }
}

/// Channels that are computed together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The first one.
    pub channel: usize,
    /// How many.
    pub len: usize,
    /// Registers that hold one sum of each.
    pub vectors: usize,
    /// Where its weights begin.
    pub weight: usize,
    /// Where its biases and factors begin.
    pub lane: usize,
}

/// Weights and what goes with them, for sums of equally many products in each channel.
#[derive(Clone, Debug)]
pub struct Packed {
    isa: Isa,
    pub(super) blocks: Vec<Block>,
    channels: usize,
    /// Of each block `[groups][lane]`, a group of weights each; 0 where there is none.
    pub(super) weight: Aligned<u32>,
    /// `[lane]`, with the input's zero point moved into it.
    pub(super) bias: Aligned<i32>,
    /// `[lane]`, where they are rounded so.
    pub(super) single: Aligned<f32>,
    pub(super) double: Aligned<f64>,
    multiplier: Vec<Multiplier>,
    y_zero_point: i32,
    clamp: (i32, i32),
    pub(super) rounding: Rounding,
    pub(super) limits: Limits,
}

/// Which of a block's channels lane `lane` of register `vector` holds, where narrowing conversions work
/// on 4 lanes at a time: packing the registers of a block puts its codes in order.
pub(super) fn channel_of(lanes: usize, vectors: usize, at: usize) -> usize {
    let (vector, lane) = (at / lanes, at % lanes);
    4 * vectors * (lane / 4) + 4 * vector + lane % 4
}

impl Packed {
    /// `index(channel, group, i)` says which weight of the channel is the `i`-th of the group, if any. With
    /// `overlap` the last block ends with the last channel, else it is the smaller.
    ///
    /// # Panics
    /// If the machine has no `isa`, or a sum does not fit 32 bits.
    pub(super) fn new(
        choice: Choice,
        shape: Shape,
        p: &Products<i8>,
        channels: Range<usize>,
        groups: usize,
        overlap: bool,
        index: impl Fn(usize, usize) -> Option<usize>,
    ) -> Self {
        let isa = choice.isa;
        assert!(isa.is_available(), "this machine has no {isa}");
        let Shape { lanes, group, vectors } = shape;
        let most = lanes * vectors;
        let mut blocks: Vec<Block> = Vec::new();
        let (mut weights, mut all_lanes) = (0, 0);
        for begin in (0..channels.len()).step_by(most) {
            let len = (channels.len() - begin).min(most);
            let smaller = len.div_ceil(lanes).next_power_of_two().min(vectors);
            let whole = overlap || smaller == vectors;
            let vectors = if whole { vectors } else { smaller };
            let (channel, len) = match overlap && channels.len() > most {
                true => (begin.min(channels.len() - most), most),
                false => (begin, len),
            };
            blocks.push(Block { channel, len, vectors, weight: weights, lane: all_lanes });
            weights += groups * vectors * lanes;
            all_lanes += vectors * lanes;
        }
        let depth = p.weight.len() / p.bias.len().max(1);
        let flipped = if isa.flip() == 0 { 0 } else { 128 };
        let zero_point = p.x_zero_point as i64 + flipped;
        let sums: Vec<[i64; 2]> =
            channels.clone().map(|o| signed_sums(&p.weight[o * depth..][..depth])).collect();
        let mut packed = Self {
            isa,
            blocks,
            channels: channels.len(),
            weight: Aligned::new(weights),
            bias: Aligned::new(all_lanes),
            single: Aligned::default(),
            double: Aligned::default(),
            multiplier: p.multiplier[channels.clone()].to_vec(),
            y_zero_point: p.y_zero_point,
            clamp: p.clamp,
            rounding: rounding(choice, p, channels.start, &sums),
            limits: Limits::new(isa, p.y_zero_point, p.clamp),
        };
        match packed.rounding {
            Rounding::Single => packed.single = Aligned::new(all_lanes),
            Rounding::Double => packed.double = Aligned::new(all_lanes),
            Rounding::Integer => {}
        }
        let order: Vec<Option<usize>> =
            (0..groups * group).map(|at| index(at / group, at % group)).collect();
        for block in &packed.blocks {
            let lanes_of_block = block.vectors * lanes;
            let words = &mut packed.weight[block.weight..][..groups * lanes_of_block];
            let mut rows: Vec<&[i8]> = vec![&[]; lanes_of_block];
            for (at, row) in rows.iter_mut().enumerate() {
                let channel = channel_of(lanes, block.vectors, at);
                if channel >= block.len {
                    continue;
                }
                let o = channels.start + block.channel + channel;
                *row = &p.weight[o * depth..][..depth];
                let [plus, minus] = sums[block.channel + channel];
                // The sums of flipped codes may wrap on the way; the last one is proved to fit.
                packed.bias[block.lane + at] =
                    (p.bias[o] as i64 - zero_point * (plus + minus)) as i32;
                match packed.rounding {
                    Rounding::Single => packed.single[block.lane + at] = factor(p, o) as f32,
                    Rounding::Double => packed.double[block.lane + at] = factor(p, o),
                    Rounding::Integer => {}
                }
            }
            for (words, order) in
                words.chunks_exact_mut(lanes_of_block).zip(order.chunks_exact(group))
            {
                for (word, row) in words.iter_mut().zip(&rows) {
                    *word = word_of(row, order);
                }
            }
        }
        packed
    }

    /// Its kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bytes of the constants.
    pub fn size(&self) -> usize {
        let words = self.weight.len() + self.bias.len() + self.single.len();
        4 * words + 8 * self.double.len()
    }

    /// Code of the sum in lane `at` of a block, or `None` if there is none: its place and the code.
    pub(super) fn code(
        &self,
        lanes: usize,
        block: &Block,
        at: usize,
        sum: i32,
    ) -> Option<(usize, u8)> {
        let channel = channel_of(lanes, block.vectors, at);
        (channel < block.len).then(|| {
            let m = self.multiplier[block.channel + channel];
            let code: i8 = requantize(sum, m, self.y_zero_point, self.clamp);
            (channel, code as u8 ^ self.isa.flip())
        })
    }
}

fn factor(p: &Products<i8>, o: usize) -> f64 {
    let m = p.multiplier[o];
    m.significand as f64 / (1u64 << m.shift) as f64
}

/// The weights of a channel at `order`, as one word.
#[inline(always)]
fn word_of(row: &[i8], order: &[Option<usize>]) -> u32 {
    match *order {
        // Usually they lie side by side.
        [Some(k), Some(_), Some(_), Some(end)] if end == k + 3 && end < row.len() => {
            u32::from_le_bytes([row[k], row[k + 1], row[k + 2], row[end]].map(|w| w as u8))
        }
        _ => order.iter().enumerate().fold(0, |word, (i, k)| {
            let bits = 32 / order.len();
            let w = k.and_then(|k| row.get(k)).map_or(0, |&w| w as u32);
            word | (w & (u32::MAX >> (32 - bits))) << (i * bits)
        }),
    }
}

/// Sums of the positive and of the negative weights.
pub(super) fn signed_sums(weight: &[i8]) -> [i64; 2] {
    let (mut plus, mut minus) = (0, 0);
    // In 16 bits, so that vectors hold many.
    for part in weight.chunks(128) {
        plus += part.iter().map(|&w| (w as i16).max(0)).sum::<i16>() as i64;
        minus += part.iter().map(|&w| (w as i16).min(0)).sum::<i16>() as i64;
    }
    [plus, minus]
}

/// What is exact for every sum of any codes, of the channels from `first` on.
fn rounding(choice: Choice, p: &Products<i8>, first: usize, sums: &[[i64; 2]]) -> Rounding {
    let (lo, hi) = (-128 - p.x_zero_point as i64, 127 - p.x_zero_point as i64);
    let (mut most, mut largest) = (0, 0.0_f64);
    for (o, [plus, minus]) in (first..).zip(sums) {
        let least = p.bias[o] as i64 + plus * lo + minus * hi;
        let greatest = p.bias[o] as i64 + plus * hi + minus * lo;
        let sum = greatest.max(-least);
        most = most.max(sum);
        largest = largest.max(sum as f64 * factor(p, o));
    }
    assert!(most <= i32::MAX as i64, "sums need more than 32 bits");
    let fused = choice.isa != Isa::Portable;
    let single = fused && !choice.without.single;
    if single && most <= 1 << 24 && largest < (1 << 22) as f64 - 1.0 {
        Rounding::Single
    } else if (fused || most < 1 << 29) && largest < (1u32 << 31) as f64 - 1.0 {
        Rounding::Double
    } else {
        Rounding::Integer
    }
}
