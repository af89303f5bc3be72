"""Which colours a repainted crop keeps, and which of the picture's it takes back."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.resampling import to_levels
from pipeline.types import Image, SoftMask

Floats = NDArray[np.float32]

# The ring in which colours are compared reaches this share of the mask's diameter beyond it, and at
# least one cell of the VAE (8 px).
_RING = 0.15
_RING_MIN_PX = 8.0

# With fewer pixels than this the ring says little, and the colours stay as the model gave them.
_RING_MIN_PIXELS = 64

# What codecs make of grey differs by so many levels from channel to channel.
_GREY_LEVELS = 3


def match_colour(painted: Image, original: Image, mask: SoftMask) -> Image:
    """The repainted crop without the colour shift that the model's encoding brought.

    Just outside the mask nothing was meant to change, so the difference there is the shift. It is
    the mean in Lab over the middle fifth of the ring's pixels, channel by channel: as robust as the
    median, yet finer than a level. It is taken away everywhere.

    Args:
        painted: the crop as the model gave it back, unmasked.
        original: the crop as it was cut.
        mask: what of `painted` is kept; the ring lies where it is 0.
    """
    ring = _ring(mask)
    if np.count_nonzero(ring) < _RING_MIN_PIXELS:
        return painted
    lab = _to_lab(painted.pixels)
    differences = np.sort(lab[ring] - _to_lab(original.pixels)[ring], axis=0)
    trimmed = len(differences) * 2 // 5
    shift = differences[trimmed : len(differences) - trimmed].mean(axis=0)
    return _moved(painted, lab, -shift)


def keep_tone(painted: Image, original: Image, sigma_px: float) -> Image:
    """The repainted crop with the original's coarse colours: light and complexion stay.

    Args:
        painted: the crop as the model gave it back, unmasked.
        original: the crop as it was cut.
        sigma_px: of the Gaussian, in crop pixels; what varies more slowly is the original's.
    """
    lab = _to_lab(painted.pixels)
    shift = cv2.GaussianBlur(
        _to_lab(original.pixels) - lab, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE
    )
    return _moved(painted, lab, shift)


def keep_grey(painted: Image, original: Image) -> Image:
    """The repainted crop; where the original has no colours, changed in lightness alone: a face in
    a black-and-white photograph gets no blue eyes.

    Args:
        painted: the crop as the model gave it back, in colours that match.
        original: the crop as it was cut.
    """
    red, green, blue = cv2.split(original.pixels)
    colour = max(cv2.norm(red, green, cv2.NORM_INF), cv2.norm(green, blue, cv2.NORM_INF))
    if colour > _GREY_LEVELS:
        return painted
    grey, old_grey = (
        cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY).astype(np.int16)
        for image in (painted, original)
    )
    change = (grey - old_grey)[..., None]
    return Image(to_levels(original.pixels + change))


def _moved(image: Image, lab: Floats, shift: Floats) -> Image:
    """The picture, whose colours are `lab`, moved by `shift` in Lab.

    What the move adds in RGB is added to the levels: OpenCV's way to Lab and back alone is off by
    up to a level, and no shift must change nothing.
    """
    to_rgb = cv2.COLOR_Lab2RGB
    change = cv2.cvtColor(lab + shift, to_rgb) - cv2.cvtColor(lab, to_rgb)
    return Image(to_levels(image.pixels + change * 255))


def _to_lab(pixels: NDArray[np.uint8]) -> Floats:
    lab: Floats = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return lab


def _ring(mask: SoftMask) -> NDArray[np.bool_]:
    outside = mask.pixels == 0
    diameter_px = float(np.sqrt(np.count_nonzero(~outside)))
    distance = cv2.distanceTransform(outside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ring: NDArray[np.bool_] = outside & (distance <= max(_RING_MIN_PX, _RING * diameter_px))
    return ring
