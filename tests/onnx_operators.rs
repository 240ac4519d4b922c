//! Every operator that is imported, in many forms and versions, against ONNX Runtime.
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeMap;
use std::path::Path;

use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::lower::lower;
use naive_ptq::{Result, Tensor, onnx, passes};
use tempfile::TempDir;
use tools::{SCHEMES, observe, python, quantized, read_f32, run_python, scratch, text};

const SCRIPT: &str = "onnx_operators.py";

/// Cases that are refused before some version of the operator set, with what the error says.
const REFUSED: [(&str, u32, &str); 1] =
    [("averagepool_counted_ceil", 19, "means one thing before opset 19")];

/// Cases whose quantized form ONNX Runtime computes by a kernel that means something else: its average of codes divides
/// the last window by another count than its average of real numbers.
const FUSED_OTHERWISE: [&str; 1] = ["averagepool_counted_ceil"];

/// The folder of models, what Python to run them with, and their names.
fn models() -> Option<(String, TempDir, Vec<String>)> {
    let python = python("numpy, onnx, onnxruntime")?;
    let dir = scratch();
    run_python(&python, SCRIPT, &["make", text(dir.path())]);
    let index = std::fs::read(dir.path().join("index.json")).unwrap();
    Some((python, dir, serde_json::from_slice(&index).unwrap()))
}

/// The array of `[n, …]` as `n` samples of `[1, …]`.
fn rows(array: &Tensor<f32>) -> Vec<Tensor<f32>> {
    let mut shape = array.shape().to_vec();
    let len = array.data().len() / shape[0];
    shape[0] = 1;
    let row = |row: &[f32]| Tensor::new(shape.clone(), row.to_vec()).unwrap();
    array.data().chunks_exact(len).map(row).collect()
}

fn outputs(graph: &Graph, x: &[Tensor<f32>]) -> Result<Vec<f32>> {
    let executor = FloatExecutor::new(graph);
    let run = |x: &Tensor<f32>| executor.run(std::slice::from_ref(x), |_, _| Ok(()));
    let outputs = x.iter().map(run).collect::<Result<Vec<_>>>()?;
    Ok(outputs.into_iter().flatten().flat_map(Tensor::into_data).collect())
}

/// How far the outputs of the model, as it is and prepared, are from those of ONNX Runtime.
fn check_float(dir: &Path, name: &str) -> Result<(Graph, Vec<Tensor<f32>>), String> {
    let file = |part: &str| dir.join(format!("{name}.{part}"));
    let mut graph = onnx::load(&file("onnx")).map_err(|e| e.to_string())?;
    let (x, y) = (rows(&read_f32(&file("x.npy"))), read_f32(&file("y.npy")));
    let largest = y.data().iter().fold(0f32, |max, y| max.max(y.abs()));
    for prepared in [false, true] {
        if prepared {
            passes::prepare(&mut graph);
        }
        let ours = outputs(&graph, &x).map_err(|e| e.to_string())?;
        let apart = ours.iter().zip(y.data()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        if ours.len() != y.data().len() || apart.is_nan() || apart > 1e-5 * largest {
            return Err(format!("prepared {prepared}: {apart:e} apart, of {largest}"));
        }
        let shape = &graph.values[graph.outputs[0]].shape;
        if shape[1..] != y.shape()[1..] {
            return Err(format!("prepared {prepared}: shape {shape:?} for {:?}", y.shape()));
        }
    }
    Ok((graph, x))
}

#[test]
fn operators_are_those_of_onnx_runtime() {
    let Some((python, dir, names)) = models() else { return };
    let mut failures = Vec::new();
    // What is written is of one version, whatever was read.
    let mut networks = BTreeMap::new();
    for name in &names {
        let (case, opset) = name.split_once('.').unwrap();
        let opset: u32 = opset.parse().unwrap();
        let refused = REFUSED.iter().find(|(refused, from, _)| *refused == case && opset < *from);
        match check_float(dir.path(), name) {
            Err(e) if refused.is_some_and(|(_, _, reason)| e.contains(reason)) => {}
            Ok(_) if refused.is_some() => failures.push(format!("{name} is not refused")),
            Ok(_) if FUSED_OTHERWISE.contains(&case) => {}
            Ok(network) => drop(networks.insert(case, (name, network))),
            Err(e) => failures.push(format!("{name}: {e}")),
        }
    }
    println!("{} models: {} differ or are refused", names.len(), failures.len());
    for (scheme_name, scheme) in SCHEMES {
        let mut lowered = Vec::new();
        for (name, (graph, x)) in networks.values() {
            let quantized = quantized(graph, &observe(graph, x), scheme);
            match lower(&quantized) {
                Ok(integer) => lowered.push((name, x, integer)),
                Err(e) => {
                    failures.push(format!("{name} {scheme_name}: {e}"));
                    continue;
                }
            }
            let path = dir.path().join(format!("{name}.int8.onnx"));
            std::fs::write(path, onnx::export(&quantized)).unwrap();
        }
        run_python(&python, SCRIPT, &["run", text(dir.path())]);
        let (mut codes, mut different) = (0, 0);
        for (name, x, integer) in &lowered {
            let executor = IntExecutor::new(integer);
            let ours = x.iter().flat_map(|x| executor.run(std::slice::from_ref(x)).unwrap());
            let ours: Vec<f32> = ours.flat_map(Tensor::into_data).collect();
            let theirs = read_f32(&dir.path().join(format!("{name}.int8.npy")));
            let step = integer.values[integer.outputs[0]].quant.scale[0];
            let apart = ours.iter().zip(theirs.data()).map(|(a, b)| ((a - b) / step).abs().round());
            codes += ours.len();
            let differ = apart.clone().filter(|&d| d > 0.0).count();
            if differ > 0 {
                println!("{scheme_name} {name}: {differ} of {} codes differ", ours.len());
            }
            different += differ;
            let largest = apart.fold(0f32, f32::max);
            if ours.len() != theirs.data().len() || largest > 1.0 {
                failures.push(format!("{name} {scheme_name}: {largest} codes apart"));
            }
        }
        println!("{scheme_name}: {} models, {different} of {codes} codes differ", lowered.len());
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn external_data_is_read_from_the_models_folder_only() {
    let Some((_, dir, _)) = models() else { return };
    let load = |name: &str| onnx::load(&dir.path().join(format!("{name}.onnx")));
    let inside = load("inside").unwrap();
    assert_eq!(load("one_file").unwrap(), inside);
    assert_eq!(load("many_files").unwrap(), inside);
    for name in ["above", "absolute"] {
        let error = load(name).unwrap_err().to_string();
        assert!(error.contains("lies outside the model's folder"), "{error}");
    }
    std::fs::write(dir.path().join("one_file.data"), [0; 40]).unwrap();
    let error = load("one_file").unwrap_err().to_string();
    assert!(error.contains("\"Conv_0_0\"") && error.contains("which has 40"), "{error}");
    std::fs::remove_file(dir.path().join("one_file.data")).unwrap();
    let error = load("one_file").unwrap_err().to_string();
    assert!(error.contains("\"one_file.data\": No such file"), "{error}");
}
