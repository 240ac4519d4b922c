//! Which columns are the inputs of a network, and how their rows become samples.

use std::fmt::{self, Display};

use super::column::Column;
use super::labels::{self, Labels};
use super::preprocess::{Layout, Preprocess};
use crate::error::{Result, bail};
use crate::tensor::Tensor;
use crate::text::printable;

/// What a sample is made of.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    /// For each input, in the network's order.
    pub places: Vec<Place>,
    pub labels: Option<Labels>,
    /// Number of samples.
    pub samples: usize,
    /// Rows of the data that make one sample, if the first axis of the inputs runs through them.
    pub batch: Option<usize>,
}

/// How rows of a column become an input.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub column: usize,
    /// The first axis of the input runs through so many rows; `None` if a row is all of it.
    pub batch: Option<usize>,
    /// Where the axis of the channels is moved to.
    pub moved: Option<Layout>,
    /// Images have one channel.
    pub gray: bool,
    /// Whether numbers are scaled and shifted.
    pub prepared: bool,
}

impl Place {
    /// The input for sample `i`.
    pub fn sample(
        &self,
        column: &Column,
        i: usize,
        preprocess: &Preprocess,
    ) -> Result<Tensor<f32>> {
        let rows = self.batch.unwrap_or(1);
        let mut x = column.row(i * rows, preprocess, self.gray)?;
        if rows > 1 {
            let shape = [&[rows], &x.shape()[1..]].concat();
            let mut data = x.into_data();
            for k in 1..rows {
                let next = column.row(i * rows + k, preprocess, self.gray)?;
                if next.shape()[1..] != shape[1..] {
                    bail!(Shape, "{:?} and {:?} in one batch", &shape[1..], &next.shape()[1..]);
                }
                data.extend(next.into_data());
            }
            x = Tensor::new(shape, data)?;
        }
        let row = x.shape()[1..].to_vec();
        let own_batch = self.batch.is_none() && has_batch(&row);
        if own_batch {
            x = x.reshape(row)?;
        }
        if self.prepared {
            x = preprocess.apply(x)?;
        }
        let rank = x.shape().len();
        if let Some(to) = self.moved.filter(|_| rank > 2) {
            let mut perm: Vec<usize> = (0..rank).collect();
            match to {
                Layout::Nchw => perm[1..].rotate_right(1),
                Layout::Nhwc => perm[1..].rotate_left(1),
            }
            x = x.transpose(&perm);
        }
        match self.batch.is_some() || own_batch {
            true => Ok(x),
            false => {
                let shape = x.shape()[1..].to_vec();
                x.reshape(shape)
            }
        }
    }
}

/// Whether a row that is the whole input begins with a batch of its own.
fn has_batch(row: &[usize]) -> bool {
    row.first() == Some(&1) || row.len() > 3
}

/// Names and shapes of a network's inputs.
pub(super) type Inputs<'a> = [(&'a str, &'a [usize])];

/// What a network is offered.
pub(super) struct Offer<'a> {
    pub columns: &'a [Column],
    pub preprocess: &'a Preprocess,
    /// The most samples that are wanted.
    pub limit: usize,
    /// Whether there may be columns that nobody wants.
    pub surplus: bool,
    /// Whether somebody has said that arrays have their channels first.
    pub is_nchw: bool,
}

impl<'a> Offer<'a> {
    /// All of it.
    pub fn of(columns: &'a [Column], preprocess: &'a Preprocess) -> Self {
        Self { columns, preprocess, limit: usize::MAX, surplus: false, is_nchw: false }
    }

    /// For a network of which nothing is known: one with one input, if there is only one column beside the labels.
    pub fn unnamed(&self) -> Result<Fit> {
        let named = |name: &str| self.columns.iter().position(|column| column.name == name);
        let mut inputs =
            (0..self.columns.len()).filter(|&column| !labels::is_name(&self.columns[column].name));
        let only = inputs.next().filter(|_| inputs.next().is_none());
        match named("").or_else(|| named("x")).or(only) {
            Some(column) => {
                let row = self.columns[column].row_shape(self.preprocess)?;
                let name = &self.columns[column].name;
                let whole = Offer { surplus: true, ..*self };
                whole.fit(&[(name, &[&[1], &row[..]].concat())])
            }
            None => {
                let samples = self.columns.iter().map(Column::len).max().unwrap_or(0);
                if samples == 0 {
                    bail!(Invalid, "no samples");
                }
                Ok(Fit { places: vec![], labels: None, samples, batch: Some(1) })
            }
        }
    }

    /// # Errors
    /// Columns that are missing, surplus, of different lengths, or of another shape; labels that are none.
    pub fn fit(&self, inputs: &Inputs) -> Result<Fit> {
        let columns = self.columns;
        let named = |name: &str| columns.iter().position(|column| column.name == name);
        let only = || (inputs.len() == 1).then(|| named("").or_else(|| named("x"))).flatten();
        let wanted = Wanted(inputs, columns);
        let mut places = Vec::new();
        let image = |shape: &[usize]| inputs.len() == 1 || shape.len() > 3;
        for &(name, shape) in inputs {
            let Some(column) = named(name).or_else(only) else {
                bail!(Invalid, "nothing for input \"{name}\": {wanted}");
            };
            let prepared = image(shape);
            places.push(Place { prepared, ..self.place(column, name, shape)? });
        }
        let Preprocess { scale, mean, std, .. } = self.preprocess;
        let changes = *scale != 1.0 || !(mean.is_empty() && std.is_empty());
        if changes && !places.iter().any(|place| place.prepared) {
            bail!(
                Invalid,
                "scale, mean and std are for inputs of four axes, as images have, where there are several: {wanted}"
            );
        }
        let lengths = places.iter().map(|p| columns[p.column].len() / p.batch.unwrap_or(1));
        let samples = lengths.clone().min().unwrap_or(0);
        if lengths.clone().any(|length| length != samples) {
            bail!(Shape, "different numbers of samples: {wanted}");
        }
        for (place, (name, shape)) in places.iter().zip(inputs) {
            let (len, batch) = (columns[place.column].len(), place.batch.unwrap_or(1));
            if len % batch != 0 && self.limit > samples {
                bail!(
                    Shape,
                    "{len} rows are {samples} batches for input \"{name}\" {shape:?} and {} left over: leave them out \
                     (--samples {samples}), or add {}",
                    len % batch,
                    batch - len % batch
                );
            }
        }
        let rest: Vec<usize> =
            (0..columns.len()).filter(|c| places.iter().all(|place| place.column != *c)).collect();
        let found = labels::find(columns, &rest);
        if let Some(&other) = rest.iter().find(|&&c| Some(c) != found && !self.surplus) {
            let name = &columns[other].name;
            match found.map(|found| &columns[found].name).filter(|_| labels::is_name(name)) {
                Some(chosen) => {
                    bail!(Invalid, "\"{chosen}\" and \"{name}\" may both be labels: keep one")
                }
                None => bail!(Invalid, "\"{name}\" is neither an input nor labels: {wanted}"),
            }
        }
        let batches: Vec<usize> = places.iter().filter_map(|place| place.batch).collect();
        let batch = batches.first().copied().filter(|first| batches.iter().all(|b| b == first));
        if samples == 0 {
            bail!(Invalid, "no samples");
        }
        let labels = found.map(|column| {
            let (len, batch) = (columns[column].len(), batch.unwrap_or(1));
            match len {
                _ if len == samples => Labels::new(columns, column, 1),
                _ if len / batch == samples => Labels::new(columns, column, batch),
                _ => {
                    let called = columns[column].called();
                    bail!(Shape, "labels {called} for {} rows", samples * batch)
                }
            }
        });
        Ok(Fit { places, labels: labels.transpose()?.flatten(), samples, batch })
    }

    /// How the column becomes this input: with one channel, if images fit only so.
    fn place(&self, column: usize, name: &str, wanted: &[usize]) -> Result<Place> {
        let row = self.columns[column].row_shape(self.preprocess)?;
        let placed = self.place_row(column, name, wanted, &row);
        match (placed, self.columns[column].gray_shape(&row, self.preprocess)) {
            (Err(error), Some(gray)) => match self.place_row(column, name, wanted, &gray) {
                Ok(place) => Ok(Place { gray: true, ..place }),
                Err(_) => Err(error),
            },
            (placed, _) => placed,
        }
    }

    /// The same for rows of the shape `row`.
    fn place_row(
        &self,
        column: usize,
        name: &str,
        wanted: &[usize],
        row: &[usize],
    ) -> Result<Place> {
        let batch = (row.len() + 1 == wanted.len()).then(|| wanted[0]);
        let place = |moved| Place { column, batch, moved, gray: false, prepared: false };
        let (whole, got) = match batch {
            Some(_) => (&wanted[1..], [&[1], row].concat()),
            None => (wanted, row.to_vec()),
        };
        let axis = usize::from(batch.is_none() && has_batch(row));
        let fits = |to: Layout| {
            let mut moved = row.to_vec();
            let channels = moved.get_mut(axis..).filter(|channels| channels.len() > 1);
            if let Some(channels) = channels {
                match to {
                    Layout::Nchw => channels.rotate_right(1),
                    Layout::Nhwc => channels.rotate_left(1),
                }
            }
            moved == whole
        };
        let [first, last] = [Layout::Nchw, Layout::Nhwc].map(fits);
        let is_image = self.columns[column].has_images();
        let hint = match self.preprocess.layout {
            _ if row == whole => return Ok(place(None)),
            Layout::Nhwc if first => return Ok(place(Some(Layout::Nchw))),
            // An image has no layout of its own.
            Layout::Nchw if last && (is_image || self.is_nchw) => {
                return Ok(place(Some(Layout::Nhwc)));
            }
            Layout::Nchw if first => ": the data seem to have their channels last (--layout nhwc)",
            Layout::Nchw if last => ": the data seem to have their channels first (--layout nchw)",
            _ => "",
        };
        bail!(Shape, "input \"{name}\" has shape {wanted:?}, got {got:?}{hint}")
    }
}

/// What a network wants, and what there is.
struct Wanted<'a>(&'a Inputs<'a>, &'a [Column]);

impl Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the network's inputs are ")?;
        for (i, (name, shape)) in self.0.iter().enumerate() {
            write!(f, "{}\"{}\" {shape:?}", if i > 0 { ", " } else { "" }, printable(name))?;
        }
        f.write_str("; the data are ")?;
        for (i, column) in self.1.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, column.called())?;
        }
        Ok(())
    }
}
