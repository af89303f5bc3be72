"""Cutting a face out of a picture, and laying the repainted one back in.

The paste adds to the picture what the model changed in the crop, times the mask: an unchanged crop
changes no pixel, at any scale, and a shrunken one leaves the picture the detail that the crop could
not hold.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import box_to_crop, covered_rows_cols
from pipeline.resampling import Axis, resample, to_levels
from pipeline.types import CropRegion, FaceBox, FaceCrop, Image, Repaint, Share, SoftMask


def cut(image: Image, box: FaceBox, region: CropRegion) -> FaceCrop:
    """The region of a picture at work size, turned upright.

    Beyond the picture its border pixels are replicated. `box`: the face, in image pixels.
    """
    rows, columns = _axes(region, image.height_px, image.width_px)
    patch = image.pixels[rows.window, columns.window].astype(np.float32)
    crop = resample(rows.forth(), patch, columns.forth())
    return FaceCrop(
        region, Image(to_levels(np.rot90(crop, region.quarter_turns))), box_to_crop(box, region)
    )


def paste(image: Image, painted: Image, crop: FaceCrop, mask: SoftMask) -> Image:
    """`paste_all` for one face."""
    return paste_all(image, [Repaint(crop, painted, mask)])


def paste_all(image: Image, repaints: Sequence[Repaint]) -> Image:
    """A new picture with the repainted faces laid in, the later on top where masks overlap.

    Every crop was cut from `image`. Pixels where a face's mask, brought to the picture's frame, is
    0 keep their bytes.
    """
    shares = [share_of(repaint, image.height_px, image.width_px) for repaint in repaints]
    return lay_in(image, repaints, shares)


def lay_in(image: Image, repaints: Sequence[Repaint], shares: Sequence[Share]) -> Image:
    """`paste_all` where each repaint's `share_of` is known already."""
    pixels = image.pixels.copy()
    for repaint, share in zip(repaints, shares, strict=True):
        _lay_in(pixels, image, repaint, share)
    return Image(pixels)


def take_out(
    image: Image, original: Image, shares: Sequence[Share], kept: Sequence[Share]
) -> Image:
    """A new picture, as the original wherever a repaint of these shares was laid in, and none of
    those that are kept.
    """
    pixels = image.pixels.copy()
    held = np.zeros(pixels.shape[:2], bool)
    for share in kept:
        held[share.rows, share.columns] |= share.values > 0
    for share in shares:
        window = share.rows, share.columns
        gone = (share.values > 0) & ~held[window]
        np.copyto(pixels[window], original.pixels[window], where=gone[..., None])
    return Image(pixels)


def share_of(repaint: Repaint, height_px: int, width_px: int) -> Share:
    """How much of a repaint each pixel of a picture of this size takes; maybe of none."""
    region = repaint.crop.region
    mask = np.rot90(repaint.mask.pixels, -region.quarter_turns)
    rows, columns = _axes(region, height_px, width_px)
    spans = covered_rows_cols(region, height_px, width_px)
    share = np.asarray(rows.share(spans[0]) @ mask @ columns.share(spans[1]).T, np.float32)
    kept = np.argwhere(share > 0)
    if len(kept) == 0:
        return Share(slice(0, 0), slice(0, 0), share[:0, :0])
    (top, left), (bottom, right) = kept.min(axis=0), kept.max(axis=0) + 1
    row_span = slice(spans[0].start + int(top), spans[0].start + int(bottom))
    column_span = slice(spans[1].start + int(left), spans[1].start + int(right))
    return Share(row_span, column_span, share[top:bottom, left:right])


def _lay_in(pixels: NDArray[np.uint8], original: Image, repaint: Repaint, share: Share) -> None:
    if share.values.size == 0:
        return
    region = repaint.crop.region
    row_span, column_span = share.rows, share.columns
    rows, columns = _axes(region, *pixels.shape[:2])
    change = repaint.painted.pixels.astype(np.float32) - repaint.crop.image.pixels
    change = np.rot90(change, -region.quarter_turns)
    change = resample(rows.back(row_span), change, columns.back(column_span))
    new = original.pixels[row_span, column_span] + change
    old = pixels[row_span, column_span].astype(np.float32)
    pixels[row_span, column_span] = to_levels(old + share.values[..., None] * (new - old))


def _axes(region: CropRegion, height_px: int, width_px: int) -> tuple[Axis, Axis]:
    x, y = region.centre_xy
    half = region.side_px / 2
    return (
        Axis(y - half, region.side_px, region.work_px, height_px),
        Axis(x - half, region.side_px, region.work_px, width_px),
    )
