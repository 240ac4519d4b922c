//! Tests that could not look: each says so at once, past the harness that swallows what passing tests
//! print, and once more when `tests/z_skipped.rs` lists all of a run. Also a part of `tests/tools`.
#![allow(dead_code)] // not each of them needs all

use std::fs;
use std::io::Write as _;
use std::panic::Location;
use std::path::PathBuf;
use std::process::Command;

/// Whether skips for want of a tool are failures.
pub fn tools_required() -> bool {
    is_set("NAIVE_PTQ_REQUIRE_TOOLS")
}

/// Whether a variable of the environment is 1.
pub fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Whether all these programs are there; if not, a visible skip, or a failure where tools are required.
#[track_caller]
pub fn programs(names: &[&str]) -> bool {
    let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let missing: Vec<&str> = names.iter().copied().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        assert!(!tools_required(), "no {missing}");
        skip(&missing, "not installed");
    }
    missing.is_empty()
}

/// Notes that the running test does not look at `what`, and why not.
#[track_caller]
pub fn skip(what: &str, why: &str) {
    let thread = std::thread::current();
    let place = Location::caller();
    let test = match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => format!("{}:{}", place.file(), place.line()),
    };
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {what}: {why}");
    let line = format!("{what}\t{why}\t{test}\n");
    let note = || -> std::io::Result<()> {
        let list = list();
        fs::create_dir_all(list.parent().unwrap_or(&list))?;
        fs::OpenOptions::new().append(true).create(true).open(&list)?.write_all(line.as_bytes())
    };
    note().unwrap_or_else(|error| panic!("{}: {error}", list().display()));
}

/// The list of this run: of the process, `cargo test`, that started this one.
pub fn list() -> PathBuf {
    #[cfg(unix)]
    let run = std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    let run = 0;
    let binary = std::env::current_exe().unwrap_or_default();
    let build = binary.ancestors().nth(2).map(PathBuf::from).unwrap_or_default();
    build.join("skipped").join(run.to_string())
}
