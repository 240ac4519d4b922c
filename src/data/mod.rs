//! Data: what a network is calibrated with and judged by.
//!
//! A [`Dataset`] is one of
//!
//! * a `.npz` with an array `x` of shape `[n, …]` and, if the samples have labels, an array `y` of `n`
//!   integers,
//! * a `.npy` that holds such an `x`,
//! * a folder with `labels.csv`, whose lines are `file,label` (a header is allowed) with files beside it
//!   or in its subfolder `images`,
//! * a folder without one: all its PNG and JPEG images, sorted by name, without labels.
//!
//! A row of an array, or an image, is read and decoded when it is asked for; only a compressed array is held in
//! memory, in the dtype of the file. An image always
//! becomes RGB with 8 bits per channel: gray is repeated, transparency dropped. Its EXIF orientation is
//! ignored.

mod atomic;
#[cfg_attr(not(feature = "images"), path = "no_images.rs")]
mod images;
pub mod npy;
#[cfg(feature = "npz")]
pub mod npz;
mod preprocess;
mod rows;
mod samples;
mod temporary;

use std::fs::File;
use std::io::{BufReader, Read};
#[cfg(feature = "npz")]
use std::io::{Cursor, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Context, Result, bail};
use crate::tensor::Tensor;

pub use atomic::{check_folder, check_outputs, update_folder, write_atomic, write_folder};
pub use npy::Array;
pub use preprocess::{Filter, Layout, Preprocess};
use rows::Rows;
pub use samples::{Samples, Workers};
pub use temporary::{Temporary, remove_temporaries};

/// Samples in an order, prepared for the network when they are asked for.
///
/// A copy, or a selection, shares the stored samples.
#[derive(Clone, Debug)]
pub struct Dataset {
    stored: Arc<Stored>,
    order: Order,
    /// The last axis of a sample becomes its axis 1.
    channels_first: bool,
}

/// Samples among the stored ones.
#[derive(Clone, Debug)]
enum Order {
    First(usize),
    These(Vec<usize>),
}

#[derive(Debug)]
struct Stored {
    samples: Kind,
    /// An integer, at least 0, for each sample.
    labels: Option<Array>,
    preprocess: Preprocess,
}

#[derive(Debug)]
enum Kind {
    Array(Rows),
    Images(Vec<PathBuf>),
}

impl Dataset {
    /// Opens a `.npz`, a `.npy` or a folder of images.
    ///
    /// # Errors
    /// If the options or the file make no sense, `x` and `y` differ in length, a label is negative, a
    /// file named by `labels.csv` is missing, there is no sample, or an option for images is set for
    /// arrays.
    pub fn open(path: impl AsRef<Path>, preprocess: &Preprocess) -> Result<Self> {
        preprocess.validate()?;
        let path = path.as_ref();
        Self::open_valid(path, preprocess).in_file(path)
    }

    /// The same from the bytes of a `.npz`.
    ///
    /// # Errors
    /// Those of [`Dataset::open`].
    #[cfg(feature = "npz")]
    pub fn from_npz_bytes(bytes: &[u8], preprocess: &Preprocess) -> Result<Self> {
        preprocess.validate()?;
        Self::from_npz(Cursor::new(bytes), None, preprocess)
    }

    fn open_valid(path: &Path, preprocess: &Preprocess) -> Result<Self> {
        if path.metadata()?.is_dir() {
            let (images, labels) = images::list(path)?;
            let count = images.len();
            return Self::new(Kind::Images(images), count, labels, preprocess);
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let file = File::open(path)?;
        // A pipe can be read only once.
        let is_file = file.metadata()?.is_file();
        let again = is_file.then(|| file.try_clone()).transpose()?;
        let reader = BufReader::new(file);
        match extension.to_str() {
            Some("npz") => Self::from_npz(reader, again, preprocess),
            Some("npy") => {
                let rows = Rows::new(reader, again.map(|file| (file, 0)))?;
                Self::from_arrays(rows, None, preprocess)
            }
            _ => bail!(
                Unsupported,
                "not a dataset; accepted are a .npz with an array \"x\", a .npy, and a folder of PNG or \
                 JPEG images, with or without labels.csv"
            ),
        }
    }

    #[cfg(not(feature = "npz"))]
    fn from_npz(_: impl Read, _: Option<File>, _: &Preprocess) -> Result<Self> {
        bail!(Unsupported, "a .npz, by a build without the feature \"npz\"")
    }

    #[cfg(feature = "npz")]
    fn from_npz(
        reader: impl Read + Seek,
        file: Option<File>,
        preprocess: &Preprocess,
    ) -> Result<Self> {
        let mut npz = npz::Npz::new(reader)?;
        let (x, y) = (npz.rows("x", file)?, npz.get("y")?);
        Self::from_arrays(x, y, preprocess)
    }

    fn from_arrays(x: Rows, y: Option<Array>, preprocess: &Preprocess) -> Result<Self> {
        if let Some(option) = preprocess.image_option() {
            bail!(Invalid, "{option} is for images, but these samples are arrays");
        }
        let Some(&count) = x.shape().first() else {
            bail!(Shape, "x is a single number, but its first axis must be the samples");
        };
        let count = if x.shape().contains(&0) { 0 } else { count };
        y.iter().try_for_each(|y| check_labels(y, count))?;
        Self::new(Kind::Array(x), count, y, preprocess)
    }

    fn new(
        samples: Kind,
        count: usize,
        labels: Option<Array>,
        preprocess: &Preprocess,
    ) -> Result<Self> {
        if count == 0 {
            bail!(Invalid, "no samples");
        }
        let preprocess = preprocess.clone();
        Ok(Self {
            stored: Arc::new(Stored { samples, labels, preprocess }),
            order: Order::First(count),
            channels_first: false,
        })
    }

    /// The same samples in layout nchw; nothing if that is what they are in.
    pub fn channels_first(&self) -> Option<Self> {
        let is_last = self.stored.preprocess.layout == Layout::Nhwc;
        is_last.then(|| Self { channels_first: true, ..self.clone() })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match &self.order {
            Order::First(count) => *count,
            Order::These(order) => order.len(),
        }
    }

    /// Where sample `i` is among the stored ones.
    fn index(&self, i: usize) -> Option<usize> {
        match &self.order {
            Order::First(count) => Some(i).filter(|i| i < count),
            Order::These(order) => order.get(i).copied(),
        }
    }

    /// Whether nothing was selected; a dataset just opened has samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `i` as a batch of one, `[1, …]`, preprocessed.
    ///
    /// # Errors
    /// If there is no sample `i`, its image cannot be decoded or is smaller than `crop`, or `mean` or
    /// `std` have another number of values than it has channels.
    pub fn sample(&self, i: usize) -> Result<Tensor<f32>> {
        let Some(index) = self.index(i) else {
            bail!(Range, "no sample {i} in a dataset of {}", self.len());
        };
        let Stored { samples, preprocess, .. } = &*self.stored;
        let sample = match samples {
            Kind::Array(array) => preprocess.apply(array.get(index)?),
            Kind::Images(paths) => images::read(&paths[index], preprocess)
                .and_then(|pixels| preprocess.apply(pixels))
                .in_file(&paths[index]),
        }?;
        let rank = sample.shape().len();
        Ok(match self.channels_first && rank > 2 {
            true => {
                sample.transpose(&[&[0, rank - 1], &(1..rank - 1).collect::<Vec<_>>()[..]].concat())
            }
            false => sample,
        })
    }

    /// The class of sample `i`; nothing if there is no such sample or there are no labels.
    pub fn label(&self, i: usize) -> Option<usize> {
        let label = self.stored.labels.as_ref()?.integer(self.index(i)?)?;
        usize::try_from(label).ok()
    }

    /// Whether the samples have labels.
    pub fn with_labels(&self) -> bool {
        self.stored.labels.is_some()
    }

    /// The first `n` samples, or all if there are fewer.
    pub fn take(&self, n: usize) -> Self {
        let order = match &self.order {
            Order::First(count) => Order::First(n.min(*count)),
            Order::These(order) => Order::These(order.iter().take(n).copied().collect()),
        };
        Self { order, ..self.clone() }
    }

    /// The samples of these indices, in this order.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) if there is no sample of an index.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Result<Self> {
        let select = |i: usize| match self.index(i) {
            Some(index) => Ok(index),
            None => bail!(Range, "no sample {i} in a dataset of {}", self.len()),
        };
        let order = indices.into_iter().map(select).collect::<Result<_>>()?;
        Ok(Self { order: Order::These(order), ..self.clone() })
    }
}

impl Samples for Dataset {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        Ok(vec![self.sample(i)?])
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.label(i)
    }
}

/// Checks that `y`, `[count]` or `[count, 1]`, holds the labels of `count` samples.
fn check_labels(y: &Array, count: usize) -> Result<()> {
    if y.integer(0).is_none() && !y.shape().contains(&0) {
        bail!(Invalid, "labels y must be integers");
    }
    if !matches!(y.shape(), [n] | [n, 1] if *n == count) {
        bail!(Shape, "labels y of shape {:?} for {count} samples x", y.shape());
    }
    match (0..count).find_map(|i| Some((i, y.integer(i).filter(|&label| label < 0)?))) {
        Some((i, label)) => bail!(Range, "label {label} of sample {i} is negative"),
        None => Ok(()),
    }
}

#[cfg(test)]
#[cfg(feature = "npz")]
mod tests {
    use zip::CompressionMethod;

    use super::npy::{Element, write_npy};
    use super::*;

    fn tensor<T>(shape: &[usize], data: Vec<T>) -> Tensor<T> {
        Tensor::new(shape, data).unwrap()
    }

    fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
        npz::tests::zip(CompressionMethod::Deflated, arrays)
    }

    fn xy<T: Element>(y: &Tensor<T>) -> Result<Dataset> {
        let x = tensor(&[3, 2, 1], vec![1u8, 2, 3, 4, 5, 6]);
        let bytes = npz(&[("x.npy", write_npy(&x)), ("y.npy", write_npy(y))]);
        Dataset::from_npz_bytes(&bytes, &Preprocess::default())
    }

    #[test]
    fn samples_are_batches_of_one() {
        for y in [tensor(&[3], vec![7i64, 0, 2]), tensor(&[3, 1], vec![7, 0, 2])] {
            let data = xy(&y).unwrap();
            assert_eq!((data.len(), data.is_empty(), data.with_labels()), (3, false, true));
            assert_eq!(data.sample(1).unwrap(), tensor(&[1, 2, 1], vec![3.0, 4.0]));
            assert_eq!([0, 1, 2, 3].map(|i| data.label(i)), [Some(7), Some(0), Some(2), None]);
            assert_eq!(data.sample(3).unwrap_err().to_string(), "no sample 3 in a dataset of 3");
        }
    }

    #[test]
    fn selections_restrict_and_reorder() {
        let data = xy(&Tensor::from_vec(vec![7u8, 0, 2])).unwrap();
        let some = data.select([2, 0, 2]).unwrap().select([1, 0]).unwrap();
        assert_eq!((some.len(), some.label(0), some.label(1)), (2, Some(7), Some(2)));
        assert_eq!(some.sample(1).unwrap().data(), [5.0, 6.0]);
        assert_eq!(some.select([2]).unwrap_err().to_string(), "no sample 2 in a dataset of 2");
        assert_eq!((data.take(2).len(), data.take(9).len(), data.take(0).len()), (2, 3, 0));
        assert!(data.take(0).is_empty());
    }

    #[test]
    fn arrays_are_preprocessed() {
        let x = tensor(&[1, 2, 2], vec![0.0f32, 1.0, 2.0, 3.0]);
        let bytes = npz(&[("x.npy", write_npy(&x))]);
        let mut p = Preprocess { mean: vec![1.0, 2.0], std: vec![2.0], ..Preprocess::default() };
        let data = Dataset::from_npz_bytes(&bytes, &p).unwrap();
        assert_eq!(data.sample(0).unwrap().data(), [-0.5, 0.0, 0.0, 0.5]);
        assert_eq!((data.with_labels(), data.label(0)), (false, None));
        p.mean = vec![0.0; 3];
        let error = Dataset::from_npz_bytes(&bytes, &p).unwrap().sample(0).unwrap_err().to_string();
        assert!(error.starts_with("mean has 3 values, but"), "{error}");
        p.std = vec![0.0];
        assert!(Dataset::from_npz_bytes(&bytes, &p).is_err());
        let p = Preprocess { crop: Some(2), ..Preprocess::default() };
        let error = Dataset::from_npz_bytes(&bytes, &p).unwrap_err().to_string();
        assert_eq!(error, "crop is for images, but these samples are arrays");
    }

    #[test]
    fn channels_of_a_sample_are_moved_to_the_front() {
        let x = tensor(&[1, 2, 3, 2], (0..12u8).collect());
        let bytes = npz(&[("x.npy", write_npy(&x))]);
        let (mean, layout) = (vec![0.0, 1.0], Layout::Nhwc);
        let p = Preprocess { mean, layout, ..Preprocess::default() };
        let data = Dataset::from_npz_bytes(&bytes, &p).unwrap();
        assert_eq!(data.sample(0).unwrap().shape(), [1, 2, 3, 2]);
        let first = data.channels_first().unwrap().take(1);
        let expected = [0, 2, 4, 6, 8, 10, 0, 2, 4, 6, 8, 10].map(|x| x as f32);
        assert_eq!(first.sample(0).unwrap(), tensor(&[1, 2, 2, 3], expected.to_vec()));
        let plain = Dataset::from_npz_bytes(&bytes, &Preprocess::default()).unwrap();
        assert!(plain.channels_first().is_none());
    }

    #[test]
    fn faults_in_arrays_are_errors() {
        let y_error = |y: Tensor<i64>| xy(&y).unwrap_err().to_string();
        let lengths = "labels y of shape [2] for 3 samples x";
        assert_eq!(y_error(tensor(&[2], vec![0, 1])), lengths);
        assert_eq!(
            y_error(tensor(&[3, 2], vec![0; 6])),
            "labels y of shape [3, 2] for 3 samples x"
        );
        assert_eq!(y_error(tensor(&[3], vec![0, -4, 1])), "label -4 of sample 1 is negative");
        let float = xy(&Tensor::from_vec(vec![0.0f32; 3])).unwrap_err().to_string();
        assert_eq!(float, "labels y must be integers");

        let x_error = |name, x: Tensor<f32>| {
            let bytes = npz(&[(name, write_npy(&x))]);
            Dataset::from_npz_bytes(&bytes, &Preprocess::default()).unwrap_err().to_string()
        };
        let rank_0 = "x is a single number, but its first axis must be the samples";
        assert_eq!(x_error("x.npy", tensor(&[], vec![1.0])), rank_0);
        assert_eq!(x_error("x.npy", tensor(&[0, 2], vec![])), "no samples");
        assert_eq!(
            x_error("data.npy", tensor(&[1], vec![1.0])),
            "no array \"x\"; the file has data"
        );
    }

    #[test]
    fn files_are_told_apart_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            write_atomic(&path, bytes).unwrap();
            Dataset::open(&path, &Preprocess::default()).map_err(|e| {
                e.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
            })
        };
        let x = write_npy(&tensor(&[2, 1], vec![1i8, -1]));
        assert_eq!(open("x.npy", &x).unwrap().sample(1).unwrap().data(), [-1.0]);
        assert_eq!(open("X.NPZ", &npz(&[("x.npy", x.clone())])).unwrap().len(), 2);
        assert_eq!(open("y.npy", b"garbage!").unwrap_err(), "not a .npy file");
        assert!(
            open("x.csv", &x).unwrap_err().starts_with("unsupported: not a dataset; accepted are")
        );
        let missing = dir.path().join("missing.npz");
        let error = Dataset::open(&missing, &Preprocess::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", missing.display())), "{error}");
    }
}
