"""ONNX files of a few layers, written by hand: no package that writes them is needed.

The numbers are the fields of onnx.proto's messages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_IR_VERSION, _OPSET = 7, 11
_FLOAT, _INT64 = 1, 7
_OF_INT, _OF_INTS = 2, 7


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _bytes(1, name) + _number(3, value) + _number(20, _OF_INT)
    return _bytes(1, name) + b"".join(_number(8, v) for v in value) + _number(20, _OF_INTS)


def node(operator: str, inputs: Sequence[str], output: str, **attributes) -> bytes:
    named = [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
    read = [_bytes(1, name) for name in inputs]
    return b"".join([*read, _bytes(2, output), _bytes(3, output), _bytes(4, operator), *named])


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = {np.float32: _FLOAT, np.int64: _INT64}[values.dtype.type]
    sides = b"".join(_number(1, side) for side in values.shape)
    return sides + _number(2, kind) + _bytes(8, name) + _bytes(9, values.tobytes())


def _value(name: str, shape: Sequence[int]) -> bytes:
    sides = b"".join(_bytes(1, _number(1, side)) for side in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, _FLOAT) + _bytes(2, sides)))


def write(
    file: Path,
    nodes: Sequence[bytes],
    tensors: Mapping[str, np.ndarray],
    given: tuple[str, Sequence[int]],
    wanted: Mapping[str, Sequence[int]],
) -> Path:
    """A network of these nodes and weights, with the shapes of its input and its outputs."""
    graph = b"".join(
        [
            *(_bytes(1, one) for one in nodes),
            _bytes(2, "tiny"),
            *(_bytes(5, _tensor(*pair)) for pair in tensors.items()),
            _bytes(11, _value(*given)),
            *(_bytes(12, _value(*pair)) for pair in wanted.items()),
        ]
    )
    opset = _bytes(8, _bytes(1, "") + _number(2, _OPSET))
    file.write_bytes(_number(1, _IR_VERSION) + _bytes(7, graph) + opset)
    return file


def write_sface(file: Path) -> Path:
    """What `cv2.FaceRecognizerSF` reads: random weights, 128 numbers of a picture of 112²."""
    rng = np.random.default_rng(0)
    tensors = {
        "pieces": rng.normal(size=(4, 3, 14, 14)).astype(np.float32),
        "mixed": rng.normal(size=(256, 128)).astype(np.float32),
    }
    nodes = [
        node("Conv", ["data", "pieces"], "seen", kernel_shape=[14, 14], strides=[14, 14]),
        node("Flatten", ["seen"], "flat", axis=1),
        node("MatMul", ["flat", "mixed"], "fc1"),
    ]
    return write(file, nodes, tensors, ("data", (1, 3, 112, 112)), {"fc1": (1, 128)})


def write_yunet(file: Path, side: int = 320, face_px: float = 96) -> Path:
    """What `cv2.FaceDetectorYN` reads. It takes every white cell of its grids of 8, 16 and 32 px
    for a face of `face_px`, with landmarks as they lie in an upright one.
    """
    nodes, wanted = [], {}
    # Eyes, nose and corners of the mouth from the cell's corner, as shares of the face's side.
    kps = np.array([-0.2, -0.15, 0.2, -0.15, 0, 0.05, -0.15, 0.25, 0.15, 0.25]) * face_px
    tensors = {f"to_{n}": np.array([1, -1, n], np.int64) for n in (1, 4, 10)}
    for stride in (8, 16, 32):
        cells = (side // stride) ** 2
        bright = f"bright_{stride}"
        mean = np.full((1, 3, stride, stride), 1 / (3 * stride * stride * 255), np.float32)
        tensors[f"mean_{stride}"] = mean
        steps = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(node("Conv", ["input", f"mean_{stride}"], bright, **steps))
        for name in ("cls", "obj"):
            nodes.append(node("Reshape", [bright, "to_1"], f"{name}_{stride}"))
            wanted[f"{name}_{stride}"] = (1, cells, 1)
        size = float(np.log(face_px / stride))
        for name, values in (("bbox", [0.5, 0.5, size, size]), ("kps", kps / stride)):
            width, made = len(values), f"{name}_{stride}"
            tensors[f"{made}_0"] = np.zeros((width, 1, 1, 1), np.float32)
            tensors[f"{made}_b"] = np.array(values, np.float32)
            inputs = [bright, f"{made}_0", f"{made}_b"]
            nodes += [
                node("Conv", inputs, f"{made}_c", kernel_shape=[1, 1]),
                node("Transpose", [f"{made}_c"], f"{made}_t", perm=[0, 2, 3, 1]),
                node("Reshape", [f"{made}_t", f"to_{width}"], made),
            ]
            wanted[made] = (1, cells, width)
    return write(file, nodes, tensors, ("input", (1, 3, side, side)), wanted)
