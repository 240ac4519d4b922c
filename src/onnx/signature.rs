//! How many inputs and outputs the operator types of ONNX have: what a node has beyond them is refused, not
//! ignored. (Of attributes each operator takes what it knows; what is left is refused, too.)

use std::ops::RangeInclusive;

use super::proto::NodeProto;
use crate::error::{Result, bail};

/// Versions of the operator set that are known.
pub const OPSETS: RangeInclusive<i64> = 7..=28;

/// Any number, but at least one.
const MANY: RangeInclusive<usize> = 1..=usize::MAX;

/// Number of inputs of a node of type `op_type`, in this version of the operator set; `None` for a type
/// that is not known.
pub fn inputs(op_type: &str, opset: i64) -> Option<RangeInclusive<usize>> {
    Some(match (op_type, opset) {
        ("Constant", _) => 0..=0,
        ("Clip", 11..) | ("Dropout", 12..) => 1..=3,
        ("Pad", 11..18) => 2..=3,
        ("Pad", 18..) => 2..=4,
        ("Resize", ..11) | ("Upsample", 9..) | ("Unsqueeze", 13..) => 2..=2,
        ("Resize", ..13) => 3..=4,
        ("Resize", _) => 1..=4,
        ("Gemm", ..11) => 3..=3,
        (
            "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
            | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSumSquare",
            18..,
        ) => 1..=2,
        ("TopK", 10..) => 2..=2,
        ("ReduceSum" | "Split" | "Squeeze", 13..) => 1..=2,
        ("Slice", 10..) => 3..=5,
        (
            "Abs" | "Acos" | "Acosh" | "ArgMax" | "ArgMin" | "Asin" | "Asinh" | "Atan" | "Atanh"
            | "BitwiseNot" | "ConcatFromSequence" | "Cosh" | "EyeLike" | "Hardmax" | "If" | "IsInf"
            | "IsNaN" | "Mish" | "NonZero" | "ReduceL1" | "ReduceLogSum" | "ReduceLogSumExp"
            | "ReduceSumSquare" | "SequenceLength" | "Sinh" | "Softsign" | "Tan" | "TopK"
            | "Unique" | "Celu" | "Cos" | "Selu" | "Sign" | "Sin" | "AveragePool" | "Cast" | "Ceil"
            | "Clip" | "ConstantOfShape" | "DepthToSpace" | "Dropout" | "Elu" | "Erf" | "Exp"
            | "Flatten" | "Floor" | "Gelu" | "GlobalAveragePool" | "GlobalMaxPool" | "HardSigmoid"
            | "HardSwish" | "Identity" | "LeakyRelu" | "Log" | "LogSoftmax" | "LpNormalization"
            | "MaxPool" | "Neg" | "Not" | "Pad" | "Reciprocal" | "ReduceL2" | "ReduceMax"
            | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "Relu" | "Round" | "Shape"
            | "Sigmoid" | "Size" | "Slice" | "Softmax" | "Softplus" | "SpaceToDepth" | "Split"
            | "Sqrt" | "Squeeze" | "Tanh" | "Transpose" | "Unsqueeze" | "Upsample",
            _,
        ) => 1..=1,
        (
            "Add" | "And" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "CastLike"
            | "Compress" | "CumProd" | "CumSum" | "GatherElements" | "GatherND" | "GreaterOrEqual"
            | "LessOrEqual" | "ReverseSequence" | "SequenceAt" | "Tile" | "Xor" | "Div" | "Equal"
            | "Expand" | "Gather" | "Greater" | "Less" | "MatMul" | "Mod" | "Mul" | "Or" | "PRelu"
            | "Pow" | "RMSNormalization" | "Reshape" | "Sub",
            _,
        ) => 2..=2,
        (
            "Conv" | "ConvTranspose" | "DequantizeLinear" | "Gemm" | "LayerNormalization"
            | "QuantizeLinear",
            _,
        ) => 2..=3,
        ("BipolarQuant", _) => 2..=2,
        ("GRU" | "RNN", _) => 3..=6,
        ("IntQuant" | "Quant", _) => 4..=4,
        ("LSTM", _) => 3..=8,
        ("MatMulInteger", _) => 2..=4,
        ("SplitToSequence" | "Trilu", _) => 1..=2,
        (
            "GroupNormalization"
            | "InstanceNormalization"
            | "OneHot"
            | "Range"
            | "Scatter"
            | "ScatterElements"
            | "ScatterND"
            | "Where",
            _,
        ) => 3..=3,
        ("BatchNormalization", _) => 5..=5,
        ("Concat" | "Einsum" | "Max" | "Mean" | "Min" | "SequenceConstruct" | "Sum", _) => MANY,
        ("QGemm", _) => 6..=9,
        ("QLinearAdd" | "QLinearMul", _) => 7..=8,
        (
            "QLinearAveragePool"
            | "QLinearGlobalAveragePool"
            | "QLinearLeakyRelu"
            | "QLinearSigmoid"
            | "QLinearSoftmax",
            _,
        ) => 4..=5,
        ("QLinearConcat", _) => 5..=usize::MAX,
        ("QLinearConv", _) => 8..=9,
        ("QLinearMatMul", _) => 8..=8,
        _ => return None,
    })
}

/// Largest number of outputs, used or not, of a node of this type.
pub fn outputs(op_type: &str, opset: i64) -> usize {
    match (op_type, opset) {
        ("If" | "Split", _) => usize::MAX,
        ("LSTM", _) => 3,
        ("GRU" | "RNN" | "TopK", _) => 2,
        ("Unique", _) => 4,
        ("BatchNormalization", ..14) => 5,
        ("BatchNormalization" | "LayerNormalization", _) => 3,
        ("MaxPool", ..8) => 1,
        ("Dropout" | "MaxPool", _) => 2,
        _ => 1,
    }
}

/// Refuses a node with fewer or more inputs than its type has, or more outputs.
pub(super) fn check(proto: &NodeProto, opset: i64) -> Result<()> {
    let Some(inputs) = inputs(&proto.op_type, opset) else { return Ok(()) };
    // Those that are absent may be left out, or called "".
    let given = proto.input.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    if given < *inputs.start() {
        bail!(Invalid, "expected at least {} inputs, got {given}", inputs.start());
    }
    if let Some(surplus) = proto.input[..given].get(*inputs.end()) {
        let expected = inputs.end();
        bail!(Invalid, "input \"{surplus}\" is one too many: expected {expected}, got {given}");
    }
    if let Some(surplus) = proto.output.get(outputs(&proto.op_type, opset)) {
        bail!(Invalid, "output \"{surplus}\" is one too many");
    }
    Ok(())
}
