"""Quantized files of version 0.1.0 and the codes that it computed from them: what later versions must still give.

    python3 make.py BINARY            # numpy 2.4.6, onnx 1.23.2, onnxruntime 1.32.0
    python3 make.py float FOLDER      # the float networks alone, NETWORK.onnx

Writes NETWORK.SCHEME.onnx and NETWORK.SCHEME.codes.npy for each network and scheme, NETWORK.x.npy, and hashes of the
deployed source code, deployed.txt. Says of how many codes ONNX Runtime computes the same. Files that are there are
never written anew: a new operator is a new network.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
SCHEMES = {
    "shift_tensor": "--scheme shift --granularity tensor",
    "scale_channel": "--calibrator percentile",
    "scale_tensor": "--granularity tensor --calibrator moving-average --no-bias-correction",
    "scale_16_8": "--activations 16",
    "shift_8_16": "--scheme shift --weights 16 --calibrator entropy",
}
UNARY = "Abs Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Neg Sigmoid Softplus Tanh Relu".split()


class Network:
    """A graph that is written call by call: `net.Conv(x, weight)` is the name of the result."""

    def __init__(self, name, *shape):
        self.name, self.shape, self.nodes, self.constants = name, shape, [], []
        self.opset, self.ir_version = 20, 9
        self.random = np.random.default_rng(sum(name.encode()))

    def real(self, *shape):
        return (self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def name_of(self, value):
        if isinstance(value, str):
            return value
        array = np.array(value, np.int64) if isinstance(value, (list, int)) else np.asarray(value, np.float32)
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def __getattr__(self, op):
        def node(*inputs, outputs=1, **attributes):
            results = [f"{op.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
            inputs = [self.name_of(value) for value in inputs]
            self.nodes.append(helper.make_node(op, inputs, results, f"{op}_{len(self.nodes)}", **attributes))
            return results[0] if outputs == 1 else results

        return node

    def model(self, output):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, self.name, [value("x", self.shape)], [value(output, None)], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir_version)


def convolutions():
    net = Network("convolutions", 1, 4, 9, 9)
    a = net.Conv("x", net.real(8, 4, 3, 3), net.real(8), pads=[1] * 4)
    a = net.Relu(net.BatchNormalization(a, net.real(8), net.real(8), net.real(8), np.abs(net.real(8)) + 0.5))
    b = net.Clip(net.Conv(a, net.real(8, 1, 3, 3), net.real(8), group=8, strides=[2, 2], pads=[1] * 4), np.float32(0), np.float32(6))
    c = net.Conv(b, net.real(8, 8, 1, 1), net.real(8))
    d = net.Conv(b, net.real(8, 4, 3, 3), group=2, dilations=[2, 2], pads=[2] * 4)
    e = net.MaxPool(net.Add(c, d), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    f = net.AveragePool(a, kernel_shape=[3, 2], strides=[3, 3])
    g = net.ConvTranspose(net.Concat(e, f, axis=1), net.real(16, 6, 2, 2), net.real(6), strides=[2, 2])
    h = net.Flatten(net.GlobalAveragePool(net.LeakyRelu(g)))
    y = net.Gemm(h, net.real(5, 6), net.real(5), transB=1)
    return net, net.Concat(net.Softmax(y), y, net.Flatten(g), axis=1)


def unary():
    net = Network("unary", 1, 2, 5, 5)
    x = net.Mul("x", np.float32(2))
    parts = [getattr(net, op)(x) for op in UNARY]
    positive = net.Exp(x)
    parts += [positive, net.Log(net.Add(net.Abs(x), np.float32(0.5))), net.Sqrt(net.Abs(x)), net.Reciprocal(net.Add(positive, np.float32(1)))]
    return net, net.Concat(*[net.Add(part, np.float32(0)) for part in parts], axis=1)


def shapes():
    net = Network("shapes", 1, 4, 6, 6)
    padded = net.Slice(net.Pad("x", [0, 0, 1, 0, 0, 0, 2, 1], np.float32(0.25)), [1, 2], [8, 7], [2, 3], [2, 1])
    large = net.Resize("x", "", np.array([1, 1, 1.5, 2]), mode="linear")
    near = net.Resize("x", "", "", [1, 4, 3, 8], mode="nearest")
    turned = net.Reshape(net.Transpose("x", perm=[0, 2, 3, 1]), [1, 36, 4])
    product = net.MatMul(turned, net.Reshape("x", [1, 4, 36]))
    slopes = net.PRelu("x", np.array([0.1, 0.2, -0.3, 0.4]).reshape(4, 1, 1))
    mixed = net.Sub(net.Mul(slopes, net.Tanh("x")), net.Div("x", np.float32(3)))
    mean = net.ReduceMean(mixed, [2, 3])
    scaled = net.Mul(mixed, net.Sigmoid(mean))
    soft = net.Softmax(net.Reshape(scaled, [1, 4, 36]), axis=-1)
    parts = [padded, large, near, product, scaled, mean, soft]
    return net, net.Concat(*[net.Flatten(net.Add(part, np.float32(0))) for part in parts], axis=1)


def composed():
    net = Network("composed", 1, 4, 6, 6)
    instance = net.InstanceNormalization("x", net.real(4), net.real(4))
    layer = net.LayerNormalization(net.Transpose("x", perm=[0, 2, 3, 1]), net.real(4), net.real(4), axis=-1)
    left, right = net.Split("x", [1, 3], axis=1, outputs=2)
    space = net.SpaceToDepth("x", blocksize=2)
    depth = net.DepthToSpace("x", blocksize=2)
    picked = net.Gather("x", 2, axis=1)
    squared = net.Pow(right, np.float32(2))
    total = net.Sum(left, right, net.Unsqueeze(picked, [1]))
    largest = net.GlobalMaxPool(total)
    wide = net.Expand(net.ReduceMean("x", [1]), [1, 1, 6, 6])
    parts = [instance, layer, space, depth, squared, total, largest, wide]
    return net, net.Concat(*[net.Flatten(net.Add(part, np.float32(0))) for part in parts], axis=1)


def normalized():
    net = Network("normalized", 1, 4, 6, 6)
    net.opset, net.ir_version = 23, 11  # the first with RMSNormalization
    last = net.Transpose("x", perm=[0, 2, 3, 1])
    parts = [
        net.InstanceNormalization("x", net.real(4), net.real(4)),
        net.GroupNormalization("x", net.real(4), net.real(4), num_groups=2),
        net.LayerNormalization(last, net.real(4), net.real(4), axis=-1),
        net.RMSNormalization(last, net.real(6, 4), axis=2),
        net.LpNormalization("x", axis=1),
    ]
    return net, net.Concat(*[net.Flatten(net.Add(part, np.float32(0))) for part in parts], axis=1)


def largest():
    net = Network("largest", 1, 3, 6, 6)
    return net, net.ArgMax(net.Conv("x", net.real(7, 3, 3, 3), net.real(7)), axis=1, keepdims=0)


def chosen():
    net = Network("chosen", 1, 4, 5, 5)
    classes = net.ArgMax(net.Conv("x", net.real(7, 4, 3, 3), net.real(7)), axis=1, keepdims=0)
    words = net.Gather(net.real(7, 6), classes)
    rows = net.Gather("x", [3, 0, 0, 2, 1], axis=2)
    return net, net.Concat(*[net.Flatten(net.Add(part, np.float32(0))) for part in [words, rows]], axis=1)


def linear():
    net = Network("linear", 1, 20)
    hidden = net.Relu(net.Gemm("x", net.real(16, 20), net.real(16), transB=1))
    return net, net.Add(net.MatMul(hidden, net.real(16, 12)), net.real(12))


def networks():
    return [convolutions(), unary(), shapes(), composed(), normalized(), largest(), chosen(), linear()]


def main(binary):
    for net, output in networks():
        x = net.random.standard_normal((24, *net.shape[1:])).astype(np.float32)
        samples = HERE / f"{net.name}.x.npy"
        np.save(samples, x[:2])
        with tempfile.TemporaryDirectory() as folder:
            model, data = Path(folder) / "float.onnx", Path(folder) / "calib.npy"
            onnx.save(net.model(output), model)
            np.save(data, x)
            for name, options in SCHEMES.items():
                file = HERE / f"{net.name}.{name}.onnx"
                codes = file.with_suffix(".codes.npy")
                if file.exists():
                    continue
                quantize = [binary, "quantize", model, "--calib", data, "-o", file, *options.split()]
                run = [binary, "run", file, "--input", samples, "--codes", "-o", codes]
                for command in quantize, run:
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                with open(HERE / "deployed.txt", "a") as deployed:
                    for target in ["c", "rust"]:
                        source = Path(folder) / f"{file.stem}_{target}"
                        deploy = [binary, "deploy", file, "--target", target, "--test-vectors", "1", "-o", source]
                        subprocess.run(deploy, check=True, stdout=subprocess.DEVNULL)
                        print(file.stem, target, fnv(source), file=deployed)
                print(file.name, file.stat().st_size, "ONNX Runtime:", compared(file, x[:2], np.load(codes)))


def fnv(folder):
    """FNV-1a, 64 bits, of paths and contents in the order of paths."""
    files = sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file())
    hashed = 0xCBF29CE484222325
    for byte in b"".join(name.encode() + b"\0" + file.read_bytes() + b"\0" for name, file in files):
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return f"{hashed:016x}"


def compared(file, x, codes):
    """Of how many output codes ONNX Runtime computes the same: its graph is cut before the last dequantization."""
    model = onnx.load(file)
    last = next((node for node in model.graph.node if node.output[0] == model.graph.output[0].name), None)
    if last.op_type != "DequantizeLinear":
        return f"ends in {last.op_type}"
    element = next(t for t in model.graph.initializer if t.name == last.input[2]).data_type
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(last.input[0], element, None))
    model.graph.node.remove(last)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Beyond this level it computes with 8 bits where the file says 16.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    y = np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])
    y = y.astype(np.int32) - (128 if element == TensorProto.UINT8 else 32768 if element == TensorProto.UINT16 else 0)
    return f"{(y.reshape(codes.shape) == codes).sum()} of {codes.size} the same"


if __name__ == "__main__":
    if sys.argv[1] == "float":
        for network, result in networks():
            onnx.save(network.model(result), Path(sys.argv[2]) / f"{network.name}.onnx")
    else:
        main(sys.argv[1])
