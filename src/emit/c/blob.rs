//! Constants as one file, for flash that is mapped into memory, or for `.incbin`.

use std::collections::BTreeMap;

use crate::ops::language::Value;

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The low one.
    Little,
    /// The high one.
    Big,
}

impl ByteOrder {
    /// Both, each with its name.
    pub const ALL: [(ByteOrder, &str); 2] = [(Self::Little, "little"), (Self::Big, "big")];

    /// As the compiler calls it.
    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The one that this is not.
    pub(super) fn other(self) -> Self {
        if self == Self::Little { Self::Big } else { Self::Little }
    }

    fn bytes(self, number: i64, size: usize) -> Vec<u8> {
        match self {
            Self::Little => number.to_le_bytes()[..size].to_vec(),
            Self::Big => number.to_be_bytes()[8 - size..].to_vec(),
        }
    }
}

/// What a file begins with.
pub(super) const MAGIC: &str = "naiveptq";
/// Behind it, as numbers of 32 bits: this, by which the order of bytes is known, the size of the file, and the hash
/// of the network in two halves, the high one first.
pub(super) const ORDER_MARK: u32 = 0x0102_0304;
/// Where the first array begins.
pub(super) const HEAD: usize = 24;
/// Arrays of fewer bytes stay in the code, where the compiler folds them.
const SMALLEST: usize = 32;
/// Each array is at a multiple of so many bytes.
const ALIGNMENT: usize = 8;

/// The arrays and where they are.
pub(super) struct Blob {
    pub order: ByteOrder,
    places: BTreeMap<String, usize>,
    arrays: Vec<u8>,
}

impl Blob {
    pub fn new(order: ByteOrder) -> Self {
        Self { order, places: BTreeMap::new(), arrays: Vec::new() }
    }

    /// Takes an array whose elements have so many bytes, if it is worth it.
    pub fn add(&mut self, name: &str, element: usize, items: &[Value]) {
        if items.len() * element < SMALLEST {
            return;
        }
        self.arrays.resize(self.arrays.len().next_multiple_of(ALIGNMENT), 0);
        self.places.insert(name.into(), HEAD + self.arrays.len());
        for item in items {
            let mut numbers = Vec::new();
            leaves(item, &mut numbers);
            let size = element / numbers.len().max(1);
            self.arrays.extend(numbers.into_iter().flat_map(|it| self.order.bytes(it, size)));
        }
    }

    /// Where an array is in the file, if it is.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        HEAD + self.arrays.len()
    }

    /// FNV-1a of all arrays.
    pub fn checksum(&self) -> u32 {
        let step = |hash: u32, byte: &u8| (hash ^ *byte as u32).wrapping_mul(0x0100_0193);
        self.arrays.iter().fold(0x811C_9DC5, step)
    }

    /// The file of the network with this hash.
    pub fn file(&self, hash: u64) -> Vec<u8> {
        let head = [ORDER_MARK as i64, self.size() as i64, (hash >> 32) as i64, hash as i64];
        let head = head.into_iter().flat_map(|number| self.order.bytes(number & 0xFFFF_FFFF, 4));
        MAGIC.bytes().chain(head).chain(self.arrays.iter().copied()).collect()
    }
}

/// The numbers that a value consists of, in the order of memory.
fn leaves(value: &Value, numbers: &mut Vec<i64>) {
    match value {
        Value::Int(number) => numbers.push(*number),
        Value::Bool(yes) => numbers.push(*yes as i64),
        Value::Pair(pair) => pair.iter().for_each(|item| leaves(item, numbers)),
        Value::Array(items) | Value::List(items) => {
            items.iter().for_each(|item| leaves(item, numbers));
        }
        Value::Record(_, fields) => fields.iter().for_each(|field| leaves(&field.value, numbers)),
        Value::Optional(Some(value)) => leaves(value, numbers),
        Value::Optional(None) | Value::Name(_) => {}
    }
}
