use std::fs;
use std::path::Path;
use std::process::Command;

use super::schedule::Schedule;
use super::*;
use crate::calibrate::{Calibrator, Observer};
use crate::exec::float::FloatExecutor;
use crate::exec::int::IntExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::ops::add::Add;
use crate::ops::average_pool::AveragePool;
use crate::ops::conv::Conv;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::softmax::Softmax;
use crate::ops::{Op, Window};
use crate::quant::{Preset, Scheme};
use crate::quantize::quantize;
use crate::testing::{
    Net, PATTERNS, Rng, check_sv, pattern_codes, random_inputs, simulated, started,
};

/// A residual block, a depthwise layer, a pool, a mean and a softmax.
fn residual(preset: Preset) -> Graph {
    let mut net = Net::new(7);
    let x = net.input(&[1, 3, 8, 8]);
    let conv = |net: &mut Net, x, weight: &[usize], group, stride| {
        // Channels of other sizes have other factors.
        let mut weights = net.rng.reals(weight, 1.0);
        let each = weights.data().len() / weight[0];
        let halved = |(i, w): (usize, &f32)| w / (1 << (i / each % 3)) as f32;
        let data = weights.data().iter().enumerate().map(halved).collect();
        weights = crate::tensor::Tensor::new(weight, data).unwrap();
        let weight_of = net.constant(weights);
        let pads = [weight[2] / 2; 4];
        let window = Window { stride, pads, ..Window::new([weight[2], weight[3]]) };
        net.node(Op::Conv(Conv { window, group }), &[x, weight_of])
    };
    let a = conv(&mut net, x, &[6, 3, 3, 3], 1, [1, 1]);
    let b = conv(&mut net, a, &[6, 1, 3, 3], 6, [1, 1]);
    let c = conv(&mut net, b, &[6, 6, 1, 1], 1, [1, 1]);
    let sum = net.node(Op::Add(Add { subtract: false }), &[a, c]);
    let pool =
        net.node(Op::MaxPool(MaxPool(Window { stride: [2, 2], ..Window::new([3, 3]) })), &[sum]);
    let window = Window { stride: [2, 2], pads: [1; 4], ..Window::new([3, 3]) };
    let average = AveragePool { window, count_include_pad: false };
    let averages = net.node(Op::AveragePool(average), &[sum]);
    let mean = net.node(Op::Mean(Mean { reduced: vec![false, false, true, true] }), &[pool]);
    let y = net.node(Op::Softmax(Softmax { axis: 1 }), &[mean]);
    let float = net.finish(&[y, sum, averages]);
    let mut observer = Observer::new(&float);
    let inputs = random_inputs(&float, &mut Rng(1), 1.0);
    FloatExecutor::new(&float).run(&inputs, |v, x| observer.see(v, x)).unwrap();
    quantize(&float, &observer.ranges(Calibrator::MinMax), Scheme::new(preset)).unwrap()
}

fn vectors(graph: &Graph, int: &IntGraph, count: u64) -> Vec<TestVector> {
    let reference = IntExecutor::new(int);
    let vector = |i| TestVector::new(&reference, &random_inputs(graph, &mut Rng(i), 1.0)).unwrap();
    (0..count).map(vector).collect()
}

/// The files of a network in a folder of their own.
fn written(graph: &Graph, aim: Aim) -> (tempfile::TempDir, Plan) {
    let int = lower(graph).unwrap();
    let (files, plan) = hardware(&int, "net", &vectors(graph, &int, 3), aim).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    (folder, plan)
}

fn make(folder: &Path, rule: &str) -> Option<String> {
    let output = started(Command::new("make").args(["-s", "-C"]).arg(folder).arg(rule), "make")?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{rule}: {out}{err}");
    Some(format!("{out}{err}"))
}

/// Both simulators, at both ends of what can be asked for; the testbench compares cycles, too.
#[test]
fn whole_networks_compute_the_same() {
    for preset in [Preset::Scale, Preset::Shift] {
        let graph = residual(preset);
        let codes = PATTERNS.map(|p| pattern_codes(&graph, &mut Rng(1), p)).to_vec();
        check_sv(&[(graph.clone(), codes)]);
        for aim in [Aim::Cycles(1), Aim::Cycles(2000), Aim::Multipliers(3)] {
            let (folder, _) = written(&graph, aim);
            let Some(log) = simulated(folder.path()) else { return };
            assert!(log.contains("PASS"), "{preset:?}, {aim:?}: {log}");
        }
    }
}

#[test]
fn verilator_warns_of_nothing_and_finds_the_same_cycles() {
    if !crate::testing::programs(&["verilator", "make"]) {
        return;
    }
    let (folder, _) = written(&residual(Preset::Scale), Aim::Cycles(2000));
    let log = make(folder.path(), "lint").unwrap_or_default();
    assert_eq!(log.trim(), "");
    assert!(make(folder.path(), "test").is_some_and(|log| log.contains("PASS")));
}

/// What yosys makes of it, read by another simulator.
#[test]
fn the_netlist_computes_the_same() {
    if !crate::testing::programs(&["yosys", "iverilog"]) {
        return;
    }
    for preset in [Preset::Scale, Preset::Shift] {
        let (folder, _) = written(&residual(preset), Aim::Cycles(2000));
        let script = "hierarchy -top net; proc; opt; memory -nomap; flatten; opt; write_verilog -noattr netlist.v";
        let files = fs::read_to_string(folder.path().join("net.f")).unwrap();
        let files: Vec<&str> = files.lines().filter(|line| !line.starts_with("//")).collect();
        let files = files.join(" ");
        let script = format!("read_verilog -defer -sv {files}; {script}");
        let mut yosys = Command::new("yosys");
        let Some(output) =
            started(yosys.args(["-q", "-p", &script]).current_dir(folder.path()), "yosys")
        else {
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(folder.path().join("net.f"), "netlist.v\n").unwrap();
        let log = simulated(folder.path()).unwrap_or_default();
        assert!(log.contains("PASS"), "{preset:?}: {log}");
    }
}

/// Each queue holds what it must, and one code less costs cycles.
#[test]
fn queues_are_as_short_as_they_can_be() {
    let int = lower(&residual(Preset::Scale)).unwrap();
    for target in [1, 2000] {
        let (mut design, schedule) = designed(&int, Aim::Cycles(target)).unwrap();
        let queues = design.instances.iter().enumerate();
        let queues = queues.filter(|(_, instance)| matches!(instance.kind, Kind::Queue(_)));
        let queues: Vec<usize> = queues.map(|(i, _)| i).collect();
        assert_eq!(queues.len(), 2);
        for &i in &queues {
            let Kind::Queue(depth) = design.instances[i].kind else { unreachable!() };
            if depth == 1 {
                continue;
            }
            design.instances[i].kind = Kind::Queue(depth - 1);
            let shorter = Schedule::of(&design, FRAMES, schedule.widest_gap());
            assert_eq!(shorter, None, "{depth}");
            design.instances[i].kind = Kind::Queue(depth);
        }
        assert!(queues.iter().any(|&i| !matches!(design.instances[i].kind, Kind::Queue(1))));
    }
}

/// No more cycles than are asked for, and no fewer multipliers would do.
#[test]
fn networks_are_folded_as_asked() {
    let int = lower(&residual(Preset::Scale)).unwrap();
    let mut last = usize::MAX;
    for target in [8_000, 20_000, 100_000] {
        let plan = Plan::new(&int, Aim::Cycles(target)).unwrap();
        assert!(plan.interval <= target, "{} > {target}", plan.interval);
        assert!(plan.multipliers <= last);
        last = plan.multipliers;
        let same = Plan::new(&int, Aim::Multipliers(plan.multipliers)).unwrap();
        assert!(same.interval <= plan.interval && same.multipliers <= plan.multipliers);
    }
    assert_eq!(last, 3);
    let message = Plan::new(&int, Aim::Multipliers(2)).unwrap_err().to_string();
    assert!(message.contains("2 multipliers: there are 3 at least"), "{message}");
}

/// Powers of two are wiring: no multiplier makes a sum into a code.
#[test]
fn rescaling_by_powers_of_two_takes_no_multiplier() {
    let one = |preset| {
        let (folder, _) = written(&residual(preset), Aim::Cycles(2000));
        let text = fs::read_to_string(folder.path().join("net.sv")).unwrap();
        text.matches(".SIG(1)").count()
    };
    assert_eq!([one(Preset::Scale), one(Preset::Shift)], [0, 3]);
}

/// yosys reads `-W'(P)` as `(-W)'(P)`.
#[test]
fn no_size_of_a_cast_has_a_sign() {
    let (mut files, mut folders) = (0, vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.to_string_lossy().contains(".sv") {
                files += 1;
                let text = fs::read_to_string(&entry).unwrap();
                let signed = text.match_indices("'(").find(|(at, _)| {
                    let before =
                        text[..*at].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
                    before.ends_with('-') && !before.ends_with(" -")
                        || before.trim_end().ends_with(['(', '?', ':', '=', ','])
                            && before.ends_with('-')
                });
                assert!(signed.is_none(), "{}: {signed:?}", entry.display());
            }
        }
    }
    assert!(files > 20);
}

/// What stands in a module of the arithmetic, and what makes it wrong.
const MUTANTS: &[(&str, &str, &str)] = &[
    ("round_shift.sv", "(b_sticky | b[1])", "b_sticky"),
    ("round_shift.sv", "a_sticky | (|(a & lost))", "a_sticky"),
    ("requantize.sv", "code <= Y'(LO)", "code <= Y'(HI)"),
    ("requantize.sv", "q > Q'(MOST)", "q > Q'(HI)"),
    ("rescale.sv", "sum <= acc + bias", "sum <= acc"),
    ("rescale.sv", "(P'(high) <<< L)", "(P'(high) <<< (L - 1))"),
    ("divide.sv", "rest != 0", "1'b0"),
];

/// A module that is wrong is caught by the testbench that is deployed with it: with general factors, or with powers
/// of two, of which sums are often halfway between two codes.
#[test]
fn mutants_are_caught() {
    let folders = [Preset::Scale, Preset::Shift]
        .map(|preset| written(&residual(preset), Aim::Cycles(2000)).0);
    for (file, from, to) in MUTANTS {
        let is_caught = |folder: &tempfile::TempDir| {
            let path = folder.path().join(file);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{file} lacks {from:?}");
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let log = simulated(folder.path());
            fs::write(&path, text).unwrap();
            log.is_none_or(|log| !log.contains("PASS"))
        };
        assert!(folders.iter().any(is_caught), "{file}: {to:?} for {from:?} is not caught");
    }
}
