//! NumPy's `.npz`: a zip archive with one `.npy` file per array.

use std::io::{Cursor, Read, Seek, Write};
use std::path::Path;

use zip::read::ZipFile;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::{Array, read_npy};
use super::rows::{Rows, Shared};
use crate::error::{Context, Error, Result, bail};

/// An open archive; arrays are read when asked for.
#[derive(Debug)]
pub struct Npz<R> {
    zip: ZipArchive<R>,
}

impl<R: Read + Seek> Npz<R> {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `reader` holds no zip archive.
    pub fn new(reader: R) -> Result<Self> {
        Ok(Self { zip: ZipArchive::new(reader).map_err(zip_error)? })
    }

    /// The arrays' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let names = self.zip.file_names().flatten();
        let mut names: Vec<_> =
            names.filter_map(|file| Some(file.strip_suffix(".npy")?.to_owned())).collect();
        names.sort();
        names
    }

    /// The array `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the names of all arrays if there is none of that name, and
    /// those of [`read_npy`].
    pub fn array(&mut self, name: &str) -> Result<Array> {
        match self.get(name)? {
            Some(array) => Ok(array),
            None => self.missing(name),
        }
    }

    /// The rows of the array `name`. One that is stored uncompressed stays in `file`, if that is where the
    /// archive is.
    pub(super) fn rows(&mut self, name: &str, file: Option<Shared>) -> Result<Rows> {
        let rows = self.entry(name, |entry| {
            let is_stored = entry.compression() == CompressionMethod::Stored;
            let place = file.zip(entry.data_start()).filter(|_| is_stored);
            Rows::new(entry, place)
        })?;
        match rows {
            Some(rows) => Ok(rows),
            None => self.missing(name),
        }
    }

    fn missing<T>(&self, name: &str) -> Result<T> {
        bail!(Invalid, "no array \"{name}\"; the file has {}", self.names().join(", "))
    }

    /// The array `name` if there is one of that name.
    ///
    /// # Errors
    /// Those of [`read_npy`], and [`Error::Invalid`] if the archive is damaged there.
    pub fn get(&mut self, name: &str) -> Result<Option<Array>> {
        self.entry(name, |entry| read_npy(entry))
    }

    fn entry<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(ZipFile<R>) -> Result<T>,
    ) -> Result<Option<T>> {
        let file = format!("{name}.npy");
        match self.zip.by_name(&file) {
            Ok(entry) => read(entry).in_file(Path::new(&file)).map(Some),
            Err(ZipError::FileNotFound) => Ok(None),
            Err(e) => Err(zip_error(e)).in_file(Path::new(&file)),
        }
    }
}

/// The bytes of an archive of `.npy` files, by the names of their arrays.
///
/// # Errors
/// Two arrays of one name, or names that are too long.
pub fn write_npz(arrays: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, npy) in arrays {
        let large = options.large_file(u32::try_from(npy.len()).is_err());
        zip.start_file(format!("{name}.npy"), large).map_err(zip_error)?;
        zip.write_all(npy)?;
    }
    Ok(zip.finish().map_err(zip_error)?.into_inner())
}

fn zip_error(error: ZipError) -> Error {
    match error {
        ZipError::Io(e) => Error::Io(e),
        e => Error::Invalid(format!("not a readable zip archive: {e}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::npy::write_npy;
    use super::*;
    use crate::tensor::Tensor;

    /// An archive of `(file name, content)`.
    pub fn zip(method: CompressionMethod, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            let options = SimpleFileOptions::default().compression_method(method);
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn two_arrays(method: CompressionMethod) -> Vec<u8> {
        let a = write_npy(&Tensor::new([2, 2], vec![1.5f32, 2.0, 3.0, 4.0]).unwrap());
        zip(method, &[("b.npy", write_npy(&Tensor::from_vec(vec![7i64]))), ("a.npy", a)])
    }

    #[test]
    fn stored_and_deflated_arrays_are_read_by_name() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let bytes = two_arrays(method);
            let mut npz = Npz::new(Cursor::new(&bytes)).unwrap();
            assert_eq!(npz.names(), ["a", "b"]);
            assert_eq!(npz.array("b").unwrap(), Array::I64(Tensor::from_vec(vec![7])));
            assert_eq!(npz.array("a").unwrap().to_f32().data(), [1.5, 2.0, 3.0, 4.0]);
            assert_eq!(npz.get("c").unwrap(), None);
            let error = npz.array("c").unwrap_err().to_string();
            assert_eq!(error, "no array \"c\"; the file has a, b");
        }
    }

    #[test]
    fn errors_name_the_array() {
        let bytes = zip(CompressionMethod::Stored, &[("x.npy", b"\x93NUMPY\x09\0".to_vec())]);
        let error = Npz::new(Cursor::new(bytes)).unwrap().array("x").unwrap_err().to_string();
        assert_eq!(error, "x.npy: unsupported: .npy version 9.0");
        let error = Npz::new(Cursor::new(b"garbage")).unwrap_err().to_string();
        assert!(error.starts_with("not a readable zip archive"), "{error}");
    }

    #[test]
    fn truncated_archives_are_errors() {
        let bytes = two_arrays(CompressionMethod::Deflated);
        for len in 0..bytes.len() {
            let arrays = Npz::new(Cursor::new(&bytes[..len])).and_then(|mut npz| npz.array("a"));
            assert!(arrays.is_err(), "{len} of {} bytes", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn flipped_bits_do_not_panic(at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = two_arrays(CompressionMethod::Deflated);
            bytes[at.index(two_arrays(CompressionMethod::Deflated).len())] ^= 1 << bit;
            if let Ok(mut npz) = Npz::new(Cursor::new(&bytes)) {
                let _ = npz.array("a");
                let _ = npz.array("b");
            }
        }
    }
}
