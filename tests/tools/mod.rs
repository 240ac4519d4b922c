//! What the tests need from outside: Python with its modules, the bundled network, and real networks
//! where they are at hand.
#![allow(dead_code, unused_imports)] // no test needs all of it
#![allow(clippy::unwrap_used)]

#[path = "../../src/testing/skip.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::process::Command;

use naive_ptq::Tensor;
use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::data::npy::{Array, Element, read_npy, write_npy};
use naive_ptq::data::{Dataset, Preprocess, write_folder};
use naive_ptq::emit::{C, Target, TestVector};
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::lower::IntGraph;
use naive_ptq::quant::{Preset, Scheme};
use naive_ptq::quantize::quantize;
use naive_ptq::{onnx, passes};
use rayon::prelude::*;
pub use skip::{is_set, programs, skip, tools_required};
use tempfile::TempDir;

pub const SCHEMES: [(&str, Scheme); 4] = [
    ("shift/tensor", Scheme::new(Preset::Shift).per_tensor()),
    ("shift/channel", Scheme::new(Preset::Shift)),
    ("scale/tensor", Scheme::new(Preset::Scale).per_tensor()),
    ("scale/channel", Scheme::new(Preset::Scale)),
];

/// A Python that has `modules`; `None`, with a visible note, if there is none. `NAIVE_PTQ_PYTHON` names
/// another than `python3`; under `NAIVE_PTQ_REQUIRE_TOOLS=1` the test fails instead.
#[track_caller]
pub fn python(modules: &str) -> Option<String> {
    let python = std::env::var("NAIVE_PTQ_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(!tools_required(), "{python} has not all of {modules}");
    skip(&format!("Python with {modules}"), "NAIVE_PTQ_PYTHON names one");
    None
}

/// Runs `tests/<script>` and returns what it printed.
pub fn run_python(python: &str, script: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder that is removed when it is dropped.
pub fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A file of the bundled network.
pub fn fashion(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion").join(file)
}

/// A file of the folder of real networks, which `NAIVE_PTQ_DATA` names; `None`, with a visible note,
/// where that is not at hand. Under `NAIVE_PTQ_REQUIRE_DATA=1` the test fails instead.
#[track_caller]
pub fn shared(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("NAIVE_PTQ_DATA").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = folder.unwrap_or_else(beside).join(file);
    if !path.exists() {
        assert!(!is_set("NAIVE_PTQ_REQUIRE_DATA"), "no {}", path.display());
        skip("real networks and data", "NAIVE_PTQ_DATA names their folder");
        return None;
    }
    Some(path)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Numbers in −1..1 that depend on `seed` only.
pub fn pseudo_random(shape: &[usize], seed: u64) -> Tensor<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let data = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::new(shape, data).unwrap()
}

/// Samples of shape `[1, …]` as one array of `[n, …]`.
pub fn save<T: Element>(path: &Path, samples: &[Tensor<T>]) {
    let mut shape = samples[0].shape().to_vec();
    shape[0] *= samples.len();
    let data = samples.iter().flat_map(Tensor::data).copied().collect();
    std::fs::write(path, write_npy(&Tensor::new(shape, data).unwrap())).unwrap();
}

pub fn read_f32(path: &Path) -> Tensor<f32> {
    read_npy(std::fs::File::open(path).unwrap()).unwrap().to_f32()
}

pub fn read_codes(path: &Path) -> Tensor<i32> {
    match read_npy(std::fs::File::open(path).unwrap()).unwrap() {
        Array::I8(tensor) => tensor.map(|&code| code.into()),
        Array::I16(tensor) => tensor.map(|&code| code.into()),
        other => panic!("{}: {:?} is not of int8 or int16", path.display(), other.shape()),
    }
}

/// The float network of a file, prepared for calibration.
pub fn prepared(path: &Path) -> Graph {
    let mut graph = onnx::load(path).unwrap();
    passes::prepare(&mut graph);
    graph
}

/// What calibration sees of `graph` on `samples`.
pub fn observe(graph: &Graph, samples: &[Tensor<f32>]) -> Observer {
    let network = FloatExecutor::new(graph);
    let shard = |x: &Tensor<f32>| {
        let mut observer = Observer::new(graph);
        network.run(std::slice::from_ref(x), |v, x| observer.see(v, x)).unwrap();
        observer
    };
    let merge = |mut a: Observer, b| {
        a.merge(b);
        a
    };
    samples.par_iter().map(shard).reduce(|| Observer::new(graph), merge)
}

pub fn quantized(graph: &Graph, seen: &Observer, scheme: Scheme) -> Graph {
    quantize(graph, &seen.ranges(Calibrator::MinMax), scheme).unwrap()
}

/// The first samples of a `.npz`.
pub fn first_samples(path: &Path, scale: f32, count: usize) -> Vec<Tensor<f32>> {
    let preprocess = Preprocess { scale, ..Preprocess::default() };
    let data = Dataset::open(path, &preprocess).unwrap().take(count);
    (0..data.len()).map(|i| data.sample(i).unwrap()).collect()
}

/// Writes `graph` in C to `folder`, with `samples` as test vectors.
pub fn deploy_c(folder: &Path, graph: &IntGraph, name: &str, samples: &[Tensor<f32>]) {
    write_folder(folder, &C.files(graph, name, &vectors(graph, samples)).unwrap()).unwrap();
}

/// What the engine computes for `samples`.
pub fn vectors(graph: &IntGraph, samples: &[Tensor<f32>]) -> Vec<TestVector> {
    let reference = IntExecutor::new(graph);
    let vector = |x| TestVector::new(&reference, std::slice::from_ref(x)).unwrap();
    samples.iter().map(vector).collect()
}

/// Changes the first number behind the last `at` in a file.
pub fn change_number(file: &Path, at: &str, change: impl Fn(i64) -> i64) {
    let text = std::fs::read_to_string(file).unwrap();
    let behind = text.rfind(at).unwrap_or_else(|| panic!("{at:?} is not in {}", file.display()));
    let start = behind + at.len();
    let start = start + text[start..].find(|c: char| c == '-' || c.is_ascii_digit()).unwrap();
    let end = start + 1 + text[start + 1..].find(|c: char| !c.is_ascii_digit()).unwrap();
    let number = change(text[start..end].parse().unwrap());
    std::fs::write(file, format!("{}{number}{}", &text[..start], &text[end..])).unwrap();
}
