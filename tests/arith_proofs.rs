//! The arithmetic of the generated C, proved for all arguments that it allows.
#![allow(clippy::unwrap_used)]

mod tools;

use std::fs;
use std::process::Command;

use tools::{programs, python, scratch, text};

/// No undefined behaviour, and exact results; each of these faults is found.
#[test]
fn the_arithmetic_is_exact_for_all_arguments() {
    let Some(python) = python("z3, pycparser") else { return };
    if !programs(&["cc"]) {
        return;
    }
    let folder = scratch();
    let header = folder.path().join("arith.h");
    let proofs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/arith_proofs.py");
    let said = |source: &str, functions: &[&str]| {
        fs::write(&header, source).unwrap();
        let arguments = [proofs, "cc", text(&header)];
        let run = Command::new(&python).args(arguments).args(functions).output().unwrap();
        (run.status.success(), String::from_utf8([run.stdout, run.stderr].concat()).unwrap())
    };
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/arith.h")).unwrap();
    let (proved, of_all) = said(&source, &[]);
    assert!(proved && of_all.lines().count() == 6, "{of_all}");
    for (right, wrong, fault) in [
        ("& 15) - 8", "& 15) - 7", "half_of: the result"),
        ("- 1 + odd", "- 1", "round_shift: the result"),
        ("(int64_t)1 <<", "1 <<", "round_shift: line LINE: a shift"),
        ("rest != 0", "rest > 0", "round_ratio: the result"),
        ("(int64_t)acc * m", "acc * m", "rescale: line LINE: an overflow of *"),
        ("0xFFFF) != 0", "0x7FFF) != 0", "rescale_wide: the result"),
        ("2 * high", "4 * high", "rescale_wide: line LINE: what round_shift allows"),
    ] {
        let broken = source.replace(right, wrong);
        assert!(broken != source, "\"{right}\" is not there");
        let line = source.split(right).next().unwrap().matches('\n').count() + 1;
        let fault = &fault.replace("LINE", &line.to_string());
        let (function, _) = fault.split_once(':').unwrap();
        let (proved, said) = said(&broken, &[function]);
        assert!(!proved && said.contains(fault), "{wrong}: {said}");
    }
}
