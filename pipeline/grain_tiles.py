"""Grain measured in small square parts of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)

# So many tiles at most, spread evenly.
_MOST_TILES = 1500
# What varies over more pixels than this is the picture, or damage that was enlarged with it.
_LONGEST_PX = 10.0
# Even coarse film's grain, Gaussian of 1.4 px, has a tenth of its power within this.
_FINE_PX = 5.0
_MOST_COARSE = 12.0
# Among tiles as bright, those below this quantile show grain alone. 0.3 of white noise's tiles are
# 5 % below the mean, and most pictures have so many flat ones.
FLAT = 0.3
# Tiles this many levels brighter or darker tell little of each other's grain.
_ALIKE_LEVELS = 20.0
_LEAST_WEIGHT = 2.0
# The brightnesses, in levels, at which grain is told.
NODES = np.arange(0, 256, 15)
# Of grey, as OpenCV weighs the channels.
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Of n tiles: `luma`: mean levels; `power`: the grain's spectra, (n, T, T), which add up to its
    variance; `residual`: (n, T, T, 3), levels without their trend.
    """

    luma: Floats
    power: Floats
    residual: Floats

    @property
    def variance(self) -> Floats:
        """Of the grain of each tile, in levels squared: where next to nothing of it is fine, it is
        the picture's own soft shapes, and no grain.
        """
        frequency = np.fft.fftfreq(self.power.shape[1])
        fine = np.hypot(frequency, frequency[:, None]) >= 1 / _FINE_PX
        limit = _MOST_COARSE * self.power[:, fine].sum(axis=1)
        total: Floats = np.minimum(self.power.sum(axis=(1, 2)), limit)
        return total


def corners_of(shape: tuple[int, ...], tile_px: int) -> list[tuple[int, int]]:
    """Where tiles of this side lie in a picture of this shape: (row, column), half overlapping or
    less.
    """
    height, width = shape
    stride = max(tile_px // 2, int(np.sqrt(height * width / _MOST_TILES)))
    rows, columns = (range(0, side - tile_px + 1, stride) for side in (height, width))
    return [(row, column) for row in rows for column in columns]


def tile_at(values: NDArray[Value], at: tuple[int, int], tile_px: int) -> NDArray[Value]:
    """The tile at a corner."""
    return values[at[0] : at[0] + tile_px, at[1] : at[1] + tile_px]


def measured(
    pixels: NDArray[np.uint8] | Floats, corners: Sequence[tuple[int, int]], tile_px: int
) -> Tiles:
    """The tiles at these corners, at least one, of (H, W, 3) levels."""
    tiles = np.stack([tile_at(pixels, at, tile_px) for at in corners]).astype(np.float32)
    # A quadratic trend is shading.
    y, x = np.mgrid[:tile_px, :tile_px].reshape(2, -1) / tile_px - 0.5
    trend, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))
    flat = tiles.reshape(len(tiles), -1, 3)
    flat = flat - np.einsum("pk,qk,nqc->npc", trend, trend, flat, optimize=True)
    residual = flat.reshape(tiles.shape).astype(np.float32)
    hann = np.hanning(tile_px + 2)[1:-1]
    weights = np.outer(hann, hann)
    weights /= np.sqrt((weights**2).mean())
    spectrum = np.abs(np.fft.fft2((residual @ LUMA) * weights)) ** 2 / tile_px**4
    frequency = np.fft.fftfreq(tile_px)
    fine = np.hypot(frequency, frequency[:, None]) >= 1 / _LONGEST_PX
    luma = (tiles @ LUMA).mean(axis=(1, 2))
    return Tiles(luma, (spectrum * fine).astype(np.float32), residual)


def by_luma(luma: Floats, variance: Floats) -> Floats:
    """The flat tiles' variance at each of `NODES`; NaN where none is about as bright."""
    order = np.argsort(variance)
    distance = (luma[order, None] - NODES) / _ALIKE_LEVELS
    weights = np.cumsum(np.exp(-(distance**2) / 2), axis=0)
    first = np.argmax(weights >= FLAT * weights[-1], axis=0)
    flat = np.where(weights[-1] >= _LEAST_WEIGHT, variance[order][first], np.nan)
    return flat.astype(np.float32)
