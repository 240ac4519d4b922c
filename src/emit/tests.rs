use std::path::PathBuf;

use crate::calibrate::{Calibrator, Observer};
use crate::exec::float::FloatExecutor;
use crate::exec::int::IntExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::ops::Op;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::passes;
use crate::quant::{Range, Scheme, Width};
use crate::quantize::{Plan, quantize};
use crate::testing::random_graphs::random_network;
use crate::testing::{
    Net, PATTERNS, Rng, SCHEMES, check_c, mixed_plan, pattern_codes, random_inputs, started,
};

use super::{C, Rust, TARGETS, Target, TestVector, check_name};

fn quantized(seed: u64, scheme: Scheme) -> Graph {
    let mut float = random_network(seed, 9);
    passes::prepare(&mut float);
    let mut observer = Observer::new(&float);
    let x = random_inputs(&float, &mut Rng(seed), 1.0);
    FloatExecutor::new(&float).run(&x, |v, x| observer.see(v, x)).unwrap();
    let plan = match seed % 2 {
        0 => scheme.into(),
        _ => mixed_plan(&float, scheme, &mut Rng(seed)),
    };
    quantize(&float, &observer.ranges(Calibrator::MinMax), plan).unwrap()
}

/// Whole networks of all operators: one memory, results written over arguments.
#[test]
fn random_networks_compute_the_same_in_c() {
    let nets = (0..28).map(|seed| {
        let graph = quantized(seed, SCHEMES[seed as usize % SCHEMES.len()]);
        let codes = PATTERNS.map(|p| pattern_codes(&graph, &mut Rng(seed), p)).to_vec();
        (graph, codes)
    });
    check_c(&nets.collect::<Vec<_>>());
}

#[test]
fn random_networks_compute_the_same_in_rust() {
    for seed in 30..37 {
        let graph = quantized(seed, SCHEMES[seed as usize % SCHEMES.len()]);
        let int = lower(&graph).unwrap();
        let vectors: Vec<TestVector> = (0..3)
            .map(|i| {
                TestVector::new(&IntExecutor::new(&int), &random_inputs(&graph, &mut Rng(i), 1.0))
                    .unwrap()
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let files = Rust.files(&int, "net", &vectors).unwrap();
        crate::data::write_folder(&folder.path().join("net"), &files).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        let compile = |arguments: &[&str]| {
            let mut command = std::process::Command::new(&rustc);
            command.args(["--edition=2024", "-Dwarnings", "-Copt-level=1"]).args(arguments);
            started(command.current_dir(folder.path()), "rustc").map(|output| {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "seed {seed}: {errors}");
            })
        };
        if compile(&["--crate-type=rlib", "--crate-name=net", "net/src/lib.rs"]).is_none() {
            return;
        }
        compile(&["--test", "--extern=net=libnet.rlib", "net/tests/vectors.rs", "-o", "vectors"]);
        let mut test = std::process::Command::new(folder.path().join("vectors"));
        let output = test.output().unwrap();
        assert!(
            output.status.success(),
            "seed {seed}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

/// So that the next network in the same folder can take their place.
#[test]
fn emitted_files_are_told_from_others() {
    for seed in 0..10 {
        let graph = quantized(seed, SCHEMES[seed as usize % SCHEMES.len()]);
        let int = lower(&graph).unwrap();
        let reference = IntExecutor::new(&int);
        let x = random_inputs(&graph, &mut Rng(seed), 1.0);
        let vector = TestVector::new(&reference, &x).unwrap();
        for target in TARGETS {
            let folder = tempfile::tempdir().unwrap();
            let files = target.files(&int, "net", std::slice::from_ref(&vector)).unwrap();
            crate::data::write_folder(folder.path(), &files).unwrap();
            let mut expected: Vec<PathBuf> = files.iter().map(|(name, _)| name.into()).collect();
            let mut found = super::written_files(folder.path());
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}

/// Values that are alive at one time do not overlap.
#[test]
fn plans_keep_what_is_still_read() {
    for seed in 0..40 {
        let int = lower(&quantized(seed, SCHEMES[seed as usize % SCHEMES.len()])).unwrap();
        for memory in TARGETS.iter().map(|target| target.memory(&int)) {
            let last = |v: usize| match int.outputs.contains(&v) {
                true => int.nodes.len(),
                false => int.nodes.iter().rposition(|n| n.inputs.contains(&v)).unwrap_or(0),
            };
            for (i, node) in int.nodes.iter().enumerate() {
                let place = |v: usize| {
                    let start = memory.values[v].unwrap();
                    start..start + int.values[v].len() * int.values[v].quant.width.bytes()
                };
                let y = place(node.output);
                assert!(y.end <= memory.size, "seed {seed}");
                let computed =
                    int.inputs.iter().copied().chain(int.nodes[..i].iter().map(|n| n.output));
                for v in computed.filter(|&v| last(v) > i) {
                    let x = place(v);
                    assert!(
                        x.end <= y.start || y.end <= x.start,
                        "seed {seed}, node {i}, value {v}"
                    );
                }
            }
        }
    }
}

#[test]
fn names_are_identifiers() {
    for name in ["net", "keywords_2", "a"] {
        check_name(name).unwrap();
    }
    for name in ["", "9x", "Net", "a-b", "int", "fn", "main", "x y", "ä", "_a"] {
        assert!(check_name(name).is_err(), "{name}");
    }
}

/// Each input and output has a place in the network's memory, and a type.
#[test]
fn several_inputs_have_places_of_their_own() {
    let mut net = Net::new(0);
    let (a, b) = (net.input(&[1, 5]), net.input(&[1, 40]));
    let y = net.node(Op::Concat(Concat { axis: 1 }), &[a, b]);
    let z = net.node(Op::Clip(Clip::RELU), &[a]);
    let float = net.finish(&[z, y]);
    let ranges = vec![Some(Range { lo: -1.0, hi: 1.0 }); float.values.len()];
    let wide = SCHEMES[3].with_widths(Width::W16, Width::W8);
    let plan = Plan { inputs: [(b, wide)].into(), ..SCHEMES[3].into() };
    let graph = quantize(&float, &ranges, plan).unwrap();
    let files = C.files(&lower(&graph).unwrap(), "net", &[]).unwrap();
    let header = &files.iter().find(|(name, _)| name == "net.h").unwrap().1;
    for line in
        ["typedef int8_t net_input_t;", "typedef int16_t net_input1_t;", "net_output1(void);"]
    {
        assert!(header.contains(line), "{header}");
    }
    let codes = PATTERNS.map(|p| pattern_codes(&graph, &mut Rng(0), p)).to_vec();
    check_c(&[(graph.clone(), codes)]);
    let nothing = Graph { inputs: vec![], ..graph };
    let message = C.files(&lower(&nothing).unwrap(), "net", &[]).unwrap_err().to_string();
    assert!(message.contains("needs inputs"), "{message}");
}
