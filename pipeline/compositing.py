"""Cutting a face out of a picture, and laying the repainted one back in.

The paste adds to the picture what the model changed in the crop, times the mask: an unchanged crop
changes no pixel, at any scale, and a shrunken one leaves the picture the detail that the crop could
not hold.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import box_to_crop, covered_rows_cols
from pipeline.resampling import Axis, resample
from pipeline.types import CropRegion, FaceBox, FaceCrop, Image, Repaint, SoftMask

Floats = NDArray[np.float32]

# The ring in which colours are compared reaches this share of the mask's diameter beyond it, and at
# least one cell of the VAE (8 px).
_RING = 0.15
_RING_MIN_PX = 8.0

# With fewer pixels than this the ring says little, and the colours stay as the model gave them.
_RING_MIN_PIXELS = 64


def cut(image: Image, box: FaceBox, region: CropRegion) -> FaceCrop:
    """The region of a picture at work size, turned upright.

    Beyond the picture its border pixels are replicated. `box`: the face, in image pixels.
    """
    rows, columns = _axes(region, image.height_px, image.width_px)
    patch = image.pixels[rows.window, columns.window].astype(np.float32)
    crop = resample(rows.forth(), patch, columns.forth())
    return FaceCrop(
        region, Image(_round(np.rot90(crop, region.quarter_turns))), box_to_crop(box, region)
    )


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


def paste(image: Image, painted: Image, crop: FaceCrop, mask: SoftMask) -> Image:
    """`paste_all` for one face."""
    return paste_all(image, [Repaint(crop, painted, mask)])


def paste_all(image: Image, repaints: Sequence[Repaint]) -> Image:
    """A new picture with the repainted faces laid in, the later on top where masks overlap.

    Every crop was cut from `image`. Pixels where a face's mask, brought to the picture's frame, is
    0 keep their bytes.
    """
    pixels = image.pixels.copy()
    for repaint in repaints:
        _lay_in(pixels, image, repaint)
    return Image(pixels)


def _lay_in(pixels: NDArray[np.uint8], original: Image, repaint: Repaint) -> None:
    region = repaint.crop.region
    mask = np.rot90(repaint.mask.pixels, -region.quarter_turns)
    rows, columns = _axes(region, *pixels.shape[:2])
    spans = covered_rows_cols(region, *pixels.shape[:2])
    share = rows.share(spans[0]) @ mask @ columns.share(spans[1]).T
    kept = np.argwhere(share > 0)
    if len(kept) == 0:
        return
    (top, left), (bottom, right) = kept.min(axis=0), kept.max(axis=0) + 1
    row_span = slice(spans[0].start + int(top), spans[0].start + int(bottom))
    column_span = slice(spans[1].start + int(left), spans[1].start + int(right))
    change = repaint.painted.pixels.astype(np.float32) - repaint.crop.image.pixels
    change = np.rot90(change, -region.quarter_turns)
    change = resample(rows.back(row_span), change, columns.back(column_span))
    new = original.pixels[row_span, column_span] + change
    old = pixels[row_span, column_span].astype(np.float32)
    pixels[row_span, column_span] = _round(old + share[top:bottom, left:right, None] * (new - old))


def _axes(region: CropRegion, height_px: int, width_px: int) -> tuple[Axis, Axis]:
    x, y = region.centre_xy
    half = region.side_px / 2
    return (
        Axis(y - half, region.side_px, region.work_px, height_px),
        Axis(x - half, region.side_px, region.work_px, width_px),
    )


def _round(levels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """To the nearest level, halves upwards."""
    return np.ascontiguousarray(np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8))


def _moved(image: Image, lab: Floats, shift: Floats) -> Image:
    """The picture, whose colours are `lab`, moved by `shift` in Lab.

    What the move adds in RGB is added to the levels: OpenCV's way to Lab and back alone is off by
    up to a level, and no shift must change nothing.
    """
    to_rgb = cv2.COLOR_Lab2RGB
    change = cv2.cvtColor(lab + shift, to_rgb) - cv2.cvtColor(lab, to_rgb)
    return Image(_round(image.pixels + change * 255))


def _to_lab(pixels: NDArray[np.uint8]) -> Floats:
    lab: Floats = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return lab


def _ring(mask: SoftMask) -> NDArray[np.bool_]:
    outside = mask.pixels == 0
    diameter_px = float(np.sqrt(np.count_nonzero(~outside)))
    distance = cv2.distanceTransform(outside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ring: NDArray[np.bool_] = outside & (distance <= max(_RING_MIN_PX, _RING * diameter_px))
    return ring
