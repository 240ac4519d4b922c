//! Random quantized networks as other tools write them: files in which every activation has a scale and a
//! zero point of its own, on each side of what only moves codes, too.

use prost::Message;

use super::random_graphs::random_node;
use super::{Net, Rng, SCHEMES, random_inputs, run_float};
use crate::graph::ValueId;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type as dt};
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::matmul::MatMul;
use crate::ops::normalize::{Kind, Normalize};
use crate::ops::pad::{Mode, Pad};
use crate::ops::reshape::Reshape;
use crate::ops::softmax::Softmax;
use crate::ops::{Op, Window};
use crate::quantize::quantize;
use crate::{graph::Graph, onnx, passes};

/// The bytes of a file, which depend on `seed` only.
pub fn random_file(seed: u64) -> Vec<u8> {
    let mut float = network(seed);
    passes::prepare(&mut float);
    let mut rng = Rng(!seed);
    let (_, ranges) = run_float(&float, &random_inputs(&float, &mut rng, 1.0));
    let quantized = quantize(&float, &ranges, rng.pick(&SCHEMES)).unwrap();
    let mut model = ModelProto::decode(&*onnx::export(&quantized)).unwrap();
    let mixed = seed.is_multiple_of(3);
    if mixed {
        // The first version of the operator set with codes of 16 bits.
        model.opset_import[0].version = Some(21);
    }
    scatter(model.graph.as_mut().unwrap(), &mut rng, mixed);
    model.encode_to_vec()
}

/// Some nodes on an image, each of which any later one may read, and two outputs.
fn network(seed: u64) -> Graph {
    let mut net = Net::new(seed);
    let channels = net.rng.pick(&[1, 2, 3, 8, 16, 33]);
    let [h, w] = [0; 2].map(|_| net.rng.pick(&[1, 2, 5, 6, 9]));
    let mut images = vec![net.input(&[1, channels, h, w])];
    for _ in 0..net.rng.pick(&[2, 4, 7]) {
        let x = if net.rng.pick(&[0, 1, 2]) > 0 { images[images.len() - 1] } else { images[0] };
        let elements: usize = net.graph.values[x].shape.iter().product();
        let (op, inputs) = match net.rng.pick(&[0, 1]) {
            1 if elements < 3000 => more(&mut net, x, &images),
            _ => random_node(&mut net, x, &images),
        };
        images.push(net.node(op, &inputs));
    }
    let last = images[images.len() - 1];
    let first = images[1];
    let len: usize = net.graph.values[last].shape.iter().product();
    if len > 2000 || net.rng.pick(&[0, 1]) == 0 {
        return net.finish(&[last]);
    }
    let flat = net.node(Op::Reshape(Reshape { shape: vec![1, len] }), &[last]);
    let (weight, bias) = (net.random(&[len, 5]), net.random(&[5]));
    let y = net.node(Op::Linear(Linear { transposed: false }), &[flat, weight, bias]);
    net.finish(&[y, first])
}

/// What `random_node` has not.
fn more(net: &mut Net, x: ValueId, images: &[ValueId]) -> (Op, Vec<ValueId>) {
    let shape = net.graph.values[x].shape.clone();
    let c = shape[1];
    let axis = net.rng.pick(&[1, 2, 3]);
    let fits = |&v: &ValueId, net: &Net| {
        let other = &net.graph.values[v].shape;
        (0..4).all(|a| a == axis || other[a] == shape[a])
    };
    match net.rng.pick(&[0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7]) {
        0 => (Op::Softmax(Softmax { axis }), vec![x]),
        1 => {
            let others: Vec<ValueId> = images.iter().copied().filter(|v| fits(v, net)).collect();
            let count = net.rng.pick(&[1, 2]);
            let mut inputs: Vec<ValueId> = (0..count).map(|_| net.rng.pick(&others)).collect();
            inputs.insert(net.rng.pick(&[0, count]), x);
            (Op::Concat(Concat { axis }), inputs)
        }
        2 => {
            let mut of_constant = shape.clone();
            of_constant[axis] = net.rng.pick(&[1, 2, 5]);
            let mut inputs = vec![x, net.random(&of_constant)];
            inputs.rotate_left(net.rng.pick(&[0, 1]));
            (Op::Concat(Concat { axis }), inputs)
        }
        3 => {
            let (before, after) = (vec![0, 0, 2, 1], vec![0, net.rng.pick(&[0, 3]), 0, 4]);
            (Op::Pad(Pad { before, after, mode: Mode::Constant(0.0) }), vec![x])
        }
        4 => {
            let window = Window { pads: [1; 4], ..Window::new([3, 3]) };
            let (group, out) = net.rng.pick(&[(1, 4), (1, 17), (c, c)]);
            let (weight, bias) = (net.random(&[out, c / group, 3, 3]), net.random(&[out]));
            (Op::Conv(Conv { window, group }), vec![x, weight, bias])
        }
        5 => {
            let groups = if c.is_multiple_of(2) { 2 } else { c };
            let kinds =
                [Kind::Layer { axis }, Kind::Rms { axis }, Kind::Groups(groups), Kind::L2 { axis }];
            let plain = Normalize::plain(net.rng.pick(&kinds), 0.0);
            let n: usize = plain.affine_shape(&shape).iter().product();
            let affine = net.rng.reals(&[n], 1.0).into_data();
            let op = match plain.kind {
                Kind::L2 { .. } => plain,
                _ => Normalize { epsilon: 1e-3, scale: affine, ..plain },
            };
            (Op::Normalize(op), vec![x])
        }
        6 => {
            let (of_each, n) = (net.rng.pick(&[1, c]), net.rng.pick(&[1, 4, 17]));
            match net.rng.pick(&[false, true]) {
                true => (Op::MatMul(MatMul), vec![net.random(&[of_each, n, shape[2]]), x]),
                false => (Op::MatMul(MatMul), vec![x, net.random(&[of_each, shape[3], n])]),
            }
        }
        _ => (
            Op::Clip(net.rng.pick(&[Clip { lo: 0.0, hi: 0.3 }, Clip { lo: -0.1, hi: 9.0 }])),
            vec![x],
        ),
    }
}

/// Gives most activations other parameters, and biases the units that follow from them.
fn scatter(graph: &mut GraphProto, rng: &mut Rng, mixed: bool) {
    let quantizers = graph.node.iter().filter(|node| node.op_type == "QuantizeLinear");
    let parameters: Vec<Vec<String>> = quantizers.map(|node| node.input[1..].to_vec()).collect();
    for names in parameters {
        let factor = rng.pick(&[1.0, 1.0, 1.0, 0.5, 2.0, 0.1, 7.0, 1.37, 0.999]);
        let round = rng.pick(&[false, false, false, true]);
        edit_scales(initializer(graph, &names[0]), |_, scale| match round {
            true => (scale * factor).log2().round().exp2(),
            false => scale * factor,
        });
        // Every other value has codes of the other width.
        let other = mixed && rng.pick(&[false, true]);
        let zero_point = initializer(graph, &names[1]);
        let was_wide = zero_point.data_type == dt::INT16;
        let wide = was_wide ^ other;
        let mut bytes = zero_point.raw_data.clone().unwrap().to_vec();
        if other {
            bytes = vec![if was_wide { bytes[1] } else { 0 }; 1 + wide as usize];
            zero_point.data_type = if wide { dt::INT16 } else { dt::INT8 };
            let steps = if wide { 1.0 / 256.0 } else { 256.0 };
            edit_scales(initializer(graph, &names[0]), |_, scale| scale * steps);
        }
        let zero_point = initializer(graph, &names[1]);
        if rng.pick(&[false, true]) {
            let ends: [[u8; 2]; 2] =
                if wide { [[0, 0x80], [0xFF, 0x7F]] } else { [[0x80; 2], [0x7F; 2]] };
            let any = [0; 2].map(|_| rng.pick(&(0..=255).collect::<Vec<u8>>()));
            let (picked, len) = (rng.pick(&[any, any, ends[0], ends[1]]), bytes.len());
            bytes.copy_from_slice(&picked[2 - len..]);
        }
        // The same codes, written without a sign.
        if rng.pick(&[false, true]) {
            *bytes.last_mut().unwrap() ^= 0x80;
            zero_point.data_type = if wide { dt::UINT16 } else { dt::UINT8 };
        }
        zero_point.raw_data = Some(bytes.into());
    }
    let readers: Vec<NodeProto> =
        graph.node.iter().filter(|node| node.op_type != "DequantizeLinear").cloned().collect();
    for node in readers.iter().filter(|node| node.input.len() == 3) {
        let [x, w, bias] = [0, 1, 2].map(|i| {
            let from = graph.node.iter().find(|other| other.output[0] == node.input[i]);
            from.filter(|from| from.op_type == "DequantizeLinear").map(|from| from.input[1].clone())
        });
        if let (Some(x), Some(w), Some(bias)) = (x, w, bias) {
            let (x, w) = (scales(initializer(graph, &x)), scales(initializer(graph, &w)));
            edit_scales(initializer(graph, &bias), |i, _| x[0] * w[i % w.len()]);
        }
    }
}

fn initializer<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

fn scales(tensor: &TensorProto) -> Vec<f32> {
    let bytes = tensor.raw_data.as_ref().unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn edit_scales(tensor: &mut TensorProto, edit: impl Fn(usize, f32) -> f32) {
    let edited = scales(tensor).into_iter().enumerate().map(|(i, scale)| edit(i, scale));
    tensor.raw_data = Some(edited.flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into());
}
