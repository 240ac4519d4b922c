//! Deployed networks on this machine: the code compiles without a warning, computes the bits of the
//! engine, and notices where it does not.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used)]

mod tools;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use naive_ptq::calibrate::Observer;
use naive_ptq::data::write_folder;
use naive_ptq::emit::{C, Rust, Target};
use naive_ptq::graph::Graph;
use naive_ptq::kernels::isa::Isa;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::quant::{Preset, Scheme, Width};
use naive_ptq::{Tensor, onnx};
use serde_json::Value;
use tempfile::TempDir;
use tools::{
    change_number, deploy_c, fashion, first_samples, observe, prepared, programs, quantized,
    scratch, text, vectors,
};

const SCALE: Scheme = Scheme::new(Preset::Scale);
const SCHEMES: [(&str, Scheme); 4] = [
    ("scale", SCALE),
    ("shift", Scheme::new(Preset::Shift).per_tensor()),
    ("scale, 16 bits", SCALE.with_widths(Width::W16, Width::W8)),
    ("shift, 16 bits", Scheme::new(Preset::Shift).with_widths(Width::W16, Width::W16)),
];
const STRICT: &str = "-std=c99 -pedantic -Wall -Wextra -Wconversion -Werror";
const CHECKED: &str = "-DNET_TRACE -DNET_ASSERT";
const SANITIZE: &str = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all";
/// How data are read: codes of images to 0..1.
const DATA: &str = "--data TEST --scale 0.00392156862745098";

/// The bundled network, and what calibration sees of it.
static FASHION: LazyLock<(Graph, Observer)> = LazyLock::new(|| {
    let graph = prepared(&fashion("float.onnx"));
    let seen = observe(&graph, &first_samples(&fashion("calib.npz"), 1.0 / 255.0, 50));
    (graph, seen)
});

fn quantized_fashion(scheme: Scheme) -> Graph {
    quantized(&FASHION.0, &FASHION.1, scheme)
}

fn net(scheme: Scheme) -> IntGraph {
    lower(&quantized_fashion(scheme)).unwrap()
}

fn samples(count: usize) -> Vec<Tensor<f32>> {
    first_samples(&fashion("test.npz"), 1.0 / 255.0, count)
}

/// A folder with the bundled network as `int8.onnx` or whatever its bits are.
fn model(scheme: Scheme) -> TempDir {
    let dir = scratch();
    fs::write(dir.path().join("int8.onnx"), onnx::export(&quantized_fashion(scheme))).unwrap();
    dir
}

/// Runs a command line, separated by spaces.
fn shell(dir: &Path, line: &str) -> Output {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(dir).output().unwrap()
}

/// Each item on a thread of its own; unlike a pool's, their panics are shown with the test's.
fn for_each<T: Send>(items: impl IntoIterator<Item = T>, f: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        items.into_iter().for_each(|item| {
            let f = &f;
            scope.spawn(move || f(item));
        })
    });
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn both(output: &Output) -> String {
    stdout(output) + &String::from_utf8_lossy(&output.stderr)
}

/// The binary with these variables of the environment set.
fn ptq_with(dir: &Path, arguments: &str, environment: &[(&str, &str)]) -> Output {
    let arguments = arguments.split_whitespace().map(|argument| match argument {
        "FLOAT" => fashion("float.onnx").into_os_string(),
        "TEST" => fashion("test.npz").into_os_string(),
        other => other.into(),
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
    command.args(arguments).current_dir(dir).env_remove("CC");
    command.envs(environment.iter().copied()).output().unwrap()
}

/// What it prints, if all goes well.
#[track_caller]
fn prints(dir: &Path, arguments: &str) -> String {
    let output = ptq_with(dir, arguments, &[]);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", both(&output));
    stdout(&output)
}

/// Exits with 2 and a message of one line that has all `texts`; nothing appears in `dir`.
#[track_caller]
fn fails(dir: &Path, arguments: &str, environment: &[(&str, &str)], texts: &[&str]) {
    let before = entries(dir);
    let output = ptq_with(dir, arguments, environment);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments}: {}", both(&output));
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{arguments}: {stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{arguments}: {text:?} is not in {stderr:?}");
    }
    assert_eq!(entries(dir), before, "{arguments}");
}

/// All files and folders below `dir`, with their text.
fn entries(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = text(&entry).to_owned();
        match entry.is_dir() && !entry.is_symlink() {
            true => all.extend(entries(&entry).into_iter().chain([(name, Vec::new())])),
            false => all.push((name, fs::read(&entry).unwrap_or_default())),
        }
    }
    all.sort();
    all
}

#[test]
fn c_is_clean_and_computes_the_same_with_every_compiler_and_option() {
    if !programs(&["gcc", "clang"]) {
        return;
    }
    let dir = scratch();
    let x = samples(3);
    for (i, (_, scheme)) in SCHEMES.into_iter().enumerate() {
        deploy_c(&dir.path().join(i.to_string()), &net(scheme), "net", &x);
    }
    let ways = [
        ("gcc", format!("{SANITIZE} {CHECKED}")),
        ("gcc", format!("{SANITIZE} {CHECKED} -DNET_DSP=1")),
        ("gcc", "-O2 -DNET_CALLER_ARENA -DNET_REAL".into()),
        ("clang", format!("-O1 {CHECKED} -DNET_CALLER_ARENA")),
        ("clang", "-O1 -DNET_DSP=1 -DNET_REAL".into()),
    ];
    for_each(0..SCHEMES.len(), |s| {
        (0..ways.len()).for_each(|w| {
            let (compiler, options) = &ways[w];
            let what = format!("{}: {compiler} {options}", SCHEMES[s].0);
            let net = dir.path().join(s.to_string());
            let line = format!("{compiler} {STRICT} {options} test/main.c net.c -o test{w} -lm");
            let output = shell(&net, &line);
            assert!(
                output.status.success() && both(&output).is_empty(),
                "{what}: {}",
                both(&output)
            );
            let output = shell(&net, &format!("./test{w}"));
            assert!(output.status.success(), "{what}: {}", both(&output));
            assert!(
                stdout(&output).ends_with("3 of 3 vectors pass\n"),
                "{what}: {}",
                both(&output)
            );
        })
    });
}

/// Every code survives the way to a real value and back, in C++ too.
#[test]
fn the_header_is_good_for_cpp() {
    if !programs(&["gcc", "g++"]) {
        return;
    }
    for (what, scheme) in [SCHEMES[0], SCHEMES[2]] {
        let dir = scratch();
        let folder = dir.path().join("net");
        deploy_c(&folder, &net(scheme), "net", &samples(1));
        let program = r#"
            #include <limits>
            #include "net.h"
            #include "test/vectors.h"

            static int differ(float scale, int32_t zero, int32_t bits)
            {
                const int32_t half = 1 << (bits - 1);
                const float infinity = std::numeric_limits<float>::infinity();
                int wrong = 0;
                for (int32_t i = -half; i < half; i++) {
                    const int32_t code = i;
                    wrong += net_quantize(net_dequantize(code, scale, zero), scale, zero, bits) != code;
                }
                wrong += net_quantize(infinity, scale, zero, bits) != half - 1;
                wrong += net_quantize(-infinity, scale, zero, bits) != -half;
                wrong += net_quantize(0.0f / (scale - scale), scale, zero, bits) != zero;
                return wrong;
            }

            int main()
            {
                int wrong = differ(NET_INPUT_SCALE, NET_INPUT_ZERO_POINT, NET_INPUT_BITS);
                wrong += differ(NET_OUTPUT_SCALE, NET_OUTPUT_ZERO_POINT, NET_OUTPUT_BITS);
                for (int i = 0; i < NET_INPUT_SIZE; i++) {
                    net_input()[i] = net_inputs[0][i];
                }
                net_run(net_input(), net_output());
                for (int i = 0; i < NET_OUTPUT_SIZE; i++) {
                    wrong += net_output()[i] != net_outputs[0][i];
                }
                return wrong != 0;
            }"#;
        fs::write(folder.join("main.cpp"), program).unwrap();
        for line in [
            &format!("gcc {STRICT} -c net.c"),
            "g++ -std=c++11 -pedantic -Wall -Wextra -Wconversion -Werror -DNET_REAL main.cpp net.o -o program",
            "./program",
        ] {
            let output = shell(&folder, line);
            assert!(output.status.success(), "{what}: {line}: {}", both(&output));
        }
    }
}

/// The Makefile, and a name of one's own.
#[test]
fn make_test_passes_under_any_name() {
    if !programs(&["gcc", "make"]) {
        return;
    }
    let dir = scratch();
    let folder = dir.path().join("a folder");
    deploy_c(&folder, &net(SCALE), "keywords_2", &samples(2));
    let header = fs::read_to_string(folder.join("keywords_2.h")).unwrap();
    assert!(header.contains("void keywords_2_run(") && !header.contains("net_"), "{header}");
    let output = shell(&folder, "make CC=gcc CFLAGS=-Werror test keywords_2.o");
    assert!(output.status.success(), "{}", both(&output));
    assert!(stdout(&output).contains("vector 1: pass\n2 of 2 vectors pass\n"), "{}", both(&output));
}

/// What is left of the code without comments, options and declarations of the system has no `float`, no
/// `double` and no number with a point.
#[test]
fn c_is_of_integers_only() {
    if !programs(&["gcc"]) {
        return;
    }
    let dir = scratch();
    for (i, (what, scheme)) in SCHEMES.into_iter().enumerate() {
        let folder = dir.path().join(i.to_string());
        deploy_c(&folder, &net(scheme), "net", &[]);
        for options in ["", "-DNET_DSP=1", CHECKED] {
            let output = shell(&folder, &format!("gcc -std=c99 -E -P {options} net.c"));
            assert!(output.status.success(), "{}", both(&output));
            let code = stdout(&output);
            assert!(code.contains("void net_run("), "{what}");
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
            for word in code.split(|c: char| !is_word(c)) {
                assert!(!["float", "double"].contains(&word), "{what} {options}: {word}");
                assert!(!(is_number(word) && word.contains('.')), "{what} {options}: {word}");
            }
        }
    }
}

/// One wrong weight: the test vectors say which layer computes with it.
#[test]
fn a_wrong_weight_is_found_and_its_layer_named() {
    if !programs(&["gcc"]) {
        return;
    }
    let graph = net(SCALE);
    let dir = scratch();
    let layers: Vec<usize> =
        (0..graph.nodes.len()).filter(|&i| graph.nodes[i].op.acc_bound().is_some()).collect();
    let with_weights = |i: &&usize| ["Conv", "Gemm"].contains(&graph.nodes[**i].op.name());
    let layers: Vec<usize> = layers.iter().filter(with_weights).copied().collect();
    assert!(layers.len() > 10, "{layers:?}");
    for_each([layers[0], layers[layers.len() / 2], layers[layers.len() - 1]], |i| {
        let folder = dir.path().join(i.to_string());
        deploy_c(&folder, &graph, "net", &samples(2));
        change_number(&folder.join("net.c"), &format!("layer{i}_product_weight[] = {{"), |w| {
            w ^ 64
        });
        let line = format!("gcc -std=c99 -O1 {CHECKED} test/main.c net.c -o program");
        assert!(shell(&folder, &line).status.success());
        let output = shell(&folder, "./program");
        assert_eq!(output.status.code(), Some(1), "layer {i}: {}", both(&output));
        let text = stdout(&output);
        let expected = format!("vector 0: layer {i} differs\nvector 0: FAIL\n");
        assert!(text.contains(&expected), "layer {i}: {text}");
        assert!(text.ends_with("of 2 vectors pass\n") && !text.contains("2 of 2"), "{text}");
    });
}

/// Lines without those that are comments.
fn code(file: &str) -> String {
    let lines = file.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What is left of a library without scales, and without what it has with the feature `real`.
fn without_real(code: &str) -> String {
    let mut items = code.split("#[cfg(feature = \"real\")]");
    let first = items.next().unwrap();
    let rest = items.map(|item| item.split_once("\n}\n").unwrap().1);
    let lines = std::iter::once(first).chain(rest).flat_map(str::lines);
    lines.filter(|line| !line.contains("_SCALE: f32 = ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_crate_passes_its_test_and_needs_nothing_but_core() {
    if !programs(&["cc", "rustc"]) {
        return;
    }
    for_each([SCHEMES[0], SCHEMES[3]], |(what, scheme)| {
        let dir = scratch();
        let graph = net(scheme);
        let files = Rust.files(&graph, "net", &vectors(&graph, &samples(2))).unwrap();
        for (name, text) in files.iter().filter(|(name, _)| name.starts_with("src/")) {
            let code = without_real(&code(text).replace("#![forbid(unsafe_code)]", ""));
            for word in ["unsafe", "std::", "extern", "alloc", "f32", "f64"] {
                // Multiplier::from_f32, which nothing calls.
                let allowed = name == "src/arith.rs" && word == "f32";
                assert!(allowed || !code.contains(word), "{what}: {name} has {word}");
            }
        }
        let text = |wanted: &str| files.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
        assert!(text("src/lib.rs").contains("\n#![no_std]\n#![forbid(unsafe_code)]\n"));
        assert!(!text("Cargo.toml").contains("dependencies]"));
        write_folder(&dir.path().join("net"), &files).unwrap();
        let folder = dir.path().join("net");
        // A debug build: arithmetic that overflows panics.
        let test = || {
            let mut command = Command::new(env!("CARGO"));
            command.args(["test", "--offline", "--target-dir", "target"]).current_dir(&folder);
            command.env("RUSTFLAGS", "-Dwarnings").output().unwrap()
        };
        let output = test();
        assert!(output.status.success(), "{what}: {}", both(&output));
        assert!(stdout(&output).contains("test result: ok. 1 passed"), "{what}: {}", both(&output));
        let (code, by) =
            if scheme.activation_width == Width::W8 { ("i8", 20_000) } else { ("i16", 1 << 24) };
        let outputs = format!("static OUTPUTS: [[{code}; OUTPUT_SIZE]; 2] = [");
        for (file, at, by) in [("tests/vectors.rs", &*outputs, 1), ("src/lib.rs", "bias: &[", by)] {
            let before = fs::read(folder.join(file)).unwrap();
            change_number(&folder.join(file), at, |n| n + by);
            let output = test();
            assert!(!output.status.success(), "{what}: {file}");
            assert!(both(&output).contains("vector 0"), "{what}: {file}: {}", both(&output));
            fs::write(folder.join(file), before).unwrap();
        }
    });
}

/// What `verify` calls the engine: every instruction set of this machine, the fastest first.
fn engine() -> String {
    let isas = Isa::ALL.into_iter().rev().filter(|isa| isa.is_available());
    let isas: Vec<&str> = isas.map(Isa::name).collect();
    format!("engine ({}; 1, 2 threads)", isas.join(", "))
}

#[test]
fn verify_compares_the_reference_the_engine_c_and_rust() {
    if !programs(&["cc", "rustc"]) {
        return;
    }
    let dir = model(SCALE);
    let verify = format!("verify int8.onnx {DATA} --samples 20 --threads 2");
    let lines = prints(dir.path(), &verify);
    assert_eq!(lines, format!("reference = {} = c = rust on 20 of 20 samples\n", engine()));
    let lines = prints(dir.path(), &format!("{verify} --targets engine,c --layers"));
    assert_eq!(lines, format!("reference = {} = c on 20 of 20 samples\n", engine()));
    let lines = prints(dir.path(), &format!("{verify} --targets c"));
    assert_eq!(lines, "reference = c on 20 of 20 samples\n");
    assert_eq!(entries(dir.path()).len(), 1, "nothing is left behind");
    let dir = model(SCALE.with_widths(Width::W16, Width::W8));
    let summary = prints(dir.path(), &format!("{verify} --layers --json"));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["targets"], serde_json::json!(["reference", engine(), "c", "rust"]));
    for (key, expected) in [
        ("samples", serde_json::json!(20)),
        ("equal_samples", serde_json::json!(20)),
        ("layers", serde_json::json!(true)),
        ("equal", serde_json::json!(true)),
        ("difference", Value::Null),
        ("notes", serde_json::json!([])),
    ] {
        assert_eq!(summary[key], expected, "{key}");
    }
}

#[test]
fn a_network_for_numbers_is_made_one_for_bytes() {
    if !programs(&["cc", "rustc"]) {
        return;
    }
    let dir = scratch();
    let quantize = format!(
        "quantize FLOAT --calib {} --samples 20 --scale 1/255",
        text(&fashion("calib.npz"))
    );
    let quantize = format!("{quantize} --calibrator minmax --no-bias-correction");
    let said = prints(dir.path(), &format!("{quantize} --raw-input u8 -o bytes.onnx"));
    let exact = "raw input: the codes are the bytes, read as 3.921569e-3 * (byte - 0), and nothing is rounded\n";
    assert!(said.contains(exact), "{said}");
    prints(dir.path(), &format!("{quantize} -o numbers.onnx"));
    let [bytes, numbers] = ["bytes.onnx", "numbers.onnx"].map(|file| {
        let calib = fashion("calib.npz");
        prints(dir.path(), &format!("run {file} --input {} -o {file}.npy", text(&calib)));
        fs::read(dir.path().join(format!("{file}.npy"))).unwrap()
    });
    assert_eq!(bytes, numbers);
    let verify = "verify bytes.onnx --data TEST --samples 5 --threads 2";
    let lines = prints(dir.path(), verify);
    assert_eq!(lines, format!("reference = {} = c = rust on 5 of 5 samples\n", engine()));
    prints(dir.path(), "deploy bytes.onnx --target c --data TEST -o net");
    let header = fs::read_to_string(dir.path().join("net/net.h")).unwrap();
    assert!(header.contains("typedef uint8_t net_input_t;"), "{header}");
    assert!(header.contains("#define NET_INPUT_ZERO_POINT (0)"), "{header}");
    let make = shell(&dir.path().join("net"), "make test");
    assert_eq!(make.status.code(), Some(0), "{}", both(&make));
    let eval = "eval bytes.onnx --data TEST --samples 50";
    let judged =
        prints(dir.path(), &format!("{eval} --json --reference {}", text(&fashion("float.onnx"))));
    let judged: Value = serde_json::from_str(&judged).unwrap();
    assert!(judged["agreement"].as_f64() > Some(0.9), "{judged}");
    fails(
        dir.path(),
        &format!("{eval} --scale 1/255"),
        &[],
        &["--scale 0.003921569, but bytes.onnx says 1"],
    );
    let calib = "quantize FLOAT --calib TEST --samples 20 -o again.onnx --raw-input u8 --mean 1,2";
    fails(dir.path(), calib, &[], &["has not the 2 channels of mean or std"]);
    // An own rounding is said.
    let said =
        prints(dir.path(), &format!("{quantize} --mean .5 --std .5 --raw-input u8 -o own.onnx"));
    assert!(
        said.contains("node \"image.shifted\" does the rest, with a rounding of its own"),
        "{said}"
    );
}

/// A compiler that gets another network than `verify` writes.
fn tampering(dir: &Path, name: &str, file: &str, patched: &str, compiler: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let [patch, script] = [format!("{name}.patch"), name.into()].map(|name| dir.join(name));
    fs::write(&patch, patched).unwrap();
    let lines = format!("#!/bin/sh\ncp '{}' {file} && exec '{compiler}' \"$@\"\n", text(&patch));
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    text(&script).into()
}

#[test]
fn verify_finds_what_differs() {
    if !programs(&["cc", "rustc"]) {
        return;
    }
    let dir = model(SCALE);
    let graph = net(SCALE);
    let folder = dir.path().join("emitted");
    deploy_c(&folder, &graph, "net", &[]);
    let patched = |at: &str, by: i64| {
        let file = folder.join("net.c");
        let before = fs::read(&file).unwrap();
        change_number(&file, at, |n| n + by);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, before).unwrap();
        text
    };
    let last = graph.nodes.len() - 1;
    let verify = format!("verify int8.onnx {DATA} --samples 5");
    let vector = vectors(&graph, &samples(1)).remove(0);
    let name = |i: usize| graph.values[graph.nodes[i].output].name.clone();

    // The bias of the first output.
    let at = format!("layer{last}_product_bias[] = {{");
    let cc = tampering(dir.path(), "cc1", "net.c", &patched(&at, 20_000), "cc");
    let output = ptq_with(dir.path(), &format!("{verify} --targets c"), &[("CC", &cc)]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let line = stdout(&output);
    let layer = |i: usize| &graph.nodes[i].name;
    let start = format!("sample 0: layer \"{}\": \"{}\"[0] is ", layer(last), name(last));
    let got = line.strip_prefix(&start).unwrap_or_else(|| panic!("{line}, expected {start}"));
    // The reference is alone against two forms of C.
    let got = got.strip_prefix(&format!("{} in reference, ", vector.outputs[0].get(0))).unwrap();
    let got: i32 = got.strip_suffix(" in c\n").unwrap().parse().unwrap();
    assert!(got > vector.outputs[0].get(0) && got <= 127, "{line}");

    // The same in Rust: the last bias there is.
    let crate_folder = dir.path().join("crate");
    let files = Rust.files(&graph, "net", &[]).unwrap();
    write_folder(&crate_folder, &files).unwrap();
    let file = crate_folder.join("src/lib.rs");
    change_number(&file, "bias: &[", |n| n + 20_000);
    let library = fs::read_to_string(file).unwrap();
    let cargo = tampering(dir.path(), "cargo1", "src/lib.rs", &library, env!("CARGO"));
    let output = ptq_with(dir.path(), &format!("{verify} --targets rust"), &[("CARGO", &cargo)]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let expected = vector.outputs[0].get(0);
    assert_eq!(stdout(&output), format!("{start}{got} in rust, {expected} in reference\n"));

    // One bit of one code of a layer: it is named, with those who say otherwise.
    let c = fs::read_to_string(folder.join("net.c")).unwrap();
    let library = files.iter().find(|(name, _)| name == "src/lib.rs").unwrap().1.clone();
    let index = 3;
    for i in [0, last / 2, last] {
        let (before, after) = c.split_once(&format!("NET_TRACE_LAYER({i}, memory + ")).unwrap();
        let (at, _) = after.split_once(',').unwrap();
        let flipped =
            format!("{before}memory[{at} + {index}] ^= 4; NET_TRACE_LAYER({i}, memory + {after}");
        let cc = tampering(dir.path(), &format!("cc-{i}"), "net.c", &flipped, "cc");
        let (before, after) = library.split_once(&format!("trace({i}, Codes::I8(&i8[")).unwrap();
        let (at, _) = after.split_once("..").unwrap();
        let flipped = format!("{before}i8[{at} + {index}] ^= 4; trace({i}, Codes::I8(&i8[{after}");
        let cargo =
            tampering(dir.path(), &format!("cargo-{i}"), "src/lib.rs", &flipped, env!("CARGO"));
        let forms = serde_json::json!(["c", "c for the DSP extension"]);
        for (target, variable, tool, odd) in [
            ("engine,c", "CC", &cc, forms),
            ("engine,rust", "CARGO", &cargo, serde_json::json!(["rust"])),
        ] {
            let arguments = format!("{verify} --targets {target} --layers --json --threads 2");
            let output = ptq_with(dir.path(), &arguments, &[(variable, tool)]);
            assert_eq!(output.status.code(), Some(1), "{}", both(&output));
            let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
            let found = &summary["difference"];
            assert_eq!(summary["equal"], false);
            let place = (&found["sample"], &found["layer"], &found["tensor"], &found["index"]);
            let expected = (0.into(), layer(i).as_str().into(), name(i).into(), index.into());
            assert_eq!(place, (&expected.0, &expected.1, &expected.2, &expected.3));
            let code = vector.layers[i].get(index);
            assert_eq!(found["opinions"][0], serde_json::json!({"code": code ^ 4, "of": odd}));
            assert_eq!(found["opinions"][1]["code"], code);
            assert_eq!(found["opinions"][1]["of"][0], "reference");
        }
    }

    // An accumulator beyond its bound.
    let cc = tampering(dir.path(), "cc3", "net.c", &patched(&at, 1 << 28), "cc");
    let output = ptq_with(dir.path(), &format!("{verify} --targets c"), &[("CC", &cc)]);
    assert_eq!(output.status.code(), Some(2), "{}", both(&output));
    assert!(both(&output).contains("target c: the program ended"), "{}", both(&output));
}

/// An error is one line that says what to do, and leaves everything as it was.
#[test]
fn errors() {
    let dir = model(SCALE);
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/net.c"), "mine").unwrap();
    fs::write(at("full/other"), "mine").unwrap();
    fs::write(at("file"), "mine").unwrap();
    let deploy = "deploy int8.onnx --target";
    for (arguments, texts) in [
        (format!("{deploy} c -o full"), &["full is not empty", "--force"][..]),
        (format!("{deploy} rust -o full/"), &["is not empty", "--force"]),
        (format!("{deploy} c -o file"), &["file: Not a directory"]),
        (format!("{deploy} c -o file/net"), &["file/net: "]),
        (format!("{deploy} c -o missing/net"), &["missing/net: No such file"]),
        (format!("{deploy} c -o /proc/net-of-naive-ptq"), &["/proc/net-of-naive-ptq: "]),
        (format!("{deploy} c -o net --name 9x"), &["\"9x\" cannot be", "a letter first"]),
        (format!("{deploy} rust -o net --name int"), &["\"int\" cannot be", "no keyword"]),
        (format!("{deploy} rust -o net --name core"), &["\"core\" cannot be"]),
        (format!("{deploy} c -o net --name a-b"), &["\"a-b\" cannot be"]),
        (format!("{deploy} c -o net --name ../x"), &["\"../x\" cannot be"]),
        // The network's files would be those of a kernel.
        (format!("{deploy} c -o net --name conv"), &["\"conv\" cannot be"]),
        (format!("{deploy} c -o net --name arith"), &["\"arith\" cannot be"]),
        (format!("{deploy} c -o net --name dsp"), &["\"dsp\" cannot be"]),
        ("deploy FLOAT --target c -o net".into(), &["float.onnx is not quantized", "quantize"]),
        ("deploy missing.onnx --target c -o net".into(), &["missing.onnx: No such file"]),
        ("deploy file --target c -o net".into(), &["file: not an ONNX model"]),
        (
            format!("{deploy} c -o net --data TEST --test-vectors 1001"),
            &["--test-vectors 1001", "1000 samples"],
        ),
        (format!("{deploy} c -o net --data missing.npz"), &["missing.npz: No such file"]),
        (format!("verify FLOAT {DATA}"), &["float.onnx is not quantized"]),
        (format!("verify missing.onnx {DATA}"), &["missing.onnx: No such file"]),
        ("verify int8.onnx --data missing.npz".into(), &["missing.npz: No such file"]),
    ] {
        fails(dir.path(), &arguments, &[], texts);
    }
    let verify = format!("verify int8.onnx {DATA} --samples 1 --targets");
    for (target, variable, tool, install) in [
        ("c", "CC", "/nonexistent/cc", "apt install gcc"),
        ("c", "PATH", "/nonexistent", "apt install gcc"),
        ("rust", "CARGO", "/nonexistent/cargo", "https://rustup.rs"),
    ] {
        let what = if variable == "PATH" { "cc" } else { tool };
        let texts = [&format!("{what} is not there"), install, "--targets"];
        fails(dir.path(), &format!("{verify} {target}"), &[(variable, tool)], &texts);
    }
}

#[test]
fn folders_that_are_there() {
    let dir = model(SCALE);
    let at = |name: &str| dir.path().join(name);
    // Whatever else is there stays.
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/net.c"), "mine").unwrap();
    fs::write(at("full/other"), "mine").unwrap();
    prints(dir.path(), "deploy int8.onnx --target c -o full --force");
    assert!(fs::read_to_string(at("full/net.c")).unwrap().contains("void net_run("));
    assert_eq!(fs::read_to_string(at("full/other")).unwrap(), "mine");
    // Empty ones: with a slash, where the shell is, behind a link.
    ["slash", "here", "behind"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    std::os::unix::fs::symlink(at("behind"), at("link")).unwrap();
    let new = prints(dir.path(), "deploy int8.onnx --target rust -o new");
    assert!(new.contains("cargo test --manifest-path new/Cargo.toml"), "{new}");
    prints(dir.path(), "deploy int8.onnx --target rust -o slash/");
    prints(&at("here"), "deploy ../int8.onnx --target rust -o .");
    prints(dir.path(), "deploy int8.onnx --target rust -o link");
    let files = |name: &str| {
        let folder = at(name);
        let names = entries(&folder);
        let strip = |(name, text): &(String, Vec<u8>)| {
            (name.strip_prefix(text_of(&folder)).unwrap().to_owned(), text.clone())
        };
        names.iter().map(strip).collect::<Vec<_>>()
    };
    for name in ["slash", "here", "behind"] {
        assert!(files(name) == files("new"), "{name}");
    }
    assert!(at("link").is_symlink());
}

fn text_of(path: &Path) -> &str {
    text(path)
}

/// The memory that `deploy` reports is that of the object file, and of the crate.
#[test]
fn ram_is_what_deploy_says() {
    if !programs(&["gcc", "nm"]) {
        return;
    }
    for (what, scheme) in [SCHEMES[0], SCHEMES[2]] {
        let dir = model(scheme);
        let report = |arguments: &str| -> Value {
            let summary = prints(dir.path(), &format!("deploy int8.onnx {arguments} --json"));
            serde_json::from_str(&summary).unwrap()
        };
        let c = report("--target c -o c");
        assert_eq!(c["ram_bytes"], C.memory(&net(scheme)).unwrap().size, "{what}");
        assert!(c["ram_bound_bytes"].as_u64() <= c["ram_bytes"].as_u64(), "{what}");
        let folder = dir.path().join("c");
        let mut names: Vec<String> = (entries(&folder).into_iter())
            .map(|(name, _)| name[text(&folder).len() + 1..].to_owned())
            .filter(|name| name != "test")
            .collect();
        names.sort();
        let mut reported: Vec<String> = serde_json::from_value(c["files"].clone()).unwrap();
        reported.sort();
        assert_eq!(names, reported, "{what}");
        assert!(shell(&folder, "gcc -std=c99 -c net.c").status.success());
        let symbols = stdout(&shell(&folder, "nm -P -t d net.o"));
        let variables: Vec<(&str, u64)> = (symbols.lines())
            .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [name, "b" | "B" | "d" | "D" | "C", _, size] => Some((name, size.parse().unwrap())),
                _ => None,
            })
            .filter(|(name, _)| !name.starts_with("net_layer"))
            .collect();
        assert_eq!(
            variables,
            [("net_arena", c["ram_bytes"].as_u64().unwrap())],
            "{what}: {symbols}"
        );

        let rust = report("--target rust -o rust");
        let library = fs::read_to_string(dir.path().join("rust/src/lib.rs")).unwrap();
        let sizes = library.split("pub const ARENA_SIZES: [usize; 2] = [").nth(1).unwrap();
        let sizes: Vec<u64> =
            sizes.split(']').next().unwrap().split(", ").map(|n| n.parse().unwrap()).collect();
        assert_eq!(rust["ram_bytes"], sizes[0] + 2 * sizes[1], "{what}");
    }
}

/// All `.c` files outside `test` make one program with a user's own `main`, as C and as C++, where both sides agree
/// whose memory it is.
#[test]
fn the_folder_drops_into_a_project() {
    if !programs(&["gcc", "g++"]) {
        return;
    }
    let dir = scratch();
    let folder = dir.path().join("net");
    deploy_c(&folder, &net(SCALE), "net", &samples(1));
    let sources: Vec<String> = entries(&folder).into_iter().map(|(name, _)| name).collect();
    let sources = sources.iter().filter(|name| name.ends_with(".c") && !name.contains("/test/"));
    assert_eq!(sources.count(), 1);
    let own = "#include \"net/net.h\"\nint main(void) { CALL; return NET_HASH[0] == 0; }\n";
    fs::write(dir.path().join("own.c"), own.replace("CALL", "net_run(net_input(), net_output())"))
        .unwrap();
    let arena = own.replace("CALL", "net_run(0, 0, 0)");
    fs::write(dir.path().join("arena.c"), format!("#define NET_CALLER_ARENA\n{arena}")).unwrap();
    let section = "-DNET_CONST_SECTION=__attribute__((section(\".w\")))";
    for (line, links) in [
        (format!("gcc {section} own.c net/net.c -o own"), true),
        ("g++ -x c++ own.c net/net.c -o own".into(), true),
        ("gcc -DNET_CALLER_ARENA arena.c net/net.c -o own".into(), true),
        ("gcc arena.c net/net.c -o own".into(), false),
        ("gcc -DNET_CALLER_ARENA net/net.c -c -o net.o".into(), true),
        ("gcc own.c net.o -o own".into(), false),
        ("gcc -fsyntax-only -D__CHAR_BIT__=16 net/net.c".into(), false),
    ] {
        let output = shell(dir.path(), &line);
        assert_eq!(output.status.success(), links, "{line}: {}", both(&output));
    }
}
