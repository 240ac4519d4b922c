//! Codes in memory, each in as many bits as it has.

use crate::arith::Code;
use crate::error::Result;
use crate::quant::Width;
use crate::tensor::{Shape, Tensor};

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

/// `code` in a narrower type.
fn fit<T: TryFrom<i32>>(code: i32) -> T {
    match T::try_from(code) {
        Ok(code) => code,
        Err(_) => panic!("code {code} does not fit {} bits", 8 * size_of::<T>()),
    }
}

/// `code` of 4 bits, which has a byte to itself.
fn fit4(code: i32) -> i8 {
    assert!((-8..=7).contains(&code), "code {code} does not fit 4 bits");
    code as i8
}

impl Codes {
    /// `codes` of 4, 8 or 16 bits.
    ///
    /// # Panics
    /// If they do not fit `width`, or it is 32 bits: only biases are that wide, and those stay a
    /// [`CodeTensor`].
    pub fn new(width: Width, codes: impl IntoIterator<Item = i32>) -> Self {
        let codes = codes.into_iter();
        match width {
            Width::W4 => Self::I8(codes.map(fit4).collect()),
            Width::W8 => Self::I8(codes.map(fit).collect()),
            Width::W16 => Self::I16(codes.map(fit).collect()),
            Width::W32 => unreachable!("activations have 8 or 16 bits"),
        }
    }

    /// `len` times the code 0, of 8 or 16 bits.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn zeros(width: Width, len: usize) -> Self {
        match width {
            Width::W4 | Width::W8 => Self::I8(vec![0; len]),
            Width::W16 => Self::I16(vec![0; len]),
            Width::W32 => unreachable!("activations have 8 or 16 bits"),
        }
    }

    /// How many bits a code has.
    pub fn width(&self) -> Width {
        match self {
            Self::I8(_) => Width::W8,
            Self::I16(_) => Width::W16,
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

    /// As a tensor of shape `shape`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if it has another number of elements.
    pub fn under(self, shape: impl Into<Shape>) -> Result<CodeTensor> {
        match self {
            Self::I8(codes) => Tensor::new(shape, codes).map(CodeTensor::I8),
            Self::I16(codes) => Tensor::new(shape, codes).map(CodeTensor::I16),
        }
    }

    /// All codes in turn.
    pub fn iter(&self) -> impl Iterator<Item = i32> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// A code that [`Codes`] can hold.
pub trait CodeType: Code {
    /// The codes, which are of this type.
    fn slice(codes: &Codes) -> &[Self];

    /// `codes` under their own type: those of a node that only moves codes are of the type of its argument.
    fn of<Y: CodeType>(codes: &mut [Y]) -> &mut [Self];

    /// `codes` as what they are.
    fn any(codes: &mut [Self]) -> AnyCodes<'_>;
}

/// Codes of either type.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum AnyCodes<'a> {
    I8(&'a mut [i8]),
    I16(&'a mut [i16]),
}

macro_rules! code_type {
    ($($code:ty: $held:ident),*) => {$(
        impl CodeType for $code {
            fn slice(codes: &Codes) -> &[Self] {
                match codes {
                    Codes::$held(codes) => codes,
                    other => unreachable!("{} among {}", other.type_name(), stringify!($code)),
                }
            }

            fn of<Y: CodeType>(codes: &mut [Y]) -> &mut [Self] {
                match Y::any(codes) {
                    AnyCodes::$held(codes) => codes,
                    _ => unreachable!("codes that only move become {}", stringify!($code)),
                }
            }

            fn any(codes: &mut [Self]) -> AnyCodes<'_> {
                AnyCodes::$held(codes)
            }
        }
    )*};
}
code_type!(i8: I8, i16: I16);

/// The codes of a constant of the graph, in ONNX's axis order. Biases have 32 bits; codes of 4 bits are `I8`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CodeTensor {
    I8(Tensor<i8>),
    I16(Tensor<i16>),
    I32(Tensor<i32>),
}

/// Does `$body` with `$tensor` bound to the tensor of whatever type `$any` holds.
macro_rules! with_tensor {
    ($any:expr, $tensor:ident => $body:expr) => {
        match $any {
            CodeTensor::I8($tensor) => $body,
            CodeTensor::I16($tensor) => $body,
            CodeTensor::I32($tensor) => $body,
        }
    };
}

/// As [`with_tensor!`], where `$body` is again a tensor of the same type.
macro_rules! map_tensor {
    ($any:expr, $tensor:ident => $body:expr) => {
        match $any {
            CodeTensor::I8($tensor) => CodeTensor::I8($body),
            CodeTensor::I16($tensor) => CodeTensor::I16($body),
            CodeTensor::I32($tensor) => CodeTensor::I32($body),
        }
    };
}

impl CodeTensor {
    /// `codes` of any width.
    ///
    /// # Panics
    /// If they do not fit `width`.
    pub fn new(width: Width, codes: Tensor<i32>) -> Self {
        match width {
            Width::W4 => Self::I8(codes.map(|&code| fit4(code))),
            Width::W8 => Self::I8(codes.map(|&code| fit(code))),
            Width::W16 => Self::I16(codes.map(|&code| fit(code))),
            Width::W32 => Self::I32(codes),
        }
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        with_tensor!(self, t => t.shape())
    }

    /// Code `i` in row-major order.
    #[allow(clippy::unnecessary_cast)]
    pub fn get(&self, i: usize) -> i32 {
        with_tensor!(self, t => t.data()[i] as i32)
    }

    /// All codes in 32 bits.
    #[allow(clippy::unnecessary_cast)]
    pub fn widened(&self) -> Tensor<i32> {
        with_tensor!(self, t => t.map(|&code| code as i32))
    }

    /// The same codes under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the number of elements differs.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        Ok(map_tensor!(self, t => t.reshape(shape)?))
    }

    /// Those at `places`, under `shape`.
    ///
    /// # Panics
    /// If they are not as many as `shape` says, or a place is beyond the last one.
    pub fn picked(&self, shape: &[usize], places: &[usize]) -> Self {
        map_tensor!(self, t => Tensor::of(shape, places.iter().map(|&i| t.data()[i]).collect()))
    }

    /// As [`Tensor::into_transposed`].
    pub fn into_transposed(self, perm: &[usize]) -> Self {
        map_tensor!(self, t => t.into_transposed(perm))
    }
}

impl Default for CodeTensor {
    fn default() -> Self {
        Self::I8(Tensor::default())
    }
}
