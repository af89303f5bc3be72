"""What the detector gets to see of a picture: the whole at two sizes, tiles, and turned copies."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipeline.geometry import turned
from pipeline.types import FaceBox, Image

# Magnified further, a small picture only shows the detector its own blur.
MAX_MAGNIFICATION = 2.0

# Tiles show the picture at half its size: a face of 32 px, the smallest that is promised, has 16 px
# there. They are worth their time where the whole picture is shown much smaller.
TILE_SCALE = 0.5
TILES_FROM = 1.25

# Share of a tile's side. Every tile may cut a larger face; the whole picture, which is at most 6.4
# times as coarse (8192 px shown at 640), still has it at 20 px.
TILE_OVERLAP = 0.2

# Share of a view's side: what ends this close to a cut is a part of a face.
_CUT = 0.01


@dataclass(frozen=True, slots=True)
class View:
    """A part of the picture: cut out, scaled, turned counter-clockwise.

    `origin_xy`: its upper left corner in image pixels. `scale_xy`: view pixels per image pixel,
    before the turn. `cut_xyxy`: which of its sides, before the turn, are not the picture's own.
    """

    picture: Image
    origin_xy: tuple[int, int]
    scale_xy: tuple[float, float]
    cut_xyxy: tuple[bool, bool, bool, bool] = (False, False, False, False)
    quarter_turns: int = 0

    def turned(self, quarter_turns: int) -> "View":
        """The same part, turned (further)."""
        pixels = np.ascontiguousarray(np.rot90(self.picture.pixels, quarter_turns))
        turns = (self.quarter_turns + quarter_turns) % 4
        return replace(self, picture=Image(pixels), quarter_turns=turns)

    def to_image(self, box: FaceBox) -> FaceBox | None:
        """A box in the view's pixels in image pixels; None where a cut runs through the face."""
        picture = self.picture
        back = turned(box, picture.width_px, picture.height_px, -self.quarter_turns)
        corners = np.array([back.x0, back.y0, back.x1, back.y1])
        size_wh = (picture.width_px, picture.height_px)
        width, height = size_wh[::-1] if self.quarter_turns % 2 else size_wh
        room = corners * (1, 1, -1, -1) + (0, 0, width, height)
        if (np.array(self.cut_xyxy) & (room < _CUT * max(size_wh))).any():
            return None
        x0, y0, x1, y1 = (corners / (self.scale_xy * 2) + self.origin_xy * 2).tolist()
        return replace(back, x0=x0, y0=y0, x1=x1, y1=y1)


def wholes(image: Image, input_px: int) -> Iterator[View]:
    """The whole picture, its longer side at `input_px` and, for faces that fill it, at half that.

    Small pictures are magnified `MAX_MAGNIFICATION` times at most.
    """
    longer_px = max(image.width_px, image.height_px)
    largest_px = round(MAX_MAGNIFICATION * longer_px)
    for side_px in sorted({min(input_px, largest_px), min(input_px // 2, largest_px)}):
        yield _view(image, (0, 0), (image.width_px, image.height_px), side_px / longer_px)


def coarse(image: Image, input_px: int) -> View:
    """The whole picture at a quarter of `input_px`, or magnified `MAX_MAGNIFICATION` times."""
    longer_px = max(image.width_px, image.height_px)
    side_px = min(input_px // 4, round(MAX_MAGNIFICATION * longer_px))
    return _view(image, (0, 0), (image.width_px, image.height_px), side_px / longer_px)


def tiles(image: Image, input_px: int) -> Iterator[View]:
    """Overlapping squares, `input_px` a side, of a picture that is much larger; else nothing."""
    if TILE_SCALE * max(image.width_px, image.height_px) < TILES_FROM * input_px:
        return
    side_px = round(input_px / TILE_SCALE)
    for y in _starts(image.height_px, side_px):
        for x in _starts(image.width_px, side_px):
            size_wh = min(side_px, image.width_px), min(side_px, image.height_px)
            yield _view(image, (x, y), size_wh, TILE_SCALE)


def _starts(length_px: int, side_px: int) -> list[int]:
    """Where tiles begin along an axis: evenly spread, so that each overlaps the next enough."""
    if length_px <= side_px:
        return [0]
    overlap_px = TILE_OVERLAP * side_px
    count = int(np.ceil((length_px - overlap_px) / (side_px - overlap_px)))
    return [round(start) for start in np.linspace(0, length_px - side_px, count)]


def _view(image: Image, origin_xy: tuple[int, int], size_wh: tuple[int, int], scale: float) -> View:
    (x, y), (width, height) = origin_xy, size_wh
    small_wh = max(1, round(width * scale)), max(1, round(height * scale))
    part = np.ascontiguousarray(image.pixels[y : y + height, x : x + width])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(part, small_wh, interpolation=method)
    return View(
        Image(np.ascontiguousarray(small, dtype=np.uint8)),
        origin_xy,
        (small_wh[0] / width, small_wh[1] / height),
        (x > 0, y > 0, x + width < image.width_px, y + height < image.height_px),
    )
