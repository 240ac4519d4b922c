//! Folders of images, for a build without the feature `images`: there are none.

use std::path::{Path, PathBuf};

use super::npy::Array;
use super::preprocess::Preprocess;
use crate::error::{Result, bail};
use crate::tensor::Tensor;

/// Refuses the folder.
pub(super) fn list(_: &Path) -> Result<(Vec<PathBuf>, Option<Array>)> {
    bail!(Unsupported, "a folder of images, by a build without the feature \"images\"")
}

/// Refuses the image.
pub(super) fn read(_: &Path, _: &Preprocess) -> Result<Tensor<f32>> {
    bail!(Unsupported, "an image, by a build without the feature \"images\"")
}
