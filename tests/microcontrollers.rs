//! Deployed networks on emulated microcontrollers: the same bits, no float, and no more instructions and
//! memory than is claimed.
#![allow(clippy::unwrap_used)]

mod tools;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use naive_ptq::Tensor;
use naive_ptq::calibrate::Observer;
use naive_ptq::emit::{C, Target, constant_bytes};
use naive_ptq::graph::Graph;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::quant::{Preset, Scheme, Width};
use serde_json::Value;
use tools::{
    change_number, deploy_c, fashion, first_samples, observe, prepared, programs, quantized,
    scratch, shared, text,
};

const ARM: [&str; 3] = ["make", "arm-none-eabi-gcc", "qemu-system-arm"];
const RISCV: [&str; 3] = ["make", "riscv64-unknown-elf-gcc", "qemu-system-riscv32"];
const SCALE: Scheme = Scheme::new(Preset::Scale);

/// The bundled network, and what calibration sees of it.
static FASHION: LazyLock<(Graph, Observer)> = LazyLock::new(|| {
    let graph = prepared(&fashion("float.onnx"));
    let seen = observe(&graph, &first_samples(&fashion("calib.npz"), 1.0 / 255.0, 50));
    (graph, seen)
});

fn fashion_net(scheme: Scheme) -> (IntGraph, Vec<Tensor<f32>>) {
    let graph = lower(&quantized(&FASHION.0, &FASHION.1, scheme)).unwrap();
    (graph, first_samples(&fashion("test.npz"), 1.0 / 255.0, 2))
}

/// A network of MLPerf Tiny.
fn mlperf(model: &str, data: &str, scale: f32) -> Option<(IntGraph, Vec<Tensor<f32>>)> {
    let file = |name: String| shared(&format!("mlperf_tiny/{name}"));
    let model = file(format!("{model}.onnx"))?;
    let [calib, test] = ["calib", "test"].map(|part| file(format!("{data}_{part}.npz")));
    let graph = prepared(&model);
    let seen = observe(&graph, &first_samples(&calib?, scale, 20));
    let graph = lower(&quantized(&graph, &seen, SCALE)).unwrap();
    Some((graph, first_samples(&test?, scale, 2)))
}

/// Runs `make` in `firmware/` with objects in a folder of this test's own.
fn make(board: &str, net: &Path, targets: &[&str]) -> Output {
    let firmware = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware");
    let build = net.with_extension(board);
    let mut command = Command::new("make");
    command.args(["-s", "-C", text(&firmware), &format!("BOARD={board}")]);
    command.args([format!("NET={}", text(net)), format!("BUILD={}", text(&build))]);
    command.args(targets).output().unwrap()
}

/// What a network takes on a board.
struct Measured {
    instructions: u64,
    code_bytes: u64,
}

/// Compiles and runs a network; every byte must be right, and the memory what `deploy` says.
fn measure(what: &str, board: &str, graph: &IntGraph, samples: &[Tensor<f32>]) -> Measured {
    let dir = scratch();
    let net = dir.path().join("a net"); // paths may have spaces
    deploy_c(&net, graph, "net", samples);
    let output = make(board, &net, &["run", "size", "nofloat"]);
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    println!("{what} on {board}: {stdout}");
    assert!(output.status.success(), "{what} on {board}: {stdout}{stderr}");
    assert_eq!(stderr, "", "{what} on {board}");
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [run, size] = &lines[..] else { panic!("{what} on {board}: {stdout}") };
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap();
    assert_eq!((number(run, "vectors"), number(run, "failed")), (samples.len() as u64, 0));
    assert!(number(run, "stack_bytes") < 1024);
    assert_eq!(
        number(size, "ram_bytes"),
        C.memory(graph).unwrap().size as u64,
        "{what} on {board}"
    );
    let [constants, expected] = [number(size, "constant_bytes"), constant_bytes(graph) as u64];
    // How many of the shapes and zero points are folded into the code is the compiler's affair.
    let off = constants.abs_diff(expected);
    println!("{what} on {board}: {constants} bytes of constants, {expected} expected");
    assert!(off <= expected / 50, "{what} on {board}: {constants}, {expected}");
    Measured { instructions: number(run, "instructions"), code_bytes: number(size, "code_bytes") }
}

#[test]
fn the_bundled_network_on_cortex_m4() {
    if !programs(&ARM) {
        return;
    }
    for (what, scheme, most) in [
        ("8 bits", SCALE, 5_500_000),
        ("16 bits", SCALE.with_widths(Width::W16, Width::W8), 8_000_000),
        ("4-bit weights", SCALE.with_widths(Width::W8, Width::W4), 8_000_000),
        ("16 bits, 4-bit weights", SCALE.with_widths(Width::W16, Width::W4), 10_000_000),
        ("16-bit weights", SCALE.with_widths(Width::W8, Width::W16), 8_000_000),
        ("16 bits, 16-bit weights", SCALE.with_widths(Width::W16, Width::W16), 20_000_000),
    ] {
        let (graph, x) = fashion_net(scheme);
        let measured = measure(&format!("fashion, {what}"), "m4", &graph, &x);
        assert!(measured.instructions < most, "{what}: {}", measured.instructions);
        assert!(measured.code_bytes < 16_000, "{what}: {}", measured.code_bytes);
    }
}

#[test]
fn the_bundled_network_on_risc_v() {
    if !programs(&RISCV) {
        return;
    }
    let (graph, x) = fashion_net(SCALE);
    let measured = measure("fashion", "rv32", &graph, &x);
    assert!(measured.instructions < 25_000_000, "{}", measured.instructions);
}

#[test]
fn a_wrong_output_is_found() {
    if !programs(&ARM) {
        return;
    }
    let (graph, x) = fashion_net(SCALE);
    let dir = scratch();
    let net = dir.path().join("net");
    deploy_c(&net, &graph, "net", &x);
    change_number(
        &net.join("test/vectors.h"),
        "net_outputs[NET_VECTORS][NET_OUTPUT_SIZE] = {",
        |n| n ^ 1,
    );
    let output = make("m4", &net, &["run"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    assert!(stdout.starts_with("vector 0, output 0: expected "), "{stdout}");
    assert!(stdout.contains("\"vectors\": 2, \"failed\": 1,"), "{stdout}");
}

/// The marks are those of TensorFlow Lite Micro with CMSIS-NN on the reference models: instructions of one
/// inference, and bytes of code.
#[test]
fn mlperf_tiny_on_cortex_m4_beats_tflite_micro() {
    if !programs(&ARM) {
        return;
    }
    for (model, data, scale, instructions, code_bytes) in [
        ("ic_resnet8", "ic", 1.0, 29_860_000, 51_000),
        ("kws_dscnn", "kws", 1.0, 7_700_000, 53_200),
        ("vww_mobilenetv1", "vww", 1.0 / 255.0, 24_100_000, 53_200),
        ("ad_autoencoder", "ad", 1.0, 580_000, 27_100),
    ] {
        let Some((graph, x)) = mlperf(model, data, scale) else { continue };
        let measured = measure(model, "m4", &graph, &x);
        assert!(measured.instructions < instructions, "{model}: {}", measured.instructions);
        assert!(2 * measured.code_bytes <= code_bytes, "{model}: {}", measured.code_bytes);
    }
}

/// 16 kB of RAM, no DSP instructions, no division.
#[test]
fn keyword_spotting_on_cortex_m0() {
    if !programs(&ARM) {
        return;
    }
    let Some((graph, x)) = mlperf("kws_dscnn", "kws", 1.0) else { return };
    let measured = measure("kws_dscnn", "m0", &graph, &x);
    assert!(measured.instructions < 35_000_000, "{}", measured.instructions);
}
