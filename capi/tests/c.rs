//! Programs in C and C++ use every function of the header, and get the bits that Rust gets.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../../src/testing/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::graph::{Graph, Node, Parts, Value};
use naive_ptq::ops::{Op, add::Add, clip::Clip};
use naive_ptq::quant::{Given, Integer, Preset, Scheme, Width};
use naive_ptq::quantize::quantize;
use naive_ptq::{Model, Tensor, onnx, passes};
use naive_ptq_c::Status;
use naive_ptq_c::border::Value as Described;
use skip::programs;
use tempfile::TempDir;

const WARNINGS: &str = "-pedantic -Wall -Wextra -Wconversion -Wshadow -Werror";
const SANITIZED: &str = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the libraries.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), output.status)
}

/// Compiles `source`, a file of this folder, and returns the program.
fn compiled(folder: &Path, source: &str, compiler: &str, library: &str) -> PathBuf {
    let program = folder.join(source.replace(['/', '.'], "_"));
    let mut words = compiler.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(WARNINGS.split(' ')).arg("-o").arg(&program);
    command.arg("-I").arg(here().join("include")).arg(here().join(source));
    command.args(["-x", "none"]).arg(libraries().join(library));
    let output = command.args(["-lpthread", "-lm", "-ldl"]).output().unwrap();
    assert!(output.status.success(), "{compiler}: {}", said(&output));
    program
}

/// What it prints, with `input` as standard input.
fn printed(program: &Path, arguments: &[&Path], input: &Path) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(File::open(input).unwrap());
    let output = command.env("LD_LIBRARY_PATH", libraries()).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), said(&output));
    output.stdout
}

fn random(shape: &[usize], seed: u64) -> Tensor<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::new(shape, (0..shape.iter().product()).map(|_| next()).collect()).unwrap()
}

/// Two inputs, and as outputs their sum and their difference.
fn sum_and_difference(name: &str, given: Option<Given>) -> Graph {
    let mut graph = Graph { name: name.into(), ..Graph::default() };
    let shapes: [(&str, &[usize]); 4] = [
        ("a", &[1, 3, 4, 5]),
        ("b\u{e9}\"", &[1, 3, 1, 1]),
        ("sum", &[1, 3, 4, 5]),
        ("difference", &[1, 3, 4, 5]),
    ];
    for (name, shape) in shapes {
        graph.add_value(Value { name: name.into(), shape: shape.to_vec(), ..Value::default() });
    }
    (graph.values[0].given, graph.values[0].quant) = (given, given.map(Given::params));
    for (output, subtract) in [(2, false), (3, true)] {
        graph.nodes.push(Node {
            name: format!("node{output}"),
            parts: Parts::default(),
            op: Op::Add(Add { subtract }),
            clamp: Clip::NONE,
            inputs: vec![0, 1],
            output,
        });
    }
    (graph.inputs, graph.outputs) = (vec![0, 1], vec![2, 3]);
    graph
}

/// A quantized file, and inputs for it.
fn model(folder: &Path, mut graph: Graph, activations: Width) -> (PathBuf, Vec<Tensor<f32>>) {
    passes::prepare(&mut graph);
    let inputs = graph.inputs.iter().zip(1..).map(|(&v, i)| random(&graph.values[v].shape, i));
    let mut inputs = Vec::from_iter(inputs);
    if graph.values[graph.inputs[0]].given.is_some() {
        inputs[0] = inputs[0].map(|x| (x.abs() * 255.0).round());
    }
    let mut observer = Observer::new(&graph);
    FloatExecutor::new(&graph).run(&inputs, |v, x| observer.see(v, x)).unwrap();
    let scheme = Scheme::new(Preset::Scale).with_widths(activations, Width::W8);
    let mut quantized = quantize(&graph, &observer.ranges(Calibrator::MinMax), scheme).unwrap();
    quantized.metadata.insert("a key".into(), "what it says".into());
    let path = folder.join(format!("{}_{activations}.onnx", graph.name));
    fs::write(&path, onnx::export(&quantized)).unwrap();
    (path, inputs)
}

/// What `all.c` writes, by the integer reference and by what `naive-ptq run` uses.
fn expected(path: &Path, inputs: &[Tensor<f32>]) -> Vec<u8> {
    let model = Model::load(path).unwrap();
    let real = model.executor().unwrap().run(inputs).unwrap();
    let Model::Int(graph) = model else { panic!("not quantized") };
    let codes = IntExecutor::new(&*graph).run_codes(inputs, |_, _| Ok(())).unwrap();
    let of_bytes = graph.inputs.iter().any(|&v| graph.values[v].given.is_some());
    assert_eq!(of_bytes, graph.name == "bytes");
    let mut bytes = Vec::new();
    for ((real, codes), &v) in real.iter().zip(codes).zip(&graph.outputs) {
        bytes.extend(real.data().iter().flat_map(|x| x.to_ne_bytes()));
        let size = graph.values[v].quant.width.bytes();
        bytes
            .extend(codes.data().iter().flat_map(|code| code.to_le_bytes().into_iter().take(size)));
    }
    bytes
}

fn fashion() -> Graph {
    onnx::load(&here().join("../models/fashion/float.onnx")).unwrap()
}

#[test]
fn programs_in_c_and_cpp_get_the_same_bits() {
    if !programs(&["gcc", "g++", "clang"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let models = [
        model(folder, fashion(), Width::W8),
        model(folder, sum_and_difference("several", None), Width::W8),
        model(folder, sum_and_difference("several", None), Width::W16),
        model(folder, sum_and_difference("bytes", Some(Given::any(Integer::U8))), Width::W8),
    ];
    for (compiler, library) in [
        (format!("gcc -std=c99 {SANITIZED}"), "libnaive_ptq_c.so"),
        (format!("g++ -std=c++11 {SANITIZED} -x c++"), "libnaive_ptq_c.so"),
        ("clang -std=c99".into(), "libnaive_ptq_c.a"),
    ] {
        let program = compiled(folder, "tests/all.c", &compiler, library);
        for (path, inputs) in &models {
            let numbers = inputs.iter().flat_map(Tensor::data);
            let bytes: Vec<u8> = numbers.flat_map(|x| x.to_ne_bytes()).collect();
            fs::write(folder.join("input"), bytes).unwrap();
            let got = printed(&program, &[path], &folder.join("input"));
            let once = expected(path, inputs);
            assert!(got == [once.clone(), once].concat(), "{compiler}: {}", path.display());
        }
    }
}

#[test]
fn the_examples_run() {
    if !programs(&["gcc", "g++"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let (path, _) = model(folder, fashion(), Width::W8);
    let pixels = folder.join("pixels");
    fs::write(&pixels, [7; 28 * 28]).unwrap();
    let executor = Model::load(&path).unwrap().executor().unwrap();
    let run = |brightness: f32| {
        let image = Tensor::new([1, 1, 28, 28], vec![brightness; 28 * 28]).unwrap();
        executor.run(&[image]).unwrap().swap_remove(0)
    };
    let clothes = compiled(folder, "examples/clothes.c", "gcc -std=c99", "libnaive_ptq_c.so");
    let text = String::from_utf8(printed(&clothes, &[&path, &pixels], &pixels)).unwrap();
    let logits = run(7.0 / 255.0);
    let (class, best) = logits.data().iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    assert_eq!(text, format!("class {class}, {best:.4}\n"));
    let threads = compiled(
        folder,
        "examples/threads.cpp",
        &format!("g++ -std=c++14 {SANITIZED}"),
        "libnaive_ptq_c.so",
    );
    let text = String::from_utf8(printed(&threads, &[&path], &pixels)).unwrap();
    let sums = [0.0, 1.0].map(|x| run(x).data().iter().map(|&y| f64::from(y)).sum::<f64>());
    assert_eq!(text, format!("{:.4} {:.4}\n", sums[0], sums[1]));
    // A file that is missing is said to be.
    let output = Command::new(&clothes)
        .args([folder.join("none"), pixels])
        .env("LD_LIBRARY_PATH", libraries())
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("none: "), "{}", said(&output));
}

fn header() -> String {
    fs::read_to_string(here().join("include/naive_ptq.h")).unwrap()
}

/// The names of the functions that a text declares or defines.
fn functions(text: &str) -> BTreeSet<String> {
    let before_brackets =
        text.split('(').map(|before| before.rsplit([' ', '*', '\n']).next().unwrap());
    let named = before_brackets.filter(|name| name.starts_with("naive_ptq_"));
    named.map(str::to_owned).collect()
}

#[test]
fn the_header_declares_what_the_library_has_and_the_program_uses_it_all() {
    let declared = functions(&header().split("*/").map(without_comment).collect::<String>());
    assert_eq!(declared.len(), 17, "{declared:?}");
    let program = fs::read_to_string(here().join("tests/all.c")).unwrap();
    let used = functions(&program.replace('!', " "));
    assert_eq!(declared, used);
    if programs(&["nm"]) {
        let mut nm = Command::new("nm");
        nm.args(["-D", "--defined-only"]).arg(libraries().join("libnaive_ptq_c.so"));
        let symbols = String::from_utf8(nm.output().unwrap().stdout).unwrap();
        let symbols = symbols.lines().filter_map(|line| line.split(' ').next_back());
        let ours = symbols.filter(|name| name.contains("naive_ptq"));
        assert_eq!(declared, ours.map(str::to_owned).collect());
    }
}

fn without_comment(text: &str) -> &str {
    text.split("/*").next().unwrap()
}

/// Sizes, places and numbers of both sides are the same, and the version.
#[test]
fn the_header_has_the_types_of_the_library() {
    if !programs(&["gcc"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut asserted = vec![("sizeof(naive_ptq_value)".into(), size_of::<Described>())];
    asserted.push(("sizeof(naive_ptq_status)".into(), size_of::<Status>()));
    macro_rules! members {
        ($($member:ident),+) => {
            $(asserted.push((
                format!("offsetof(naive_ptq_value, {})", stringify!($member)),
                std::mem::offset_of!(Described, $member),
            ));)+
        };
    }
    members!(name, shape, rank, count, bits, is_unsigned, scale, zero_point);
    let all = [
        Status::Ok,
        Status::Io,
        Status::Invalid,
        Status::Unsupported,
        Status::Shape,
        Status::Range,
        Status::Argument,
        Status::Fault,
    ];
    for status in all {
        let name = format!("NAIVE_PTQ_{status:?}").to_uppercase();
        asserted.push((name, status as usize));
    }
    let assert = |(what, is): &(String, usize)| format!("_Static_assert({what} == {is}, \"\");\n");
    let accepts = |text: &str| {
        let source = folder.path().join("layout.c");
        fs::write(&source, format!("#include \"naive_ptq.h\"\n{text}")).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-std=c11", "-fsyntax-only", "-Werror"]).arg("-I").arg(here().join("include"));
        gcc.arg(source).output().unwrap().status.success()
    };
    for line in asserted.iter().map(assert) {
        assert!(accepts(&line), "{line}");
    }
    assert!(!accepts(&assert(&("NAIVE_PTQ_IO".into(), 2))));
    let header = header();
    let statuses = header.matches("    NAIVE_PTQ_").count();
    assert_eq!(statuses, all.len());
    assert!(
        header.contains(&format!("#define NAIVE_PTQ_VERSION \"{}\"", env!("CARGO_PKG_VERSION")))
    );
}

/// The page shows the example that is tested.
#[test]
fn the_page_shows_the_example() {
    let page = fs::read_to_string(here().join("../docs/embedding.md")).unwrap();
    for example in ["clothes.c", "threads.cpp"] {
        let text = fs::read_to_string(here().join("examples").join(example)).unwrap();
        assert!(page.contains(&text), "{example}");
    }
}

/// pkg-config and CMake find what has been installed.
#[test]
fn the_installed_library_is_found() {
    if !programs(&["pkg-config", "cmake", "make", "gcc"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let [prefix, build] = ["a prefix", "build"].map(|name| folder.path().join(name));
    let succeed = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    succeed(Command::new(here().join("install")).arg(libraries()).arg(&prefix));
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.args(["--cflags", "--libs", "naive_ptq"]);
    let flags = succeed(pkg_config.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
    let line = format!("gcc \"$0\" {flags} -o \"$1\"").replace('\n', " ");
    let (source, program) = (here().join("examples/clothes.c"), folder.path().join("clothes"));
    succeed(Command::new("sh").arg("-c").arg(line).args([&source, &program]));
    let lists = format!(
        "cmake_minimum_required(VERSION 3.10)\nproject(clothes C)\nfind_package(naive_ptq REQUIRED)\n\
         add_executable(clothes {})\ntarget_link_libraries(clothes PRIVATE naive_ptq::naive_ptq)\n",
        source.display()
    );
    fs::write(folder.path().join("CMakeLists.txt"), lists).unwrap();
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(folder.path()).arg("-B").arg(&build);
    succeed(cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    succeed(Command::new("cmake").arg("--build").arg(&build));
    let usage = |program: &Path| {
        let output = Command::new(program).env("LD_LIBRARY_PATH", prefix.join("lib")).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    for program in [&program, &build.join("clothes")] {
        assert_eq!(usage(program), "usage: clothes MODEL PIXELS\n");
    }
}
