"""A ResNet with random weights, batch norm folded, as a float ONNX file: enough to measure speed and memory.

    pip install numpy onnx
    python3 benches/resnet.py {18,50} OUT.onnx [CALIB.npz]

CALIB.npz gets random images to quantize it with.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Blocks of each stage, and whether they are bottlenecks of 1x1, 3x3 and 1x1.
DEPTHS = {18: ([2, 2, 2, 2], False), 50: ([3, 4, 6, 3], True)}


class Network:
    def __init__(self):
        self.nodes, self.constants, self.rng = [], [], np.random.default_rng(0)

    def node(self, operator, inputs, **attributes):
        output = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values):
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def weights(self, *shape, gain=2.0):
        """He initialisation; `gain` is the variance of the output over the mean square of the input."""
        deviation = np.sqrt(gain / np.prod(shape[1:]))
        weight = self.constant(self.rng.normal(0, deviation, shape))
        return [weight, self.constant(self.rng.normal(0, 0.05, shape[0]))]

    def conv(self, x, inputs, outputs, kernel, stride=1, relu=True, gain=2.0):
        parameters = self.weights(outputs, inputs, kernel, kernel, gain=gain)
        x = self.node("Conv", [x, *parameters], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)
        return self.node("Relu", [x]) if relu else x

    def block(self, x, inputs, width, stride, bottleneck):
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            y = self.conv(x, inputs, width, 1)
            y = self.conv(y, width, width, 3, stride)
        else:
            y = self.conv(x, inputs, width, 3, stride)
        # What the block adds is small, so that a sum of many stays near 1.
        y = self.conv(y, width, outputs, 1 if bottleneck else 3, relu=False, gain=0.25)
        if stride != 1 or inputs != outputs:
            x = self.conv(x, inputs, outputs, 1, stride, relu=False, gain=1.75)
        return self.node("Relu", [self.node("Add", [y, x])]), outputs


def resnet(depth):
    blocks, bottleneck = DEPTHS[depth]
    net = Network()
    x = net.conv("image", 3, 64, 7, 2)
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, count in enumerate(blocks):
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            x, channels = net.block(x, channels, 64 << stage, stride, bottleneck)
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    x = net.node("Gemm", [x, *net.weights(1000, channels)], transB=1)
    net.nodes[-1].output[0] = "logits"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])
    graph = helper.make_graph(net.nodes, f"resnet{depth}", [image], [logits], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def images(count=4):
    return np.random.default_rng(1).normal(0, 1, (count, 3, 224, 224)).astype(np.float32)


if __name__ == "__main__":
    onnx.save(resnet(int(sys.argv[1])), sys.argv[2])
    for path in sys.argv[3:]:
        np.savez(path, x=images())
