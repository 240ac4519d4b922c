//! The integer kernels as the sources that they are copied as.

use crate::ops::IntOp;
use crate::ops::source::Kernel;

#[test]
fn emitted_rust_compiles_without_std_unsafe_and_floats() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mut lib = "#![no_std]\n#![forbid(unsafe_code)]\npub mod arith;\n".to_string();
    write("arith.rs", include_str!("../../arith.rs"));
    let mut sources = Vec::new();
    for &Kernel { name, rust: source, .. } in IntOp::kernels() {
        if sources.contains(&source) {
            continue;
        }
        for word in ["f32", "f64", "std::", "unsafe", "alloc"] {
            assert!(!source.contains(word), "{name} mentions {word}");
        }
        sources.push(source);
        lib += &format!("pub mod {name};\n");
        write(&format!("{name}.rs"), source);
    }
    write("lib.rs", &lib);
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let mut command = std::process::Command::new(rustc);
    command.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "-Dwarnings", "lib.rs"]);
    match command.current_dir(&folder).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => {
            let required = std::env::var_os("NAIVE_PTQ_REQUIRE_TOOLS").is_some_and(|v| v == "1");
            assert!(!required, "rustc does not start: {error}");
            eprintln!("skipped: rustc does not start: {error}");
        }
    }
}
