//! Each example does what it says, on the bundled network.
#![allow(clippy::unwrap_used)]
#![allow(dead_code)] // their `main`s

#[path = "../examples/deploy.rs"]
mod deploy;
#[path = "../examples/naive_conv.rs"]
mod naive_conv;
#[path = "../examples/own_calibration.rs"]
mod own_calibration;
#[path = "../examples/quantize.rs"]
mod quantize;
#[path = "../examples/run_engine.rs"]
mod run_engine;

use tempfile::tempdir;

#[test]
fn quantize_writes_a_file() {
    let folder = tempdir().unwrap();
    quantize::run(&folder.path().join("int8.onnx")).unwrap();
    assert!(folder.path().join("int8.onnx").metadata().unwrap().len() > 1000);
}

#[test]
fn the_engine_runs() {
    run_engine::run().unwrap();
}

#[test]
fn samples_may_be_of_any_kind() {
    own_calibration::run().unwrap();
}

#[test]
fn deploy_writes_c() {
    let folder = tempdir().unwrap();
    deploy::run(&folder.path().join("c")).unwrap();
    let header = std::fs::read_to_string(folder.path().join("c/net.h")).unwrap();
    assert!(header.contains("net_run"), "{header}");
}

#[test]
fn the_tutorial_ends_well() {
    naive_conv::run().unwrap();
}
