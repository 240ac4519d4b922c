//! Several inputs and outputs, fixed batches, inputs without a batch; what `eval` says of each output.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use naive_ptq::Tensor;
use naive_ptq::data::npy::{Element, write_npy};
use naive_ptq::data::npz::{Npz, write_npz};
use naive_ptq::graph::{self, Graph, Node, Parts, ValueId};
use naive_ptq::onnx;
use naive_ptq::ops::Op;
use naive_ptq::ops::add::Add;
use naive_ptq::ops::clip::Clip;
use naive_ptq::ops::reshape::Reshape;
use naive_ptq::ops::unary::Unary;
use serde_json::json;

use super::tools::{pseudo_random, scratch};
use super::{fails_in_a_line, json, prints, run};

/// A network that is made node by node.
#[derive(Default)]
struct Net(Graph);

impl Net {
    fn value(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let (name, shape) = (name.into(), shape.to_vec());
        self.0.add_value(graph::Value { name, shape, ..graph::Value::default() })
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let v = self.value(name, shape);
        self.0.inputs.push(v);
        v
    }

    fn output(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&v| &*self.0.values[v].shape).collect();
        let shape = op.infer_shape(&shapes).unwrap();
        let output = self.value(name, &shape);
        let (name, parts, inputs) = (format!("make_{name}"), Parts::default(), inputs.to_vec());
        self.0.nodes.push(Node { name, parts, op, clamp: Clip::NONE, inputs, output });
        self.0.outputs.push(output);
        output
    }

    fn save(mut self, dir: &Path) {
        self.0.name = "net".into();
        fs::write(dir.join("float.onnx"), onnx::export(&self.0)).unwrap();
    }
}

const SUBTRACT: Op = Op::Add(Add { subtract: true });

/// `y = b - a` and `z = tanh(y)`, whose first input is `b`.
fn two_inputs(dir: &Path) {
    let mut net = Net::default();
    let (b, a) = (net.input("b", &[1, 4]), net.input("a", &[1, 4]));
    let y = net.output("y", SUBTRACT, &[b, a]);
    net.output("z", Op::Unary(Unary::Tanh), &[y]);
    net.save(dir);
}

fn array<T: Element>(shape: &[usize], data: Vec<T>) -> Vec<u8> {
    write_npy(&Tensor::new(shape, data).unwrap())
}

fn save(dir: &Path, name: &str, arrays: &[(&str, Vec<u8>)]) {
    fs::write(dir.join(name), write_npz(arrays).unwrap()).unwrap();
}

fn read(dir: &Path, name: &str) -> BTreeMap<String, Tensor<f32>> {
    let mut npz = Npz::new(fs::File::open(dir.join(name)).unwrap()).unwrap();
    let names = npz.names();
    names.into_iter().map(|name| (name.clone(), npz.array(&name).unwrap().to_f32())).collect()
}

#[test]
fn arrays_and_files_go_to_the_inputs_of_their_names() {
    let dir = scratch();
    let dir = dir.path();
    two_inputs(dir);
    let [a, b] = [1, 2].map(|seed| pseudo_random(&[8, 4], seed));
    save(dir, "data.npz", &[("a", write_npy(&a)), ("b", write_npy(&b))]);
    prints(dir, "run float.onnx --input data.npz -o y.npz");
    let outputs = read(dir, "y.npz");
    let y: Vec<f32> = b.data().iter().zip(a.data()).map(|(b, a)| b - a).collect();
    assert_eq!(outputs["y"], Tensor::new([8, 4], y).unwrap());
    assert_eq!(outputs["z"].shape(), [8, 4]);

    // The same from files that a list names.
    let folder = dir.join("folder");
    fs::create_dir(&folder).unwrap();
    let mut list = "b, label, a\n".to_string();
    for i in 0..8 {
        for (name, all) in [("a", &a), ("b", &b)] {
            let row = all.data()[4 * i..4 * i + 4].to_vec();
            fs::write(folder.join(format!("{name}{i}.npy")), array(&[4], row)).unwrap();
        }
        list += &format!("b{i}.npy, {}, a{i}.npy\n", i % 4);
    }
    fs::write(folder.join("manifest.csv"), list).unwrap();
    prints(dir, "run float.onnx --input folder -o z.npz");
    assert_eq!(read(dir, "z.npz"), outputs);
    for data in ["data.npz", "folder"] {
        prints(dir, &format!("quantize float.onnx --calib {data} -o {data}.onnx"));
    }
    let int8 = fs::read(dir.join("data.npz.onnx")).unwrap();
    assert_eq!(fs::read(dir.join("folder.onnx")).unwrap(), int8);

    let verified = prints(dir, "verify folder.onnx --data folder --targets engine");
    assert!(verified.ends_with("on 8 of 8 samples\n"), "{verified}");
    let judged = json(dir, "eval folder.onnx --data folder --reference float.onnx --json");
    for (output, name) in judged["outputs"].as_array().unwrap().iter().zip(["y", "z"]) {
        assert!(output["output"] == name && output["sqnr_db"].as_f64() > Some(30.0), "{judged}");
    }
    assert_eq!(judged["reference_top1"], judged["outputs"][0]["reference"]["right"]);
    prints(dir, "deploy folder.onnx --target c -o net --test-vectors 8 --data data.npz");
    let part = "run float.onnx --input data.npz -o b.npy --outputs z --from y";
    fails_in_a_line(dir, part, &["nothing for input \"y\"", "\"a\" [8, 4], \"b\" [8, 4]"]);
}

#[test]
fn a_single_array_takes_the_first_output_and_says_so() {
    let dir = scratch();
    let dir = dir.path();
    two_inputs(dir);
    let one = write_npy(&pseudo_random(&[8, 4], 1));
    save(dir, "data.npz", &[("a", one.clone()), ("b", one)]);
    let output = run(dir, "run float.onnx --input data.npz -o y.npy");
    let said = "warning: only output \"y\" of 2: a .npz takes all\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), said);
    assert_eq!(super::tools::read_f32(&dir.join("y.npy")).shape(), [8, 4]);
}

#[test]
fn arrays_that_do_not_fit_are_one_line() {
    let dir = scratch();
    let dir = dir.path();
    two_inputs(dir);
    let of = |rows: usize, columns: usize| write_npy(&pseudo_random(&[rows, columns], 1));
    let wanted = "the network's inputs are \"b\" [1, 4], \"a\" [1, 4]; the data are ";
    for (arrays, said) in [
        (vec![("a", of(8, 4)), ("c", of(8, 4))], "nothing for input \"b\": "),
        (vec![("x", of(8, 4))], "nothing for input \"b\": "),
        (vec![("a", of(8, 4)), ("b", of(7, 4))], "different numbers of samples: "),
        (vec![("a", of(8, 4)), ("b", of(8, 4)), ("c", of(8, 4))], "\"c\" is neither an input nor"),
    ] {
        save(dir, "data.npz", &arrays);
        let quantize = "quantize float.onnx --calib data.npz -o int8.onnx";
        let (name, npy) = &arrays[arrays.len() - 1];
        let rows = naive_ptq::data::npy::read_npy(&npy[..]).unwrap().shape()[0];
        let last = format!("\"{name}\" [{rows}, 4]");
        fails_in_a_line(dir, quantize, &[said, wanted, &last]);
        fails_in_a_line(dir, "run float.onnx --input data.npz -o y.npz", &[said, wanted]);
    }
    save(dir, "data.npz", &[("a", of(8, 4)), ("b", of(8, 3))]);
    let shape = "input \"b\" has shape [1, 4], got [1, 3]";
    fails_in_a_line(dir, "run float.onnx --input data.npz -o y.npz", &[shape]);
    fs::write(dir.join("one.npy"), of(8, 4)).unwrap();
    fails_in_a_line(dir, "run float.onnx --input one.npy -o y.npz", &["nothing for input", wanted]);
    assert!(!dir.join("y.npz").exists() && !dir.join("int8.onnx").exists());
}

/// The rows of a batch are mixed by a network that makes one row of them.
#[test]
fn a_fixed_batch_takes_as_many_rows_at_a_time() {
    let dir = scratch();
    let dir = dir.path();
    let mut net = Net::default();
    let x = net.input("x", &[3, 2]);
    net.output("flat", Op::Reshape(Reshape { shape: vec![1, 6] }), &[x]);
    net.output("rows", Op::Clip(Clip::RELU), &[x]);
    net.save(dir);
    let x = pseudo_random(&[12, 2], 5);
    fs::write(dir.join("x.npy"), write_npy(&x)).unwrap();
    prints(dir, "run float.onnx --input x.npy -o y.npz");
    let outputs = read(dir, "y.npz");
    let flat = Tensor::new([4, 1, 6], x.data().to_vec()).unwrap();
    assert_eq!((&outputs["flat"], outputs["rows"].shape()), (&flat, &[12, 2][..]));
    prints(dir, "quantize float.onnx --calib x.npy -o int8.onnx");
    let verified = prints(dir, "verify int8.onnx --data x.npy --targets engine --layers");
    assert!(verified.ends_with("on 4 of 4 samples\n"), "{verified}");
    // Rows that are whole batches are taken as they are.
    fs::write(dir.join("whole.npy"), array(&[4, 3, 2], x.data().to_vec())).unwrap();
    prints(dir, "run float.onnx --input whole.npy -o whole.npz");
    assert_eq!(read(dir, "whole.npz")["flat"], flat);

    fs::write(dir.join("more.npy"), array(&[14, 2], [x.data(), &[0.0; 4]].concat())).unwrap();
    let run = "run float.onnx --input more.npy -o more.npz";
    let said = "14 rows are 4 batches for input \"x\" [3, 2] and 2 left over";
    fails_in_a_line(dir, run, &[said, "(--samples 4)", "or add 1"]);
    let quantize = "quantize float.onnx --calib more.npy -o four.onnx";
    fails_in_a_line(dir, quantize, &[said]);
    prints(dir, &format!("{quantize} --samples 4"));
    let [four, int8] = ["four.onnx", "int8.onnx"].map(|name| fs::read(dir.join(name)).unwrap());
    assert!(four == int8);
}

#[test]
fn inputs_without_a_batch_take_rows_as_they_are() {
    let dir = scratch();
    let dir = dir.path();
    let mut net = Net::default();
    let (x, s) = (net.input("x", &[5]), net.input("s", &[]));
    net.output("y", SUBTRACT, &[x, s]);
    net.save(dir);
    let x = pseudo_random(&[6, 5], 1);
    let s = pseudo_random(&[6], 2);
    save(dir, "data.npz", &[("s", write_npy(&s)), ("x", write_npy(&x))]);
    prints(dir, "run float.onnx --input data.npz -o y.npy");
    let y = x.data().iter().enumerate().map(|(i, x)| x - s.data()[i / 5]).collect();
    assert_eq!(super::tools::read_f32(&dir.join("y.npy")), Tensor::new([6, 5], y).unwrap());
    prints(dir, "quantize float.onnx --calib data.npz -o int8.onnx");
    let verified = prints(dir, "verify int8.onnx --data data.npz --targets engine --layers");
    assert!(verified.ends_with("on 6 of 6 samples\n"), "{verified}");
}

#[test]
fn numbers_are_scaled_of_images_only_where_there_are_several_inputs() {
    let dir = scratch();
    let dir = dir.path();
    let mut net = Net::default();
    let (x, s) = (net.input("x", &[1, 1, 2, 2]), net.input("s", &[1, 2]));
    net.output("y", SUBTRACT, &[x, s]);
    net.save(dir);
    save(
        dir,
        "data.npz",
        &[
            ("x", array(&[1, 1, 2, 2], vec![8u8, 16, 24, 32])),
            ("s", array(&[1, 2], vec![1.0f32, 2.0])),
        ],
    );
    prints(dir, "run float.onnx --input data.npz -o y.npy --scale 1/8");
    assert_eq!(super::tools::read_f32(&dir.join("y.npy")).data(), [0.0, 0.0, 2.0, 2.0]);
    let dir = &dir.join("none");
    fs::create_dir(dir).unwrap();
    two_inputs(dir);
    let one = write_npy(&pseudo_random(&[8, 4], 1));
    save(dir, "data.npz", &[("a", one.clone()), ("b", one)]);
    let none = "scale, mean and std are for inputs of four axes";
    fails_in_a_line(dir, "run float.onnx --input data.npz -o y.npz --scale 2", &[none]);
}

/// `y = tanh(x)` of one input of this shape.
fn tanh(dir: &Path, shape: &[usize]) {
    let mut net = Net::default();
    let x = net.input("x", shape);
    net.output("y", Op::Unary(Unary::Tanh), &[x]);
    net.save(dir);
}

#[test]
fn labels_are_classes_by_any_name_or_one_hot() {
    let dir = scratch();
    let dir = dir.path();
    tanh(dir, &[1, 3]);
    let x = array(&[4, 3], vec![1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    let hot = vec![1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
    for labels in [
        ("y", array(&[4], vec![0i64, 1, 2, 2])),
        ("kinds", array(&[4, 1], vec![0u8, 1, 2, 2])),
        ("target", array(&[4, 3], hot)),
    ] {
        save(dir, "data.npz", &[("x", x.clone()), labels]);
        let judged = json(dir, "eval float.onnx --data data.npz --json");
        assert_eq!((&judged["top1"], &judged["agreement"]), (&json!(0.75), &json!(null)));
    }
    save(dir, "data.npz", &[("x", x), ("y", array(&[4], vec![1i64, 2, 3, 1]))]);
    let output = run(dir, "eval float.onnx --data data.npz");
    let said = "warning: 1 labels are beyond the 3 classes of output \"y\"\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), said);
}

#[test]
fn labels_that_match_nothing_are_pointed_out() {
    let dir = scratch();
    let dir = dir.path();
    tanh(dir, &[1, 5]);
    let x = pseudo_random(&[40, 5], 3);
    let largest = |row: &[f32]| (0..5).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let right: Vec<i64> = x.data().chunks(5).map(|row| largest(row) as i64).collect();
    let wrong = right.iter().map(|label| (label + 1) % 5).collect();
    for (labels, said) in
        [(right, ""), (wrong, "warning: top-1 is 0.0 %, hardly more than by chance")]
    {
        save(dir, "data.npz", &[("x", write_npy(&x)), ("y", array(&[40], labels))]);
        let output = run(dir, "eval float.onnx --data data.npz");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(said) && stderr.is_empty() == said.is_empty(), "{stderr}");
    }
}

/// Two classes in two rows of three places: four are right, one is not, and one is judged by nobody.
#[test]
fn maps_of_classes_are_judged_by_place_and_overlap() {
    let dir = scratch();
    let dir = dir.path();
    tanh(dir, &[1, 2, 2, 3]);
    let second = vec![1.0f32, 1.0, -1.0, -1.0, 1.0, -1.0];
    let x = [vec![0.0; 6], second].concat();
    let mask = vec![1u8, 1, 0, 0, 0, 255];
    save(dir, "data.npz", &[("x", array(&[1, 2, 2, 3], x)), ("mask", array(&[1, 2, 3], mask))]);
    let judged = json(dir, "eval float.onnx --data data.npz --reference float.onnx --json");
    assert_eq!((&judged["top1"], &judged["agreement"]), (&json!(null), &json!(null)));
    let output = &judged["outputs"][0];
    // Of class 0 two places of three are right, of class 1 two of three.
    assert_eq!(output["labelled"], json!({"right": 0.8, "mean_iou": 2.0 / 3.0}));
    assert_eq!(output["reference"], output["labelled"]);
    let text = prints(dir, "eval float.onnx --data data.npz");
    assert!(text.contains("pixels       80.00 %\nIoU          66.67 %\n"), "{text}");
}

#[test]
fn numbers_are_judged_by_their_errors_and_channels_of_other_ranges_by_themselves() {
    let dir = scratch();
    let dir = dir.path();
    let mut net = Net::default();
    let x = net.input("x", &[1, 2, 1, 2]);
    net.output("y", Op::Clip(Clip { lo: -1.0, hi: 100.0 }), &[x]);
    net.save(dir);
    let x = vec![0.25f32, -0.75, 100.0, 50.0];
    save(dir, "data.npz", &[("x", array(&[1, 2, 1, 2], x))]);
    prints(dir, "quantize float.onnx --calib data.npz -o int8.onnx --calibrator minmax");
    let judged = json(dir, "eval int8.onnx --data data.npz --reference float.onnx --json");
    let output = &judged["outputs"][0];
    assert_eq!((&judged["agreement"], &output["agreement"]), (&json!(null), &json!(null)));
    let [first, second] = [0, 1].map(|i| output["channels_db"][i].as_f64().unwrap());
    assert!(first < 20.0 && second > 40.0, "{judged}");
    let errors = ["largest_error", "mean_error"].map(|key| output[key].as_f64().unwrap());
    assert!(errors[0] >= errors[1] && errors[0] < 0.25 && errors[1] > 0.0, "{judged}");
    let text = prints(dir, "eval int8.onnx --data data.npz --reference float.onnx");
    assert!(text.contains("  channels 0: ") && !text.contains("agreement"), "{text}");
}
