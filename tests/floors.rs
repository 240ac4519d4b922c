//! The house has floors: a module uses those below it and none above, and no two lean on each other.
//! Every path in the source counts, not only those in `use` lines.

#![allow(clippy::unwrap_used)] // in helpers of tests, too

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the ground up.
const FLOORS: &[&str] = &[
    "text",
    "error",
    "rng",
    "arith",
    "naive_conv",
    "tensor",
    "quant",
    "codes",
    "data",
    "kernels",
    "ops",
    "graph",
    "onnx",
    "passes",
    "lower",
    "memory",
    "exec",
    "calibrate",
    "quantize",
    "emit",
    "compare",
    "analyze",
    "report",
    "tune",
    "model",
    "testing",
];

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|&floor| floor == module);
    found.unwrap_or_else(|| panic!("module \"{module}\" has no floor: add it to this test"))
}

/// The Rust files of the library, with their module's path.
fn sources() -> Vec<(PathBuf, Vec<String>)> {
    fn walk(folder: &Path, module: &[String], found: &mut Vec<(PathBuf, Vec<String>)>) {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.collect::<BTreeSet<_>>() {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            let inside = || [module, std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                walk(&path, &inside(), found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let module = if name == "mod" { module.to_vec() } else { inside() };
                found.push((path, module));
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&src, &[], &mut found);
    found.retain(|(_, module)| module[0] != "cli" && module[0] != "lib");
    assert!(found.len() > 100, "{} files", found.len());
    found
}

/// `source` without comments, strings and characters.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The paths in `code` that begin with `crate` or `super`, as paths from the root.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let tokens: Vec<&str> = code
        .split(|c: char| c.is_whitespace())
        .flat_map(|word| word.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_')))
        .flat_map(|token| {
            let end = token.trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '_')).len();
            [&token[..end], &token[end..]]
        })
        .filter(|token| !token.is_empty())
        .collect();
    let mut found = Vec::new();
    // How many modules lie around the token, those written in this file included.
    let mut inner: Vec<(usize, String)> = Vec::new();
    let mut depth = 0;
    for (i, &token) in tokens.iter().enumerate() {
        match token {
            "{" => {
                depth += 1;
                if i >= 2 && tokens[i - 2] == "mod" {
                    inner.push((depth, tokens[i - 1].into()));
                }
            }
            "}" => {
                inner.retain(|(at, _)| *at < depth);
                depth -= 1;
            }
            "crate" | "super" if i < 2 || tokens[i - 2..i] != [":", ":"] => {
                let mut base: Vec<String> = module.to_vec();
                base.extend(inner.iter().map(|(_, name)| name.clone()));
                if token == "crate" {
                    base.clear();
                } else {
                    base.pop();
                }
                read_path(&tokens[i + 1..], base, &mut found);
            }
            _ => {}
        }
    }
    found
}

/// Reads what follows the first word of a path: `::a::b`, `::{a, b::{c, d}}`, `::super::a`.
fn read_path(tokens: &[&str], mut base: Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut i = 0;
    while tokens.get(i..i + 2) == Some(&[":", ":"]) {
        match tokens.get(i + 2) {
            Some(&"super") => drop(base.pop()),
            Some(&"{") => {
                let mut open = 0;
                let mut first = true;
                for (j, &token) in tokens[i + 2..].iter().enumerate() {
                    match token {
                        "{" => open += 1,
                        "}" => open -= 1,
                        "," if open == 1 => first = true,
                        _ if open == 1 && first => {
                            let base = [&base[..], &[token.to_string()]].concat();
                            read_path(&tokens[i + 3 + j..], base, found);
                            first = false;
                        }
                        _ => {}
                    }
                    if token == "{" && open == 1 {
                        first = true;
                    }
                    if open == 0 {
                        break;
                    }
                }
                return;
            }
            Some(word) if word.starts_with(char::is_alphabetic) => base.push(word.to_string()),
            _ => break,
        }
        i += 3;
    }
    found.push(base);
}

/// What is compiled into the library, and what only its tests have.
fn parts(code: &str, module: &[String]) -> [String; 2] {
    let is_test = module.iter().any(|m| m == "tests") || module[0] == "testing";
    match code.find("\nmod tests {") {
        _ if is_test => [String::new(), code.into()],
        Some(at) => [code[..at].into(), code[at..].into()],
        None => [code.into(), String::new()],
    }
}

#[test]
fn modules_use_only_those_below_them() {
    let mut wrong = Vec::new();
    for (path, module) in sources() {
        let code = code(&std::fs::read_to_string(&path).unwrap());
        let [shipped, tests] = parts(&code, &module);
        for (part, may_test) in [(shipped, false), (tests, true)] {
            for used in paths(&part, &module) {
                // `crate::Tensor` and `crate::Error` are names of things, not of modules.
                let Some(used) = used.first().filter(|name| name.starts_with(char::is_lowercase))
                else {
                    continue;
                };
                let is_kit = used == "testing" && may_test;
                if !is_kit && floor(used) > floor(&module[0]) {
                    wrong.push(format!("{} uses {used}", path.display()));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}

#[test]
fn no_two_files_of_a_folder_lean_on_each_other() {
    let sources = sources();
    let mut uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (path, module) in &sources {
        let code = code(&std::fs::read_to_string(path).unwrap());
        let [shipped, _] = parts(&code, module);
        for used in paths(&shipped, module) {
            // The two paths at the folder in which they part.
            let same = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(..=same), used.get(..=same))
                && sources.iter().any(|(_, known)| known.starts_with(to))
            {
                uses.entry(from.to_vec()).or_default().insert(to.to_vec());
            }
        }
    }
    // What nothing leads to any more is taken away, until nothing is left or everything leads in circles.
    loop {
        let free: Vec<Vec<String>> = uses
            .keys()
            .filter(|&from| uses[from].iter().all(|to| !uses.contains_key(to)))
            .cloned()
            .collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|from| drop(uses.remove(from)));
    }
    let circles: Vec<String> = uses
        .iter()
        .map(|(from, to)| {
            let to: Vec<String> =
                to.iter().filter(|to| uses.contains_key(*to)).map(|to| to.join("::")).collect();
            format!("{} uses {}", from.join("::"), to.join(", "))
        })
        .collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

/// That the two tests above can fail.
#[test]
fn paths_are_found_wherever_they_stand() {
    let found = |text: &str| -> Vec<String> {
        let module = ["exec", "engine"].map(String::from);
        paths(&code(text), &module).iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(found("use crate::a::b; // crate::c\n let x = \"crate::d\";"), ["a::b"]);
    assert_eq!(found("use crate::{a, b::{c, d}, e};"), ["a", "b::c", "b::d", "e"]);
    assert_eq!(
        found("fn f(x: crate::a::T) -> super::G { super::super::h::i() }"),
        ["a::T", "exec::G", "h::i"]
    );
    assert_eq!(
        found("mod tests { use super::*; fn f() { super::super::x::y(); } } super::z!()"),
        ["exec::engine", "exec::x::y", "exec::z"]
    );
}
