//! `TensorProto` ↔ tensors.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::proto::{TensorProto, data_type as dt};
use crate::codes::{CodeTensor, Codes};
use crate::error::{Result, bail};
use crate::ops::Input;
use crate::quant::Width;
use crate::tensor::{Shape, Tensor, checked_len};

/// The numbers of an ONNX tensor.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    Real(Tensor<f32>),
    /// Integers of 32 or 64 bits, or truth values; the `data_type` tells which.
    Ints(Tensor<i64>, i32),
    /// Integers of 8 or 16 bits and their `data_type`.
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

/// What is subtracted from unsigned integers of 8 or 16 bits to make them signed, as codes are.
fn half(data_type: i32) -> i64 {
    match data_type {
        dt::UINT8 => 1 << 7,
        dt::UINT16 => 1 << 15,
        _ => 0,
    }
}

/// [`Numbers::Narrow`] as they are in the file.
pub(super) fn widened(codes: &CodeTensor, data_type: i32) -> Tensor<i64> {
    codes.widened().map(|&code| code as i64 + half(data_type))
}

impl Numbers {
    /// Reads `proto`; external data is looked for in `dir`.
    pub(super) fn read(mut proto: TensorProto, dir: Option<&Path>) -> Result<Self> {
        let shape = proto.dims.iter().map(|&d| match usize::try_from(d) {
            Ok(d) => Ok(d),
            Err(_) => {
                bail!(Invalid, "tensor \"{}\" has a negative size: {:?}", proto.name, proto.dims)
            }
        });
        let shape = shape.collect::<Result<Shape>>()?;
        let len = checked_len(&shape)?;
        // A list may be empty, where it says that there is nothing of a kind.
        if len == 0 && shape.len() > 1 {
            bail!(Unsupported, "tensor \"{}\" of shape {shape:?} is empty", proto.name);
        }
        let width = match proto.data_type {
            dt::UINT8 | dt::INT8 | dt::BOOL => 1,
            dt::UINT16 | dt::INT16 => 2,
            dt::FLOAT | dt::INT32 => 4,
            dt::INT64 | dt::DOUBLE => 8,
            other => bail!(Unsupported, "tensor \"{}\" has data type {other}", proto.name),
        };
        let raw = match proto.data_location {
            0 => proto.raw_data.take().map(Vec::from),
            1 => Some(read_external(&proto, dir, len * width)?),
            other => bail!(Unsupported, "tensor \"{}\" has data location {other}", proto.name),
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
            check(raw.len(), len * width, "bytes")?;
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
            (dt::FLOAT, Some(raw)) => real(decode(&raw, f32::from_le_bytes)),
            (dt::FLOAT, None) => real(proto.float_data),
            (dt::DOUBLE, Some(raw)) => real(decode(&raw, |b| f64::from_le_bytes(b) as f32)),
            (dt::DOUBLE, None) => real(proto.double_data.iter().map(|&x| x as f32).collect()),
            (dt::INT64, Some(raw)) => ints(decode(&raw, i64::from_le_bytes)),
            (dt::INT64, None) => ints(proto.int64_data),
            (dt::INT32, Some(raw)) => ints(decode(&raw, |b| i32::from_le_bytes(b).into())),
            (dt::BOOL, Some(raw)) => ints(decode(&raw, |[b]: [u8; 1]| b.into())),
            (dt::INT16 | dt::UINT16, Some(raw)) => {
                narrow(Codes::I16(decode(&raw, |b| i16::from_le_bytes(b) ^ top as u16 as i16)))
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
                    bail!(Invalid, "tensor \"{name}\" holds {bad}, beyond its data type");
                }
                if matches!(data_type, dt::BOOL | dt::INT32) {
                    return ints(data.iter().map(|&i| i.into()).collect());
                }
                check(data.len(), len, "elements")?;
                let width = if width == 1 { Width::W8 } else { Width::W16 };
                narrow(Codes::new(width, data.iter().map(|&i| i - top as i32)))
            }
        }
    }
}

fn decode<const N: usize, T>(raw: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)).collect()
}

/// The bytes of a tensor that lie in a file beside the model. The path may not leave the folder.
fn read_external(proto: &TensorProto, dir: Option<&Path>, expected: usize) -> Result<Vec<u8>> {
    let entry =
        |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let name = &proto.name;
    let (Some(dir), Some(location)) = (dir, entry("location")) else {
        bail!(Invalid, "the external data of tensor \"{name}\" has no location");
    };
    let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
    if !Path::new(location).components().all(inside) {
        bail!(
            Invalid,
            "the external data of tensor \"{name}\" lies outside the model's folder: {location}"
        );
    }
    let number = |key: &str| match entry(key).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(n)) => Ok(Some(n)),
        Some(Err(_)) => bail!(Invalid, "the external data of tensor \"{name}\" has a broken {key}"),
    };
    if number("length")?.is_some_and(|length| length != expected as u64) {
        bail!(Invalid, "the external data of tensor \"{name}\" is not {expected} bytes long");
    }
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(dir.join(location))?;
        file.seek(SeekFrom::Start(number("offset").ok().flatten().unwrap_or(0)))?;
        let mut bytes = Vec::new();
        file.take(expected as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    number("offset")?;
    match read() {
        Ok(bytes) => Ok(bytes),
        Err(e) => bail!(Invalid, "the external data of tensor \"{name}\" in {location}: {e}"),
    }
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

pub(super) fn write_codes(name: &str, t: &Tensor<i32>, width: Width) -> TensorProto {
    let codes = t.data().iter();
    match width {
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
