//! Values that become codes more than once: one pair behind another, readers that want different codes, readers
//! that want none.

use std::collections::HashMap;

use super::*;
use crate::quant::{QuantParams, Width};
use crate::tensor::Tensor;
use crate::testing::Rng;
use crate::testing::exec::int::IntExecutor;
use crate::testing::lower::IntGraph;
use crate::testing::quantize::{export_checked, prepare};

/// The integer network of a file; written and read again it is the same.
fn lowered(model: &ModelProto) -> IntGraph {
    let mut graph = read(model).unwrap();
    prepare(&mut graph).unwrap();
    let (bytes, integer) = export_checked(&graph).unwrap();
    let again = import(&bytes, None).unwrap();
    let names = |graph: &Graph| graph.nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    for node in integer.nodes.iter().filter(|n| n.op.name() == "Recode") {
        assert!(names(&again).contains(&node.origin), "\"{}\"", node.origin);
    }
    integer
}

/// A file that is put together node by node, and evaluated in the same order.
#[derive(Default)]
struct File {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    outputs: Vec<String>,
}

impl File {
    fn name(&self, what: &str) -> String {
        format!("{what}{}", self.nodes.len())
    }

    fn node(&mut self, op_type: &str, inputs: &[&str]) -> String {
        let name = self.name(&op_type.to_lowercase());
        self.nodes.push(node(op_type, inputs, &name));
        name
    }

    /// `x` in codes and back: the name of the result.
    fn pair(&mut self, x: &str, scale: f32, zero_point: i32, width: Width) -> String {
        let [s, z] = ["s", "z"].map(|what| self.name(what));
        self.constants.push(real(&s, &[], &[scale]));
        self.constants.push(match width {
            Width::W16 => tensor(&z, dt::INT16, &[], (zero_point as i16).to_le_bytes().to_vec()),
            _ => int8(&z, &[], &[zero_point as i8]),
        });
        let codes = self.node("QuantizeLinear", &[x, &s, &z]);
        self.node("DequantizeLinear", &[&codes, &s, &z])
    }

    fn random_pair(&mut self, x: &str, rng: &mut Rng) -> String {
        let width = rng.pick(&[Width::W8, Width::W8, Width::W16]);
        let finest = if width == Width::W16 { 10 } else { 3 };
        let scale = f32::exp2(-rng.pick(&[finest, finest + 1, finest + 2, finest + 3]) as f32);
        let zero_point = rng.pick(&[0, 0, -128, 127, 5]);
        self.pair(x, scale, zero_point, width)
    }

    fn model(&self, n: usize) -> ModelProto {
        edited(model(self.nodes.clone(), self.constants.clone()), |g| {
            g.input = vec![value("x", &[n as i64])];
            g.output = self.outputs.iter().map(|name| output(name)).collect();
        })
    }

    /// What the file means, in `f64`, which holds every number here exactly.
    fn evaluate(&self, x: &[f32]) -> Vec<Vec<f64>> {
        let mut known: HashMap<&str, Vec<f64>> = HashMap::new();
        known.insert("x", x.iter().map(|&x| x.into()).collect());
        let constant = |name: &str| self.constants.iter().find(|c| c.name == name).unwrap();
        for node in &self.nodes {
            let x = known[&*node.input[0]].clone();
            let mut parameters = node.input[1..].iter().map(|name| constant(name));
            let y = match &*node.op_type {
                "Relu" => x.iter().map(|x| x.max(0.0)).collect(),
                "Neg" => x.iter().map(|x| -x).collect(),
                "Identity" => x,
                "Add" => x.iter().zip(&known[&*node.input[1]]).map(|(a, b)| a + b).collect(),
                op_type => {
                    let bytes = |t: &TensorProto| t.raw_data.clone().unwrap().to_vec();
                    let scale = bytes(parameters.next().unwrap());
                    let scale = f32::from_le_bytes(scale.try_into().unwrap()) as f64;
                    let zero = bytes(parameters.next().unwrap());
                    let (zero, half) = match zero[..] {
                        [z] => (z as i8 as f64, 128.0),
                        _ => (i16::from_le_bytes(zero.try_into().unwrap()) as f64, 32768.0),
                    };
                    let code =
                        |x: &f64| ((x / scale).round_ties_even() + zero).clamp(-half, half - 1.0);
                    match op_type {
                        "QuantizeLinear" => x.iter().map(code).collect(),
                        _ => x.iter().map(|code| (code - zero) * scale).collect(),
                    }
                }
            };
            known.insert(&node.output[0], y);
        }
        self.outputs.iter().map(|name| known[&**name].clone()).collect()
    }

    /// Reads the file and compares what it computes with what it means.
    fn check(&self, x: &[f32], what: &str) -> IntGraph {
        let integer = lowered(&self.model(x.len()));
        let got = IntExecutor::new(&integer).run(&[Tensor::from_vec(x.to_vec())]).unwrap();
        for ((got, expected), name) in got.iter().zip(self.evaluate(x)).zip(&self.outputs) {
            let got: Vec<f64> = got.data().iter().map(|&y| y.into()).collect();
            assert_eq!(got, expected, "{what}: \"{name}\"");
        }
        integer
    }
}

fn eighths() -> Vec<f32> {
    (-150..150).map(|i| i as f32 / 8.0).collect()
}

/// Pairs behind pairs, sums, rectifiers and copies; whoever reads a real value rounds it for himself.
#[test]
fn random_chains_compute_what_they_mean() {
    let (mut recodes, mut twins) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let mut file = File::default();
        let mut pairs = vec![file.pair("x", 0.125, 0, Width::W8)];
        for _ in 0..rng.pick(&[2, 4, 8]) {
            let x = rng.pick(&(0..pairs.len()).collect::<Vec<_>>());
            let (x, other) = (pairs[x].clone(), pairs[pairs.len() - 1].clone());
            let mut y = match rng.pick(&[0, 1, 2, 3, 4]) {
                0 => file.node("Add", &[&x, &other]),
                1 => file.node("Relu", &[&x]),
                2 => file.node("Identity", &[&x]),
                3 => file.node("Neg", &[&x]),
                _ => x,
            };
            if rng.pick(&[false, true]) && !pairs.contains(&y) {
                // Another reader of the real value, which quantizes what it makes of it.
                let relu = file.node("Relu", &[&y]);
                pairs.push(file.random_pair(&relu, &mut rng));
                if rng.pick(&[false, true]) {
                    y = relu;
                }
            }
            for _ in 0..rng.pick(&[1, 1, 2, 3]) {
                pairs.push(file.random_pair(&y, &mut rng));
            }
        }
        file.outputs = pairs.split_off(1);
        let integer = file.check(&eighths(), &format!("seed {seed}"));
        recodes += integer.nodes.iter().filter(|n| n.op.name() == "Recode").count();
        twins += integer.nodes.iter().filter(|n| n.name.ends_with("_1")).count();
    }
    assert!(recodes > 100 && twins > 50, "{recodes} {twins}");
}

/// The names of an exported network come back: those of the Identity and of its result.
#[test]
fn a_copy_between_pairs_is_a_change_of_codes() {
    for between in [false, true] {
        let mut file = File::default();
        let mut x = file.pair("x", 0.125, 0, Width::W8);
        if between {
            x = file.node("Identity", &[&x]);
        }
        file.outputs = vec![file.pair(&x, 0.5, 3, Width::W16)];
        let graph = read(&file.model(300)).unwrap();
        let [node] = &graph.nodes[..] else { panic!("{:?}", graph.nodes) };
        assert_eq!(node.op.name(), "Recode");
        assert_eq!(node.name, if between { "identity2_node" } else { "quantizelinear2_node" });
        file.check(&eighths(), "one");
    }
    // With the same parameters on both sides nothing changes.
    let mut file = File::default();
    let x = file.pair("x", 0.125, 0, Width::W8);
    let x = file.node("Identity", &[&x]);
    let x = file.pair(&x, 0.125, 0, Width::W8);
    let x = file.node("Relu", &[&x]);
    file.outputs = vec![file.pair(&x, 0.125, 0, Width::W8)];
    assert_eq!(file.check(&eighths(), "the same").nodes.len(), 1);
}

/// Two readers that want the same codes share them.
#[test]
fn codes_are_made_once() {
    let mut file = File::default();
    let x = file.pair("x", 0.125, 0, Width::W8);
    let sum = file.node("Add", &[&x, &x]);
    for x in [&x, &sum] {
        for _ in 0..2 {
            let y = file.pair(x, 0.25, 1, Width::W8);
            let y = file.node("Neg", &[&y]);
            let y = file.pair(&y, 0.25, 1, Width::W8);
            file.outputs.push(y);
        }
    }
    let integer = file.check(&eighths(), "twice");
    let names: Vec<&str> = integer.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(
        names.iter().filter(|name| ["Add", "Recode"].contains(name)).count(),
        2,
        "{names:?}"
    );
}

/// An activation that is fused into the node before is so for each of the two.
#[test]
fn what_is_merged_is_computed_for_each_reader() {
    let mut file = File::default();
    let x = file.pair("x", 0.125, 0, Width::W8);
    let sum = file.node("Add", &[&x, &x]);
    let relu = file.node("Relu", &[&sum]);
    file.outputs = vec![
        file.pair(&relu, 0.25, 0, Width::W8),
        file.pair(&relu, 0.5, -128, Width::W8),
        file.pair(&sum, 0.125, 0, Width::W16),
    ];
    let integer = file.check(&eighths(), "relu");
    assert!(integer.nodes.iter().all(|n| n.op.name() == "Add"), "{:?}", integer.nodes);
    assert_eq!(integer.nodes.len(), 3);
}

/// An input becomes codes once: those of both readers follow from them, those of the finer one exactly.
#[test]
fn an_input_with_two_kinds_of_codes() {
    for (a, b) in [((0.05, 7), (0.02, -100)), ((0.01, 0), (0.013, 0)), ((0.1, 0), (0.1, 30))] {
        let mut file = File::default();
        let pairs = [a, b].map(|(scale, zero)| file.pair("x", scale, zero, Width::W8));
        file.outputs = pairs.to_vec();
        let x = Rng(3).reals(&[20_000], 14.0);
        let integer = lowered(&file.model(x.data().len()));
        let input = &integer.values[integer.inputs[0]];
        assert_eq!(input.quant.width, Width::W16);
        let got =
            IntExecutor::new(&integer).run_codes(std::slice::from_ref(&x), |_, _| Ok(())).unwrap();
        for ((scale, zero), got) in [a, b].iter().zip(got) {
            let params = QuantParams::per_tensor(*scale, *zero, Width::W8);
            let differ = x.data().iter().zip(got.data());
            let off: Vec<i32> = differ.map(|(&x, q)| (params.quantize(x, 0) - q).abs()).collect();
            assert!(off.iter().all(|&off| off <= 1));
            let share = off.iter().filter(|&&off| off > 0).count();
            assert!(share <= if *scale == a.0.min(b.0) { 2 } else { 100 }, "{share} at {scale}");
        }
    }
    let mut file = File::default();
    let one = file.pair("x", 0.125, 0, Width::W8);
    let two = file.node("Relu", &["x"]);
    let two = file.pair(&two, 0.125, 0, Width::W8);
    file.outputs = vec![one, two];
    refused(&file.model(4), "\"x\" is used both with and without being quantized");
}

/// An input that becomes codes and real numbers again, and two names of one value.
#[test]
fn outputs_that_nothing_computes() {
    let mut file = File::default();
    let x = file.pair("x", 0.125, 5, Width::W8);
    let relu = file.node("Relu", &[&x]);
    let y = file.pair(&relu, 0.125, 5, Width::W8);
    let again = file.nodes.last().unwrap().clone();
    file.nodes.push(NodeProto { output: vec!["again".into()], name: "twice".into(), ..again });
    file.outputs = vec![x, y, "again".into()];
    let integer = file.check(&eighths(), "outputs");
    let names: Vec<&str> = integer.outputs.iter().map(|&v| &*integer.values[v].name).collect();
    assert_eq!(names, file.outputs);
}

/// A constant behind two pairs has the codes of the second.
#[test]
fn constants_in_other_codes() {
    for (data, expected) in
        [(int8("c", &[2], &[7, -128]), [4, -61]), (real("c", &[2], &[0.875, -16.0]), [4, -61])]
    {
        let is_real = data.data_type == dt::FLOAT;
        let mut file = File::default();
        file.constants.push(data);
        let c = match is_real {
            true => file.pair("c", 0.125, 0, Width::W8),
            false => {
                file.constants.extend([real("s", &[], &[0.125]), int8("z", &[], &[0])]);
                file.node("DequantizeLinear", &["c", "s", "z"])
            }
        };
        let c = file.pair(&c, 0.25, 3, Width::W8);
        let x = file.pair("x", 0.125, 0, Width::W8);
        let sum = file.node("Add", &[&x, &c]);
        file.outputs = vec![file.pair(&sum, 0.125, 0, Width::W8)];
        let graph = read(&file.model(2)).unwrap();
        let constant = &graph.values[graph.nodes[0].inputs[1]];
        let Some(Constant::Codes(codes)) = &constant.constant else { panic!("no codes") };
        // 3.5 + 3 lies between two codes.
        assert_eq!(codes.widened().data(), [expected[0] + 3, expected[1]]);
        lowered(&file.model(2));
    }
}

/// A small file with many readers of one large node must not become a large network.
#[test]
fn twins_are_limited() {
    let mut file = File::default();
    let x = file.pair("x", 0.125, 0, Width::W8);
    file.constants.push(real("w", &[1024, 1024], &vec![0.5; 1 << 20]));
    let y = file.node("MatMul", &[&x, "w"]);
    for i in 0..90 {
        let y = file.pair(&y, 0.125 + i as f32, 0, Width::W8);
        file.outputs.push(y);
    }
    let model = edited(file.model(1), |g| g.input = vec![value("x", &[1, 1024])]);
    refused(&model, "all of them are too large to compute");
}
