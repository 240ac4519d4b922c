use std::path::PathBuf;

use crate::calibrate::{Calibrator, Observer};
use crate::codes::CodeTensor;
use crate::exec::float::FloatExecutor;
use crate::exec::int::IntExecutor;
use crate::graph::{Constant, Graph};
use crate::lower::lower;
use crate::ops::Op;
use crate::ops::Window;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::linear::Linear;
use crate::ops::reshape::Reshape;
use crate::passes;
use crate::quant::{Preset, Range, Scheme, Width};
use crate::quantize::{Plan, quantize};
use crate::testing::random_graphs::random_network;
use crate::testing::{
    Net, PATTERNS, Rng, SCHEMES, check_c, mixed_plan, pattern_codes, random_inputs, run_float,
    started,
};

use super::{C, Layout, Rust, TARGETS, Target, TestVector, check_name};

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
    let nets = (30..37).map(|seed| quantized(seed, SCHEMES[seed as usize % SCHEMES.len()]));
    check_rust(&nets.collect::<Vec<_>>());
}

/// Clippy takes an array of one range for a mistake; and what nobody calls is not there.
#[test]
fn rust_takes_one_place_without_an_array() {
    let mut alone = 0;
    for seed in 0..40 {
        let graph = quantized(seed, SCHEMES[seed as usize % SCHEMES.len()]);
        let files = Rust.files(&lower(&graph).unwrap(), "net", &[]).unwrap();
        let text = &files.iter().find(|(file, _)| file == "src/lib.rs").unwrap().1;
        let several = text.lines().filter(|line| line.contains("= places("));
        assert!(several.clone().all(|line| line.matches("..").count() > 1), "seed {seed}: {text}");
        assert_eq!(text.contains("fn places"), several.count() > 0, "seed {seed}");
        alone += text.matches(" = &mut i").count();
    }
    assert!(alone > 0);
}

/// A network of all operators with weights, each code of 4 bits among them.
fn four_bits(seed: u64) -> Graph {
    let mut net = Net::new(seed);
    let channels = net.rng.pick(&[1, 3, 4, 6]);
    let x = net.input(&[1, channels, 6, 7]);
    let mut last = net.node(Op::Clip(Clip::NONE), &[x]);
    for kind in [seed % 5, seed / 5 % 5, 4] {
        let shape = net.graph.values[last].shape.clone();
        let (c, out) = (shape[1], net.rng.pick(&[1, 2, 5, 8]));
        let kernel = net.rng.pick(&[[1, 1], [3, 3], [2, 3], [1, 2]]);
        let fits = kernel[0] <= shape[2] && kernel[1] <= shape[3];
        let kernel = if fits { kernel } else { [1, 1] };
        let (window, [kh, kw]) = (Window::new(kernel), kernel);
        let padded = Window { pads: [1, 0, 0, 1], ..window };
        let (op, weight) = match kind {
            0 => (Op::Conv(Conv { window, group: 1 }), vec![out, c, kh, kw]),
            1 => (Op::Conv(Conv { window: padded, group: c }), vec![2 * c, 1, kh, kw]),
            2 if c % 2 == 0 => {
                (Op::Conv(Conv { window: padded, group: 2 }), vec![6, c / 2, kh, kw])
            }
            2 | 3 => {
                let op = ConvTranspose { window, output_padding: [0; 2], group: 1 };
                (Op::ConvTranspose(op), vec![c, out, kh, kw])
            }
            _ => {
                let len = shape.iter().product();
                let flat = net.node(Op::Reshape(Reshape { shape: vec![1, len] }), &[last]);
                let weight = net.random(&[len, out]);
                last = net.node(Op::Linear(Linear { transposed: false }), &[flat, weight]);
                break;
            }
        };
        let weight = net.random(&weight);
        last = net.node(op, &[last, weight]);
    }
    let float = net.finish(&[last]);
    let mut rng = Rng(seed);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut rng, 1.0));
    let preset = [Preset::Scale, Preset::Scale, Preset::Shift][seed as usize % 3];
    let scheme = Scheme::new(preset).with_widths(rng.pick(&[Width::W8, Width::W16]), Width::W4);
    let scheme = if seed % 4 < 2 { scheme.per_tensor() } else { scheme };
    let mut graph = quantize(&float, &ranges, scheme).unwrap();
    for value in &mut graph.values {
        if value.quant.as_ref().is_some_and(|quant| quant.width == Width::W4) {
            let any: Vec<i32> = (-8..8).collect();
            let codes = crate::testing::tabulate(&value.shape, |_| rng.pick(&any));
            value.constant = Some(Constant::Codes(CodeTensor::new(Width::W4, codes)));
        }
    }
    graph
}

/// Two weights of 4 bits share a byte: rows of odd length, groups, all orders, with and without DSP code.
#[test]
fn weights_of_4_bits_compute_the_same() {
    let nets: Vec<Graph> = (0..64).map(four_bits).collect();
    let mut orders = std::collections::BTreeSet::new();
    for net in &nets {
        let files = C.files(&lower(net).unwrap(), "net", &[]).unwrap();
        let source = &files.iter().find(|(name, _)| name == "net.c").unwrap().1;
        for (of, x) in [("conv_8", 8), ("conv_16", 16), ("conv_transpose_8", 8), ("linear_8", 8)] {
            let found = source.contains(&format!("struct {of}_{x}_4_32"));
            orders.extend(found.then_some(of));
        }
    }
    let with_codes = |graph: &Graph| {
        let codes = PATTERNS.map(|p| pattern_codes(graph, &mut Rng(1), p)).to_vec();
        (graph.clone(), codes)
    };
    check_c(&nets.iter().map(with_codes).collect::<Vec<_>>());
    check_rust(&nets[..8]);
    assert_eq!(orders.len(), 4, "{orders:?}");
}

/// Less its zero point, a code of 8 bits may need 9.
#[test]
fn weights_with_zero_points_compute_the_same() {
    let of_8_bits = |seed: u64| {
        let (mut graph, mut rng) = (four_bits(seed), Rng(seed));
        for value in &mut graph.values {
            let Some(quant) = value.quant.as_mut().filter(|it| it.width == Width::W4) else {
                continue;
            };
            (quant.width, quant.zero_point) = (Width::W8, rng.pick(&[-128, -1, 64]));
            let any: Vec<i32> = (-128..128).collect();
            let codes = crate::testing::tabulate(&value.shape, |_| rng.pick(&any));
            value.constant = Some(Constant::Codes(CodeTensor::new(Width::W8, codes)));
        }
        let codes = PATTERNS.map(|p| pattern_codes(&graph, &mut Rng(seed), p)).to_vec();
        (graph, codes)
    };
    let nets = Vec::from_iter((0..20).map(of_8_bits));
    check_c(&nets);
    check_rust(&nets.into_iter().map(|(graph, _)| graph).take(3).collect::<Vec<_>>());
}

fn check_rust(nets: &[Graph]) {
    for (seed, graph) in nets.iter().enumerate() {
        let int = lower(graph).unwrap();
        let vectors: Vec<TestVector> = (0..3)
            .map(|i| {
                TestVector::new(&IntExecutor::new(&int), &random_inputs(graph, &mut Rng(i), 1.0))
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
            let files = match target.files(&int, "net", std::slice::from_ref(&vector)) {
                Err(error) if target.is_simulated() => {
                    assert!(error.to_string().starts_with("in node"), "{error}");
                    continue;
                }
                files => files.unwrap(),
            };
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
        for memory in TARGETS.iter().filter_map(|target| target.memory(&int)) {
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
fn a_path_is_one_word_of_a_command() {
    let next = |folder: &str| C.test(folder.as_ref(), &Layout::default());
    assert_eq!(next("out/net"), "make -C out/net test");
    assert_eq!(next("my net"), "make -C 'my net' test");
    assert_eq!(next("it's"), r"make -C 'it'\''s' test");
    assert_eq!(
        Rust.test("a b".as_ref(), &Layout::default()),
        "cargo test --manifest-path 'a b/Cargo.toml'"
    );
}

/// Whatever compilers, their libraries, build tools or file systems know by the name: it is refused, or is nothing that is
/// written by itself.
#[test]
fn names_are_identifiers() {
    for name in [
        "net",
        "keywords_2",
        "a",
        "memcpy",
        "linux",
        "unix",
        "int8_t",
        "int8",
        "uint8_t",
        "null",
        "net_h",
        "x_t",
        "class",
        "new",
        "and",
        "delete",
        "this",
        "template",
        "printf",
        "exit",
        "all",
        "install",
        "clean",
        "arena",
    ] {
        check_name(name).unwrap();
    }
    for name in [
        "",
        "9x",
        "Net",
        "a-b",
        "x y",
        "ä",
        "_a",
        "_Bool",
        "NULL",
        "I",
        "int",
        "main",
        "fn",
        "crate",
        "self",
        "async",
        "union",
        "assert",
        "errno",
        "stddef",
        "time",
        "features",
        "unistd",
        "strings",
        "pthread",
        "sched",
        "arduino",
        "naive_ptq",
        "naive_ptq_2",
        "networks",
        "vectors",
        "test",
        "arith",
        "dsp",
        "conv",
        "product",
        "aux",
        "nul",
        "com1",
        "core",
        "std",
        "alloc",
        "proc_macro",
    ] {
        let error = check_name(name).unwrap_err().to_string();
        assert!(error.contains(&format!("\"{name}\"")), "{error}");
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
