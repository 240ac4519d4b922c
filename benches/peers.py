"""Latency, load time and memory of our engine beside ONNX Runtime and OpenVINO on the same quantized models.

    pip install numpy onnx onnxruntime [openvino]
    python3 benches/peers.py [--models INT8.onnx ...] [--data DIR] [--threads 1,2] [--bits 8,16] [--rounds 5] [--output FILE.md]

A model may be quantized already; the bundled network, resnet18 and resnet50 with random weights, and the networks of
DIR (mlperf_tiny/*.onnx, *_calib.npz, models/*.onnx, imagenet/) are quantized first, with activations of 8 bits and of 16.

Latency: the engines take turns, A B A B, each for a while, so that other work on the machine meets all of them. Printed
are the medians and minima of all runs, the ratio of each peer's to ours (above 1: we are faster), and the share of
output codes that are equal to ours. On a machine that does other work the minima say more.
ONNX Runtime also runs with session.x64quantprecision=1, which keeps its products exact on machines without VNNI.

Load and memory: with one thread, in fresh processes. The peak resident set is that after three runs; a peer's holds
what Python, numpy and the peer itself take before the model is loaded, which is shown beside it. Load and plan goes from
the file to a session: the median of five processes of ours, and of five sessions in one process of a peer's, import not
counted. That favours peers, whose later sessions find everything warm; their first one is shown, too.

--isa runs all with the instructions of an older machine: ours by its own --isa, OpenVINO by ONEDNN_MAX_CPU_ISA.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

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
ONEDNN = {"avx2": "AVX2", "avxvnni": "AVX2_VNNI", "avx512vnni": "AVX512_CORE_VNNI"}


# The peers. Each is imported only when it is asked for, and gives a function from a file and threads to a session.


def onnx_runtime(exact=False):
    import onnxruntime

    def load(model, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)

    return load


def open_vino():
    import openvino

    def load(model, threads):
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(model), "CPU", options)
        request = compiled.create_infer_request()

        def run(inputs):
            request.infer(inputs)
            return [request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))]

        return run

    return load


def peers(arguments):
    """Those that are installed and can be held to the instructions asked for."""
    found = {}
    if not arguments.isa:
        found["ONNX Runtime"] = onnx_runtime
        found["ONNX Runtime, exact"] = lambda: onnx_runtime(exact=True)
    if find_spec("openvino"):
        found["OpenVINO"] = open_vino
    return found


def tool(arguments, *command):
    command = [arguments.binary, *map(str, command)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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
    for depth in [18, 50]:
        model, calib = scratch / f"resnet{depth}.onnx", scratch / "random.npz"
        subprocess.run([sys.executable, ROOT / "benches/resnet.py", str(depth), model, calib], check=True)
        todo.append((f"resnet{depth}", model, calib, []))
    for name, model, calib, preprocessing in todo:
        for bits in arguments.bits if model.exists() and calib.exists() else []:
            to = scratch / f"{model.stem}.{bits}.onnx"
            options = ["--samples", 16, "--activations", bits, *preprocessing]
            tool(arguments, "quantize", model, "--calib", calib, "-o", to, *options)
            yield name if bits == 8 else f"{name}, {bits} bits", to


def random_inputs(values, rng):
    """Real values of codes, each equally likely."""
    inputs = {}
    for value in values:
        half = 1 << value["quant"]["bits"] - 1
        codes = rng.integers(-half, half, value["shape"]) - value["quant"]["zero_point"]
        inputs[value["name"]] = codes.astype(np.float32) * np.float32(value["quant"]["scale"][0])
    return inputs


def repeat(run, seconds):
    """Milliseconds of each run."""
    run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def ours(arguments, model, threads, runs):
    """What `bench` measures, in a process of its own."""
    isa = ["--isa", arguments.isa] if arguments.isa else []
    return json.loads(tool(arguments, "bench", model, "--threads", threads, "--json", "--runs", runs, *isa))


def equal_codes(arguments, model, run, inspected, scratch):
    """Share of output codes that a peer computes as we do, of the first output."""
    [given] = inspected["inputs"]
    node = next(n for n in inspected["nodes"] if n["output"]["name"] == inspected["outputs"][0]["name"])
    quant = node["output"]["quant"]
    rng = np.random.default_rng(0)
    x = [random_inputs([given], rng)[given["name"]] for _ in range(arguments.samples)]
    np.save(scratch / "x.npy", np.stack(x)[:, 0] if given["shape"][0] == 1 else np.stack(x))
    tool(arguments, "run", model, "--input", scratch / "x.npy", "-o", scratch / "y.npy", "--codes")
    mine = np.load(scratch / "y.npy").astype(int).reshape(len(x), -1)
    real = np.stack([np.asarray(run({given["name"]: one})[0]).reshape(-1) for one in x])
    theirs = np.rint(real / np.float32(quant["scale"][0])).astype(int) + quant["zero_point"]
    return float((mine == theirs).mean())


def latency(arguments, name, model, scratch):
    """Rows of the first table."""
    inspected = json.loads(tool(arguments, "inspect", model, "--json"))
    inputs = random_inputs(inspected["inputs"], np.random.default_rng(1))
    for threads in arguments.threads:
        runs = {peer: load()(model, threads) for peer, load in peers(arguments).items()}
        mine, times = [], {peer: [] for peer in runs}
        for _ in range(arguments.rounds):
            for peer, run in runs.items():
                mine.append(ours(arguments, model, threads, arguments.runs))
                times[peer] += repeat(lambda: run(inputs), arguments.seconds)
        median = statistics.median(m["latency_ms_median"] for m in mine)
        minimum = min(m["latency_ms_min"] for m in mine)
        yield f"| {name} | {threads} | ours, {mine[0]['isa']} | {median:.3f} | {minimum:.3f} | | |"
        for peer, run in runs.items():
            theirs, least = statistics.median(times[peer]), min(times[peer])
            equal = ""
            if len(inputs) == 1:
                equal = f"{100 * equal_codes(arguments, model, run, inspected, scratch):.2f} %"
            ratios = f"{theirs / median:.2f}, minima {least / minimum:.2f}"
            yield f"| {name} | {threads} | {peer} | {theirs:.3f} | {least:.3f} | {ratios} | {equal} |"


def memory(key):
    """Of this process, in MB; not a number on systems without /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key + ":")), float("nan"))


def load_peer(arguments, peer):
    """In a fresh process: prints what a peer takes."""
    load, [model] = peers(arguments)[peer](), arguments.models
    inputs = dict(np.load(arguments.inputs))
    measured = {"before": memory("VmRSS"), "load": []}
    for i in range(5):
        begin = time.perf_counter()
        run = load(model, 1)
        measured["load"].append((time.perf_counter() - begin) * 1e3)
        if i == 0:
            for _ in range(3):
                run(inputs)
            measured["peak"] = memory("VmHWM")
    print(json.dumps(measured))


def load_and_memory(arguments, name, model, scratch):
    """Rows of the second table."""
    inspected = json.loads(tool(arguments, "inspect", model, "--json"))
    np.savez(scratch / "inputs.npz", **random_inputs(inspected["inputs"], np.random.default_rng(1)))
    mine = [ours(arguments, model, 1, 3) for _ in range(5)]
    load = statistics.median(m["load_ms"] + m["plan_ms"] for m in mine)
    peak = statistics.median(m.get("peak_rss_bytes", float("nan")) / 1e6 for m in mine)
    yield f"| {name} | ours, {mine[0]['isa']} | {load:.1f} | | {peak:.1f} | |"
    for peer in peers(arguments):
        command = [sys.executable, __file__, "--only-peer", peer, "--models", model, "--inputs", scratch / "inputs.npz"]
        command += ["--isa", arguments.isa] if arguments.isa else []
        m = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        load = f"{statistics.median(m['load']):.1f} | {m['load'][0]:.1f}"
        yield f"| {name} | {peer} | {load} | {m['peak']:.1f} | {m['before']:.1f} |"


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    known = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
    return f"{', '.join(names) or platform.processor()}, {os.cpu_count()} cores, {' '.join(f for f in known if f in flags)}"


def header(arguments):
    """What was measured, and where."""
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    versions = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
    parts = [f"commit {commit}"] if commit else []
    parts += [f"{peer} {version(package)}" for peer, package in versions.items() if peer in peers(arguments)]
    text = f"{cpu()}; {', '.join(parts)}; load {os.getloadavg()[0]:.1f}"
    if arguments.isa:
        text += f"\n\nOnly the instructions of {arguments.isa}. ONNX Runtime has no switch for that and is left out."
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", type=Path, default=[], help="quantized models")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", default="1,2", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--bits", default="8,16", type=lambda text: [int(n) for n in text.split(",")],
                        help="of the activations")
    parser.add_argument("--isa", choices=ONEDNN)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=50, help="runs of ours in a round")
    parser.add_argument("--seconds", type=float, default=0.5, help="time of a peer in a round")
    parser.add_argument("--samples", type=int, default=4, help="inputs whose codes are compared")
    parser.add_argument("--binary", type=Path, help="without it, cargo builds one")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only-peer", help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = ONEDNN[arguments.isa]
    if arguments.only_peer:
        return load_peer(arguments, arguments.only_peer)
    if not arguments.binary:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
        arguments.binary = ROOT / "target/release/naive-ptq"
    text = []

    def say(line):
        print(line, flush=True)
        text.append(line)

    say(header(arguments))
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        models = list(networks(arguments, scratch))
        for rows, titles in [
            (latency, "network | threads | engine | median, ms | minimum, ms | ours is faster by | equal codes"),
            (load_and_memory, "network | engine | load + plan, ms | first, ms | peak RSS, MB | RSS before the model, MB"),
        ]:
            lines = ["---" if title in ("network", "engine") else "--:" for title in titles.split(" | ")]
            say(f"\n| {titles} |\n|{'|'.join(lines)}|")
            for name, model in models:
                for row in rows(arguments, name, model, scratch):
                    say(row)
    if arguments.output:
        arguments.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
