//! NumPy's `.npy`: a header that tells dtype and shape, then the elements.
//!
//! Versions 1 to 3, either byte order, C order or Fortran's.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::Read;

use crate::error::{Error, Result, bail};
use crate::tensor::{Shape, Tensor, checked_len, strided_indices, strides};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself trusts no header beyond 10 000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// A tensor of one of the dtypes that are kept; a file's `bool` becomes `u8` (0 or 1), `u16` becomes
/// `i32`, `u32` and `u64` become `i64`, `float16` becomes `f32`.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    U8(Tensor<u8>),
    I8(Tensor<i8>),
    I16(Tensor<i16>),
    I32(Tensor<i32>),
    I64(Tensor<i64>),
    F32(Tensor<f32>),
    F64(Tensor<f64>),
}

/// The same expression for every variant of an [`Array`].
macro_rules! each {
    ($array:expr, $tensor:ident => $body:expr) => {
        match $array {
            Array::U8($tensor) => $body,
            Array::I8($tensor) => $body,
            Array::I16($tensor) => $body,
            Array::I32($tensor) => $body,
            Array::I64($tensor) => $body,
            Array::F32($tensor) => $body,
            Array::F64($tensor) => $body,
        }
    };
}

#[allow(clippy::unnecessary_cast)] // in one variant each
impl Array {
    /// Sizes of the axes, slowest first.
    pub fn shape(&self) -> &[usize] {
        each!(self, t => t.shape())
    }

    /// The elements in row-major order, each as the nearest `f32`.
    pub fn to_f32(&self) -> Tensor<f32> {
        each!(self, t => t.map(|&v| v as f32))
    }

    /// Element `index` in row-major order; nothing for an array of floats, or beyond its end.
    pub(super) fn integer(&self, index: usize) -> Option<i64> {
        match self {
            Array::F32(_) | Array::F64(_) => None,
            integers => each!(integers, t => t.data().get(index).map(|&v| v as i64)),
        }
    }

    /// The elements in row-major order; nothing for an array of floats.
    pub fn integers(&self) -> Option<Vec<i64>> {
        match self {
            Array::F32(_) | Array::F64(_) => None,
            integers => integers.whole_numbers(),
        }
    }

    /// The elements in row-major order, whatever their type; nothing where one is no integer.
    pub(super) fn whole_numbers(&self) -> Option<Vec<i64>> {
        let whole = |v: f64| (v.fract() == 0.0 && v.abs() < 1e15).then_some(v as i64);
        match self {
            Array::F32(t) => t.data().iter().map(|&v| whole(v.into())).collect(),
            Array::F64(t) => t.data().iter().map(|&v| whole(v)).collect(),
            integers => Some(each!(integers, t => t.data().iter().map(|&v| v as i64).collect())),
        }
    }
}

/// A type that `.npy` files hold.
pub trait Element: Copy {
    /// NumPy's name of the type in little-endian order.
    const DESCR: &'static str;
    /// Elements from their little-endian bytes.
    fn decode(bytes: &[u8]) -> Vec<Self>;
    /// Appends the little-endian bytes of `self`.
    fn encode(self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($t:ty: $descr:literal),*) => {$(
        impl Element for $t {
            const DESCR: &'static str = $descr;
            fn decode(bytes: &[u8]) -> Vec<Self> {
                bytes.as_chunks().0.iter().map(|&b| Self::from_le_bytes(b)).collect()
            }
            fn encode(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        }
    )*};
}
elements! {
    u8: "|u1", i8: "|i1", u16: "<u2", i16: "<i2", u32: "<u4", i32: "<i4",
    u64: "<u8", i64: "<i8", f32: "<f4", f64: "<f8"
}

/// Reads one array up to the end of `reader`.
///
/// # Errors
/// [`Error::Unsupported`] for another dtype; [`Error::Range`] for a `u64` beyond
/// `i64`; [`Error::Invalid`] if the file is malformed, ends early, or goes on after its last element.
pub fn read_npy(mut reader: impl Read) -> Result<Array> {
    let header = read_header(&mut reader)?;
    if !header.is_fortran {
        return read_array(reader, &header.descr, header.shape);
    }
    let bytes = read_exactly(&mut reader, header.bytes()?, false, "elements")?;
    check_end(&mut reader, &header.shape)?;
    read_array(&header.in_order(&bytes)?[..], &header.descr, header.shape)
}

/// Reads an array of this dtype and shape up to the end of `reader`.
pub(super) fn read_array(reader: impl Read, descr: &str, shape: Shape) -> Result<Array> {
    let (big, dtype) = byte_order(descr);
    Ok(match dtype {
        "b1" => Array::U8(read_elements::<u8>(reader, shape, big)?.map(|&v| u8::from(v != 0))),
        "u1" => Array::U8(read_elements(reader, shape, big)?),
        "i1" => Array::I8(read_elements(reader, shape, big)?),
        "u2" => Array::I32(read_elements::<u16>(reader, shape, big)?.map(|&v| v.into())),
        "i2" => Array::I16(read_elements(reader, shape, big)?),
        "u4" => Array::I64(read_elements::<u32>(reader, shape, big)?.map(|&v| v.into())),
        "i4" => Array::I32(read_elements(reader, shape, big)?),
        "u8" => Array::I64(signed(&read_elements(reader, shape, big)?)?),
        "i8" => Array::I64(read_elements(reader, shape, big)?),
        "f2" => Array::F32(read_elements(reader, shape, big)?.map(|&bits| half_float(bits))),
        "f4" => Array::F32(read_elements(reader, shape, big)?),
        "f8" => Array::F64(read_elements(reader, shape, big)?),
        _ => return Err(unsupported(descr)),
    })
}

/// The number whose bits as `float16` these are.
pub(crate) fn half_float(bits: u16) -> f32 {
    let (sign, exponent, fraction) =
        ((bits as u32 & 0x8000) << 16, bits as u32 >> 10 & 31, bits as u32 & 0x3FF);
    match exponent {
        0 => f32::from_bits(sign | (fraction as f32 * f32::exp2(-24.0)).to_bits()),
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The bytes of a `.npy` file of version 1 that holds `tensor`.
///
/// # Panics
/// If the shape does not fit the 64 KiB of that version's header: some thousand axes; NumPy has at most 64.
pub fn write_npy<T: Element>(tensor: &Tensor<T>) -> Vec<u8> {
    let sizes: String = tensor.shape().iter().map(|size| format!("{size}, ")).collect();
    let sizes =
        if tensor.shape().len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut header =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sizes}), }}", T::DESCR);
    // The elements begin at a multiple of 64 bytes.
    header.extend(std::iter::repeat_n(' ', 63 - (MAGIC.len() + 4 + header.len()) % 64));
    header.push('\n');
    let len = u16::try_from(header.len()).expect("a shape that fits 64 KiB");

    let mut bytes = Vec::with_capacity(74 + header.len() + size_of_val(tensor.data()));
    bytes.extend(MAGIC);
    bytes.extend([1, 0]);
    bytes.extend(len.to_le_bytes());
    bytes.extend(header.as_bytes());
    tensor.data().iter().for_each(|element| element.encode(&mut bytes));
    bytes
}

/// Whether the bytes of an element are in big-endian order, and the type without that.
fn byte_order(descr: &str) -> (bool, &str) {
    match descr.split_at_checked(1) {
        Some(("<" | "|", dtype)) => (false, dtype),
        Some((">", dtype)) => (true, dtype),
        _ => (false, descr),
    }
}

fn read_elements<T: Element>(mut reader: impl Read, shape: Shape, big: bool) -> Result<Tensor<T>> {
    let data = read_exactly(&mut reader, checked_len(&shape)?, big, "elements")?;
    check_end(&mut reader, &shape)?;
    Tensor::new(shape, data)
}

pub(super) fn check_end(reader: &mut impl Read, shape: &[usize]) -> Result<()> {
    match reader.take(1).read_to_end(&mut Vec::new())? {
        0 => Ok(()),
        _ => bail!(Invalid, "bytes after the last element of shape {shape:?}"),
    }
}

/// Reads before it believes: memory grows with what is there, not with `len`, and never beyond it.
pub(super) fn read_exactly<T: Element>(
    reader: &mut impl Read,
    len: usize,
    big: bool,
    what: &str,
) -> Result<Vec<T>> {
    let size = size_of::<T>();
    let (mut elements, mut bytes) = (Vec::new(), Vec::new());
    while elements.len() < len {
        let count = (len - elements.len()).min(1 << 16);
        bytes.clear();
        let got = reader.by_ref().take((count * size) as u64).read_to_end(&mut bytes)?;
        if got != count * size {
            let got = elements.len() * size + got;
            bail!(Invalid, "the {what} end after {got} of {} bytes", len * size);
        }
        if big {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        if elements.capacity() - elements.len() < count {
            let more = elements.len().max(count).min(len - elements.len());
            let out_of_memory = |_| std::io::Error::from(std::io::ErrorKind::OutOfMemory);
            elements.try_reserve_exact(more).map_err(out_of_memory)?;
        }
        elements.extend(T::decode(&bytes));
    }
    Ok(elements)
}

fn signed(unsigned: &Tensor<u64>) -> Result<Tensor<i64>> {
    if let Some(v) = unsigned.data().iter().find(|&&v| v > i64::MAX as u64) {
        bail!(Range, "{v} is beyond int64");
    }
    Ok(unsigned.map(|&v| v as i64))
}

/// What stands before the elements.
#[derive(Debug)]
pub(super) struct Header {
    pub descr: String,
    pub shape: Shape,
    /// Whether the first axis is the fastest in the file.
    pub is_fortran: bool,
    /// Bytes before the first element.
    pub start: u64,
}

impl Header {
    /// Bytes of an element.
    pub fn size(&self) -> Result<usize> {
        match byte_order(&self.descr).1 {
            "b1" | "u1" | "i1" => Ok(1),
            "u2" | "i2" | "f2" => Ok(2),
            "u4" | "i4" | "f4" => Ok(4),
            "u8" | "i8" | "f8" => Ok(8),
            _ => Err(unsupported(&self.descr)),
        }
    }

    /// The bytes of elements that are in Fortran order, in that of C.
    pub fn in_order(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let size = self.size()?;
        let reversed: Shape = self.shape.iter().rev().copied().collect();
        let mut steps = strides(&reversed);
        steps.reverse();
        let elements = strided_indices(self.shape.clone(), steps);
        Ok(elements.flat_map(|i| &bytes[i * size..(i + 1) * size]).copied().collect())
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> Result<usize> {
        let len = checked_len(&self.shape)?.checked_mul(self.size()?);
        len.ok_or_else(|| Error::Range(format!("shape {:?} is too large", self.shape)))
    }
}

fn unsupported(descr: &str) -> Error {
    Error::Unsupported(format!(
        "dtype \"{descr}\"; accepted are bool, int8 to int64, uint8 to uint64, float16, float32, float64"
    ))
}

pub(super) fn read_header(reader: &mut impl Read) -> Result<Header> {
    let prefix = read_exactly::<u8>(reader, MAGIC.len() + 2, false, "magic bytes")?;
    let Some(&[major, minor]) = prefix.strip_prefix(MAGIC) else {
        bail!(Invalid, "not a .npy file");
    };
    let len_bytes = match (major, minor) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        _ => bail!(Unsupported, ".npy version {major}.{minor}"),
    };
    let len = read_exactly::<u8>(reader, len_bytes, false, "header")?;
    let len = len.iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
    if len > MAX_HEADER {
        bail!(Invalid, "a header of {len} bytes; at most {MAX_HEADER} are expected");
    }
    let start = (prefix.len() + len_bytes + len) as u64;
    match String::from_utf8(read_exactly(reader, len, false, "header")?) {
        Ok(text) => Literal(&text).header(start),
        Err(_) => bail!(Invalid, "malformed header: not a text"),
    }
}

/// What is left to read of a Python literal such as
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn header(&mut self, start: u64) -> Result<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.eat("}") {
            let key = self.string()?;
            self.expect(":")?;
            match key {
                "descr" => descr = Some(self.string()?.to_owned()),
                "fortran_order" if self.eat("True") => fortran_order = Some(true),
                "fortran_order" => fortran_order = Some(self.expect("False").map(|()| false)?),
                "shape" => shape = Some(self.shape()?),
                _ => bail!(Invalid, "malformed header: unknown key \"{key}\""),
            }
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(is_fortran), Some(shape)) if self.0.trim().is_empty() => {
                Ok(Header { descr, shape, is_fortran, start })
            }
            _ => bail!(Invalid, "malformed header: not descr, fortran_order and shape alone"),
        }
    }

    fn shape(&mut self) -> Result<Shape> {
        let mut shape = Shape::new();
        self.expect("(")?;
        while !self.eat(")") {
            let rest = self.0.trim_start();
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            match rest[..digits].parse() {
                Ok(size) => shape.push(size),
                Err(_) => return Err(self.unexpected("an axis size")),
            }
            self.0 = &rest[digits..];
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn string(&mut self) -> Result<&'a str> {
        let rest = self.0.trim_start();
        if rest.starts_with('[') {
            bail!(Unsupported, "structured dtypes");
        }
        for quote in ['\'', '"'] {
            if let Some((text, rest)) = rest.strip_prefix(quote).and_then(|r| r.split_once(quote)) {
                self.0 = rest;
                return Ok(text);
            }
        }
        Err(self.unexpected("a string"))
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.unexpected(token)) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let rest: String = self.0.trim_start().chars().take(20).collect();
        Error::Invalid(format!("malformed header: expected {wanted} before {rest:?}"))
    }
}

#[cfg(test)]
mod tests;
