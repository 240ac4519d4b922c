//! Quantized models that others wrote: ONNX Runtime's quantizer writes them, and both engines run them.
#![allow(clippy::unwrap_used)]

mod tools;

use std::path::Path;

use naive_ptq::Tensor;
use naive_ptq::codes::Codes;
use naive_ptq::data::{Dataset, Preprocess};
use naive_ptq::exec::Network;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::IntGraph;
use rayon::prelude::*;
use tools::{fashion, python, read_codes, run_python, save, scratch, shared, text};

/// `[codes, differences, largest difference]` over tensors whose node got equal codes on both sides.
type Counts = [usize; 3];

fn samples(path: &Path, scale: f32, count: usize) -> Vec<Tensor<f32>> {
    let preprocess = Preprocess { scale, ..Preprocess::default() };
    let data = Dataset::open(path, &preprocess).unwrap().take(count);
    (0..data.len()).map(|i| data.sample(i).unwrap()).collect()
}

fn check(what: &str, model: &Path, calib: &[Tensor<f32>], x: &[Tensor<f32>]) {
    let Some(python) = python("numpy, onnx, onnxruntime") else { return };
    let dir = scratch();
    let [calib_file, x_file] = ["calib.npy", "x.npy"].map(|name| dir.path().join(name));
    save(&calib_file, calib);
    save(&x_file, x);
    let arguments = [text(model), text(&calib_file), text(&x_file), text(dir.path())];
    let ways = run_python(&python, "foreign_models.py", &arguments);
    for way in ways.lines().filter(|line| dir.path().join(line).is_dir()) {
        let network = Network::load(&dir.path().join(format!("{way}.onnx"))).unwrap();
        let Network::Int(graph) = network else { panic!("{way} is not quantized") };
        let [codes, different, largest] = compare(&graph, &dir.path().join(way), x);
        println!("{what} {way}: {different} of {codes} codes differ, by {largest} at most");
        assert!(codes > 1000, "{way}: too few codes are compared");
        assert!(largest <= 1, "{way}: codes differ by {largest}");
        assert!(different as f64 <= 1e-4 * codes as f64, "{way}: {different} of {codes} differ");
    }
}

fn compare(graph: &IntGraph, folder: &Path, x: &[Tensor<f32>]) -> Counts {
    let index = std::fs::read(folder.join("index.json")).unwrap();
    let names: Vec<Vec<String>> = serde_json::from_slice(&index).unwrap();
    let theirs: Vec<Option<Tensor<i32>>> = (graph.values.iter())
        .map(|value| {
            let i = names.iter().position(|names| names.contains(&value.name))?;
            Some(read_codes(&folder.join(format!("{i}.npy"))))
        })
        .collect();
    let executor = IntExecutor::new(graph);
    let of_sample = |(i, x): (usize, &Tensor<f32>)| {
        let mut apart: Vec<Option<(usize, u32)>> = vec![None; graph.values.len()];
        let mut sizes = vec![0; graph.values.len()];
        let observe = |v: usize, codes: &Codes| {
            if let Some(theirs) = &theirs[v] {
                let ours = graph.values[v].to_onnx_order(codes)?;
                let theirs = &theirs.data()[i * codes.len()..][..codes.len()];
                let apart_by = ours.data().iter().zip(theirs).map(|(a, b)| a.abs_diff(*b));
                let different = apart_by.clone().filter(|&d| d > 0).count();
                apart[v] = Some((different, apart_by.max().unwrap_or(0)));
                sizes[v] = codes.len();
            }
            Ok(())
        };
        executor.run_codes(std::slice::from_ref(x), observe).unwrap();
        let mut counts: Counts = [0; 3];
        let inputs = graph.inputs.iter().map(|&v| (v, &[][..]));
        let mut agrees = vec![true; graph.values.len()];
        for (v, arguments) in inputs.chain(graph.nodes.iter().map(|n| (n.output, &n.inputs[..]))) {
            let same = arguments.iter().all(|&a| agrees[a]);
            agrees[v] = apart[v].map_or(same, |(different, _)| different == 0);
            if let Some((different, largest)) = apart[v].filter(|_| same) {
                counts[0] += sizes[v];
                counts[1] += different;
                counts[2] = counts[2].max(largest as usize);
            }
        }
        counts
    };
    let sum = |a: Counts, b: Counts| [a[0] + b[0], a[1] + b[1], a[2].max(b[2])];
    x.par_iter().enumerate().map(of_sample).reduce(Counts::default, sum)
}

#[test]
fn the_bundled_network_quantized_by_onnx_runtime() {
    let calib = samples(&fashion("calib.npz"), 1.0 / 255.0, 50);
    let x = samples(&fashion("test.npz"), 1.0 / 255.0, 100);
    check("fashion", &fashion("float.onnx"), &calib, &x);
}

#[test]
fn real_networks_quantized_by_onnx_runtime() {
    for (name, model, data, scale) in [
        ("ic_resnet8", "mlperf_tiny/ic_resnet8.onnx", "mlperf_tiny/ic", 1.0),
        ("kws_dscnn", "mlperf_tiny/kws_dscnn.onnx", "mlperf_tiny/kws", 1.0),
        ("resnet20", "models/resnet20_cifar10.onnx", "cifar10/", 1.0 / 255.0),
    ] {
        let file = |part: &str| match data.ends_with('/') {
            true => shared(&format!("{data}{part}.npz")),
            false => shared(&format!("{data}_{part}.npz")),
        };
        let (Some(model), Some(calib), Some(test)) = (shared(model), file("calib"), file("test"))
        else {
            continue;
        };
        check(name, &model, &samples(&calib, scale, 30), &samples(&test, scale, 30));
    }
}
