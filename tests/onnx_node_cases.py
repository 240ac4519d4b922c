"""Writes the node test cases of the onnx package to a folder: NNN.onnx, NNN_in_K.npy, NNN_out_K.npy, cases.json.

A case stands for how networks use its operator: the first input (all float inputs of operators that
combine activations) is computed by the network, every other input is a constant of the model.

    python onnx_node_cases.py DIR TYPE [TYPE ...]
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

warnings.simplefilter("ignore")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

COMBINE_ACTIVATIONS = {"Add", "Sub", "Mul", "Div", "MatMul", "Concat", "Sum"}


def main(folder, types):
    folder = pathlib.Path(folder)
    cases = []
    for case in sorted(collect_testcases(None), key=lambda case: case.name):
        graph = case.model.graph
        if len(graph.node) != 1 or graph.node[0].op_type not in types or not case.data_sets:
            continue
        inputs, outputs = case.data_sets[0]
        if graph.node[0].op_type == "LayerNormalization":
            outputs = outputs[:1]
        names = [value.name for value in graph.input]
        keep = [
            k
            for k, x in enumerate(inputs)
            if k == 0 or (graph.node[0].op_type in COMBINE_ACTIVATIONS and x.dtype == np.float32)
        ]
        arrays = all(isinstance(x, np.ndarray) for x in [*inputs, *outputs])
        if not arrays or len(names) != len(inputs):
            cases.append({"name": case.name, "op": graph.node[0].op_type, "skipped": "inputs are no arrays"})
            continue
        if any(x.dtype not in (np.float32, np.int64, np.int32, np.bool_, np.uint8, np.int8) for x in [*inputs, *outputs]):
            cases.append({"name": case.name, "op": graph.node[0].op_type, "skipped": "data type not of this field"})
            continue
        # An int32 shape, say, can be a constant, but nothing can be computed from integers.
        if inputs and (inputs[0].dtype != np.float32 or any(x.dtype != np.float32 for x in outputs)):
            of_shapes = inputs[0].dtype == np.int64 and graph.node[0].op_type in ("Shape", "Range", "ConstantOfShape")
            if not of_shapes or any(x.dtype not in (np.float32,) for x in outputs):
                cases.append({"name": case.name, "op": graph.node[0].op_type, "skipped": "integers are computed"})
                continue
            keep = []
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        del model.graph.input[:]
        del model.graph.output[len(outputs):]
        for k, (value, x) in enumerate(zip(graph.input, inputs)):
            if k in keep:
                model.graph.input.append(value)
            else:
                model.graph.initializer.append(numpy_helper.from_array(x, value.name))
        stem = f"{len(cases):03}"
        onnx.save(model, folder / f"{stem}.onnx")
        for i, k in enumerate(keep):
            np.save(folder / f"{stem}_in_{i}.npy", np.ascontiguousarray(inputs[k]))
        for k, x in enumerate(outputs):
            np.save(folder / f"{stem}_out_{k}.npy", np.ascontiguousarray(x))
        cases.append(
            {
                "name": case.name,
                "op": graph.node[0].op_type,
                "stem": stem,
                "inputs": len(keep),
                "outputs": len(outputs),
                "rtol": float(case.rtol),
                "atol": float(case.atol),
            }
        )
    (folder / "cases.json").write_text(json.dumps(cases))


main(sys.argv[1], sys.argv[2:])
