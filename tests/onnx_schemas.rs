//! What is said of ONNX's operator types against the definitions in the package `onnx`.
#![allow(clippy::unwrap_used)]

mod tools;

use naive_ptq::onnx::{imported_types, signature};
use serde_json::json;
use tools::{python, run_python, scratch, text};

/// Numbers of inputs and outputs in each version of the operator set; and every attribute that the sources
/// ask for is one, of that type, of an operator type that they import.
#[test]
fn operator_types_are_as_onnx_defines_them() {
    let Some(python) = python("onnx") else { return };
    let mut rows = Vec::new();
    for op_type in imported_types() {
        for opset in signature::OPSETS {
            let Some(inputs) = signature::inputs(op_type, opset) else {
                panic!("\"{op_type}\" is imported, but has no row in src/onnx/signature.rs");
            };
            let outputs = signature::outputs(op_type, opset);
            rows.push(json!([op_type, opset, inputs.start(), inputs.end(), outputs]));
        }
    }
    let dir = scratch();
    let table = dir.path().join("table.json");
    std::fs::write(&table, json!(rows).to_string()).unwrap();
    let said = run_python(&python, "onnx_schemas.py", &[text(&table), env!("CARGO_MANIFEST_DIR")]);
    let (wrong, compared) = said.rsplit_once("compared ").unwrap();
    assert!(wrong.is_empty(), "{wrong}");
    let compared: Vec<usize> =
        compared.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(compared[0] > 1000 && compared[1] > 50, "{said}");
}
