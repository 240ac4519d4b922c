//! `naive-ptq conv` and its tutorial: against itself, against NumPy, and against bad files.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // in helpers of tests, too

#[allow(dead_code)] // `run` and its arguments are tested through the binary
#[path = "../src/cli/conv.rs"]
mod conv;

#[path = "../src/testing/skip.rs"]
mod skip;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use conv::{Options, check, dump};
use naive_ptq::naive_conv::{Experiment, Geometry, choose_shift, convolve, quantize};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tempfile::{TempDir, tempdir};

const FILES: [&str; 6] = [
    "conv.json",
    "quant_conv_info.json",
    "q_input_asint32.bin",
    "q_output_asint32.bin",
    "input_fp64.bin",
    "output_fp64.bin",
];

const SHAPES: [&str; 8] = [
    "",
    "--bits 16",
    "--kernel 3 --stride 2 --pad 1",
    "--kernel 3 --stride 2 --pad 1 --bits 16 --seed 7",
    "--kernel 5 --pad 2 --in-ch 3 --out-ch 2 --height 9 --width 11 --samples 3",
    "--kernel 5 --stride 3 --in-ch 1 --out-ch 1 --height 5 --width 5 --bits 16",
    "--kernel 2x5 --stride 7 --pad 4 --height 1 --width 1 --samples 1",
    "--in-ch 1 --out-ch 1 --height 1 --width 1 --samples 1 --seed 17",
];

fn conv(arguments: &str, flag: &str, dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
    command.arg("conv").args(arguments.split_whitespace()).arg(flag).arg(dir).output().unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, texts: &[&str]) {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "stdout: {stdout}\nstderr: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let text = if code == 2 { stderr } else { stdout };
    for expected in texts {
        assert!(text.contains(expected), "expected {expected:?} in {text:?}");
    }
}

/// 2 → 2 channels of 3×4, kernel 2×2: 12 inputs, 16 weights, 12 outputs.
fn small(bits: u32) -> (TempDir, Options) {
    let geometry =
        Geometry { in_ch: 2, height: 3, width: 4, out_ch: 2, kernel: [2, 2], stride: 1, pad: 0 };
    let options = Options { geometry, samples: 4, bits, ..Options::default() };
    let dir = tempdir().unwrap();
    dump(&options, dir.path()).unwrap();
    (dir, options)
}

#[test]
fn dumps_are_consistent() {
    for shape in SHAPES {
        let dir = tempdir().unwrap();
        let dir = dir.path().join("new/folder");
        assert_exit(&conv(shape, "--dump", &dir), 0, &["wrote"]);
        assert_exit(&conv("", "--check", &dir), 0, &["consistent: ", " outputs equal", "SQNR"]);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 6, "{shape}");
    }
}

/// The defaults of the arguments, of `Options` and of the example are one.
#[test]
fn the_default_run_never_changes() {
    let (arguments, options) = (tempdir().unwrap(), tempdir().unwrap());
    assert_exit(&conv("", "--dump", arguments.path()), 0, &[]);
    dump(&Options::default(), options.path()).unwrap();
    for file in FILES {
        assert_eq!(
            fs::read(arguments.path().join(file)).unwrap(),
            fs::read(options.path().join(file)).unwrap(),
            "{file}"
        );
    }
    let e = Experiment::new(&Options::default()).unwrap();
    assert_eq!(e.layer.weight[..5], [8, -87, -114, 67, 121]);
    assert_eq!(e.ground_truth[..5], [-409, -13350, -18143, -2604, -5032]);
    assert_eq!((e.layer.weight_shift, e.layer.input_shift), (6, 7));
    assert_exit(
        &conv("", "--check", arguments.path()),
        0,
        &["consistent: 4800 of 4800 outputs equal\n"],
    );
    assert_exit(
        &Command::new(env!("CARGO_BIN_EXE_naive-ptq")).arg("conv").output().unwrap(),
        0,
        &["Step 1", "Step 2", "Step 3", "consistent: 4800 of 4800", "SQNR      42.21 dB", "####"],
    );
}

#[test]
fn a_dump_replaces_one_of_other_width() {
    let (dir, options) = small(16);
    assert_exit(&conv("", "--check", dir.path()), 0, &["12 of 12"]);
    assert!(dir.path().join("q_output_asint64.bin").exists());
    assert!(!dir.path().join("q_output_asint32.bin").exists());
    for bits in [8, 16] {
        dump(&Options { bits, ..options }, dir.path()).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 0, &["12 of 12"]);
    }
}

#[test]
fn the_deployed_part_knows_no_float() {
    let source = include_str!("../src/naive_conv.rs");
    let block = |start: &str| {
        let block = &source[source.find(start).unwrap()..];
        &block[..block.find("\n}\n").unwrap()]
    };
    let starts = ["pub mod deploy {", "pub struct Geometry", "impl Geometry", "pub fn indices"];
    for block in starts.map(block) {
        for float in ["f32", "f64", "f16", "f128", "powi", "0.0"] {
            assert!(!block.contains(float), "{float} in {block}");
        }
    }
}

#[test]
fn shifts_are_exact() {
    for (max_abs, shift_8) in [
        (1.0, 6),
        (1.0_f64.next_down(), 7),
        (2.0_f64.next_down(), 6),
        (2.0, 5),
        (0.1, 10),
        (127.0, 0),
        (128.0, -1),
        (1e6, -13),
        (2f64.powi(-29).next_down(), 36), // log2 of it rounds to -29
        (0.0, 6),
    ] {
        assert_eq!(choose_shift(max_abs, 8), shift_8, "{max_abs}");
        assert_eq!(choose_shift(max_abs, 16), shift_8 + 8, "{max_abs}");
    }
}

#[test]
fn codes_round_half_even_and_clamp() {
    for (real, bits, shift, code) in [
        (0.5, 8, 0, 0),
        (1.5, 8, 0, 2),
        (2.5, 8, 0, 2),
        (-2.5, 8, 0, -2),
        (1.9999, 8, 6, 127),
        (-2.0, 8, 6, -128),
        (-2.1, 8, 6, -128),
        (1000.0, 8, -3, 125),
        (-1028.0, 8, -3, -128),
        (1.0, 16, 15, 32767),
        (1.0, 32, 40, i64::from(i32::MAX)),
        (1.0, 64, 80, i64::MAX),
        (-1.0, 64, 80, i64::MIN),
        (0.75, 64, 62, 3 << 60),
    ] {
        assert_eq!(quantize(real, bits, shift), code, "{real} {bits} {shift}");
    }
}

/// Scatter instead of gather: each input element adds its share to all outputs it touches.
fn scatter(g: &Geometry, weight: &[f64], bias: &[f64], input: &[f64]) -> Vec<f64> {
    let [kernel_h, kernel_w] = g.kernel;
    let out_h = (g.height + 2 * g.pad - kernel_h) / g.stride + 1;
    let out_w = (g.width + 2 * g.pad - kernel_w) / g.stride + 1;
    let mut output: Vec<f64> =
        bias.iter().flat_map(|&b| std::iter::repeat_n(b, out_h * out_w)).collect();
    for (at, &real) in input.iter().enumerate() {
        let (i, y, x) = (at / g.width / g.height, at / g.width % g.height, at % g.width);
        for (tap, filter) in
            (0..kernel_h * kernel_w).flat_map(|t| (0..g.out_ch).map(move |o| (t, o)))
        {
            let (ky, kx) = (tap / kernel_w, tap % kernel_w);
            let (row, column) = (y + g.pad, x + g.pad);
            if row < ky || column < kx || (row - ky) % g.stride + (column - kx) % g.stride != 0 {
                continue;
            }
            let (oy, ox) = ((row - ky) / g.stride, (column - kx) / g.stride);
            if oy < out_h && ox < out_w {
                let w =
                    weight[filter * g.in_ch * kernel_h * kernel_w + i * kernel_h * kernel_w + tap];
                output[filter * out_h * out_w + oy * out_w + ox] += w * real;
            }
        }
    }
    output
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let sizes = (1..4_usize, 1..8_usize, 1..8_usize, 1..4_usize);
    (sizes, [1..6_usize, 1..6_usize], 1..4_usize, 0..4_usize)
        .prop_map(|((in_ch, height, width, out_ch), kernel, stride, pad)| Geometry {
            in_ch,
            height,
            width,
            out_ch,
            kernel,
            stride,
            pad,
        })
        .prop_filter("kernel fits", |g| {
            g.kernel[0] <= g.height + 2 * g.pad && g.kernel[1] <= g.width + 2 * g.pad
        })
}

/// So many cases; what fails is kept beside what the library's tests keep.
fn cases(cases: u32) -> ProptestConfig {
    let file = FileFailurePersistence::Direct("proptest-regressions/tests/naive_conv.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(file)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    /// On small integers float sums are exact in any order, so no tolerance is needed.
    #[test]
    fn convolution_equals_another_implementation(g in geometries(), seed in 0..u64::MAX) {
        let mut state = seed | 1;
        let mut integers = |count: usize| -> Vec<f64> {
            (0..count)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as f64 - f64::from(1 << 23)
                })
                .collect()
        };
        let weight = integers(g.out_ch * g.in_ch * g.kernel[0] * g.kernel[1]);
        let (bias, input) = (integers(g.out_ch), integers(g.in_ch * g.height * g.width));
        let output = convolve(&g, &weight, &bias, &input);
        prop_assert_eq!(&output, &scatter(&g, &weight, &bias, &input));
    }

    /// The simulation in float and the integer program agree, whatever the shape.
    #[test]
    fn deployed_equals_simulated(geometry in geometries(), wide in any::<bool>(), seed: u64) {
        let bits = if wide { 16 } else { 8 };
        let e = Experiment::new(&Options { geometry, samples: 2, bits, seed }).unwrap();
        prop_assert_eq!(e.layer.convolve(&e.input_codes), e.ground_truth);
    }
}

#[test]
fn a_wrong_output_is_found() {
    for (bits, width) in [(8, 4), (16, 8)] {
        let (dir, _) = small(bits);
        let path = dir.path().join(format!("q_output_asint{}.bin", 4 * bits));
        let mut content = fs::read(&path).unwrap();
        let number = |content: &[u8]| match bits {
            8 => i64::from(i32::from_le_bytes(content[20..24].try_into().unwrap())),
            _ => i64::from_le_bytes(content[40..48].try_into().unwrap()),
        };
        let computed = number(&content);
        content[5 * width] ^= 1;
        let dumped = number(&content);
        *content.last_mut().unwrap() ^= 0x80;
        fs::write(&path, content).unwrap();
        let first = format!("first at index 5: computed {computed}, dumped {dumped}\n");
        let texts = ["inconsistent: 2 of 12 outputs differ", &first];
        assert_exit(&conv("", "--check", dir.path()), 1, &texts);
        let json = format!(
            r#"{{"equal":10,"first_difference":{{"computed":{computed},"dumped":{dumped},"index":5}},"outputs":12}}"#
        );
        assert_exit(&conv("--json", "--check", dir.path()), 1, &[&json]);
    }
}

#[test]
fn bad_files_are_refused() {
    let edit = |file: &str, from: &str, to: &str, texts: &[&str]| {
        let (dir, _) = small(8);
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 2, texts);
    };
    let (dir, _) = small(8);
    assert_exit(&conv("", "--check", &dir.path().join("none")), 2, &["conv.json: No such file"]);
    for file in FILES {
        let (dir, _) = small(8);
        let path = dir.path().join(file);
        let mut content = fs::read(&path).unwrap();
        content.push(b'x');
        fs::write(&path, &content).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 2, &[file]);
        fs::write(&path, &content[..content.len() - 2]).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 2, &[file]);
        fs::remove_file(&path).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 2, &[file, "No such file"]);
        fs::create_dir(&path).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 2, &[file]);
    }

    let (conv_json, info) = (FILES[0], FILES[1]);
    edit(conv_json, "{", "[", &["conv.json", "expected"]);
    edit(conv_json, "\"arr\":[", "\"arr\":[1.5,", &["floating point"]);
    edit(conv_json, "\"arr\":[", "\"arr\":[1e30,", &["conv.json", "line 1"]);
    edit(conv_json, "\"arr\":[", "\"arr\":[\"7\",", &["invalid type: string"]);
    edit(conv_json, "\"arr\":[", "\"arr\":[128,", &["length of weight.arr is 17, expected 16"]);
    edit(conv_json, "\"arr\":[", "\"arr\":[],\"arr\":[", &["duplicate field `arr`"]);
    edit(conv_json, "\"stride\"", "\"dilation\"", &["unknown field `dilation`"]);
    edit(conv_json, "\"stride\":1", "\"stride\":0", &["stride 0: expected 1 to 2^28"]);
    edit(conv_json, "\"stride\":1", "\"stride\":2", &["output_shape is [1, 2, 2, 3], expected"]);
    edit(conv_json, "\"padding\":0", "\"padding\":9223372036854775807", &["padding 9223372036854"]);
    edit(conv_json, "\"padding\":0", "\"padding\":-1", &["integer `-1`"]);
    edit(conv_json, "\"num_bit\":8", "\"num_bit\":12", &["num_bit is 12, expected 8 or 16"]);
    edit(conv_json, "\"num_bit\":8", "\"num_bit\":16", &["bias.num_bit is 32, expected 64"]);
    edit(conv_json, "\"shift_bit\":6", "\"shift_bit\":2147483647", &["weight.shift_bit is 21474"]);
    edit(conv_json, "\"shift_bit\":6", "\"shift_bit\":5", &["bias.shift_bit is 13, expected 12"]);
    edit(conv_json, "\"input_shiftbit\":7", "\"input_shiftbit\":6", &["input_shiftbit is 7, exp"]);
    edit(conv_json, "[2,2,2,2]", "[2,2,2,-2]", &["integer `-2`"]);
    edit(conv_json, "[2,2,2,2]", "[2,2,2]", &["conv.json", "length 3"]);
    edit(conv_json, "[2,2,2,2]", "[2,2,4,1]", &["kernel [4, 1] exceeds the padded input [3, 4]"]);
    edit(conv_json, "[2,2,2,2]", "[2,2,1,4]", &["output_shape is [1, 2, 2, 3], expected"]);
    edit(conv_json, "[2,2,2,2]", "[2,2,2,0]", &["weight shape [2, 2, 2, 0]: expected 1 to 2^28"]);
    edit(conv_json, "[2,2,2,2]", "[2,1,2,4]", &["input_shape is [1, 2, 3, 4], expected [1, 1"]);
    edit(
        conv_json,
        "[2,2,2,2]",
        "[2,2,9223372036854775807,9223372036854775807]",
        &["weight shape", "2^28"],
    );
    edit(info, "[1,2,3,4]", "[1,2,9223372036854775807,4]", &["input shape", "2^28"]);
    edit(info, "[1,2,3,4]", "[1,2,16384,16384]", &["input shape", "2^28"]);
    edit(info, "[1,2,3,4]", "[2,2,3,4]", &["input_shape is [2, 2, 3, 4], expected [1, 2, 3, 4]"]);
    edit(info, "[1,2,2,3]", "[1,2,3,2]", &["output_shape is [1, 2, 3, 2], expected [1, 2, 2, 3]"]);
    edit(info, "\"input_numbit\":8", "\"input_numbit\":16", &["input_numbit is 16, expected 8"]);
    edit(info, "\"output_numbit\":32", "\"output_numbit\":64", &["output_numbit is 64, exp"]);
    edit(info, "\"output_shiftbit\":13", "\"output_shiftbit\":14", &["output_shiftbit is 14, exp"]);
    edit(info, "{", "{\"comment\":0,", &["unknown field `comment`"]);
}

#[test]
fn numbers_outside_their_type_are_refused() {
    let set_first = |section: &str, number: &str, texts: &[&str]| {
        let (dir, _) = small(8);
        let path = dir.path().join("conv.json");
        let text = fs::read_to_string(&path).unwrap();
        let start = text.find(section).unwrap();
        let start = start + text[start..].find("\"arr\":[").unwrap() + "\"arr\":[".len();
        let end = start + text[start..].find(',').unwrap();
        fs::write(&path, [&text[..start], number, &text[end..]].concat()).unwrap();
        assert_exit(&conv("", "--check", dir.path()), 2, texts);
    };
    set_first("weight", "128", &["weight.arr[0] is 128, but 8 bits hold -128 to 127"]);
    set_first("weight", "-129", &["weight.arr[0] is -129"]);
    set_first("bias", "2147483648", &["bias.arr[0] is 2147483648, but 32 bits hold"]);
    set_first("bias", "9223372036854775808", &["conv.json"]);
    set_first("bias", "2147483647", &["the 32-bit accumulator may overflow: 21475"]);
    set_first("bias", "-2147483648", &["the 32-bit accumulator may overflow: 21475"]);

    let (dir, _) = small(8);
    let path = dir.path().join("q_input_asint32.bin");
    let content = fs::read(&path).unwrap();
    for (at, code) in [(3, 128), (7, -129), (11, i32::MIN)] {
        let mut content = content.clone();
        content[4 * at..4 * at + 4].copy_from_slice(&i32::to_le_bytes(code));
        fs::write(&path, content).unwrap();
        let text = format!("input[{at}] is {code}, but 8 bits hold -128 to 127");
        assert_exit(&conv("", "--check", dir.path()), 2, &[&text]);
    }

    let (dir, _) = small(8);
    let path = dir.path().join("output_fp64.bin");
    let mut content = fs::read(&path).unwrap();
    content[8..16].copy_from_slice(&f64::NAN.to_le_bytes());
    fs::write(&path, content).unwrap();
    assert_exit(&conv("", "--check", dir.path()), 2, &["output_fp64.bin", "not finite"]);

    let (dir, _) = small(16);
    let text = fs::read_to_string(dir.path().join("conv.json")).unwrap();
    let bias = text.rfind("\"arr\":[").unwrap() + "\"arr\":[".len();
    let end = bias + text[bias..].find(',').unwrap();
    let number = i64::MAX.to_string();
    fs::write(dir.path().join("conv.json"), [&text[..bias], &number, &text[end..]].concat())
        .unwrap();
    let texts = ["the 64-bit accumulator may overflow"];
    assert_exit(&conv("", "--check", dir.path()), 2, &texts);

    let (dir, _) = small(16);
    fs::write(dir.path().join("q_output_asint32.bin"), "").unwrap();
    let texts = ["outputs of 16-bit codes belong in q_output_asint64.bin"];
    assert_exit(&conv("", "--check", dir.path()), 2, &texts);
}

#[test]
fn bad_arguments_are_refused() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (arguments, text) in [
        ("--bits 12", "expected 8 or 16 bits, got 12"),
        ("--samples 0", "0 is not in 1..=1000000"),
        ("--stride 0", "stride 0"),
        ("--in-ch 0", "input shape [1, 0, 20, 30]"),
        ("--kernel 21", "kernel [21, 21] exceeds the padded input [20, 30]"),
        ("--kernel 3y3", "invalid digit"),
        ("--height 99999999999999999", "2^28"),
        ("--pad 99999999999999999", "padding"),
        ("--check x", "cannot be used with"),
        ("--json", "cannot be used with"),
    ] {
        assert_exit(&conv(arguments, "--dump", &dir.path().join("new")), 2, &[text]);
        assert!(!dir.path().join("new").exists(), "{arguments}");
    }
    assert_exit(&conv("--seed 1", "--check", dir.path()), 2, &["cannot be used with"]);
    assert_exit(&conv("", "--dump", &file), 2, &["file: "]);
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
    Replace(Vec<u8>),
    /// Of a JSON file, the number with this index becomes that one.
    Number(prop::sample::Index, String),
}

fn damages() -> impl Strategy<Value = Damage> {
    let limits = [0, 1, 2, 3, 8, 16, 32, 64, 255, 500, 1 << 28, 1 << 31, 1 << 32, 1 << 63, 1 << 64];
    let number = (prop::sample::select(limits.to_vec()), -1..=1_i128, any::<bool>())
        .prop_map(|(limit, step, minus)| (if minus { -limit } else { limit } + step).to_string());
    prop_oneof![
        (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<prop::sample::Index>().prop_map(Damage::Truncate),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Damage::Replace),
        (any::<prop::sample::Index>(), number).prop_map(|(at, text)| Damage::Number(at, text)),
    ]
}

fn damage(content: &mut Vec<u8>, damage: &Damage) {
    match damage {
        Damage::Flip(at, bit) => {
            let at = at.index(content.len());
            content[at] ^= 1 << bit;
        }
        Damage::Truncate(at) => content.truncate(at.index(content.len())),
        Damage::Replace(other) => content.clone_from(other),
        Damage::Number(at, number) => {
            let digit = |at: usize| content[at].is_ascii_digit();
            let starts: Vec<_> =
                (1..content.len()).filter(|&at| digit(at) && !digit(at - 1)).collect();
            if !starts.is_empty() {
                let start = starts[at.index(starts.len())];
                let end = (start..content.len()).find(|&at| !digit(at)).unwrap_or(content.len());
                content.splice(start..end, number.bytes());
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    /// In this process, so that a panic fails the test with its input.
    #[test]
    fn damaged_files_never_panic(
        wide in any::<bool>(),
        file in 0..FILES.len(),
        first in damages(),
        second in prop::option::of((0..FILES.len(), damages())),
    ) {
        let (dir, _) = small(if wide { 16 } else { 8 });
        for (file, how) in std::iter::once((file, first)).chain(second) {
            let name = if wide { FILES[file].replace("output_asint32", "output_asint64") } else {
                FILES[file].into()
            };
            let mut content = fs::read(dir.path().join(&name)).unwrap();
            if !content.is_empty() {
                damage(&mut content, &how);
            }
            fs::write(dir.path().join(&name), content).unwrap();
        }
        let _ = check(dir.path(), false, &mut Vec::new());
    }
}

/// The Python with NumPy, or `None` with a visible note.
#[track_caller]
fn python() -> Option<String> {
    let python = std::env::var("NAIVE_PTQ_PYTHON").unwrap_or_else(|_| "python3".into());
    let numpy = Command::new(&python).args(["-c", "import numpy"]).output();
    if numpy.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(!skip::tools_required(), "{python} has no numpy");
    skip::skip("Python with numpy", "NAIVE_PTQ_PYTHON names one");
    None
}

fn run_python(python: &str, arguments: &[&str], dir: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/naive_conv.py");
    let (command, numbers) = arguments.split_first().unwrap();
    let output =
        Command::new(python).arg(script).arg(command).arg(dir).args(numbers).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn numpy_agrees_with_our_dumps() {
    let Some(python) = python() else { return };
    for shape in SHAPES {
        let dir = tempdir().unwrap();
        assert_exit(&conv(shape, "--dump", dir.path()), 0, &[]);
        run_python(&python, &["check"], dir.path());
    }
}

#[test]
fn we_agree_with_dumps_of_numpy() {
    let Some(python) = python() else { return };
    let root = tempdir().unwrap();
    // The predecessor wrote the operands' width as that of the output.
    for [bits, kernel, output_numbit] in
        [["8", "1", "32"], ["8", "3", "8"], ["16", "1", "64"], ["16", "3", "16"]]
    {
        let dir = root.path().join(format!("{bits}_{kernel}"));
        run_python(&python, &["write", bits, kernel, output_numbit], &dir);
        assert_exit(&conv("", "--check", &dir), 0, &["consistent: "]);
    }
}
