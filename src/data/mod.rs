//! Data: what a network is calibrated with and judged by.
//!
//! A [`Dataset`] is one of
//!
//! * a `.npz` with an array for each input, by the input's name, or with one array `x` for the only input; and, if
//!   the samples have labels, an array `y`,
//! * a `.npy` that holds such an `x`,
//! * a folder with `labels.csv`, whose lines are `file,label` (a header is allowed) with files beside it
//!   or in its subfolder `images`,
//! * a folder with `manifest.csv`, whose header names the inputs, and `label` if there are labels; a line has the
//!   files of a sample, images or `.npy`, and the label, a number or a file,
//! * a folder without either: all its PNG and JPEG images, sorted by name, without labels.
//!
//! The first axis of an array counts its rows. An input of as many axes takes as many rows at a time as its first axis
//! is long: a sample is what the network takes at a time, mostly one row, and a whole batch where the batch is fixed. An
//! input of one axis less takes a row as it is.
//!
//! A row of an array, or an image, is read and decoded when it is asked for; only a compressed array is held in
//! memory, in the dtype of the file. An image always
//! becomes RGB with 8 bits per channel: gray is repeated, transparency dropped. Of an input of one channel it becomes gray once it
//! is cut and resized: `⌊(19595·R + 38470·G + 7471·B + 32768) / 65536⌋`, the luma of ITU-R BT.601. Its EXIF orientation is
//! ignored.

mod atomic;
mod column;
mod fit;
mod folder;
#[cfg_attr(not(feature = "images"), path = "no_images.rs")]
mod images;
mod labels;
pub mod npy;
#[cfg(feature = "npz")]
pub mod npz;
mod preprocess;
mod rows;
mod samples;
mod temporary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
#[cfg(feature = "npz")]
use std::io::{Cursor, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::error::{Context, Result, bail};
use crate::tensor::{Shape, Tensor};

pub use atomic::{check_folder, check_outputs, update_folder, write_atomic, write_folder};
use column::{Column, Kind};
use fit::{Fit, Offer, Place};
pub use labels::IGNORED;
pub use npy::Array;
pub use preprocess::{Filter, Layout, Preprocess};
use rows::{Rows, Shared};
pub use samples::{Samples, Workers};
pub use temporary::{Temporary, remove_temporaries};

/// Samples in an order, prepared for the network when they are asked for.
///
/// What was just opened is for a network with one input and a batch of one; [`fit`](Self::fit) makes it that of any
/// other. A copy, or a selection, shares the stored rows.
#[derive(Clone, Debug)]
pub struct Dataset {
    stored: Arc<Stored>,
    /// Where it was opened.
    path: Option<Arc<Path>>,
    fit: Arc<Fit>,
    order: Order,
    /// The most samples that are wanted.
    limit: usize,
    /// The last axis of a row becomes its first.
    channels_first: bool,
    /// Somebody has said that arrays have their channels first.
    is_nchw: bool,
}

/// Samples among the stored ones.
#[derive(Clone, Debug)]
enum Order {
    First(usize),
    These(Vec<usize>),
}

#[derive(Debug)]
struct Stored {
    columns: Vec<Column>,
    preprocess: Preprocess,
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
        let data = Self::open_valid(path, preprocess).in_file(path)?;
        Ok(Self { path: Some(path.into()), ..data })
    }

    /// The same from the bytes of a `.npz`.
    ///
    /// # Errors
    /// Those of [`Dataset::open`].
    #[cfg(feature = "npz")]
    pub fn from_npz_bytes(bytes: &[u8], preprocess: &Preprocess) -> Result<Self> {
        preprocess.validate()?;
        Self::new(npz_columns(Cursor::new(bytes), None)?, preprocess)
    }

    fn open_valid(path: &Path, preprocess: &Preprocess) -> Result<Self> {
        if path.metadata()?.is_dir() {
            return Self::new(folder::columns(path)?, preprocess);
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let file = File::open(path)?;
        // A pipe can be read only once.
        let is_file = file.metadata()?.is_file();
        let again =
            is_file.then(|| file.try_clone()).transpose()?.map(|file| Arc::new(Mutex::new(file)));
        let reader = BufReader::new(file);
        let columns = match extension.to_str() {
            Some("npz") => npz_columns(reader, again)?,
            Some("npy") => {
                let rows = Rows::new(reader, again.map(|file| (file, 0)))?;
                vec![Column { name: String::new(), kind: Kind::Array(rows) }]
            }
            _ => bail!(
                Unsupported,
                "not a dataset; accepted are a .npz with an array \"x\" or one for each input, a .npy, and a folder \
                 of PNG or JPEG images, with or without labels.csv or manifest.csv"
            ),
        };
        Self::new(columns, preprocess)
    }

    fn new(columns: Vec<Column>, preprocess: &Preprocess) -> Result<Self> {
        if let Some(option) = preprocess.image_option()
            && !columns.iter().any(Column::has_images)
        {
            bail!(Invalid, "{option} is for images, but these samples are arrays");
        }
        let fit = Arc::new(Offer::of(&columns, preprocess).unnamed()?);
        let stored = Arc::new(Stored { columns, preprocess: preprocess.clone() });
        let order = Order::First(fit.samples);
        Ok(Self {
            stored,
            path: None,
            fit,
            order,
            limit: usize::MAX,
            channels_first: false,
            is_nchw: false,
        })
    }

    /// The same samples as a network takes them whose inputs have these names and shapes, in this order: each takes the
    /// column of its name, and the only one may also take what is called `x`, or has no name.
    ///
    /// # Errors
    /// If columns are missing, differ in the number of samples, have rows that do not fit, or are neither inputs nor
    /// labels; if the last batch is not whole.
    pub fn fit(&self, inputs: &[(&str, &[usize])]) -> Result<Self> {
        self.fit_to(inputs, false)
    }

    /// As [`fit`](Self::fit), for a part of a network: other columns are left alone.
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit), but for columns that nobody wants.
    pub fn fit_part(&self, inputs: &[(&str, &[usize])]) -> Result<Self> {
        self.fit_to(inputs, true)
    }

    fn fit_to(&self, inputs: &[(&str, &[usize])], surplus: bool) -> Result<Self> {
        let Stored { columns, preprocess } = &*self.stored;
        let (limit, is_nchw) = (self.limit, self.is_nchw);
        let offer = Offer { limit, surplus, is_nchw, ..Offer::of(columns, preprocess) };
        let fit = match &self.path {
            Some(path) => offer.fit(inputs).in_file(path)?,
            None => offer.fit(inputs)?,
        };
        let order = match &self.order {
            Order::First(_) => Order::First(fit.samples.min(self.limit)),
            Order::These(order) => match order.iter().find(|&&i| i >= fit.samples) {
                Some(i) => bail!(Range, "no sample {i} in a dataset of {}", fit.samples),
                None => Order::These(order.clone()),
            },
        };
        Ok(Self { fit: Arc::new(fit), order, ..self.clone() })
    }

    /// For each column, the shapes that an input may have that takes it; "" is the column that the only input takes,
    /// whatever its name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<Shape>> {
        let Stored { columns, preprocess } = &*self.stored;
        let mut shapes = BTreeMap::new();
        for (i, column) in columns.iter().enumerate() {
            let Ok(row) = column.row_shape(preprocess) else { continue };
            let mut batch = [&[1], &row[..]].concat();
            if self.channels_first && row.len() > 1 {
                batch[1..].rotate_right(1);
            }
            let mut both = vec![batch, row.clone()];
            if let Some(mut gray) = column.gray_shape(&row, preprocess) {
                if self.channels_first {
                    gray.rotate_right(1);
                }
                both.extend([[&[1], &gray[..]].concat(), gray]);
            }
            let is_moved = column.has_images() || self.is_nchw;
            if is_moved && self.stored.preprocess.layout == Layout::Nchw {
                let last = both.iter().map(|shape| {
                    let mut last = shape.clone();
                    let begin = shape.len() - shape.len().min(3);
                    last[begin..].rotate_left(usize::from(shape.len() - begin > 1));
                    last
                });
                both.extend(last.collect::<Vec<_>>());
            }
            if matches!(self.fit.places[..], [Place { column, .. }] if column == i) {
                shapes.insert(String::new(), both.clone());
            }
            shapes.insert(column.name.clone(), both);
        }
        shapes
    }

    /// The same samples in layout nchw; nothing if that is what they are in.
    pub fn channels_first(&self) -> Option<Self> {
        let is_last = self.stored.preprocess.layout == Layout::Nhwc;
        is_last.then(|| {
            let mut fit = Fit::clone(&self.fit);
            fit.places.iter_mut().for_each(|place| place.moved = Some(Layout::Nchw));
            Self { fit: Arc::new(fit), channels_first: true, ..self.clone() }
        })
    }

    /// The same samples, for a network that wants their channels last, too: arrays are moved as images are.
    pub fn declared_nchw(self) -> Self {
        Self { is_nchw: self.stored.preprocess.layout == Layout::Nchw, ..self }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match &self.order {
            Order::First(count) => *count,
            Order::These(order) => order.len(),
        }
    }

    /// Where sample `i` is among the stored ones.
    fn index(&self, i: usize) -> Result<usize> {
        let found = match &self.order {
            Order::First(count) => Some(i).filter(|i| i < count),
            Order::These(order) => order.get(i).copied(),
        };
        match found {
            Some(index) => Ok(index),
            None => bail!(Range, "no sample {i} in a dataset of {}", self.len()),
        }
    }

    /// Whether nothing was selected; a dataset just opened has samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that make one sample, if the first axis of the inputs runs through the rows.
    pub fn batch(&self) -> Option<usize> {
        self.fit.batch
    }

    /// The only input for sample `i`, `[1, …]` before the data are fitted to a network, preprocessed.
    ///
    /// # Errors
    /// If there is no sample `i`, or more than one input, its image cannot be decoded or is smaller than `crop`, or
    /// `mean` or `std` have another number of values than it has channels.
    pub fn sample(&self, i: usize) -> Result<Tensor<f32>> {
        let mut inputs = self.get(i)?;
        match (inputs.pop(), inputs.is_empty()) {
            (Some(x), true) => Ok(x),
            _ => bail!(Invalid, "a sample has several inputs"),
        }
    }

    /// The class of sample `i`; nothing if there is no such sample or there are no labels, or several for a sample.
    pub fn label(&self, i: usize) -> Option<usize> {
        match self.labels(i).ok()??[..] {
            [class] => Some(class),
            _ => None,
        }
    }

    /// Whether there are real numbers where labels could be, as a regression has: nothing is compared with them.
    pub fn with_targets(&self) -> bool {
        let is_input = |c: usize| self.fit.places.iter().any(|place| place.column == c);
        let mut columns = self.stored.columns.iter().enumerate();
        !self.with_labels()
            && columns.any(|(c, column)| labels::is_name(&column.name) && !is_input(c))
    }

    /// Whether the samples have labels.
    pub fn with_labels(&self) -> bool {
        self.fit.labels.is_some()
    }

    /// The first `n` samples, or all if there are fewer.
    pub fn take(&self, n: usize) -> Self {
        let order = match &self.order {
            Order::First(count) => Order::First(n.min(*count)),
            Order::These(order) => Order::These(order.iter().take(n).copied().collect()),
        };
        Self { order, limit: n.min(self.limit), ..self.clone() }
    }

    /// The samples of these indices, in this order.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) if there is no sample of an index.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Result<Self> {
        let order = indices.into_iter().map(|i| self.index(i)).collect::<Result<_>>()?;
        Ok(Self { order: Order::These(order), ..self.clone() })
    }
}

#[cfg(not(feature = "npz"))]
fn npz_columns(_: impl Read, _: Option<Shared>) -> Result<Vec<Column>> {
    bail!(Unsupported, "a .npz, by a build without the feature \"npz\"")
}

#[cfg(feature = "npz")]
fn npz_columns(reader: impl Read + Seek, file: Option<Shared>) -> Result<Vec<Column>> {
    let mut npz = npz::Npz::new(reader)?;
    let names = npz.names();
    let column =
        |name: String| Ok(Column { kind: Kind::Array(npz.rows(&name, file.clone())?), name });
    names.into_iter().map(column).collect()
}

impl Samples for Dataset {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        let (index, Stored { columns, preprocess }) = (self.index(i)?, &*self.stored);
        if self.fit.places.is_empty() {
            bail!(Invalid, "which arrays are the inputs? Fit the data to a network");
        }
        let input = |place: &Place| place.sample(&columns[place.column], index, preprocess);
        self.fit.places.iter().map(input).collect()
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.label(i)
    }

    fn labels(&self, i: usize) -> Result<Option<Vec<usize>>> {
        let Some(labels) = self.fit.labels else { return Ok(None) };
        labels.get(&self.stored.columns, self.index(i)?).map(Some)
    }
}

#[cfg(test)]
#[cfg(feature = "npz")]
mod tests {
    use zip::CompressionMethod;

    use super::npy::{Element, write_npy};
    use super::*;
    use crate::testing::Rng;

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

    /// Whatever the ranks, the order of the arrays, and whether a row is an input or a part of a batch.
    #[test]
    fn samples_of_any_inputs_are_slices_of_their_arrays() {
        for seed in 0..200 {
            let mut rng = Rng(seed);
            let samples = rng.pick(&[1, 2, 5]);
            let mut inputs = Vec::new();
            let mut arrays = Vec::new();
            for name in ["b", "c", "a"].into_iter().take(rng.pick(&[1, 2, 3])) {
                let rank = rng.pick(&[0, 1, 2, 3, 4]);
                let shape: Vec<usize> = (0..rank).map(|_| rng.pick(&[1, 2, 3])).collect();
                let stored = match &shape[..] {
                    [batch, rest @ ..] if rng.pick(&[true, false]) => {
                        [&[samples * batch], rest].concat()
                    }
                    whole => [&[samples], whole].concat(),
                };
                let data = rng.reals(&stored, 1.0);
                arrays.push((format!("{name}.npy"), write_npy(&data)));
                inputs.push((name, shape, data));
            }
            let begin = seed as usize % arrays.len();
            arrays.rotate_left(begin);
            let files: Vec<_> = arrays.iter().map(|(name, npy)| (&**name, npy.clone())).collect();
            let data = Dataset::from_npz_bytes(&npz(&files), &Preprocess::default()).unwrap();
            let named: Vec<_> = inputs.iter().map(|(name, shape, _)| (*name, &**shape)).collect();
            let data = data.fit(&named).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(data.len(), samples, "seed {seed}");
            for i in 0..samples {
                let sample = data.get(i).unwrap();
                assert_eq!(sample.len(), inputs.len());
                for (x, (_, shape, all)) in sample.iter().zip(&inputs) {
                    let len = x.data().len();
                    let slice = &all.data()[i * len..(i + 1) * len];
                    assert_eq!((x.shape(), x.data()), (&**shape, slice), "seed {seed}");
                }
            }
        }
    }

    /// Of a batch without a whole last one, only as many samples are taken as are asked for.
    #[test]
    fn a_batch_is_whole() {
        let x = write_npy(&tensor(&[7, 1], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let y = write_npy(&tensor(&[7], vec![0i64, 1, 2, 3, 4, 5, 6]));
        let bytes = npz(&[("x.npy", x), ("y.npy", y)]);
        let data = Dataset::from_npz_bytes(&bytes, &Preprocess::default()).unwrap();
        let inputs: [(&str, &[usize]); 1] = [("x", &[3, 1])];
        let error = data.fit(&inputs).unwrap_err().to_string();
        assert!(
            error.starts_with("7 rows are 2 batches for input \"x\" [3, 1] and 1 left over"),
            "{error}"
        );
        let inputs_of_five: [(&str, &[usize]); 1] = [("x", &[5, 1])];
        let one = data.take(1).fit(&inputs_of_five).unwrap();
        assert_eq!(one.labels(0).unwrap(), Some(vec![0, 1, 2, 3, 4]));
        let two = data.take(2).fit(&inputs).unwrap();
        assert_eq!((two.len(), two.batch()), (2, Some(3)));
        assert_eq!(two.sample(1).unwrap(), tensor(&[3, 1], vec![3.0, 4.0, 5.0]));
        assert_eq!(two.labels(1).unwrap(), Some(vec![3, 4, 5]));
        assert!(data.take(3).fit(&inputs).is_err());
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
        let lengths = "labels \"y\" [2] for 3 rows";
        assert_eq!(y_error(tensor(&[2], vec![0, 1])), lengths);
        assert_eq!(y_error(tensor(&[3], vec![0, -4, 1])), "label -4 of row 1 is negative");
        let real = |y| xy(&Tensor::from_vec(y)).map(|data| (data.label(2), data.with_targets()));
        assert_eq!(real(vec![0.0f32, 1.0, 2.0]).unwrap(), (Some(2), false));
        assert_eq!(real(vec![0.0f32, 1.0, 0.5]).unwrap(), (None, true));

        let x_error = |name, x: Tensor<f32>| {
            let bytes = npz(&[(name, write_npy(&x))]);
            Dataset::from_npz_bytes(&bytes, &Preprocess::default()).unwrap_err().to_string()
        };
        let rank_0 = "x is a single number, but its first axis must be the samples";
        assert_eq!(x_error("x.npy", tensor(&[], vec![1.0])), rank_0);
        assert_eq!(x_error("x.npy", tensor(&[0, 2], vec![])), "no samples");
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
