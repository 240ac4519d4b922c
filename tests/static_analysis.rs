//! Generated C under static analysis: every operator, codes of 8 and of 16 bits.
#![allow(clippy::unwrap_used)]

mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

use naive_ptq::data::write_folder;
use naive_ptq::emit::{C, Target};
use naive_ptq::lower::lower;
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use tools::{programs, scratch, text};

const GCC: &str = "gcc -std=c99 -O1 -fanalyzer -Wall -Wextra -Werror -c -o /dev/null FILE";
const TIDY: &str =
    "clang-tidy --quiet --checks=-*,bugprone-*,cert-* --warnings-as-errors=* FILE -- -std=c99";

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

#[test]
fn analyzers_find_nothing() {
    if !programs(&["gcc", "clang-tidy"]) {
        return;
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let models = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| {
        [".scale_channel.onnx", ".shift_8_16.onnx"].iter().any(|end| text(path).ends_with(end))
    };
    let models = Vec::from_iter(models.filter(is_one));
    assert!(models.len() >= 10, "{models:?}");
    std::thread::scope(|scope| {
        for model in models {
            scope.spawn(move || {
                let dir = deployed(&model);
                let folder = dir.path().join("c");
                for file in sources(&folder) {
                    for line in [GCC, TIDY] {
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
}
