//! Generated C among the code of others: no macro and no name of its own meets one of theirs, networks share kernels.
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use naive_ptq::data::write_folder;
use naive_ptq::emit::{C, Target};
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use tools::{programs, scratch, text};

/// Runs a command line, separated by spaces.
#[track_caller]
fn shell(folder: &Path, line: &str) -> Output {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(folder).output().unwrap()
}

/// What it prints, if all goes well.
#[track_caller]
fn succeeds(folder: &Path, line: &str) -> String {
    let output = shell(folder, line);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn loaded(model: &Path) -> IntGraph {
    let mut graph = onnx::load(model).unwrap();
    prepare(&mut graph).unwrap();
    lower(&graph).unwrap()
}

/// Quantized networks with all operators, in 8 bits and in 16.
fn golden() -> Vec<(String, IntGraph)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut models: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| {
        [".scale_channel.onnx", ".shift_8_16.onnx"].iter().any(|end| text(path).ends_with(end))
    });
    models.sort();
    assert!(models.len() >= 10, "{models:?}");
    let name = |path: &PathBuf| text(path.file_stem().unwrap().as_ref()).to_owned();
    models.iter().map(|path| (name(path), loaded(path))).collect()
}

/// Names of macros that are defined at the end of a file.
fn macros(folder: &Path, compiler: &str, file: &str) -> BTreeSet<String> {
    let text = succeeds(folder, &format!("{compiler} -std=c99 -dM -E {file}"));
    let name = |line: &str| line.split([' ', '(']).nth(1).map(str::to_owned);
    text.lines().filter_map(name).collect()
}

#[test]
fn every_macro_begins_with_the_name_of_the_network_or_the_tool() {
    let compilers = [
        "gcc",
        "gcc -DKW_DSP=1 -DNAIVE_PTQ_DSP=1 -DKW_CALLER_ARENA",
        "arm-none-eabi-gcc -mcpu=cortex-m4",
    ];
    let compilers = Vec::from_iter(
        compilers.into_iter().filter(|line| programs(&[line.split(' ').next().unwrap()])),
    );
    for (model, graph) in golden() {
        let dir = scratch();
        let folder = dir.path().join("kw");
        write_folder(&folder, &C.files(&graph, "kw", &[]).unwrap()).unwrap();
        let system = "#include <assert.h>\n#include <limits.h>\n#include <math.h>\n#include <stdint.h>\n#include <string.h>\n";
        fs::write(folder.join("system.c"), system).unwrap();
        for compiler in &compilers {
            let theirs = macros(&folder, compiler, "system.c");
            for file in ["kw.h", "kw.c -DKW_TRACE -DKW_ASSERT -DKW_REAL"] {
                let mut ours = macros(&folder, compiler, file);
                assert!(ours.contains("KW_HASH"), "{model}: {compiler} {file}");
                ours.retain(|name| !theirs.contains(name));
                ours.retain(|name| {
                    !["KW_", "kw_", "NAIVE_PTQ_"].iter().any(|p| name.starts_with(p))
                });
                assert!(ours.is_empty(), "{model}: {compiler} {file}: {ours:?}");
            }
        }
    }
}

/// Macros that others are known to define, and some that they may; behind the headers of the system, which they would
/// break.
const OTHERS: &str = "
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#define N 5
#define T 3
#define in
#define out
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) < (b) ? (b) : (a))
#define abs(x) ((x) < 0 ? -(x) : (x))
#define I _Complex_I
#define B1 1
#define PI 3
#define INPUT 0
#define OUTPUT 1
#define HIGH 1
#define LOW 0
#define INLINE inline
#define ALIGNED
#define ASSERT(x) x
#define TRACE(x) x
#define SECTION(x) x
#define KERNEL 7
#define GROUP_4 4
#define WEIGHTS 4
#define x_t short
#define unix 1
#define linux 1
#define near
#define far
#define small char
#define interface struct
#define bit(b) (1 << (b))
#define word(a, b) a
#define F(x) x
#define round(x) ((x) + 1)
#define constrain(x, a, b) x
#define swap(a, b)
#define error(x)
#define test(x)
";

/// As headers of vendors have it, before anything of ours is read.
#[test]
fn macros_of_others_change_nothing() {
    if !programs(&["gcc"]) {
        return;
    }
    for (model, graph) in golden() {
        let dir = scratch();
        let folder = dir.path().join("net");
        write_folder(&folder, &C.files(&graph, "net", &[]).unwrap()).unwrap();
        fs::write(folder.join("others.h"), OTHERS).unwrap();
        for options in ["-DNET_REAL -DNET_TRACE", "-DNAIVE_PTQ_DSP=1 -DNET_CALLER_ARENA"] {
            let line = format!("gcc -std=gnu99 -Wall -Wextra -Werror {options} -O1 -c net.c");
            succeeds(&folder, &format!("{line} -o plain.o"));
            succeeds(&folder, &format!("{line} -include others.h -o among_others.o"));
            let code = |object: &str| {
                succeeds(&folder, &format!("objdump -d -r --no-show-raw-insn {object}"))
            };
            let instructions =
                |object: &str| code(object).lines().skip(3).collect::<Vec<_>>().join("\n");
            assert_eq!(
                instructions("plain.o"),
                instructions("among_others.o"),
                "{model} {options}"
            );
        }
    }
}
