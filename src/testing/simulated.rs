//! The modules of the operators, simulated.

use std::path::Path;
use std::process::Command;

use super::emitted::started;
use super::real_inputs;
use crate::emit::{Aim, Sv, Target, TestVector, hardware};
use crate::exec::int::IntExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::tensor::Tensor;

/// No more networks than this of each check are simulated.
const MOST: usize = 10;

/// Each quantized graph that the target takes, on these codes, as hardware that is folded in one way or another,
/// with pauses and resets, and to the cycle: what its own testbench looks at.
pub fn check_sv(nets: &[(Graph, Vec<Vec<Tensor<i32>>>)]) {
    let taken = |(graph, _): &&(Graph, Vec<Vec<Tensor<i32>>>)| {
        let int = lower(graph).unwrap();
        int.nodes.iter().all(|node| Sv.takes(&int, node).is_ok())
    };
    let taken: Vec<_> = nets.iter().filter(taken).collect();
    let step = taken.len().div_ceil(MOST).max(1);
    for (i, (graph, runs)) in taken.into_iter().step_by(step).enumerate() {
        let int = lower(graph).unwrap();
        let reference = IntExecutor::new(&int);
        let vector = |codes: &Vec<Tensor<i32>>| {
            TestVector::new(&reference, &real_inputs(graph, codes)).unwrap()
        };
        let vectors: Vec<TestVector> = runs.iter().take(3).map(vector).collect();
        let aim = Aim::Cycles([1, 200, 2000, u64::MAX][i % 4]);
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in hardware(&int, "net", &vectors, aim).unwrap().0 {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let context = format!("net {i}, {aim:?}, {:?}", graph.nodes[0]);
        match simulated(folder.path()) {
            Some(log) => assert!(log.contains("PASS"), "{log}\n{context}"),
            None => return,
        }
    }
}

/// What the testbench in `folder` says in Icarus Verilog.
pub fn simulated(folder: &Path) -> Option<String> {
    let mut compile = Command::new("iverilog");
    compile.args(["-g2012", "-s", "net_tb", "-o", "net.vvp", "-f", "net.f"]);
    compile.args(["net_tb.sv", "source.sv", "sink.sv"]).current_dir(folder);
    let output = started(&mut compile, "iverilog")?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Some(errors);
    }
    let run = started(Command::new("vvp").args(["-n", "net.vvp"]).current_dir(folder), "vvp")?;
    Some(errors + &String::from_utf8_lossy(&run.stdout))
}
