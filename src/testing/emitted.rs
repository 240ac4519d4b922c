//! The integer kernels as the sources that they are copied as.

use std::io::Write;
use std::process::{Command, Stdio};

use super::real_inputs;
use super::skip::{skip, tools_required};
use crate::codes::Codes;
use crate::emit::{C, Target, TestVector};
use crate::exec::int::IntExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::tensor::Tensor;

#[test]
fn emitted_rust_compiles_without_std_unsafe_and_floats() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mut lib = "#![no_std]\n#![forbid(unsafe_code)]\npub mod arith;\n".to_string();
    write("arith.rs", include_str!("../arith.rs"));
    let operators = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops");
    for folder in std::fs::read_dir(operators).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(source) = std::fs::read_to_string(folder.join("int.rs")) else { continue };
        let name = folder.file_name().unwrap().to_str().unwrap();
        for word in ["f32", "f64", "std::", "unsafe", "alloc"] {
            assert!(!source.contains(word), "{name} mentions {word}");
        }
        lib += &format!("pub mod {name};\n");
        write(&format!("{name}.rs"), &source);
    }
    assert!(lib.contains("pub mod conv;"));
    write("lib.rs", &lib);
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition=2021", "--crate-type=lib", "--emit=metadata", "-Dwarnings", "lib.rs"]);
    let Some(output) = started(command.current_dir(&folder), "rustc") else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The emitted C of each quantized graph against the engine, on these codes. Undefined behaviour traps.
/// Every other net is compiled for the instructions of the DSP extension, in their portable form, and
/// every other pair with assertions on the bound of each accumulator.
pub fn check_c(nets: &[(Graph, Vec<Vec<Tensor<i32>>>)]) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let (mut main, mut input, mut expected) =
        ("#include <stdio.h>\n#include <string.h>\n".to_string(), vec![], vec![]);
    let mut calls = String::new();
    for (i, (graph, runs)) in nets.iter().enumerate() {
        let (int, name) = (lower(graph).unwrap(), format!("net{i}"));
        let assert =
            if i / 2 % 2 == 1 { format!("#define NET{i}_ASSERT\n") } else { String::new() };
        let options = format!("#define NET_DSP {}\n{assert}", i % 2);
        for (file, text) in C.files(&int, &name, &[]).unwrap() {
            write(
                &file,
                &if file == format!("{name}.c") { format!("{options}{text}") } else { text },
            );
        }
        for codes in runs {
            let vector =
                TestVector::new(&IntExecutor::new(&int), &real_inputs(graph, codes)).unwrap();
            input.extend(vector.inputs.iter().flat_map(bytes));
            let outputs = vector.outputs.iter().flat_map(bytes).collect::<Vec<u8>>();
            expected.push((format!("net {i}, {codes:?}"), outputs));
        }
        main += &format!("#include \"{name}.h\"\n");
        let (upper, count) = (name.to_uppercase(), runs.len());
        let edges = [("input", &int.inputs), ("output", &int.outputs)].into_iter();
        let edges = edges.flat_map(|(what, values)| (0..values.len()).map(move |i| (what, i)));
        let edges =
            edges.map(|(what, i)| (what, if i == 0 { what.into() } else { format!("{what}{i}") }));
        let edges: Vec<(&str, String)> = edges.collect();
        let each = |of: &dyn Fn(&str, &str) -> String| -> Vec<String> {
            edges
                .iter()
                .map(|(what, edge)| of(what, edge))
                .filter(|text| !text.is_empty())
                .collect()
        };
        let only = |which: &'static str, text: &'static str| {
            move |what: &str, edge: &str| match what == which {
                true => text.replace('@', edge),
                false => String::new(),
            }
        };
        let buffers = each(&|_, edge| {
            format!("static {name}_{edge}_t {edge}[{upper}_{}_SIZE];", edge.to_uppercase())
        });
        let reads = each(&only("input", "if (fread(@, sizeof @, 1, stdin) != 1) return 1;"));
        let writes = each(&only("output", "fwrite(@, sizeof @, 1, stdout);"));
        calls += &format!(
            "{{ {} int i;\nfor (i = 0; i < {count}; i++) {{ {}\n{name}_run({}); {}\n",
            buffers.concat(),
            reads.concat(),
            each(&|_, edge| edge.into()).join(", "),
            writes.concat()
        );
        // The network's own places must give the same.
        if int.outputs.iter().all(|&v| int.values[v].constant.is_none()) {
            let to = each(&|what, edge| match what {
                "input" => format!("memcpy({name}_{edge}(), {edge}, sizeof {edge});"),
                _ => String::new(),
            });
            let compare = each(&|what, edge| match what {
                "output" => {
                    format!("if (memcmp({name}_{edge}(), {edge}, sizeof {edge}) != 0) return 2;")
                }
                _ => String::new(),
            });
            let places = each(&|_, edge| format!("{name}_{edge}()")).join(", ");
            calls += &format!("{} {name}_run({places}); {}\n", to.concat(), compare.concat());
        }
        calls += "} }\n";
    }
    write("main.c", &format!("{main}int main(void)\n{{\n{calls}return 0;\n}}\n"));
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1"]);
    cc.args(["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "main.c"]);
    cc.args((0..nets.len()).map(|i| format!("net{i}.c"))).args(["-o", "main"]);
    let Some(output) = started(cc.current_dir(&folder), "cc") else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The same files as C++, of an old standard and with all warnings.
    let mut cpp = Command::new("c++");
    cpp.args(["-x", "c++", "-std=c++11", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]);
    cpp.arg("-fsyntax-only").args((0..nets.len()).map(|i| format!("net{i}.c")));
    if let Some(output) = started(cpp.current_dir(&folder), "c++") {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut child = Command::new(folder.path().join("main"));
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let mut rest = &output.stdout[..];
    for (context, expected) in &expected {
        assert!(rest.len() >= expected.len(), "the program fails: {}, {context}", output.status);
        let (got, after) = rest.split_at(expected.len());
        assert_eq!(got, expected, "{context}");
        rest = after;
    }
    assert!(output.status.success() && rest.is_empty(), "{}", output.status);
    writer.join().unwrap().unwrap();
}

/// The codes as they lie in memory, the low byte first.
fn bytes(codes: &Codes) -> Vec<u8> {
    let size = codes.width().bytes();
    codes.iter().flat_map(|code| code.to_le_bytes().into_iter().take(size)).collect()
}

/// What a tool answers, or a visible skip if it is not there.
#[track_caller]
pub fn started(command: &mut Command, tool: &str) -> Option<std::process::Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(!tools_required(), "{tool} does not start: {error}");
            skip(tool, "does not start");
            None
        }
    }
}
