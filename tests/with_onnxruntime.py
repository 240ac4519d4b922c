"""ONNX Runtime as the other side of a comparison.

    with_onnxruntime.py float MODEL X.npy Y.npy    the first output for all samples of X
    with_onnxruntime.py codes MODEL X.npy FOLDER   the codes that every QuantizeLinear makes: 0.npy,
                                                   1.npy, … and index.json with their names
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

BATCH = 50


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Without it, int8 kernels saturate a sum of two products at 16 bits on CPUs before VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Without it, products of 16-bit activations and 8-bit weights are made of activations rounded to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session, x):
    """All outputs for all samples, batch by batch."""
    shape = session.get_inputs()[0].shape
    batch = shape[0] if isinstance(shape[0], int) else BATCH
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: x[i : i + batch]}) for i in range(0, len(x), batch)]
    return [np.concatenate(output) for output in zip(*parts)]


def with_codes(path):
    """The model with all codes as its outputs, their names, and which of them have 16 bits.

    ONNX Runtime runs a node in integers on x86 only if its codes are unsigned. It rewrites them itself
    unless something else, such as an output, uses them; so this moves them by 128 beforehand.
    """
    model = onnx.load(path)
    graph = model.graph
    initializers = {i.name: i for i in graph.initializer}
    quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    codes = [n.output[0] for n in quantizers]
    del graph.output[:]
    wide = [initializers[n.input[2]].data_type == onnx.TensorProto.INT16 for n in quantizers]
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear"] + quantizers:
        if node in quantizers or node.input[0] in codes:
            zero_point = initializers[node.input[2]]
            array = onnx.numpy_helper.to_array(zero_point)
            if array.dtype == np.int8:
                array = (array.astype(np.int16) + 128).astype(np.uint8)
                zero_point.CopyFrom(onnx.numpy_helper.from_array(array, zero_point.name))
    for i, name in enumerate(codes):
        output, int32 = f"out_{i}", onnx.TensorProto.INT32
        graph.node.append(onnx.helper.make_node("Cast", [name], [output], to=int32))
        graph.output.append(onnx.helper.make_tensor_value_info(output, int32, None))
    return model.SerializeToString(), codes, wide


def main(command, model, x, to):
    x = np.load(x)
    if command == "float":
        np.save(to, run(session(model), x)[0])
        return
    onnx.checker.check_model(model, full_check=True)
    np.save(Path(to, "y.npy"), run(session(model), x)[0])
    model, names, wide = with_codes(model)
    for i, (codes, is_wide) in enumerate(zip(run(session(model), x), wide)):
        np.save(Path(to, f"{i}.npy"), codes.astype(np.int16) if is_wide else (codes - 128).astype(np.int8))
    Path(to, "index.json").write_text(json.dumps(names))


if __name__ == "__main__":
    main(*sys.argv[1:])
