"""Grey pictures, and those of one tint, stay so when they are enlarged."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tone import Levels, lightness_of, tone_of
from pipeline.types import Image

# A picture is of one tint if this share of its pixels lies within so many levels of a curve from
# black to white, on which each lightness has one colour. The others, e.g. a stamp or a note in red
# ink, keep what they are off it.
_SHARE = 0.9
_LEVELS = 4
# So many pixels, evenly spread, tell whether a picture is of one tint, and which.
_LOOKED_AT = 1_000_000


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
    lightness, lights = (lightness_of(of) for of in (pixels, large.pixels))
    size = (large.width_px, large.height_px)
    channels = []
    for channel in range(3):
        off = pixels[..., channel].astype(np.int16) - curve[lightness, channel]
        toned = curve[lights, channel]
        if off.any():
            toned = toned + cv2.resize(off, size)
        channels.append(np.clip(toned, 0, 255).astype(np.uint8))
    return Image(np.dstack(channels))


def _curve(pixels: Levels) -> NDArray[np.int16] | None:
    """(256, 3): the colour of each lightness; None if the picture has colours."""
    step = max(1, round((pixels.size / 3 / _LOOKED_AT) ** 0.5))
    pixels = np.ascontiguousarray(pixels[::step, ::step])
    lightness = lightness_of(pixels)
    tone = tone_of(pixels.reshape(-1, 3), _SHARE)
    tint = np.rint(tone).astype(np.int16) + np.arange(256, dtype=np.int16)[:, None]
    distance = np.zeros(lightness.shape, np.int16)
    for channel in range(3):
        off_curve = np.abs(pixels[..., channel] - tint[lightness, channel])
        np.maximum(distance, off_curve, out=distance)
    return tint if np.mean(distance <= _LEVELS) >= _SHARE else None


def _keep_neutral(large: Image, pixels: Levels) -> Image:
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    neutral = cv2.erode((spread == 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    if not neutral.any():
        return large
    size = (large.width_px, large.height_px)
    share = cv2.resize(neutral * np.uint8(255), size).astype(np.float32)[..., None] / 255
    lights = lightness_of(large.pixels)[..., None]
    mixed = np.rint(large.pixels * (1 - share) + lights * share)
    return Image(np.ascontiguousarray(mixed.astype(np.uint8)))
