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

# A hue is looked for in a neighbourhood of this share of the tone's sigma, which is about an iris,
# and may be left by so many degrees. Of 6 portraits shrunk by 12, 1.3 % of the eyes' pixels turned
# blue or green, and 0.0 % within this; by 7, with noise and JPEG, 1.5 % and 0.4 %.
_HUE_SIGMA = 0.15
_HUE_DEGREES = 25.0
# What moved a colour by less than this, in Lab, is held to no hue: it is the picture's own colour.
_HUE_DISTANCE = 2.0


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
    """The repainted crop with the original's coarse colours: light and complexion stay. Its finer
    colours keep the original's hue or are neutral: soft brown eyes do not turn blue.

    Args:
        painted: the crop as the model gave it back, unmasked.
        original: the crop as it was cut.
        sigma_px: of the Gaussian, in crop pixels; what varies more slowly is the original's.
    """
    lab, old = _to_lab(painted.pixels), _to_lab(original.pixels)
    shift = _blurred(old - lab, sigma_px)
    shift[..., 1:] += _off_hue(lab[..., 1:] + shift[..., 1:], old[..., 1:], sigma_px * _HUE_SIGMA)
    return _moved(painted, lab, shift)


def _off_hue(chroma: Floats, original: Floats, sigma_px: float) -> Floats:
    """What brings colours, (H, W, 2) of Lab, back to the hue that the original has there: nearer to
    it, or to neutral where they are across the circle.
    """
    hue = _blurred(original, sigma_px)
    hue /= np.maximum(np.linalg.norm(hue, axis=2, keepdims=True), 1e-6)
    along = (chroma * hue).sum(axis=2, keepdims=True)
    across = chroma - along * hue
    along = np.maximum(along, 0)
    most = np.tan(np.radians(_HUE_DEGREES)) * along
    share = np.minimum(1, most / np.maximum(np.linalg.norm(across, axis=2, keepdims=True), 1e-6))
    moved = np.linalg.norm(chroma - original, axis=2, keepdims=True)
    back: Floats = (along * hue + share * across - chroma) * np.minimum(1, moved / _HUE_DISTANCE)
    return back


def _blurred(values: Floats, sigma_px: float) -> Floats:
    blurred: Floats = cv2.GaussianBlur(
        values, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    return blurred


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
