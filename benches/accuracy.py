"""Writes docs/accuracy.md: what each scheme makes of each network.

    python3 benches/accuracy.py [--data DIR] [--samples N] [--ort] [--binary FILE]

The bundled network is always measured. DIR may hold more: mlperf_tiny/, cifar10/, models/ and imagenet/ with
the files named below; what is missing is left out. Needs nothing but Python and cargo; --ort, which has ONNX
Runtime quantize ad_autoencoder, too, needs numpy, onnx and onnxruntime.
"""

import argparse
import json
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BY_255 = ["--scale", "0.00392156862745098"]
IMAGENET = BY_255 + ["--mean", ".485,.456,.406", "--std", ".229,.224,.225"]
SQUARE = ["--mean", "127", "--std", "128", "--crop-fraction", "0.875", "--filter", "bicubic"]

# name, model, calibration data, test data, preprocessing; the last two of one folder of images
NETWORKS = [
    ("ic_resnet8", "mlperf_tiny/ic_resnet8.onnx", "mlperf_tiny/ic_calib.npz", "mlperf_tiny/ic_test.npz", []),
    ("kws_dscnn", "mlperf_tiny/kws_dscnn.onnx", "mlperf_tiny/kws_calib.npz", "mlperf_tiny/kws_test.npz", []),
    ("vww_mobilenetv1", "mlperf_tiny/vww_mobilenetv1.onnx", "mlperf_tiny/vww_calib.npz", "mlperf_tiny/vww_test.npz", BY_255),
    ("ad_autoencoder", "mlperf_tiny/ad_autoencoder.onnx", "mlperf_tiny/ad_calib.npz", "mlperf_tiny/ad_test.npz", []),
    ("resnet20", "models/resnet20_cifar10.onnx", "cifar10/calib.npz", "cifar10/test.npz", IMAGENET),
    ("mobilenet_v2", "models/mobilenet_v2.onnx", "imagenet:0", "imagenet:1", IMAGENET + ["--resize", "256", "--crop", "224"]),
    ("efficientnet_lite0", "models/efficientnet_lite0.onnx", "imagenet:0", "imagenet:1", SQUARE + ["--resize", "224", "--crop", "224"]),
]
# The residual path: what has no sums stays as it is.
SUMS = '[{"types": ["Add"], "activations": 16}]'
SCHEMES = [
    ("scale, per channel", ["--scheme", "scale", "--granularity", "channel"]),
    ("its ranges by percentile", ["--calibrator", "percentile"]),
    ("its sums in 16 bits", ["--recipe", SUMS]),
    ("its weights in 4 bits", ["--weights", "4"]),
    ("scale, per tensor", ["--scheme", "scale", "--granularity", "tensor"]),
    ("shift, per channel", ["--scheme", "shift", "--granularity", "channel"]),
    ("shift, per tensor", ["--scheme", "shift", "--granularity", "tensor"]),
    ("scale, 16-bit activations", ["--activations", "16"]),
    ("scale, 16-bit weights, too", ["--activations", "16", "--weights", "16"]),
]


def run(binary, *arguments):
    return subprocess.run([binary, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def images(data, half, to):
    """Every second image of a folder with labels.csv, as a folder of its own."""
    rows = (data / "labels.csv").read_text().splitlines()
    if not rows[0].rsplit(",", 1)[1].strip().isdigit():
        rows = rows[1:]
    (to / "images").mkdir(parents=True)
    for row in rows[half::2]:
        shutil.copy(data / "images" / row.rsplit(",", 1)[0], to / "images")
    (to / "labels.csv").write_text("\n".join(rows[half::2]) + "\n")
    return to


def networks(data, scratch):
    fashion = ROOT / "models/fashion"
    yield "fashion (bundled)", fashion / "float.onnx", fashion / "calib.npz", fashion / "test.npz", BY_255
    for name, model, calib, test, preprocessing in NETWORKS if data else []:
        if not (data / model).exists():
            continue
        if calib.startswith("imagenet"):
            calib, test = (images(data / "imagenet", half, scratch / f"{name}{half}") for half in (0, 1))
        yield name, data / model, data / calib, data / test, preprocessing


def autoencoder_by_onnx_runtime(data):
    """Output SQNR of ad_autoencoder as ONNX Runtime quantizes and runs it: 8 bits, per channel, min-max."""
    import numpy as np
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = str(data / "mlperf_tiny/ad_autoencoder.onnx")
    calib, x = (np.load(data / f"mlperf_tiny/ad_{part}.npz")["x"].astype(np.float32) for part in ("calib", "test"))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")

    def run(path):
        session = onnxruntime.InferenceSession(path, options)
        name, batch = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
        batch = batch if isinstance(batch, int) else 50
        parts = [session.run(None, {name: x[i : i + batch]})[0] for i in range(0, len(x), batch)]
        return name, np.concatenate(parts).astype(np.float64)

    name, float_y = run(model)

    class Samples(CalibrationDataReader):
        samples = ({name: calib[i : i + 1]} for i in range(len(calib)))

        def get_next(self):
            return next(self.samples, None)

    with tempfile.TemporaryDirectory() as scratch:
        prepared, quantized = (str(Path(scratch) / name) for name in ("prepared.onnx", "int8.onnx"))
        quant_pre_process(model, prepared, skip_symbolic_shape=True)  # folds batch normalization
        quantize_static(prepared, quantized, Samples(), per_channel=True, extra_options={"WeightSymmetric": True})
        _, y = run(quantized)
    return 10 * np.log10((float_y**2).sum() / ((float_y - y) ** 2).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=0, help="no more than N test samples (0: all)")
    parser.add_argument("--ort", action="store_true", help="also quantize ad_autoencoder with ONNX Runtime")
    parser.add_argument("--binary", type=Path, help="this program instead of the one built here")
    arguments = parser.parse_args()
    binary = arguments.binary or ROOT / "target/release/naive-ptq"
    if not arguments.binary:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    few = ["--samples", arguments.samples] if arguments.samples else []
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for name, model, calib, test, preprocessing in networks(arguments.data, scratch):
            sums = scratch / f"{name}.json"
            sums.write_text(SUMS)
            has_sums = any(node["operator"] == "Add" for node in json.loads(run(binary, "inspect", model, "--json"))["nodes"])
            for scheme, options in SCHEMES:
                if SUMS in options and not has_sums:
                    continue
                options = [sums if option is SUMS else option for option in options]
                out = scratch / "int8.onnx"
                run(binary, "quantize", model, "--calib", calib, "-o", out, *options, *preprocessing)
                e = json.loads(
                    run(binary, "eval", out, "--data", test, "--reference", model, "--json", *few, *preprocessing)
                )
                percent = lambda share: "" if share is None else f"{100 * share:.2f}"
                rows.append(
                    f"| {name} | {scheme} | {e['samples']} | {percent(e['reference_top1'])} | {percent(e['top1'])} "
                    f"| {percent(e['agreement'])} | {e['output_sqnr_db']:.2f} |"
                )
                print(rows[-1], flush=True)
    beside = ""
    if arguments.ort and arguments.data:
        db = autoencoder_by_onnx_runtime(arguments.data)
        beside = (
            f"ONNX Runtime's `quantize_static` (8 bits, per channel, symmetric weights, min-max) comes to {db:.2f} dB there:\n"
            "it does not correct biases.\n\n"
        )
    commit = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    (ROOT / "docs/accuracy.md").write_text(
        "# Accuracy\n\n"
        "Weights and activations of 8 bits, where the scheme does not say otherwise, a scale for each channel where it does\n"
        "not either; everything else as `naive-ptq quantize` does it by default: channels equalized under `shift`, weights rounded\n"
        "together, biases corrected, 8-bit ranges chosen for each value (`auto`), twice the observed range for 16 bits. *Its* is\n"
        "that of the first row of a network. Agreement: share of samples with the same largest output as the float network. For\n"
        "ad_autoencoder, which does not classify, the SQNR is the measure.\n\n"
        "`auto` is within the noise of these samples on most networks; on mobilenet_v2, which wants much cut off, it is 3 dB below\n"
        "the percentile. What it is for are networks with rare peaks that matter, which a percentile cuts. Weights of 4 bits are\n"
        "those of all layers but the first, the last and depthwise ones; a [recipe](recipes.md) chooses others.\n\n"
        f"{beside}"
        f"Written by `python3 benches/accuracy.py --data DIR` at {commit}, {platform.machine()}.\n\n"
        "| network | scheme | samples | float top-1 % | top-1 % | agreement % | output SQNR dB |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


main()
