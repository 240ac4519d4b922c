//! A few samples that are kept, to see what quantization costs on them.

use std::collections::BTreeMap;

use crate::tensor::Tensor;

/// At most so many samples,
const SAMPLES: usize = 32;
/// of at most so many numbers; but one in any case.
const NUMBERS: usize = 1 << 23;

/// Samples by the hash of their numbers, those of the lowest: which ones does not depend on their order, nor on
/// how they were spread over parts that are merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept(BTreeMap<u64, Vec<Tensor<f32>>>);

impl Kept {
    /// Keeps the sample, if its hash, which it returns, is low enough.
    pub fn see(&mut self, inputs: &[Tensor<f32>]) -> u64 {
        let hash = hash(inputs);
        let (full, last) = (self.0.len() >= room(inputs), self.0.last_key_value());
        if !(full && last.is_some_and(|(&last, _)| last < hash)) {
            self.0.insert(hash, inputs.to_vec());
            self.shrink();
        }
        hash
    }

    /// Takes those of `other`, too.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
        self.shrink();
    }

    /// The samples, one tensor for each input.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = &[Tensor<f32>]> {
        self.0.values().map(Vec::as_slice)
    }

    /// Number of samples that were seen and differ, if all of them are here.
    pub fn all(&self) -> Option<usize> {
        let room = self.0.values().next().map(|inputs| room(inputs))?;
        (self.0.len() < room).then_some(self.0.len())
    }

    /// Whether there are samples of `other` here, and all that have a lower hash than the last one here, or than any where
    /// there is room for more.
    pub fn holds(&self, other: &Self) -> bool {
        let last = self.0.last_key_value().filter(|_| self.all().is_none());
        let would_be = |hash: &u64| last.is_none_or(|(last, _)| hash <= last);
        let mut hashes = other.0.keys().copied().filter(would_be).peekable();
        hashes.peek().is_some() && hashes.all(|hash| self.0.contains_key(&hash))
    }

    fn shrink(&mut self) {
        let room = self.0.values().next().map_or(0, |inputs| room(inputs));
        while self.0.len() > room {
            self.0.pop_last();
        }
    }
}

/// Number of samples like this one.
fn room(inputs: &[Tensor<f32>]) -> usize {
    let numbers: usize = inputs.iter().map(|x| x.data().len()).sum();
    (NUMBERS / numbers.max(1)).clamp(1, SAMPLES)
}

/// FNV-1a of the bits, with its high half stirred into the low one.
pub fn hash(inputs: &[Tensor<f32>]) -> u64 {
    let bits = inputs.iter().flat_map(|x| x.data()).map(|x| x.to_bits() as u64);
    let mixed = |hash: u64, bits: u64| {
        let hash = (hash ^ bits).wrapping_mul(0x0000_0100_0000_01B3);
        hash ^ hash >> 32
    };
    bits.fold(0xCBF2_9CE4_8422_2325, mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_samples_are_kept_does_not_depend_on_order_or_parts() {
        let sample = |i: usize, len: usize| vec![Tensor::from_vec(vec![i as f32; len])];
        for (len, count, kept) in [(1, 40, 32), (1 << 20, 12, 8), (1 << 23, 4, 1)] {
            let of = |range: &mut dyn Iterator<Item = usize>| {
                let mut kept = Kept::default();
                range.for_each(|i| _ = kept.see(&sample(i, len)));
                kept
            };
            let whole = of(&mut (0..count));
            assert_eq!(whole.samples().len(), kept);
            assert_eq!(of(&mut (0..count).rev()), whole);
            let mut merged = of(&mut (count / 2..count));
            merged.merge(of(&mut (0..count / 2)));
            assert_eq!(merged, whole);
        }
    }
}
