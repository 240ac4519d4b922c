"""Latency of our engine beside ONNX Runtime and OpenVINO on the same quantized models.

    pip install numpy onnxruntime [openvino]
    python3 benches/peers.py [--models INT8.onnx ...] [--data DIR] [--threads 1,2] [--rounds 5] [--output FILE.md]

A model may be quantized already; the bundled network, and those of DIR (mlperf_tiny/*.onnx, *_calib.npz,
models/*.onnx, imagenet/), are quantized first. All engines take turns, A B A B, each for a while, so that other work
on the machine meets all of them; what a session takes to start is not counted. Printed are the medians and minima of all
runs, the ratio of each peer's to ours (above 1: we are faster), and the share of output codes that are equal to ours.
On a machine that does other work the minima say more.
ONNX Runtime also runs with session.x64quantprecision=1, which keeps its products exact on machines without VNNI.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime

try:
    import openvino
except ImportError:
    openvino = None

ROOT = Path(__file__).resolve().parent.parent
BY_255 = ["--scale", "0.00392156862745098"]
IMAGENET = BY_255 + ["--mean", ".485,.456,.406", "--std", ".229,.224,.225", "--resize", "256", "--crop", "224"]
LITE = ["--mean", "127", "--std", "128", "--crop-fraction", "0.875", "--filter", "bicubic", "--resize", "224", "--crop", "224"]

# name, float model, calibration data, preprocessing
NETWORKS = [
    ("ic_resnet8", "mlperf_tiny/ic_resnet8.onnx", "mlperf_tiny/ic_calib.npz", []),
    ("kws_dscnn", "mlperf_tiny/kws_dscnn.onnx", "mlperf_tiny/kws_calib.npz", []),
    ("vww_mobilenetv1", "mlperf_tiny/vww_mobilenetv1.onnx", "mlperf_tiny/vww_calib.npz", BY_255),
    ("ad_autoencoder", "mlperf_tiny/ad_autoencoder.onnx", "mlperf_tiny/ad_calib.npz", []),
    ("mobilenet_v2", "models/mobilenet_v2.onnx", "imagenet", IMAGENET),
    ("efficientnet_lite0", "models/efficientnet_lite0.onnx", "imagenet", LITE),
]


def tool(binary, *arguments):
    return subprocess.run([binary, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def networks(arguments, scratch):
    """Names and quantized files."""
    for path in arguments.models:
        yield path.stem, path
    if arguments.models:
        return
    fashion = ROOT / "models/fashion"
    todo = [("fashion (bundled)", fashion / "float.onnx", fashion / "calib.npz", BY_255)]
    if arguments.data:
        todo += [(n, arguments.data / m, arguments.data / c, p) for n, m, c, p in NETWORKS]
    for name, model, calib, preprocessing in todo:
        if model.exists() and calib.exists():
            to = scratch / f"{model.stem}.int8.onnx"
            tool(arguments.binary, "quantize", model, "--calib", calib, "--samples", 16, "-o", to, *preprocessing)
            yield name, to


def repeat(run, seconds):
    """Milliseconds of each run."""
    run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def onnx_runtime(model, threads, exact):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def open_vino(model, threads):
    core = openvino.Core()
    compiled = core.compile_model(str(model), "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()

    def run(inputs):
        request.infer(inputs)
        return [request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))]

    return run


def ours(arguments, model, threads):
    """Milliseconds of a while, in a process of its own: median and minimum; and the instruction set."""
    measured = json.loads(tool(arguments.binary, "bench", model, "--threads", threads, "--json", "--runs", arguments.runs))
    return measured["latency_ms_median"], measured["latency_ms_min"], measured["isa"]


def equal_codes(arguments, model, run, inspected, scratch):
    """Share of output codes that a peer computes as we do, of the first output."""
    [given] = inspected["inputs"]
    node = next(n for n in inspected["nodes"] if n["output"]["name"] == inspected["outputs"][0]["name"])
    quant = node["output"]["quant"]
    rng = np.random.default_rng(0)
    scale, zero = given["quant"]["scale"][0], given["quant"]["zero_point"]
    x = [(rng.integers(-128, 128, given["shape"]) - zero).astype(np.float32) * np.float32(scale) for _ in range(arguments.samples)]
    np.save(scratch / "x.npy", np.stack(x)[:, 0] if given["shape"][0] == 1 else np.stack(x))
    tool(arguments.binary, "run", model, "--input", scratch / "x.npy", "-o", scratch / "y.npy", "--codes")
    mine = np.load(scratch / "y.npy").astype(int).reshape(len(x), -1)
    real = np.stack([np.asarray(run({given["name"]: one})[0]).reshape(-1) for one in x])
    theirs = np.rint(real / np.float32(quant["scale"][0])).astype(int) + quant["zero_point"]
    return float((mine == theirs).mean())


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    has = [f for f in ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8") if f in flags]
    return f"{', '.join(names) or platform.processor()}, {os.cpu_count()} cores, {' '.join(has)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", type=Path, default=[], help="quantized models")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=50, help="runs of ours in a round")
    parser.add_argument("--seconds", type=float, default=0.5, help="time of a peer in a round")
    parser.add_argument("--samples", type=int, default=4, help="inputs whose codes are compared")
    parser.add_argument("--binary", type=Path, help="without it, cargo builds one")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if not arguments.binary:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
        arguments.binary = ROOT / "target/release/naive-ptq"
    versions = [f"ONNX Runtime {onnxruntime.__version__}"]
    if openvino:
        versions.append(f"OpenVINO {version('openvino')}")
    text = [f"{cpu()}; {', '.join(versions)}; load {os.getloadavg()[0]:.1f}", ""]
    text += ["| network | threads | engine | median, ms | minimum, ms | ours is faster by | equal codes |", "|---|--:|---|--:|--:|--:|--:|"]
    print("\n".join(text), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for name, model in networks(arguments, scratch):
            inspected = json.loads(tool(arguments.binary, "inspect", model, "--json"))
            inputs = {
                v["name"]: (np.random.default_rng(1).integers(-128, 128, v["shape"]) - v["quant"]["zero_point"]).astype(np.float32)
                * np.float32(v["quant"]["scale"][0])
                for v in inspected["inputs"]
            }
            for threads in map(int, arguments.threads.split(",")):
                peers = {
                    "ONNX Runtime": onnx_runtime(model, threads, False),
                    "ONNX Runtime, exact": onnx_runtime(model, threads, True),
                }
                if openvino:
                    peers["OpenVINO"] = open_vino(model, threads)
                mine, least, times = [], [], {peer: [] for peer in peers}
                for _ in range(arguments.rounds):
                    for peer, run in peers.items():
                        median, minimum, isa = ours(arguments, model, threads)
                        mine.append(median)
                        least.append(minimum)
                        times[peer] += repeat(lambda: run(inputs), arguments.seconds)
                median, minimum = statistics.median(mine), min(least)
                rows = [f"| {name} | {threads} | ours, {isa} | {median:.3f} | {minimum:.3f} | | |"]
                for peer, run in peers.items():
                    theirs = statistics.median(times[peer])
                    equal = ""
                    if len(inputs) == 1:
                        equal = f"{100 * equal_codes(arguments, model, run, inspected, scratch):.2f} %"
                    ratios = f"{theirs / median:.2f}, minima {min(times[peer]) / minimum:.2f}"
                    rows.append(f"| {name} | {threads} | {peer} | {theirs:.3f} | {min(times[peer]):.3f} | {ratios} | {equal} |")
                print("\n".join(rows), flush=True)
                text += rows
    if arguments.output:
        arguments.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
