"""What two pictures of one size differ in: error, structure, and the seam that repainting left."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.metrics import structural_similarity

from pipeline.types import Image

# The mean squared error of rounding to levels: no picture can be told to be nearer than that.
_ROUNDING = 1 / 12

# Width of the band inside the border, as a share of the face's longer side.
BAND = 0.05
SECTORS = 24
# A sector with fewer pixels says nothing.
_MIN_PIXELS = 12


def psnr_db(pixels: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two arrays of one shape; 58.9 where they are equal."""
    error = ((pixels.astype(np.float64) - wanted) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, _ROUNDING)))


def ssim_map(pixels: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    """Wang et al., "Image quality assessment: from error visibility to structural similarity",
    2004: (H, W) of (H, W) luma in 0–255, Gaussian windows, 1 where they are equal.
    """
    _, similarity = structural_similarity(
        pixels,
        wanted,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(similarity, np.float64)


def luma(image: Image) -> NDArray[np.float32]:
    """(H, W) in 0–255."""
    grey: NDArray[np.uint8] = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    return grey.astype(np.float32)


def seam_step(
    before: Image, after: Image, face: NDArray[np.bool_], longer_px: float
) -> float | None:
    """The mean ΔE (CIE 1976) of the step that repainting added at its border.

    The border is the outline of the changed region that covers the face, its holes filled. Outside
    it nothing changed, so the step that was added there is the change just inside: in a band of
    `BAND` of the face's longer side, cut into `SECTORS` about the region's centre. A sector's step
    is the length of its mean change in Lab. What was a step in the picture before does not count,
    and shifts that differ in direction around the face do not cancel. Where the mask is feathered
    the band holds the beginning of the ramp, as the eye sees it.

    Args:
        before: the picture that was repainted.
        after: the result, of its size.
        face: (H, W) bool, where the face is.
        longer_px: the face's longer side.

    Returns:
        None where nothing about the face changed.
    """
    region = _changed_region(before, after, face, longer_px)
    if region is None:
        return None
    change = _lab(after) - _lab(before)
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    band = region & (depth <= max(2.0, BAND * longer_px))
    sectors = _sectors(region)
    parts = [change[band & (sectors == sector)] for sector in range(SECTORS)]
    steps = [np.linalg.norm(part.mean(axis=0)) for part in parts if len(part) >= _MIN_PIXELS]
    return float(np.mean(steps)) if steps else None


def _changed_region(
    before: Image, after: Image, face: NDArray[np.bool_], longer_px: float
) -> NDArray[np.bool_] | None:
    """The changed region that covers most of the face, in one piece and without holes."""
    changed = (before.pixels != after.pixels).any(axis=2).astype(np.uint8)
    # Near the border changes round to nothing here and there; what is that close is one region.
    side = 2 * round(BAND * longer_px / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    pieces = label(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, disc), connectivity=2)
    counts = np.bincount(pieces[face])
    if counts[1:].sum() == 0:
        return None
    piece = (pieces == 1 + counts[1:].argmax()).astype(np.uint8)
    outline, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: NDArray[np.bool_] = cv2.drawContours(piece, outline, -1, 1, cv2.FILLED) > 0
    return filled


def _sectors(region: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(H, W): the number of the sector about the region's centre that each pixel lies in."""
    rows, columns = np.nonzero(region)
    along = np.arange(region.shape[0])[:, None] - rows.mean()
    across = np.arange(region.shape[1]) - columns.mean()
    turn = np.arctan2(along, across) / (2 * np.pi) % 1
    return np.asarray(turn * SECTORS, np.intp) % SECTORS


def _lab(image: Image) -> NDArray[np.float32]:
    lab: NDArray[np.float32] = cv2.cvtColor(
        image.pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab
    )
    return lab
