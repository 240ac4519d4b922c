//! A model file → its messages. Of a large file only these are ever in memory, and they are counted
//! before there is memory for them.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use prost::bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::proto::{MetadataProto, ModelProto};
use crate::error::{Result, bail};

/// Most messages within each other, as where they are decoded.
const MAX_DEPTH: usize = 100;
/// Most messages and texts of a file: two bytes there make some hundred in memory.
const MAX_PARTS: usize = 1 << 21;

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<ModelProto> {
    match path.metadata()?.is_file() {
        true => read_file(path),
        false => decode(&std::fs::read(path)?),
    }
}

/// What the file at `path` says about itself; nothing of what is no file, as it can be read only once.
pub(super) fn read_metadata(path: &Path) -> Result<MetadataProto> {
    match path.metadata()?.is_file() {
        true => read_file(path),
        false => Ok(MetadataProto::default()),
    }
}

fn read_file<M: Message + Default>(path: &Path) -> Result<M> {
    let file = File::open(path)?;
    let info = file.metadata()?;
    let rest = usize::try_from(info.len()).unwrap_or(usize::MAX);
    let mut reader = Reader { file, buffer: Vec::new(), used: 0, rest, error: None };
    reader.refill();
    check_parts(&mut reader)?;
    if reader.error.is_none() {
        reader.file.rewind()?;
        (reader.rest, reader.used) = (rest, reader.buffer.len());
        reader.refill();
    }
    let model = decode_counted(&mut reader);
    match reader.error {
        Some(error) => Err(error.into()),
        None => model,
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<ModelProto> {
    check_parts(&mut &*bytes)?;
    decode_counted(bytes)
}

fn decode_counted<M: Message + Default>(bytes: impl Buf) -> Result<M> {
    match M::decode(bytes) {
        Ok(model) => Ok(model),
        Err(e) => bail!(Invalid, "not an ONNX model: {e}"),
    }
}

/// The fields of a message that are messages or texts, and the like in these.
struct Parts(&'static [(u32, &'static Parts)]);

static LEAF: Parts = Parts(&[]);
static MODEL: Parts = Parts(&[(7, &GRAPH), (8, &OPSET), (14, &ENTRY), (20, &LEAF), (25, &LEAF)]);
static OPSET: Parts = Parts(&[(1, &LEAF)]);
static GRAPH: Parts =
    Parts(&[(1, &NODE), (5, &TENSOR), (11, &VALUE), (12, &VALUE), (13, &VALUE), (15, &LEAF)]);
static NODE: Parts = Parts(&[(1, &LEAF), (2, &LEAF), (3, &LEAF), (4, &LEAF), (5, &ATTRIBUTE)]);
static ATTRIBUTE: Parts = Parts(&[(1, &LEAF), (5, &TENSOR), (6, &GRAPH), (9, &LEAF)]);
static TENSOR: Parts = Parts(&[(6, &LEAF), (13, &ENTRY)]);
static ENTRY: Parts = Parts(&[(1, &LEAF), (2, &LEAF)]);
static VALUE: Parts = Parts(&[(1, &LEAF), (2, &TYPE)]);
static TYPE: Parts = Parts(&[(1, &TENSOR_TYPE)]);
static TENSOR_TYPE: Parts = Parts(&[(2, &SHAPE)]);
static SHAPE: Parts = Parts(&[(1, &LEAF)]);

/// Refuses a model with more than [`MAX_PARTS`]. What is malformed is left to be decoded.
fn check_parts(model: &mut impl Buf) -> Result<()> {
    let mut left = MAX_PARTS;
    match count(model, [0, 0], &MODEL, &mut left) {
        Ok(None) => bail!(Unsupported, "a model of more than {MAX_PARTS} parts"),
        Ok(Some(())) | Err(_) => Ok(()),
    }
}

/// Subtracts from `left` the parts of a message at this depth that ends where `end` bytes remain; `None` if they are more.
fn count(
    buf: &mut impl Buf,
    [depth, end]: [usize; 2],
    parts: &Parts,
    left: &mut usize,
) -> Result<Option<()>, DecodeError> {
    while buf.remaining() > end {
        let (tag, wire) = decode_key(buf)?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, tag, buf, DecodeContext::default())?;
            continue;
        }
        let len = decode_varint(buf)?;
        let Some(end) = usize::try_from(len).ok().and_then(|len| buf.remaining().checked_sub(len))
        else {
            return Ok(Some(()));
        };
        if let Some((_, parts)) = parts.0.iter().find(|(field, _)| *field == tag) {
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => return Ok(None),
            }
            let inside = !parts.0.is_empty() && depth < MAX_DEPTH;
            if inside && count(buf, [depth + 1, end], parts, left)?.is_none() {
                return Ok(None);
            }
        }
        buf.advance(buf.remaining().saturating_sub(end));
    }
    Ok(Some(()))
}

/// A file as a buffer. An error ends it.
struct Reader {
    file: File,
    /// A part of the file, of which `used` bytes are no longer needed; then come `rest` bytes.
    buffer: Vec<u8>,
    used: usize,
    rest: usize,
    error: Option<Error>,
}

impl Reader {
    /// Appends the next `len` bytes of the file to `bytes`.
    fn take(&mut self, len: usize, bytes: &mut Vec<u8>) {
        let error = match (&self.file).take(len as u64).read_to_end(bytes) {
            Ok(got) if got == len => return self.rest -= len,
            Ok(_) => ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        };
        (self.rest, self.error) = (0, Some(error));
    }

    /// Leaves out the next `len` bytes of the file.
    fn skip(&mut self, len: usize) {
        let len = len.min(self.rest);
        match self.file.seek(SeekFrom::Current(len as i64)) {
            Ok(_) => self.rest -= len,
            Err(error) => (self.rest, self.error) = (0, Some(error)),
        }
    }

    /// Never leaves the buffer empty before the end.
    fn refill(&mut self) {
        if self.used == self.buffer.len() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            self.take(self.rest.min(1 << 16), &mut buffer);
            (self.buffer, self.used) = (buffer, 0);
        }
    }
}

impl Buf for Reader {
    fn remaining(&self) -> usize {
        self.chunk().len() + self.rest
    }

    fn chunk(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    fn advance(&mut self, count: usize) {
        let buffered = count.min(self.chunk().len());
        self.used += buffered;
        if count > buffered {
            self.skip(count - buffered);
        }
        self.refill();
    }

    /// What is not in the buffer goes where it belongs at once.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(len);
        let buffered = len.min(self.chunk().len());
        bytes.extend_from_slice(&self.chunk()[..buffered]);
        self.used += buffered;
        self.take(len - buffered, &mut bytes);
        self.refill();
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, TensorProto};

    #[test]
    fn a_file_is_read_as_its_bytes_are() {
        const LARGE: usize = 150_000;
        let bytes = |seed: usize, len| (0..len).map(|i| (i * seed % 251) as u8).collect::<Vec<_>>();
        let tensor = |seed, len| TensorProto {
            name: format!("{seed}"),
            raw_data: Some(bytes(seed, len).into()),
            ..TensorProto::default()
        };
        let initializer = vec![tensor(1, LARGE), tensor(2, 3), tensor(3, 1 << 16), tensor(5, 0)];
        let graph = Some(GraphProto { initializer, ..GraphProto::default() });
        let known = ModelProto { graph, producer_name: "known".into(), ..ModelProto::default() };
        // Field 100 is not known, and as long as 2^17.
        let mut file = [vec![0xA2, 6, 0x80, 0x80, 8], bytes(7, 1 << 17)].concat();
        file.extend(known.encode_to_vec());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        for len in [0, 1, 4, 100, 1 << 16, 1 << 17, file.len() - LARGE, file.len() - 1, file.len()]
        {
            std::fs::write(&path, &file[..len]).unwrap();
            match (read(&path), decode(&file[..len])) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{len} bytes"),
                (got, expected) => assert_eq!(
                    got.unwrap_err().to_string(),
                    expected.unwrap_err().to_string(),
                    "{len} bytes"
                ),
            }
        }
        assert_eq!(read(&path).unwrap(), known);
    }

    /// A pipe has no place to go to.
    #[cfg(unix)]
    #[test]
    fn what_is_in_the_buffer_is_left_out_without_the_file() {
        let (end, _) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(end));
        let mut reader = Reader { file, buffer: vec![1, 2, 3], used: 0, rest: 1, error: None };
        reader.advance(2);
        assert_eq!((reader.chunk(), reader.rest, reader.error.is_none()), (&[3][..], 1, true));
        reader.advance(2);
        assert!(reader.error.is_some());
    }

    #[test]
    fn a_file_that_becomes_shorter_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        let model = ModelProto { producer_name: "x".repeat(100), ..ModelProto::default() };
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        let file = File::open(&path).unwrap();
        let mut reader = Reader { file, buffer: Vec::new(), used: 0, rest: 1000, error: None };
        reader.refill();
        assert!(decode_counted::<ModelProto>(&mut reader).is_err() || reader.error.is_some());
        assert_eq!(reader.error.unwrap().kind(), ErrorKind::UnexpectedEof);
        assert!(read(dir.path()).is_err(), "a folder");
    }
}
