"""Quantized models as ONNX Runtime writes them, and the codes that it computes with them.

    foreign_models.py run MODEL X.npy FOLDER                   of a quantized model: FOLDER/y.npy, its first
                                                               output, the codes 0.npy, 1.npy, …, and
                                                               index.json, which lists for each array the
                                                               names by which its codes may be known
    foreign_models.py quantize MODEL CALIB.npy X.npy FOLDER    for each way of quantizing: FOLDER/<way>.onnx,
                                                               and the same in FOLDER/<way>/
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from with_onnxruntime import run, session

# Types of codes, and how far each is from ours, which are signed.
OFFSETS = {
    onnx.TensorProto.INT8: 0,
    onnx.TensorProto.UINT8: 128,
    onnx.TensorProto.INT16: 0,
    onnx.TensorProto.UINT16: 32768,
}


class Samples(CalibrationDataReader):
    def __init__(self, name, x):
        self.samples = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self):
        return next(self.samples, None)


def unshare_zero_points(graph):
    """Gives each node a zero point of its own: x64quantprecision has ONNX Runtime fail on one that weights share."""
    constants = {i.name: i for i in graph.initializer}
    copies = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.input[0] in constants}
    kept = [n for n in graph.node if n.output[0] not in copies]
    for i, node in enumerate(kept):
        node.input[:] = [copies.get(name, name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[2] in constants:
            graph.initializer.add().CopyFrom(constants[node.input[2]])
            graph.initializer[-1].name = node.input[2] = f"zero_point_{i}"
    del graph.node[:]
    graph.node.extend(kept)


def with_codes(path):
    """The model with every tensor of codes before its output, as int32 on our side of zero, and their names."""
    model = onnx.load(path)
    graph = model.graph
    unshare_zero_points(graph)
    zero_points = {i.name: i.data_type for i in graph.initializer}
    real_of = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    types = {v: t for v, t in zero_points.items() if t in OFFSETS}
    names, added = [], []
    for node in graph.node:
        # Codes are made by QuantizeLinear and QLinear operators, and moved by others.
        of_codes = [types[i] for i in node.input if i in types]
        if node.op_type == "DequantizeLinear" or not of_codes:
            continue
        codes = node.output[0]
        types[codes] = of_codes[-1]
        alias = [codes, real_of.get(codes)] + ([node.input[0]] if node.op_type == "QuantizeLinear" else [])
        names.append([name for name in alias if name])
        shift = f"shift_{len(names)}"
        wide, out = f"wide_{len(names)}", f"out_{len(names)}"
        offset = np.array(OFFSETS[types[codes]], np.int32)
        graph.initializer.append(onnx.numpy_helper.from_array(offset, shift))
        added.append(onnx.helper.make_node("Cast", [codes], [wide], to=onnx.TensorProto.INT32))
        added.append(onnx.helper.make_node("Sub", [wide, shift], [out]))
        graph.output.append(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.INT32, None))
    graph.node.extend(added)
    outputs = list(graph.output)
    del graph.output[:]
    graph.output.extend(outputs[1:] + outputs[:1])
    return model.SerializeToString(), names


def save_codes(model, x, folder):
    x, folder = np.load(x), Path(folder)
    visible, names = with_codes(model)
    *codes, y = run(session(visible), x)
    np.save(folder / "y.npy", y)
    for i, of_value in enumerate(codes):
        wide = of_value.min() < -128 or of_value.max() > 127
        np.save(folder / f"{i}.npy", of_value.astype(np.int16 if wide else np.int8))
    (folder / "index.json").write_text(json.dumps(names))


def quantize(model, calib, x, folder):
    calib, folder = np.load(calib), Path(folder)
    prepared = str(folder / "prepared.onnx")
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    name = onnx.load(model).graph.input[0].name
    kinds = [
        ("QDQ", "QUInt8", "QInt8"),
        ("QDQ", "QInt8", "QInt8"),
        ("QOperator", "QUInt8", "QInt8"),  # with signed activations it writes this form, but cannot run it
        ("QDQ", "QUInt8", "QUInt8"),
        ("QOperator", "QUInt8", "QUInt8"),
        ("QDQ", "QUInt16", "QInt8"),
        ("QDQ", "QInt16", "QInt8"),
        ("QDQ", "QUInt8", "QInt4"),
        ("QDQ", "QInt16", "QUInt4"),
        # Every other result has the codes behind the plus sign: "mixed precision".
        ("QDQ", "QUInt8+QUInt16", "QInt8"),
        ("QDQ", "QInt16+QInt8", "QInt8"),
    ]
    results = [n.output[0] for n in onnx.load(prepared).graph.node]
    ways = []
    for form, activations, weights, per_channel in [(*kind, each) for kind in kinds for each in (False, True)]:
        ways.append("-".join([form, activations, weights, "channel" if per_channel else "tensor"]).lower())
        activations, *others = activations.split("+")
        overrides = {name: [{"quant_type": QuantType[other]}] for other in others for name in results[::2]}
        way, path = ways[-1], str(folder / f"{ways[-1]}.onnx")
        quantize_static(
            prepared,
            path,
            Samples(name, calib),
            quant_format=QuantFormat[form],
            activation_type=QuantType[activations],
            weight_type=QuantType[weights],
            per_channel=per_channel,
            extra_options={"WeightSymmetric": weights in ("QInt8", "QInt4"), "TensorQuantOverrides": overrides},
        )
        (folder / way).mkdir()
        save_codes(path, x, folder / way)
    print("\n".join(ways))


if __name__ == "__main__":
    {"run": save_codes, "quantize": quantize}[sys.argv[1]](*sys.argv[2:])
