//! Tensors whose numbers lie in a file beside the model.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::proto::TensorProto;
use crate::error::{Result, bail};

/// Bytes that all tensors of a model may have in files beside it.
const MAX_BYTES: u64 = 1 << 33;

/// The model's folder, of which nothing is read but regular files in it.
pub(super) struct Folder {
    path: Option<PathBuf>,
    /// For each file the bytes that may still be read: each twice, as tensors may share them.
    left: HashMap<PathBuf, u64>,
    /// For all files together.
    all_left: u64,
}

/// Where the bytes of a tensor lie.
struct Place<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl Folder {
    /// Nowhere: no tensor may have external data.
    pub(super) fn none() -> Self {
        Self { path: None, left: HashMap::new(), all_left: MAX_BYTES }
    }

    pub(super) fn new(path: Option<&Path>) -> Self {
        // The folder of "model.onnx" is "".
        let path = path.map(|p| if p.as_os_str().is_empty() { ".".into() } else { p.into() });
        Self { path, ..Self::none() }
    }

    /// The bytes of `proto`, which must be as many as `expected`.
    pub(super) fn read(&mut self, proto: &TensorProto, expected: usize) -> Result<Vec<u8>> {
        let name = &proto.name;
        match place(proto).and_then(|place| self.bytes(&place, expected as u64)) {
            Ok(bytes) => Ok(bytes),
            Err(e) => bail!(Invalid, "the external data of tensor \"{name}\": {e}"),
        }
    }

    fn bytes(&mut self, place: &Place, expected: u64) -> Result<Vec<u8>> {
        let &Place { location, offset, length } = place;
        if let Some(length) = length.filter(|&length| length != expected) {
            bail!(Invalid, "length {length}, expected {expected}");
        }
        let path = self.path_of(location)?;
        let mut file = File::open(&path)?;
        let size = file.metadata()?.len();
        if offset.checked_add(expected).is_none_or(|end| end > size) {
            bail!(Invalid, "{expected} bytes at {offset} of \"{location}\", which has {size}");
        }
        let left = self.left.entry(path).or_insert(size.saturating_mul(2));
        match (left.checked_sub(expected), self.all_left.checked_sub(expected)) {
            (Some(of_file), Some(of_all)) => (*left, self.all_left) = (of_file, of_all),
            _ => bail!(Invalid, "the model asks for \"{location}\" too often"),
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(expected).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The regular file at `location`. It lies in the folder, whatever links there are.
    fn path_of(&self, location: &str) -> Result<PathBuf> {
        let Some(folder) = &self.path else { bail!(Invalid, "there is no folder to look in") };
        let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
        if !Path::new(location).components().all(inside) {
            bail!(Invalid, "\"{location}\" lies outside the model's folder");
        }
        let folder = folder.canonicalize()?;
        let path = match folder.join(location).canonicalize() {
            Ok(path) => path,
            Err(e) => bail!(Invalid, "\"{location}\": {e}"),
        };
        if !path.starts_with(&folder) {
            bail!(Invalid, "\"{location}\" lies outside the model's folder");
        }
        if !path.metadata()?.is_file() {
            bail!(Invalid, "\"{location}\" is not a regular file");
        }
        Ok(path)
    }
}

fn place(proto: &TensorProto) -> Result<Place<'_>> {
    let (mut location, mut offset, mut length) = (None, None, None);
    for entry in &proto.external_data {
        let field = match entry.key.as_str() {
            "location" => &mut location,
            "offset" => &mut offset,
            "length" => &mut length,
            "checksum" => bail!(Unsupported, "a checksum"),
            other => bail!(Unsupported, "key \"{other}\""),
        };
        if field.replace(entry.value.as_str()).is_some() {
            bail!(Invalid, "{} is given twice", entry.key);
        }
    }
    let number = |key: &str, text: Option<&str>| match text.map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(n)) => Ok(Some(n)),
        Some(Err(_)) => bail!(Invalid, "{key} is not a number"),
    };
    let Some(location) = location else { bail!(Invalid, "it has no location") };
    let offset = number("offset", offset)?.unwrap_or(0);
    Ok(Place { location, offset, length: number("length", length)? })
}
