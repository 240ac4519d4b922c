//! Folders of images, with or without `labels.csv`.

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::npy::Array;
use super::preprocess::{Layout, Preprocess};
use crate::error::{Context, Error, Result, bail};
use crate::tensor::Tensor;

/// Of an image that is decoded: 400 MB.
const MAX_PIXELS: u64 = 1 << 27;

/// The images of `dir`, and their labels if there is a `labels.csv`.
pub(super) fn list(dir: &Path) -> Result<(Vec<PathBuf>, Option<Array>)> {
    let csv = dir.join("labels.csv");
    if csv.is_file() {
        let (images, labels) = read_labels(dir, &csv).in_file(Path::new("labels.csv"))?;
        return Ok((images, Some(Array::I64(Tensor::from_vec(labels)))));
    }
    let mut images = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if has_image_name(&path) && path.is_file() {
            images.push(path);
        }
    }
    images.sort();
    Ok((images, None))
}

/// The image at `path` as a sample of values 0…255 in three channels, cut and resized.
pub(super) fn read(path: &Path, preprocess: &Preprocess) -> Result<Tensor<f32>> {
    let decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder().map_err(error)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        bail!(Range, "an image of {width}×{height} pixels; at most {MAX_PIXELS} are expected");
    }
    let image = DynamicImage::from_decoder(decoder).map_err(error)?;
    let image = preprocess.frame(image.into_rgb8())?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let pixels = image.into_raw();
    match preprocess.layout {
        Layout::Nhwc => {
            Tensor::new([1, height, width, 3], pixels.into_iter().map(f32::from).collect())
        }
        Layout::Nchw => {
            let channel = |c| pixels.iter().skip(c).step_by(3).map(|&v| f32::from(v));
            let data = channel(0).chain(channel(1)).chain(channel(2));
            Tensor::new([1, 3, height, width], data.collect())
        }
    }
}

fn error(error: ImageError) -> Error {
    match error {
        ImageError::IoError(e) => Error::Io(e),
        e => Error::Invalid(e.to_string()),
    }
}

/// Lines `file,label`, of which the first may be a header.
/// No file outside `dir` is named, nor led to by a link.
fn read_labels(dir: &Path, csv: &Path) -> Result<(Vec<PathBuf>, Vec<i64>)> {
    let inside = dir.canonicalize()?;
    let text = fs::read_to_string(csv)?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = i + 1;
        if line.trim().is_empty() {
            continue;
        }
        let Some((file, label)) = line.rsplit_once(',') else {
            bail!(Invalid, "line {number}: expected \"file,label\", got {line:?}");
        };
        let (file, label) = (file.trim(), label.trim());
        let candidates = [dir.join(file), dir.join("images").join(file)];
        let class = label.parse().ok().filter(|&class: &i64| class >= 0);
        match (candidates.into_iter().find(|path| path.is_file()), class.ok_or(())) {
            (Some(image), _) if !image.canonicalize()?.starts_with(&inside) => {
                bail!(Invalid, "line {number}: \"{file}\" is not in the folder")
            }
            (Some(image), Ok(label)) => {
                images.push(image);
                labels.push(label);
            }
            (None, Err(_)) if i == 0 && !has_image_name(Path::new(file)) => {}
            (None, _) => bail!(Invalid, "line {number}: no file \"{file}\", nor one in \"images\""),
            (Some(_), Err(_)) => {
                bail!(Invalid, "line {number}: label \"{label}\" is not a class number 0, 1, …")
            }
        }
    }
    Ok((images, labels))
}

fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, RgbaImage};

    use super::super::Dataset;
    use super::*;

    /// `a.png` in one colour, `b.JPG` in gray, and a file that is no image.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        RgbImage::from_pixel(3, 2, Rgb([10, 20, 30])).save(dir.path().join("a.png")).unwrap();
        GrayImage::from_pixel(2, 2, Luma([128])).save(dir.path().join("b.JPG")).unwrap();
        fs::write(dir.path().join("notes.txt"), "no image").unwrap();
        dir
    }

    fn open(dir: &Path) -> Result<Dataset> {
        Dataset::open(dir, &Preprocess::default())
    }

    fn labels_error(csv: &str) -> String {
        let dir = folder();
        fs::write(dir.path().join("labels.csv"), csv).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: labels.csv: ", dir.path().display())).unwrap().into()
    }

    #[test]
    fn without_labels_all_images_are_taken_in_order() {
        let dir = folder();
        let data = open(dir.path()).unwrap();
        assert_eq!((data.len(), data.with_labels(), data.label(0)), (2, false, None));
        let a = data.sample(0).unwrap();
        assert_eq!(a.shape(), [1, 3, 2, 3]);
        assert_eq!(a.data(), [[10.0; 6], [20.0; 6], [30.0; 6]].concat());
        let b = data.sample(1).unwrap();
        assert_eq!((b.shape(), b.data()), (&[1, 3, 2, 2][..], &[128.0; 12][..]));
    }

    #[test]
    fn labels_csv_tells_files_and_order() {
        let dir = folder();
        fs::rename(dir.path().join("b.JPG"), dir.path().join("images/b, 2.JPG")).unwrap();
        let nhwc = Preprocess { layout: Layout::Nhwc, ..Preprocess::default() };
        for header in ["", "file,label\r\n", "\u{feff}image,class\n\n"] {
            let csv = format!("{header}b, 2.JPG,7\r\n a.png , 0\n");
            fs::write(dir.path().join("labels.csv"), csv).unwrap();
            let data = Dataset::open(dir.path(), &nhwc).unwrap();
            assert_eq!((data.len(), data.label(0), data.label(1)), (2, Some(7), Some(0)));
            assert_eq!(data.sample(1).unwrap().shape(), [1, 2, 3, 3]);
            assert_eq!(data.sample(1).unwrap().data()[..4], [10.0, 20.0, 30.0, 10.0]);
        }
    }

    #[test]
    fn faults_in_labels_csv_are_told_by_line() {
        let missing = "line 2: no file \"c.png\", nor one in \"images\"";
        assert_eq!(labels_error("a.png,0\nc.png,1\n"), missing);
        assert!(labels_error("c.png,cat\n").starts_with("line 1: no file"));
        assert!(
            labels_error("a.png,-1\n").starts_with("line 1: label \"-1\" is not a class number")
        );
        assert_eq!(
            labels_error("f,l\n\na.png\n"),
            "line 3: expected \"file,label\", got \"a.png\""
        );
    }

    #[test]
    fn labels_csv_names_no_file_outside() {
        let dir = folder();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let outside = dir.path().join("a.png");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, inner.join("link.png")).unwrap();
        for file in ["../a.png", outside.to_str().unwrap(), "link.png"] {
            fs::write(inner.join("labels.csv"), format!("{file},0\n")).unwrap();
            let error = open(&inner).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("line 1: \"{file}\" is not in the folder")),
                "{error}"
            );
        }
        fs::write(dir.path().join("labels.csv"), "inner/../a.png,0\n").unwrap();
        assert_eq!(open(dir.path()).unwrap().len(), 1);
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
        let error = read(&path, &Preprocess::default()).unwrap_err().to_string();
        assert!(error.starts_with("an image of 16384×16384 pixels; at most"), "{error}");
    }

    /// That of PNG's chunks.
    fn crc(bytes: &[u8]) -> u32 {
        let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), shift))
    }

    #[test]
    fn undecodable_images_are_named() {
        let dir = folder();
        let path = dir.path().join("a.png");
        let whole = fs::read(&path).unwrap();
        let data = open(dir.path()).unwrap();
        for content in [&[][..], b"garbage", &whole[..whole.len() / 2]] {
            fs::write(&path, content).unwrap();
            let error = data.sample(0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        }
    }

    #[test]
    fn a_folder_without_images_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: no samples", dir.path().display()));
        fs::write(dir.path().join("labels.csv"), "file,label\n").unwrap();
        assert!(open(dir.path()).unwrap_err().to_string().ends_with("no samples"));
    }

    #[test]
    fn transparency_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let image = RgbaImage::from_pixel(1, 1, image::Rgba([1, 2, 3, 0]));
        DynamicImage::from(image).save(&path).unwrap();
        assert_eq!(read(&path, &Preprocess::default()).unwrap().data(), [1.0, 2.0, 3.0]);
    }
}
