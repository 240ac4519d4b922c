//! Generated C under static analysis: every operator, codes of 8 and of 16 bits.
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use naive_ptq::data::write_folder;
use naive_ptq::emit::{C, Target};
use naive_ptq::lower::lower;
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use tools::{programs, scratch, skip, text};

const GCC: &str = "gcc -std=c99 -O1 -fanalyzer -Wall -Wextra -Werror -c -o /dev/null FILE";
const TIDY: &str =
    "clang-tidy --quiet --checks=-*,bugprone-*,cert-* --warnings-as-errors=* FILE -- -std=c99";

/// What is known when the network is generated is a constant in a condition: the compiler folds it.
const CPPCHECK: &str = "cppcheck --std=c99 --platform=unix64 -DCHAR_BIT=8 -q --error-exitcode=1 \
    --enable=warning,style,performance,portability --suppress=knownConditionTrueFalse FILE";
const MISRA: &str = "cppcheck --std=c99 --platform=unix64 -DCHAR_BIT=8 -q --addon=misra FILE";

/// Whether the program finds nothing in the file, and what it says.
fn is_clean(line: &str, folder: &Path, file: &str) -> (bool, String) {
    let mut words = line.split(' ').map(|word| if word == "FILE" { file } else { word });
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn sources(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|e| e == "c"));
    sources.map(|path| text(path.file_name().unwrap().as_ref()).to_owned()).collect()
}

fn deployed(model: &Path) -> tempfile::TempDir {
    let mut graph = onnx::load(model).unwrap();
    prepare(&mut graph).unwrap();
    let dir = scratch();
    write_folder(&dir.path().join("c"), &C.files(&lower(&graph).unwrap(), "net", &[]).unwrap())
        .unwrap();
    dir
}

/// Networks of all operators, in 8 bits and in 16.
fn models() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let models = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| {
        [".scale_channel.onnx", ".shift_8_16.onnx"].iter().any(|end| text(path).ends_with(end))
    };
    let models = Vec::from_iter(models.filter(is_one));
    assert!(models.len() >= 10, "{models:?}");
    models
}

#[test]
fn analyzers_find_nothing() {
    if !programs(&["gcc", "clang-tidy", "cppcheck"]) {
        return;
    }
    let models = models();
    std::thread::scope(|scope| {
        for model in models {
            scope.spawn(move || {
                let dir = deployed(&model);
                let folder = dir.path().join("c");
                for file in sources(&folder) {
                    for line in [GCC, TIDY, CPPCHECK] {
                        let (clean, said) = is_clean(line, &folder, &file);
                        assert!(clean, "{}, {file}: {said}", model.display());
                    }
                }
            });
        }
    });
    // Each finds what it is there for.
    let dir = scratch();
    let unchecked = "#include <stdlib.h>\nchar *f(void);\n\
                     char *f(void) { char *p = malloc(1); p[0] = 1; return p; }\n";
    std::fs::write(dir.path().join("unchecked.c"), unchecked).unwrap();
    assert!(!is_clean(GCC, dir.path(), "unchecked.c").0);
    assert!(is_clean(&GCC.replace("-fanalyzer ", ""), dir.path(), "unchecked.c").0);
    let careless =
        "#include <stdlib.h>\nint f(const char *s);\nint f(const char *s) { return atoi(s); }\n";
    std::fs::write(dir.path().join("careless.c"), careless).unwrap();
    assert!(!is_clean(TIDY, dir.path(), "careless.c").0);
    let beyond = "int f(void);\nint f(void) { int a[2] = {0, 0}; return a[2]; }\n";
    std::fs::write(dir.path().join("beyond.c"), beyond).unwrap();
    assert!(!is_clean(CPPCHECK, dir.path(), "beyond.c").0);
}

/// Numbers of the rules that a text mentions behind this mark.
fn rules(text: &str, mark: &str) -> BTreeSet<String> {
    let numbers = text.split(mark).skip(1);
    let number = |rest: &str| rest.split([']', ' ']).next().unwrap().to_owned();
    numbers.map(number).filter(|number| number.contains('.')).collect()
}

/// The page lists the rules of MISRA that generated C does not keep, all of them and no others.
#[test]
fn deviations_from_misra_are_those_of_the_page() {
    if !programs(&["cppcheck"]) {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/misra.md");
    let page = std::fs::read_to_string(page).unwrap();
    let version = Command::new("cppcheck").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap().trim().to_lowercase();
    if !page.contains(&version) {
        return skip(
            "the page of MISRA's rules",
            &format!("it is of another version than {version}"),
        );
    }
    let found = std::sync::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for model in models().into_iter().filter(|path| text(path).ends_with(".scale_channel.onnx"))
        {
            let found = &found;
            scope.spawn(move || {
                let dir = deployed(&model);
                let (_, said) = is_clean(MISRA, &dir.path().join("c"), "net.c");
                found.lock().unwrap().extend(rules(&said, "[misra-c2012-"));
            });
        }
    });
    assert_eq!(rules(&page, "\n| "), found.into_inner().unwrap());
}
