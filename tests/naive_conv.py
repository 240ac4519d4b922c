"""The dumps of `naive-ptq conv`, from the other side: NumPy alone, by other methods.

    naive_conv.py check DIR                     recompute a dump; exit status 1 if anything differs
    naive_conv.py write DIR BITS KERNEL WIDTH   write one, without "stride" and "padding";
                                                WIDTH is its "output_numbit"
"""

import json
import sys
from pathlib import Path

import numpy as np

CONV, INFO = "conv.json", "quant_conv_info.json"


def windows(x, kernel, stride, pad):
    """[c, h, w] to [c, out_h, out_w, kh, kw]."""
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return views[:, ::stride, ::stride]


def convolve(weight, bias, x, stride, pad):
    taps = windows(x, weight.shape[2:], stride, pad)
    return np.tensordot(weight, taps, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None]


def python_ints(array):
    return array.astype(object)


def quantize(x, bits, shift):
    limit = 2 ** (bits - 1)
    return np.clip(np.rint(np.ldexp(x, shift)), -limit, limit - 1).astype(np.int64)


def choose_shift(x, bits):
    _, exponent = np.frexp(np.abs(x).max())  # x = mantissa * 2^exponent, mantissa in [0.5, 1)
    return int(bits - 2 - (exponent - 1))


def output_file(bits):
    return ("q_output_asint32.bin", "<i4") if bits == 8 else ("q_output_asint64.bin", "<i8")


def check(folder):
    conv = json.loads((folder / CONV).read_text())
    info = json.loads((folder / INFO).read_text())
    bits, weight_shift = conv["weight"]["num_bit"], conv["weight"]["shift_bit"]
    input_shift, stride, pad = conv["input_shiftbit"], conv["stride"], conv["padding"]
    assert list(conv) == ["weight", "bias", "input_shiftbit", "stride", "padding"]
    for codes in conv["weight"], conv["bias"]:
        assert list(codes) == ["num_bit", "shift_bit", "shape", "arr"]
    assert bits in (8, 16) and conv["bias"]["num_bit"] == 4 * bits

    name, dtype = output_file(bits)
    files = {CONV, INFO, "q_input_asint32.bin", name, "input_fp64.bin", "output_fp64.bin"}
    assert {path.name for path in folder.iterdir()} == files

    weight = np.array(conv["weight"]["arr"], np.int64).reshape(conv["weight"]["shape"])
    bias = np.array(conv["bias"]["arr"], np.int64).reshape(conv["bias"]["shape"])
    shape, output_shape = info["input_shape"], info["output_shape"]
    assert info == {
        "input_shiftbit": input_shift,
        "input_shape": shape,
        "input_numbit": bits,
        "output_shiftbit": weight_shift + input_shift,
        "output_shape": output_shape,
        "output_numbit": 4 * bits,
    }
    assert conv["bias"]["shift_bit"] == weight_shift + input_shift
    assert shape[0] == output_shape[0] == 1

    def load(name, dtype, shape):
        return np.fromfile(folder / name, dtype).reshape(shape[1:])

    codes = load("q_input_asint32.bin", "<i4", shape)
    x = load("input_fp64.bin", "<f8", shape)
    ground_truth = load(name, dtype, output_shape)
    y = load("output_fp64.bin", "<f8", output_shape)

    # Shifts and codes. Reals are below 2 and 1, so the shifts are at least these.
    assert weight_shift >= bits - 2 and input_shift >= bits - 1
    limit = 2 ** (bits - 1)
    assert -limit <= weight.min() and weight.max() < limit
    assert np.abs(weight).max() >= limit // 2, "a bit of the weights is wasted"
    assert (codes == quantize(x, bits, input_shift)).all()

    # The integer convolution, in integers without a width.
    integers = [python_ints(array) for array in (weight, bias, codes)]
    assert (convolve(*integers, stride, pad) == python_ints(ground_truth)).all()

    # The float convolution. Its weights are not dumped, but known up to rounding (half a step, a
    # whole one where the largest code was clamped); the inputs' errors are known exactly:
    # w x - w' x' = (w - w') x + w' (x - x').
    rounded_x = np.ldexp(codes.astype(np.float64), -input_shift)
    step = 2.0**-weight_shift
    weight_error = np.where(weight == limit - 1, step, step / 2)
    bound = convolve(weight_error, np.full(bias.shape, step * 2.0**-input_shift / 2), x, stride, pad)
    weight_size, input_error = np.abs(weight) * step, np.abs(x - rounded_x)
    bound += convolve(weight_size, np.zeros(bias.shape), input_error, stride, pad)
    error = np.abs(np.ldexp(ground_truth.astype(np.float64), -weight_shift - input_shift) - y)
    assert (error <= bound + 1e-12).all(), f"worst: {(error - bound).max()} above its bound"
    print(f"{ground_truth.size} outputs equal, largest float error {error.max():.2e}")


def write(folder, bits, kernel, output_numbit):
    random = np.random.default_rng(20 * bits + kernel)
    in_ch, out_ch, height, width = 3, 5, 7, 9
    weight = random.uniform(-2, 2, (out_ch, in_ch, kernel, kernel))
    bias = random.uniform(0, 1, out_ch)
    x = random.uniform(0, 1, (in_ch, height, width))
    weight_shift, input_shift = choose_shift(weight, bits), choose_shift(x, bits)
    shift = weight_shift + input_shift
    weight_codes, input_codes = quantize(weight, bits, weight_shift), quantize(x, bits, input_shift)
    bias_codes = quantize(bias, 4 * bits, shift)
    output = convolve(*map(python_ints, (weight_codes, bias_codes, input_codes)), 1, 0)

    def codes(num_bit, shift_bit, array):
        arr = array.flatten().tolist()
        return {"num_bit": num_bit, "shift_bit": shift_bit, "shape": list(array.shape), "arr": arr}

    conv = {
        "weight": codes(bits, weight_shift, weight_codes),
        "bias": codes(4 * bits, shift, bias_codes),
        "input_shiftbit": input_shift,
    }
    info = {
        "input_shiftbit": input_shift,
        "input_shape": [1, *x.shape],
        "input_numbit": bits,
        "output_shiftbit": shift,
        "output_shape": [1, *output.shape],
        "output_numbit": output_numbit,
    }
    folder.mkdir(parents=True)
    (folder / CONV).write_text(json.dumps(conv))
    (folder / INFO).write_text(json.dumps(info))
    name, dtype = output_file(bits)
    input_codes.astype("<i4").tofile(folder / "q_input_asint32.bin")
    output.astype(dtype).tofile(folder / name)
    x.astype("<f8").tofile(folder / "input_fp64.bin")
    convolve(weight, bias, x, 1, 0).astype("<f8").tofile(folder / "output_fp64.bin")


if __name__ == "__main__":
    command, folder, *numbers = sys.argv[1:]
    {"check": check, "write": write}[command](Path(folder), *map(int, numbers))
