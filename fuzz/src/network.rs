//! Quantized networks, as a file of another tool could hold them: every value has parameters of its
//! own, whatever reads or makes it.

use crate::rng::Rng;
use crate::wire::{Kind, Message, Value, packed};

/// A value that a node can read: its name, and its axes behind the first, which is 1.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    shape: [usize; 3],
    scale: f32,
}

/// A model file under construction.
struct Network {
    rng: Rng,
    nodes: Vec<Message>,
    constants: Vec<Message>,
    known: Vec<Known>,
    /// Whether codes have 16 bits.
    wide: bool,
}

/// The model file of `seed`.
pub fn model(seed: u64) -> Vec<u8> {
    let mut rng = Rng(seed);
    let wide = rng.one_in(8);
    let shape = [1 + rng.below(20), 1 + rng.below(9), 1 + rng.below(9)];
    let (nodes, constants) = (Vec::new(), Vec::new());
    let mut net = Network { rng, nodes, constants, known: Vec::new(), wide };
    let count = 1 + net.rng.below(7);
    net.codes("x", shape, None);
    while net.known.len() <= count {
        net.node();
    }
    let last = net.known.len() - 1;
    let outputs = [last, last - net.rng.below(2).min(last - 1)];
    let outputs = &outputs[..1 + usize::from(outputs[0] != outputs[1])];
    let names: Vec<String> = outputs.iter().map(|&i| net.known[i].name.clone()).collect();
    net.finish(shape, &names)
}

/// A small float network: Conv, Relu, Add of itself, Softmax.
pub fn float() -> Vec<u8> {
    let (rng, nodes, constants) = (Rng(3), Vec::new(), Vec::new());
    let mut net = Network { rng, nodes, constants, known: Vec::new(), wide: false };
    let weight: Vec<f32> = (0..36).map(|_| net.rng.unit()).collect();
    let weight = net.reals(&[2, 2, 3, 3], &weight);
    let y = net.call("Conv", &["x", &weight], &[("strides", &[2, 2])]);
    let y = net.call("Relu", &[&y], &[]);
    let sum = net.call("Add", &[&y, &y], &[]);
    let y = net.call("Softmax", &[&sum], &[("axis", &[1])]);
    net.finish([2, 7, 5], &[y])
}

impl Network {
    /// The file: an input "x" of these axes, and these outputs.
    fn finish(self, shape: [usize; 3], outputs: &[String]) -> Vec<u8> {
        let axes = [1].into_iter().chain(shape);
        let axes = axes.map(|n| (1, Message::new(Kind::Axis, [(1, (n as i64).into())]).into()));
        let shape = Message { kind: Kind::Shape, fields: axes.collect() };
        let of_floats = Message::new(Kind::TensorType, [(1, 1.into()), (2, shape.into())]);
        let of_floats = Message::new(Kind::Type, [(1, of_floats.into())]);
        let input = Message::new(Kind::Info, [(1, "x".into()), (2, of_floats.into())]);
        let mut graph = Message::new(Kind::Graph, [(2, "random".into()), (11, input.into())]);
        let info = |name: &String| Message::new(Kind::Info, [(1, name.as_str().into())]);
        graph.fields.extend(outputs.iter().map(|name| (12, info(name).into())));
        graph.fields.extend(self.constants.into_iter().map(|tensor| (5, tensor.into())));
        graph.fields.extend(self.nodes.into_iter().map(|node| (1, node.into())));
        let opset = Message::new(Kind::Opset, [(2, 21.into())]);
        let model = [(1, 10.into()), (8, opset.into()), (7, graph.into())];
        Message::new(Kind::Model, model).encode()
    }

    fn constant(&mut self, shape: &[usize], data_type: i64, raw: Vec<u8>) -> String {
        let name = format!("c{}", self.constants.len());
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let fields = [(1, packed(&shape)), (2, data_type.into()), (8, name.as_str().into())];
        let mut tensor = Message::new(Kind::Tensor, fields);
        tensor.fields.push((9, Value::Bytes(raw)));
        self.constants.push(tensor);
        name
    }

    fn ints(&mut self, numbers: &[i64]) -> String {
        let raw = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.constant(&[numbers.len()], 7, raw)
    }

    fn reals(&mut self, shape: &[usize], numbers: &[f32]) -> String {
        self.constant(shape, 1, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn call(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, &[i64])]) -> String {
        let name = format!("n{}", self.nodes.len());
        let mut node = Message::new(Kind::Node, [(4, op.into()), (2, name.as_str().into())]);
        node.fields.extend(inputs.iter().map(|&input| (1, input.into())));
        for &(name, numbers) in attributes {
            // One number stands for itself, unless operators want a list of it.
            let attribute = match (name, numbers) {
                ("axis" | "group" | "keepdims", [n]) => {
                    [(1, name.into()), (3, (*n).into()), (20, 2.into())]
                }
                _ => [(1, name.into()), (8, packed(numbers)), (20, 7.into())],
            };
            node.fields.push((5, Message::new(Kind::Attribute, attribute).into()));
        }
        self.nodes.push(node);
        name
    }

    /// The parameters of `like`, or others.
    fn codes(&mut self, x: &str, shape: [usize; 3], like: Option<f32>) {
        let scale = match like {
            Some(scale) if !self.rng.one_in(3) => scale * [1.0, 1.0, 0.5, 0.8][self.rng.below(4)],
            _ => (0.001f32 * 1.7f32.powi(self.rng.below(9) as i32)).min(0.06),
        };
        let (data_type, size) = match (self.wide, self.rng.one_in(3)) {
            (false, false) => (3, 1),
            (false, true) => (2, 1),
            (true, false) => (5, 2),
            (true, true) => (4, 2),
        };
        let zero_point = match self.rng.below(4) {
            0 => 0,
            1 => *self.rng.pick(&[-128, 127, -127]),
            _ => self.rng.below(60) as i64 - 30,
        };
        // Codes without sign have their zero in the middle of the range.
        let zero_point =
            zero_point + if matches!(data_type, 2 | 4) { 1 << (8 * size - 1) } else { 0 };
        let scale_name = self.reals(&[], &[scale]);
        let zero_name = self.constant(&[], data_type, zero_point.to_le_bytes()[..size].to_vec());
        let codes = self.call("QuantizeLinear", &[x, &scale_name, &zero_name], &[]);
        let name = self.call("DequantizeLinear", &[&codes, &scale_name, &zero_name], &[]);
        self.known.push(Known { name, shape, scale });
    }

    /// A weight with a scale, or one for each index of `axis`.
    fn weight(&mut self, shape: &[usize], axis: usize) -> String {
        let channels = if self.rng.one_in(3) { 1 } else { shape[axis] };
        let scale: Vec<f32> = (0..channels).map(|_| 0.002 + 0.01 * self.rng.unit().abs()).collect();
        let extreme = self.rng.one_in(4);
        let rng = &mut self.rng;
        let code = |_| if extreme { *rng.pick(&[127u8, 129, 128]) } else { rng.bits() as u8 };
        let codes = (0..shape.iter().product()).map(code).collect();
        let codes = self.constant(shape, 3, codes);
        let of = if channels > 1 { vec![channels] } else { vec![] };
        let scale = self.reals(&of, &scale);
        self.call("DequantizeLinear", &[&codes, &scale], &[("axis", &[axis as i64])])
    }

    /// One more node, of a kind that fits some known value.
    fn node(&mut self) {
        let i = self.rng.below(self.known.len());
        let Known { name: x, shape, scale } = self.known[i].clone();
        let [c, h, w] = shape;
        let x = x.as_str();
        let alike: Vec<Known> =
            self.known.iter().filter(|other| other.shape == shape).cloned().collect();
        let beside = |other: &&Known| other.shape[1..] == shape[1..] && other.shape[0] + c < 64;
        let beside: Vec<Known> = self.known.iter().filter(beside).cloned().collect();
        let other = self.rng.pick(&alike).name.clone();
        let like = Some(scale);
        let (y, shape, like) = match self.rng.below(17) {
            0..=3 => {
                let k = if h.min(w) >= 3 && !self.rng.one_in(3) { 3 } else { 1 };
                let pad = if k == 3 { self.rng.below(2) } else { 0 };
                let stride = 1 + self.rng.below(2);
                let depthwise = self.rng.one_in(3);
                let (out, group) = if depthwise { (c, c) } else { (1 + self.rng.below(20), 1) };
                let weight = self.weight(&[out, c / group, k, k], 0);
                let size = |n: usize| (n + 2 * pad - k) / stride + 1;
                let attributes: [(&str, &[i64]); 3] = [
                    ("group", &[group as i64]),
                    ("pads", &[pad as i64; 4]),
                    ("strides", &[stride as i64; 2]),
                ];
                let mut y = self.call("Conv", &[x, &weight], &attributes);
                if self.rng.one_in(3) {
                    y = self.call("Relu", &[&y], &[]);
                }
                (y, [out, size(h), size(w)], None)
            }
            4 => (self.call("Add", &[x, &other], &[]), shape, like),
            5 => (self.call("Mul", &[x, &other], &[]), shape, None),
            6 | 7 if !beside.is_empty() => {
                let part = self.rng.pick(&beside).clone();
                let y = self.call("Concat", &[x, &part.name], &[("axis", &[1])]);
                (y, [c + part.shape[0], h, w], like)
            }
            8 if h > 1 && w > 1 => {
                let op = *self.rng.pick(&["MaxPool", "AveragePool"]);
                (self.call(op, &[x], &[("kernel_shape", &[2, 2])]), [c, h - 1, w - 1], like)
            }
            9 => (self.call("GlobalAveragePool", &[x], &[]), [c, 1, 1], like),
            10 => {
                let op = *self.rng.pick(&["Relu", "Sigmoid", "Tanh", "HardSwish", "Neg", "Abs"]);
                (self.call(op, &[x], &[]), shape, like)
            }
            11 => {
                let (from, to) = (self.ints(&[0]), self.ints(&[c.div_ceil(2) as i64]));
                let axis = self.ints(&[1]);
                (self.call("Slice", &[x, &from, &to, &axis], &[]), [c.div_ceil(2), h, w], like)
            }
            12 => (self.call("Transpose", &[x], &[("perm", &[0, 1, 3, 2])]), [c, w, h], like),
            13 => (self.call("Transpose", &[x], &[("perm", &[0, 2, 3, 1])]), [h, w, c], like),
            14 if h < 12 && w < 12 => {
                let pads = self.ints(&[0, 0, 1, 0, 0, 0, 0, 2]);
                (self.call("Pad", &[x, &pads], &[]), [c, h + 1, w + 2], like)
            }
            15 => {
                let order = self.ints(&[1, h as i64, c as i64, w as i64]);
                (self.call("Reshape", &[x, &order], &[]), [h, c, w], like)
            }
            _ => (self.call("Softmax", &[x], &[("axis", &[1])]), shape, Some(1.0 / 256.0)),
        };
        self.codes(&y, shape, like);
    }
}
