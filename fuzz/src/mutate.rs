//! Changes to model files that keep most of a file's sense: a node more, an attribute that belongs to
//! another operator, a length that is too large, another name.

use naive_ptq::onnx::imported_types;

use crate::rng::Rng;
use crate::wire::{Kind, Message, Value, packed, unpacked};

const ATTRIBUTES: &str = "axis axes perm kernel_shape strides dilations pads group auto_pad \
    ceil_mode count_include_pad storage_order output_padding output_shape alpha beta transA transB \
    epsilon momentum mode coordinate_transformation_mode nearest_mode cubic_coeff_a exclude_outside \
    extrapolation_value antialias keep_aspect_ratio_policy keepdims noop_with_empty_axes to blocksize \
    split num_outputs starts ends steps value value_float value_int value_ints value_floats allowzero \
    approximate gamma saturate output_dtype block_size select_last_index max min fmod ratio \
    channels_last training_mode scales stash_type precision";
const WORDS: &str = "SAME_UPPER SAME_LOWER VALID NOTSET linear nearest cubic half_pixel align_corners \
    asymmetric pytorch_half_pixel tf_crop_and_resize half_pixel_symmetric floor ceil \
    round_prefer_floor round_prefer_ceil constant reflect edge wrap DCR CRD tanh none max NCHW";
const NAMES: [&str; 12] = [
    "",
    "a\nb",
    "*/",
    "same",
    "x\u{202e}y",
    "\u{1b}[31m",
    "\\",
    "??/",
    "%s",
    "x_codes",
    "x_scale",
    "x.moved",
];
const TYPES: [i64; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 22, -1];
const FLOATS: [f32; 20] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    1e-10,
    1e10,
    1e-38,
    1e-45,
    3e38,
    -3e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::EPSILON,
    1.0 / 3.0,
    1.000_000_1,
    2_147_483_648.0,
    9.223_372e18,
];

/// A change of the model file `bytes`; bytes that are no model file come back as they were.
pub fn model(bytes: &[u8], seed: u64) -> Vec<u8> {
    let Some(mut model) = Message::parse(Kind::Model, bytes) else { return bytes.to_vec() };
    let mut rng = Rng(seed);
    for _ in 0..1 + rng.below(3) {
        match rng.below(8) {
            0..=3 => one_field(&mut model, &mut rng),
            4 => insert_node(&mut model, &mut rng),
            5 => insert_codes(&mut model, &mut rng),
            6 => rename(&mut model, &mut rng),
            _ => transplant(&mut model, &mut rng),
        }
    }
    model.encode()
}

fn number(rng: &mut Rng) -> i64 {
    match rng.below(6) {
        0..=2 => rng.below(9) as i64 - 2,
        3 => rng.below(300) as i64 - 4,
        4 => (1i64 << rng.below(63)).wrapping_add(rng.below(3) as i64 - 1),
        _ => *rng.pick(&[i64::MIN, i64::MIN + 1, i64::MAX, -(1 << 31), -(1 << 62), i64::MAX - 1]),
    }
}

fn float(rng: &mut Rng) -> f32 {
    match rng.below(4) {
        0 | 1 => *rng.pick(&FLOATS),
        2 => f32::from_bits(rng.bits() as u32),
        _ => 4.0 * rng.unit(),
    }
}

fn word(list: &'static str, rng: &mut Rng) -> &'static str {
    let words = Vec::from_iter(list.split_whitespace());
    words[rng.below(words.len())]
}

fn op_type(rng: &mut Rng) -> &'static str {
    let known: Vec<&str> = imported_types().into_iter().collect();
    known[rng.below(known.len())]
}

/// The names of all values.
fn names(graph: &Message) -> Vec<Vec<u8>> {
    let mut names = vec![Vec::new()];
    for (field, value) in &graph.fields {
        let Value::Message(message) = value else { continue };
        let name = match field {
            1 => message.get(2),
            5 => message.get(8),
            11 => message.get(1),
            _ => None,
        };
        if let Some(Value::Bytes(name)) = name {
            names.push(name.clone());
        }
    }
    names
}

fn graph(model: &mut Message) -> Option<&mut Message> {
    match model.get_mut(7) {
        Some(Value::Message(graph)) => Some(graph),
        _ => None,
    }
}

/// Changes, removes, doubles or adds one field of one message.
fn one_field(model: &mut Message, rng: &mut Rng) {
    let names = graph(model).map_or_else(|| vec![Vec::new()], |graph| names(graph));
    let mut count = 0;
    model.visit(&mut |_| count += 1);
    let mut left = rng.below(count);
    model.visit(&mut |message| {
        if left == 0 {
            change(message, &names, rng);
        }
        left = left.wrapping_sub(1);
    });
}

fn change(message: &mut Message, names: &[Vec<u8>], rng: &mut Rng) {
    let len = message.fields.len();
    if len == 0 || rng.one_in(8) {
        let field = new_field(message.kind, names, rng);
        let at = rng.below(len + 1);
        return message.fields.insert(at, field);
    }
    let i = rng.below(len);
    match rng.below(12) {
        0 => drop(message.fields.remove(i)),
        1 => message.fields.insert(rng.below(len + 1), message.fields[i].clone()),
        2 => message.fields.swap(i, (i + 1) % len),
        _ => {
            let (kind, field) = (message.kind, message.fields[i].0);
            let is_raw = message.get(2) == Some(&Value::Number(1));
            new_value(kind, field, is_raw, &mut message.fields[i].1, names, rng);
        }
    }
}

/// Another value for a field, of the same sort.
fn new_value(
    kind: Kind,
    field: u64,
    of_floats: bool,
    value: &mut Value,
    names: &[Vec<u8>],
    rng: &mut Rng,
) {
    match value {
        Value::Message(_) => {}
        Value::Number(old) => {
            *old = match (kind, field) {
                (Kind::Tensor, 2) | (Kind::TensorType, 1) => *rng.pick(&TYPES) as u64,
                (Kind::Opset, 2) => rng.below(30) as u64,
                _ if rng.one_in(3) => old.wrapping_add(1),
                _ => number(rng) as u64,
            }
        }
        Value::Four(four) => *four = float(rng).to_le_bytes(),
        Value::Eight(eight) => *eight = f64::from(float(rng)).to_le_bytes(),
        Value::Bytes(bytes) => match (kind, field) {
            (Kind::Node, 4) => *bytes = op_type(rng).into(),
            (Kind::Node, 7) => {
                *bytes = rng.pick(&["", "ai.onnx", "com.microsoft"]).as_bytes().into()
            }
            (Kind::Node, 1 | 2) | (Kind::Info, 1) if !rng.one_in(8) => {
                bytes.clone_from(rng.pick(names));
            }
            (Kind::Attribute, 1) => *bytes = word(ATTRIBUTES, rng).into(),
            (Kind::Attribute, 4) => *bytes = word(WORDS, rng).into(),
            (Kind::Attribute, 8) | (Kind::Tensor, 1 | 5 | 7) => {
                let mut numbers = unpacked(bytes);
                let i = rng.below(numbers.len());
                match rng.below(6) {
                    0 => numbers.insert(i, number(rng)),
                    1 if !numbers.is_empty() => drop(numbers.remove(i)),
                    2 => numbers.reverse(),
                    _ => numbers.iter_mut().skip(i).take(1).for_each(|n| *n = number(rng)),
                }
                *value = packed(&numbers);
            }
            (Kind::Attribute, 7) | (Kind::Tensor, 4 | 9) => elements(bytes, of_floats, rng),
            _ => *bytes = rng.pick(&NAMES).as_bytes().into(),
        },
    }
}

/// Changes one element of a tensor, or all, or their number.
fn elements(bytes: &mut Vec<u8>, of_floats: bool, rng: &mut Rng) {
    let size = if of_floats { 4 } else { *rng.pick(&[1, 2, 4, 8]) };
    let element = |rng: &mut Rng| match of_floats {
        true => float(rng).to_le_bytes().to_vec(),
        false => number(rng).to_le_bytes()[..size].to_vec(),
    };
    let at = rng.below(bytes.len() / size);
    match rng.below(6) {
        0 => drop(bytes.pop()),
        1 => bytes.extend(element(rng)),
        2 => {
            let all = element(rng);
            bytes.chunks_exact_mut(size).for_each(|chunk| chunk.copy_from_slice(&all));
        }
        _ => {
            let one = element(rng);
            let chunks = bytes.chunks_exact_mut(size).skip(at);
            chunks.take(1).for_each(|chunk| chunk.copy_from_slice(&one));
        }
    }
}

/// A field that such a message can have.
fn new_field(kind: Kind, names: &[Vec<u8>], rng: &mut Rng) -> (u64, Value) {
    let name = Value::Bytes(rng.pick(names).clone());
    match kind {
        Kind::Model => (8, Message::new(Kind::Opset, [(2, (rng.below(30) as i64).into())]).into()),
        Kind::Graph if rng.one_in(2) => (12, Message::new(Kind::Info, [(1, name)]).into()),
        Kind::Graph => (5, tensor(&format!("t{}", rng.below(100)), rng).into()),
        Kind::Node if rng.one_in(2) => (5, attribute(rng).into()),
        Kind::Node => (1, name),
        Kind::Attribute => {
            let mut fields = attribute(rng).fields;
            fields.swap_remove(rng.below(fields.len()))
        }
        Kind::Tensor => {
            let mut fields = tensor("t", rng).fields;
            fields.swap_remove(rng.below(fields.len()))
        }
        Kind::Shape => (1, Message::new(Kind::Axis, [(1, number(rng).into())]).into()),
        _ => (1 + rng.below(8) as u64, number(rng).into()),
    }
}

fn attribute(rng: &mut Rng) -> Message {
    let (sort, field, value) = match rng.below(6) {
        0 => (1, 2, Value::Four(float(rng).to_le_bytes())),
        1 | 2 => (2, 3, number(rng).into()),
        3 => (3, 4, word(WORDS, rng).into()),
        4 => (4, 5, tensor("", rng).into()),
        _ => {
            let numbers: Vec<i64> = (0..rng.below(6)).map(|_| number(rng)).collect();
            (7, 8, packed(&numbers))
        }
    };
    let name = word(ATTRIBUTES, rng).into();
    Message::new(Kind::Attribute, [(1, name), (field, value), (20, sort.into())])
}

/// A small tensor that is right.
fn tensor(name: &str, rng: &mut Rng) -> Message {
    let dims: Vec<i64> = (0..rng.below(5)).map(|_| 1 + rng.below(5) as i64).collect();
    let count = dims.iter().product::<i64>();
    let data_type = *rng.pick(&[1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7, 9, 11]);
    let is_wild = rng.one_in(4);
    let element = |_| match data_type {
        1 if is_wild => float(rng).to_le_bytes().to_vec(),
        1 => rng.unit().to_le_bytes().to_vec(),
        11 => f64::from(float(rng)).to_le_bytes().to_vec(),
        7 if is_wild => number(rng).to_le_bytes().to_vec(),
        7 => (rng.below(5) as i64).to_le_bytes().to_vec(),
        6 => (rng.bits() as i32 >> 16).to_le_bytes().to_vec(),
        4 | 5 => (rng.bits() as i16).to_le_bytes().to_vec(),
        _ => vec![rng.bits() as u8],
    };
    let raw = (0..count).flat_map(element).collect();
    let fields =
        [(1, packed(&dims)), (2, data_type.into()), (8, name.into()), (9, Value::Bytes(raw))];
    Message::new(Kind::Tensor, fields)
}

/// Lets the readers behind node `at` read `new` instead of `old`.
fn redirect(graph: &mut Message, at: usize, old: &[u8], new: &str) {
    for &i in &graph.places(1)[at..] {
        let Value::Message(node) = &mut graph.fields[i].1 else { continue };
        for input in node.places(1) {
            if node.fields[input].1 == Value::Bytes(old.into()) {
                node.fields[input].1 = new.into();
            }
        }
    }
}

/// Puts `nodes` before node `at`.
fn insert<const N: usize>(graph: &mut Message, at: usize, nodes: [Message; N]) {
    let place = graph.places(1).get(at).copied().unwrap_or(graph.fields.len());
    graph.fields.splice(place..place, nodes.map(|node| (1, node.into())));
}

/// A node of any type behind any value.
fn insert_node(model: &mut Message, rng: &mut Rng) {
    let Some(graph) = graph(model) else { return };
    let (names, at) = (names(graph), rng.below(graph.places(1).len() + 1));
    let (x, y) = (rng.pick(&names).clone(), format!("n{}", rng.below(1 << 20)));
    let mut node = Message::new(Kind::Node, [(4, op_type(rng).into()), (2, y.as_str().into())]);
    node.fields.push((1, Value::Bytes(x.clone())));
    for _ in 0..rng.below(3) {
        node.fields.push((1, Value::Bytes(rng.pick(&names).clone())));
    }
    if rng.one_in(3) {
        let name = format!("{y}_constant");
        node.fields.push((1, name.as_str().into()));
        graph.fields.push((5, tensor(&name, rng).into()));
    }
    if rng.one_in(3) {
        node.fields.push((5, attribute(rng).into()));
    }
    redirect(graph, at, &x, &y);
    insert(graph, at, [node]);
}

/// A pair of QuantizeLinear and DequantizeLinear behind any value.
fn insert_codes(model: &mut Message, rng: &mut Rng) {
    let Some(graph) = graph(model) else { return };
    let (x, at) = (rng.pick(&names(graph)).clone(), rng.below(graph.places(1).len() + 1));
    let y = format!("n{}", rng.below(1 << 20));
    let part = |what: &str| Value::from(format!("{y}_{what}").as_str());
    let scale = if rng.one_in(3) { float(rng) } else { 0.02 };
    let (data_type, size) = *rng.pick(&[(2i64, 1), (3, 1), (3, 1), (4, 2), (5, 2)]);
    let zero_point = number(rng).to_le_bytes()[..size].to_vec();
    let constants = [("scale", 1, scale.to_le_bytes().to_vec()), ("zero", data_type, zero_point)];
    for (what, data_type, raw) in constants {
        let fields = [(2, data_type.into()), (8, part(what)), (9, Value::Bytes(raw))];
        graph.fields.push((5, Message::new(Kind::Tensor, fields).into()));
    }
    let node = |op: &str, x, y| {
        let inputs = [(1, x), (1, part("scale")), (1, part("zero"))];
        let [x, scale, zero] = inputs;
        Message::new(Kind::Node, [(4, op.into()), x, scale, zero, (2, y)])
    };
    redirect(graph, at, &x, &y);
    let quantize = node("QuantizeLinear", Value::Bytes(x), part("codes"));
    insert(graph, at, [quantize, node("DequantizeLinear", part("codes"), y.as_str().into())]);
}

/// Another name for a value, everywhere.
fn rename(model: &mut Message, rng: &mut Rng) {
    let Some(graph) = graph(model) else { return };
    let (old, new) = (rng.pick(&names(graph)).clone(), Value::from(*rng.pick(&NAMES)));
    graph.visit(&mut |message| {
        let fields: &[u64] = match message.kind {
            Kind::Node => &[1, 2],
            Kind::Tensor => &[8],
            Kind::Info => &[1],
            _ => &[],
        };
        for (field, value) in &mut message.fields {
            if fields.contains(field) && *value == Value::Bytes(old.clone()) {
                *value = new.clone();
            }
        }
    });
}

/// One message takes the place of another of its kind.
fn transplant(model: &mut Message, rng: &mut Rng) {
    let mut all = Vec::new();
    model.visit(&mut |message| all.push(message.clone()));
    let Some(from) = all.get(1 + rng.below(all.len() - 1)).cloned() else { return };
    let alike = all.iter().filter(|message| message.kind == from.kind).count();
    let mut left = rng.below(alike);
    model.visit(&mut |message| {
        if message.kind == from.kind {
            if left == 0 {
                *message = from.clone();
            }
            left = left.wrapping_sub(1);
        }
    });
}

/// A change of bytes that are no model: some of them, a number in text, or their number.
pub fn bytes(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + rng.below(3) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(8)).min(bytes.len());
        let from = rng.below(bytes.len());
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, (0..6).map(|_| rng.bits() as u8)).for_each(drop),
            3 => bytes.splice(at..end, number(rng).to_string().bytes()).for_each(drop),
            4 => bytes.splice(at..end, format!("{:e}", float(rng)).bytes()).for_each(drop),
            5 => bytes.extend_from_within(from..),
            _ => bytes[at..end]
                .iter_mut()
                .for_each(|byte| *byte = *rng.pick(&[0, 1, 127, 128, 255, b'9'])),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}
