//! Generated C among the code of others: no macro and no name of its own meets one of theirs, networks share kernels, and
//! each layout of the files computes the same.
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use naive_ptq::Tensor;
use naive_ptq::data::write_folder;
use naive_ptq::emit::{ByteOrder, C, Layout, Network, Project, Target, TestVector};
use naive_ptq::exec::int::IntExecutor;
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
            let line = format!("gcc -std=gnu99 -Wall -Wextra -Werror {options} -O0 -c net.c");
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

/// A few test vectors; the inputs are a wave, which reaches all codes.
fn vectors(graph: &IntGraph) -> Vec<TestVector> {
    let reference = IntExecutor::new(graph);
    let wave = |v: usize, phase: f32| {
        let value = &graph.values[v];
        let (lowest, highest) = value.quant.code_range();
        let middle = (lowest + highest) as f32 / 2.0 - value.quant.zero_point as f32;
        let reach = (highest - lowest) as f32 * 0.55 * value.quant.scale[0];
        let real = |i| middle * value.quant.scale[0] + reach * (phase + i as f32 * 0.7).sin();
        Tensor::new(value.shape.clone(), (0..value.len()).map(real).collect()).unwrap()
    };
    let vector = |phase| {
        let inputs: Vec<Tensor<f32>> = graph.inputs.iter().map(|&v| wave(v, phase)).collect();
        TestVector::new(&reference, &inputs).unwrap()
    };
    [0.0, 0.4, 2.0].map(vector).to_vec()
}

/// Writes networks in a layout of files.
fn write(folder: &Path, networks: &[(&str, &IntGraph)], layout: &Layout) {
    let vectors: Vec<Vec<TestVector>> = networks.iter().map(|(_, graph)| vectors(graph)).collect();
    let networks = networks.iter().zip(&vectors);
    let networks: Vec<Network> =
        networks.map(|((name, graph), vectors)| Network { graph, name, vectors }).collect();
    write_folder(folder, &C.package(&networks, layout).unwrap()).unwrap();
}

fn network(wanted: &str) -> IntGraph {
    golden().into_iter().find(|(name, _)| name == wanted).unwrap().1
}

/// Every way to lay out files gives the same codes, layer by layer, as C and as C++.
#[test]
fn every_layout_computes_the_same() {
    if !programs(&["gcc", "g++", "make"]) {
        return;
    }
    let blob = Some(ByteOrder::Little);
    let layouts = [
        Layout { single_file: true, blob, project: Project::Make },
        Layout { single_file: false, blob, project: Project::Arduino },
    ];
    let check = |model: &str, graph: &IntGraph, layout: &Layout| {
        let dir = scratch();
        let folder = dir.path().join("net");
        write(&folder, &[("net", graph)], layout);
        let said = succeeds(&folder, "make CC=gcc CFLAGS=-Werror test");
        assert!(said.ends_with("3 of 3 vectors pass\n"), "{model}, {layout:?}: {said}");
        let mut sources = files(&folder);
        sources.retain(|name| name.ends_with(".c") && !name.starts_with("test/"));
        assert_eq!(sources.len(), 1, "{model}, {layout:?}: {sources:?}");
        let text = fs::read_to_string(folder.join(&sources[0])).unwrap();
        let own = text.lines().filter(|line| line.starts_with("#include \"")).count();
        assert_eq!(own == 1, layout.single_file, "{model}, {layout:?}");
        succeeds(&folder, &format!("g++ -x c++ -Wall -Werror -fsyntax-only {}", sources[0]));
    };
    std::thread::scope(|scope| {
        for (model, graph) in golden() {
            scope.spawn(move || layouts.each_ref().map(|layout| check(&model, &graph, layout)));
        }
    });
}

/// All files in a folder, with the way to them.
fn files(folder: &Path) -> Vec<String> {
    let (mut folders, mut files) = (vec![PathBuf::new()], Vec::new());
    while let Some(sub) = folders.pop() {
        for entry in fs::read_dir(folder.join(&sub)).unwrap().map(|entry| entry.unwrap()) {
            let path = sub.join(entry.file_name());
            match entry.path().is_dir() {
                true => folders.push(path),
                false => files.push(text(&path).to_owned()),
            }
        }
    }
    files.sort();
    files
}

/// Bytes of machine code and of constants in an object file.
fn sizes(folder: &Path, object: &str) -> [u64; 2] {
    let text = succeeds(folder, &format!("arm-none-eabi-size -A {object}"));
    let sum = |prefix: &str| {
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    };
    [sum(".text"), sum(".rodata")]
}

/// Networks that are deployed together, or included by one file, compute what they did, and their kernels are there once.
#[test]
fn networks_share_kernels() {
    if !programs(&["gcc", "make", "arm-none-eabi-gcc"]) {
        return;
    }
    let [a, b] = ["convolutions.scale_channel", "largest.scale_channel"].map(network);
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    for layout in [
        Layout::default(),
        Layout { single_file: true, blob: Some(ByteOrder::Little), ..Layout::default() },
    ] {
        let folder = at(if layout.single_file { "single" } else { "both" });
        write(&folder, &[("first", &a), ("second", &b)], &layout);
        let said = succeeds(&folder, "make CC=gcc CFLAGS=-Werror test networks.o");
        assert_eq!(said.matches("3 of 3 vectors pass\n").count(), 2, "{said}");
    }
    write(&at("one"), &[("first", &a)], &Layout::default());
    write(&at("two"), &[("second", &b)], &Layout::default());
    fs::write(at("own.c"), "#include \"one/first.c\"\n#include \"two/second.c\"\n").unwrap();
    let size = |source: &str| {
        let compile =
            "arm-none-eabi-gcc -std=c99 -O2 -mcpu=cortex-m4 -mthumb -ffunction-sections -c";
        succeeds(dir.path(), &format!("{compile} {source} -o size.o"));
        sizes(dir.path(), "size.o")
    };
    let [one, two, both, own] =
        ["one/first.c", "two/second.c", "both/networks.c", "own.c"].map(size);
    let other = shell(dir.path(), "gcc -fsyntax-only -DNAIVE_PTQ_KERNELS=1 one/first.c");
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(said.contains("are written by one version of naive-ptq"), "{said}");
    println!("code and constants: {one:?} and {two:?}, together {both:?}");
    assert_eq!(both, own);
    assert_eq!(both[1], one[1] + two[1], "constants");
    assert!(both[0] + 1800 < one[0] + two[0], "{one:?} and {two:?}, together {both:?}");
}

/// A file of constants that is not this network's, damaged, cut, or for another machine is noticed.
#[test]
fn a_wrong_blob_is_noticed() {
    if !programs(&["gcc"]) {
        return;
    }
    let graph = network("convolutions.scale_channel");
    let dir = scratch();
    let with = |order| Layout { blob: Some(order), ..Layout::default() };
    let at = |name: &str| dir.path().join(name);
    write(&at("net"), &[("net", &graph)], &with(ByteOrder::Little));
    write(&at("big"), &[("net", &graph)], &with(ByteOrder::Big));
    write(&at("other"), &[("net", &network("linear.scale_channel"))], &with(ByteOrder::Little));
    // At run time, into memory that the linker knows.
    fs::write(at("place.h"), "extern const unsigned char place[];\n").unwrap();
    let place =
        "#include <stdint.h>\nunion { unsigned char bytes[1 << 16]; int64_t aligned; } place;\n";
    fs::write(at("place.c"), place).unwrap();
    let program = r#"
        #include <stdio.h>
        #include "net/net.h"
        int main(void)
        {
            fread((void *)NET_BLOB, 1, 1 << 15, stdin);
            printf("%d", net_check());
            return 0;
        }"#;
    fs::write(at("main.c"), program).unwrap();
    for (name, behind) in [("at_0", 0), ("at_8", 8), ("at_4", 4)] {
        let options = format!("-include place.h -DNET_BLOB=(place+{behind})");
        succeeds(dir.path(), &format!("gcc -c -std=c99 -O1 {options} main.c -o main.o"));
        succeeds(dir.path(), &format!("gcc -c -std=c99 -O1 {options} net/net.c -o net.o"));
        succeeds(dir.path(), &format!("gcc place.c main.o net.o -o {name}"));
    }
    let good = fs::read(at("net/net.bin")).unwrap();
    let flipped = |i: usize| {
        let mut bytes = good.clone();
        bytes[i] ^= 1;
        bytes
    };
    let read = |file: &str| fs::read(at(file)).unwrap();
    for (what, program, bytes, expected) in [
        ("the right one", "at_0", good.clone(), "0"),
        ("behind something", "at_8", good.clone(), "0"),
        ("between two words", "at_4", good.clone(), "1"),
        ("none", "at_0", vec![], "1"),
        ("the other order", "at_0", read("big/net.bin"), "1"),
        ("another network's", "at_0", read("other/net.bin"), "2"),
        ("no hash", "at_0", flipped(20), "2"),
        ("a first bit", "at_0", flipped(24), "3"),
        ("a last bit", "at_0", flipped(good.len() - 1), "3"),
        ("cut", "at_0", good[..good.len() - 100].to_vec(), "3"),
    ] {
        fs::write(at("file.bin"), bytes).unwrap();
        let mut command = Command::new(at(program));
        let output = command.stdin(fs::File::open(at("file.bin")).unwrap()).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{what}");
    }
    let output = shell(&at("big"), "gcc -fsyntax-only net.c");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the constants are big-endian"), "{said}");
}

/// Words, little numbers first and big ones: everything that a byte order could change, on a processor where the high byte
/// comes first.
#[test]
fn a_big_endian_processor_computes_the_same() {
    if !programs(&["make", "powerpc-linux-gnu-gcc", "qemu-ppc"]) {
        return;
    }
    let check = |model: &str, graph: &IntGraph, blob, dsp| {
        let dir = scratch();
        let folder = dir.path().join("net");
        write(&folder, &[("net", graph)], &Layout { blob, ..Layout::default() });
        let options = format!("-static -O0 -DNET_TRACE -DNET_ASSERT -DNAIVE_PTQ_DSP={dsp}");
        let file = if blob.is_some() { "-DNET_BLOB_FILE=\"net.bin\"" } else { "" };
        succeeds(
            &folder,
            &format!(
                "powerpc-linux-gnu-gcc -std=c99 {options} {file} test/main.c net.c -o net_test"
            ),
        );
        let said = succeeds(&folder, "qemu-ppc ./net_test");
        assert!(said.ends_with("3 of 3 vectors pass\n"), "{model}, {blob:?}, {dsp}: {said}");
    };
    std::thread::scope(|scope| {
        for (model, graph) in golden() {
            scope.spawn(move || {
                check(&model, &graph, None, 1);
                check(&model, &graph, Some(ByteOrder::Big), 0);
            });
        }
    });
}

/// As a user does it: the tests of the folder, its installation, and a project that finds and links it.
#[test]
fn cmake_builds_tests_and_installs() {
    if !programs(&["cc", "cmake", "ctest"]) {
        return;
    }
    let [a, b] = ["convolutions.scale_channel", "linear.scale_channel"].map(network);
    for (layout, networks) in [
        (Layout { project: Project::Cmake, ..Layout::default() }, &[("net", &a)][..]),
        (
            Layout { project: Project::Cmake, blob: Some(ByteOrder::Little), single_file: true },
            &[("first", &a), ("all", &b)],
        ),
    ] {
        let dir = scratch();
        let folder = dir.path().join("a folder");
        write(&folder, networks, &layout);
        succeeds(&folder, "cmake -S . -B build");
        succeeds(&folder, "cmake --build build");
        let said = succeeds(&folder, "ctest --test-dir build --output-on-failure");
        let all = format!("100% tests passed, 0 tests failed out of {}", networks.len());
        assert!(said.contains(&all), "{said}");
        succeeds(&folder, "cmake --install build --prefix ../installed");
        let unit = if networks.len() == 1 { "net" } else { "networks" };
        let (mut program, mut calls) = (String::new(), String::new());
        for (name, _) in networks {
            let upper = name.to_uppercase();
            program += &format!("#include <{name}.h>\n");
            calls += &format!("    {name}_run({name}_input(), {name}_output());\n");
            if layout.blob.is_some() {
                calls +=
                    &format!("    if ({name}_check() != 0 || {upper}_BLOB_SIZE == 0) return 1;\n");
            }
        }
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(
            own.join("main.c"),
            format!("{program}int main(void)\n{{\n{calls}    return 0;\n}}\n"),
        )
        .unwrap();
        for from in [
            format!("find_package(naive_ptq_{unit} REQUIRED)"),
            "add_subdirectory(\"../a folder\" network)".into(),
        ] {
            let lists = format!(
                "cmake_minimum_required(VERSION 3.15)\nproject(own C)\n{from}\nadd_executable(own main.c)\n\
                 target_link_libraries(own PRIVATE naive_ptq::{unit})\n"
            );
            fs::write(own.join("CMakeLists.txt"), lists).unwrap();
            let _ = fs::remove_dir_all(own.join("build"));
            succeeds(&own, "cmake -S . -B build -DCMAKE_PREFIX_PATH=../installed");
            succeeds(&own, "cmake --build build");
            succeeds(&own, "build/own");
        }
    }
}

/// Lines of a file that are no comment and not empty.
fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Keys are those of the specification of Arduino's libraries, all that it requires are there; the sketch compiles with
/// what a sketch has, and nothing else.
#[test]
fn an_arduino_library_is_one() {
    if !programs(&["g++", "gcc"]) {
        return;
    }
    let [a, b] = ["convolutions.scale_channel", "linear.scale_channel"].map(network);
    for networks in [&[("net", &a)][..], &[("first", &a), ("second", &b)]] {
        let dir = scratch();
        let folder = dir.path().join("library");
        write(&folder, networks, &Layout { project: Project::Arduino, ..Layout::default() });
        let properties = lines(&folder.join("library.properties"));
        let pairs: Vec<(&str, &str)> =
            properties.iter().map(|line| line.split_once('=').unwrap()).collect();
        let keys: BTreeSet<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let required = [
            "name",
            "version",
            "author",
            "maintainer",
            "sentence",
            "paragraph",
            "category",
            "url",
            "architectures",
        ];
        let optional = ["depends", "dot_a_linkage", "includes", "precompiled", "ldflags"];
        assert!(required.iter().all(|key| keys.contains(key)), "{keys:?}");
        assert!(
            keys.iter().all(|key| required.contains(key) || optional.contains(key)),
            "{keys:?}"
        );
        assert_eq!(keys.len(), pairs.len(), "{pairs:?}");
        assert!(pairs.iter().all(|(_, value)| !value.is_empty()), "{pairs:?}");
        let value = |key: &str| pairs.iter().find(|(known, _)| *known == key).unwrap().1;
        let is_name = |c: char| c.is_ascii_alphanumeric() || " _.-".contains(c);
        assert!(value("name").len() <= 63 && value("name").chars().all(is_name));
        assert!(value("version").split('.').all(|part| part.parse::<u32>().is_ok()));
        let categories = [
            "Display",
            "Communication",
            "Signal Input/Output",
            "Sensors",
            "Device Control",
            "Timing",
            "Data Storage",
            "Data Processing",
            "Other",
        ];
        assert!(categories.contains(&value("category")));
        for header in value("includes").split(',') {
            assert!(folder.join("src").join(header).exists(), "{header}");
        }
        // What lies in `src` is compiled, in folders of it, too; a sketch has the name of its folder.
        let all = files(&folder);
        let compiled = all.iter().filter(|name| name.starts_with("src/") && name.ends_with(".c"));
        assert_eq!(compiled.count(), 1, "{all:?}");
        assert!(all.contains(&"examples/run/run.ino".to_owned()), "{all:?}");
        let arduino = "#pragma once\nstruct Stream {\n    void begin(unsigned long);\n    void print(unsigned long);\n    \
            void println(int);\n    void println(const char *);\n};\nextern Stream Serial;\n\
            unsigned long micros();\nvoid delay(unsigned long);\n";
        fs::write(dir.path().join("Arduino.h"), arduino).unwrap();
        let compile =
            "g++ -std=c++11 -Wall -Wextra -Werror -x c++ -include Arduino.h -I library/src";
        succeeds(dir.path(), &format!("{compile} -c library/examples/run/run.ino -o run.o"));
        let unit = if networks.len() == 1 { "net" } else { "networks" };
        succeeds(dir.path(), &format!("gcc -c library/src/{unit}.c -I library/src -o library.o"));
        let undefined = succeeds(dir.path(), "nm -u library.o");
        let allowed = ["memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"];
        for symbol in undefined.split_whitespace().filter(|word| *word != "U") {
            assert!(allowed.contains(&symbol), "{symbol}");
        }
    }
}

/// A CMake in which only what the documentation of these projects names is there, with its arguments; it compiles what it
/// is told to.
const STUBS: &str = r#"
cmake_minimum_required(VERSION 3.15)
project(stubs C)
function(idf_component_register)
    cmake_parse_arguments(PARSE_ARGV 0 it "" "" "SRCS;SRC_DIRS;INCLUDE_DIRS;PRIV_INCLUDE_DIRS;REQUIRES;PRIV_REQUIRES;EMBED_FILES")
    if(it_UNPARSED_ARGUMENTS OR NOT it_SRCS OR NOT it_INCLUDE_DIRS)
        message(FATAL_ERROR "idf_component_register: ${ARGV}")
    endif()
    add_library(component ${it_SRCS})
    target_include_directories(component PUBLIC ${it_INCLUDE_DIRS})
    set(COMPONENT_LIB component PARENT_SCOPE)
endfunction()
macro(zephyr_library_named name)
    add_library(${name} "")
    set(ZEPHYR_CURRENT_LIBRARY ${name})
endmacro()
function(zephyr_library_sources)
    target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_library_compile_options)
    target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_library_compile_definitions)
    target_compile_definitions(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_include_directories)
    include_directories(${ARGV})
endfunction()
"#;

/// The library that a project's own CMakeLists makes of a folder with stubs for the rest, linked to a program.
fn links_with_stubs(dir: &Path, sub: &str, options: &str) {
    let include = dir.join("net");
    let program = format!(
        "{STUBS}add_subdirectory(net/{sub} network)\nget_property(made DIRECTORY net/{sub} PROPERTY BUILDSYSTEM_TARGETS)\n\
         add_executable(own own.c)\ntarget_include_directories(own PRIVATE {})\ntarget_link_libraries(own PRIVATE ${{made}})\n",
        text(&include)
    );
    fs::write(dir.join("CMakeLists.txt"), program).unwrap();
    let own = "#include <net.h>\nint main(void) { net_run(net_input(), net_output()); return net_check(); }\n";
    fs::write(dir.join("own.c"), own).unwrap();
    succeeds(dir, &format!("cmake -S . -B build {options}"));
    succeeds(dir, "cmake --build build");
    succeeds(dir, "build/own");
}

#[test]
fn components_of_esp_idf_and_modules_of_zephyr_are_what_their_documentation_says() {
    if !programs(&["cc", "cmake"]) {
        return;
    }
    let graph = network("convolutions.scale_channel");
    let blob = Some(ByteOrder::Little);
    let dir = scratch();
    let layout = |project| Layout { project, blob, ..Layout::default() };
    write(&dir.path().join("net"), &[("net", &graph)], &layout(Project::EspIdf));
    let known = [
        "version",
        "description",
        "url",
        "repository",
        "documentation",
        "license",
        "maintainers",
        "tags",
        "targets",
        "dependencies",
        "files",
        "examples",
    ];
    let manifest = lines(&dir.path().join("net/idf_component.yml"));
    for line in &manifest {
        let (key, value) = line.split_once(": ").unwrap();
        assert!(known.contains(&key) && !value.contains(": "), "{line}");
    }
    assert!(manifest.iter().any(|line| line.starts_with("version: \"")), "{manifest:?}");
    links_with_stubs(dir.path(), "", "");

    let dir = scratch();
    let net = dir.path().join("net");
    write(&net, &[("net", &graph)], &layout(Project::Zephyr));
    let module = lines(&net.join("zephyr/module.yml"));
    assert_eq!(
        module,
        ["name: naive_ptq_net", "build:", "  cmake: zephyr", "  kconfig: zephyr/Kconfig"]
    );
    let kconfig = lines(&net.join("zephyr/Kconfig"));
    assert_eq!(kconfig[0], "config NAIVE_PTQ_NET");
    assert!(
        kconfig[1].starts_with("\tbool \"") && kconfig[1].ends_with('"') && kconfig[2] == "\thelp",
        "{kconfig:?}"
    );
    assert!(kconfig[3..].iter().all(|line| line.starts_with("\t  ")), "{kconfig:?}");
    links_with_stubs(dir.path(), "zephyr", "-DCONFIG_NAIVE_PTQ_NET=y");
}

#[test]
fn the_header_names_inputs_outputs_and_classes() {
    if !programs(&["gcc"]) {
        return;
    }
    let mut graph = network("linear.scale_channel");
    graph.classes = ["cat", "it's \"é\" ??/", "\\n*/ %s"].map(String::from).to_vec();
    graph.values[graph.inputs[0]].name = "naïve \"in\"".into();
    let dir = scratch();
    let folder = dir.path().join("net");
    write(&folder, &[("net", &graph)], &Layout::default());
    let program = r#"
        #include <stdio.h>
        #include "net.h"
        int main(void)
        {
            static const char *const names[] = NET_CLASS_NAMES;
            int i;
            for (i = 0; i < NET_CLASSES; i++) {
                puts(names[i]);
            }
            puts(NET_INPUT_NAME);
            puts(NET_VERSION);
            return net_output() - net_input() != NET_OUTPUT_OFFSET - NET_INPUT_OFFSET;
        }"#;
    fs::write(folder.join("main.c"), program).unwrap();
    succeeds(&folder, "gcc -std=c99 -pedantic -Wall -Wextra -Werror main.c net.c -o own");
    let said = succeeds(&folder, "./own");
    let lines: Vec<&str> = said.lines().collect();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        lines[..5],
        ["cat", "it's \"é\" ??/", "\\n*/ %s", "naïve \"in\"", version],
        "{said}"
    );
}
