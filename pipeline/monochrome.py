"""Pictures of one tone, black-and-white, sepia or selenium: a repainted face stays in it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.resampling import to_levels
from pipeline.types import Image, SoftMask

# The tone is measured on a copy of this side: grain and a codec's blocks average out.
_MEASURE_PX = 48
# Into so many parts, as many pixels in each, are the levels split to see which colour each has.
_PARTS = 10
# A hair across the print, a pen line or a stamp may be in any colour: so much of the face counts.
_SHARE = 0.85
# Distances in Lab from the tone, within which so much of the face lies. Of 102 portraits in colour
# one in a hundred is below 2, half are above 8; sepia prints with noise of 15 levels or at JPEG
# quality 30 are at 2 to 4. Between the two the repaint keeps part of its own colours.
_ONE_TONE, _COLOURED = 3.0, 5.0
# What codecs make of grey differs by so many levels from channel to channel.
_GREY_LEVELS = 2.0
# Fewer pixels than this say little.
_MIN_PIXELS = 64


def keep_monochrome(painted: Image, original: Image, mask: SoftMask) -> Image:
    """The repainted crop; where the original's face has one tone, changed along that tone alone: a
    face in a black-and-white or sepia photograph gets no blue eyes.

    Args:
        painted: the crop as the model gave it back, in colours that match.
        original: the crop as it was cut.
        mask: what of `painted` is kept; the tone is measured there.
    """
    offsets, distance = _tone(original, mask)
    share = float(np.clip((_COLOURED - distance) / (_COLOURED - _ONE_TONE), 0, 1))
    if share == 0:
        return painted
    grey, old_grey = (
        cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY).astype(np.int16)
        for image in (painted, original)
    )
    change = (grey - old_grey)[..., None] + offsets[grey] - offsets[old_grey]
    toned = original.pixels + change
    return Image(to_levels(share * toned + (1 - share) * painted.pixels))


def _tone(original: Image, mask: SoftMask) -> tuple[NDArray[np.float32], float]:
    """Of each grey level, (256, 3), what its tone adds to it; and how far from that the face is."""
    size = (_MEASURE_PX, _MEASURE_PX)
    small = cv2.resize(original.pixels, size, interpolation=cv2.INTER_AREA)
    kept = cv2.resize(mask.pixels, size, interpolation=cv2.INTER_AREA) > 0
    if np.count_nonzero(kept) < _MIN_PIXELS:
        return np.zeros((256, 3), np.float32), np.inf
    rgb = small[kept].astype(np.float32)
    grey = cv2.cvtColor(rgb[None], cv2.COLOR_RGB2GRAY)[0]
    order = np.argsort(grey, kind="stable")
    parts = np.array_split(order, _PARTS)
    levels = np.array([np.median(grey[part]) for part in parts])
    colours = np.array([np.median(rgb[part] - grey[part, None], axis=0) for part in parts])
    if np.abs(colours).max() < _GREY_LEVELS:
        colours[:] = 0

    def along(at: NDArray[np.float32]) -> NDArray[np.float32]:
        channels = [np.interp(at, levels, colour) for colour in colours.T]
        return np.column_stack(channels).astype(np.float32)

    lab, toned = (
        cv2.cvtColor(values[None] / 255, cv2.COLOR_RGB2Lab)[0, :, 1:]
        for values in (rgb, np.clip(grey[:, None] + along(grey), 0, 255))
    )
    distances = np.linalg.norm(lab - toned, axis=1)
    return along(np.arange(256, dtype=np.float32)), float(np.quantile(distances, _SHARE))
