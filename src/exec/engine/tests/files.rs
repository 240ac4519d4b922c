//! Networks of files as other tools write them: each instruction set, number of threads and technique
//! computes in each layer what the reference computes.

use std::collections::BTreeSet;

use super::*;
use crate::onnx;
use crate::ops::Lowering;
use crate::ops::concat::Concat;
use crate::testing::model::Model;
use crate::testing::random_files::random_file;

/// All engines against the reference, layer by layer.
fn check_layers(graph: &IntGraph, rng: &mut Rng, what: &str) -> BTreeSet<&'static str> {
    let reference = IntExecutor::new(graph);
    let mut paths = BTreeSet::new();
    for engine in engines(graph, &[1, 2]) {
        let mut session = engine.session().unwrap();
        for layer in engine.layers() {
            assert_eq!(layer.failed, None, "{what}, {:?}, {layer:?}", engine.options());
            paths.insert(layer.path);
        }
        for inputs in patterns(graph, rng) {
            let mut layers = vec![Vec::new(); graph.values.len()];
            let expected = reference.run_codes(&inputs, |v, codes| {
                layers[v] = codes.iter().collect();
                Ok(())
            });
            let got = engine.run_observed(&mut session, &inputs, |v, codes| {
                let name = &graph.values[v].name;
                let what = || format!("{what}, {:?}, \"{name}\"", engine.options());
                assert!(codes().iter().eq(layers[v].iter().copied()), "{}", what());
            });
            assert_eq!(got.unwrap(), expected.unwrap(), "{what}, {:?}", engine.options());
        }
    }
    paths
}

/// More of them: `NAIVE_PTQ_RANDOM_FILES=1000 cargo test --release --lib random_files`.
#[test]
fn random_files_equal_the_reference() {
    let count = std::env::var("NAIVE_PTQ_RANDOM_FILES").map_or(24, |n| n.parse().unwrap());
    let (mut refused, mut paths) = (0, BTreeSet::new());
    for seed in 0..count {
        let file = random_file(seed);
        match onnx::import(&file, None).and_then(Model::new) {
            Ok(Model::Int(graph)) => {
                paths.extend(check_layers(&graph, &mut Rng(seed), &format!("seed {seed}")));
            }
            Ok(Model::Float(_)) => panic!("seed {seed} is not quantized"),
            // A factor out of range, padding with what has no code.
            Err(error) => {
                eprintln!("seed {seed}: {error}");
                refused += 1;
            }
        }
    }
    assert!(2 * refused < count, "{refused} of {count} refused");
    for path in ["moves", "product", "table"] {
        assert!(paths.contains(path), "{path} not among {paths:?}");
    }
}

/// An argument of other parameters than the result has a table, even where each code has one place.
#[test]
fn a_concat_with_tables_is_no_move() {
    let mut rng = Rng(1);
    for n in [3, 64, 300] {
        for zero_points in [[7, 8, 8], [7, 7, 7], [7, 7, 9], [0, 7, -128]] {
            for scales in [[1.0; 3], [1.0, 0.5, 1.0], [1e-3, 1.0, 1.0]] {
                let shapes = [[1, n], [1, n], [2, n]];
                let values = [0, 1, 2].map(|i| IntValue {
                    quant: QuantParams::per_tensor(scales[i], zero_points[i], Width::W8),
                    ..value(&shapes[i], 0, false)
                });
                let mut node = Lowering {
                    inputs: values[..2].iter().map(IntValue::operand).collect(),
                    constants: vec![None; 2],
                    output: values[2].operand(),
                    clamp: (-128, 127),
                };
                let op = Op::Concat(Concat { axis: 0 }).lower(&mut node).unwrap();
                let moves = values.iter().all(|value| value.quant == values[2].quant);
                assert_eq!(op.moves_codes(), moves);
                let what = format!("{n} codes, {zero_points:?}, {scales:?}");
                let path = check(&graph_of(op, values.to_vec()), &mut rng, &[1, 2], &what);
                assert_eq!(path == "moves", moves && n > 3, "{what}");
            }
        }
    }
}
