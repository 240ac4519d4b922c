//! The promise of the project: what we compute in integers is what ONNX Runtime makes of the file that
//! we write.
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::HashMap;
use std::path::Path;

use naive_ptq::Tensor;
use naive_ptq::analyze::Evaluation;
use naive_ptq::calibrate::Calibrator;
use naive_ptq::codes::Codes;
use naive_ptq::data::{Dataset, Preprocess};
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::quant::{Preset, Scheme, Width};
use naive_ptq::quantize::{Recipe, quantize};
use naive_ptq::{onnx, passes};
use rayon::prelude::*;
use tools::{
    SCHEMES, fashion, observe, prepared, pseudo_random, python, quantized, read_codes, read_f32,
    run_python, save, scratch, shared, text,
};

const MODULES: &str = "numpy, onnx, onnxruntime";

/// No more than `count` samples of a `.npz`.
fn samples(path: &Path, scale: f32, count: usize) -> (Vec<Tensor<f32>>, Option<Vec<usize>>) {
    let preprocess = Preprocess { scale, ..Preprocess::default() };
    let data = Dataset::open(path, &preprocess).unwrap().take(count);
    let labels = (0..data.len()).map(|i| data.label(i)).collect();
    ((0..data.len()).map(|i| data.sample(i).unwrap()).collect(), labels)
}

fn fashion_samples(file: &str) -> (Vec<Tensor<f32>>, Option<Vec<usize>>) {
    samples(&fashion(file), 1.0 / 255.0, usize::MAX)
}

/// How often, and by how much at most, codes differ.
#[derive(Clone, Copy, Debug, Default)]
struct Differences {
    codes: usize,
    different: usize,
    largest: u32,
}

impl Differences {
    fn of(ours: &[i32], theirs: &[i32]) -> Self {
        let apart = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b));
        Self {
            codes: ours.len(),
            different: apart.clone().filter(|&d| d > 0).count(),
            largest: apart.max().unwrap_or(0),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            codes: self.codes + other.codes,
            different: self.different + other.different,
            largest: self.largest.max(other.largest),
        }
    }
}

/// Writes `graph`, has ONNX Runtime run the file on `x`, and compares all codes of all values: of those
/// whose node got equal codes on both sides, and of the others.
fn compare(python: &str, graph: &Graph, x: &[Tensor<f32>]) -> (Differences, Differences) {
    let dir = scratch();
    let [model, input] = ["int8.onnx", "x.npy"].map(|name| dir.path().join(name));
    std::fs::write(&model, onnx::export(graph)).unwrap();
    save(&input, x);
    let arguments = ["codes", text(&model), text(&input), text(dir.path())];
    run_python(python, "with_onnxruntime.py", &arguments);
    let index = std::fs::read(dir.path().join("index.json")).unwrap();
    let names: Vec<String> = serde_json::from_slice(&index).unwrap();
    let theirs: HashMap<&str, Tensor<i32>> = (names.iter().enumerate())
        .map(|(i, name)| {
            (name.strip_suffix("_codes").unwrap(), read_codes(&dir.path().join(format!("{i}.npy"))))
        })
        .collect();

    let integer = lower(graph).unwrap();
    // A change of layout within our memory is no value of the file.
    let in_file = |v: usize| theirs.get(integer.values[v].name.as_str());
    let visible = integer.values.iter().filter(|v| theirs.contains_key(v.name.as_str()));
    assert_eq!(visible.count(), names.len());
    // The file as it is, without the outputs in between, has the same result.
    let output = integer.outputs[0];
    let real = |&code: &i32| integer.values[output].quant.dequantize(code, 0);
    assert_eq!(read_f32(&dir.path().join("y.npy")), in_file(output).unwrap().map(real));

    let executor = IntExecutor::new(&integer);
    let of_sample = |(i, x): (usize, &Tensor<f32>)| {
        let mut seen = HashMap::new();
        let codes = |v: usize, codes: &Codes| {
            if let Some(theirs) = in_file(v) {
                let ours = integer.values[v].to_onnx_order(codes)?;
                let theirs = &theirs.data()[i * codes.len()..][..codes.len()];
                seen.insert(v, Differences::of(ours.data(), theirs));
            }
            Ok(())
        };
        executor.run_codes(std::slice::from_ref(x), codes).unwrap();
        split(&integer, &seen)
    };
    let sum = |a: (Differences, Differences), b: (Differences, Differences)| {
        (a.0.plus(b.0), a.1.plus(b.1))
    };
    x.par_iter().enumerate().map(of_sample).reduce(Default::default, sum)
}

fn report(what: &str, equal: Differences, other: Differences) {
    let of = |d: Differences| format!("{} of {} codes differ", d.different, d.codes);
    println!("{what}: {}; behind a difference {}, by {}", of(equal), of(other), other.largest);
}

/// Sums over values whose arguments agree, and over the others.
fn split(graph: &IntGraph, seen: &HashMap<usize, Differences>) -> (Differences, Differences) {
    let mut sums: (Differences, Differences) = Default::default();
    let mut agrees = vec![true; graph.values.len()];
    let arguments = graph.inputs.iter().map(|&v| (v, &[][..]));
    let nodes = graph.nodes.iter().map(|n| (n.output, n.inputs.as_slice()));
    for (v, inputs) in arguments.chain(nodes) {
        let same_inputs = inputs.iter().all(|&input| agrees[input]);
        match seen.get(&v) {
            Some(&differences) => {
                agrees[v] = differences.different == 0;
                let sum = if same_inputs { &mut sums.0 } else { &mut sums.1 };
                *sum = sum.plus(differences);
            }
            None => agrees[v] = same_inputs,
        }
    }
    sums
}

#[test]
fn every_code_of_the_bundled_network_is_that_of_onnx_runtime() {
    let Some(python) = python(MODULES) else { return };
    let graph = prepared(&fashion("float.onnx"));
    let seen = observe(&graph, &fashion_samples("calib.npz").0);
    let (x, _) = fashion_samples("test.npz");
    for (name, scheme) in SCHEMES {
        let (equal, other) = compare(&python, &quantized(&graph, &seen, scheme), &x);
        report(&format!("fashion {name}"), equal, other);
        // ONNX Runtime rounds `acc · M` to `f32` before it rounds to a code, which can make a tie of what
        // is none. A power of two rounds nothing.
        let share = if scheme.preset == Preset::Shift { 0.0 } else { 1e-5 };
        assert!(equal.different as f64 <= share * equal.codes as f64, "{name}: {equal:?}");
        assert!(equal.largest <= 1, "{name}: {equal:?}");
        let all = equal.plus(other);
        assert!(all.different as f64 <= 100.0 * share * all.codes as f64, "{name}: {all:?}");
    }
}

/// ONNX Runtime has no kernels for 16-bit codes: it computes in `f32` between them, whose error reaches
/// over a rounding boundary now and then.
#[test]
fn codes_of_16_bits_are_those_of_onnx_runtime() {
    let Some(python) = python(MODULES) else { return };
    let graph = prepared(&fashion("float.onnx"));
    let seen = observe(&graph, &fashion_samples("calib.npz").0);
    let (x, _) = fashion_samples("test.npz");
    for (preset, weights) in
        [(Preset::Scale, Width::W8), (Preset::Scale, Width::W16), (Preset::Shift, Width::W16)]
    {
        let scheme = Scheme::new(preset).with_widths(Width::W16, weights);
        let (equal, other) = compare(&python, &quantized(&graph, &seen, scheme), &x[..50]);
        report(&format!("fashion {preset:?} 16 and {weights} bits"), equal, other);
        assert!(equal.largest <= 1, "{scheme:?}: {equal:?}");
        assert!(equal.different * 100 <= equal.codes, "{scheme:?}: {equal:?}");
    }
}

/// Codes of 8 and of 16 bits side by side, and weights of 4 bits.
#[test]
fn codes_of_mixed_widths_are_those_of_onnx_runtime() {
    let Some(python) = python(MODULES) else { return };
    let graph = prepared(&fashion("float.onnx"));
    let seen = observe(&graph, &fashion_samples("calib.npz").0);
    let (x, _) = fashion_samples("test.npz");
    for (what, rules) in [
        ("pools of 16 bits", r#"[{"types": ["MaxPool", "GlobalAveragePool"], "activations": 16}]"#),
        ("every other block of 16 bits", r#"[{"nodes": "block[135]", "activations": 16}]"#),
        ("weights of 4 bits", r#"[{"types": ["Conv"], "weights": 4}]"#),
        (
            "both",
            r#"[{"types": ["Conv"], "weights": 4}, {"nodes": "block[135]", "activations": 16}]"#,
        ),
    ] {
        let plan = Recipe::from_json(rules).unwrap().plan(&graph, Scheme::default()).unwrap();
        let ranges = seen.ranges(Calibrator::MinMax);
        let (equal, other) = compare(&python, &quantize(&graph, &ranges, plan).unwrap(), &x[..100]);
        report(&format!("fashion, {what}"), equal, other);
        assert!(equal.largest <= 1, "{what}: {equal:?}");
        assert!(equal.different * 1000 <= equal.codes, "{what}: {equal:?}");
    }
}

#[test]
fn codes_of_real_networks_are_those_of_onnx_runtime() {
    let Some(python) = python(MODULES) else { return };
    for (network, data) in [("ic_resnet8", "ic"), ("kws_dscnn", "kws"), ("ad_autoencoder", "ad")] {
        let Some(model) = shared(&format!("mlperf_tiny/{network}.onnx")) else { return };
        let file = |part: &str| model.with_file_name(format!("{data}_{part}.npz"));
        let graph = prepared(&model);
        let seen = observe(&graph, &samples(&file("calib"), 1.0, 50).0);
        let (x, _) = samples(&file("test"), 1.0, 20);
        for (name, scheme) in SCHEMES.into_iter().filter(|(_, scheme)| scheme.per_channel) {
            let (equal, other) = compare(&python, &quantized(&graph, &seen, scheme), &x);
            report(&format!("{network} {name}"), equal, other);
            assert!(equal.largest <= 1, "{network} {name}: {equal:?}");
            assert!(equal.different * 10_000 <= equal.codes, "{network} {name}: {equal:?}");
        }
    }
}

/// Sums in other orders: equal but for the rounding of `f32`.
#[test]
fn real_outputs_are_those_of_onnx_runtime() {
    let Some(python) = python(MODULES) else { return };
    const MODELS: [&str; 6] = [
        "mlperf_tiny/ic_resnet8.onnx",
        "mlperf_tiny/kws_dscnn.onnx",
        "mlperf_tiny/vww_mobilenetv1.onnx",
        "mlperf_tiny/ad_autoencoder.onnx",
        "models/mobilenet_v2.onnx",
        "models/efficientnet_lite0.onnx",
    ];
    for path in
        std::iter::once(fashion("float.onnx")).chain(MODELS.iter().filter_map(|m| shared(m)))
    {
        let dir = scratch();
        let [input, output] = ["x.npy", "y.npy"].map(|name| dir.path().join(name));
        for prepare in [false, true] {
            let mut graph = onnx::load(&path).unwrap();
            if prepare {
                passes::prepare(&mut graph);
            }
            let shape = &graph.values[graph.inputs[0]].shape;
            let x: Vec<_> = (0..3).map(|seed| pseudo_random(shape, seed)).collect();
            if !prepare {
                save(&input, &x);
                let arguments = ["float", text(&path), text(&input), text(&output)];
                run_python(&python, "with_onnxruntime.py", &arguments);
            }
            let theirs = read_f32(&output);
            let executor = FloatExecutor::new(&graph);
            let run =
                |x: &Tensor<f32>| executor.run(std::slice::from_ref(x), |_, _| Ok(())).unwrap();
            let ours: Vec<f32> =
                x.par_iter().flat_map(|x| run(x).swap_remove(0).into_data()).collect();
            let largest = theirs.data().iter().fold(0f32, |max, y| max.max(y.abs()));
            let apart = ours.iter().zip(theirs.data()).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0f32, f32::max) / largest;
            println!("{}, prepared {prepare}: {apart:e} of the largest output", path.display());
            assert_eq!(ours.len(), theirs.data().len());
            assert!(apart <= 1e-4, "{}, prepared {prepare}: {apart:e}", path.display());
        }
    }
}

#[test]
fn an_exported_network_is_imported_as_it_was() {
    let graph = prepared(&fashion("float.onnx"));
    let (calib, _) = fashion_samples("calib.npz");
    let run = |graph: &Graph, x: &Tensor<f32>| {
        FloatExecutor::new(graph).run(std::slice::from_ref(x), |_, _| Ok(())).unwrap()
    };
    let again = onnx::import(&onnx::export(&graph), None).unwrap();
    assert!(again.dynamic_batch);
    assert_eq!(run(&graph, &calib[0]), run(&again, &calib[0]));

    let seen = observe(&graph, &calib);
    for (name, scheme) in SCHEMES {
        let quantized = quantized(&graph, &seen, scheme);
        let mut again = onnx::import(&onnx::export(&quantized), None).unwrap();
        passes::prepare(&mut again);
        assert_eq!(lower(&again).unwrap(), lower(&quantized).unwrap(), "{name}");
        assert_eq!(onnx::export(&again), onnx::export(&quantized), "{name}");
    }
}

#[test]
fn integers_keep_the_accuracy() {
    let graph = prepared(&fashion("float.onnx"));
    let seen = observe(&graph, &fashion_samples("calib.npz").0);
    let (x, labels) = fashion_samples("test.npz");
    let scheme = Scheme::new(Preset::Scale);
    let integer = lower(&quantized(&graph, &seen, scheme)).unwrap();
    let (float, integers) = (FloatExecutor::new(&graph), IntExecutor::new(&integer));
    let outputs: (Vec<_>, Vec<_>) = x
        .par_iter()
        .map(std::slice::from_ref)
        .map(|x| (float.run(x, |_, _| Ok(())).unwrap(), integers.run(x).unwrap()))
        .map(|(mut float, mut integer)| (float.swap_remove(0), integer.swap_remove(0)))
        .unzip();
    let evaluation = Evaluation::new(&outputs.1, labels.as_deref(), Some(&outputs.0)).unwrap();
    println!("fashion scale/channel: {evaluation:?}");
    let (float, integer) = (evaluation.reference_top1.unwrap(), evaluation.top1.unwrap());
    assert_eq!(float, 0.945);
    assert!(integer >= float - 0.005, "{integer} of {float}");
}
