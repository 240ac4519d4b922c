//! `TensorProto` ↔ tensors.

use std::ops::RangeInclusive;

use super::external::Folder;
use super::proto::{TensorProto, data_type as dt};
use crate::codes::{CodeTensor, Codes};
use crate::data::npy::half_float;
use crate::error::{Result, bail};
use crate::ops::Input;
use crate::quant::Width;
use crate::tensor::{MAX_RANK, Shape, Tensor, checked_len};

/// The numbers of an ONNX tensor.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    Real(Tensor<f32>),
    /// Integers of 32 or 64 bits, or truth values; the `data_type` tells which. While they are computed with, of any
    /// number of bits.
    Ints(Tensor<i64>, i32),
    /// Integers of 4, 8 or 16 bits and their `data_type`.
    Narrow(CodeTensor, i32),
}

impl From<Numbers> for Input {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::Real(t) => Input::Real(t),
            Numbers::Ints(t, _) => Input::Ints(t),
            Numbers::Narrow(t, data_type) => Input::Ints(widened(&t, data_type)),
        }
    }
}

/// What is subtracted from unsigned integers of 4, 8 or 16 bits to make them signed, as codes are.
pub(super) fn half(data_type: i32) -> i64 {
    match data_type {
        dt::UINT4 => 1 << 3,
        dt::UINT8 => 1 << 7,
        dt::UINT16 => 1 << 15,
        _ => 0,
    }
}

/// The number whose bits as `bfloat16` these are.
fn brain_float(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// `len` codes of 4 bits, two of which are a byte, the first the lower half; `top` makes unsigned ones signed.
fn unpacked(pairs: &[u8], len: usize, top: u8) -> Vec<i8> {
    let halves = pairs.iter().flat_map(|pair| [pair << 4, pair & 0xF0]);
    halves.take(len).map(|high| (high ^ top << 4) as i8 >> 4).collect()
}

/// The reverse of [`unpacked`].
fn packed(codes: &[i32]) -> Vec<u8> {
    let half = |code: Option<&i32>| code.map_or(0, |&code| code as u8 & 0xF);
    codes.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 4).collect()
}

/// The integers of this type, as far as they are known; those of 64 bits without a sign are as far as those with one.
pub(super) fn range(data_type: i32) -> Option<RangeInclusive<i64>> {
    Some(match data_type {
        dt::INT8 => i8::MIN.into()..=i8::MAX.into(),
        dt::UINT8 => 0..=u8::MAX.into(),
        dt::INT16 => i16::MIN.into()..=i16::MAX.into(),
        dt::UINT16 => 0..=u16::MAX.into(),
        dt::INT32 => i32::MIN.into()..=i32::MAX.into(),
        dt::UINT32 => 0..=u32::MAX.into(),
        dt::INT64 => i64::MIN..=i64::MAX,
        dt::UINT64 => 0..=i64::MAX,
        dt::BOOL => 0..=1,
        _ => return None,
    })
}

/// `numbers`, which must lie in the [`range`] of a type of 8 or 16 bits, as integers of this type.
pub(super) fn narrowed(numbers: &Tensor<i64>, data_type: i32) -> Numbers {
    let width = if matches!(data_type, dt::INT8 | dt::UINT8) { Width::W8 } else { Width::W16 };
    let codes = numbers.map(|&i| (i - half(data_type)) as i32);
    Numbers::Narrow(CodeTensor::new(width, codes), data_type)
}

/// [`Numbers::Narrow`] as they are in the file.
pub(super) fn widened(codes: &CodeTensor, data_type: i32) -> Tensor<i64> {
    codes.widened().map(|&code| code as i64 + half(data_type))
}

impl Numbers {
    /// Sizes of the axes.
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Real(t) => t.shape(),
            Self::Ints(t, _) => t.shape(),
            Self::Narrow(t, _) => t.shape(),
        }
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// The same under another shape.
    pub(super) fn reshape(self, shape: Shape) -> Result<Self> {
        Ok(match self {
            Self::Real(t) => Self::Real(t.reshape(shape)?),
            Self::Ints(t, data_type) => Self::Ints(t.reshape(shape)?, data_type),
            Self::Narrow(t, data_type) => Self::Narrow(t.reshape(shape)?, data_type),
        })
    }

    /// Reads `proto`; external data is looked for in `folder`.
    pub(super) fn read(proto: TensorProto, folder: &mut Folder) -> Result<Self> {
        let shape = shape(&proto)?;
        let len = shape.iter().product::<usize>();
        let bits = match proto.data_type {
            dt::UINT4 | dt::INT4 => 4,
            dt::UINT8 | dt::INT8 | dt::BOOL => 8,
            dt::UINT16 | dt::INT16 | dt::FLOAT16 | dt::BFLOAT16 => 16,
            dt::FLOAT | dt::INT32 | dt::UINT32 => 32,
            dt::INT64 | dt::UINT64 | dt::DOUBLE => 64,
            other => {
                bail!(Unsupported, "tensor \"{}\" is made of {}", proto.name, dt::name(other))
            }
        };
        let bytes = len.saturating_mul(bits).div_ceil(8);
        let raw = match check_fields(&proto)? {
            "external data" => Some(folder.read(&proto, bytes)?),
            "raw_data" => proto.raw_data.map(Vec::from),
            _ => None,
        };
        let (name, data_type) = (proto.name, proto.data_type);
        let check = |got: usize, expected: usize, unit: &str| match got == expected {
            true => Ok(()),
            false => bail!(
                Invalid,
                "tensor \"{name}\" of shape {shape:?} holds {got} {unit}, expected {expected}"
            ),
        };
        if let Some(raw) = &raw {
            check(raw.len(), bytes, "bytes")?;
        }
        let real = |data: Vec<f32>| {
            check(data.len(), len, "elements")?;
            Tensor::new(shape.clone(), data).map(Self::Real)
        };
        let ints = |data: Vec<i64>| {
            check(data.len(), len, "elements")?;
            Tensor::new(shape.clone(), data).map(|t| Self::Ints(t, data_type))
        };
        let narrow = |codes: Codes| Ok(Self::Narrow(codes.under(shape.clone())?, data_type));
        let top = half(data_type);
        match (data_type, raw) {
            (dt::FLOAT, Some(raw)) => real(decode(&raw, f32::from_le_bytes)?),
            (dt::FLOAT, None) => real(proto.float_data),
            (dt::DOUBLE, Some(raw)) => real(decode(&raw, |b| f64::from_le_bytes(b) as f32)?),
            (dt::DOUBLE, None) => real(proto.double_data.iter().map(|&x| x as f32).collect()),
            (dt::INT4 | dt::UINT4, raw) => {
                let pairs = match raw {
                    Some(raw) => raw,
                    None => {
                        let pairs = proto.int32_data.iter().map(|&pair| match pair {
                            -0x80..=0xFF => Ok(pair as u8),
                            _ => bail!(
                                Invalid,
                                "tensor \"{name}\" holds {pair}, which is no pair of 4 bits"
                            ),
                        });
                        pairs.collect::<Result<_>>()?
                    }
                };
                check(pairs.len(), bytes, "bytes")?;
                narrow(Codes::I8(unpacked(&pairs, len, top as u8)))
            }
            (dt::FLOAT16 | dt::BFLOAT16, raw) => {
                let bits = match raw {
                    Some(raw) => decode(&raw, u16::from_le_bytes)?,
                    None => {
                        let bits = proto.int32_data.iter().map(|&bits| match u16::try_from(bits) {
                            Ok(bits) => Ok(bits),
                            Err(_) => bail!(
                                Invalid,
                                "tensor \"{name}\" holds {bits}, which has more than 16 bits"
                            ),
                        });
                        bits.collect::<Result<_>>()?
                    }
                };
                let number = if data_type == dt::FLOAT16 { half_float } else { brain_float };
                real(bits.into_iter().map(number).collect())
            }
            (dt::INT64, Some(raw)) => ints(decode(&raw, i64::from_le_bytes)?),
            (dt::INT64, None) => ints(proto.int64_data),
            (dt::UINT32, Some(raw)) => ints(decode(&raw, |b| u32::from_le_bytes(b).into())?),
            (dt::UINT32 | dt::UINT64, raw) => {
                let data = match raw {
                    Some(raw) => decode(&raw, u64::from_le_bytes)?,
                    None => proto.uint64_data,
                };
                let limit = if data_type == dt::UINT32 { u32::MAX as u64 } else { i64::MAX as u64 };
                if let Some(bad) = data.iter().find(|&&i| i > limit) {
                    bail!(Unsupported, "tensor \"{name}\" holds {bad}, more than {limit}");
                }
                ints(data.into_iter().map(|i| i as i64).collect())
            }
            (dt::INT32, Some(raw)) => ints(decode(&raw, |b| i32::from_le_bytes(b).into())?),
            (dt::BOOL, Some(raw)) => ints(decode(&raw, |[b]: [u8; 1]| b.into())?),
            (dt::INT16 | dt::UINT16, Some(raw)) => {
                narrow(Codes::I16(decode(&raw, |b| i16::from_le_bytes(b) ^ top as u16 as i16)?))
            }
            (_, Some(mut raw)) => {
                raw.iter_mut().for_each(|byte| *byte ^= top as u8);
                // The bytes stay where they are.
                narrow(Codes::I8(raw.into_iter().map(|byte| byte as i8).collect()))
            }
            (_, None) => {
                let range = match data_type {
                    dt::INT8 => -128..=127,
                    dt::UINT8 => 0..=255,
                    dt::INT16 => -0x8000..=0x7FFF,
                    dt::UINT16 => 0..=0xFFFF,
                    dt::BOOL => 0..=1,
                    _ => i32::MIN..=i32::MAX,
                };
                let data = proto.int32_data;
                if let Some(bad) = data.iter().find(|i| !range.contains(i)) {
                    let expected = dt::name(data_type);
                    bail!(Invalid, "tensor \"{name}\" holds {bad}, which is no {expected}");
                }
                if matches!(data_type, dt::BOOL | dt::INT32) {
                    return ints(data.iter().map(|&i| i.into()).collect());
                }
                check(data.len(), len, "elements")?;
                let width = if bits == 8 { Width::W8 } else { Width::W16 };
                narrow(Codes::new(width, data.iter().map(|&i| i - top as i32)))
            }
        }
    }
}

/// The sizes of the axes, if they are some, and the number of elements is one.
fn shape(proto: &TensorProto) -> Result<Shape> {
    let (name, dims) = (&proto.name, &proto.dims);
    let shape = dims.iter().map(|&d| match usize::try_from(d) {
        Ok(d) => Ok(d),
        Err(_) => bail!(Invalid, "tensor \"{name}\" has a negative size: {dims:?}"),
    });
    let shape = shape.collect::<Result<Shape>>()?;
    if shape.len() > MAX_RANK {
        bail!(Unsupported, "tensor \"{name}\" has {} axes, more than {MAX_RANK}", shape.len());
    }
    match checked_len(&shape) {
        Err(_) => bail!(Invalid, "tensor \"{name}\" of shape {dims:?} has too many elements"),
        // A list may be empty, where it says that there is nothing of a kind.
        Ok(0) if shape.len() > 1 => {
            bail!(Unsupported, "tensor \"{name}\" of shape {dims:?} is empty")
        }
        Ok(_) => Ok(shape),
    }
}

/// The field of `proto` that holds its numbers: there must be only one, that of its data type. The last
/// one if all are empty.
fn check_fields(proto: &TensorProto) -> Result<&'static str> {
    let name = &proto.name;
    if proto.segment.is_some() {
        bail!(Unsupported, "tensor \"{name}\" is a segment of another");
    }
    let external = match proto.data_location {
        0 if proto.external_data.is_empty() => false,
        0 => bail!(Invalid, "tensor \"{name}\" has external data, and says that it has none"),
        1 => true,
        other => bail!(Unsupported, "tensor \"{name}\" has data location {other}"),
    };
    let typed = match proto.data_type {
        dt::FLOAT => "float_data",
        dt::DOUBLE => "double_data",
        dt::INT64 => "int64_data",
        dt::UINT32 | dt::UINT64 => "uint64_data",
        _ => "int32_data",
    };
    let fields = [
        ("external data", external),
        ("raw_data", proto.raw_data.as_ref().is_some_and(|raw| !raw.is_empty())),
        ("float_data", !proto.float_data.is_empty()),
        ("int32_data", !proto.int32_data.is_empty()),
        ("string_data", !proto.string_data.is_empty()),
        ("int64_data", !proto.int64_data.is_empty()),
        ("double_data", !proto.double_data.is_empty()),
        ("uint64_data", !proto.uint64_data.is_empty()),
    ];
    let mut given = fields.iter().filter(|(_, given)| *given).map(|&(field, _)| field);
    match (given.next(), given.next()) {
        (None, _) => Ok(if proto.raw_data.is_some() { "raw_data" } else { typed }),
        (Some(field), None) if field == typed || fields[..2].iter().any(|f| f.0 == field) => {
            Ok(field)
        }
        (Some(field), None) => {
            let data_type = dt::name(proto.data_type);
            bail!(Invalid, "tensor \"{name}\" is made of {data_type}, but has {field}")
        }
        (Some(a), Some(b)) => bail!(Invalid, "tensor \"{name}\" has both {a} and {b}"),
    }
}

/// `raw` as numbers of `N` bytes.
fn decode<const N: usize, T>(raw: &[u8], decode: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let raw = raw.as_chunks::<N>().0;
    let mut numbers = Vec::new();
    if numbers.try_reserve_exact(raw.len()).is_err() {
        return Err(std::io::Error::from(std::io::ErrorKind::OutOfMemory).into());
    }
    numbers.extend(raw.iter().map(|&bytes| decode(bytes)));
    Ok(numbers)
}

fn proto(name: &str, shape: &[usize], data_type: i32, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type,
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

pub(super) fn write_real(name: &str, t: &Tensor<f32>) -> TensorProto {
    proto(name, t.shape(), dt::FLOAT, t.data().iter().flat_map(|x| x.to_le_bytes()).collect())
}

pub(super) fn write_ints(name: &str, t: &Tensor<i64>) -> TensorProto {
    proto(name, t.shape(), dt::INT64, t.data().iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A number without a sign.
pub(super) fn write_byte(name: &str, byte: u8) -> TensorProto {
    proto(name, &[], dt::UINT8, vec![byte])
}

pub(super) fn write_codes(name: &str, t: &Tensor<i32>, width: Width) -> TensorProto {
    let codes = t.data().iter();
    match width {
        Width::W4 => proto(name, t.shape(), dt::INT4, packed(t.data())),
        Width::W8 => proto(name, t.shape(), dt::INT8, codes.map(|&c| c as i8 as u8).collect()),
        Width::W16 => proto(
            name,
            t.shape(),
            dt::INT16,
            codes.flat_map(|&c| (c as i16).to_le_bytes()).collect(),
        ),
        Width::W32 => {
            proto(name, t.shape(), dt::INT32, codes.flat_map(|c| c.to_le_bytes()).collect())
        }
    }
}
