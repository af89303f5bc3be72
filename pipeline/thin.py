"""What lies over a face and is no part of it: text, lines, scratches, dots."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import Image

Pixels = NDArray[np.uint8]

# So many standard deviations of what all pixels are off the median around them: noise is not.
_LEAST_SIGMAS = 4.0
# Of a normal distribution, from the median of the absolute values.
_SIGMA_OF_MEDIAN = 1.4826
# What differs from itself blurred by this share of the levels that count is sharp there, and what
# is next to it.
_EDGE_PX = 1.5
_EDGE_SHARE = 0.75
_NEAR = np.ones((5, 5), np.uint8)
# A line's soft edge, of antialiasing and JPEG.
_EDGE = np.ones((3, 3), np.uint8)
_FILLED_FROM_PX = 3
# Of more than this nobody could say what is below.
_MOST = 0.4


def lifted_off(pixels: Pixels, width_px: int, least_levels: float, least_px: int = 0) -> Pixels:
    """The picture without what is thin and stands out, filled in from around it (Telea, "An image
    inpainting technique based on the fast marching method", 2004).

    Args:
        pixels: (H, W) or (H, W, 3) levels.
        width_px: what is less than half as wide is thin; odd.
        least_levels: what is less off the median around it does not stand out.
        least_px: what is shorter is left, as the corners of a mouth and the light in an eye are.
    """
    median = cv2.medianBlur(pixels, width_px)
    off = cv2.absdiff(pixels, median)
    if off.ndim == 3:
        off = off.max(axis=2)
    sigma = _SIGMA_OF_MEDIAN * float(np.median(off))
    stands_out = off > max(least_levels, _LEAST_SIGMAS * sigma)
    lies_over = stands_out & _sharp(pixels, _EDGE_SHARE * least_levels)
    lies_over = cv2.dilate(lies_over.astype(np.uint8), _EDGE)
    if least_px > 0:
        lies_over = _long(lies_over, width_px, least_px)
    if not 0 < lies_over.mean() <= _MOST:
        return pixels
    filled: Pixels = cv2.inpaint(pixels, lies_over, _FILLED_FROM_PX, cv2.INPAINT_TELEA)
    return filled


def _sharp(pixels: Pixels, least_levels: float) -> NDArray[np.bool_]:
    """Where an edge is near: the pupil of a soft face is thin and dark, and none."""
    fine = cv2.absdiff(pixels, cv2.GaussianBlur(pixels, (0, 0), _EDGE_PX))
    if fine.ndim == 3:
        fine = fine.max(axis=2)
    near: NDArray[np.bool_] = cv2.dilate(fine, _NEAR) > least_levels
    return near


def _long(lies_over: Pixels, gap_px: int, least_px: int) -> Pixels:
    """Without the patches that are shorter, upright or across; the letters of a word are one."""
    joined = cv2.dilate(lies_over, np.ones((gap_px, gap_px), np.uint8))
    _, patch_of, patches, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    sides = patches[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) - (gap_px - 1)
    kept: Pixels = (sides >= least_px).astype(np.uint8)[patch_of] & lies_over
    return kept


def laid_back(painted: Image, original: Image, shown: Image) -> Image:
    """The repaint of `shown`, with what was lifted off `original` for it."""
    lifted = original.pixels.astype(np.int16) - shown.pixels
    return Image((painted.pixels + lifted).clip(0, 255).astype(np.uint8))
