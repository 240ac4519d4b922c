//! One layer of each kind on one thread, with each instruction set of this machine, named
//! `operator/type of codes/instruction set/shape`. Throughput counts multiply-accumulates, or elements
//! of the result where there are none.

#[allow(dead_code)] // fuzzing needs all of it
#[path = "../fuzz/src/wire.rs"]
mod wire;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use naive_ptq::exec::engine::{Engine, Options};
use naive_ptq::kernels::isa::Isa;
use naive_ptq::lower::{IntGraph, lower};
use naive_ptq::quantize::prepare;
use naive_ptq::{Tensor, onnx};
use wire::{Kind, Message, Value, packed};

/// A layer: operator, input and weight, whole numbers among its attributes.
struct Layer<'a> {
    name: &'a str,
    op: &'a str,
    x: &'a [usize],
    weight: &'a [usize],
    attributes: &'a [(&'a str, &'a [i64])],
}

const fn layer<'a>(
    name: &'a str,
    op: &'a str,
    x: &'a [usize],
    weight: &'a [usize],
    attributes: &'a [(&'a str, &'a [i64])],
) -> Layer<'a> {
    Layer { name, op, x, weight, attributes }
}

const PADS: (&str, &[i64]) = ("pads", &[1, 1, 1, 1]);
const LAYERS: [Layer; 14] = [
    layer("conv", "Conv", &[1, 3, 64, 64], &[16, 3, 3, 3], &[PADS, ("strides", &[2, 2])]),
    layer("conv", "Conv", &[1, 64, 14, 14], &[128, 64, 1, 1], &[]),
    layer("conv", "Conv", &[1, 32, 28, 28], &[32, 32, 3, 3], &[PADS]),
    layer("depthwise", "Conv", &[1, 64, 28, 28], &[64, 1, 3, 3], &[PADS, ("group", &[64])]),
    layer(
        "conv_transpose",
        "ConvTranspose",
        &[1, 32, 14, 14],
        &[32, 16, 2, 2],
        &[("strides", &[2, 2])],
    ),
    layer("linear", "MatMul", &[1, 640], &[640, 128], &[]),
    layer("add", "Add", &[1, 64, 28, 28], &[], &[]),
    layer("mul", "Mul", &[1, 64, 28, 28], &[], &[]),
    layer("concat", "Concat", &[1, 64, 28, 28], &[], &[("axis", &[1])]),
    layer(
        "max_pool",
        "MaxPool",
        &[1, 64, 28, 28],
        &[],
        &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])],
    ),
    layer(
        "average_pool",
        "AveragePool",
        &[1, 64, 28, 28],
        &[],
        &[("kernel_shape", &[7, 7]), ("strides", &[7, 7])],
    ),
    layer("sigmoid", "Sigmoid", &[1, 64, 28, 28], &[], &[]),
    layer("softmax", "Softmax", &[1, 1000], &[], &[("axis", &[1])]),
    layer("transpose", "Transpose", &[1, 64, 28, 28], &[], &[("perm", &[0, 2, 3, 1])]),
];

/// A model file of this layer between codes of 8 or 16 bits.
fn file(layer: &Layer, bits: usize) -> Vec<u8> {
    let tensor = |name: &str, shape: &[usize], data_type: i64, raw: Vec<u8>| {
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let fields =
            [(1, packed(&shape)), (2, data_type.into()), (8, name.into()), (9, Value::Bytes(raw))];
        (5, Message::new(Kind::Tensor, fields).into())
    };
    let node = |op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]| {
        let mut node = Message::new(Kind::Node, [(4, op.into()), (2, output.into())]);
        node.fields.extend(inputs.iter().map(|&input| (1, input.into())));
        for &(name, numbers) in attributes {
            let one = matches!(name, "axis" | "group").then(|| (3, numbers[0].into()));
            let value = one.unwrap_or_else(|| (8, packed(numbers)));
            let sort = if value.0 == 3 { 2i64 } else { 7 };
            let fields = [(1, name.into()), value, (20, sort.into())];
            node.fields.push((5, Message::new(Kind::Attribute, fields).into()));
        }
        (1, Message::into(node))
    };
    let axes =
        layer.x.iter().map(|&n| (1, Message::new(Kind::Axis, [(1, (n as i64).into())]).into()));
    let shape = Message { kind: Kind::Shape, fields: axes.collect() };
    let of_floats = Message::new(Kind::TensorType, [(1, 1.into()), (2, shape.into())]);
    let of_floats = Message::new(Kind::Type, [(1, of_floats.into())]);
    let input = Message::new(Kind::Info, [(1, "x".into()), (2, of_floats.into())]);
    let output = Message::new(Kind::Info, [(1, "y".into())]);
    let codes = (0..layer.weight.iter().product()).map(|i: usize| (i * 37 % 251) as u8).collect();
    let mut inputs = vec!["xd"];
    match (layer.op, layer.weight) {
        (_, [_, ..]) => inputs.push("w"),
        ("Add" | "Mul" | "Concat", _) => inputs.push("xd"),
        _ => {}
    }
    let zero = vec![0; bits / 8];
    let code = if bits == 8 { 3 } else { 5 };
    let fields = vec![
        (2, "layer".into()),
        (11, input.into()),
        (12, output.into()),
        tensor("scale", &[], 1, 0.05f32.to_le_bytes().into()),
        tensor("zero", &[], code, zero),
        tensor("w_scale", &[], 1, 0.01f32.to_le_bytes().into()),
        tensor("w_codes", layer.weight, 3, codes),
        node("QuantizeLinear", &["x", "scale", "zero"], "xq", &[]),
        node("DequantizeLinear", &["xq", "scale", "zero"], "xd", &[]),
        node("DequantizeLinear", &["w_codes", "w_scale"], "w", &[]),
        node(layer.op, &inputs, "z", layer.attributes),
        node("QuantizeLinear", &["z", "scale", "zero"], "zq", &[]),
        node("DequantizeLinear", &["zq", "scale", "zero"], "y", &[]),
    ];
    let graph = Message { kind: Kind::Graph, fields };
    let opset = Message::new(Kind::Opset, [(2, 21.into())]);
    Message::new(Kind::Model, [(1, 10.into()), (8, opset.into()), (7, graph.into())]).encode()
}

/// The layer in integers, and its multiply-accumulates.
fn integers(layer: &Layer, bits: usize) -> naive_ptq::Result<(IntGraph, u64)> {
    let mut graph = onnx::import(&file(layer, bits), None)?;
    prepare(&mut graph)?;
    let macs = graph.nodes.iter().map(|node| graph.macs(node)).sum();
    Ok((lower(&graph)?, macs))
}

fn layers(c: &mut Criterion) {
    for layer in &LAYERS {
        let shape = [layer.x, layer.weight]
            .map(|shape| Vec::from_iter(shape.iter().map(usize::to_string)).join("x"));
        let shape = shape.join(if layer.weight.is_empty() { "" } else { "_" });
        for bits in [8, 16] {
            let (graph, macs) = integers(layer, bits).expect(layer.name);
            let elements = graph.outputs.iter().map(|&v| graph.values[v].len() as u64).sum();
            let x = Tensor::new(layer.x, vec![0.5; layer.x.iter().product()]).expect("a tensor");
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let options = Options::default().with_isa(isa);
                let engine = Engine::new(&graph, options).expect("an engine");
                let mut session = engine.session().expect("a session");
                let mut group = c.benchmark_group(format!("{}/i{bits}", layer.name));
                group.throughput(Throughput::Elements(if macs > 0 { macs } else { elements }));
                group.bench_function(format!("{isa}/{shape}"), |b| {
                    b.iter(|| engine.run_codes(&mut session, std::slice::from_ref(&x)));
                });
            }
        }
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
