//! The onnx package's own test cases of every operator that is imported: all that load give its
//! results, and `docs/onnx-node-cases.md` says which are refused, and why.
//!
//! `NAIVE_PTQ_UPDATE=1` writes that page anew.
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::catch_unwind;
use std::path::Path;

use naive_ptq::Tensor;
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::onnx;
use serde::Deserialize;
use tools::{python, read_f32, run_python, scratch, skip};

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    skipped: Option<String>,
    stem: Option<String>,
    #[serde(default)]
    inputs: usize,
    #[serde(default)]
    outputs: usize,
    #[serde(default)]
    rtol: f32,
    #[serde(default)]
    atol: f32,
}

#[test]
fn every_case_that_loads_gives_the_result_of_the_onnx_package() {
    let Some(python) = python("numpy, onnx") else { return };
    let dir = scratch();
    let folder = dir.path().to_str().unwrap();
    let arguments: Vec<&str> = std::iter::once(folder).chain(onnx::imported_types()).collect();
    run_python(&python, "onnx_node_cases.py", &arguments);
    let cases = std::fs::read(dir.path().join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();

    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let Some(stem) = &case.stem else { continue };
        let [passed, all] = counts.entry(&case.op).or_default();
        *all += 1;
        match catch_unwind(|| run(dir.path(), stem, case)) {
            Ok(Ok(None)) => *passed += 1,
            Ok(Ok(Some(difference))) => wrong.push(format!("{}: {difference}", case.name)),
            Ok(Err(error)) => refused.push(format!("| `{}` | {error} |", case.name)),
            Err(_) => wrong.push(format!("{}: panicked", case.name)),
        }
    }
    let skipped = cases.iter().filter(|c| c.skipped.is_some()).count();
    let page = page(&counts, &refused, skipped);
    println!("{page}");
    assert!(wrong.is_empty(), "{wrong:#?}");

    let version = run_python(&python, "tools/version.py", &["onnx"]);
    let page = format!("{}{page}", header(version.trim()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/onnx-node-cases.md");
    if std::env::var_os("NAIVE_PTQ_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed.starts_with(&header(version.trim())) {
        assert_eq!(committed, page, "NAIVE_PTQ_UPDATE=1 writes docs/onnx-node-cases.md anew");
    } else {
        skip("docs/onnx-node-cases.md", "written for another version of the package onnx");
    }
}

/// `Ok(None)` if all outputs are right, else where they differ; an error if the model is refused.
fn run(dir: &Path, stem: &str, case: &Case) -> naive_ptq::Result<Option<String>> {
    let graph = onnx::import(&std::fs::read(dir.join(format!("{stem}.onnx")))?, None)?;
    let inputs = (0..case.inputs).map(|i| read_f32(&dir.join(format!("{stem}_in_{i}.npy"))));
    let inputs: Vec<Tensor<f32>> = inputs.collect();
    let outputs = FloatExecutor::new(&graph).run(&inputs, |_, _| Ok(()))?;
    for (i, y) in outputs.iter().enumerate().take(case.outputs) {
        let expected = read_f32(&dir.join(format!("{stem}_out_{i}.npy")));
        if y.shape() != expected.shape() {
            return Ok(Some(format!("shape {:?}, expected {:?}", y.shape(), expected.shape())));
        }
        for (index, (&y, &e)) in y.data().iter().zip(expected.data()).enumerate() {
            let close = (y - e).abs() <= case.atol + case.rtol * e.abs() || y == e;
            if !(close || y.is_nan() && e.is_nan()) {
                return Ok(Some(format!("output {i}, element {index}: {y}, expected {e}")));
            }
        }
    }
    Ok(None)
}

fn header(version: &str) -> String {
    format!(
        "# The onnx package's test cases\n\nWritten by `tests/onnx_node_cases.rs` with onnx {version}: \
         of each operator that is imported, the cases whose results are real numbers.\n\n"
    )
}

fn page(counts: &BTreeMap<&str, [usize; 2]>, refused: &[String], skipped: usize) -> String {
    let (mut passed, mut all) = (0, 0);
    let mut rows = String::new();
    for (op, &[p, n]) in counts {
        (passed, all) = (passed + p, all + n);
        writeln!(rows, "| {op} | {p} of {n} |").unwrap();
    }
    format!(
        "{passed} of {all} pass, {} are refused, none is wrong. {skipped} more are not of this field: \
         their results are integers, text or other data types.\n\n| operator | pass |\n|---|---|\n{rows}\n\
         | refused case | why |\n|---|---|\n{}\n",
        all - passed,
        refused.join("\n")
    )
}
