//! Options that several subcommands share.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use naive_ptq::data::{Dataset, Filter, Layout, Preprocess, Workers};
use naive_ptq::onnx::{ImportOptions, InputShapes};
use naive_ptq::quantize::Part;

/// Preprocessing of DATA: named, not guessed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Preprocessing: (x · scale − mean) / std")]
pub struct PreprocessArgs {
    /// Factor of every element, e.g. 0.00392156862745098 for x / 255
    #[arg(long, default_value_t = 1.0)]
    scale: f32,
    /// What is subtracted, one number or one for each channel
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    mean: Vec<f32>,
    /// What is divided by, one number or one for each channel
    #[arg(long, value_delimiter = ',')]
    std: Vec<f32>,
    /// Images: cut out the central square of this share of the shorter side, first
    #[arg(long, value_name = "SHARE")]
    crop_fraction: Option<f32>,
    /// Images: resize the shorter side to this
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Images: cut out the central square of this size, last
    #[arg(long, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Images: how to resize
    #[arg(long, value_enum, default_value_t = FilterArg::Bilinear)]
    filter: FilterArg,
    /// Axis order of a sample
    #[arg(long, value_enum, default_value_t = LayoutArg::Nchw)]
    layout: LayoutArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FilterArg {
    Bilinear,
    Bicubic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    Nchw,
    Nhwc,
}

impl PreprocessArgs {
    /// As the library knows it.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess {
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            crop_fraction: self.crop_fraction,
            resize: self.resize,
            crop: self.crop,
            filter: match self.filter {
                FilterArg::Bilinear => Filter::Bilinear,
                FilterArg::Bicubic => Filter::Bicubic,
            },
            layout: match self.layout {
                LayoutArg::Nchw => Layout::Nchw,
                LayoutArg::Nhwc => Layout::Nhwc,
            },
        }
    }

    /// Takes all of `kept`, if nothing is asked for.
    pub fn or(&self, kept: Option<&Preprocess>) -> Preprocess {
        let asked = self.preprocess();
        kept.filter(|_| asked == Preprocess::default()).cloned().unwrap_or(asked)
    }

    /// Opens the data at `path`, no more than `samples` of it.
    pub fn open(&self, path: &PathBuf, samples: Option<u32>) -> anyhow::Result<Dataset> {
        let data = Dataset::open(path, &self.preprocess())?;
        Ok(samples.map_or(data.clone(), |n| data.take(n as usize)))
    }
}

/// What DATA may be.
pub const DATA_HELP: &str = "DATA is a .npz with an array x (and labels y, if there are any), a .npy, \
or a folder of images, with labels.csv (file,label) if there are labels. The first axis of an array \
counts the samples.";

/// Shapes of inputs that the file leaves open.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Shape of an input whose axes the file leaves open, e.g. x=1,3,48,192; without it the data decides
    #[arg(long, value_name = "NAME=SHAPE", value_parser = parse_shape)]
    input_shape: Vec<(String, Vec<usize>)>,
    /// Make these values the outputs, and cut off what lies behind them
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    outputs: Vec<String>,
    /// Make these values inputs, and cut off what lies before them
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    from: Vec<String>,
}

impl ShapeArgs {
    /// The part of the model, and the named shapes, as a recipe has them; what is not asked for is that of `part`.
    pub fn or(&self, part: &Part) -> Part {
        let mut part = part.clone();
        part.input_shape.extend(self.input_shape.iter().cloned());
        for (own, asked) in [(&mut part.from, &self.from), (&mut part.outputs, &self.outputs)] {
            if !asked.is_empty() {
                own.clone_from(asked);
            }
        }
        part
    }

    /// The part of the model, and the named shapes; for other inputs the shape of the samples in `data`, if
    /// there is any.
    pub fn options(&self, data: Option<&Dataset>) -> anyhow::Result<ImportOptions> {
        options(&self.or(&Part::default()), data)
    }
}

/// Those of [`ShapeArgs::options`], of `part`.
pub fn options(part: &Part, data: Option<&Dataset>) -> anyhow::Result<ImportOptions> {
    let mut options =
        ImportOptions::from(part.input_shape.clone().into_iter().collect::<InputShapes>());
    if let Some(data) = data {
        options.shapes.insert(String::new(), data.sample(0)?.shape().to_vec());
    }
    options.outputs.clone_from(&part.outputs);
    options.from.clone_from(&part.from);
    Ok(options)
}

fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.split_once('=').ok_or("expected NAME=SHAPE")?;
    let sizes = shape.split([',', 'x']).map(str::parse::<usize>);
    match sizes.collect::<Result<Vec<_>, _>>() {
        Ok(sizes) => Ok((name.into(), sizes)),
        Err(e) => Err(format!("\"{shape}\" is not a shape: {e}")),
    }
}

/// Number of worker threads.
#[derive(Debug, Args)]
pub struct ThreadArgs {
    /// Worker threads, one for each core by default; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ThreadArgs {
    /// As the library knows them.
    pub fn workers(&self) -> Workers<'static> {
        let threads = self.threads.and_then(|n| NonZeroUsize::new(n.into()));
        threads.map_or_else(Workers::default, Workers::new)
    }
}
