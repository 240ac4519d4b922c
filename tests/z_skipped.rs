//! The last of the tests: it lists what the others skipped, in this run of `cargo test`.

#[path = "../src/testing/skip.rs"]
mod skip;

use std::collections::{BTreeMap, BTreeSet};

fn main() {
    // Runners that ask for names of tests, as cargo-nextest does, find none.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let list = skip::list();
    let text = std::fs::read_to_string(&list).unwrap_or_default();
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (tool, test) = line.rsplit_once('\t').unwrap_or((line, ""));
        tests.entry(tool).or_default().insert(test);
    }
    println!("\nskipped: {}", if tests.is_empty() { "nothing" } else { "" });
    for (tool, tests) in &tests {
        let (what, why) = tool.split_once('\t').unwrap_or((tool, ""));
        let names = Vec::from_iter(tests.iter().copied()).join(", ");
        println!("  {what} ({} of the tests: {names}): {why}", tests.len());
    }
    let _ = std::fs::remove_file(list);
}
