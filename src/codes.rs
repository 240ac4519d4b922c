//! Codes of 8 or 16 bits in memory.

use crate::arith::Code;

/// The codes of one value, or of a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Codes {
    I8(Vec<i8>),
    I16(Vec<i16>),
}

/// Does `$body` with `$codes` bound to the slice or vector of whatever type `$any` holds.
macro_rules! with_codes {
    ($any:expr, $codes:ident => $body:expr) => {
        match $any {
            $crate::codes::Codes::I8($codes) => $body,
            $crate::codes::Codes::I16($codes) => $body,
        }
    };
}
pub(crate) use with_codes;

impl Codes {
    /// `codes`, which have `bits` bits: 8 or 16.
    pub fn new(bits: u32, codes: impl IntoIterator<Item = i32>) -> Self {
        let codes = codes.into_iter();
        match bits {
            8 => Self::I8(codes.map(|code| code as i8).collect()),
            _ => Self::I16(codes.map(|code| code as i16).collect()),
        }
    }

    /// `len` times the code 0.
    pub fn zeros(bits: u32, len: usize) -> Self {
        match bits {
            8 => Self::I8(vec![0; len]),
            _ => Self::I16(vec![0; len]),
        }
    }

    /// Number of bits of a code.
    pub fn bits(&self) -> u32 {
        match self {
            Self::I8(_) => 8,
            Self::I16(_) => 16,
        }
    }

    /// Name of their type in Rust.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::I8(_) => "i8",
            Self::I16(_) => "i16",
        }
    }

    /// Number of codes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        with_codes!(self, codes => codes.len())
    }

    /// Code `i`.
    pub fn get(&self, i: usize) -> i32 {
        with_codes!(self, codes => codes[i].into())
    }

    /// All codes in turn.
    pub fn iter(&self) -> impl Iterator<Item = i32> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// A code that [`Codes`] can hold.
pub trait CodeType: Code {
    /// The codes, if they are of this type; an integer graph has only one type of activations.
    fn slice(codes: &Codes) -> &[Self];
}

impl CodeType for i8 {
    fn slice(codes: &Codes) -> &[i8] {
        match codes {
            Codes::I8(codes) => codes,
            Codes::I16(_) => unreachable!("16-bit codes among 8-bit ones"),
        }
    }
}

impl CodeType for i16 {
    fn slice(codes: &Codes) -> &[i16] {
        match codes {
            Codes::I16(codes) => codes,
            Codes::I8(_) => unreachable!("8-bit codes among 16-bit ones"),
        }
    }
}
