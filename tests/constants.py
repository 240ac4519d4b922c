"""Writes the node test cases of the onnx package as computations on constants: all inputs are initializers, each
output is added to a real input of one element, which is 0. NNN.onnx, NNN.K.npy and index.json.

    python constants.py DIR
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.simplefilter("ignore")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402


def of_constants(case, inputs, outputs):
    """The model, and which of the outputs it adds."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    for value, x in zip(graph.input, inputs):
        tensor = x if isinstance(x, TensorProto) else numpy_helper.from_array(np.asarray(x))
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = value.name
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("real_input", TensorProto.FLOAT, [1]))
    names = [value.name for value in graph.output]
    del graph.output[:], graph.value_info[:]
    added = []
    for k, (name, y) in enumerate(zip(names, outputs)):
        if np.asarray(y).size == 0:
            continue
        graph.node.append(helper.make_node("Cast", [name], [f"cast_{k}"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("Add", [f"cast_{k}", "real_input"], [f"sum_{k}"]))
        graph.output.append(helper.make_tensor_value_info(f"sum_{k}", TensorProto.FLOAT, None))
        added.append(k)
    return model, added


def expected(model, outputs):
    """What the package's evaluator says; where it has no word for it, the results that come with the case."""
    try:
        return ReferenceEvaluator(model).run(None, {"real_input": np.zeros(1, np.float32)})
    except Exception:  # noqa: BLE001: whatever it is that it cannot
        return [np.asarray(y).astype(np.float32) for y in outputs]


def number(x):
    if isinstance(x, TensorProto):
        x = numpy_helper.to_array(x)
    return isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind not in "OSUc"


def main(folder):
    index = []
    for case in sorted(collect_testcases(None), key=lambda case: case.name):
        # The operators that others are made of have cases of their own.
        if not case.data_sets or "_expanded" in case.name:
            continue
        inputs, outputs = case.data_sets[0]
        if len(inputs) != len(case.model.graph.input) or not all(map(number, [*inputs, *outputs])):
            continue
        outputs = [numpy_helper.to_array(y) if isinstance(y, TensorProto) else y for y in outputs]
        model, added = of_constants(case, inputs, outputs)
        if not added:
            continue
        stem = f"{len(index):04}"
        onnx.save(model, folder / f"{stem}.onnx")
        for k, y in enumerate(expected(model, [outputs[k] for k in added])):
            np.save(folder / f"{stem}.{k}.npy", np.ascontiguousarray(y, np.float32))
        # Numbers of 16 bits are computed with as if they had more.
        types = {x.dtype.name for x in [*inputs, *outputs] if isinstance(x, np.ndarray)}
        short = 2**-7 if "bfloat16" in types else 2**-10 if "float16" in types else 0
        bounds = {"rtol": max(case.rtol, short), "atol": max(case.atol, short)}
        index.append({"name": case.name, "stem": stem, "outputs": len(added), **bounds})
    (folder / "index.json").write_text(json.dumps(index))


main(pathlib.Path(sys.argv[1]))
