"""dlib's face embedding as a differentiable network, so that training can preserve identity.

The weights come from dlib's own file (King, dlib_face_recognition_resnet_model_v1, public domain,
in the package `face-recognition-models`); the layers are those of dlib's
examples/dnn_face_recognition_ex.cpp, a ResNet with 29 convolutions. On the same crop, it agrees
with dlib to within 1e-3.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from weights.dlib_models import LandmarkFinder, embedding_file

CHIP_PX = 150
# Channels and number of the residual blocks of each level, starting at the image.
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
MEAN_RGB = (122.782, 117.001, 104.298)
# Where dlib places the corners of the eyes and the tip of the nose
# (dlib/image_transforms/interpolation.h, `get_face_chip_details`), and the margin around that
# square, as a share of it.
TEMPLATE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
MARGIN = 0.25


class _Tensors:
    """Reads dlib's serialized network, whose tensors are stored in the order of the forward pass.

    Each is a version (2), four sizes, and little-endian floats.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, *sizes: int) -> torch.Tensor:
        """The next tensor of these sizes, flattened."""
        numbers = (2, *sizes, 1, 1, 1)[:5]
        header = b"".join(_packed(number) for number in numbers)
        start = self._data.index(header, self._at) + len(header)
        count = math.prod(sizes)
        self._at = start + 4 * count
        return torch.from_numpy(np.frombuffer(self._data, "<f4", count, start).copy())


def _packed(number: int) -> bytes:
    """An integer in dlib's format: a byte with its length, then its bytes, lowest first."""
    length = (number.bit_length() + 7) // 8
    return bytes([length]) + number.to_bytes(length, "little")


class _Convolution(torch.nn.Module):
    """A convolution and dlib's `affine`, a scale and a shift per channel."""

    def __init__(
        self, tensors: _Tensors, inputs: int, outputs: int, side: int, stride: int
    ) -> None:
        super().__init__()
        values = tensors.take(outputs * inputs * side**2 + outputs)
        self.weight = torch.nn.Parameter(values[:-outputs].view(outputs, inputs, side, side))
        self.bias = torch.nn.Parameter(values[-outputs:].clone())
        gain, shift = tensors.take(2 * outputs).view(2, outputs, 1, 1)
        self.gain, self.shift = torch.nn.Parameter(gain), torch.nn.Parameter(shift)
        self._stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padding = self.weight.shape[-1] // 2 if self._stride == 1 else 0
        return F.conv2d(x, self.weight, self.bias, self._stride, padding) * self.gain + self.shift


class _Block(torch.nn.Module):
    """Two convolutions with a shortcut; the smaller side is zero-padded in size and channels."""

    def __init__(self, tensors: _Tensors, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _Convolution(tensors, inputs, outputs, 3, stride)
        self.second = _Convolution(tensors, outputs, outputs, 3, 1)
        self._stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.second(F.relu(self.first(x)))
        short = F.avg_pool2d(x, 2) if self._stride == 2 else x
        height, width = (max(a, b) for a, b in zip(inner.shape[2:], short.shape[2:], strict=True))
        channels = max(inner.shape[1], short.shape[1])

        def padded(y: torch.Tensor) -> torch.Tensor:
            spare = (width - y.shape[3], height - y.shape[2], channels - y.shape[1])
            return F.pad(y, (0, spare[0], 0, spare[1], 0, spare[2]))

        return F.relu(padded(inner) + padded(short))


class FaceEmbedding(torch.nn.Module):
    """(N, 3, CHIP_PX, CHIP_PX) RGB in [−1, 1] → (N, 128); frozen.

    Embeddings 0.6 or more apart are of different people.
    """

    def __init__(self) -> None:
        super().__init__()
        tensors = _Tensors(embedding_file().read_bytes())
        self.entry = _Convolution(tensors, 3, LEVELS[0][0], 7, 2)
        blocks, inputs = [], LEVELS[0][0]
        for index, (channels, count) in enumerate(LEVELS):
            for place in range(count):
                stride = 2 if index > 0 and place == 0 else 1
                blocks.append(_Block(tensors, inputs, channels, stride))
                inputs = channels
        self.blocks = torch.nn.Sequential(*blocks)
        self.last = torch.nn.Parameter(tensors.take(256, 128).view(256, 128))
        self.mean = torch.nn.Parameter(torch.tensor(MEAN_RGB).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.levels(chips)[-1]

    def levels(self, chips: torch.Tensor) -> list[torch.Tensor]:
        """The output of each level of blocks except the last, (N, C, h, w), then the embedding."""
        x = ((chips + 1) * 127.5 - self.mean) / 256
        x = F.max_pool2d(F.relu(self.entry(x)), 3, 2)
        seen, start = [], 0
        for _, count in LEVELS:
            x = self.blocks[start : start + count](x)
            seen.append(x)
            start += count
        return [*seen[:-1], seen[-1].mean(dim=(2, 3)) @ self.last]


class ChipFinder:
    """Locates the part of a picture that dlib's embedding looks at."""

    def __init__(self) -> None:
        self._landmarks = LandmarkFinder()

    def find(
        self, rgb: NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> NDArray[np.float32]:
        """The matrix (2, 3) from pixels of the chip to pixels of `rgb`, (H, W, 3).

        `box`: the upright face in `rgb`, x0, y0, x1, y1.
        """
        found = self._landmarks.find(rgb, box)
        points = np.array([[found.part(i).x, found.part(i).y] for i in range(5)], np.float64)
        chip = (MARGIN + TEMPLATE) / (2 * MARGIN + 1) * CHIP_PX
        return _similarity(chip, points)


def _similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float32]:
    """The least-squares rotation, scale and shift (2, 3) from `source` (N, 2) to `target`."""
    a, b = (points - points.mean(axis=0) for points in (source, target))
    z, w = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    factor = (w * z.conj()).sum() / (abs(z) ** 2).sum()
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    shift = target.mean(axis=0) - turn @ source.mean(axis=0)
    return np.column_stack([turn, shift]).astype(np.float32)


def cut_chips(pictures: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """(N, 3, S, S) and, per picture, `ChipFinder.find`'s matrix → (N, 3, CHIP_PX, CHIP_PX)."""
    rows, columns = torch.meshgrid(*(2 * [torch.arange(float(CHIP_PX))]), indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1).to(pictures.device)
    points = (matrices @ places).transpose(1, 2).view(-1, CHIP_PX, CHIP_PX, 2)
    grid = (points + 0.5) * 2 / pictures.shape[-1] - 1
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
