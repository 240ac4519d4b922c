//! `naive-ptq conv`: the tutorial of `src/naive_conv.rs`, and its results as files.
//!
//! The files are those of the project's predecessor, so that either side can check the other:
//!
//! | file | content |
//! |---|---|
//! | `conv.json` | `{"weight":{"num_bit","shift_bit","shape":[out,in,kh,kw],"arr"},"bias":{…,"shape":[out],…},"input_shiftbit"}`, here also `"stride"` and `"padding"` (absent: 1 and 0) |
//! | `quant_conv_info.json` | `{"input_shiftbit","input_shape":[1,c,h,w],"input_numbit","output_shiftbit","output_shape","output_numbit"}` |
//! | `q_input_asint32.bin`, `q_output_asint32.bin` | codes and accumulators, little-endian `i32` |
//! | `q_output_asint64.bin` | accumulators of 16-bit codes, little-endian `i64`, instead of the former |
//! | `input_fp64.bin`, `output_fp64.bin` | the float convolution, little-endian `f64` |
//!
//! Shifts and codes must fit together and each number its type; so a dump of the predecessor passes
//! unless a code lies in the second half of the twofold range that it clipped to.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Error, Result, anyhow, ensure};
use naive_ptq::data::update_folder;
use naive_ptq::text::escaped;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use naive_ptq::naive_conv::Options;
use naive_ptq::naive_conv::{Experiment, Geometry, deploy, tell_loss};

const CONV: &str = "conv.json";
const INFO: &str = "quant_conv_info.json";
const INPUT: &str = "q_input_asint32.bin";
const OUTPUT_32: &str = "q_output_asint32.bin";
const OUTPUT_64: &str = "q_output_asint64.bin";
const INPUT_REAL: &str = "input_fp64.bin";
const OUTPUT_REAL: &str = "output_fp64.bin";

const EXAMPLES: &str = "\
Examples:
  naive-ptq conv                                    tell the three steps
  naive-ptq conv --kernel 3 --stride 2 --pad 1 --bits 16
  naive-ptq conv --dump dumps                       write the integers and the true output
  naive-ptq conv --check dumps                      compute it again and compare bit for bit

Exit status: 0 equal, 1 not equal, 2 an error.";

/// The tutorial: one convolution, quantized and deployed in three visible steps
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Write the quantized convolution, an input and the true output into this folder
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Read such a folder, compute with integers only, compare bit for bit
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dump", "in_ch", "out_ch", "height",
        "width", "kernel", "stride", "pad", "samples", "bits", "seed"])]
    check: Option<PathBuf>,
    /// Print the result of --check as JSON
    #[arg(long, requires = "check", conflicts_with = "dump")]
    json: bool,
    /// Input channels
    #[arg(long, value_name = "N", default_value_t = 4)]
    in_ch: usize,
    /// Output channels
    #[arg(long, value_name = "N", default_value_t = 8)]
    out_ch: usize,
    /// Input height
    #[arg(long, value_name = "N", default_value_t = 20)]
    height: usize,
    /// Input width
    #[arg(long, value_name = "N", default_value_t = 30)]
    width: usize,
    /// Kernel size: N, or HxW
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_kernel)]
    kernel: [usize; 2],
    /// Distance between two kernel positions
    #[arg(long, value_name = "N", default_value_t = 1)]
    stride: usize,
    /// Zeros around the input
    #[arg(long, value_name = "N", default_value_t = 0)]
    pad: usize,
    /// Number of calibration inputs
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Width of weight and input codes: 8 or 16
    #[arg(long, value_name = "N", default_value_t = 8)]
    bits: u32,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 1233)]
    seed: u64,
}

fn parse_kernel(text: &str) -> Result<[usize; 2], std::num::ParseIntError> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    Ok([height.parse()?, width.parse()?])
}

impl From<&Args> for Options {
    fn from(args: &Args) -> Self {
        let &Args { in_ch, out_ch, height, width, kernel, stride, pad, .. } = args;
        let geometry = Geometry { in_ch, height, width, out_ch, kernel, stride, pad };
        Self { geometry, samples: args.samples as usize, bits: args.bits, seed: args.seed }
    }
}

/// Runs the subcommand. Exit code 1: `--check` found a difference.
///
/// # Errors
/// Impossible options; files that cannot be written, or read, or that contradict themselves.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match (&args.check, &args.dump) {
        (Some(dir), _) => return check(dir, args.json, &mut out),
        (_, Some(dir)) => {
            dump(&(&args).into(), dir)?;
            writeln!(out, "wrote {}", escaped(&dir.to_string_lossy()))?;
        }
        _ => experiment(&(&args).into())?.tell(&mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn experiment(options: &Options) -> Result<Experiment> {
    lengths(&options.geometry)?;
    ensure!([8, 16].contains(&options.bits), "expected 8 or 16 bits, got {}", options.bits);
    ensure!(options.samples > 0, "expected at least 1 calibration sample, got 0");
    Experiment::new(options).map_err(Error::msg)
}

/// Numbers of inputs, weights and outputs. No size may be 0, no tensor may exceed 2^28 elements
/// (which also keeps all index arithmetic from overflowing), and the kernel must fit.
fn lengths(geometry: &Geometry) -> Result<[usize; 3]> {
    let &Geometry { in_ch, height, width, out_ch, kernel, stride, pad } = geometry;
    let product = |what, sizes: &[usize]| {
        let product = sizes.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        let legal = product.filter(|n| (1..=1 << 28).contains(n));
        legal.with_context(|| format!("{what} {sizes:?}: expected 1 to 2^28 elements"))
    };
    ensure!((1..=1 << 28).contains(&stride), "stride {stride}: expected 1 to 2^28");
    ensure!(pad <= 1 << 28, "padding {pad}: expected 0 to 2^28");
    let inputs = product("input shape", &[1, in_ch, height, width])?;
    let weights = product("weight shape", &[out_ch, in_ch, kernel[0], kernel[1]])?;
    let padded = [height, width].map(|size| size + 2 * pad);
    let fits = kernel[0] <= padded[0] && kernel[1] <= padded[1];
    ensure!(fits, "the kernel {kernel:?} exceeds the padded input {padded:?}");
    let [out_height, out_width] = geometry.out_size();
    Ok([inputs, weights, product("output shape", &[1, out_ch, out_height, out_width])?])
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes<Shape> {
    num_bit: u32,
    shift_bit: i32,
    shape: Shape,
    arr: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conv {
    weight: Codes<[usize; 4]>,
    bias: Codes<[usize; 1]>,
    input_shiftbit: i32,
    #[serde(default = "one")]
    stride: usize,
    #[serde(default)]
    padding: usize,
}

fn one() -> usize {
    1
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    input_shiftbit: i32,
    input_shape: [usize; 4],
    input_numbit: u32,
    output_shiftbit: i32,
    output_shape: [usize; 4],
    output_numbit: u32,
}

/// Quantizes a random convolution and writes the files listed above into `dir`, which is created.
///
/// # Errors
/// Impossible options, or a file that cannot be written.
pub fn dump(options: &Options, dir: &Path) -> Result<()> {
    let e = experiment(options)?;
    let deploy::Layer { geometry: g, bits, weight_shift, input_shift, .. } = e.layer;
    let [out_height, out_width] = g.out_size();
    let (shift_bit, num_bit) = (weight_shift + input_shift, 4 * bits);
    let arr = e.layer.weight.iter().map(|&code| code.into()).collect();
    let shape = [g.out_ch, g.in_ch, g.kernel[0], g.kernel[1]];
    let conv = Conv {
        weight: Codes { num_bit: bits, shift_bit: weight_shift, shape, arr },
        bias: Codes { num_bit, shift_bit, shape: [g.out_ch], arr: e.layer.bias },
        input_shiftbit: input_shift,
        stride: g.stride,
        padding: g.pad,
    };
    let info = Info {
        input_shiftbit: input_shift,
        input_shape: [1, g.in_ch, g.height, g.width],
        input_numbit: bits,
        output_shiftbit: shift_bit,
        output_shape: [1, g.out_ch, out_height, out_width],
        output_numbit: num_bit,
    };
    let (output_name, stale) = output_names(bits);
    let output = if bits == 8 {
        let narrow = e.ground_truth.iter().map(|&sum| i32::try_from(sum));
        bytes(&narrow.collect::<Result<Vec<_>, _>>()?, i32::to_le_bytes)
    } else {
        bytes(&e.ground_truth, i64::to_le_bytes)
    };
    let files = [
        (CONV, serde_json::to_vec(&conv)?),
        (INFO, serde_json::to_vec(&info)?),
        (INPUT, bytes(&e.input_codes, i32::to_le_bytes)),
        (output_name, output),
        (INPUT_REAL, bytes(&e.input, f64::to_le_bytes)),
        (OUTPUT_REAL, bytes(&e.output, f64::to_le_bytes)),
    ];
    let parents = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    parents.map_or(Ok(()), fs::create_dir_all).map_err(|error| at(dir, error))?;
    Ok(update_folder(dir, &files.map(|(name, content)| (name.into(), content)), &[stale.into()])?)
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], to_bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| to_bytes(number)).collect()
}

fn at(path: &Path, error: impl std::fmt::Display) -> Error {
    anyhow!("{}: {error}", path.display())
}

/// Computes the convolution dumped in `dir` and compares; exit code 0 if all is equal, else 1.
///
/// # Errors
/// A file is missing, malformed, or contradicts itself or another; or `out` cannot be written to.
pub fn check(dir: &Path, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let Dump { layer, input, ground_truth, output_real } = read(dir)?;
    let output = layer.convolve(&input);
    let different = deploy::differences(&output, &ground_truth);
    let (all, equal) = (output.len(), output.len() - different.len());
    let first = different.first().map(|&index| (index, output[index], ground_truth[index]));
    if json {
        let first = first.map(|(index, computed, dumped)| {
            serde_json::json!({"index": index, "computed": computed, "dumped": dumped})
        });
        let result = serde_json::json!({"equal": equal, "outputs": all, "first_difference": first});
        writeln!(out, "{result}")?;
    } else if let Some((index, computed, dumped)) = first {
        writeln!(out, "inconsistent: {} of {all} outputs differ", different.len())?;
        writeln!(out, "first at index {index}: computed {computed}, dumped {dumped}")?;
    } else {
        writeln!(out, "consistent: {equal} of {all} outputs equal\n")?;
        tell_loss(out, &output, layer.weight_shift + layer.input_shift, &output_real)?;
    }
    Ok(ExitCode::from(u8::from(first.is_some())))
}

/// A validated dump: `layer.convolve(&input)` can neither overflow nor panic.
struct Dump {
    layer: deploy::Layer,
    input: Vec<i32>,
    ground_truth: Vec<i64>,
    output_real: Vec<f64>,
}

/// The layer, and its numbers of inputs and outputs.
fn read_layer(dir: &Path) -> Result<(deploy::Layer, usize, usize)> {
    let conv: Conv = read_json(dir, CONV)?;
    let info: Info = read_json(dir, INFO)?;
    let Codes { num_bit: bits, shift_bit: weight_shift, shape, arr: weight } = conv.weight;
    let Codes { num_bit: bias_bits, shift_bit: bias_shift, shape: bias_shape, arr: bias } =
        conv.bias;
    let ([out_ch, in_ch, kernel_h, kernel_w], input_shift) = (shape, conv.input_shiftbit);
    let [_, _, height, width] = info.input_shape;
    let kernel = [kernel_h, kernel_w];
    let (stride, pad) = (conv.stride, conv.padding);
    let geometry = Geometry { in_ch, height, width, out_ch, kernel, stride, pad };

    ensure!([8, 16].contains(&bits), "{CONV}: weight.num_bit is {bits}, expected 8 or 16");
    equal("conv.json: bias.num_bit", bias_bits, 4 * bits)?;
    equal("quant_conv_info.json: input_numbit", info.input_numbit, bits)?;
    if info.output_numbit != bits {
        // The predecessor wrote the width of the operands here.
        equal("quant_conv_info.json: output_numbit", info.output_numbit, 4 * bits)?;
    }
    for (what, shift) in [("weight.shift_bit", weight_shift), ("input_shiftbit", input_shift)] {
        // So that 2^-shift is a normal float.
        ensure!(shift.unsigned_abs() <= 500, "{CONV}: {what} is {shift}, expected -500 to 500");
    }
    equal("quant_conv_info.json: input_shiftbit", info.input_shiftbit, input_shift)?;
    equal("conv.json: bias.shift_bit", bias_shift, weight_shift + input_shift)?;
    equal("quant_conv_info.json: output_shiftbit", info.output_shiftbit, bias_shift)?;
    equal("quant_conv_info.json: input_shape", info.input_shape, [1, in_ch, height, width])?;
    equal("conv.json: bias.shape", bias_shape, [out_ch])?;
    let [inputs, weights, outputs] = lengths(&geometry).map_err(|error| at(dir, error))?;
    let [out_height, out_width] = geometry.out_size();
    let output_shape = [1, out_ch, out_height, out_width];
    equal("quant_conv_info.json: output_shape", info.output_shape, output_shape)?;
    equal("conv.json: length of weight.arr", weight.len(), weights)?;
    equal("conv.json: length of bias.arr", bias.len(), out_ch)?;

    let weight = in_range("conv.json: weight.arr", weight, bits)?;
    let bias = in_range("conv.json: bias.arr", bias, bias_bits)?;
    let layer = deploy::Layer { geometry, bits, weight, weight_shift, bias, input_shift };
    layer.prove_no_overflow().map_err(|error| at(&dir.join(CONV), error))?;
    Ok((layer, inputs, outputs))
}

fn read(dir: &Path) -> Result<Dump> {
    let (layer, inputs, outputs) = read_layer(dir)?;
    let bits = layer.bits;
    let input = read_numbers(dir, INPUT, inputs, |le| i32::from_le_bytes(le).into())?;
    let input = in_range("q_input_asint32.bin: input", input, bits)?;
    let (name, other) = output_names(bits);
    let stray = dir.join(other);
    ensure!(!stray.exists(), "{}: outputs of {bits}-bit codes belong in {name}", stray.display());
    let ground_truth = match bits {
        8 => read_numbers(dir, name, outputs, |le| i32::from_le_bytes(le).into())?,
        _ => read_numbers(dir, name, outputs, i64::from_le_bytes)?,
    };
    let finite = |name, count| {
        let reals = read_numbers(dir, name, count, f64::from_le_bytes)?;
        ensure!(reals.iter().all(|real| real.is_finite()), "{name}: a number is not finite");
        Ok(reals)
    };
    finite(INPUT_REAL, inputs)?;
    Ok(Dump { layer, input, ground_truth, output_real: finite(OUTPUT_REAL, outputs)? })
}

/// The file that outputs are in, and the one that must not be there.
fn output_names(bits: u32) -> (&'static str, &'static str) {
    if bits == 8 { (OUTPUT_32, OUTPUT_64) } else { (OUTPUT_64, OUTPUT_32) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{what} is {got:?}, expected {expected:?}");
    Ok(())
}

fn in_range<T: TryFrom<i64>>(what: &str, codes: Vec<i64>, bits: u32) -> Result<Vec<T>> {
    let (min, max) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    let convert = |(index, code)| {
        let legal = T::try_from(code).ok().filter(|_| (min..=max).contains(&code));
        let range = || format!("{what}[{index}] is {code}, but {bits} bits hold {min} to {max}");
        legal.with_context(range)
    };
    codes.into_iter().enumerate().map(convert).collect()
}

fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let metadata = fs::metadata(&path).map_err(|error| at(&path, error))?;
    // A device or a pipe might go on for ever.
    ensure!(metadata.is_file(), "{}: not a file", path.display());
    let content = fs::read(&path).map_err(|error| at(&path, error))?;
    serde_json::from_slice(&content).map_err(|error| at(&path, error))
}

/// Compares the file's size with `count` before reading it.
fn read_numbers<T, const N: usize>(
    dir: &Path,
    name: &str,
    count: usize,
    from_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let path = dir.join(name);
    let size = fs::metadata(&path).map_err(|error| at(&path, error))?.len();
    let expected = (count * N) as u64;
    ensure!(size == expected, "{}: {size} bytes, expected {expected}", path.display());
    let content = fs::read(&path).map_err(|error| at(&path, error))?;
    let numbers: Vec<_> = content.as_chunks().0.iter().map(|&bytes| from_bytes(bytes)).collect();
    ensure!(numbers.len() == count, "{}: changed while it was read", path.display());
    Ok(numbers)
}
