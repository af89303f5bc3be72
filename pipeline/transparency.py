"""Colours under transparent pixels, which nobody sees and which bleed into those that are seen."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import Image

Alpha = NDArray[np.uint8]
Floats = NDArray[np.float32]

# From this alpha on a pixel's colour counts fully. Editors store colours of less after multiplying
# with alpha and dividing again: rounding then moves them by up to half a level times 255 / alpha.
_FULL: float = 32.0
# Rows that are worked on at a time.
_STRIP: int = 512


def extend(image: Image, alpha: Alpha | None) -> Image:
    """The picture with its visible colours continued under its transparent parts.

    A hidden pixel takes the mean of what is visible around it, on the finest level of a pyramid on
    which anything is (Burt's pull–push). Black where nothing is visible at all.

    Args:
        image: the picture.
        alpha: (H, W) uint8 of its size, 255 = opaque; None: all of it.
    """
    if alpha is None or int(alpha.min()) >= _FULL:
        return image
    coarse = np.rint(_filled(_halved(image.pixels, alpha))).astype(np.uint8)
    height, width = alpha.shape
    # An odd size was halved with its last row and column repeated.
    large: NDArray[np.uint8] = cv2.resize(coarse, (width + width % 2, height + height % 2))
    pixels = np.empty_like(image.pixels)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        share = _weight(alpha[rows])[..., None]
        if share.min() == 1:
            pixels[rows] = image.pixels[rows]
            continue
        own = image.pixels[rows].astype(np.float32)
        mixed = own * share + large[rows, :width] * (1 - share)
        pixels[rows] = np.where(share == 1, image.pixels[rows], np.rint(mixed).astype(np.uint8))
    return Image(pixels)


def restore(result: Image, extended: Image, original: Image, alpha: Alpha | None) -> Image:
    """What was made of the extended picture, with the original's bytes where nothing was changed,
    and where nobody sees it; all of one size.
    """
    if alpha is None or extended is original:
        return result
    keeps = (result.pixels == extended.pixels).all(axis=2) | (alpha == 0)
    return Image(np.where(keeps[..., None], original.pixels, result.pixels))


def enlarge_alpha(alpha: Alpha, factor: int) -> Alpha:
    """Alpha, (H, W) uint8, `factor` times as wide and as high.

    Linear: no interpolation that is sharper keeps from ringing at hard edges.
    """
    height, width = alpha.shape
    large: Alpha = cv2.resize(alpha, (width * factor, height * factor))
    return large


def _weight(alpha: Alpha) -> Floats:
    # Squared, since the weight of hidden pixels grows fourfold with each level of the pyramid.
    weight: Floats = np.minimum(alpha.astype(np.float32) / np.float32(_FULL), np.float32(1)) ** 2
    return weight


def _halved(pixels: NDArray[np.uint8], alpha: Alpha) -> Floats:
    """The picture at half its size, as `_filled` takes it."""
    strips = []
    for top in range(0, len(alpha), _STRIP):
        weight = _weight(alpha[top : top + _STRIP])
        weighted = cv2.cvtColor(pixels[top : top + _STRIP], cv2.COLOR_RGB2RGBA).astype(np.float32)
        weighted[..., 3] = 1
        weighted *= weight[..., None]
        strips.append(_half(weighted))
    return np.concatenate(strips)


def _half(values: Floats) -> Floats:
    """(H, W, channels) → half of each side, by means; odd sides end in a repeated pixel."""
    height, width = values.shape[:2]
    if height % 2 or width % 2:
        values = cv2.copyMakeBorder(values, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = (values.shape[1] // 2, values.shape[0] // 2)
    half: Floats = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return half


def _filled(weighted: Floats) -> Floats:
    """Colours, (h, w, 3); where the weight is below 1, coarser ones show through.

    `weighted`: (h, w, 4), colours times their weight, and the weight, each the mean of four pixels.
    """
    # One visible pixel of four is enough: there is nothing finer.
    share = weighted[..., 3:]
    weighted = weighted * np.minimum(4, 1 / np.maximum(share, np.float32(1e-6)))
    height, width = share.shape[:2]
    missing = 1 - weighted[..., 3:]
    if max(height, width) == 1 or float(missing.max()) < 1e-6:
        return np.ascontiguousarray(weighted[..., :3])
    coarse = _filled(_half(weighted))
    large = cv2.resize(coarse, (width + width % 2, height + height % 2))[:height, :width]
    return weighted[..., :3] + np.asarray(large * missing, np.float32)
