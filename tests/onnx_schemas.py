"""Compares what the sources say of ONNX's operator types with the definitions of the package onnx.

usage: onnx_schemas.py TABLE ROOT

TABLE has rows [type, operator set, fewest inputs, most inputs, most outputs]; under ROOT/src the operators ask
for attributes. Prints a line for each contradiction, and how much was compared.
"""

import json
import re
import sys
from pathlib import Path

import onnx

MANY = 2**31 - 1
KINDS = {"int": "INT", "flag": "INT", "flag_or": "INT", "type": "INT", "ints": "INTS", "float": "FLOAT", "string": "STRING"}
# Of operators that are Microsoft's.
MICROSOFT = {("channels_last", "INT"), ("opset", "INT")}
# Of Quant in QONNX, which the package does not define.
QONNX = {("narrow", "INT"), ("rounding_mode", "STRING"), ("signed", "INT")}
TAKEN = re.compile(r"take_(int|flag|flag_or|type|ints|float|string)\((?:node, )?\"(\w+)\"")


def schema(op_type, opset):
    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def arities(table):
    compared = 0
    for op_type, opset, fewest, most, outputs in table:
        known = schema(op_type, opset) if opset <= onnx.defs.onnx_opset_version() else None
        if known is None or known.deprecated:
            continue
        said = (fewest, min(most, MANY), min(outputs, MANY))
        true = (known.min_input, known.max_input, known.max_output)
        if said != true:
            print(f"{op_type} of operator set {opset}: inputs and outputs {said}, expected {true}")
        compared += 1
    return compared


def attributes(types, root):
    """Of an operator's folder, those that the types named in it have; elsewhere those of any type."""
    versions = {}
    for known in onnx.defs.get_all_schemas_with_history():
        if known.domain == "" and known.name in types:
            kinds = versions.setdefault(known.name, set())
            kinds.update((name, str(a.type).split(".")[-1]) for name, a in known.attributes.items())
    compared = 0
    files = [*root.glob("src/ops/*/mod.rs"), *(root / "src/onnx").glob("*.rs"), *(root / "src/onnx/fold").glob("*.rs")]
    for path in files:
        text = path.read_text()
        named = set(re.findall(r"\"(\w+)\"", text)) | {"Split"} if "ops" in path.parts else types
        known = MICROSOFT.union(*(versions[name] for name in named & versions.keys()))
        if path.name == "qonnx.rs":
            known |= QONNX
        for kind, name in sorted(set(TAKEN.findall(text))):
            if (name, KINDS[kind]) not in known:
                print(f"{path.relative_to(root)}: no operator type has \"{name}\" of kind {KINDS[kind]}")
            compared += 1
    return compared


table = json.loads(Path(sys.argv[1]).read_text())
counts = arities(table), attributes({row[0] for row in table}, Path(sys.argv[2]))
print(f"compared {counts[0]} rows and {counts[1]} attributes")
