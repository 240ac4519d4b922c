//! A model file → its messages. Of a large file only these are ever in memory.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

use prost::Message;
use prost::bytes::{Buf, Bytes};

use super::proto::ModelProto;
use crate::error::{Result, bail};

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<ModelProto> {
    let file = File::open(path)?;
    let info = file.metadata()?;
    if !info.is_file() {
        return decode(&*std::fs::read(path)?);
    }
    let rest = usize::try_from(info.len()).unwrap_or(usize::MAX);
    let mut reader = Reader { file, buffer: Vec::new(), used: 0, rest, error: None };
    reader.refill();
    let model = decode(&mut reader);
    match reader.error {
        Some(error) => Err(error.into()),
        None => model,
    }
}

pub(super) fn decode(bytes: impl Buf) -> Result<ModelProto> {
    match ModelProto::decode(bytes) {
        Ok(model) => Ok(model),
        Err(e) => bail!(Invalid, "not an ONNX model: {e}"),
    }
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

    fn advance(&mut self, mut count: usize) {
        while count > 0 && self.has_remaining() {
            let step = count.min(self.chunk().len());
            self.used += step;
            count -= step;
            self.refill();
        }
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

    #[test]
    fn a_file_that_becomes_shorter_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        let model = ModelProto { producer_name: "x".repeat(100), ..ModelProto::default() };
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        let file = File::open(&path).unwrap();
        let mut reader = Reader { file, buffer: Vec::new(), used: 0, rest: 1000, error: None };
        reader.refill();
        assert!(decode(&mut reader).is_err() || reader.error.is_some());
        assert_eq!(reader.error.unwrap().kind(), ErrorKind::UnexpectedEof);
        assert!(read(dir.path()).is_err(), "a folder");
    }
}
