"""Writes docs/networks.md: networks as packages ship them, through the whole pipeline.

    python3 benches/networks.py [--data DIR] [--only REGEX] [--binary FILE] [--jobs N]

Needs torch, torchvision, timm, ultralytics, matplotlib, rapidocr-onnxruntime (only its files), onnx and onnxruntime; what is missing
is left out and named. DIR may hold mlperf_tiny/ with trained networks and data. Weights of torchvision, timm and
ultralytics are random, as nothing is downloaded; batch normalizations of ultralytics get the statistics of the
calibration images, without which the outputs are constants. Images are random crops of photographs that matplotlib and ultralytics
bring: two photographs calibrate, a third one judges.
"""

import argparse
import concurrent.futures
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SEED = 7
TORCHVISION = [
    ("alexnet", 224), ("densenet121", 224), ("efficientnet_b0", 224), ("googlenet", 224), ("mnasnet0_5", 224), ("mobilenet_v2", 224),
    ("mobilenet_v3_small", 224), ("regnet_y_400mf", 224), ("resnet18", 224), ("shufflenet_v2_x0_5", 224), ("squeezenet1_1", 224),
    ("convnext_tiny", 224), ("swin_t", 224), ("segmentation.lraspp_mobilenet_v3_large", 224),
]
TIMM = [
    ("deit_tiny_patch16_224", 224), ("edgenext_xx_small", 256), ("efficientvit_b0", 224), ("fastvit_t8", 256), ("ghostnet_100", 224),
    ("hardcorenas_a", 224), ("lcnet_050", 224), ("levit_128s", 224), ("mobileone_s0", 224), ("mobilevit_xxs", 256),
    ("pit_ti_224", 224), ("poolformer_s12", 224), ("repvgg_a0", 224), ("swin_tiny_patch4_window7_224", 224),
    ("swinv2_tiny_window8_256", 256), ("tinynet_e", 106), ("xcit_nano_12_p16_224", 224),
]
ULTRALYTICS = [("yolov5n", 320), ("yolov8n", 320), ("yolov8n-seg", 320), ("yolov8n-pose", 320), ("yolo11n", 320)]
OCR = [("ch_PP-OCRv4_det_infer", (320, 320)), ("ch_ppocr_mobile_v2.0_cls_infer", (48, 192)), ("ch_PP-OCRv4_rec_infer", (48, 320))]
# The last one only where the first has less than 25 dB.
SCHEMES = [("shift", ["--scheme", "shift"]), ("scale", ["--scheme", "scale"]), ("wide", ["--activations", "16"])]
TINY = ["ic_resnet8", "kws_dscnn", "vww_mobilenetv1", "ad_autoencoder"]


# ---------------------------------------------------------------------------------------------------------- data
def crops(files, size, count, seed):
    """`[count, 3, h, w]`: random parts of photographs, normalized as networks of ImageNet are fed."""
    from PIL import Image

    random = np.random.default_rng(seed)
    photographs = [Image.open(file).convert("RGB") for file in files]
    height, width = size
    out = np.empty((count, 3, height, width), np.float32)
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        share = random.uniform(0.3, 0.9) * min(photograph.width / width, photograph.height / height)
        w, h = width * share, height * share
        left, top = random.uniform(0, photograph.width - w), random.uniform(0, photograph.height - h)
        part = photograph.resize((width, height), Image.BILINEAR, (left, top, left + w, top + h))
        x = np.asarray(part, np.float32).transpose(2, 0, 1) / 255
        out[i] = (x - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
    return out


def photographs(size, count=16):
    import matplotlib

    folder = lambda package: Path(importlib.util.find_spec(package).origin).parent
    assets = folder("ultralytics") / "assets"
    judge = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return crops([assets / "bus.jpg", assets / "zidane.jpg"], size, count, SEED), crops([judge], size, count, SEED + 1)


# ------------------------------------------------------------------------------------------------------- networks
def settle(network, x):
    """The running statistics of batch normalizations become those of `x`."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.no_grad():
        network(torch.from_numpy(x))
    return network.eval()


def exported(network, x, to):
    import torch

    torch.onnx.export(network.eval(), (torch.from_numpy(x[:1]),), str(to), dynamo=False, opset_version=17)


def torchvision(name, side, to):
    import torch
    import torchvision

    torch.manual_seed(SEED)
    calib, test = photographs((side, side))
    if name.startswith("segmentation."):
        network = torchvision.models.get_model(name.split(".")[1], weights=None, weights_backbone=None)

        class Only(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.network = network

            def forward(self, x):
                return self.network(x)["out"]

        network = Only()
    else:
        more = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
        network = torchvision.models.get_model(name, weights=None, **more)
    exported(network, calib, to)
    return calib, test


def timm(name, side, to):
    import timm
    import torch

    torch.manual_seed(SEED)
    calib, test = photographs((side, side))
    exported(timm.create_model(name, pretrained=False, exportable=True), calib, to)
    return calib, test


def ultralytics(name, side, to):
    import torch
    from ultralytics import YOLO

    torch.manual_seed(SEED)
    calib, test = photographs((side, side))
    calib, test = (np.clip(x * 0.226 + 0.45, 0, 1) for x in (calib, test))
    network = YOLO(f"{name}.yaml", verbose=False)
    settle(network.model, calib)
    os.chdir(to.parent)
    written = network.export(format="onnx", imgsz=side, opset=17, simplify=False, dynamic=False, verbose=False)
    Path(written).rename(to)
    return calib, test


def ocr(name, size, to):
    found = Path(importlib.metadata.distribution("rapidocr-onnxruntime").locate_file("rapidocr_onnxruntime/models")) / f"{name}.onnx"
    to.write_bytes(found.read_bytes())
    return photographs(size)


def tiny(data, name, to):
    folder = data / "mlperf_tiny"
    to.write_bytes((folder / f"{name}.onnx").read_bytes())
    prefix = name.split("_")[0]
    calib, test = (np.load(folder / f"{prefix}_{part}.npz")["x"][:64] for part in ("calib", "test"))
    by = np.float32(1 / 255 if prefix == "vww" else 1)
    return tuple(x.astype(np.float32) * by for x in (calib, test))


def networks(data):
    """Name, group, how many multiply-accumulates are worth a compiler, and the function that writes it."""
    for name, side in TORCHVISION:
        yield "torchvision", name, lambda to, n=name, s=side: torchvision(n, s, to)
    for name, side in TIMM:
        yield "timm", name, lambda to, n=name, s=side: timm(n, s, to)
    for name, side in ULTRALYTICS:
        yield "ultralytics", name, lambda to, n=name, s=side: ultralytics(n, s, to)
    for name, size in OCR:
        yield "PP-OCR, trained", name, lambda to, n=name, s=size: ocr(n, s, to)
    for name in TINY if data else []:
        yield "MLPerf Tiny, trained", name, lambda to, n=name: tiny(data, n, to)


# -------------------------------------------------------------------------------------------------------- measures
class Refused(Exception):
    pass


def tool(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise Refused(next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}"))
    return done.stdout


def float_difference(binary, model, x, scratch):
    """The largest difference from ONNX Runtime over the outputs, in shares of the largest value."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    name = session.get_inputs()[0].name
    np.save(scratch / "few.npy", x[:2])
    worst = 0
    for i, output in enumerate(session.get_outputs()):
        right = np.concatenate([session.run([output.name], {name: x[i : i + 1]})[0] for i in range(2)])
        tool(binary, "run", model, "--input", scratch / "few.npy", "--outputs", output.name, "-o", scratch / "y.npy")
        got = np.load(scratch / "y.npy")
        worst = max(worst, np.abs(got - right.reshape(got.shape)).max() / max(np.abs(right).max(), 1e-9))
    return worst


def measure(binary, write, scratch):
    """The cells of one row."""
    model = scratch / "float.onnx"
    calib, test = write(model)
    np.save(scratch / "calib.npy", calib)
    np.save(scratch / "test.npy", test)
    cells = {}
    try:
        cells["float"] = f"{float_difference(binary, model, test, scratch):.0e}"
        for scheme, options in SCHEMES:
            if scheme == "wide" and min(found) >= 25:
                continue
            out = scratch / f"{scheme}.onnx"
            tool(binary, "quantize", model, "--calib", scratch / "calib.npy", *options, "-o", out)
            judged = json.loads(
                tool(binary, "eval", out, "--reference", model, "--data", scratch / "test.npy", "--json")
            )
            found = [part["sqnr_db"] for part in judged["outputs"] if part["part"] is None]
            cells[scheme] = " / ".join(f"{db:.1f}" for db in found)
        found = json.loads(tool(binary, "inspect", scratch / "scale.onnx", "--json"))
        cells["macs"] = f"{found['macs'] / 1e6:.0f}"
        cells["ram"] = f"{found['ram_bytes']['c'] / 1024:.0f}"
        cells["flash"] = f"{found['constant_bytes'] / 1024:.0f}"
        timed = json.loads(tool(binary, "bench", scratch / "scale.onnx", "--json"))
        cells["ms"] = f"{timed['latency_ms_min']:.2f}"
        equal = json.loads(
            tool(binary, "verify", scratch / "scale.onnx", "--data", scratch / "test.npy", "--samples", 1, "--json")
        )
        cells["equal"] = "yes" if equal["equal"] else "NO"
    except Refused as refused:
        cells["refused"] = re.sub(r"^.*?error: (\S*\.onnx: )?", "", str(refused))[:300].replace("|", "\\|")
    return cells


def row(binary, group, name, write):
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            cells = measure(binary, write, Path(scratch))
        except Exception as error:  # what the packages themselves cannot do
            cells = {"refused": f"not exported: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}
    line = f"| {group} | {name} | " + " | ".join(
        cells.get(key, "") for key in ("macs", "float", "scale", "shift", "wide", "equal", "ram", "flash", "ms", "refused")
    ) + " |"
    print(f"{line} <!-- {time.monotonic() - start:.0f} s -->", flush=True)
    return line


def one(binary, data, wanted):
    """The row of one network, in a process of its own."""
    for group, name, write in networks(data):
        if name == wanted:
            row(binary, group, name, write)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="networks whose name matches")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/naive-ptq")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = arguments.data and arguments.data.resolve()
    binary = arguments.binary.resolve()
    if arguments.one:
        return one(binary, data, arguments.one)

    def row_of(name):
        command = ["python3", __file__, "--one", name, "--binary", binary] + (["--data", data] if data else [])
        command[0] = os.sys.executable
        printed = subprocess.run(list(map(str, command)), capture_output=True, text=True).stdout
        line = next((line for line in printed.splitlines() if line.startswith("| ")), f"| | {name} | | | | | | | | | | died |")
        print(line, flush=True)
        return line.split(" <!--")[0]

    names = [name for _, name, _ in networks(data) if re.search(arguments.only, name)]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(row_of, names))
    packages = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("torch", "torchvision", "timm", "ultralytics", "rapidocr-onnxruntime", "onnxruntime")
    )
    if arguments.only:
        return
    processor = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    commit = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    text = (ROOT / "docs/networks.md").read_text() if (ROOT / "docs/networks.md").exists() else ""
    head = text.split("<!-- written below -->")[0] if "<!-- written below -->" in text else "# Networks\n\n"
    (ROOT / "docs/networks.md").write_text(
        head + "<!-- written below -->\n\n"
        f"Written by `python3 benches/networks.py --data DIR` at {commit} with {packages}; {processor}.\n\n"
        "| from | network | MMAC | float | `scale` dB | `shift` dB | 16 bits dB | equal | RAM kB | flash kB | ms | refused |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


main()
