"""Resampling along one axis as a matrix: a crop is the rows' matrix on one axis, then the columns'.

Crops lie square to the picture's axes (turns are quarter turns), so every resampling is separable.
Matrices are float32; coordinates are those of `pipeline.types`: sample i has its centre at i + 0.5.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)

# Lanczos with three lobes: flat in the pass band, which is what lets `back` undo an enlargement.
_LOBES = 3

# Rows of a matrix applied at a time: few enough that most of a band matrix's zeros are skipped.
_BLOCK_ROWS = 64

# Weights of `back` below this are dropped; together they move a pixel by less than a tenth of a
# level.
_NEGLIGIBLE = 1e-5

# Weight of "nothing changed" against the crop's evidence in `back`, in units of the enlargement's
# gain. Less of it amplifies the crop's noise where the enlargement passed next to nothing (scales
# close to 1, details near the Nyquist limit); more of it leaves old noise behind. Measured at noise
# of 20 levels, scales 1.004, 1.1, 2: at 0.02 46, 50, 55 dB are reached and noise grows by 1.6,
# 1.06, 0.6; at 0.05 44, 50, 54 dB and 1.5, 1.05, 0.6; at 0.2 37, 43, 44 dB and 1.1, 0.97, 0.5.
_RIDGE = 0.05


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a crop: `side_px` picture pixels from `start_px` on become `work_px` samples.

    `size_px`: the picture's length. `start_px` may be negative, the end beyond the picture.
    """

    start_px: float
    side_px: float
    work_px: int
    size_px: int

    @property
    def scale(self) -> float:
        """Work samples per picture pixel."""
        return self.work_px / self.side_px

    @property
    def window(self) -> slice:
        """The picture's pixels that any sample of the crop is made of: at least one."""
        reach = _LOBES * max(1.0, 1 / self.scale)
        first = int(np.floor(self.start_px - reach))
        last = int(np.ceil(self.start_px + self.side_px + reach))
        start = min(max(first, 0), self.size_px - 1)
        return slice(start, min(max(last, start + 1), self.size_px))

    def centres(self) -> NDArray[np.float64]:
        """Where the work samples lie in the picture, in pixels."""
        samples = np.arange(self.work_px, dtype=np.float64)
        return self.start_px + (samples + 0.5) / self.scale

    def forth(self) -> Matrix:
        """(work_px, window): the picture's pixels → the crop's samples; the border pixels are
        replicated.

        Enlarging interpolates; shrinking widens the kernel by as much, which takes away what the
        crop cannot hold before it could alias.
        """
        window = self.window
        return _lanczos(self.centres() - window.start, window.stop - window.start, 1 / self.scale)

    def back(self, rows: slice) -> Matrix:
        """(rows, work_px): a change of the crop's samples → the change of the picture's pixels
        `rows`, within the window.

        Where the crop was shrunk, the change is interpolated. Where it was enlarged, it is the
        change of the picture whose enlargement comes nearest to the crop's change (least squares),
        so that what was cut comes back as it was, sharp.
        """
        if self.scale <= 1:
            picture = np.arange(rows.start, rows.stop) + 0.5
            return _lanczos((picture - self.start_px) * self.scale, self.work_px, 1.0)
        window = self.window
        # Samples beyond the picture's border are not evidence for the pixel that was replicated
        # there.
        centres = self.centres()
        inside = (centres >= 0) & (centres < self.size_px)
        forth = (self.forth() * inside[:, None]).astype(np.float64)
        gram = forth.T @ forth
        ridge = _RIDGE * self.scale
        gram[np.diag_indices_from(gram)] += ridge
        wanted = np.zeros((len(gram), rows.stop - rows.start))
        wanted[np.arange(rows.start, rows.stop) - window.start, np.arange(wanted.shape[1])] = 1
        # Twice (iterated Tikhonov): what the first pass left of the change is fitted once more.
        once = np.linalg.solve(gram, wanted)
        twice = once + ridge * np.linalg.solve(gram, once)
        inverse: Matrix = (twice.T @ forth.T).astype(np.float32)
        inverse[np.abs(inverse) < _NEGLIGIBLE] = 0
        return inverse

    def share(self, rows: slice) -> Matrix:
        """(rows, work_px): a mask's samples → the picture's pixels `rows`; weights in [0, 1],
        nothing beyond the crop.

        The mean over the pixel's area where the crop was enlarged, linear interpolation where it
        was shrunk.
        """
        low = (np.arange(rows.start, rows.stop)[:, None] - self.start_px) * self.scale
        sample = np.arange(self.work_px)
        if self.scale > 1:
            overlap = np.minimum(low + self.scale, sample + 1) - np.maximum(low, sample)
            weights = np.maximum(overlap, 0) / self.scale
        else:
            weights = np.maximum(1 - np.abs(low + self.scale / 2 - (sample + 0.5)), 0)
        matrix: Matrix = weights.astype(np.float32)
        return matrix


def mirrored(pixels: NDArray[Value]) -> NDArray[Value]:
    """(H, W, …) as a mirror shows it, left and right exchanged."""
    return np.ascontiguousarray(pixels[:, ::-1])


def resample(rows: Matrix, pixels: Matrix, columns: Matrix) -> Matrix:
    """(H, W, 3) float32 → (len(rows), len(columns), 3)."""
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    tall = np.ascontiguousarray(_apply(rows, planes).swapaxes(1, 2))
    return _apply(columns, tall).transpose(2, 1, 0)


def to_levels(levels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """To the nearest level, halves upwards."""
    return np.ascontiguousarray(np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8))


def _apply(matrix: Matrix, planes: Matrix) -> Matrix:
    """`matrix @ planes` for a band matrix: (m, n) on (3, n, k)."""
    result = np.zeros((len(planes), len(matrix), planes.shape[2]), np.float32)
    for start in range(0, len(matrix), _BLOCK_ROWS):
        block = matrix[start : start + _BLOCK_ROWS]
        used = np.flatnonzero(block.any(axis=0))
        if len(used):
            band = slice(int(used[0]), int(used[-1]) + 1)
            result[:, start : start + _BLOCK_ROWS] = block[:, band] @ planes[:, band]
    return result


def _lanczos(at: NDArray[np.float64], size: int, stretch: float) -> Matrix:
    """(len(at), size): samples at `at` of a signal of `size` samples with replicated ends."""
    stretch = max(1.0, stretch)
    reach = _LOBES * stretch
    taps = np.floor(at - reach)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    distance = (taps + 0.5 - at[:, None]) / stretch
    weights = np.sinc(distance) * np.sinc(distance / _LOBES) * (np.abs(distance) < _LOBES)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(at), size))
    columns = np.clip(taps, 0, size - 1).astype(np.intp)
    np.add.at(matrix, (np.arange(len(at))[:, None], columns), weights)
    return matrix.astype(np.float32)
