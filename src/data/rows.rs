//! The rows of an array, one at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use super::npy::{Array, Header, check_end, read_array, read_exactly, read_header};
use crate::error::{Result, bail};

/// An array of which only the row asked for is decoded. It stays in its file where that can be read at any
/// place, else in memory, once and in the file's own dtype.
#[derive(Debug)]
pub(super) struct Rows {
    header: Header,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    /// A file, and where in it the first element is.
    File(Shared, u64),
}

/// A file with one place for all who read it, one at a time.
pub(super) type Shared = Arc<Mutex<File>>;

impl Rows {
    /// The rows of a `.npy`. With a `file` and a `start` of the `.npy` in it, the elements of `reader` are those
    /// bytes of the file: they are read once, so that faults show at once, and left there.
    ///
    /// # Errors
    /// Those of [`super::npy::read_npy`].
    pub fn new(mut reader: impl Read, place: Option<(Shared, u64)>) -> Result<Self> {
        let header = read_header(&mut reader)?;
        let len = header.bytes()?;
        let source = match place.filter(|_| !header.is_fortran) {
            Some((file, start)) => {
                let got = io::copy(&mut reader.by_ref().take(len as u64), &mut io::sink())?;
                if got != len as u64 {
                    bail!(Invalid, "the elements end after {got} of {len} bytes");
                }
                Source::File(file, start + header.start)
            }
            None => {
                let bytes = read_exactly(&mut reader, len, false, "elements")?;
                Source::Memory(if header.is_fortran { header.in_order(&bytes)? } else { bytes })
            }
        };
        check_end(&mut reader, &header.shape)?;
        Ok(Self { header, source })
    }

    /// Sizes of the axes, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    /// Part `[index, …]` of the array as `[1, …]`.
    ///
    /// # Errors
    /// If the file has changed, or a `u64` is beyond `i64`.
    pub fn get(&self, index: usize) -> Result<Array> {
        let mut shape = self.header.shape.clone();
        shape[0] = 1;
        let len = shape.iter().product::<usize>() * self.header.size()?;
        match &self.source {
            Source::Memory(bytes) => {
                read_array(&bytes[index * len..(index + 1) * len], &self.header.descr, shape)
            }
            Source::File(file, start) => {
                let mut bytes = vec![0; len];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start + (index * len) as u64))?;
                file.read_exact(&mut bytes)?;
                drop(file);
                read_array(&bytes[..], &self.header.descr, shape)
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "npz")]
mod tests {
    use std::io::Write;

    use zip::CompressionMethod;

    use super::super::npy::{Element, write_npy};
    use super::super::npz::{Npz, tests::zip};
    use super::*;
    use crate::tensor::Tensor;

    fn shared(file: File) -> Shared {
        Arc::new(Mutex::new(file))
    }

    fn check<T: Element>(values: Vec<T>, expected: [f32; 6]) {
        let npy = write_npy(&Tensor::new([3, 2, 1], values).unwrap());
        let in_file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        };
        let mut all = vec![Rows::new(&npy[..], None).unwrap()];
        let file = in_file(&npy);
        all.push(Rows::new(file.try_clone().unwrap(), Some((shared(file), 0))).unwrap());
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let file = in_file(&zip(method, &[("a.npy", vec![1; 99]), ("x.npy", npy.clone())]));
            let mut npz = Npz::new(file.try_clone().unwrap()).unwrap();
            let rows = npz.rows("x", Some(shared(file))).unwrap();
            let is_stored = method == CompressionMethod::Stored;
            assert_eq!(matches!(rows.source, Source::File(..)), is_stored);
            all.push(rows);
        }
        for rows in all {
            assert_eq!(rows.shape(), [3, 2, 1]);
            for (i, pair) in expected.chunks(2).enumerate() {
                let row = rows.get(i).unwrap().to_f32();
                assert_eq!((row.shape(), row.data()), (&[1, 2, 1][..], pair), "{}", T::DESCR);
            }
        }
    }

    #[test]
    fn rows_are_the_same_from_memory_and_from_files() {
        let real = [1.0, 2.0, 3.0, 4.0, 250.0, 6.0];
        check(vec![1u8, 2, 3, 4, 250, 6], real);
        check(vec![1u16, 2, 3, 4, 250, 6], real);
        check(vec![1u32, 2, 3, 4, 250, 6], real);
        check(vec![1u64, 2, 3, 4, 250, 6], real);
        check(vec![-1i8, 2, -128, 4, 5, 6], [-1.0, 2.0, -128.0, 4.0, 5.0, 6.0]);
        check(vec![1i64, 2, 3, 4, 250, 6], real);
        check(vec![1.0f32, 2.0, 3.0, 4.0, 250.0, 6.0], real);
        check(vec![1.0f64, 2.0, 3.0, 4.0, 250.0, 6.0], real);
    }

    #[test]
    fn faults_show_at_once_or_at_the_row() {
        let npy = write_npy(&Tensor::new([2, 1], vec![1u64, u64::MAX]).unwrap());
        let rows = Rows::new(&npy[..], None).unwrap();
        assert_eq!(rows.get(0).unwrap().to_f32().data(), [1.0]);
        assert_eq!(rows.get(1).unwrap_err().to_string(), format!("{} is beyond int64", u64::MAX));
        let path = tempfile::tempdir().unwrap().keep().join("x.npy");
        for (bytes, message) in [
            (&npy[..npy.len() - 1], "the elements end after 15 of 16 bytes"),
            (&[&npy[..], b"!"].concat(), "bytes after the last element of shape [2, 1]"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            for place in [None, Some((shared(File::open(&path).unwrap()), 0))] {
                let error = Rows::new(File::open(&path).unwrap(), place).unwrap_err().to_string();
                assert_eq!(error, message);
            }
        }
        std::fs::write(&path, &npy).unwrap();
        let open = || File::open(&path).unwrap();
        let rows = Rows::new(open(), Some((shared(open()), 0))).unwrap();
        std::fs::write(&path, &npy[..npy.len() - 9]).unwrap();
        assert!(rows.get(0).is_err() && rows.get(1).is_err());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn damage_to_a_stored_array_shows_at_once() {
        let npy = write_npy(&Tensor::new([3, 1], vec![1.0f32, 2.0, 3.0]).unwrap());
        let mut bytes = zip(CompressionMethod::Stored, &[("x.npy", npy)]);
        let at = bytes.windows(4).position(|b| b == 2.0f32.to_le_bytes()).unwrap();
        bytes[at] ^= 1;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut npz = Npz::new(file.try_clone().unwrap()).unwrap();
        assert!(npz.rows("x", Some(shared(file))).is_err());
    }
}
