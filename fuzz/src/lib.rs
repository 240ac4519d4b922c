//! What is fuzzed: one function of bytes for each reader of files, and one for the engine. Each says
//! whether the input was good for something; a panic is a fault.
//!
//! libFuzzer calls them (`targets/`), and so does `cargo test`, which needs no nightly toolchain: on
//! the seeds of [`seeds`] and on changes of them that depend on a number only.

// A command's tutorial, as in the tests of the project.
#[allow(dead_code, missing_docs)]
#[path = "../../src/cli/conv.rs"]
mod conv;
pub mod mutate;
pub mod network;
pub mod rng;
pub mod seeds;
pub mod wire;

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use naive_ptq::Tensor;
use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::data::npy::{Array, read_npy, write_npy};
use naive_ptq::data::{Dataset, Filter, Layout, Preprocess};
use naive_ptq::emit::TARGETS;
use naive_ptq::exec::engine::{Engine, Options, Policy};
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::kernels::isa::Isa;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::onnx;
use naive_ptq::quant::{Preset, Scheme};
use naive_ptq::quantize::{prepare, quantize_corrected};

use rng::{Rng, seed_of};

/// A model file: what is imported can be prepared; what is quantized can be exported and read again
/// as the same integers; the engine computes what the reference does.
pub fn onnx(data: &[u8]) -> bool {
    let Ok(mut graph) = onnx::import(data, None) else { return false };
    if prepare(&mut graph).is_err() || !is_small(&graph) {
        return false;
    }
    let graph = Arc::new(graph);
    let mut rng = Rng(seed_of(data));
    let quantized = match graph.has_codes() {
        true => Some(graph),
        false => quantized(&graph, &mut rng).map(Arc::new),
    };
    let Some(quantized) = quantized else { return false };
    let Ok(integers) = lower(&quantized) else { return false };
    let integers = Arc::new(integers);
    is_the_same_file(&quantized, &integers);
    is_computed_alike(&integers, &mut rng)
}

/// A network of [`network::model`], whose seed is the data: the engine computes what the reference does.
pub fn engine(data: &[u8]) -> bool {
    onnx(&network::model(seed_of(data)))
}

/// A `.npy` file: what is read is written as the same array.
pub fn npy(data: &[u8]) -> bool {
    let _ = opened("x.npy", data);
    let Ok(array) = read_npy(data) else { return false };
    if let Array::F32(tensor) = &array {
        let again = read_npy(&write_npy(tensor)[..]).map(|again| again.to_f32());
        let bits = |tensor: &Tensor<f32>| Vec::from_iter(tensor.data().iter().map(|x| x.to_bits()));
        assert_eq!(again.map(|again| bits(&again)).ok(), Some(bits(tensor)));
    }
    true
}

/// A `.npz` file.
pub fn npz(data: &[u8]) -> bool {
    opened("x.npz", data)
}

/// A PNG or JPEG file: the last byte says how it is resized.
pub fn images(data: &[u8]) -> bool {
    let Some((&how, image)) = data.split_last() else { return false };
    if pixels(image) > MAX_PIXELS {
        return false;
    }
    let folder = scratch();
    std::fs::write(folder.path().join("x.png"), image).expect("a file");
    let size = |bit: u8| (how >> bit & 1 == 1).then_some(1 + u32::from(how >> 4));
    let preprocess = Preprocess {
        resize: size(0),
        crop: size(1),
        filter: if how & 4 == 0 { Filter::Bilinear } else { Filter::Bicubic },
        layout: if how & 8 == 0 { Layout::Nchw } else { Layout::Nhwc },
        ..Preprocess::default()
    };
    all_samples(folder.path(), &preprocess)
}

/// Of an image that is decoded here. The project decodes larger ones, of which some hundred bytes can be
/// one; with a sanitizer that takes a minute.
const MAX_PIXELS: u64 = 1 << 22;

/// What the head of an image says.
fn pixels(image: &[u8]) -> u64 {
    let reader = image::ImageReader::new(Cursor::new(image)).with_guessed_format();
    let size = reader.ok().and_then(|reader| reader.into_dimensions().ok());
    size.map_or(0, |(width, height)| u64::from(width) * u64::from(height))
}

/// Calibration statistics: what is read gives finite ranges in order, and is written as it was read.
pub fn stats(data: &[u8]) -> bool {
    static GRAPH: OnceLock<Arc<Graph>> = OnceLock::new();
    let graph = GRAPH.get_or_init(|| Arc::new(seeds::float_graph()));
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(observer) = Observer::from_json(text, graph) else { return false };
    let again = Observer::from_json(&observer.to_json(graph), graph);
    assert_eq!(again.ok().as_ref(), Some(&observer));
    for calibrator in calibrators(Scheme::new(Preset::Scale)) {
        for range in observer.ranges(calibrator).into_iter().flatten() {
            assert!(range.lo <= range.hi && range.hi - range.lo < f32::MAX, "{range:?}");
        }
        let quantized = quantize_corrected(
            graph,
            &observer,
            calibrator,
            Scheme::new(Preset::Shift).per_tensor(),
        );
        if let Ok(quantized) = quantized {
            let _ = lower(&quantized);
        }
    }
    true
}

/// A dump of the tutorial, changed: the first byte says which one, then six bytes each say which file
/// and what of it.
pub fn dumps(data: &[u8]) -> bool {
    static DUMPS: OnceLock<Vec<seeds::Files>> = OnceLock::new();
    let dumps = DUMPS.get_or_init(seeds::dumps);
    let Some((&which, edits)) = data.split_first() else { return false };
    let mut files = dumps[usize::from(which) % dumps.len()].clone();
    for edit in edits.chunks_exact(6) {
        let index = usize::from(edit[0]) % files.len();
        let content = &mut files[index].1;
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % (content.len() + 1);
        match edit[3] % 4 {
            0 => content.truncate(at),
            1 => content.splice(at..at, edit[4..].iter().copied()).for_each(drop),
            2 => {
                let words = ["-1", "65536", "1e99", "null", "[]", "9223372036854775807", "0", "\""];
                let word = words[usize::from(edit[4]) % words.len()].bytes();
                let end = (at + usize::from(edit[5] % 4)).min(content.len());
                content.splice(at..end, word).for_each(drop);
            }
            _ => content.iter_mut().skip(at).take(1).for_each(|byte| *byte = edit[4]),
        }
    }
    let folder = scratch();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    conv::check(folder.path(), which & 128 != 0, &mut Vec::new()).is_ok()
}

/// Whether such a network takes little time.
fn is_small(graph: &Graph) -> bool {
    let len = |v: usize| graph.values[v].shape.iter().product::<usize>();
    let activations: usize = graph.activations().map(len).sum();
    let products: u64 = graph.nodes.iter().map(|node| graph.macs(node)).sum();
    activations < 1 << 17 && products < 1 << 21 && graph.nodes.len() < 100
}

/// Numbers that differ by many magnitudes.
fn inputs<'a>(shapes: impl Iterator<Item = &'a [usize]>, rng: &mut Rng) -> Vec<Tensor<f32>> {
    let limit = 10f32.powi(rng.below(9) as i32 - 4);
    let mut tensor = |shape: &[usize]| {
        let data = (0..shape.iter().product()).map(|_| limit * rng.unit()).collect();
        Tensor::new(shape, data).expect("as many numbers as the shape says")
    };
    shapes.map(|shape| tensor(shape)).collect()
}

fn calibrators(scheme: Scheme) -> [Calibrator; 5] {
    let percentile = Calibrator::Percentile(99.99);
    let mse = Calibrator::Mse(scheme);
    [Calibrator::MinMax, percentile, Calibrator::MovingAverage, Calibrator::Entropy, mse]
}

/// A float network, quantized in some way, if it can be. Its statistics are read as they were written.
fn quantized(graph: &Arc<Graph>, rng: &mut Rng) -> Option<Graph> {
    let float = FloatExecutor::new(graph.clone());
    let mut observer = Observer::new(graph);
    for _ in 0..2 {
        let x = inputs(graph.inputs.iter().map(|&v| &*graph.values[v].shape), rng);
        float.run(&x, |v, tensor| observer.see(v, tensor)).ok()?;
    }
    match Observer::from_json(&observer.to_json(graph), graph) {
        Ok(again) => assert!(again == observer, "statistics are read as others"),
        Err(error) => panic!("statistics cannot be read: {error}"),
    }
    let preset = if rng.one_in(2) { Preset::Scale } else { Preset::Shift };
    let scheme = Scheme::new(preset);
    let scheme = if rng.one_in(2) { scheme } else { scheme.per_tensor() };
    let calibrator = *rng.pick(&calibrators(scheme));
    quantize_corrected(graph, &observer, calibrator, scheme).ok()
}

fn is_the_same_file(graph: &Graph, integers: &IntGraph) {
    let read = || {
        let mut again = onnx::import(&onnx::export(graph), None)?;
        prepare(&mut again)?;
        lower(&again)
    };
    match read() {
        Ok(again) => assert!(again == *integers, "what is exported is read as something else"),
        Err(error) => panic!("what is exported cannot be read: {error}"),
    }
}

/// Whether it can be run; each engine gives the codes of the reference. The emitters do not fail.
fn is_computed_alike(integers: &Arc<IntGraph>, rng: &mut Rng) -> bool {
    let reference = IntExecutor::new(integers.clone());
    for policy in [Policy::Fastest, Policy::Everything] {
        let shapes = integers.inputs.iter().map(|&v| &*integers.values[v].shape);
        let x = inputs(shapes, rng);
        let Ok(expected) = reference.run_codes(&x, |_, _| Ok(())) else { return false };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let threads = 1 + rng.below(2);
            let options =
                Options::default().with_isa(isa).with_threads(threads).with_policy(policy);
            let engine = Engine::new(integers, options).expect("an engine");
            let mut session = engine.session().expect("a session");
            let codes = engine.run_codes(&mut session, &x).expect("codes");
            assert!(codes == expected, "other codes: {options:?}");
        }
    }
    if rng.one_in(4) && !integers.inputs.is_empty() && !integers.outputs.is_empty() {
        for target in TARGETS {
            let refuses = integers.nodes.iter().any(|node| target.takes(integers, node).is_err());
            assert!(target.files(integers, "net", &[]).is_err() == refuses, "{}", target.name());
        }
    }
    true
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Whether a file of this name holds samples.
fn opened(name: &str, data: &[u8]) -> bool {
    let folder = scratch();
    let path = folder.path().join(name);
    std::fs::write(&path, data).expect("a file");
    all_samples(&path, &Preprocess::default())
}

fn all_samples(path: &Path, preprocess: &Preprocess) -> bool {
    let Ok(data) = Dataset::open(path, preprocess) else { return false };
    let samples = (0..data.len().min(100)).filter(|&i| data.sample(i).is_ok());
    samples.count() > 0
}
