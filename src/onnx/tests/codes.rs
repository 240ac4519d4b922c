//! Operators on codes are the real operators between their parameters: both forms of a file become
//! the same integers.

use super::*;
use crate::testing::Rng;
use crate::testing::exec::int::IntExecutor;
use crate::testing::lower::IntGraph;

/// A tensor of codes with its parameters. The zero point is that of `int8`.
struct Codes {
    name: &'static str,
    scale: Vec<f32>,
    zero_point: i8,
    /// Shape and codes of a constant.
    constant: Option<(Vec<i64>, Vec<i8>)>,
}

fn codes(name: &'static str, scale: f32, zero_point: i8) -> Codes {
    Codes { name, scale: vec![scale], zero_point, constant: None }
}

fn constant(name: &'static str, scale: &[f32], zero_point: i8, dims: &[i64]) -> Codes {
    let n = dims.iter().product::<i64>();
    let data = (0..n).map(|i| (i * 37 % 251 - 125) as i8).collect();
    Codes { name, scale: scale.to_vec(), zero_point, constant: Some((dims.to_vec(), data)) }
}

/// How codes are written: signed, or 128 larger and unsigned.
#[derive(Clone, Copy, Debug, PartialEq)]
enum As {
    Int8,
    Uint8,
}

fn written(name: &str, dims: &[i64], data: &[i8], r#as: As) -> TensorProto {
    match r#as {
        As::Int8 => int8(name, dims, data),
        As::Uint8 => {
            tensor(name, dt::UINT8, dims, data.iter().map(|&code| code as u8 ^ 0x80).collect())
        }
    }
}

/// One operator with its arguments and its result.
struct Layer {
    /// Type, its domain, and its name on real numbers.
    types: [&'static str; 3],
    inputs: Vec<Codes>,
    bias: Option<Vec<i32>>,
    result: Codes,
    attributes: Vec<AttributeProto>,
    x: Vec<i64>,
}

impl Layer {
    fn initializers(&self, r#as: As) -> Vec<TensorProto> {
        let mut all = Vec::new();
        for c in self.inputs.iter().chain([&self.result]) {
            // Weights with a scale for each channel have as many zero points; both stay signed.
            let of = if c.constant.is_some() { As::Int8 } else { r#as };
            let dims: Vec<i64> =
                (c.scale.len() > 1).then_some(c.scale.len() as i64).into_iter().collect();
            all.push(real(&format!("{}_s", c.name), &dims, &c.scale));
            let zero_points = vec![c.zero_point; c.scale.len()];
            all.push(written(&format!("{}_z", c.name), &dims, &zero_points, of));
            if let Some((dims, data)) = &c.constant {
                all.push(written(&format!("{}_q", c.name), dims, data, of));
            }
        }
        if let Some(bias) = &self.bias {
            let raw = bias.iter().flat_map(|b| b.to_le_bytes()).collect();
            all.push(tensor("bias_q", dt::INT32, &[bias.len() as i64], raw));
        }
        all
    }

    fn pair(name: &str, c: &Codes, o: &str) -> NodeProto {
        let (s, z) = (format!("{}_s", c.name), format!("{}_z", c.name));
        let op_type = if o.ends_with("_q") { "QuantizeLinear" } else { "DequantizeLinear" };
        NodeProto { name: o.into(), ..node(op_type, &[name, &s, &z], o) }
    }

    fn model(&self, nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> ModelProto {
        let mut model = model(nodes, initializers);
        model.opset_import.push(opset("com.microsoft", 1));
        graph(&mut model).input = vec![value("x", &self.x)];
        model
    }

    /// `QuantizeLinear`, the operator on codes, `DequantizeLinear`.
    fn on_codes(&self, r#as: As) -> ModelProto {
        let [op_type, domain, _] = self.types;
        let names = |c: &Codes| ["q", "s", "z"].map(|suffix| format!("{}_{suffix}", c.name));
        let result = &names(&self.result)[1..];
        let mut arguments: Vec<String> = Vec::new();
        let concat = op_type == "QLinearConcat";
        let bias = self.bias.as_ref().map(|_| "bias_q".to_string());
        if concat {
            arguments.extend_from_slice(result);
        }
        self.inputs.iter().for_each(|c| arguments.extend(names(c)));
        if op_type == "QGemm" {
            arguments.push(bias.clone().unwrap_or_default());
        }
        if !concat {
            arguments.extend_from_slice(result);
        }
        if op_type == "QLinearConv" {
            arguments.extend(bias);
        }
        let own = NodeProto {
            input: arguments,
            output: vec!["y_q".into()],
            name: "layer".into(),
            op_type: op_type.into(),
            domain: domain.into(),
            attribute: self.attributes.clone(),
            ..NodeProto::default()
        };
        let nodes = vec![
            Self::pair("x", &self.inputs[0], "x_q"),
            own,
            Self::pair("y_q", &self.result, "y"),
        ];
        self.model(nodes, self.initializers(r#as))
    }

    /// The real operator between pairs.
    fn between_pairs(&self, r#as: As) -> ModelProto {
        let mut nodes = vec![Self::pair("x", &self.inputs[0], "x_q")];
        let axis = int("axis", (self.types[2] != "Conv") as i64);
        for c in &self.inputs {
            nodes.push(Self::pair(&format!("{}_q", c.name), c, c.name).with(axis.clone()));
        }
        nodes[1].output[0] = "x_d".into();
        let mut inputs = vec!["x_d"];
        inputs.extend(self.inputs[1..].iter().map(|c| c.name));
        let mut initializers = self.initializers(r#as);
        if let Some(bias) = &self.bias {
            // Codes of a bias are on the scale of what they are added to.
            let alpha =
                self.attributes.iter().find(|a| a.name == "alpha").and_then(|a| a.f).unwrap_or(1.0);
            let scales: Vec<f32> = self.inputs[1]
                .scale
                .iter()
                .map(|w| self.inputs[0].scale[0] * (w * alpha))
                .collect();
            let dims: &[i64] = if scales.len() > 1 { &[scales.len() as i64] } else { &[] };
            initializers.push(real("bias_s", dims, &scales));
            initializers.push(tensor("bias_z", dt::INT32, dims, vec![0; 4 * scales.len()]));
            nodes.push(
                node("DequantizeLinear", &["bias_q", "bias_s", "bias_z"], "bias")
                    .with(int("axis", 0)),
            );
            inputs.push("bias");
            assert_eq!(bias.len() % scales.len(), 0);
        }
        let own = NodeProto { name: "layer".into(), ..node(self.types[2], &inputs, "r") };
        nodes.push(NodeProto { attribute: self.attributes.clone(), ..own });
        nodes.push(Self::pair("r", &self.result, "y_q"));
        nodes.push(Self::pair("y_q", &self.result, "y"));
        self.model(nodes, initializers)
    }
}

fn lowered(model: &ModelProto) -> IntGraph {
    let mut graph = read(model).unwrap();
    crate::testing::quantize::prepare(&mut graph).unwrap();
    lower(&graph).unwrap()
}

fn layers() -> Vec<Layer> {
    const MICROSOFT: &str = "com.microsoft";
    let image = || vec![1, 2, 4, 4];
    let x = || codes("x", 0.05, 7);
    let y = || codes("y", 0.1, -20);
    let of = |types, inputs, bias, attributes| Layer {
        types,
        inputs,
        bias,
        result: y(),
        attributes,
        x: image(),
    };
    let conv = ["QLinearConv", "", "Conv"];
    let gemm = ["QGemm", MICROSOFT, "Gemm"];
    let weight = || constant("w", &[0.25, 0.5, 0.03], 0, &[3, 2, 3, 3]);
    let flat = |layer: Layer| Layer { x: vec![3, 4], ..layer };
    let same = |layer: Layer| Layer { result: codes("y", 1.0 / 256.0, -128), ..layer };
    vec![
        of(
            conv,
            vec![x(), weight()],
            Some(vec![5, -1000, 70]),
            vec![ints("pads", &[1; 4]), ints("strides", &[2; 2])],
        ),
        of(conv, vec![x(), constant("w", &[0.02], 0, &[2, 1, 1, 2])], None, vec![int("group", 2)]),
        flat(of(
            ["QLinearMatMul", "", "MatMul"],
            vec![x(), constant("w", &[0.02], 0, &[4, 3])],
            None,
            vec![],
        )),
        flat(of(
            ["QLinearMatMul", "", "MatMul"],
            vec![x(), constant("w", &[0.02, 0.01], 0, &[4, 2])],
            None,
            vec![],
        )),
        flat(of(
            gemm,
            vec![x(), constant("w", &[0.02, 0.01], 0, &[4, 2])],
            Some(vec![9, -9]),
            vec![],
        )),
        flat(of(gemm, vec![x(), constant("w", &[0.02], 0, &[2, 4])], None, vec![int("transB", 1)])),
        flat(of(
            gemm,
            vec![x(), constant("w", &[0.02, 0.01], 0, &[4, 2])],
            Some(vec![9, -9]),
            vec![super::decompose::float("alpha", 0.5)],
        )),
        of(
            ["QLinearAdd", MICROSOFT, "Add"],
            vec![x(), constant("b", &[0.3], 4, &[2, 1, 1])],
            None,
            vec![],
        ),
        of(
            ["QLinearMul", MICROSOFT, "Mul"],
            vec![x(), constant("b", &[0.3], 4, &[4])],
            None,
            vec![],
        ),
        of(
            ["QLinearConcat", MICROSOFT, "Concat"],
            vec![x(), constant("b", &[0.3], 4, &[1, 1, 4, 4])],
            None,
            vec![int("axis", 1)],
        ),
        of(
            ["QLinearAveragePool", MICROSOFT, "AveragePool"],
            vec![x()],
            None,
            vec![ints("kernel_shape", &[2, 3])],
        ),
        of(["QLinearGlobalAveragePool", MICROSOFT, "GlobalAveragePool"], vec![x()], None, vec![]),
        same(of(["QLinearSigmoid", MICROSOFT, "Sigmoid"], vec![x()], None, vec![])),
        of(
            ["QLinearLeakyRelu", MICROSOFT, "LeakyRelu"],
            vec![x()],
            None,
            vec![AttributeProto { f: Some(0.2), r#type: at::FLOAT, ..int("alpha", 0) }],
        ),
        same(of(["QLinearSoftmax", MICROSOFT, "Softmax"], vec![x()], None, vec![int("axis", 1)])),
    ]
}

#[test]
fn both_forms_and_both_types_are_the_same_integers() {
    for layer in layers() {
        let expected = lowered(&layer.between_pairs(As::Int8));
        let x = Rng(1).reals(&layer.x.iter().map(|&d| d as usize).collect::<Vec<_>>(), 8.0);
        let run = |int: &IntGraph| {
            IntExecutor::new(int).run_codes(std::slice::from_ref(&x), |_, _| Ok(())).unwrap()
        };
        for r#as in [As::Int8, As::Uint8] {
            let models = [layer.between_pairs(r#as), layer.on_codes(r#as)];
            for (form, model) in models.iter().enumerate() {
                let context = format!("{:?} {as:?} form {form}", layer.types, as = r#as);
                let int = lowered(model);
                assert_eq!(int.nodes, expected.nodes, "{context}");
                let read = |int: &IntGraph| -> Vec<_> {
                    int.values
                        .iter()
                        .map(|v| (v.shape.clone(), v.quant.clone(), v.constant.clone()))
                        .collect()
                };
                assert_eq!(read(&int), read(&expected), "{context}");
                assert_eq!(run(&int), run(&expected), "{context}");
            }
        }
    }
}

#[test]
fn what_the_arithmetic_does_not_cover_is_refused() {
    let conv = || layers().remove(0);
    let on_codes = |edit: &dyn Fn(&mut GraphProto)| {
        let mut model = conv().on_codes(As::Int8);
        edit(graph(&mut model));
        model
    };
    let replaced = |g: &mut GraphProto, with: TensorProto| {
        let old = g.initializer.iter_mut().find(|t| t.name == with.name).unwrap();
        *old = with;
    };
    let of_layer = |model: &ModelProto, expected: &str| {
        refused(model, "in node \"layer\" (QLinearConv): ");
        refused(model, expected);
    };
    of_layer(&on_codes(&|g| replaced(g, int8("w_z", &[2], &[0, 1]))), "2 zero points for 3 scales");
    of_layer(
        &on_codes(&|g| replaced(g, real("w_s", &[2], &[0.5; 2]))),
        "3 zero points for 2 scales",
    );
    of_layer(
        &on_codes(&|g| replaced(g, int8("bias_q", &[3], &[0; 3]))),
        "must be a constant of 32-bit integers",
    );
    of_layer(
        &on_codes(&|g| g.node[1].input[1] = "y_s".into()),
        "were made with another scale or zero point",
    );
    of_layer(
        &on_codes(&|g| g.node[1].input[2] = "y_z".into()),
        "were made with another scale or zero point",
    );
    of_layer(
        &on_codes(&|g| g.node[1].input[0] = "x_s".into()),
        "input \"x_s\" is not made of codes",
    );
    of_layer(&on_codes(&|g| g.node[1].input.truncate(5)), "expected at least 8 inputs, got 5");
    of_layer(
        &on_codes(&|g| g.node[1].attribute.push(int("sideways", 1))),
        "attribute \"sideways\"",
    );
    refused(&on_codes(&|g| replaced(g, tensor("x_z", 17, &[], vec![0]))), "made of float8e4m3fn");
    let foreign = on_codes(&|g| g.node[1].domain = "com.example".into());
    refused(&foreign, "operators of domain \"com.example\"");
    for (attribute, i) in [("block_size", 2), ("precision", 10)] {
        let mut model = conv().between_pairs(As::Int8);
        graph(&mut model).node[0].attribute.push(int(attribute, i));
        refused(&model, &format!("attribute \"{attribute}\""));
    }
    let saturate = |i| {
        let mut model = conv().between_pairs(As::Int8);
        graph(&mut model).node[0].attribute.push(int("saturate", i));
        model
    };
    refused(&saturate(0), "attribute \"saturate\"");
    read(&saturate(1)).unwrap();
}
