"""Time and memory of quantizing a network, start to finish, beside ONNX Runtime's quantizer.

    pip install numpy onnx onnxruntime
    python3 benches/quantize.py --model mobilenet_v2.onnx [--shape 3,224,224] [--samples 32] [--runs 5]

Both read the same .npy of random samples and write a quantized model, min-max, per channel; ours and theirs
in turn, each in a process of its own. Prints medians and the ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THEIRS = """
import sys
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

model, data, out = sys.argv[1:]
x = np.load(data)
name = onnx.load(model).graph.input[0].name

class Samples(CalibrationDataReader):
    def __init__(self):
        self.samples = iter({name: x[i : i + 1]} for i in range(len(x)))
    def get_next(self):
        return next(self.samples, None)

quant_pre_process(model, out + ".prepared", skip_symbolic_shape=True)  # it would need sympy
quantize_static(out + ".prepared", out, Samples(), quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)
"""


def measure(command):
    """Seconds and peak resident bytes of a process."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {command}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--shape", default="3,224,224")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    import numpy as np

    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    shape = [arguments.samples, *map(int, arguments.shape.split(","))]
    with tempfile.TemporaryDirectory() as scratch:
        data, out = f"{scratch}/x.npy", f"{scratch}/out.onnx"
        np.save(data, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        commands = {
            "naive-ptq": [ROOT / "target/release/naive-ptq", "quantize", arguments.model, "--calib", data, "-o", out]
            + ["--calibrator", "minmax"],
            "ONNX Runtime": [sys.executable, "-c", THEIRS, arguments.model, data, out],
        }
        results = {name: [] for name in commands}
        for _ in range(arguments.runs):
            for name, command in commands.items():
                results[name].append(measure(command))
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    for name, (seconds, size) in medians.items():
        print(f"{name:13} {seconds:6.2f} s  {size / 2**20:6.0f} MiB")
    ours, theirs = medians["naive-ptq"], medians["ONNX Runtime"]
    print(f"ours / theirs {ours[0] / theirs[0]:6.2f}    {ours[1] / theirs[1]:6.2f}")


main()
