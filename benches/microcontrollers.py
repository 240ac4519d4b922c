"""Instructions, flash and RAM of deployed networks on an emulated microcontroller, beside TFLM + CMSIS-NN.

    python3 benches/microcontrollers.py [--data DIR] [--board m4|m0|rv32] [--variants | --widths] [--output FILE.md] [NET ...]

NET is a folder that `naive-ptq deploy` has written. Without one, networks are quantized and deployed first: the
bundled one and those of DIR/mlperf_tiny (*.onnx, *_calib.npz, *_test.npz). Every test vector is compared byte for
byte.
--output replaces the section of the board in FILE.md, between two comments, or appends it; without it, the
section is printed. --variants also measures what instructions it takes with one thing switched off; --widths, in
a section of its own, what codes of other widths take. Needs nothing but Python, cargo and the packages in
firmware/README.md.
"""

import argparse
import json
import os
import re
import shutil
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

# name, beginning of the names of its data, preprocessing
NETWORKS = [
    ("ic_resnet8", "ic", []),
    ("kws_dscnn", "kws", []),
    ("vww_mobilenetv1", "vww", BY_255),
    ("ad_autoencoder", "ad", []),
]

# Given figures of TFLM + CMSIS-NN on a Cortex-M4, not measured here: MACs and instructions in millions; code and RAM
# in kB (1000 bytes), and the activations that are alive at one time where nothing is computed in place.
PUBLISHED = {
    "ic_resnet8": (12.50, 29.86, 51.0, 56.1, 49.2),
    "kws_dscnn": (2.66, 7.70, 53.2, 23.9, 16.0),
    "vww_mobilenetv1": (7.49, 24.10, 53.2, 101.8, 55.3),
    "ad_autoencoder": (0.264, 0.58, 27.1, 2.6, 0.8),
}


# What is asked of `quantize` for other widths, and what that is called.
WIDTHS = {
    "": [],
    ", 16-bit activations": ["--activations", "16"],
    ", 4-bit weights": ["--weights", "4"],
    ", 16-bit activations, 4-bit weights": ["--activations", "16", "--weights", "4"],
    ", 16-bit weights": ["--weights", "16"],
    ", 16-bit activations and weights": ["--activations", "16", "--weights", "16"],
}


def deploy(binary, model, calib, test, preprocessing, scratch, to, widths=()):
    """Float ONNX file to folder of C code; returns the MACs of an inference."""

    def tool(*arguments):
        return subprocess.run([binary, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout

    quantized = scratch / f"{to.name}.int8.onnx"
    tool("quantize", model, "--calib", calib, "-o", quantized, *preprocessing, *widths)
    tool("deploy", quantized, "--target", "c", "-o", to, "--test-vectors", 2, "--data", test, *preprocessing)
    return json.loads(tool("inspect", quantized, "--json"))["macs"]


def networks(data, scratch, widths):
    """Deploys one network after the other: name, folder, MACs. With `widths` two of them, in all widths."""
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    binary = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/naive-ptq"
    fashion = ROOT / "models/fashion"
    found = [("fashion", fashion / "float.onnx", fashion / "calib.npz", fashion / "test.npz", BY_255)]
    for name, short, preprocessing in NETWORKS if data else []:
        files = [data / "mlperf_tiny" / file for file in (f"{name}.onnx", f"{short}_calib.npz", f"{short}_test.npz")]
        found.append((name, *files, preprocessing))
    for name, *files, preprocessing in found:
        for suffix, options in WIDTHS.items() if widths and name in ("ic_resnet8", "kws_dscnn") else []:
            folder = scratch / (name + suffix)
            yield name + suffix, folder, deploy(binary, *files, preprocessing, scratch, folder, options)
        if not widths:
            yield name, scratch / name, deploy(binary, *files, preprocessing, scratch, scratch / name)


def given(folder):
    """A folder that exists: name, folder, MACs, which net.h may tell."""
    macs = re.search(r"#define\s+NET_MACS\s+(\d+)", (folder / "net.h").read_text())
    return folder.resolve().name, folder, int(macs[1]) if macs else None


def measure(folder, board, scratch, targets=("nofloat", "size", "run"), options=""):
    """What the firmware reports; a string if it does not fit on the board."""
    report = {}
    for target in targets:
        command = ["make", "--silent", f"BOARD={board}", f"NET={folder.resolve()}", f"BUILD={scratch / 'build'}"]
        command += [f"OPT=-O2 {options}", target]
        result = subprocess.run(command, cwd=ROOT / "firmware", capture_output=True, text=True)
        if result.returncode != 0:
            output = result.stdout + result.stderr
            if "overflowed by" in output or "RAM is full" in output:
                return "does not fit"
            sys.exit(f"make {target} BOARD={board} NET={folder}:\n{output}")
        if target != "nofloat":
            report.update(json.loads(result.stdout.splitlines()[-1]))
    return report


def numbers(array, source):
    """The elements of a constant array."""
    return [int(n) for n in re.search(rf" {array}\[\] = {{([^}}]*)}};", source)[1].split(",")]


def without_high_words(source):
    """net.c with REQUANT_GENERAL in place of REQUANT_HIGH: the same multipliers, as they are."""
    for start, layer, old in re.findall(r"(?ms)^(static const struct \w+ (\w+) = {)(.*?)^};", source):
        if "REQUANT_HIGH" not in old:
            continue
        prefix = f"{layer}_product_requant"
        factors = numbers(f"{prefix}_factor", source)
        common = re.search(r"\.shift = (\d+)", old)
        shifts = [int(common[1])] * len(factors) if common else numbers(f"{prefix}_shifts", source)
        spare = [factor.bit_length() - 24 for factor in factors]
        pairs = [f"{{{f >> k}, {s - k}}}" for f, s, k in zip(factors, shifts, spare)]
        table = f"static const struct multiplier {prefix}_multiplier[] = {{{', '.join(pairs)}}};\n"
        new = old.replace("REQUANT_HIGH", "REQUANT_GENERAL")
        new = new.replace(f".factor = {prefix}_factor", f".multiplier = {prefix}_multiplier")
        source = source.replace(start + old, table + start + new)
    return source


GENERAL_64 = ("product.inc", lambda s: s.replace("if (sizeof acc == sizeof(int32_t) && m.shift", "if (0 && m.shift"))

# What is switched off: the files that change, and how; options of the compiler.
VARIANTS = {
    "`REQUANT_HIGH`": ([("net.c", without_high_words)], ""),
    "and all 32-bit rescaling": ([("net.c", without_high_words), GENERAL_64], ""),
    "sums in registers": ([("product.inc", lambda s: re.sub("(define NAIVE_PTQ_MATMUL_PAIRS) .*", r"\1 0", s))], ""),
    "depthwise pairs": ([("conv.inc", lambda s: s.replace("int in_pairs = NAIVE_PTQ_MATMUL_DSP &&", "int in_pairs = 0 &&"))], ""),
    "folded Add": ([("net.c", lambda s: s.replace(".folded = 1", ".folded = 0"))], ""),
    "`NET_DSP`": ([], "-DNET_DSP=0"),
}


def variants(folder, board, scratch):
    """Instructions with one thing switched off; None if that changes nothing."""
    counts = []
    for changes, options in VARIANTS.values():
        copy = scratch / "variant"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        changed = bool(options)
        for name, change in changes:
            file = copy / name
            old = file.read_text() if file.exists() else ""
            if change(old) != old:
                file.write_text(change(old))
                changed = True
            elif old and name != "net.c":
                sys.exit(f"{file.name} has nothing that this variant switches off")
        counts.append(measure(copy, board, scratch, ["run"], options)["instructions"] if changed else None)
    return counts


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
    header += ["RAM + stack kB", "TFLM", "ratio", "alive kB"]
    rows = []
    for name, _, r in measured:
        if name not in PUBLISHED or isinstance(r, str):
            continue
        _, instructions, code, ram, alive = PUBLISHED[name]
        row = [name]
        for ours, theirs, digits in (
            (r["instructions"] / 1e6, instructions, 2),
            (r["code_bytes"] / 1e3, code, 1),
            ((r["ram_bytes"] + r["stack_bytes"]) / 1e3, ram, 1),
        ):
            row += [f"{ours:.{digits}f}", f"{theirs:.{digits}f}", f"{ours / theirs:.2f}"]
        rows.append(row + [f"{alive:.1f}"])
    return table(header, rows) if rows else ""


def switched_off(measured, counts):
    rows = []
    for (name, _, r), row in zip(measured, counts):
        times = [f"{n / r['instructions']:.2f}" if n not in (None, r["instructions"]) else "" for n in row]
        rows.append([name, str(r["instructions"]), *times])
    return (
        "\nInstructions if one thing is switched off, as a multiple of those above. All test vectors still gave the\n"
        "same bytes.\n\n"
    ) + table(["network", "instructions", *VARIANTS], rows)


def section(measured, board, counts):
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
            "\nBeside given figures of TFLM + CMSIS-NN, which this script does not measure; below 1, this tool needs less.\n"
            "Alive: the most bytes of activations at one time, if nothing is computed in place.\n\n"
        ) + comparison
    return text + (switched_off(measured, counts) if counts else "")


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
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--widths", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    measured, counts = [], []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        given_nets = map(given, arguments.nets)
        nets = given_nets if arguments.nets else networks(arguments.data, scratch, arguments.widths)
        for name, folder, macs in nets:
            measured.append((name, macs, measure(folder, arguments.board, scratch)))
            print(name, measured[-1][2], file=sys.stderr, flush=True)
            if arguments.variants:
                counts.append(variants(folder, arguments.board, scratch))
    text = absolute(measured) if arguments.widths else section(measured, arguments.board, counts)
    if arguments.output:
        write(arguments.output, arguments.board + " --widths" * arguments.widths, text)
    else:
        print(text, end="")


main()
