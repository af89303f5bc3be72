"""Masks of one face in its crop: what the model may repaint, and how much of it is kept."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import FaceBox, HardMask, SoftMask

# Detectors' boxes often end at the hair line or the brows: the ellipse reaches this share of the
# box's height above it.
_FOREHEAD = 0.1

# An ellipse that fills its box covers π/4 = 0.79 of it. Below a quarter, the segmenter found a
# feature (an eye, a mouth) or another thing; above twice the box, hair, body or background came
# along.
_MIN_COVER = 0.25
_MAX_AREA = 2.0


def ellipse(box: FaceBox, side_px: int) -> HardMask:
    """The mask for a face that nobody segmented: an ellipse in its box, somewhat higher than the
    box.

    Args:
        box: in pixels of the crop.
        side_px: the crop's side; the mask is (side_px, side_px).
    """
    top = box.y0 - _FOREHEAD * box.height_px
    x, y = np.arange(side_px) + 0.5, np.arange(side_px)[:, None] + 0.5
    across = (x - box.centre_xy[0]) / (box.width_px / 2)
    along = (y - (top + box.y1) / 2) / ((box.y1 - top) / 2)
    mask = across**2 + along**2 <= 1
    # A face of a pixel or less may miss every pixel's centre.
    column, row = (min(max(int(v), 0), side_px - 1) for v in box.centre_xy)
    mask[row, column] = True
    return HardMask(mask)


def clean(mask: HardMask, box: FaceBox) -> HardMask | None:
    """The part of a segmenter's mask that is the face: one piece, without holes.

    Kept is the piece that covers most of the box; its holes (glasses, teeth) are filled, all else
    is dropped.

    Returns:
        None where the piece covers under a quarter of the box, or is larger than twice the box: no
        face has that shape, and `ellipse` serves better.
    """
    _, pieces = cv2.connectedComponents(mask.pixels.astype(np.uint8), connectivity=8)
    inside = pieces[_rows_cols(box, mask.pixels.shape)]
    counts = np.bincount(inside.ravel())
    counts[0] = 0
    if counts.max() < _MIN_COVER * inside.size:
        return None
    piece = _fill_holes(pieces == counts.argmax())
    return None if piece.sum() > _MAX_AREA * inside.size else HardMask(piece)


def of_face(found: HardMask | None, box: FaceBox, side_px: int) -> tuple[HardMask, bool]:
    """The face's mask, and whether the segmenter's served: otherwise it is the ellipse.

    Args:
        found: the segmenter's mask, None where it was unsure.
        box: in pixels of the crop.
        side_px: the crop's side; masks are (side_px, side_px).
    """
    face = None if found is None else clean(found, box)
    return (ellipse(box, side_px), False) if face is None else (face, True)


def _rows_cols(box: FaceBox, shape_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """The crop's pixels in the box: at least one, whatever the box."""

    def span(low: float, high: float, size: int) -> slice:
        start = min(max(round(low), 0), size - 1)
        return slice(start, min(max(round(high), start + 1), size))

    return span(box.y0, box.y1, shape_hw[0]), span(box.x0, box.x1, shape_hw[1])


def _fill_holes(piece: NDArray[np.bool_]) -> NDArray[np.bool_]:
    outside = np.pad(~piece, 1, constant_values=True).astype(np.uint8)
    # Of connectivity 4: what an 8-connected outline encloses does not leak out through its
    # diagonals.
    _, parts = cv2.connectedComponents(outside, connectivity=4)
    return np.ascontiguousarray((parts != parts[0, 0])[1:-1, 1:-1])


def grow(mask: HardMask, px: float) -> HardMask:
    """The mask and every pixel whose centre is at most `px` from the centre of one of the mask."""
    return HardMask(mask.pixels | (mask.pixels.any() & (_distance(~mask.pixels) <= px)))


def spare(mask: HardMask, own: FaceBox, others: Sequence[FaceBox]) -> HardMask:
    """The mask without the boxes of other faces. Where such a box overlaps the face's own, each
    pixel belongs to the one whose middle is nearer, in shares of the boxes' sides.

    Args:
        mask: of the face.
        own: its box, in pixels of the mask.
        others: likewise.
    """
    kept = mask.pixels
    side_y, side_x = kept.shape
    x, y = np.arange(side_x) + 0.5, np.arange(side_y)[:, None] + 0.5
    away = _box_distance(own, x, y)
    for other in others:
        distance = _box_distance(other, x, y)
        kept = kept & ~((distance <= 1) & ((away > 1) | (distance < away)))
    return HardMask(np.ascontiguousarray(kept))


def _box_distance(
    box: FaceBox, x: NDArray[np.floating], y: NDArray[np.floating]
) -> NDArray[np.floating]:
    """From a box's middle, 0, over its edges, 1, outwards; (H, W)."""
    middle_x, middle_y = box.centre_xy
    across, along = np.abs(x - middle_x) / box.width_px, np.abs(y - middle_y) / box.height_px
    return np.asarray(2 * np.maximum(across, along))


def feather_inside(mask: HardMask, px: float) -> SoftMask:
    """0 outside the mask; inside, a smooth ramp up to 1 at `px` from its edge.

    The crop's border counts as an edge. In a mask that is nowhere `px` deep the ramp is as wide as
    it is deep, so that its middle still reaches 1.
    """
    inside = np.pad(mask.pixels, 1)
    # From the centres of the pixels to the edge, which runs half a pixel before the next centre.
    depth = np.maximum(_distance(inside)[1:-1, 1:-1] - 0.5, 0)
    width = min(px, float(depth.max()))
    if width <= 0:
        return SoftMask(mask.pixels.astype(np.float32))
    ramp = np.clip(depth / np.float32(width), 0, 1)
    # Smoothstep: its slope is 0 at both ends, so neither end of the ramp shows as a line.
    return SoftMask(np.ascontiguousarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float32))


def _distance(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """From each True pixel's centre to the nearest False one's; 0 at False ones."""
    distances: NDArray[np.float32] = cv2.distanceTransform(
        pixels.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return distances
