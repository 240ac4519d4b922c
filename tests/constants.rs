//! The onnx package's own test cases of every operator, as computations on constants: import folds them with the same
//! result, or refuses them by name. `tests/constants_refused.txt` lists those that are refused, and why.
//!
//! `NAIVE_PTQ_UPDATE=1` writes that list anew.
#![allow(clippy::unwrap_used)]

mod tools;

use std::panic::catch_unwind;
use std::path::Path;

use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::{Tensor, onnx};
use serde::Deserialize;
use tools::{python, read_f32, run_python, scratch, skip, text};

#[derive(Deserialize)]
struct Case {
    name: String,
    stem: String,
    outputs: usize,
    rtol: f32,
    atol: f32,
}

/// `Ok(None)` if all results are computed at import, and right; else what is wrong. An error if the model is refused.
fn check(dir: &Path, case: &Case) -> naive_ptq::Result<Option<String>> {
    let graph = onnx::load(&dir.join(format!("{}.onnx", case.stem)))?;
    if graph.nodes.len() != case.outputs {
        let left: Vec<&str> = graph.nodes.iter().map(|n| n.op.name()).collect();
        return Ok(Some(format!("nodes are left: {left:?}")));
    }
    let x = Tensor::from_vec(vec![0.0]);
    let ours = FloatExecutor::new(&graph).run(&[x], |_, _| Ok(()))?;
    for (k, ours) in ours.iter().enumerate() {
        let theirs = read_f32(&dir.join(format!("{}.{k}.npy", case.stem)));
        if ours.shape() != theirs.shape() {
            let shapes = (ours.shape(), theirs.shape());
            return Ok(Some(format!("shapes of output {k}: {shapes:?}")));
        }
        for (i, (&a, &b)) in ours.data().iter().zip(theirs.data()).enumerate() {
            if (a - b).abs() > case.atol + case.rtol * b.abs() || a.is_nan() != b.is_nan() {
                return Ok(Some(format!("element {i} of output {k}: {a}, expected {b}")));
            }
        }
    }
    Ok(None)
}

#[test]
fn every_case_of_the_onnx_package_is_folded_or_refused() {
    let Some(python) = python("numpy, onnx, onnx.reference") else { return };
    let dir = scratch();
    run_python(&python, "constants.py", &[text(dir.path())]);
    let index = std::fs::read(dir.path().join("index.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&index).unwrap();
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    for case in &cases {
        match catch_unwind(|| check(dir.path(), case)) {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(difference))) => wrong.push(format!("{}: {difference}", case.name)),
            Ok(Err(error)) => {
                let error = error.to_string();
                let reason = error.split_once(".onnx: ").map_or(&*error, |(_, reason)| reason);
                refused.push(format!("{}: {reason}\n", case.name));
            }
            Err(_) => wrong.push(format!("{}: panicked", case.name)),
        }
    }
    let folded = cases.len() - refused.len() - wrong.len();
    println!("{folded} of {} cases are folded, {} are refused", cases.len(), refused.len());
    let version = run_python(&python, "tools/version.py", &["onnx"]);
    let header = format!("With onnx {}:\n", version.trim());
    let list = format!("{header}{}", refused.concat());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/constants_refused.txt");
    if std::env::var_os("NAIVE_PTQ_UPDATE").is_some() {
        std::fs::write(&path, &list).unwrap();
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed.starts_with(&header) {
        assert_eq!(committed, list, "NAIVE_PTQ_UPDATE=1 writes tests/constants_refused.txt anew");
    } else {
        skip("tests/constants_refused.txt", "written for another version of the package onnx");
    }
}
