"""Small models of every operator, and what ONNX Runtime computes with them.

    onnx_operators.py make FOLDER    writes NAME.onnx, NAME.x.npy, NAME.y.npy for every case, the models
                                     with external data, and index.json
    onnx_operators.py run FOLDER     runs NAME.int8.onnx on NAME.x.npy, writes NAME.int8.npy
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SAMPLES = 8
OPSETS = [7, 9, 11, 13, 17, 21]
random = np.random.default_rng(20)


def real(*shape):
    return random.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def node(op, *constants, inputs="x", **attributes):
    """A node with the data first, then constants; `None` leaves an argument out."""
    return op, inputs, constants, attributes


def constant(**value):
    return helper.make_node("Constant", [], ["c"], **value)


# Name, shape of a sample, node, first and last operator set.
IMAGE = (2, 7, 6)
CASES = []


def case(name, shape, *nodes, opsets=(7, 99), extra=(), integers=None):
    """`integers`: type, least and largest of those that the input is made of."""
    CASES.append((name, shape, nodes, opsets, extra, integers))


def conv_cases():
    w, b = real(4, 2, 3, 3), real(4)
    for name, attributes in {
        "plain": {},
        "kernel_shape": dict(kernel_shape=[3, 3]),
        "stride": dict(strides=[2, 3]),
        "pads": dict(pads=[1, 0, 2, 1]),
        "wide_pads": dict(pads=[4, 4, 4, 4]),
        "same_upper": dict(auto_pad="SAME_UPPER", strides=[2, 2]),
        "same_lower": dict(auto_pad="SAME_LOWER", strides=[2, 2]),
        "same_upper_1": dict(auto_pad="SAME_UPPER"),
        "same_lower_3": dict(auto_pad="SAME_LOWER", strides=[3, 1]),
        "valid": dict(auto_pad="VALID", strides=[2, 1]),
        "notset": dict(auto_pad="NOTSET", pads=[1, 1, 1, 1]),
        "dilation": dict(dilations=[3, 2], pads=[2, 1, 2, 1]),
    }.items():
        case(f"conv_{name}", IMAGE, node("Conv", w, b, **attributes))
    case("conv_no_bias", IMAGE, node("Conv", w))
    case("conv_even_kernel", IMAGE, node("Conv", real(3, 2, 2, 4), real(3), auto_pad="SAME_UPPER"))
    case("conv_1x1", IMAGE, node("Conv", real(5, 2, 1, 1), real(5)))
    case("conv_1x1_stride", IMAGE, node("Conv", real(5, 2, 1, 1), strides=[2, 2]))
    case("conv_group", (4, 5, 5), node("Conv", real(6, 2, 3, 3), real(6), group=2))
    case("conv_depthwise", (4, 5, 5), node("Conv", real(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]))
    case("conv_multiplier", (4, 5, 5), node("Conv", real(8, 1, 3, 3), real(8), group=4))
    case("conv_whole", (3, 5, 5), node("Conv", real(4, 3, 5, 5), real(4)))
    case("conv_relu", IMAGE, node("Conv", w, b), node("Relu"))
    case("conv_add", IMAGE, node("Conv", w), node("Add", real(4, 1, 1)))


def batch_norm_cases():
    parameters = [real(2), real(2), real(2), np.abs(real(2)) + np.float32(0.1)]
    case("batch_norm", IMAGE, node("BatchNormalization", *parameters), opsets=(9, 99))
    case("batch_norm_7", IMAGE, node("BatchNormalization", *parameters), opsets=(7, 8))
    norm = node("BatchNormalization", *parameters, epsilon=0.01, momentum=0.8)
    case("batch_norm_epsilon", IMAGE, norm, opsets=(7, 99))
    case("conv_batch_norm", IMAGE, node("Conv", real(2, 2, 3, 3), real(2)), norm, opsets=(7, 99))
    case("batch_norm_conv", IMAGE, norm, node("Conv", real(2, 2, 3, 3), real(2)), opsets=(7, 99))
    case("gemm_batch_norm", (3,), node("Gemm", real(3, 2), real(2)), norm, opsets=(7, 99))


def limit_cases():
    case("relu", IMAGE, node("Relu"))
    case("clip_6", IMAGE, node("Clip", min=-0.5, max=0.75), opsets=(7, 10))
    case("clip_6_max", IMAGE, node("Clip", max=0.75), opsets=(7, 10))
    lo, hi = np.float32(-0.5), np.float32(0.75)
    case("clip", IMAGE, node("Clip", lo, hi), opsets=(11, 99))
    case("clip_min", IMAGE, node("Clip", lo), opsets=(11, 99))
    case("clip_max", IMAGE, node("Clip", None, hi), opsets=(11, 99))
    case("clip_none", IMAGE, node("Clip"), opsets=(11, 99))
    case("conv_clip", IMAGE, node("Conv", real(2, 2, 3, 3)), node("Clip", lo, hi), opsets=(11, 99))
    case("relu_relu6", IMAGE, node("Relu"), node("Clip", np.float32(0), np.float32(6)), opsets=(11, 99))


def pool_cases():
    for op in "MaxPool", "AveragePool":
        for name, first, attributes in [
            ("plain", 7, {}),
            ("stride", 7, dict(strides=[2, 1])),
            ("pads", 7, dict(pads=[1, 0, 1, 1])),
            ("same_upper", 7, dict(auto_pad="SAME_UPPER", strides=[2, 2])),
            ("same_lower", 7, dict(auto_pad="SAME_LOWER", strides=[2, 2])),
            ("valid", 7, dict(auto_pad="VALID", strides=[2, 2])),
            ("ceil", 10, dict(ceil_mode=1, strides=[2, 2])),
            ("ceil_pads", 10, dict(ceil_mode=1, strides=[2, 2], pads=[1, 1, 1, 1])),
        ]:
            pool = node(op, kernel_shape=[3, 2], **attributes)
            case(f"{op.lower()}_{name}", IMAGE, pool, opsets=(first, 99))
    for name, first, attributes in [
        ("pads", 7, dict(pads=[1, 0, 1, 1])),
        ("same_upper", 7, dict(auto_pad="SAME_UPPER", strides=[2, 2])),
        ("ceil", 19, dict(ceil_mode=1, strides=[2, 2], pads=[1, 1, 1, 1])),
    ]:
        pool = node("AveragePool", kernel_shape=[3, 3], count_include_pad=1, **attributes)
        case(f"averagepool_counted_{name}", IMAGE, pool, opsets=(first, 99))
    dilated = node("MaxPool", kernel_shape=[2, 3], dilations=[3, 2])
    case("maxpool_dilation", IMAGE, dilated, opsets=(10, 99))
    case("averagepool_8x8", (3, 8, 8), node("AveragePool", kernel_shape=[8, 8]))
    case("globalaveragepool", (5, 4, 3), node("GlobalAveragePool"))


def sequence_cases():
    x, w = (3, 17), real(4, 3, 3)
    for name, attributes in {
        "plain": {},
        "stride": dict(strides=[2], pads=[2, 1]),
        "dilation": dict(dilations=[3], pads=[6, 0]),
        "same_upper": dict(auto_pad="SAME_UPPER", strides=[2]),
        "same_lower": dict(auto_pad="SAME_LOWER"),
    }.items():
        case(f"sequence_conv_{name}", x, node("Conv", w, real(4), **attributes), node("Relu"))
    case("sequence_depthwise", x, node("Conv", real(6, 1, 3), group=3), node("Add", real(6, 1)))
    case("sequence_conv_transpose", x, node("ConvTranspose", real(3, 2, 4), strides=[2], pads=[1, 1], output_padding=[1]))
    case("sequence_max_pool", x, node("MaxPool", kernel_shape=[3], strides=[2], pads=[1, 0]))
    case("sequence_average_pool", x, node("AveragePool", kernel_shape=[3], strides=[2], pads=[1, 1]))
    case("sequence_global_pool", x, node("Conv", w), node("GlobalAveragePool"), node("Flatten"))
    case("sequence_global_max_pool", x, node("Conv", w), node("GlobalMaxPool"))
    norm = node("BatchNormalization", *(real(4) for _ in range(3)), np.abs(real(4)))
    case("sequence_batch_norm", x, node("Conv", w), norm)
    case("sequence_batch_norm_alone", (4, 9), norm)
    case("sequence_pad", x, node("Pad", ints(0, 0, 4, 0, 0, 0)), node("Conv", w, dilations=[2]), opsets=(11, 99))
    case("sequence_channels_last", (17, 3), node("Transpose", perm=[0, 2, 1]), node("Conv", w), node("Transpose", perm=[0, 2, 1]))
    scales = np.array([1, 1, 2.5], np.float32)
    case("sequence_resize", x, node("Resize", real(0), scales, mode="linear"), opsets=(11, 99))


def shape_cases():
    case("flatten", IMAGE, node("Flatten"))
    case("flatten_1", IMAGE, node("Flatten", axis=1))
    case("flatten_minus", IMAGE, node("Flatten", axis=-3), opsets=(11, 99))
    case("flatten_of_2", (5,), node("Flatten"))
    case("reshape", IMAGE, node("Reshape", ints(-1, 14, 6)))
    case("reshape_0", IMAGE, node("Reshape", ints(0, 0, -1)))
    case("reshape_0_0", IMAGE, node("Reshape", ints(0, -1, 0, 3)))
    case("reshape_allowzero", IMAGE, node("Reshape", ints(-1, 84), allowzero=1), opsets=(14, 99))
    case("reshape_conv", (84,), node("Reshape", ints(-1, 2, 7, 6)), node("Conv", real(2, 2, 3, 3)))
    for name, shape, perm in [
        ("last", IMAGE, [0, 2, 3, 1]),
        ("first", IMAGE, [0, 3, 1, 2]),
        ("swap", IMAGE, [0, 1, 3, 2]),
        ("same", IMAGE, [0, 1, 2, 3]),
        ("of_3", (3, 4), [0, 2, 1]),
    ]:
        case(f"transpose_{name}", shape, node("Transpose", perm=perm))
    case("conv_transpose", IMAGE, node("Conv", real(3, 2, 3, 3)), node("Transpose", perm=[0, 2, 3, 1]))
    case("transpose_conv", (7, 6, 2), node("Transpose", perm=[0, 3, 1, 2]), node("Conv", real(3, 2, 3, 3)))
    case("conv_flatten", IMAGE, node("Conv", real(3, 2, 3, 3)), node("Flatten"))
    case("identity", IMAGE, node("Identity"), node("Relu"))
    case("identity_last", IMAGE, node("Relu"), node("Identity"))
    case("dropout_7", IMAGE, node("Dropout", ratio=0.3), node("Relu"), opsets=(7, 11))
    case("dropout", IMAGE, node("Dropout", np.float32(0.3)), node("Relu"), opsets=(12, 99))
    case("dropout_off", IMAGE, node("Dropout", np.float32(0.3), np.array(False)), node("Relu"), opsets=(12, 99))


def sum_cases():
    for name, shape in {"channel": (2, 1, 1), "row": (6,), "column": (7, 1), "number": (), "image": (1, 2, 7, 6)}.items():
        case(f"add_{name}", IMAGE, node("Add", real(*shape)))
    case("add_first", IMAGE, node("Add", real(2, 1, 1), inputs="cx"))
    case("add_twice", IMAGE, node("Add", inputs="xx"))
    case("add_of_2", (5,), node("Add", real(5)))
    pool = node("GlobalAveragePool")
    case("add_broadcast", IMAGE, pool, node("Add", inputs="xi"))
    case("add_residual", IMAGE, node("Conv", real(2, 2, 1, 1)), node("Add", inputs="xi"), node("Relu"))


def linear_cases():
    w, b = real(5, 3), real(3)
    for name, constants, attributes in [
        ("plain", [w, b], {}),
        ("trans_b", [real(3, 5), b], dict(transB=1)),
        ("alpha", [w, b], dict(alpha=0.5)),
        ("beta", [w, b], dict(beta=-2.0)),
        ("alpha_beta", [real(3, 5), b], dict(alpha=1.5, beta=0.25, transB=1)),
        ("c_row", [w, real(1, 3)], {}),
        ("c_one", [w, real(1)], {}),
        ("c_number", [w, real()], {}),
        ("c_one_one", [w, real(1, 1)], dict(beta=3.0)),
    ]:
        case(f"gemm_{name}", (5,), node("Gemm", *constants, **attributes))
    case("gemm_no_c", (5,), node("Gemm", w), opsets=(11, 99))
    case("gemm_relu", (5,), node("Gemm", w, b), node("Relu"))
    case("matmul", (5,), node("MatMul", w))
    case("matmul_add", (5,), node("MatMul", w), node("Add", b))
    case("matmul_of_3", (4, 5), node("MatMul", w))
    case("matmul_of_3_add", (4, 5), node("MatMul", w), node("Add", b))
    case("matmul_of_4", (2, 4, 5), node("MatMul", w))


def softmax_cases():
    case("softmax", (10,), node("Softmax"))
    case("softmax_1", (10,), node("Softmax", axis=1))
    case("softmax_12", (3, 1, 1), node("Softmax", axis=1), opsets=(7, 12))
    case("softmax_12_last", (3, 4), node("Softmax", axis=2), opsets=(7, 12))
    for axis in 1, 2, 3, -1, -2:
        case(f"softmax_13_{axis}", (3, 4, 5), node("Softmax", axis=axis), opsets=(13, 99))
    case("softmax_13", (3, 4), node("Softmax"), opsets=(13, 99))


def argmax_cases():
    cast = node("Cast", to=1)
    case("argmax", (10,), node("ArgMax", axis=1), cast)
    case("argmax_conv", IMAGE, node("Conv", real(5, 2, 3, 3)), node("ArgMax", axis=1, keepdims=0), cast)
    ties = node("Clip", np.float32(-0.5), np.float32(0.5))
    for last in 0, 1:
        argmax = node("ArgMax", axis=-1, select_last_index=last)
        case(f"argmax_{last}", (3, 20), ties, argmax, cast, opsets=(12, 99))


def constant_cases():
    value = numpy_helper.from_array
    for name, first, tensor, attributes in [
        ("tensor", 7, real(6), lambda t: dict(value=value(t))),
        ("float", 12, real(), lambda t: dict(value_float=float(t))),
        ("floats", 12, real(6), lambda t: dict(value_floats=t.tolist())),
    ]:
        extra = [constant(**attributes(tensor))]
        case(f"constant_{name}", IMAGE, node("Add", inputs="xc"), opsets=(first, 99), extra=extra)
    shape = ints(0, -1)
    for name, first, attributes in [
        ("shape", 7, dict(value=value(shape))),
        ("ints", 12, dict(value_ints=shape.tolist())),
    ]:
        reshape = node("Reshape", inputs="xc")
        case(f"constant_{name}", IMAGE, reshape, opsets=(first, 99), extra=[constant(**attributes)])
    doubled = [constant(value=value(real(6))), helper.make_node("Add", ["c", "c"], ["d"])]
    case("constant_folded", IMAGE, node("Add", inputs="xd"), extra=doubled)
    minimum = [constant(value_float=-0.5)]
    case("constant_limit", IMAGE, node("Clip", inputs="xc"), opsets=(12, 99), extra=minimum)


def recurrent_cases():
    """Three steps, from `[n, steps, values]` to `[steps, n, values]`; ONNX Runtime wants the steps first."""
    time_first, x = node("Transpose", perm=[1, 0, 2]), (3, 4)
    for op, gates in {"RNN": 1, "GRU": 3, "LSTM": 4}.items():
        weights = {d: [real(d, gates * 5, 4) / 2, real(d, gates * 5, 5) / 2, real(d, 2 * gates * 5) / 4] for d in (1, 2)}
        for name, directions, attributes in [
            ("", 1, {}),
            ("_reverse", 1, dict(direction="reverse")),
            ("_both", 2, dict(direction="bidirectional")),
            *([("_linear", 1, dict(linear_before_reset=1))] if op == "GRU" else []),
        ]:
            layer = node(op, *weights[directions], hidden_size=5, **attributes)
            case(f"{op.lower()}{name}", x, time_first, layer, node("Transpose", perm=[2, 0, 1, 3]))
            for output, last in enumerate(["state", "cell"][: 2 if op == "LSTM" else 1], 1):
                layer = node(op, *weights[directions], hidden_size=5, skip=output, **attributes)
                case(f"{op.lower()}{name}_{last}", x, time_first, layer, node("Transpose", perm=[1, 0, 2]))
        case(f"{op.lower()}_no_bias", x, time_first, node(op, *weights[1][:2], hidden_size=5), node("Transpose", perm=[2, 0, 1, 3]))
    weights = real(1, 15, 4) / 2, real(1, 15, 5) / 2
    relu = node("GRU", *weights, hidden_size=5, activations=["Sigmoid", "Relu"])
    case("gru_relu", x, time_first, relu, node("Transpose", perm=[2, 0, 1, 3]))


def einsum_cases():
    heads = (2, 4, 3)
    for name, shape, equation, inputs, constants in [
        ("scores", heads, "bhid,bhjd->bhij", "xi", []),
        ("values", (2, 3, 3), "bhij,bhjd->bhid", "xi", []),
        ("outer", (4,), "bi,bj->bij", "xi", []),
        ("rows", (3, 4), "bij,bij->bij", "xi", []),
        ("linear", (3, 4), "bij,jk->bik", "x", [real(4, 5)]),
        ("turned", (3, 4), "bij,kj->bik", "x", [real(5, 4)]),
        ("heads", (3, 4), "bic,chd->bhid", "x", [real(4, 2, 3)]),
        ("transposed", (3, 4), "bij->bji", "x", []),
        ("dots", heads, "...ij,jk->...ik", "x", [real(3, 5)]),
    ]:
        product = node("Einsum", *constants, inputs=inputs, equation=equation)
        case(f"einsum_{name}", shape, product, opsets=(12, 99))


def idiom(name, shape, lines, opsets=(13, 99), **constants):
    """The nodes "type inputs -> output" from `input` to `d`; an integer list is one of int64."""
    made = []
    for constant_name, value in constants.items():
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        made.append(helper.make_node("Constant", [], [constant_name], value=numpy_helper.from_array(array)))
    for line in lines:
        line, attributes = (line, {}) if isinstance(line, str) else line
        left, output = line.split(" -> ")
        op, *inputs = left.split()
        made.append(helper.make_node(op, inputs, [output], **attributes))
    case(name, shape, node("Abs", inputs="d"), extra=made, opsets=opsets)


def idiom_cases():
    """What exporters write around attention, windows, masks and anchors: all of it but the input is constant."""
    one = numpy_helper.from_array(np.array([1], np.int64))
    scores = (2, 4, 4)
    y, x = np.mgrid[:2, :2].reshape(2, -1)
    index = (y[:, None] - y + 1) * 3 + x[:, None] - x + 1
    idiom("position_bias", scores, ["Reshape index flat -> i", ("Gather table i -> rows", dict(axis=0)),
          "Reshape rows square -> r", ("Transpose r -> t", dict(perm=[2, 0, 1])), "Unsqueeze t zero -> b",
          "Add input b -> a", ("Softmax a -> d", dict(axis=-1))],
          index=index, flat=[-1], table=real(9, 2), square=[4, 4, 2], zero=[0])  # fmt: skip
    idiom("attention_biases", scores, [("Gather table index -> b", dict(axis=1)), "Add input b -> d"],
          index=index, table=real(2, 9))  # fmt: skip
    idiom("windows", (4, 4, 3), ["Shape input -> s", ("Gather s one -> h", dict(axis=0)), "Div h two -> n", "Unsqueeze n zero -> n1", ("Concat batch n1 pair n1 pair channels -> to", dict(axis=0)),
             "Reshape input to -> r", ("Transpose r -> t", dict(perm=[0, 1, 3, 2, 4, 5])),
             ("Concat some pair pair channels -> parts", dict(axis=0)), "Reshape t parts -> w", "Add w w -> w2",
             ("Concat batch n1 n1 pair pair channels -> back", dict(axis=0)), "Reshape w2 back -> b",
             ("Transpose b -> u", dict(perm=[0, 1, 3, 2, 4, 5])), "Reshape u s -> d"],
          one=np.array(1), two=np.array(2), zero=[0], batch=[-1], pair=[2], channels=[3], some=[-1])  # fmt: skip
    idiom("shift_mask", (4, 4, 4), [("ConstantOfShape size -> z", {}),
          "ScatterND z places ones -> m", "Reshape m split -> r", ("Transpose r -> t", dict(perm=[0, 1, 3, 2, 4, 5])),
          "Reshape t flat -> w", "Unsqueeze w one -> a", "Unsqueeze w two -> b", "Sub a b -> s", "Equal s zero -> e",
          "Where e zero far -> mask", "Unsqueeze mask first -> q", "Add input q -> v", ("Softmax v -> d", dict(axis=-1))],
          size=[1, 4, 4, 1], places=[[0, i, j, 0] for i in range(4) for j in (2, 3)], ones=np.ones(8, np.float32),
          split=[1, 2, 2, 2, 2, 1], flat=[4, 4], one=[1], two=[2], first=[0], zero=np.array(0, np.float32),
          far=np.array(-100, np.float32))  # fmt: skip
    idiom("causal_mask", scores, ["Shape input -> s", ("Slice s start end -> size"), ("ConstantOfShape size -> o", dict(value=one)),
          ("Trilu o -> t", dict(upper=0)), ("Cast t -> c", dict(to=TensorProto.BOOL)), "Where c zero far -> m",
          "Add input m -> v", ("Softmax v -> d", dict(axis=-1))],
          opsets=(14, 99), start=[2], end=[4], zero=np.array(0, np.float32), far=np.array(-1e4, np.float32))  # fmt: skip
    idiom("anchors", (2, 12), ["Range begin width step -> xs", "Range begin height step -> ys", "Add xs half -> xc", "Add ys half -> yc",
          "Reshape yc column -> col", "Expand col size -> gy", "Reshape xc row -> r", "Expand r size -> gx",
          "Unsqueeze gx last -> ux", "Unsqueeze gy last -> uy", ("Concat ux uy -> g", dict(axis=-1)), "Reshape g pairs -> p",
          ("Transpose p -> anchors", dict(perm=[1, 0])), "Unsqueeze anchors first -> a", "Sub a input -> v",
          ("Tile stride times -> st"), "Mul v st -> d"],
          begin=np.array(0, np.float32), width=np.array(4, np.float32), height=np.array(3, np.float32), step=np.array(1, np.float32),
          half=np.array(0.5, np.float32), column=[-1, 1], row=[1, -1], size=[3, 4], last=[-1], pairs=[-1, 2], first=[0],
          stride=np.array([[8]], np.float32), times=[1, 12])  # fmt: skip
    idiom("fourier_positions", (4, 3), [("ConstantOfShape size -> o", dict(value=numpy_helper.from_array(np.ones(1, np.float32)))), ("CumSum o first -> y"), "Range begin limit step -> r",
          "Pow base r -> p", "Unsqueeze y last -> u", "Div u p -> v", "Sin v -> s", "Cos v -> c", ("Concat s c -> both", dict(axis=-1)),
          "Greater both zero -> g", "Not g -> n", "Where n both zero -> low", ("ReduceSum low last -> sum", dict(keepdims=1)), "Add input sum -> d"],
          size=[4], first=np.array(0), begin=np.array(0, np.float32), limit=np.array(1.5, np.float32), step=np.array(0.5, np.float32),
          base=np.array(100, np.float32), last=[-1], zero=np.array(0, np.float32))  # fmt: skip


def byte_cases():
    cast, conv = node("Cast", to=1), node("Conv", real(4, 3, 3, 3), pads=[1, 1, 1, 1])
    bare, image = node("Conv", real(4, 3, 3, 3)), (3, 7, 6)
    u8, i8, k = (np.uint8, 0, 255), (np.int8, -128, 127), np.float32(1 / 255)
    last = node("Transpose", perm=[0, 3, 1, 2])
    mean, std = np.float32([123.7, 116.3, 103.5]), np.float32([58.4, 57.1, 57.4])
    by_channel = [node("Sub", mean.reshape(3, 1, 1)), node("Div", std.reshape(3, 1, 1))]
    by_last = [node("Sub", mean), node("Div", std)]
    for name, shape, integers, *nodes in [
        ("cast", image, u8, cast, conv),
        ("mul", image, u8, cast, node("Mul", k), conv),
        ("div", image, u8, cast, node("Div", np.float32(255)), conv),
        ("centred", image, u8, cast, node("Sub", np.float32(128)), node("Div", np.float32(128)), conv),
        ("between", image, u8, cast, node("Div", np.float32(127.5)), node("Sub", np.float32(0.9)), conv),
        ("between_bare", image, u8, cast, node("Div", np.float32(127.5)), node("Sub", np.float32(0.9)), bare),
        ("from_one", image, u8, cast, node("Mul", k), node("Sub", np.float32(1), inputs="cx"), conv),
        ("channels", image, u8, cast, *by_channel, conv),
        ("channels_bare", image, u8, cast, *by_channel, bare),
        ("channels_group", image, u8, cast, *by_channel, node("Conv", real(6, 1, 2, 2), group=3)),
        ("last", (7, 6, 3), u8, cast, node("Mul", k), last, conv),
        ("last_first", (7, 6, 3), u8, last, cast, node("Mul", k), conv),
        ("last_channels", (7, 6, 3), u8, cast, *by_last, last, conv),
        ("last_channels_bare", (7, 6, 3), u8, cast, *by_last, last, bare),
        ("signed", image, i8, cast, node("Mul", np.float32(1 / 128)), conv),
        ("signed_shift", image, i8, cast, node("Add", np.float32(128)), node("Mul", k), conv),
        ("signed_far", image, i8, cast, node("Sub", np.float32(200)), node("Mul", k), conv),
        ("output", image, u8, cast, node("Mul", k)),
        ("reshape", (126,), u8, node("Reshape", ints(-1, 3, 7, 6)), cast, node("Mul", k), conv),
    ]:
        case(f"bytes_{name}", shape, *nodes, integers=integers)
    for name, integers, zero in ("codes", u8, np.uint8(117)), ("signed_codes", i8, np.int8(-3)):
        read = node("DequantizeLinear", np.float32(0.02), zero)
        case(f"bytes_{name}", image, read, conv, opsets=(10, 21), integers=integers)


def choice_cases():
    s, mask = node("Sigmoid"), random.integers(0, 2, (2, 7, 6)).astype(bool)
    for op in "Max", "Min":
        case(f"{op}_two", IMAGE, s, node(op, inputs="xi"), opsets=(8, 99))
        case(f"{op}_many", IMAGE, s, node(op, np.float32(0.4), inputs="xi"), opsets=(8, 99))
        case(f"{op}_pooled", IMAGE, node("GlobalAveragePool"), node(op, inputs="xi"), opsets=(8, 99))
        for name, axes in ("last", [-1]), ("channels", [1]), ("image", [2, 3]), ("two", [1, 3]):
            for keep in 0, 1:
                reduce = node(f"Reduce{op}", axes=axes, keepdims=keep)
                case(f"reduce_{op}_{name}_{keep}", IMAGE, reduce, opsets=(7, 17))
    case("reduce_max_18", IMAGE, node("ReduceMax", ints(2), keepdims=0), opsets=(18, 99))
    for op in "ReduceL1", "ReduceSumSquare":
        case(op, IMAGE, node(op, axes=[1, 2], keepdims=1), opsets=(7, 17))
    case("where", IMAGE, s, node("Where", mask, inputs="cxi"), opsets=(9, 99))
    case("gather_any", IMAGE, node("Gather", ints(1, 0, 0, 1), axis=1))
    case("gather_square", IMAGE, node("Gather", np.array([[2, -1], [0, 4]]), axis=2), opsets=(11, 99))
    case("gather_conv", IMAGE, node("Conv", real(4, 2, 3, 3)), node("Gather", ints(3, 3, 0), axis=1))
    case("tile", IMAGE, node("Tile", ints(1, 2, 1, 3)))
    case("expand", (2, 1, 1), node("Expand", ints(1, 2, 3, 4)), opsets=(8, 99))
    case("mean_of_two", IMAGE, s, node("Mean", inputs="xi"), opsets=(8, 99))
    case("log_softmax", (10,), node("LogSoftmax", axis=1), opsets=(7, 99))
    words, table = (np.int64, 0, 29), real(30, 5)
    case("embedding", (7,), node("Gather", table, inputs="cx"), integers=words)
    case("embedding_gemm", (7,), node("Gather", table, inputs="cx"), node("Flatten"), node("Gemm", real(35, 3), real(3)), integers=words)


def model(shape, nodes, extra, opset, of=np.float32):
    """The chain of `nodes`. Of their inputs, `x` is the value before, `i` the model's input, and `c`
    the first constant or a node of `extra`; further constants follow."""
    initializers, made, last = [], list(extra), "input"
    for index, (op, inputs, constants, attributes) in enumerate(nodes):
        names = []
        for number, array in enumerate(constants):
            names.append("" if array is None else f"{op}_{index}_{number}")
            if array is not None:
                initializers.append(numpy_helper.from_array(np.asarray(array), names[-1]))
        arguments = []
        for letter in inputs:
            known = {"x": last, "i": "input", "d": "d"}
            arguments.append(known.get(letter) or (names.pop(0) if names else letter))
        output = f"y{index}"
        others = {name: value for name, value in attributes.items() if name != "skip"}
        outputs = [""] * attributes.get("skip", 0) + [output]
        made.append(helper.make_node(op, arguments + names, outputs, f"{op}{index}", **others))
        last = output
    value = helper.make_tensor_value_info
    inputs = [value("input", helper.np_dtype_to_tensor_dtype(np.dtype(of)), ["N", *shape])]
    outputs = [value(last, TensorProto.FLOAT, None)]
    graph = helper.make_graph(made, "case", inputs, outputs, initializers)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = helper.find_min_ir_version_for(imports, True)
    if model.ir_version < 4:  # initializers were inputs
        for i in initializers:
            model.graph.input.append(value(i.name, i.data_type, i.dims))
    return model


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    of = session.get_inputs()[0].type.removeprefix("tensor(").removesuffix(")")
    return session.run(None, {"input": x.astype({"float": "float32"}.get(of, of))})[0]


def newest():
    """The newest operator set that onnx describes and ONNX Runtime accepts."""
    for opset in range(onnx.defs.onnx_opset_version(), 0, -1):
        try:
            run(model((2,), [node("Relu")], [], opset).SerializeToString(), real(1, 2))
            return opset
        except Exception:
            continue


def make(folder):
    for build in (
        conv_cases, batch_norm_cases, limit_cases, pool_cases, sequence_cases, shape_cases,
        sum_cases, linear_cases, softmax_cases, argmax_cases, constant_cases,
        recurrent_cases, einsum_cases, idiom_cases, byte_cases, choice_cases,
    ):  # fmt: skip
        build()
    index = []
    for name, shape, nodes, (first, last), extra, integers in CASES:
        for opset in sorted({*OPSETS, newest()}):
            if not first <= opset <= last:
                continue
            file = f"{name}.{opset}"
            of, *range = integers or [np.float32]
            made = model(shape, nodes, extra, opset, of)
            x = np.float32(random.integers(*range, (SAMPLES, *shape), endpoint=True) if range else real(SAMPLES, *shape))
            y = run(made.SerializeToString(), x)
            output = made.graph.output[0].type.tensor_type.shape
            output.dim.add(dim_param="N")
            for size in y.shape[1:]:
                output.dim.add(dim_value=size)
            onnx.checker.check_model(made)
            onnx.save(made, folder / f"{file}.onnx")
            np.save(folder / f"{file}.x.npy", x)
            np.save(folder / f"{file}.y.npy", y)
            index.append(file)
    external(folder)
    (folder / "index.json").write_text(json.dumps(index))


def external(folder):
    """One model in each way to keep its data in another file."""
    made = model(IMAGE, [node("Conv", real(4, 2, 3, 3), real(4))], [], 17)
    onnx.save(made, folder / "inside.onnx")
    for name, options in {
        "one_file": dict(location="one_file.data"),
        "many_files": dict(all_tensors_to_one_file=False),
    }.items():
        target = folder / f"{name}.onnx"
        onnx.save(made, target, save_as_external_data=True, size_threshold=0, **options)
    for name, location in {"above": "../one_file.data", "absolute": str(folder / "one_file.data")}.items():
        moved = onnx.load(folder / "one_file.onnx", load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / f"{name}.onnx").write_bytes(moved.SerializeToString())


def run_quantized(folder):
    # What is unrolled, or has its windows in the first axis, has reshapes for a batch of one.
    recurrent_cases(), einsum_cases(), idiom_cases()
    alone = {name for name, *_ in CASES}
    for path in folder.glob("*.int8.onnx"):
        file = path.name.removesuffix(".int8.onnx")
        x = np.load(folder / f"{file}.x.npy")
        try:
            onnx.checker.check_model(path, full_check=True)
            parts = np.split(x, len(x) if file.rsplit(".", 1)[0] in alone else 1)
            np.save(folder / f"{file}.int8.npy", np.concatenate([run(str(path), part) for part in parts]))
        except Exception as error:
            sys.exit(f"{file}: {error}")


if __name__ == "__main__":
    {"make": make, "run": run_quantized}[sys.argv[1]](Path(sys.argv[2]))
