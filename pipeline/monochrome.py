"""Pictures of one tone, black-and-white, sepia or selenium: a repainted face stays in it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.resampling import to_levels
from pipeline.tone import lightness_of, tone_of
from pipeline.types import Image, SoftMask

# The tone is measured on a copy of this side: grain and a codec's blocks average out.
_MEASURE_PX = 48
# A hair across the print, a pen line or a stamp may be in any colour: so much of the face counts.
_SHARE = 0.85
# Distances in Lab from the tone, within which so much of the face lies. Of 102 portraits in colour
# one in a hundred is below 2, half are above 8; sepia prints with noise of 15 levels or at JPEG
# quality 30 are at 2 to 4. Between the two the repaint keeps part of its own colours.
_ONE_TONE, _COLOURED = 3.0, 5.0
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
    grey, old_grey = (lightness_of(image.pixels).astype(np.int16) for image in (painted, original))
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
    rgb = small[kept]
    grey = lightness_of(rgb[None])[0]
    offsets = tone_of(rgb, _SHARE).astype(np.float32)
    lab, toned = (
        cv2.cvtColor(values[None] / np.float32(255), cv2.COLOR_RGB2Lab)[0, :, 1:]
        for values in (rgb, np.clip(grey[:, None] + offsets[grey], 0, 255))
    )
    distances = np.linalg.norm(lab - toned, axis=1)
    return offsets, float(np.quantile(distances, _SHARE))
