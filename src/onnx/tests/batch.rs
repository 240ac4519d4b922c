//! Whether the number of samples stays open.

use super::*;
use crate::tensor::Tensor;
use crate::testing::exec::float::FloatExecutor;

fn int64(name: &str, data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|i| i.to_le_bytes()).collect();
    tensor(name, dt::INT64, &[data.len() as i64], raw)
}

/// Input `x` of `[n, 2, 4, 4]`, as `name` `[n, 2, 16]`.
fn open(name: &str, nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let mut all = vec![node("Reshape", &["x", "rows"], name)];
    all.extend(nodes);
    let mut model = model(all, constants);
    graph(&mut model).initializer.push(int64("rows", &[0, 2, 16]));
    graph(&mut model).input = vec![value("x", &[-1, 2, 4, 4])];
    model
}

fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let shape = graph.values[graph.inputs[0]].shape.clone();
    let x = Tensor::new(shape, x.to_vec()).unwrap();
    FloatExecutor::new(graph).run(&[x], |_, _| Ok(())).unwrap().swap_remove(0).into_data()
}

#[test]
fn what_keeps_samples_apart_stays_open() {
    let swap = |x: &str, y: &str| node("Transpose", &[x], y).with(ints("perm", &[1, 0, 2]));
    let weight = || real("w", &[16, 3], &[0.5; 48]);
    let models = [
        // Rows of all samples are one matrix.
        open(
            "a",
            vec![
                node("Reshape", &["a", "flat"], "b"),
                node("MatMul", &["b", "w"], "c"),
                node("Reshape", &["c", "back"], "y"),
            ],
            vec![int64("flat", &[-1, 16]), int64("back", &[-1, 2, 3]), weight()],
        ),
        open("a", vec![node("Flatten", &["a"], "y").with(int("axis", 2))], vec![]),
        open(
            "a",
            vec![swap("a", "b"), node("MatMul", &["b", "w"], "c"), swap("c", "y")],
            vec![weight()],
        ),
        open("a", vec![node("Softmax", &["a"], "y").with(int("axis", 1))], vec![]),
        open(
            "a",
            vec![node("Slice", &["a", "one", "two", "one"], "y")],
            vec![int64("one", &[1]), int64("two", &[2])],
        ),
    ];
    let x: Vec<f32> = (0..64).map(|i| (i * 37 % 64) as f32 / 16.0 - 2.0).collect();
    for model in models {
        let one = read(&model).unwrap();
        assert!(one.dynamic_batch && one.for_one.is_none(), "{:?}", one.for_one);
        let mut exported = ModelProto::decode(&export(&one)[..]).unwrap();
        graph(&mut exported).input = vec![value("x", &[2, 2, 4, 4])];
        let two = read(&exported).unwrap();
        assert_eq!(run(&two, &x), [run(&one, &x[..32]), run(&one, &x[32..])].concat());
    }
}

#[test]
fn what_is_for_one_sample_is_named() {
    let perm = ints("perm", &[1, 0, 2]);
    let models = [
        ("node \"y\" (Softmax)", node("Softmax", &["a"], "y").with(int("axis", 0))),
        ("node \"y\" (Concat)", node("Concat", &["a", "a"], "y").with(int("axis", 0))),
        // As a token in front of a sequence.
        ("node \"y\" (Concat)", node("Concat", &["a", "k"], "y").with(int("axis", 1))),
        ("node \"y\" (Add)", node("Add", &["a", "two"], "y")),
        ("node \"y\" (Mean)", node("ReduceMean", &["a"], "y").with(ints("axes", &[0]))),
        ("output \"y\"", node("Transpose", &["a"], "y").with(perm)),
    ];
    for (expected, mut node) in models {
        node.name = "y".into();
        let constants =
            vec![real("k", &[1, 2, 16], &[1.0; 32]), real("two", &[2, 1, 1], &[1.0; 2])];
        let graph = read(&open("a", vec![node], constants)).unwrap();
        assert_eq!(graph.for_one.as_deref(), Some(expected));
        assert!(!graph.dynamic_batch);
        let mut exported = ModelProto::decode(&export(&graph)[..]).unwrap();
        assert_eq!(super::graph(&mut exported).input, [value("x", &[1, 2, 4, 4])]);
    }
}
