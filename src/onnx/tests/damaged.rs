//! Files that were whole once.

use proptest::prelude::*;

use super::*;
use crate::Error;
use crate::ops::Op;
use crate::tensor::{SEEN, Tensor};
use crate::testing::exec::float::FloatExecutor;
use crate::testing::exec::int::IntExecutor;

/// Reads, prepares, lowers and runs; whatever happens, it happens without a panic, and without much work.
pub fn survive(bytes: &[u8]) -> Result<()> {
    let before = SEEN.get();
    let result = survive_at_leisure(bytes);
    let seen = SEEN.get() - before;
    assert!(seen < 1 << 28, "{seen} elements and nodes were looked at");
    if let Err(mut error) = result.as_ref() {
        // Beside the node's name stands its type, which is the file's, too.
        while let Error::InNode { error: inner, .. } = error {
            error = inner;
        }
        assert!(is_plain(&error.to_string()), "{error}");
    }
    result
}

/// Whether a message is one line in our words: beside names, which stand in quotes, nothing is written as Rust
/// writes it to debug.
fn is_plain(message: &str) -> bool {
    if message.matches('"').count() % 2 == 1 {
        return true; // a quote is part of a name
    }
    let ours = message.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let word_before = |at: usize| ours[..at].rsplit(|c: char| !c.is_alphanumeric()).next();
    let is_type = |at: usize| word_before(at).is_some_and(|w| w.starts_with(char::is_uppercase));
    let debug = ["(", " {"].iter().any(|open| ours.match_indices(open).any(|(at, _)| is_type(at)));
    let words: Vec<&str> = ours.split(|c: char| !c.is_alphanumeric()).collect();
    let numbered = |w: &[&str]| w[0] != "unknown" && w[1] == "type" && w[2].parse::<i64>().is_ok();
    let begin = message.chars().next().is_some_and(|c| !c.is_uppercase());
    begin
        && message.lines().count() == 1
        && !debug
        && !words.contains(&"None")
        && !words.windows(3).any(numbered)
}

#[test]
fn what_is_no_plain_message() {
    for good in ["in node \"Some(1)\" (Conv): axis 2 of shape [1, 2]", "unsupported: IR version 0"]
    {
        assert!(is_plain(good), "{good}");
    }
    for bad in [
        "",
        "Expected 2 inputs",
        "limits Some([1.0]) and inf",
        "28, not None",
        "made of data type 2",
        "axis Dimension { value: 3 }",
        "two\nlines",
    ] {
        assert!(!is_plain(bad), "{bad}");
    }
}

fn survive_at_leisure(bytes: &[u8]) -> Result<()> {
    let mut graph = import(bytes, None)?;
    crate::testing::quantize::prepare(&mut graph)?;
    graph.check()?;
    let size = |g: &Graph| g.values.iter().map(|v| v.shape.iter().product::<usize>()).max();
    if size(&graph) > Some(1 << 20) {
        return Ok(());
    }
    let zeros = |shape: &[usize]| Tensor::new(shape, vec![0.0; shape.iter().product()]);
    let inputs = graph.inputs.iter().map(|&v| zeros(&graph.values[v].shape));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    FloatExecutor::new(&graph).run(&inputs, |_, _| Ok(()))?;
    if graph.has_codes() {
        let integer = lower(&graph)?;
        IntExecutor::new(&integer).run(&inputs)?;
    }
    import(&export(&graph), None).expect("what was accepted, once it is written");
    Ok(())
}

/// Convolution, pooling and sum, quantized.
fn small() -> Vec<u8> {
    let pair = |i: &str, codes: &str, o: &str| {
        [
            node("QuantizeLinear", &[i, "s", "z"], codes),
            node("DequantizeLinear", &[codes, "s", "z"], o),
        ]
    };
    let mut nodes = vec![node("DequantizeLinear", &["w", "ws", "wz"], "wd").with(int("axis", 0))];
    nodes.extend(pair("x", "xq", "xd"));
    nodes.push(
        node("Conv", &["xd", "wd"], "c").with(ints("pads", &[1; 4])).with(ints("strides", &[2; 2])),
    );
    nodes.extend(pair("c", "cq", "cd"));
    nodes.push(node("AveragePool", &["cd"], "p").with(ints("kernel_shape", &[2; 2])));
    nodes.extend(pair("p", "pq", "pd"));
    nodes.push(node("Add", &["pd", "pd"], "a"));
    nodes.extend(pair("a", "aq", "y"));
    let initializers = vec![
        int8("w", &[2, 2, 3, 3], &[5; 36]),
        real("ws", &[2], &[0.25, 0.5]),
        int8("wz", &[2], &[0; 2]),
        real("s", &[], &[0.5]),
        int8("z", &[], &[3]),
    ];
    model(nodes, initializers).encode_to_vec()
}

fn fashion() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/fashion/float.onnx");
    std::fs::read(path).unwrap()
}

#[test]
fn truncated_models() {
    let whole = small();
    survive(&whole).unwrap();
    for len in 0..whole.len() {
        assert!(survive(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
    let whole = fashion();
    for len in (0..whole.len()).step_by(whole.len() / 300) {
        assert!(survive(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn flipped_bits(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4)) {
        let mut bytes = small();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = survive(&bytes);
    }

    #[test]
    fn replaced_bytes(at: prop::sample::Index, with in prop::collection::vec(any::<u8>(), 1..12)) {
        let mut bytes = small();
        let at = at.index(bytes.len() - with.len());
        bytes[at..at + with.len()].copy_from_slice(&with);
        let _ = survive(&bytes);
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = survive(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Most of the file is weights; its structure is at both ends of each of them.
    #[test]
    fn flipped_bits_of_a_network(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..20)) {
        let mut bytes = fashion();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = survive(&bytes);
    }
}

/// What no exporter writes: any operator with any attributes and arguments, some of them absurd.
fn any_node() -> impl Strategy<Value = NodeProto> {
    const OTHERS: &str = "And Cast Ceil Constant ConstantOfShape Dropout Equal Expand Gather Greater \
        DepthToSpace GlobalMaxPool Identity Max Min Mod Not Pow Range ReduceL2 ReduceMax ReduceMean ReduceSum Shape Size SpaceToDepth Split Squeeze Sum Unsqueeze \
        Where QuantizeLinear DequantizeLinear";
    const INTS: &str = "axes dilations ends kernel_shape output_padding output_shape pads perm shape \
        split starts steps strides value_ints";
    const INT: &str = "allowzero axis blocksize ceil_mode count_include_pad end group keepdims \
        num_groups num_outputs p start storage_order to transA transB value_int";
    const TEXT: &str = "approximate auto_pad coordinate_transformation_mode mode nearest_mode";
    const TEXTS: &str = "SAME_UPPER SAME_LOWER VALID CRD align_corners asymmetric bilinear constant \
        edge floor linear nearest reflect tanh";
    const ARGUMENTS: &str = "x x x x w v s n sizes huge one minus none nothing";
    let one_of =
        |words: &'static str| prop::sample::select(words.split_whitespace().collect::<Vec<&str>>());

    let number = prop_oneof![
        4 => -1..5i64,
        1 => prop::sample::select(vec![i64::MIN, -(1 << 32), -7, 1 << 20, (1 << 24) - 1, 1 << 32, i64::MAX]),
    ];
    let numbers = prop::collection::vec(number.clone(), 0..6);
    let attribute = prop_oneof![
        3 => (one_of(INTS), numbers).prop_map(|(name, list)| ints(name, &list)),
        2 => (one_of(INT), number).prop_map(|(name, i)| int(name, i)),
        1 => (one_of(TEXT), one_of(TEXTS)).prop_map(
            |(name, text)| AttributeProto { s: Some(text.into()), r#type: at::STRING, ..int(name, 0) }
        ),
    ];
    let op_types: Vec<&str> = Op::onnx_types().chain(OTHERS.split_whitespace()).collect();
    let arguments =
        prop::collection::vec(prop_oneof![20 => one_of(ARGUMENTS), 1 => Just("")], 0..5);
    let attributes = prop::collection::vec(attribute, 0..4);
    (prop::sample::select(op_types), arguments, attributes).prop_map(
        |(op_type, mut arguments, attribute)| {
            arguments.insert(0, "x");
            NodeProto { attribute, ..node(op_type, &arguments, "y") }
        },
    )
}

/// A model of that node, with one input of this rank and constants of all kinds.
fn absurd(node: NodeProto, opset_version: i64, rank: usize) -> Vec<u8> {
    let list = |list: &[i64]| list.iter().flat_map(|i| i.to_le_bytes()).collect();
    let constants = vec![
        real("w", &[2, 2, 3, 3], &[0.5; 36]),
        real("v", &[2], &[1.0, -2.0]),
        real("s", &[], &[3.0]),
        real("n", &[4], &[f32::NAN, f32::INFINITY, 0.0, -1.0]),
        tensor("sizes", dt::INT64, &[4], list(&[1, 2, 4, 4])),
        tensor("huge", dt::INT64, &[2], list(&[i64::MAX, i64::MIN])),
        tensor("one", dt::INT64, &[1], list(&[1])),
        tensor("minus", dt::INT64, &[], list(&[-1])),
        tensor("none", dt::INT64, &[0], vec![]),
        real("nothing", &[0], &[]),
    ];
    let mut model = model(vec![node], constants);
    model.opset_import = vec![opset("", opset_version)];
    graph(&mut model).input = vec![value("x", &[1, 2, 4, 4, 3][..rank])];
    model.encode_to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn absurd_nodes(node in any_node(), opset_version in 7..29i64, rank in 0..6usize) {
        let _ = survive(&absurd(node, opset_version, rank));
    }
}
