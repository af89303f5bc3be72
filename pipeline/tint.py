"""Grey pictures, and those of one tint, stay so when they are enlarged."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import Image

Levels = NDArray[np.uint8]

# A picture is of one tint if this share of its pixels lies within so many levels of a curve from
# black to white, on which each lightness has one colour. The others, e.g. a stamp or a note in red
# ink, keep what they are off it.
_SHARE = 0.9
_LEVELS = 4
# So many pixels, evenly spread, tell whether a picture is of one tint, and which.
_LOOKED_AT = 1_000_000
# Of the Gaussian, in levels, within which pixels tell the tint of a lightness: what codecs do to
# them, and a line of ink, are no part of it.
_NEAR = 4.0
# So many levels at its ends tell how the tint goes on beyond them.
_END = 32


def keep_tint(large: Image, original: Image) -> Image:
    """An enlarged picture in the tint of the original; as it is where that has colours.

    The network tells how light a pixel becomes. Its colour is the tint's at that lightness, and
    what the original's pixels are off the tint there. Where the original is grey, with R = G = B,
    so is the result; also in a picture with colours, where a pixel and its neighbours are.

    Args:
        large: the enlarged picture.
        original: `large` is a multiple of its size.
    """
    pixels = original.pixels
    curve = _curve(pixels)
    if curve is None:
        return _keep_neutral(large, pixels)
    lightness, lights = (_lightness(of) for of in (pixels, large.pixels))
    size = (large.width_px, large.height_px)
    channels = []
    for channel in range(3):
        off = pixels[..., channel].astype(np.int16) - curve[lightness, channel]
        toned = curve[lights, channel]
        if off.any():
            toned = toned + cv2.resize(off, size)
        channels.append(np.clip(toned, 0, 255).astype(np.uint8))
    return Image(np.dstack(channels))


def _lightness(pixels: Levels) -> Levels:
    lightness: Levels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return lightness


def _curve(pixels: Levels) -> NDArray[np.int16] | None:
    """(256, 3): the colour of each lightness; None if the picture has colours."""
    step = max(1, round((pixels.size / 3 / _LOOKED_AT) ** 0.5))
    pixels = np.ascontiguousarray(pixels[::step, ::step])
    lightness = _lightness(pixels)
    counts = np.bincount(lightness.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    curve = np.empty((256, 3))
    for channel in range(3):
        off = pixels[..., channel].astype(np.intp) - lightness
        curve[:, channel] = _medians(lightness, off, present)
    tint = np.rint(curve).astype(np.int16) + np.arange(256, dtype=np.int16)[:, None]
    distance = np.zeros(lightness.shape, np.int16)
    for channel in range(3):
        off_curve = np.abs(pixels[..., channel] - tint[lightness, channel])
        np.maximum(distance, off_curve, out=distance)
    return tint if np.mean(distance <= _LEVELS) >= _SHARE else None


def _medians(
    lightness: Levels, off: NDArray[np.intp], present: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(256): of what lies near each lightness; beyond those that are present, as at their ends."""
    pairs = (lightness.astype(np.intp) * 512 + off + 256).ravel()
    counts = np.bincount(pairs, minlength=256 * 512).reshape(256, 512).astype(np.float64)
    near = cv2.GaussianBlur(counts, (1, 0), sigmaX=1, sigmaY=_NEAR)[present].cumsum(axis=1)
    medians = (2 * near >= near[:, -1:]).argmax(axis=1) - 256.0
    smooth = cv2.GaussianBlur(
        np.interp(np.arange(256), present, medians)[:, None], (1, 0), sigmaX=1, sigmaY=_NEAR
    )[:, 0]
    inside = np.arange(present[0], present[-1] + 1)
    return np.asarray(_continued(inside, smooth[inside]))


def _continued(at: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at 0–255 of which those at `at` are known; beyond its ends they go on as lines."""
    every = np.arange(256)
    result = np.interp(every, at, values)
    for end, beyond in ((slice(None, _END), every < at[0]), (slice(-_END, None), every > at[-1])):
        if len(at) > 1 and beyond.any():
            result[beyond] = np.polyval(np.polyfit(at[end], values[end], 1), every[beyond])
    return result


def _keep_neutral(large: Image, pixels: Levels) -> Image:
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    neutral = cv2.erode((spread == 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    if not neutral.any():
        return large
    size = (large.width_px, large.height_px)
    share = cv2.resize(neutral * np.uint8(255), size).astype(np.float32)[..., None] / 255
    lights = _lightness(large.pixels)[..., None]
    mixed = np.rint(large.pixels * (1 - share) + lights * share)
    return Image(np.ascontiguousarray(mixed.astype(np.uint8)))
