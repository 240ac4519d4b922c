//! Images, for a build without the feature `images`: there are none.

use std::path::Path;

use super::npy::Array;
use super::preprocess::Preprocess;
use crate::error::{Result, bail};
use crate::tensor::Tensor;

/// Refuses the image.
pub(super) fn read(_: &Path, _: &Preprocess, _: bool) -> Result<Tensor<f32>> {
    bail!(Unsupported, "an image, by a build without the feature \"images\"")
}

/// Refuses the image.
pub(super) fn mask(_: &Path) -> Result<Array> {
    bail!(Unsupported, "an image, by a build without the feature \"images\"")
}
