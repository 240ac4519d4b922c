//! From a stored sample to what the network was trained on.
//!
//! A float network fed with differently prepared data loses accuracy just as a badly quantized one
//! does, so this is one explicit set of options, and each has a default that changes nothing.

#[cfg(feature = "images")]
use image::RgbImage;
#[cfg(feature = "images")]
use image::imageops::{self, FilterType};

use serde::{Deserialize, Serialize};

use crate::error::{Result, bail};
use crate::tensor::Tensor;

#[cfg(feature = "images")]
/// A resized image beyond this is taken for a mistake.
const MAX_PIXELS: u64 = 1 << 26;

/// An image is cut and resized (`crop_fraction`, then `resize`, then `crop`), laid out, and each of
/// its values becomes `(x·scale − mean[c]) / std[c]` in `f32`, where `c` is the channel.
///
/// Arrays take part in the last step only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Factor of every value, 1 by default; pixels are 0…255 before it.
    pub scale: f32,
    /// Subtracted after scaling: nothing (empty), one value, or one per channel.
    pub mean: Vec<f32>,
    /// Divides last: nothing (empty), one value, or one per channel.
    pub std: Vec<f32>,
    /// Cut the centre square of this fraction of the shorter side, rounded down; in (0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_fraction: Option<f32>,
    /// Resize to this many pixels of the shorter side; the longer keeps the ratio, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// Cut the centre square of this many pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<u32>,
    /// How to resize.
    pub filter: Filter,
    /// Where the channels of a sample are.
    pub layout: Layout,
}

/// A filter for resizing, widened by the factor of reduction ("antialiased").
///
/// Pillow has the same filters, but rounds and clamps after each of its two passes, here it is done
/// once: bilinear pixels differ by at most 1, bicubic ones by more beside hard edges.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// A triangle, two pixels wide.
    #[default]
    Bilinear,
    /// Catmull-Rom's cubic (`a = −1/2`), four pixels wide.
    Bicubic,
}

/// The order of a sample's axes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[1, c, h, w]`: the channel is axis 1.
    #[default]
    Nchw,
    /// `[1, h, w, c]`: the channel is the last axis.
    Nhwc,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            crop_fraction: None,
            resize: None,
            crop: None,
            filter: Filter::default(),
            layout: Layout::default(),
        }
    }
}

impl Preprocess {
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) or [`Error::Invalid`](crate::Error::Invalid), naming
    /// the option that makes no sense or the two that do not go together.
    pub fn validate(&self) -> Result<()> {
        if !self.scale.is_finite() || self.scale == 0.0 {
            bail!(Range, "scale {} must be finite and not 0", self.scale);
        }
        if let Some(mean) = self.mean.iter().find(|v| !v.is_finite()) {
            bail!(Range, "mean {mean} must be finite");
        }
        if let Some(std) = self.std.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            bail!(Range, "std {std} must be finite and above 0");
        }
        let (means, stds) = (self.mean.len(), self.std.len());
        if means > 1 && stds > 1 && means != stds {
            bail!(Invalid, "mean has {means} values, but std has {stds}");
        }
        if let Some(fraction) = self.crop_fraction.filter(|f| !(*f > 0.0 && *f <= 1.0)) {
            bail!(Range, "crop_fraction {fraction} must be above 0 and at most 1");
        }
        for (option, size) in [("resize", self.resize), ("crop", self.crop)] {
            if size == Some(0) {
                bail!(Range, "{option} 0 leaves no pixels");
            }
        }
        match (self.resize, self.crop) {
            (Some(resize), Some(crop)) if crop > resize => {
                bail!(Invalid, "crop {crop} is larger than resize {resize}")
            }
            _ => Ok(()),
        }
    }

    /// An option that is set but has a meaning for images only.
    pub(super) fn image_option(&self) -> Option<&'static str> {
        let fraction = self.crop_fraction.map(|_| "crop_fraction");
        fraction.or(self.resize.map(|_| "resize")).or(self.crop.map(|_| "crop"))
    }

    /// The sample `[1, …]` with each value replaced by `(x·scale − mean[c]) / std[c]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `mean` or `std` has several values, but another
    /// number than the sample has channels.
    pub fn apply(&self, mut sample: Tensor<f32>) -> Result<Tensor<f32>> {
        let (layout, axis) = match self.layout {
            Layout::Nchw => ("nchw", 1),
            Layout::Nhwc => ("nhwc", sample.shape().len().saturating_sub(1).max(1)),
        };
        let channels = sample.shape().get(axis).copied().unwrap_or(1);
        for (option, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() > 1 && values.len() != channels {
                bail!(
                    Shape,
                    "{option} has {} values, but a sample {:?} in layout {layout} has {channels} channels",
                    values.len(),
                    sample.shape()
                );
            }
        }
        let pick = |values: &[f32], channel: usize, none| match values {
            [] => none,
            [one] => *one,
            many => many[channel],
        };
        let run = sample.shape().iter().skip(axis + 1).product::<usize>().max(1);
        for (i, run) in sample.data_mut().chunks_mut(run).enumerate() {
            let (mean, std) =
                (pick(&self.mean, i % channels, 0.0), pick(&self.std, i % channels, 1.0));
            run.iter_mut().for_each(|x| *x = (*x * self.scale - mean) / std);
        }
        Ok(sample)
    }

    /// `image`, cut and resized.
    #[cfg(feature = "images")]
    pub(super) fn frame(&self, mut image: RgbImage) -> Result<RgbImage> {
        if let Some(fraction) = self.crop_fraction {
            let shorter = image.width().min(image.height());
            image = centre(image, ((shorter as f32 * fraction) as u32).max(1))?;
        }
        if let Some(side) = self.resize {
            image = resize(&image, side, self.filter)?;
        }
        if let Some(side) = self.crop {
            image = centre(image, side)?;
        }
        let (width, height) = image.dimensions();
        match u64::from(width) * u64::from(height) {
            pixels if pixels > MAX_PIXELS => {
                bail!(Range, "{width}×{height} pixels make too large a sample; crop or resize them")
            }
            _ => Ok(image),
        }
    }
}

/// Resized to `side` pixels of the shorter side.
#[cfg(feature = "images")]
fn resize(image: &RgbImage, side: u32, filter: Filter) -> Result<RgbImage> {
    let (width, height) = image.dimensions();
    let scaled = |n: u32| u64::from(n) * u64::from(side) / u64::from(width.min(height).max(1));
    let (new_width, new_height) =
        match (u32::try_from(scaled(width)), u32::try_from(scaled(height))) {
            (Ok(w), Ok(h)) if u64::from(w) * u64::from(h) <= MAX_PIXELS => (w, h),
            _ => bail!(Range, "resize {side} makes too large an image of {width}×{height} pixels"),
        };
    let filter = match filter {
        Filter::Bilinear => FilterType::Triangle,
        Filter::Bicubic => FilterType::CatmullRom,
    };
    Ok(imageops::resize(image, new_width, new_height, filter))
}

/// The centre square, its corner rounded half to even as torchvision does.
#[cfg(feature = "images")]
fn centre(image: RgbImage, side: u32) -> Result<RgbImage> {
    let (width, height) = image.dimensions();
    let Some((x, y)) = width.checked_sub(side).zip(height.checked_sub(side)) else {
        bail!(Range, "crop {side} is larger than an image of {width}×{height} pixels");
    };
    let half = |n: u32| n / 2 + (n % 2) * (n / 2 % 2);
    Ok(imageops::crop_imm(&image, half(x), half(y), side, side).to_image())
}

#[cfg(test)]
#[cfg(feature = "images")]
mod tests {
    use image::Rgb;

    use super::*;

    fn sample(shape: &[usize], data: &[f32]) -> Tensor<f32> {
        Tensor::new(shape, data.to_vec()).unwrap()
    }

    /// A picture whose rows are all `row`.
    fn stripes(row: &[u8], height: u32) -> RgbImage {
        let width = u32::try_from(row.len()).unwrap();
        RgbImage::from_fn(width, height, |x, _| Rgb([row[x as usize]; 3]))
    }

    fn first_row(image: &RgbImage) -> Vec<u8> {
        (0..image.width()).map(|x| image.get_pixel(x, 0).0[0]).collect()
    }

    #[test]
    fn values_follow_the_formula_in_either_layout() {
        let mut p = Preprocess {
            scale: 0.5,
            mean: vec![1.0, 2.0],
            std: vec![2.0, 0.25],
            ..Preprocess::default()
        };
        let nchw = p.apply(sample(&[1, 2, 1, 2], &[0.0, 2.0, 4.0, 8.0])).unwrap();
        assert_eq!(nchw.data(), [-0.5, 0.0, 0.0, 8.0]);
        p.layout = Layout::Nhwc;
        let nhwc = p.apply(sample(&[1, 1, 2, 2], &[0.0, 4.0, 2.0, 8.0])).unwrap();
        assert_eq!(nhwc.data(), [-0.5, 0.0, 0.0, 8.0]);
        p.std = vec![2.0];
        let one_std = p.apply(sample(&[1, 2], &[2.0, 8.0])).unwrap();
        assert_eq!(one_std.data(), [0.0, 1.0]);
    }

    #[test]
    fn the_default_changes_nothing() {
        for shape in [&[1][..], &[1, 3], &[1, 0, 2], &[1, 1, 3, 2]] {
            let x = sample(shape, &vec![0.1; shape.iter().product()]);
            assert_eq!(Preprocess::default().apply(x.clone()).unwrap(), x);
        }
    }

    #[test]
    fn channels_must_match() {
        let p = Preprocess { mean: vec![1.0; 3], ..Preprocess::default() };
        let error = p.apply(sample(&[1, 2], &[0.0; 2])).unwrap_err().to_string();
        let expected = "mean has 3 values, but a sample [1, 2] in layout nchw has 2 channels";
        assert_eq!(error, expected);
        let p = Preprocess { std: vec![1.0; 3], layout: Layout::Nhwc, ..Preprocess::default() };
        assert!(p.apply(sample(&[1], &[0.0])).is_err());
    }

    #[test]
    fn options_validate_themselves() {
        let default = Preprocess::default;
        for (bad, name) in [
            (Preprocess { scale: f32::NAN, ..default() }, "scale NaN"),
            (Preprocess { scale: 0.0, ..default() }, "scale 0"),
            (Preprocess { mean: vec![0.0, f32::INFINITY], ..default() }, "mean inf"),
            (Preprocess { std: vec![1.0, 0.0], ..default() }, "std 0"),
            (Preprocess { std: vec![-1.0], ..default() }, "std -1"),
            (Preprocess { mean: vec![0.0; 3], std: vec![1.0; 2], ..default() }, "mean has 3"),
            (Preprocess { crop_fraction: Some(1.5), ..default() }, "crop_fraction 1.5"),
            (Preprocess { crop_fraction: Some(f32::NAN), ..default() }, "crop_fraction NaN"),
            (Preprocess { resize: Some(0), ..default() }, "resize 0"),
            (Preprocess { crop: Some(0), ..default() }, "crop 0"),
            (
                Preprocess { resize: Some(8), crop: Some(9), ..default() },
                "crop 9 is larger than resize 8",
            ),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        default().validate().unwrap();
    }

    #[test]
    fn reducing_by_two_weighs_more_than_two_pixels() {
        // Triangle at distances ¼ ¼ ¾ 1¼ of the doubled width: weights 3 3 1 0, over 7.
        let image = stripes(&[0, 70, 140, 210], 4);
        assert_eq!(first_row(&resize(&image, 2, Filter::Bilinear).unwrap()), [50, 160]);
        // Catmull-Rom there: 0.8671875, 0.8671875, 0.2265625, −0.0703125, over 1.890625.
        assert_eq!(first_row(&resize(&image, 2, Filter::Bicubic).unwrap()), [41, 169]);
    }

    /// Made by Pillow 13.0.0: `im.resize((width, height), Resampling.BILINEAR)` of the picture below.
    #[test]
    fn bilinear_pixels_are_those_of_pillow_but_for_its_rounding() {
        let pixel = |x: u32, y: u32| Rgb([((37 * x * x + 91 * y + 11 * x * y) % 256) as u8; 3]);
        let image = RgbImage::from_fn(13, 9, pixel);
        let smaller: [u8; 7 * 5] = [
            73, 103, 129, 115, 133, 109, 141, 141, 140, 146, 104, 130, 102, 121, 121, 137, 159,
            126, 107, 165, 139, 114, 122, 114, 115, 101, 102, 91, 153, 105, 86, 94, 138, 168, 138,
        ];
        let larger: [u8; 15 * 11] = [
            0, 30, 111, 110, 78, 101, 143, 52, 25, 53, 134, 151, 119, 142, 208, 66, 102, 67, 110,
            172, 151, 89, 166, 146, 181, 157, 107, 82, 111, 184, 141, 184, 109, 100, 137, 143, 131,
            155, 143, 185, 128, 57, 40, 77, 157, 122, 172, 168, 135, 126, 145, 142, 74, 70, 120,
            126, 100, 91, 117, 130, 34, 91, 172, 186, 184, 181, 100, 40, 43, 67, 166, 213, 212,
            213, 103, 108, 173, 122, 74, 80, 140, 221, 168, 179, 57, 109, 163, 170, 179, 76, 182,
            87, 142, 171, 185, 197, 132, 87, 106, 145, 135, 113, 127, 145, 49, 94, 99, 107, 105,
            127, 135, 65, 169, 54, 114, 96, 63, 86, 111, 22, 75, 161, 134, 109, 93, 69, 89, 181,
            94, 80, 108, 130, 121, 100, 111, 150, 187, 154, 137, 100, 61, 122, 100, 142, 102, 162,
            220, 172, 94, 224, 216, 111, 47, 37, 81, 112, 43, 28, 77, 181, 185, 176, 135, 63, 200,
        ];
        for (side, pillow) in [(5, &smaller[..]), (11, &larger)] {
            let resized = resize(&image, side, Filter::Bilinear).unwrap();
            assert_eq!(resized.pixels().len(), pillow.len());
            let differences = resized.pixels().zip(pillow).map(|(p, &q)| p.0[0].abs_diff(q));
            assert!(differences.max() <= Some(1), "side {side}");
        }
    }

    #[test]
    fn frames_are_cut_and_resized_in_order() {
        let frame = |p: Preprocess, image| p.frame(image).map(|i| (i.dimensions(), first_row(&i)));
        let row: Vec<u8> = (0..7).collect();
        let p = Preprocess { crop: Some(2), ..Preprocess::default() };
        assert_eq!(frame(p.clone(), stripes(&row, 4)).unwrap(), ((2, 2), vec![2, 3]));
        assert_eq!(frame(p, stripes(&row[..5], 4)).unwrap(), ((2, 2), vec![2, 3]));
        let p = Preprocess { crop_fraction: Some(0.75), ..Preprocess::default() };
        assert_eq!(frame(p, stripes(&row, 5)).unwrap(), ((3, 3), vec![2, 3, 4]));
        let p = Preprocess { resize: Some(5), ..Preprocess::default() };
        assert_eq!(frame(p, stripes(&row, 3)).unwrap().0, (11, 5));
        let p = Preprocess {
            crop_fraction: Some(0.5),
            resize: Some(6),
            crop: Some(4),
            ..Preprocess::default()
        };
        assert_eq!(frame(p, stripes(&[9; 20], 10)).unwrap(), ((4, 4), vec![9; 4]));
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let p = Preprocess { crop: Some(5), ..Preprocess::default() };
        let error = p.frame(stripes(&[0; 9], 4)).unwrap_err().to_string();
        assert_eq!(error, "crop 5 is larger than an image of 9×4 pixels");
        let error =
            resize(&stripes(&[0; 9], 1), u32::MAX, Filter::Bilinear).unwrap_err().to_string();
        assert!(error.starts_with("resize 4294967295 makes too large an image of 9×1"), "{error}");
    }
}
