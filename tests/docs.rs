//! The documents say what is there: operators, commands, options, files.
#![allow(clippy::unwrap_used)] // in helpers of tests, too

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use naive_ptq::onnx::imported_types;
use naive_ptq::ops::Op;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The pages of the root, and every file of docs/.
fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let pages = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    docs.chain(pages.map(|page| root().join(page))).collect()
}

/// The cells of each row of the table of operators, without its head.
fn operator_table() -> Vec<Vec<String>> {
    let page = read("docs/operators.md");
    let rows = page.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect())
        .collect()
}

#[test]
fn the_table_lists_exactly_the_operators_that_are_imported() {
    let known = imported_types();
    let rows = operator_table();
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    assert_eq!(listed, known);
}

#[test]
fn the_table_names_the_folder_of_each_operator() {
    let mut folders = BTreeSet::new();
    for row in operator_table().iter().filter(|row| !row[1].is_empty()) {
        let source = read(&format!("src/ops/{}/mod.rs", row[1]));
        for onnx_type in row[0].split(", ") {
            assert!(source.contains(&format!("\"{onnx_type}\"")), "{onnx_type} in {}", row[1]);
        }
        folders.insert(row[1].clone());
    }
    let modules: BTreeSet<String> = Op::folders().map(str::to_owned).collect();
    assert_eq!(folders, modules);
}

#[test]
fn semantics_has_a_section_for_each_operator() {
    let semantics = read("docs/semantics.md");
    let sections: BTreeSet<&str> =
        semantics.lines().filter_map(|line| line.strip_prefix("### ")?.split(':').next()).collect();
    let modules: BTreeSet<&str> = Op::folders().collect();
    assert_eq!(sections, modules);
}

#[test]
fn relative_links_resolve() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = link.split('#').next().unwrap();
            if !link.contains("://") && !file.is_empty() {
                let target = document.parent().unwrap().join(file);
                assert!(target.exists(), "{}: {link}", document.display());
            }
        }
    }
}

/// Paths in backticks below these folders.
#[test]
fn named_files_exist() {
    for document in documents().iter().filter(|d| !d.ends_with("adding-an-operator.md")) {
        let text = fs::read_to_string(document).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "docs/", "tests/", "examples/", "models/", "benches/"].iter();
            if is_path.clone().any(|folder| name.starts_with(folder)) {
                assert!(root().join(name).exists(), "{}: {name}", document.display());
            }
        }
    }
}

#[test]
fn anchors_resolve() {
    let slug = |heading: &str| -> String {
        let kept = heading.to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let slugs: Vec<String> = headings.map(|h| slug(h.trim_start_matches('#').trim())).collect();
        for anchor in text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(slugs.iter().any(|s| s == anchor), "{}: #{anchor}", document.display());
        }
    }
}

#[test]
fn each_page_is_linked() {
    let pages = documents().into_iter().filter(|d| !d.ends_with("README.md"));
    let pages_of_links = ["README.md", "docs/README.md", "docs/operators.md"];
    let links = pages_of_links.map(read).concat();
    for name in pages.map(|d| d.file_name().unwrap().to_str().unwrap().to_owned()) {
        assert!(links.contains(&format!("{name})")), "nothing links to {name}");
    }
}

/// The rows of the README's table of accuracy are those that `demo` prints.
#[test]
fn the_readme_names_the_schemes_of_the_demo() {
    let demo = read("src/cli/demo.rs");
    let readme = read("README.md");
    let table = readme.split("\n## Accuracy\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let names: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    assert!(names.len() > 3);
    for name in &names[1..] {
        assert!(demo.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn the_readme_fits_in_200_lines() {
    assert!(read("README.md").lines().count() <= 200);
}

#[test]
fn adding_an_operator_fits_on_one_screen() {
    let lines = read("docs/adding-an-operator.md").lines().count();
    assert!(lines <= 60, "{lines} lines");
}

/// Each subcommand that a document calls exists, and has the options that it is given.
#[cfg(feature = "cli")]
#[test]
fn named_commands_and_options_exist() {
    let mut calls = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap().replace("\\\n", " ");
        for line in text.lines() {
            let call = ["naive-ptq ", "cargo run --release -- "];
            for rest in call.iter().flat_map(|call| line.split(call).skip(1)) {
                let call = rest.split(['`', '#', '|']).next().unwrap();
                let mut words = call.split_whitespace();
                let subcommand = words.next().unwrap_or_default();
                if !subcommand.starts_with(|c: char| c.is_ascii_lowercase()) {
                    continue;
                }
                calls += 1;
                let help = help(subcommand).unwrap_or_else(|| panic!("{line}: {subcommand}"));
                for option in words.filter(|word| word.len() > 1 && word.starts_with('-')) {
                    let known = help.split([' ', ',', '\n']).any(|word| word == option);
                    assert!(known, "{}: {line}: {option}", document.display());
                }
            }
        }
    }
    assert!(calls >= 6, "found only {calls} calls");
}

/// Options in backticks, of whatever subcommand, exist; so do the README's choices for `quantize`, all.
#[cfg(feature = "cli")]
#[test]
fn options_in_the_text_exist() {
    let all = [
        "demo", "conv", "inspect", "quantize", "run", "eval", "deploy", "verify", "bench", "blame",
        "tune",
    ]
    .map(|s| help(s).unwrap());
    let words: BTreeSet<&str> =
        all.iter().flat_map(|help| help.split([' ', ',', '\n', '='])).collect();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for code in text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("--")) {
            let option = code.split([' ', '=']).next().unwrap();
            assert!(words.contains(option), "{}: {option}", document.display());
        }
    }
    let readme = read("README.md");
    let choices = help("quantize").unwrap();
    let choices =
        choices.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next());
    for choice in choices {
        assert!(
            readme.contains(&format!("`{choice}`")),
            "{choice} of quantize is not in the README"
        );
    }
}

/// What `naive-ptq <subcommand> --help` prints, if there is such a subcommand.
#[cfg(feature = "cli")]
fn help(subcommand: &str) -> Option<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
    let output = command.args([subcommand, "--help"]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}
