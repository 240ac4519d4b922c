//! Quantized files of earlier versions give the same integers, and the same source code.
#![allow(clippy::unwrap_used)] // in helpers of tests, too

mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use naive_ptq::data::{Dataset, Preprocess};
use naive_ptq::exec::engine::{Engine, Options};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::kernels::isa::Isa;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::ops::Op;
use naive_ptq::quantize::prepare;
use naive_ptq::{Tensor, onnx};
use tools::{read_codes, text};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The quantized files, in the order of their names.
fn models() -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let models: BTreeSet<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    assert!(models.len() >= 30);
    models.into_iter().collect()
}

fn integers(model: &Path) -> IntGraph {
    let mut graph = onnx::load(model).unwrap();
    prepare(&mut graph).unwrap();
    lower(&graph).unwrap()
}

fn samples(model: &Path) -> Vec<Tensor<f32>> {
    let network = text(model.file_name().unwrap().as_ref()).split('.').next().unwrap().to_owned();
    let file = folder().join(format!("{network}.x.npy"));
    let data = Dataset::open(file, &Preprocess::default()).unwrap();
    (0..data.len()).map(|i| data.sample(i).unwrap()).collect()
}

#[test]
fn codes_are_those_of_earlier_versions() {
    for model in models() {
        let graph = integers(&model);
        let samples = samples(&model);
        let expected = read_codes(&model.with_extension("codes.npy"));
        let reference = IntExecutor::new(&graph);
        let engines = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(|isa| {
            (isa, Engine::new(&graph, Options::default().with_isa(isa).with_threads(2)).unwrap())
        });
        let engines = Vec::from_iter(engines);
        let mut sessions = Vec::from_iter(engines.iter().map(|(_, e)| e.session().unwrap()));
        for (x, row) in
            samples.iter().zip(expected.data().chunks(expected.data().len() / samples.len()))
        {
            let x = std::slice::from_ref(x);
            let codes = &reference.run_codes(x, |_, _| Ok(())).unwrap()[0];
            assert_eq!(codes.data(), row, "{}: reference", model.display());
            for ((isa, engine), session) in engines.iter().zip(&mut sessions) {
                let codes = &engine.run_codes(session, x).unwrap()[0];
                assert_eq!(codes.data(), row, "{}: engine, {isa}", model.display());
            }
        }
    }
}

/// Each operator that has an integer form is in one of the files.
#[test]
fn every_operator_is_there() {
    let graphs = models().iter().map(|model| integers(model)).collect::<Vec<_>>();
    let nodes = graphs.iter().flat_map(|graph| &graph.nodes);
    let used: BTreeSet<String> = nodes.map(|node| node.op.name().to_lowercase()).collect();
    let is_missing = |folder: &&str| !used.contains(&folder.replace('_', ""));
    let missing: Vec<&str> = Op::folders().filter(is_missing).collect();
    // It is folded into the layer before.
    assert_eq!(missing, ["batch_norm"], "{used:?}");
}

#[cfg(feature = "cli")]
#[test]
fn deployed_source_code_is_that_of_earlier_versions() {
    let list = folder().join("deployed.txt");
    let mut lines = String::new();
    for model in models() {
        let name = text(model.file_stem().unwrap().as_ref());
        for target in ["c", "rust"] {
            let scratch = tools::scratch();
            let output = scratch.path().join("source");
            let status = std::process::Command::new(env!("CARGO_BIN_EXE_naive-ptq"))
                .args(["deploy", text(&model), "--target", target, "--test-vectors", "1", "-o"])
                .arg(&output)
                .stdout(std::process::Stdio::null())
                .status();
            assert!(status.unwrap().success());
            lines += &format!("{name} {target} {:016x}\n", fnv(&output));
        }
    }
    if std::env::var_os("NAIVE_PTQ_UPDATE").is_some() {
        std::fs::write(&list, &lines).unwrap();
    }
    let committed = std::fs::read_to_string(list).unwrap();
    let committed: BTreeSet<&str> = committed.lines().collect();
    let changed: Vec<&str> = lines.lines().filter(|line| !committed.contains(line)).collect();
    assert!(changed.is_empty(), "source code has changed: {changed:#?}");
}

/// FNV-1a of paths and contents in the order of paths.
fn fnv(folder: &Path) -> u64 {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            let list = if path.is_dir() { &mut folders } else { &mut files };
            list.push(path);
        }
    }
    let relative = |file: &PathBuf| text(file.strip_prefix(folder).unwrap()).replace('\\', "/");
    files.sort_by_key(&relative);
    let contents = files.iter().flat_map(|file| {
        [relative(file).into_bytes(), vec![0], std::fs::read(file).unwrap(), vec![0]].concat()
    });
    contents.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}
