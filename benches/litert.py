"""Do the kernels of LiteRT agree with each other? The quantized models of MLPerf Tiny in four sets of kernels.

    python3 benches/litert.py --data DIR

DIR/mlperf_tiny holds *_int8.tflite and *_test.npz. Each model runs on all samples, whose inputs are quantized once:
in LiteRT with its reference kernels, its optimized ones and those of XNNPACK, on one thread, and in TensorFlow Lite
Micro (TFLM) with its reference kernels. Printed, for each two of the four: the codes of the output that differ, and
the largest difference. Needs `pip install ai-edge-litert tflite-micro numpy`.
"""

import argparse
import itertools
import platform
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_micro import runtime

LITERT = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "XNNPACK": OpResolverType.AUTO,
}

# name, beginning of the name of its data, factor of the samples
NETWORKS = [
    ("ic_resnet8", "ic", 1),
    ("kws_dscnn", "kws", 1),
    ("vww_mobilenetv1", "vww", 1 / 255),
    ("ad_autoencoder", "ad", 1),
]


def litert(model, kernels):
    """Scale and zero point of the input, and a function from codes to codes."""
    interpreter = Interpreter(str(model), experimental_op_resolver_type=kernels, num_threads=1)
    interpreter.allocate_tensors()
    delegated = any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    assert delegated == (kernels == OpResolverType.AUTO), "XNNPACK runs where it should not, or does not"
    [given], [result] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(codes):
        interpreter.set_tensor(given["index"], codes)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return *given["quantization"], run


def tflm(model):
    """As litert()."""
    interpreter = runtime.Interpreter.from_file(str(model))
    parameters = interpreter.get_input_details(0)["quantization_parameters"]

    def run(codes):
        interpreter.set_input(codes, 0)
        interpreter.invoke()
        return interpreter.get_output(0)

    return parameters["scales"][0], parameters["zero_points"][0], run


def outputs(scale, zero_point, run, x):
    """Codes of the output for each sample."""
    codes = np.clip(np.rint(x / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
    return np.array([run(sample[None])[0].astype(int) for sample in codes])


def cpu():
    """What decides which kernels are taken."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split()
    except (OSError, TypeError):
        return platform.machine()
    return platform.machine() + (" with VNNI" if {"avx512_vnni", "avx_vnni"} & set(flags) else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data / "mlperf_tiny"
    pairs = list(itertools.combinations([*LITERT, "TFLM"], 2))
    print(f"ai-edge-litert {version('ai-edge-litert')}, tflite-micro {version('tflite-micro')}, {cpu()}\n")
    print("| network, samples | codes |", " | ".join(f"{a}, {b}" for a, b in pairs), "|")
    print("|---|---:|" + "---|" * len(pairs))
    for name, data, factor in NETWORKS:
        x = np.load(folder / f"{data}_test.npz")["x"].astype(np.float32) * np.float32(factor)
        model = folder / f"{name}_int8.tflite"
        engines = {kernels: litert(model, resolver) for kernels, resolver in LITERT.items()}
        engines["TFLM"] = tflm(model)
        results = {kernels: outputs(*engine, x) for kernels, engine in engines.items()}
        cells = []
        for a, b in pairs:
            difference = np.abs(results[a] - results[b])
            differ = np.count_nonzero(difference)
            cells.append(f"{differ}, by up to {difference.max()}" if differ else "0")
        print(f"| {name}, {len(x)} | {results['TFLM'].size} |", " | ".join(cells), "|", flush=True)


main()
