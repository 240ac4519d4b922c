//! The generated crate in a project of Rust: clippy finds nothing, little stack is needed, codes and real numbers agree
//! with ours, and processors without `std` compile it.
#![allow(clippy::unwrap_used)]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use naive_ptq::data::write_folder;
use naive_ptq::emit::{Rust, Target};
use naive_ptq::lower::{IntGraph, IntValue as Value, lower};
use naive_ptq::onnx;
use naive_ptq::quant::{Given, Integer};
use naive_ptq::quantize::prepare;
use tools::{programs, pseudo_random, scratch, skip, text, vectors};

/// Of a Cortex-M4.
const WITHOUT_STD: &str = "thumbv7em-none-eabi";
/// The least that a thread may have.
const STACK: usize = 16 << 10;

/// Networks with all operators, in 8 bits, in 16, and of convolutions in both.
fn golden() -> Vec<(String, IntGraph)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let models = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut models = Vec::from_iter(models);
    models.retain(|path| {
        [".scale_channel.onnx", "convolutions.scale_16_8.onnx", "linear.shift_8_16.onnx"]
            .iter()
            .any(|end| text(path).ends_with(end))
    });
    models.sort();
    assert!(models.len() >= 8, "{models:?}");
    let loaded = |path: &Path, given: Option<Given>| {
        let mut graph = onnx::load(path).unwrap();
        prepare(&mut graph).unwrap();
        let input = graph.inputs[0];
        graph.values[input].given = given;
        lower(&graph).unwrap()
    };
    let name = |path: &PathBuf| text(path.file_stem().unwrap().as_ref()).replace('.', "_");
    let mut networks = Vec::from_iter(models.iter().map(|path| (name(path), loaded(path, None))));
    let bytes = loaded(&models[0], Some(Given::any(Integer::U8)));
    networks.push(("of_bytes".into(), bytes));
    networks
}

/// One workspace of all crates, each with a test of its own.
fn workspace(folder: &Path, networks: &[(String, IntGraph)]) {
    for (name, graph) in networks {
        let crate_folder = folder.join(name);
        let inputs: Vec<_> = graph.inputs.iter().zip(1..).collect();
        let [(&v, _)] = inputs[..] else { panic!("{name} has several inputs") };
        let samples = [1, 2].map(|seed| pseudo_random(&graph.values[v].shape, seed));
        let samples = samples.map(|x| match graph.values[v].given {
            Some(_) => x.map(|x| (x.abs() * 255.0).round()),
            None => x,
        });
        let mut files = Rust.files(graph, name, &vectors(graph, &samples)).unwrap();
        let manifest = &mut files.iter_mut().find(|(file, _)| file == "Cargo.toml").unwrap().1;
        *manifest = manifest.split("# No dependencies").next().unwrap().to_owned();
        files.push(("tests/ours.rs".into(), ours(name, graph)));
        write_folder(&crate_folder, &files).unwrap();
    }
    fs::write(folder.join("Cargo.toml"), "[workspace]\nmembers = [\"*_*\"]\nresolver = \"2\"\n")
        .unwrap();
}

/// A test that the crate runs in a small stack, and that its codes are those that we compute.
fn ours(name: &str, graph: &IntGraph) -> String {
    let Value { quant: input, given, .. } = &graph.values[graph.inputs[0]];
    let (kind, lowest) = if given.is_some() { ("u", input.width.lowest()) } else { ("i", 0) };
    let output = &graph.values[graph.outputs[0]].quant;
    let scale = input.scale[0];
    let reals = (-700..700).map(|i| i as f32 / 2.0 * scale).chain([f32::MAX, f32::MIN, 0.1, -1e9]);
    let codes = reals.map(|x| format!("({x:e}, {}), ", input.quantize(x, 0) - lowest));
    let (least, most) = output.code_range();
    let decoded = [least, -3, 0, 100, most];
    let decoded = decoded.map(|code| format!("({code}, {:e}), ", output.dequantize(code, 0)));
    format!(
        "use {name}::*;\n\
         #[test]\nfn little_stack_is_needed() {{\n\
         static NET: std::sync::Mutex<Net> = std::sync::Mutex::new(Net::new());\n\
         static INPUT: [{of_input}; INPUT_SIZE] = [0; INPUT_SIZE];\n\
         static OUTPUT: std::sync::Mutex<[{of_output}; OUTPUT_SIZE]> = std::sync::Mutex::new([0; OUTPUT_SIZE]);\n\
         let run = || NET.lock().unwrap().run(&INPUT, &mut OUTPUT.lock().unwrap());\n\
         std::thread::Builder::new().stack_size({STACK}).spawn(run).unwrap().join().unwrap();\n\
         }}\n\
         #[test]\nfn codes_and_real_numbers_are_ours() {{\n\
         let input: [(f32, {of_input}); {count}] = [{codes}];\n\
         let output: [({of_output}, f32); {}] = [{}];\n\
         assert_eq!((INPUT_SCALE, INPUT_ZERO_POINT), ({scale:e}, {}));\n\
         assert!(input.iter().all(|&(real, code)| quantize_input(real) == code));\n\
         assert!(output.iter().all(|&(code, real)| dequantize_output(code) == real));\n\
         }}\n",
        decoded.len(),
        decoded.concat(),
        input.zero_point - lowest,
        of_input = format_args!("{kind}{}", input.width),
        of_output = format_args!("i{}", output.width),
        count = codes.clone().count(),
        codes = codes.collect::<String>(),
    )
}

/// Runs cargo, with one folder for all that is built.
fn cargo(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(line.split(' '))
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    command.env("CARGO_NET_OFFLINE", "true").output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Path, line: &str) {
    let output = cargo(folder, line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
    );
}

/// Whether the compiler has a library for this processor.
fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let line = ["--print", "target-libdir", "--target", target];
    let output = Command::new(rustc).args(line).output().unwrap();
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists()
}

#[test]
fn crates_are_clean_small_and_the_same() {
    let dir = scratch();
    let folder = dir.path();
    let networks = golden();
    workspace(folder, &networks);
    succeeds(folder, "test --workspace --all-features");
    if programs(&["cargo-clippy"]) {
        // Unused code, too: only what operators share in `arith.rs` may be there without a use.
        succeeds(folder, "clippy --workspace --all-targets --all-features -- -D warnings");
        for (name, _) in &networks {
            let library = fs::read_to_string(folder.join(name).join("src/lib.rs")).unwrap();
            assert_eq!(library.matches("allow(").count(), 1, "{name}");
        }
    }
    match has_target(WITHOUT_STD) {
        true => {
            succeeds(folder, &format!("build --workspace --all-features --target {WITHOUT_STD}"))
        }
        false => skip(WITHOUT_STD, "rustup target add thumbv7em-none-eabi"),
    }
}

/// The test of the stack fails where an array lies on it.
#[test]
fn a_large_stack_is_noticed() {
    let dir = scratch();
    let folder = dir.path();
    let mut networks = golden();
    networks.truncate(1);
    workspace(folder, &networks);
    let library = folder.join(&networks[0].0).join("src/lib.rs");
    let text = fs::read_to_string(&library).unwrap();
    let wasteful = text.replace(
        "    pub fn run(",
        "    #[inline(never)]\n    fn waste() { core::hint::black_box([1u8; 20_000]); }\n\n    pub fn run(",
    );
    let wasteful = wasteful
        .replace("        self.run_traced", "        Self::waste();\n        self.run_traced");
    assert_ne!(text, wasteful);
    fs::write(&library, wasteful).unwrap();
    let output = cargo(folder, "test --all-features --test ours little_stack_is_needed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("overflow"), "{said}");
}
