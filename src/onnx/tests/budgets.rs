//! Small files that would take much memory or time: an error, or done soon.

use super::*;
use crate::tensor::SEEN;

fn int64(name: &str, data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|i| i.to_le_bytes()).collect();
    tensor(name, dt::INT64, &[data.len() as i64], raw)
}

fn scalar(name: &str, i: i64) -> TensorProto {
    TensorProto { dims: vec![], ..int64(name, &[i]) }
}

/// `count` nodes beside the network.
fn beside(
    count: usize,
    op_type: &str,
    inputs: &[&str],
    initializer: Vec<TensorProto>,
) -> ModelProto {
    let mut nodes = vec![node("Relu", &["x"], "y")];
    nodes.extend((0..count).map(|i| node(op_type, inputs, &format!("c{i}"))));
    model(nodes, initializer)
}

/// `count` nodes, each of the one before and of `more`.
fn chain(count: usize, op_type: &str, more: &[&str], initializer: Vec<TensorProto>) -> ModelProto {
    let name = |i: usize| match i {
        0 => "x".to_string(),
        i if i == count => "y".into(),
        i => format!("v{i}"),
    };
    let link = |i: usize| {
        let before = name(i);
        let inputs: Vec<&str> = std::iter::once(&*before).chain(more.iter().copied()).collect();
        node(op_type, &inputs, &name(i + 1))
    };
    model((0..count).map(link).collect(), initializer)
}

/// What comes of a model, for which not many elements and nodes are looked at.
#[track_caller]
fn soon(model: &ModelProto) -> Result<Graph> {
    let bytes = model.encode_to_vec();
    let before = SEEN.get();
    let graph = import(&bytes, None);
    let seen = SEEN.get() - before;
    assert!(seen < 1 << 27, "{seen} elements and nodes were looked at");
    graph
}

#[track_caller]
fn too_large(model: &ModelProto) {
    let error = soon(model).unwrap_err().to_string();
    assert!(error.contains("all of them are too large to compute"), "{error}");
}

/// Each stays below the limit of one result; together they would take gigabytes.
#[test]
fn computed_constants_share_one_budget() {
    let size = || int64("s", &[1 << 16]);
    let ones = || vec![real("b", &[1], &[1.0]), size()];
    too_large(&beside(8000, "ConstantOfShape", &["s"], vec![size()]));
    too_large(&beside(3000, "Expand", &["b", "s"], ones()));
    let range = vec![scalar("zero", 0), scalar("most", 1 << 16), scalar("one", 1)];
    too_large(&beside(5000, "Range", &["zero", "most", "one"], range));
    // What is made of one computed constant.
    let of_ints = |op_type, inputs: &[&str], attributes: &[AttributeProto]| {
        let mut model = beside(5000, op_type, inputs, vec![size(), int64("one", &[1])]);
        let value = AttributeProto {
            t: Some(Box::new(int64("", &[1]))),
            r#type: at::TENSOR,
            i: None,
            ..int("value", 0)
        };
        let nodes = &mut graph(&mut model).node;
        nodes.iter_mut().skip(1).for_each(|n| n.attribute = attributes.to_vec());
        nodes.insert(0, node("ConstantOfShape", &["s"], "e").with(value));
        model
    };
    too_large(&of_ints("Add", &["e", "one"], &[]));
    too_large(&of_ints("Neg", &["e"], &[]));
    too_large(&of_ints("Where", &["e", "e", "one"], &[]));
    too_large(&of_ints("Concat", &["e"], &[int("axis", 0)]));
    too_large(&of_ints("Cast", &["e"], &[int("to", dt::FLOAT.into())]));
    too_large(&of_ints("Gather", &["e", "e"], &[]));
    // Bytes become integers of 64 bits for each node that computes with them.
    let bytes = tensor("u", dt::UINT8, &[1 << 16], vec![0; 1 << 16]);
    too_large(&beside(2000, "Neg", &["u"], vec![bytes]));
}

/// Functions whose results are larger than their arguments, or that take more steps than these have elements.
#[test]
fn no_function_of_constants_is_without_a_budget() {
    let many = || int64("many", &[1 << 20]);
    let one = || real("one", &[1], &[1.0]);
    too_large(&beside(500, "Tile", &["one", "many"], vec![one(), many()]));
    let hot = vec![int64("i", &[3]), scalar("depth", 1 << 20), real("values", &[2], &[0.0, 1.0])];
    too_large(&beside(500, "OneHot", &["i", "depth", "values"], hot));
    let limits = ["zero", "most", "step"].map(|name| real(name, &[], &[0.0]));
    let [zero, most, step] = limits;
    let most = TensorProto { raw_data: Some((1e6f32).to_le_bytes().to_vec().into()), ..most };
    let step = TensorProto { raw_data: Some((1f32).to_le_bytes().to_vec().into()), ..step };
    too_large(&beside(500, "Range", &["zero", "most", "step"], vec![zero, most, step]));
    let square = |name| real(name, &[512, 512], &vec![0.5; 1 << 18]);
    let equation = AttributeProto {
        s: Some(b"ab,bc->ac".to_vec()),
        r#type: at::STRING,
        i: None,
        ..int("equation", 0)
    };
    let mut products = beside(500, "Einsum", &["a", "b"], vec![square("a"), square("b")]);
    graph(&mut products).node.iter_mut().skip(1).for_each(|n| n.attribute.push(equation.clone()));
    too_large(&products);
    let list = || int64("list", &vec![1; 1 << 16]);
    too_large(&beside(2000, "NonZero", &["list"], vec![list()]));
    too_large(&beside(2000, "CumSum", &["list", "axis"], vec![list(), scalar("axis", 0)]));
    too_large(&beside(2000, "ReduceMax", &["list"], vec![list()]));
    let mut sorted = beside(2000, "TopK", &["list", "k"], vec![list(), int64("k", &[1])]);
    let outputs = graph(&mut sorted).node.iter_mut().skip(1);
    outputs.for_each(|n| n.output.push(format!("{}.indices", n.output[0])));
    too_large(&sorted);
    let scattered = vec![list(), int64("at", &[0]), int64("new", &[5])];
    too_large(&beside(2000, "ScatterElements", &["list", "at", "new"], scattered));
}

/// A constant that many nodes read is there once.
#[test]
fn readers_share_a_constant() {
    let large = int64("s", &vec![0; 1 << 18]);
    soon(&beside(20_000, "Identity", &["s"], vec![large.clone()])).unwrap();
    soon(&beside(20_000, "Unsqueeze", &["s", "zero"], vec![large, int64("zero", &[0])])).unwrap();
    let weight = real("w", &[1, 1, 512, 512], &vec![0.0; 1 << 18]);
    let mut read = beside(20_000, "Add", &["x", "w"], vec![weight]);
    graph(&mut read).input = vec![value("x", &[1, 1, 512, 512])];
    soon(&read).unwrap();
    // A scaled one is another.
    let weight = real("w", &[16, 1 << 14], &vec![1.0; 1 << 18]);
    let alpha = AttributeProto { f: Some(2.0), r#type: at::FLOAT, i: None, ..int("alpha", 0) };
    let mut scaled = beside(1000, "Gemm", &["x", "w"], vec![weight]);
    graph(&mut scaled).input = vec![value("x", &[1, 16])];
    graph(&mut scaled).node.iter_mut().skip(1).for_each(|n| n.attribute.push(alpha.clone()));
    too_large(&scaled);
}

#[test]
fn constant_products_are_not_computed_without_end() {
    let square = |name| real(name, &[256, 256], &[0.5; 1 << 16]);
    let products = beside(4096, "MatMul", &["a", "b"], vec![square("a"), square("b")]);
    let left = soon(&products).unwrap().nodes.len();
    assert!((1000..4096).contains(&left), "{left}");
    let image = |name| real(name, &[1, 1, 256, 256], &[0.5; 1 << 16]);
    let mut windows = beside(100, "Conv", &["a", "w"], vec![image("a"), image("w")]);
    let pads = ints("pads", &[127, 127, 128, 128]);
    graph(&mut windows).node.iter_mut().skip(1).for_each(|n| n.attribute.push(pads.clone()));
    soon(&windows).unwrap();
    let mut windows = beside(100, "MaxPool", &["a"], vec![image("a")]);
    let shape = ints("kernel_shape", &[256, 256]);
    for node in graph(&mut windows).node.iter_mut().skip(1) {
        node.attribute = vec![shape.clone(), ints("pads", &[255; 4])];
    }
    soon(&windows).unwrap();
}

/// What is no product counts as the products that take as long.
#[test]
fn constants_that_are_slow_to_compute_are_fewer() {
    let left = |model| soon(&model).unwrap().nodes.len();
    let pixels = real("a", &[1 << 16, 1, 1, 1], &[0.5; 1 << 16]);
    let images = beside(100, "Conv", &["a", "w"], vec![pixels, real("w", &[1; 4], &[1.0])]);
    assert!((50..100).contains(&left(images)));
    let wide = real("a", &[1, 64, 1, 1], &[0.5; 64]);
    let mut far =
        beside(100, "Conv", &["a", "w"], vec![wide, real("w", &[64, 1, 1, 1], &[1.0; 64])]);
    for node in graph(&mut far).node.iter_mut().skip(1) {
        node.attribute =
            vec![int("group", 64), ints("strides", &[500; 2]), ints("pads", &[250; 4])];
    }
    assert!((50..100).contains(&left(far)));
    let functions = beside(100, "Exp", &["a"], vec![real("a", &[1 << 18], &[0.5; 1 << 18])]);
    assert!((30..100).contains(&left(functions)));
}

/// Two bytes of a file are an empty message, which takes some hundred in memory.
#[test]
fn parts_are_counted_before_they_are_decoded() {
    fn varint(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while n >= 128 {
            bytes.push(n as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    }
    let field =
        |tag: u8, content: Vec<u8>| [vec![tag << 3 | 2], varint(content.len()), content].concat();
    let many = |tag: u8| [tag << 3 | 2, 0].repeat((1 << 21) + 1);
    let value = |content| field(2, field(1, field(2, content)));
    for (what, graph) in [
        ("nodes", many(1)),
        ("initializers", many(5)),
        ("inputs", many(11)),
        ("outputs", many(12)),
        ("value_info", many(13)),
        ("sparse initializers", many(15)),
        ("inputs of a node", field(1, many(1))),
        ("outputs of a node", field(1, many(2))),
        ("attributes", field(1, many(5))),
        ("entries", field(5, many(13))),
        ("strings", field(5, many(6))),
        ("sizes", field(11, value(many(1)))),
    ] {
        let bytes = field(7, graph);
        let expected = "unsupported: a model of more than 2097152 parts";
        assert_eq!(import(&bytes, None).unwrap_err().to_string(), expected, "{what}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, &bytes).unwrap();
        assert!(load(&path).unwrap_err().to_string().ends_with(expected), "{what}");
    }
    let functions = [25 << 3 | 2, 1, 0].repeat((1 << 21) + 1);
    assert!(import(&functions, None).unwrap_err().to_string().contains("parts"));
}

#[test]
fn a_long_name_is_not_multiplied() {
    let mut sum = model(vec![node("Sum", &["x"; 20_000], "y")], vec![]);
    graph(&mut sum).node[0].name = "n".repeat(1 << 20);
    let read = soon(&sum).unwrap();
    let names =
        read.nodes.iter().map(|n| n.name.len()).chain(read.values.iter().map(|v| v.name.len()));
    assert!(names.sum::<usize>() < 50 << 20);
}

#[test]
fn shapes_of_many_axes() {
    let mut flat = chain(1000, "Relu", &[], vec![]);
    graph(&mut flat).input = vec![value("x", &vec![1; 65])];
    refused(&flat, "\"x\" has 65 axes, more than 64");
    let constant = edited(conv(vec![]), |g| g.initializer.push(real("c", &[1; 65], &[1.0])));
    refused(&constant, "tensor \"c\" has 65 axes, more than 64");
}

/// Each value of the chain is read as it is, by the next node, and as codes: all before it would be computed again.
#[test]
fn values_with_and_without_codes_are_not_computed_for_ever() {
    let codes = |count: usize| {
        let constants = vec![real("s", &[], &[0.1]), tensor("z", dt::INT8, &[], vec![0])];
        edited(chain(count, "Relu", &[], constants), |g| {
            for i in 1..count {
                let name = |part: &str| format!("{part}{i}");
                g.node.push(node("QuantizeLinear", &[&name("v"), "s", "z"], &name("q")));
                g.node.push(node("DequantizeLinear", &[&name("q"), "s", "z"], &name("d")));
                g.node.push(node("Relu", &[&name("d")], &name("r")));
            }
        })
    };
    soon(&codes(100)).unwrap();
    let error = soon(&codes(3000)).unwrap_err().to_string();
    assert!(error.contains(": too many nodes as "), "{error}");
}

/// Not all of them are gone through for each.
#[test]
fn work_is_linear_in_the_number_of_nodes() {
    const MANY: usize = 20_000;
    let one = || vec![real("b", &[], &[1.0])];
    soon(&chain(MANY, "Relu", &[], vec![])).unwrap();
    soon(&chain(MANY, "Identity", &[], vec![])).unwrap();
    soon(&chain(MANY, "Add", &["b"], one())).unwrap();
    soon(&model(vec![node("Sum", &["x"; MANY], "y")], vec![])).unwrap();
    soon(&beside(MANY, "Relu", &["b"], one())).unwrap();
    soon(&beside(MANY, "Shape", &["x"], vec![])).unwrap();
    let mut split = beside(0, "Relu", &[], vec![]);
    graph(&mut split).input = vec![value("x", &[1, 1, 1, 1 << 14])];
    let outputs = (0..1 << 14).map(|i| format!("o{i}"));
    let node = node("Split", &["x"], "").with(int("axis", 3));
    graph(&mut split).node.push(NodeProto { output: outputs.collect(), ..node });
    soon(&split).unwrap();
}

/// A Split of many results makes nodes of those that are used.
#[test]
fn results_of_a_split_are_taken_if_they_are_used() {
    let count = 20_000;
    let names: Vec<String> = (0..count).map(|i| format!("o{i}")).collect();
    let split = |used: usize| {
        let mut split = node("Split", &["x"], "o0");
        split.output = names.clone();
        let mut nodes = vec![split.with(int("axis", 1))];
        nodes.extend((0..used).map(|i| node("Relu", &[&names[i]], &format!("r{i}"))));
        nodes.push(node("Relu", &["o0"], "y"));
        let mut model = model(nodes, vec![]);
        graph(&mut model).input = vec![value("x", &[1, count as i64])];
        model
    };
    assert_eq!(soon(&split(2)).unwrap().nodes.len(), 5);
}
