"""Where a face's crop lies in the picture, and how to get from one to the other and back.

Matrices are (2, 3) float64 and map (x, y, 1) in the coordinates of `pipeline.types`: pixel (column
i, row j) has its centre at (i + 0.5, j + 0.5), so no scale shifts a picture by part of a pixel.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config import PassConfig
from pipeline.types import CropRegion, FaceBox

# Work axes in the picture's axes after k counter-clockwise quarter turns (y points down): rows are
# the directions of work x and work y.
_TURNS = (((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0)))


def plan_crop(box: FaceBox, config: PassConfig, quarter_turns: int = 0) -> CropRegion:
    """The square around a face, centred on it even at the picture's border.

    The work size is the menu's smallest that does not shrink the crop, else its largest: that cap
    always holds.
    """
    side_px = config.crop_factor * box.longer_px
    work_px = next((size for size in config.work_px if size >= side_px), config.work_px[-1])
    return CropRegion(box.centre_xy, side_px, work_px, quarter_turns)


def crop_matrix(region: CropRegion) -> NDArray[np.float64]:
    """Image pixels → work pixels: centre to the origin, turn, scale, origin to the work centre."""
    linear = np.array(_TURNS[region.quarter_turns], np.float64) * region.scale
    offset = region.work_px / 2 - linear @ np.array(region.centre_xy)
    return np.column_stack([linear, offset])


def invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix that leads back."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def box_to_crop(box: FaceBox, region: CropRegion) -> FaceBox:
    """A box in image pixels as a box in the crop's work pixels."""
    return _transform(box, crop_matrix(region), -region.quarter_turns)


def box_to_image(box: FaceBox, region: CropRegion) -> FaceBox:
    """A box in the crop's work pixels as a box in image pixels."""
    return _transform(box, invert(crop_matrix(region)), region.quarter_turns)


def _transform(box: FaceBox, matrix: NDArray[np.float64], quarter_turns: int) -> FaceBox:
    corners = np.array([[box.x0, box.y0, 1], [box.x1, box.y1, 1]]) @ matrix.T
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    turns = (box.quarter_turns + quarter_turns) % 4
    return FaceBox(float(x0), float(y0), float(x1), float(y1), box.score, turns)


def turned(box: FaceBox, width_px: int, height_px: int, quarter_turns: int) -> FaceBox:
    """A box of a picture of this size after the picture was turned by 90° counter-clockwise."""
    x0, y0, x1, y1 = box.x0, box.y0, box.x1, box.y1
    for turn in range(quarter_turns % 4):
        width = height_px if turn % 2 else width_px
        x0, y0, x1, y1 = y0, width - x1, y1, width - x0
    turns = (box.quarter_turns - quarter_turns) % 4
    return FaceBox(x0, y0, x1, y1, box.score, turns)


def mirrored_box(box: FaceBox, width_px: int) -> FaceBox:
    """A box of a picture of this width in its mirror image."""
    return replace(box, x0=width_px - box.x1, x1=width_px - box.x0)


def clipped(box: FaceBox, width_px: int, height_px: int) -> FaceBox | None:
    """The part of a box that lies in a picture of this size; None where there is none."""
    x0, x1 = max(0.0, box.x0), min(float(width_px), box.x1)
    y0, y1 = max(0.0, box.y0), min(float(height_px), box.y1)
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1) if x0 < x1 and y0 < y1 else None


def iou(a: FaceBox, b: FaceBox) -> float:
    """The area that two boxes share, over the area that they cover together."""
    shared = _shared(a, b)
    return shared / (_area(a) + _area(b) - shared)


def overlaps(boxes: Sequence[FaceBox]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each two boxes, (N, N): the area that they share, over the area that they cover together,
    and over that of the smaller one.
    """
    corners = np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes], np.float32)
    corners = corners.reshape(-1, 4)
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    together = area[:, None] + area[None] - shared
    return shared / together, shared / np.minimum(area[:, None], area[None])


def _shared(a: FaceBox, b: FaceBox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)


def _area(box: FaceBox) -> float:
    return box.width_px * box.height_px


def covered_rows_cols(region: CropRegion, height_px: int, width_px: int) -> tuple[slice, slice]:
    """The picture's pixels that the region touches, as half-open slices of rows and columns.

    Clipped to the picture; a slice is empty where the region lies beside it.
    """
    x, y = region.centre_xy
    half = region.side_px / 2

    def span(centre: float, size_px: int) -> slice:
        start = min(max(int(np.floor(centre - half)), 0), size_px)
        return slice(start, min(max(int(np.ceil(centre + half)), start), size_px))

    return span(y, height_px), span(x, width_px)


def grown(box: FaceBox, share: float) -> FaceBox:
    """The box, each side moved outwards by `share` of the longer one: where a mask may paint."""
    pad = share * box.longer_px
    return FaceBox(box.x0 - pad, box.y0 - pad, box.x1 + pad, box.y1 + pad, box.score)


def regions_overlap(a: FaceBox, b: FaceBox) -> bool:
    """Whether two half-open boxes share any area."""
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def rounds(boxes: Sequence[FaceBox], grow: float) -> list[list[int]]:
    """Split faces into successive rounds; within one, no two paint regions overlap.

    A face goes into the first round after those of all earlier faces that it overlaps, so of two
    overlapping faces the later one is always repainted on top.

    Args:
        boxes: faces in the order in which they are to be repainted.
        grow: how far paint may reach beyond a box, as a share of its longer side.

    Returns:
        Indices into `boxes`, ascending in each round; every index once.
    """
    paint = [grown(box, grow) for box in boxes]
    order: list[list[int]] = []
    round_of: list[int] = []
    for index, region in enumerate(paint):
        before = (round_of[i] for i in range(index) if regions_overlap(paint[i], region))
        turn = max(before, default=-1) + 1
        round_of.append(turn)
        if turn == len(order):
            order.append([])
        order[turn].append(index)
    return order
