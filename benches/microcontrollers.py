"""Instructions, flash and RAM of deployed networks on an emulated microcontroller, beside TFLM + CMSIS-NN.

    python3 benches/microcontrollers.py [--data DIR] [--board m4|m0|rv32] [--output FILE.md] [NET ...]

NET is a folder that `naive-ptq deploy` has written. Without one, networks are quantized and deployed first: the
bundled one and those of DIR/mlperf_tiny (*.onnx, *_calib.npz). Every test vector is compared byte for byte.
--output replaces the section of the board in FILE.md, between two comments, or appends it; without it, the
section is printed. Needs nothing but Python, cargo and the packages in firmware/README.md.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BY_255 = ["--scale", "0.00392156862745098"]
BOARDS = {
    "m4": "Cortex-M4 (`qemu-system-arm -M mps2-an386`)",
    "m0": "Cortex-M0 (`qemu-system-arm -M microbit`)",
    "rv32": "RISC-V rv32imc (`qemu-system-riscv32 -M virt`)",
}

# name, model, calibration data, preprocessing
NETWORKS = [
    ("ic_resnet8", "mlperf_tiny/ic_resnet8.onnx", "mlperf_tiny/ic_calib.npz", []),
    ("kws_dscnn", "mlperf_tiny/kws_dscnn.onnx", "mlperf_tiny/kws_calib.npz", []),
    ("vww_mobilenetv1", "mlperf_tiny/vww_mobilenetv1.onnx", "mlperf_tiny/vww_calib.npz", BY_255),
    ("ad_autoencoder", "mlperf_tiny/ad_autoencoder.onnx", "mlperf_tiny/ad_calib.npz", []),
]

# Published figures of TFLM + CMSIS-NN on a Cortex-M4: MACs and instructions in millions; code, RAM, and the least
# RAM that the activations need, in kB (1000 bytes).
PUBLISHED = {
    "ic_resnet8": (12.50, 29.86, 51.0, 56.1, 49.2),
    "kws_dscnn": (2.66, 7.70, 53.2, 23.9, 16.0),
    "vww_mobilenetv1": (7.49, 24.10, 53.2, 101.8, 55.3),
    "ad_autoencoder": (0.264, 0.58, 27.1, 2.6, 0.8),
}


def deploy(binary, model, calib, preprocessing, scratch, to):
    """Float ONNX file to folder of C code; returns the MACs of an inference."""

    def tool(*arguments):
        return subprocess.run([binary, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout

    quantized = scratch / f"{to.name}.int8.onnx"
    tool("quantize", model, "--calib", calib, "-o", quantized, *preprocessing)
    tool("deploy", quantized, "--target", "c", "-o", to, "--test-vectors", 4, "--data", calib, *preprocessing)
    return json.loads(tool("inspect", quantized, "--json"))["macs"]


def networks(data, scratch):
    """Deploys one network after the other: name, folder, MACs."""
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    binary = ROOT / "target/release/naive-ptq"
    fashion = ROOT / "models/fashion"
    found = [("fashion", fashion / "float.onnx", fashion / "calib.npz", BY_255)]
    for name, model, calib, preprocessing in NETWORKS if data else []:
        if (data / model).exists():
            found.append((name, data / model, data / calib, preprocessing))
    for name, model, calib, preprocessing in found:
        folder = scratch / name
        yield name, folder, deploy(binary, model, calib, preprocessing, scratch, folder)


def given(folder):
    """A folder that exists: name, folder, MACs, which net.h may tell."""
    macs = re.search(r"#define\s+NET_MACS\s+(\d+)", (folder / "net.h").read_text())
    return folder.resolve().name, folder, int(macs[1]) if macs else None


def measure(folder, board, scratch):
    """What the firmware reports; a string if it does not fit on the board."""
    report = {}
    for target in ("nofloat", "size", "run"):
        command = ["make", "--silent", f"BOARD={board}", f"NET={folder.resolve()}", f"BUILD={scratch / 'build'}", target]
        result = subprocess.run(command, cwd=ROOT / "firmware", capture_output=True, text=True)
        if result.returncode != 0:
            output = result.stdout + result.stderr
            if "overflowed by" in output or "RAM is full" in output:
                return "does not fit"
            sys.exit(f"make {target} BOARD={board} NET={folder}:\n{output}")
        if target != "nofloat":
            report.update(json.loads(result.stdout.splitlines()[-1]))
    return report


def table(header, rows):
    """Markdown, the first column to the left, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def absolute(measured):
    header = ["network", "MACs", "instructions", "per MAC", "code B", "constants B", "RAM B", "stack B"]
    rows = []
    for name, macs, r in measured:
        if isinstance(r, str):
            rows.append([name, f"{macs or ''}", r] + [""] * 5)
            continue
        per_mac = f"{r['instructions'] / macs:.2f}" if macs else ""
        sizes = [str(r[key]) for key in ("code_bytes", "constant_bytes", "ram_bytes", "stack_bytes")]
        rows.append([name, f"{macs or ''}", str(r["instructions"]), per_mac, *sizes])
    return table(header, rows)


def beside_published(measured):
    header = ["network", "M instructions", "TFLM", "ratio", "code kB", "TFLM", "ratio"]
    header += ["RAM + stack kB", "TFLM", "ratio", "floor"]
    rows = []
    for name, _, r in measured:
        if name not in PUBLISHED or isinstance(r, str):
            continue
        _, instructions, code, ram, floor = PUBLISHED[name]
        row = [name]
        for ours, theirs, digits in (
            (r["instructions"] / 1e6, instructions, 2),
            (r["code_bytes"] / 1e3, code, 1),
            ((r["ram_bytes"] + r["stack_bytes"]) / 1e3, ram, 1),
        ):
            row += [f"{ours:.{digits}f}", f"{theirs:.{digits}f}", f"{ours / theirs:.2f}"]
        rows.append(row + [f"{floor:.1f}"])
    return table(header, rows) if rows else ""


def section(measured, board):
    compiler = "riscv64-unknown-elf-gcc" if board == "rv32" else "arm-none-eabi-gcc"
    version = subprocess.run([compiler, "-dumpversion"], check=True, capture_output=True, text=True).stdout.strip()
    text = (
        f"## {BOARDS[board]}\n\n"
        f"{compiler} {version} -O2. Instructions of one inference as QEMU counts them; flash and RAM of the network\n"
        "alone. All test vectors gave the bytes that the tool computed; no float function was linked.\n\n"
    )
    text += absolute(measured)
    comparison = beside_published(measured) if board == "m4" else ""
    if comparison:
        text += (
            "\nBeside published figures of TFLM + CMSIS-NN; a ratio below 1 means that this tool needs less. Floor: the\n"
            "least RAM that the activations need.\n\n"
        ) + comparison
    return text


def write(path, board, text):
    """Replaces the section of the board, or appends it."""
    begin, end = f"<!-- begin: microcontrollers.py, {board} -->\n", f"<!-- end: {board} -->\n"
    block = begin + text + end
    old = path.read_text() if path.exists() else "# Microcontrollers\n"
    if begin in old and end in old:
        new = old[: old.index(begin)] + block + old[old.index(end) + len(end) :]
    else:
        new = old.rstrip("\n") + "\n\n" + block
    path.write_text(new)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", metavar="NET", type=Path, nargs="*")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--board", choices=BOARDS, default="m4")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for name, folder, macs in map(given, arguments.nets) if arguments.nets else networks(arguments.data, scratch):
            measured.append((name, macs, measure(folder, arguments.board, scratch)))
            print(name, measured[-1][2], file=sys.stderr, flush=True)
    text = section(measured, arguments.board)
    if arguments.output:
        write(arguments.output, arguments.board, text)
    else:
        print(text, end="")


main()
