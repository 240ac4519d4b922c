//! What the samples have for one input: an array, or a file for each of them.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::images;
use super::npy::{Array, read_npy};
use super::preprocess::{Layout, Preprocess};
use super::rows::Rows;
use crate::error::{Context, Result, bail};
use crate::tensor::{Shape, Tensor};

/// One row for each sample, or for each part of a batch.
#[derive(Debug)]
pub(super) struct Column {
    /// Of the array, or in the header of a manifest; "" for a file that holds nothing else.
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Array(Rows),
    /// Images, and `.npy` of one row each.
    Files(Vec<PathBuf>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Array(rows) if rows.shape().contains(&0) => 0,
            Kind::Array(rows) => rows.shape().first().copied().unwrap_or(0),
            Kind::Files(paths) => paths.len(),
        }
    }

    /// Row `i` as `[1, …]`; an image is cut and resized, and gray if that is asked for.
    pub fn row(&self, i: usize, preprocess: &Preprocess, gray: bool) -> Result<Tensor<f32>> {
        match &self.kind {
            Kind::Array(rows) => Ok(rows.get(i)?.to_f32()),
            Kind::Files(paths) if is_npy(&paths[i]) => with_axis(read(&paths[i])?.to_f32()),
            Kind::Files(paths) => images::read(&paths[i], preprocess, gray).in_file(&paths[i]),
        }
    }

    /// Row `i` as it is stored.
    pub fn array(&self, i: usize) -> Result<Array> {
        match &self.kind {
            Kind::Array(rows) => rows.get(i),
            Kind::Files(paths) if is_npy(&paths[i]) => read(&paths[i]),
            Kind::Files(paths) => images::mask(&paths[i]).in_file(&paths[i]),
        }
    }

    /// Sizes of a row, without the axis of the samples; of files, those of the first.
    pub fn row_shape(&self, preprocess: &Preprocess) -> Result<Shape> {
        match &self.kind {
            Kind::Array(rows) => match rows.shape() {
                [_, row @ ..] => Ok(row.to_vec()),
                [] => bail!(
                    Shape,
                    "{} is a single number, but its first axis must be the samples",
                    self.name
                ),
            },
            Kind::Files(paths) if paths.is_empty() => bail!(Invalid, "no samples"),
            Kind::Files(_) => Ok(self.row(0, preprocess, false)?.shape()[1..].to_vec()),
        }
    }

    /// What is left of the shape `row` if images have one channel.
    pub fn gray_shape(&self, row: &[usize], preprocess: &Preprocess) -> Option<Shape> {
        let channel = match preprocess.layout {
            Layout::Nchw => 0,
            Layout::Nhwc => row.len().checked_sub(1)?,
        };
        let mut gray = row.to_vec();
        *gray.get_mut(channel).filter(|channels| **channels == 3)? = 1;
        self.has_images().then_some(gray)
    }

    /// Whether a row is an image.
    pub fn has_images(&self) -> bool {
        matches!(&self.kind, Kind::Files(paths) if paths.iter().any(|path| !is_npy(path)))
    }

    /// How a message calls it.
    pub fn called(&self) -> String {
        match &self.kind {
            Kind::Array(rows) => format!("\"{}\" {:?}", self.name, rows.shape()),
            Kind::Files(paths) => format!("\"{}\" of {} files", self.name, paths.len()),
        }
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

fn read(path: &Path) -> Result<Array> {
    let open = || read_npy(BufReader::new(File::open(path)?));
    open().in_file(path)
}

fn with_axis(row: Tensor<f32>) -> Result<Tensor<f32>> {
    let shape = [&[1], row.shape()].concat();
    row.reshape(shape)
}
