//! Images as samples, and as maps of classes.

use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::npy::Array;
use super::preprocess::{Layout, Preprocess};
use crate::error::{Error, Result, bail};
use crate::tensor::Tensor;

/// Of an image that is decoded: 400 MB.
const MAX_PIXELS: u64 = 1 << 27;

/// The image at `path` as a sample of values 0…255 in three channels, or one, cut and resized.
pub(super) fn read(path: &Path, preprocess: &Preprocess, gray: bool) -> Result<Tensor<f32>> {
    let decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder().map_err(error)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        bail!(Range, "an image of {width}×{height} pixels; at most {MAX_PIXELS} are expected");
    }
    let image = DynamicImage::from_decoder(decoder).map_err(error)?;
    let image = preprocess.frame(image.into_rgb8())?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let (pixels, channels) = match gray {
        false => (image.into_raw(), 3),
        true => (image.pixels().map(|pixel| luma(pixel.0)).collect(), 1),
    };
    match preprocess.layout {
        Layout::Nhwc => {
            let data = pixels.into_iter().map(f32::from).collect();
            Tensor::new([1, height, width, channels], data)
        }
        Layout::Nchw => {
            let channel = |c| pixels.iter().skip(c).step_by(channels).map(|&v| f32::from(v));
            Tensor::new([1, channels, height, width], (0..channels).flat_map(channel).collect())
        }
    }
}

/// How bright a pixel is: `0.299·R + 0.587·G + 0.114·B`, rounded.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
}

/// The image at `path` as a map of classes, `[height, width]`: its gray values.
pub(super) fn mask(path: &Path) -> Result<Array> {
    let decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder().map_err(error)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        bail!(Range, "an image of {width}×{height} pixels; at most {MAX_PIXELS} are expected");
    }
    match DynamicImage::from_decoder(decoder).map_err(error)? {
        DynamicImage::ImageLuma8(gray) => {
            Ok(Array::U8(Tensor::new([height as usize, width as usize], gray.into_raw())?))
        }
        _ => bail!(Unsupported, "a map of classes must be gray, with 8 bits"),
    }
}

fn error(error: ImageError) -> Error {
    match error {
        ImageError::IoError(e) => Error::Io(e),
        e => Error::Invalid(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{DynamicImage, RgbImage, RgbaImage};

    use super::super::Dataset;
    use super::*;

    /// As Pillow's `convert("L")`.
    #[test]
    fn gray_is_how_bright_a_pixel_is() {
        assert_eq!([[10, 20, 30], [255, 0, 128]].map(luma), [18, 91]);
        assert!((0..=255).all(|gray| luma([gray; 3]) == gray));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        RgbImage::from_pixel(3, 2, image::Rgb([10, 20, 30])).save(&path).unwrap();
        for (layout, shape) in [(Layout::Nchw, [1, 1, 2, 3]), (Layout::Nhwc, [1, 2, 3, 1])] {
            let preprocess = Preprocess { layout, ..Preprocess::default() };
            let sample = read(&path, &preprocess, true).unwrap();
            assert_eq!((sample.shape(), sample.data()), (&shape[..], &[18.0; 6][..]));
        }
    }

    #[test]
    fn huge_images_are_refused_before_they_are_decoded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        RgbImage::new(3, 2).save(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let crc = crc(&bytes[12..29]).to_be_bytes();
        bytes[29..33].copy_from_slice(&crc);
        fs::write(&path, bytes).unwrap();
        let error = read(&path, &Preprocess::default(), false).unwrap_err().to_string();
        assert!(error.starts_with("an image of 16384×16384 pixels; at most"), "{error}");
    }

    /// That of PNG's chunks.
    fn crc(bytes: &[u8]) -> u32 {
        let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), shift))
    }

    #[test]
    fn undecodable_images_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        RgbImage::new(3, 2).save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let data = Dataset::open(dir.path(), &Preprocess::default()).unwrap();
        for content in [&[][..], b"garbage", &whole[..whole.len() / 2]] {
            fs::write(&path, content).unwrap();
            let error = data.sample(0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        }
    }

    #[test]
    fn transparency_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let image = RgbaImage::from_pixel(1, 1, image::Rgba([1, 2, 3, 0]));
        DynamicImage::from(image).save(&path).unwrap();
        assert_eq!(read(&path, &Preprocess::default(), false).unwrap().data(), [1.0, 2.0, 3.0]);
    }
}
