//! Quantized models that others wrote, which both engines run: ONNX Runtime's quantizer writes them now,
//! NNCF and PyTorch's exporter wrote those in `tests/fixtures`.
#![allow(clippy::unwrap_used)]

mod tools;

use std::path::Path;

use naive_ptq::Tensor;
use naive_ptq::codes::Codes;
use naive_ptq::data::{Dataset, Preprocess};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::model::Model;
use naive_ptq::quant::{Preset, Scheme};
use naive_ptq::quantize;
use rayon::prelude::*;
use tools::{
    fashion, observe, prepared, pseudo_random, python, quantized, read_codes, read_f32, run_python,
    save, scratch, shared, text,
};

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
    let arguments = ["quantize", text(model), text(&calib_file), text(&x_file), text(dir.path())];
    let ways = run_python(&python, "foreign_models.py", &arguments);
    for way in ways.lines().filter(|line| dir.path().join(line).is_dir()) {
        let network = Model::load(&dir.path().join(format!("{way}.onnx"))).unwrap();
        let Model::Int(graph) = network else { panic!("{way} is not quantized") };
        // ONNX Runtime computes in `f32` between codes of 16 bits.
        let share = if way.contains("int16") { 1e-2 } else { 1e-4 };
        agree(&format!("{what} {way}"), compare(&graph, &dir.path().join(way), x, &[]), share);
    }
}

fn agree(what: &str, [codes, different, largest]: Counts, share: f64) {
    println!("{what}: {different} of {codes} codes differ, by {largest} at most");
    assert!(codes > 1000, "{what}: too few codes are compared");
    assert!(largest <= 1, "{what}: codes differ by {largest}");
    assert!(different as f64 <= share * codes as f64, "{what}: {different} of {codes} differ");
}

/// `real` are values which the file leaves real: they have codes in `graph` alone.
fn compare(graph: &IntGraph, folder: &Path, x: &[Tensor<f32>], real: &[String]) -> Counts {
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
            let inherited = same && !real.contains(&graph.values[v].name);
            agrees[v] = apart[v].map_or(inherited, |(different, _)| different == 0);
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

/// What a file leaves real gets codes from calibration, here by 100 inputs.
#[test]
fn models_of_other_tools() {
    for (tool, left_real) in [("nncf", &["c", "y"][..]), ("pytorch", &[])] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{tool}.onnx"));
        let mut graph = prepared(&path);
        quantize::complete_params(&mut graph).unwrap();
        let results = graph.nodes.iter().map(|node| &graph.values[node.output]);
        let real: Vec<String> =
            results.filter(|v| v.quant.is_none()).map(|v| v.name.clone()).collect();
        assert_eq!(real, left_real, "{tool}");
        let x: Vec<_> =
            (0..100).map(|seed| pseudo_random(&[1, 3, 16, 16], seed).map(|x| 2.0 * x)).collect();
        let seen = observe(&graph, &x);
        let graph = quantized(&graph, &seen, Scheme::new(Preset::Scale));
        let int = lower(&graph).unwrap();

        let Some(python) = python("numpy, onnx, onnxruntime") else { continue };
        let dir = scratch();
        let x_file = dir.path().join("x.npy");
        save(&x_file, &x);
        let arguments = ["run", text(&path), text(&x_file), text(dir.path())];
        run_python(&python, "foreign_models.py", &arguments);
        agree(tool, compare(&int, dir.path(), &x, &real), 1e-4);
        let theirs = read_f32(&dir.path().join("y.npy"));
        let executor = IntExecutor::new(&int);
        let scale = int.values[int.outputs[0]].quant.scale[0];
        let apart = x.iter().enumerate().flat_map(|(i, x)| {
            let y = executor.run(std::slice::from_ref(x)).unwrap().remove(0);
            let theirs = &theirs.data()[5 * i..][..5];
            y.data().iter().zip(theirs).map(|(a, b)| (a - b).abs() / scale).collect::<Vec<_>>()
        });
        let largest = apart.fold(0.0, f32::max);
        println!("{tool}: outputs differ by {largest} steps at most");
        assert!(largest <= 4.0, "{tool}: outputs differ by {largest} steps");
    }
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
