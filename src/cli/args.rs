//! Options that several subcommands share.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use naive_ptq::data::{Dataset, Filter, Layout, Preprocess, Workers};
use naive_ptq::graph::Graph;
use naive_ptq::model::Model;
use naive_ptq::onnx::{self, ImportOptions, InputShapes};
use naive_ptq::quantize::{Part, prepare, raw_input};

use crate::say::plain;

/// Preprocessing of DATA: named, not guessed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Preprocessing: (x · scale − mean) / std")]
pub struct PreprocessArgs {
    /// Factor of every element, a number or a fraction, e.g. 1/255 [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = parse_number, allow_hyphen_values = true)]
    scale: Option<f32>,
    /// What is subtracted, one number or one for each channel
    #[arg(long, value_name = "NUMBER,…", value_parser = parse_number, value_delimiter = ',', allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// What is divided by, one number or one for each channel
    #[arg(long, value_name = "NUMBER,…", value_parser = parse_number, value_delimiter = ',', allow_hyphen_values = true)]
    std: Option<Vec<f32>>,
    /// Images: cut out the central square of this share of the shorter side, first
    #[arg(long, value_name = "SHARE")]
    crop_fraction: Option<f32>,
    /// Images: resize the shorter side to this
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Images: cut out the central square of this size, last
    #[arg(long, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Images: how to resize [default: bilinear]
    #[arg(long, value_enum)]
    filter: Option<FilterArg>,
    /// Axis order of a sample; the channels are moved to where the network wants them, of an image without being asked [default: nchw]
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
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
    /// What is asked for; where nothing is, what `kept` says. `None` if that is nothing, too.
    ///
    /// # Errors
    /// An option that says something else than `kept`, of which `source` tells where it is from.
    fn beside(&self, kept: Option<&Preprocess>, source: &str) -> anyhow::Result<Preprocess> {
        let mut all = kept.cloned().unwrap_or_default();
        let is_kept = kept.is_some();
        let differs = |option: &str, asked: String, kept: String| match is_kept && asked != kept {
            true => bail!("--{option} {asked}, but {source} says {kept}"),
            false => Ok(()),
        };
        let list = |list: &[f32]| match list {
            [] => "none".to_string(),
            list => list.iter().map(f32::to_string).collect::<Vec<_>>().join(","),
        };
        let size = |size: Option<u32>| size.map_or("none".into(), |size| size.to_string());
        if let Some(scale) = self.scale {
            differs("scale", scale.to_string(), all.scale.to_string())?;
            all.scale = scale;
        }
        for (option, asked, all) in
            [("mean", &self.mean, &mut all.mean), ("std", &self.std, &mut all.std)]
        {
            if let Some(asked) = asked {
                differs(option, list(asked), list(all))?;
                all.clone_from(asked);
            }
        }
        if let Some(fraction) = self.crop_fraction {
            let kept = all.crop_fraction.map_or("none".into(), |kept| kept.to_string());
            differs("crop-fraction", fraction.to_string(), kept)?;
            all.crop_fraction = Some(fraction);
        }
        for (option, asked, all) in
            [("resize", self.resize, &mut all.resize), ("crop", self.crop, &mut all.crop)]
        {
            if asked.is_some() {
                differs(option, size(asked), size(*all))?;
                *all = asked;
            }
        }
        if let Some(filter) = self.filter {
            let filter = match filter {
                FilterArg::Bilinear => Filter::Bilinear,
                FilterArg::Bicubic => Filter::Bicubic,
            };
            let name = |filter| format!("{filter:?}").to_lowercase();
            differs("filter", name(filter), name(all.filter))?;
            all.filter = filter;
        }
        // How the data lie is theirs, whatever those of the calibration were like.
        match self.layout {
            Some(LayoutArg::Nchw) => all.layout = Layout::Nchw,
            Some(LayoutArg::Nhwc) => all.layout = Layout::Nhwc,
            None => {}
        }
        Ok(all)
    }

    /// Takes all of `kept`, if nothing is asked for.
    pub fn or(&self, kept: Option<&Preprocess>) -> anyhow::Result<Preprocess> {
        let asked = self.beside(None, "")?;
        Ok(kept.filter(|_| asked == Preprocess::default()).cloned().unwrap_or(asked))
    }

    /// The data with what is said of how they lie.
    pub fn declared(&self, data: Dataset) -> Dataset {
        match self.layout {
            Some(LayoutArg::Nchw) => data.declared_nchw(),
            _ => data,
        }
    }

    /// Opens the data at `path`, no more than `samples` of it, prepared as `model` says, and as is asked for.
    pub fn open(&self, path: &Path, samples: Option<u32>, model: &Path) -> anyhow::Result<Dataset> {
        let mut preprocess = self.beside(kept(model)?.as_ref(), &model.display().to_string())?;
        if !path.is_dir() {
            // What was done to images is done.
            let asked = self.beside(None, "")?;
            (preprocess.crop_fraction, preprocess.resize, preprocess.crop) =
                (asked.crop_fraction, asked.resize, asked.crop);
        }
        let data = self.declared(Dataset::open(path, &preprocess)?);
        Ok(samples.map_or(data.clone(), |n| data.take(n as usize)))
    }
}

/// The preprocessing that a model file keeps.
pub fn kept(model: &Path) -> anyhow::Result<Option<Preprocess>> {
    kept_as(model, onnx::PREPROCESS)
}

/// The preprocessing that is under this key of a model file's metadata.
fn kept_as(model: &Path, key: &str) -> anyhow::Result<Option<Preprocess>> {
    // A model that cannot be read is an error of whoever reads all of it.
    let metadata = onnx::metadata(model).unwrap_or_default();
    let read = |json: &String| {
        serde_json::from_str(json).with_context(|| format!("{}: {key}", model.display()))
    };
    metadata.get(key).map(read).transpose()
}

/// The float network at `path`; it takes bytes if `model` was made to take them in place of numbers.
pub fn reference(path: &Path, model: &Path, options: &ImportOptions) -> anyhow::Result<Model> {
    let Some(raw) = kept_as(model, onnx::RAW_INPUT)? else {
        return Ok(Model::load_with(path, options)?);
    };
    let mut graph = onnx::load_with(path, options)?;
    raw_input(&mut graph, &raw).with_context(|| format!("{}", path.display()))?;
    Ok(Model::new(graph)?)
}

/// The same, prepared.
pub fn reference_graph(
    path: &Path,
    model: &Path,
    options: &ImportOptions,
) -> anyhow::Result<Graph> {
    let mut graph = onnx::load_with(path, options)?;
    if let Some(raw) = kept_as(model, onnx::RAW_INPUT)? {
        raw_input(&mut graph, &raw).with_context(|| format!("{}", path.display()))?;
    }
    prepare(&mut graph).with_context(|| format!("{}", path.display()))?;
    Ok(graph)
}

/// Loads what the data are for, whose inputs are `inputs`, and makes the data theirs. With `part` only those of the data
/// are looked at that it wants.
pub fn fitted<T>(
    data: Dataset,
    part: &Part,
    load: impl Fn(&Dataset) -> anyhow::Result<T>,
    inputs: impl Fn(&T) -> Vec<(&str, &[usize])>,
) -> anyhow::Result<(T, Dataset)> {
    let fit = |data: &Dataset| {
        let loaded = load(data)?;
        let fitted = match part.from.is_empty() && part.outputs.is_empty() {
            true => data.fit(&inputs(&loaded))?,
            false => data.fit_part(&inputs(&loaded))?,
        };
        Ok((loaded, fitted))
    };
    // Open axes may be of either order.
    match data.channels_first().map(|data| fit(&data)) {
        Some(Ok(fitted)) => Ok(fitted),
        _ => fit(&data),
    }
}

/// One line on standard error.
pub fn warn(what: &str) {
    note("warning", what);
}

/// One line on standard error, that says what `kind` it is of.
pub fn note(kind: &str, what: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain(&format!("{kind}: {what}")));
}

/// Says which inputs the data are strange to.
pub fn warn_clipped(network: &Model, data: &Dataset) -> anyhow::Result<()> {
    for strange in network.strange_inputs(data)? {
        warn(&strange);
    }
    Ok(())
}

/// A number, or a fraction of two.
fn parse_number(text: &str) -> Result<f32, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|e| format!("\"{text}\": {e}"));
    let value = match text.split_once('/') {
        Some((numerator, denominator)) => number(numerator)? / number(denominator)?,
        None => return text.trim().parse().map_err(|e| format!("{e}")),
    };
    match (value as f32).is_finite() {
        true => Ok(value as f32),
        false => Err("not a finite number".into()),
    }
}

/// What DATA may be.
pub const DATA_HELP: &str = "DATA is a .npz with an array for each input by its name, or x for the only one (and \
labels y, if there are any), a .npy, or a folder of images, with labels.csv (file,label) if there are labels, or with \
manifest.csv (names of inputs, then files). The first axis of an array counts its rows.";

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

    /// That part alone.
    pub fn part(&self) -> Part {
        self.or(&Part::default())
    }

    /// The part of the model, and the named shapes; for other inputs the shape of the samples in `data`, if
    /// there is any.
    pub fn options(&self, data: Option<&Dataset>) -> anyhow::Result<ImportOptions> {
        options(&self.part(), data)
    }
}

/// Those of [`ShapeArgs::options`], of `part`.
pub fn options(part: &Part, data: Option<&Dataset>) -> anyhow::Result<ImportOptions> {
    let mut options =
        ImportOptions::from(part.input_shape.clone().into_iter().collect::<InputShapes>());
    if let Some(data) = data {
        options.data = data.shapes();
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
