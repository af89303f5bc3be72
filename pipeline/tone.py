"""Which tone the grey levels of a picture have: none in black-and-white, brown in sepia."""

import cv2
import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Floats = NDArray[np.float64]

# A tone changes smoothly from black to white; an ink has one lightness, or a few. So a stiff curve
# is drawn first, through every lightness alike however many pixels it has. It becomes more and more
# supple, and what is further off it than a reach no longer counts: each stage has a width, within
# which the curve hardly bends, and a reach, both in levels. The reach is wider than the curve's
# own faults: a tone has a kink where a channel reaches 255.
_STIFF = 40.0
_STAGES = ((40.0, 48), (20.0, 32), (10.0, 16), (5.0, 8), (5.0, 5), (5.0, 4))
# How often the stiff curve is drawn, each time with less weight on what is off the last one, half
# as much at so many levels.
_ROUNDS, _OFF = 6, 4.0
# A lightness with a smaller share of the pixels says less: the blend at an ink's edge may be all
# there is of it.
_FEW = 0.001
# How much what the last curve said counts, where nothing else is known.
_KEPT = 1e-4
# What codecs make of grey differs by so many levels from channel to channel.
_GREY_LEVELS = 2
_BENDS = np.diff(np.eye(256), n=2, axis=0)
_BENDING: Floats = _BENDS.T @ _BENDS


def tone_of(pixels: Levels, share: float) -> Floats:
    """(256, 3): what the tone of most pixels adds to each grey level; 0 where they are grey.

    Args:
        pixels: (N, 3) RGB. Some may be of other colours, e.g. of a stamp: they do not count, even
            if they are the most of their lightness.
        share: if so many of them are grey, the picture has no tone.
    """
    if np.mean(pixels.max(axis=1) - pixels.min(axis=1) <= _GREY_LEVELS) >= share:
        return np.zeros((256, 3))
    lightness = lightness_of(pixels[None])[0]
    off = pixels.T.astype(np.int16) - lightness
    few = _FEW * len(pixels)
    curve = _stiff_curve(lightness, off, few)
    for width, reach in _STAGES:
        on_curve = np.abs(off - curve.T.astype(np.float32)[:, lightness]).max(axis=0) <= reach
        at = lightness[on_curve]
        found = np.bincount(at, minlength=256)
        sums = [np.bincount(at, channel[on_curve], minlength=256) for channel in off]
        means = np.column_stack(sums) / np.maximum(found, 1)[:, None]
        curve = _smooth(means, found / (found + few), curve, width)
    present = np.unique(lightness)
    return curve if np.abs(curve[present]).max() >= _GREY_LEVELS else np.zeros((256, 3))


def lightness_of(pixels: Levels) -> Levels:
    """(H, W) of (H, W, 3) RGB."""
    lightness: Levels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return lightness


def _stiff_curve(lightness: Levels, off: NDArray[np.int16], few: float) -> Floats:
    """(256, 3): a tone that hardly bends, through the most of all lightnesses."""
    medians = np.column_stack([_medians(lightness, channel) for channel in off])
    found = np.bincount(lightness, minlength=256)
    trust = found / (found + few)
    curve = _smooth(medians, trust, np.zeros((256, 3)), _STIFF)
    for _ in range(_ROUNDS):
        distance = np.abs(medians - curve).max(axis=1)
        curve = _smooth(medians, trust / (1 + (distance / _OFF) ** 2), curve, _STIFF)
    return curve


def _medians(lightness: Levels, off: NDArray[np.int16]) -> Floats:
    pairs = lightness.astype(np.intp) * 512 + off + 256
    so_far = np.bincount(pairs, minlength=256 * 512).reshape(256, 512).cumsum(axis=1)
    return np.asarray((2 * so_far >= so_far[:, -1:]).argmax(axis=1) - 256.0)


def _smooth(values: Floats, weights: Floats, last: Floats, width: float) -> Floats:
    """The smoothing splines through (256, 3); where none has a weight they go on as lines."""
    spline = np.diag(weights + _KEPT) + width**4 * _BENDING
    return np.asarray(np.linalg.solve(spline, weights[:, None] * values + _KEPT * last))
