//! What the page about other processors says: its header is compiled, its macros exist, its refusals happen.
#![allow(clippy::unwrap_used)]

mod tools;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use naive_ptq::data::write_folder;
use naive_ptq::emit::{C, Target};
use naive_ptq::lower::lower;
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use tempfile::TempDir;
use tools::{programs, pseudo_random, scratch, skip, vectors};

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/porting.md");
    fs::read_to_string(page).unwrap()
}

/// A golden network in C with test vectors, and beside it the page's header.
fn deployed(model: &str) -> TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut graph = onnx::load(&golden.join(model)).unwrap();
    prepare(&mut graph).unwrap();
    let integer = lower(&graph).unwrap();
    let shape = &integer.values[integer.inputs[0]].shape;
    let samples = [1, 2, 3].map(|seed| pseudo_random(shape, seed));
    let dir = scratch();
    let files = C.files(&integer, "net", &vectors(&integer, &samples)).unwrap();
    write_folder(&dir.path().join("c"), &files).unwrap();
    let page = page();
    let header = page.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(dir.path().join("c/port.h"), header).unwrap();
    dir
}

const MODELS: [&str; 3] =
    ["convolutions.scale_channel.onnx", "linear.shift_8_16.onnx", "linear.scale_16_8.onnx"];

/// Runs a line of words in the folder of the network.
fn shell(dir: &TempDir, line: &[&str]) -> Output {
    Command::new(line[0]).args(&line[1..]).current_dir(dir.path().join("c")).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

const STRICT: [&str; 6] = ["gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"];

/// What the test vectors say of net.c, compiled with these options.
fn verdict(dir: &TempDir, options: &[&str]) -> String {
    let files = ["-DNET_TRACE", "-DNET_ASSERT", "-c", "net.c", "-o", "net.o"];
    let network = [&STRICT[..], &["-Wno-unknown-pragmas"], options, &files].concat();
    for line in [&network[..], &["gcc", "-DNET_TRACE", "test/main.c", "net.o", "-o", "net_test"]] {
        let output = shell(dir, line);
        assert!(output.status.success(), "{line:?}: {}", said(&output));
    }
    said(&shell(dir, &["./net_test"]))
}

#[test]
fn vectors_prove_the_header_of_the_page() {
    if !programs(&["gcc"]) {
        return;
    }
    for model in MODELS {
        let dir = deployed(model);
        for options in [&[][..], &["-U__GNUC__"], &["-include", "port.h"], &["-DNAIVE_PTQ_DSP=1"]] {
            let said = verdict(&dir, options);
            assert!(said.contains("3 of 3 vectors pass"), "{model} {options:?}: {said}");
        }
        // A function that computes something else is found.
        let path = dir.path().join("c/port.h");
        let header = fs::read_to_string(&path).unwrap();
        let wrong = header.replace("* (int16_t)(b >> 16);", "* (int16_t)b;");
        assert_ne!(header, wrong);
        fs::write(path, wrong).unwrap();
        let said = verdict(&dir, &["-include", "port.h"]);
        assert!(said.contains("layer") && said.contains("FAIL"), "{model}: {said}");
    }
}

/// Each macro of the page is one that the code looks at.
#[test]
fn macros_of_the_page_exist() {
    if !programs(&["gcc"]) {
        return;
    }
    let page = page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `N"));
    let names: Vec<String> =
        rows.map(|row| format!("N{}", row.split('`').next().unwrap())).collect();
    assert_eq!(names.len(), 12, "{names:?}");
    let dir = deployed(MODELS[0]);
    for name in names.iter().filter(|name| *name != "NAIVE_PTQ_DSP") {
        let of_functions = ["DOT_PAIR", "SATURATE", "HIGH_PRODUCT"];
        let arguments = match of_functions.iter().any(|end| name.ends_with(end)) {
            true if name.ends_with("SATURATE") => "(a, b)=MARK(a, b)",
            true => "(a, b, c)=MARK(a, b, c)",
            false => "=MARK",
        };
        for dsp in ["-DNAIVE_PTQ_DSP=0", "-DNAIVE_PTQ_DSP=1"] {
            let output =
                shell(&dir, &["gcc", "-E", "-P", dsp, &format!("-D{name}{arguments}"), "net.c"]);
            assert!(said(&output).contains("MARK"), "{name}: {}", said(&output));
        }
    }
    // They are all: what the code asks for is on the page, but for what is one network's.
    for file in ["arith.h", "dsp.h", "net.c"] {
        let text = fs::read_to_string(dir.path().join("c").join(file)).unwrap();
        for name in text.lines().filter_map(|line| line.strip_prefix("#ifndef ")) {
            let guard = name.ends_with("_H") || name.contains(|c: char| c.is_ascii_digit());
            let guard = guard || name == "NAIVE_PTQ_KERNELS";
            assert!(guard || page.contains(&format!("`{name}`")), "{file}: {name}");
        }
    }
}

/// A header of the compiler, and what it says otherwise.
fn refused(dir: &TempDir, header: &str, text: &str, message: &str) {
    let stubs = dir.path().join("c/stubs");
    fs::create_dir_all(&stubs).unwrap();
    fs::write(stubs.join(header), format!("#include_next <{header}>\n{text}\n")).unwrap();
    let output = shell(dir, &["gcc", "-std=c99", "-isystem", "stubs", "-fsyntax-only", "net.c"]);
    fs::remove_dir_all(&stubs).unwrap();
    assert!(!output.status.success() && said(&output).contains(message), "{}", said(&output));
}

#[test]
fn machines_that_cannot_compute_it_are_refused() {
    if !programs(&["gcc"]) {
        return;
    }
    let dir = deployed(MODELS[0]);
    refused(&dir, "limits.h", "#undef CHAR_BIT\n#define CHAR_BIT 16", "CHAR_BIT is not 8");
    refused(
        &dir,
        "limits.h",
        "#undef INT_MAX\n#define INT_MAX 32767",
        "an int has 32 bits or more",
    );
    refused(&dir, "stdint.h", "#undef INT64_MAX", "this compiler has no int64_t");
}

/// Processors as clang calls them, and what a compiler for them is called.
const OTHERS: [(&str, &str); 6] = [
    ("hexagon", "hexagon"),
    ("riscv32", "riscv32"),
    ("mips", "mips"),
    ("ppc32", "powerpc"),
    ("sparc", "sparc"),
    ("armeb", "armeb-none-eabi"),
];

/// For processors of other vendors, without their libraries.
#[test]
fn other_processors_compile_it() {
    if !programs(&["clang"]) {
        return;
    }
    let known = Command::new("clang").arg("--print-targets").output().unwrap();
    let known = String::from_utf8_lossy(&known.stdout).into_owned();
    for model in MODELS {
        let dir = deployed(model);
        let functions = "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\n";
        fs::create_dir(dir.path().join("c/stubs")).unwrap();
        fs::write(dir.path().join("c/stubs/string.h"), functions).unwrap();
        for (name, target) in OTHERS {
            if !known.lines().any(|line| line.trim().starts_with(name)) {
                skip(&format!("clang for {target}"), "it was built without");
                continue;
            }
            let target = format!("--target={target}");
            let line = "-std=c99 -ffreestanding -pedantic -Wall -Wextra -Werror -isystem stubs -O1 -S -o /dev/null net.c";
            let line: Vec<&str> = ["clang", &target].into_iter().chain(line.split(' ')).collect();
            let output = shell(&dir, &line);
            assert!(output.status.success(), "{target}: {}", said(&output));
        }
    }
}
