"""Quantized models as ONNX Runtime writes them, and the codes that it computes with them.

    foreign_models.py MODEL CALIB.npy X.npy FOLDER

For each way of quantizing: FOLDER/<way>.onnx, FOLDER/<way>/0.npy, 1.npy, … and index.json, which lists
for each array the names by which its codes may be known.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from with_onnxruntime import run, session

CODES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


class Samples(CalibrationDataReader):
    def __init__(self, name, x):
        self.samples = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self):
        return next(self.samples, None)


def with_codes(path):
    """The model with every tensor of codes as an output, as int32 on our side of zero, and their names."""
    model = onnx.load(path)
    graph = model.graph
    zero_points = {i.name: i.data_type for i in graph.initializer}
    real_of = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    outputs = {o.name for o in graph.output}
    types = {v: t for v, t in zero_points.items() if t in CODES}
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
        offset = 128 if types[codes] == onnx.TensorProto.UINT8 else 0
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(offset, np.int32), shift))
        added.append(onnx.helper.make_node("Cast", [codes], [wide], to=onnx.TensorProto.INT32))
        added.append(onnx.helper.make_node("Sub", [wide, shift], [out]))
        graph.output.append(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.INT32, None))
    graph.node.extend(added)
    for _ in outputs:
        graph.output.pop(0)
    return model.SerializeToString(), names


def main(model, calib, x, folder):
    calib, x, folder = np.load(calib), np.load(x), Path(folder)
    prepared = str(folder / "prepared.onnx")
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    name = onnx.load(model).graph.input[0].name
    ways = [
        (f"{form}-{activations.lower()}-{'channel' if per_channel else 'tensor'}", form, activations, per_channel)
        for form in ("QDQ", "QOperator")
        for activations in ("QUInt8", "QInt8")
        for per_channel in (False, True)
        if (form, activations) != ("QOperator", "QInt8")  # which it writes, but cannot run
    ]
    for way, form, activations, per_channel in ways:
        path = str(folder / f"{way}.onnx")
        quantize_static(
            prepared,
            path,
            Samples(name, calib),
            quant_format=QuantFormat[form],
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
        )
        (folder / way).mkdir()
        visible, names = with_codes(path)
        for i, codes in enumerate(run(session(visible), x)):
            np.save(folder / way / f"{i}.npy", codes.astype(np.int8))
        (folder / way / "index.json").write_text(json.dumps(names))
    print("\n".join(way for way, *_ in ways))


if __name__ == "__main__":
    main(*sys.argv[1:])
