"""Scenes composed of portraits and backgrounds, so that every face's place and turn is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.portraits import Portrait
from pipeline.compositing import cut
from pipeline.geometry import turned
from pipeline.types import CropRegion, FaceBox, Image

Pixels = NDArray[np.uint8]

SMALLEST_PX = 24.0
MOST_FACES = 30
LARGEST_SIDE_PX = 4000

# Side of what is cut out of a portrait, over its face: hair and a neck come along, as in life.
_HEAD = 1.7
# Of half that side: so wide is the ramp from head to background.
_SOFT_EDGE = 0.12
_PLACES_TRIED = 40
# Shares of scenes: one face that fills the picture; a few faces of any size; a crowd.
_KINDS = ("filling", "few", "few", "crowd")
# In half of the scenes all faces stand upright; else all are turned alike, or each its own way.
_TURNINGS = ("upright", "upright", "alike", "mixed")


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed picture and its faces, whose scores are 1."""

    image: Image
    faces: tuple[FaceBox, ...]


def compose(
    portraits: Sequence[Portrait], backgrounds: Sequence[Image], seed: int, index: int
) -> Scene:
    """Scene number `index` of the sequence `seed`: the same arguments give the same bytes.

    Sizes of faces (the longer side) are log-uniform from `SMALLEST_PX` on. `backgrounds`: pictures
    without faces; where there are none, clouds are drawn.
    """
    random = np.random.default_rng((seed, index))
    kind = _KINDS[index % len(_KINDS)]
    turning = _TURNINGS[int(random.integers(len(_TURNINGS)))]
    alike = 0 if turning == "upright" else int(random.integers(1, 4))

    def turns() -> int:
        return int(random.integers(4)) if turning == "mixed" else alike

    if kind == "filling":
        return _filling(_any(portraits, random), turns(), random)
    most_px = LARGEST_SIDE_PX if kind == "crowd" else LARGEST_SIDE_PX // 2
    width, height = (int(_log_uniform(random, 512, most_px)) for _ in range(2))
    canvas = _background(backgrounds, width, height, random)
    count = int(random.integers(10, MOST_FACES + 1) if kind == "crowd" else random.integers(1, 5))
    largest_px = min(width, height) / (4 if kind == "crowd" else 2)
    sizes = sorted(_log_uniform(random, SMALLEST_PX, largest_px) for _ in range(count))
    faces: list[FaceBox] = []
    taken: list[tuple[int, int, int]] = []
    for size_px in reversed(sizes):
        head = _head(_any(portraits, random), size_px, _HEAD)
        place = _free_place(taken, len(head[0]), width, height, random)
        if place is not None:
            taken.append((*place, len(head[0])))
            faces.append(_paste(canvas, *head, place, turns(), rounded=bool(random.integers(2))))
    return Scene(Image(canvas), tuple(faces))


def _any(portraits: Sequence[Portrait], random: np.random.Generator) -> Portrait:
    return portraits[int(random.integers(len(portraits)))]


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(max(low, high)))))


def _filling(portrait: Portrait, turns: int, random: np.random.Generator) -> Scene:
    """The face's longer side is 60 to 100 % of the picture's."""
    side_px = _log_uniform(random, 256, 1600)
    share = float(random.uniform(0.6, 1.0))
    pixels, box = _head(portrait, share * side_px, 1 / share)
    picture = Image(np.ascontiguousarray(np.rot90(pixels, -turns)))
    return Scene(picture, (turned(box, len(pixels), len(pixels), -turns),))


def _head(portrait: Portrait, size_px: float, factor: float) -> tuple[Pixels, FaceBox]:
    """A square `factor` times the face, which becomes about `size_px`; the face in its pixels."""
    face = portrait.face
    longer_px = face.longer_px
    work_px = max(8, round(factor * size_px / 8) * 8)
    crop = cut(portrait.image, face, CropRegion(face.centre_xy, factor * longer_px, work_px))
    return crop.image.pixels, crop.box


def _paste(
    canvas: Pixels,
    head: Pixels,
    box: FaceBox,
    place: tuple[int, int],
    turns: int,
    *,
    rounded: bool,
) -> FaceBox:
    """Draw the head, cut round or square, onto `canvas` in place; where its face is then."""
    side = len(head)
    offsets = np.abs((np.arange(side) + 0.5) / side * 2 - 1)
    across, along = offsets, offsets[:, None]
    distance = np.hypot(across, along) if rounded else np.maximum(across, along)
    share = np.clip((1 - distance) / _SOFT_EDGE, 0, 1)[..., None]
    x, y = place
    window = canvas[y : y + side, x : x + side]
    window[:] = (np.rot90(head, -turns) * share + window * (1 - share) + 0.5).astype(np.uint8)
    face = turned(box, side, side, -turns)
    return replace(face, x0=face.x0 + x, y0=face.y0 + y, x1=face.x1 + x, y1=face.y1 + y)


def _free_place(
    taken: Sequence[tuple[int, int, int]],
    side: int,
    width: int,
    height: int,
    random: np.random.Generator,
) -> tuple[int, int] | None:
    """The left upper corner of a square that overlaps none of `taken` (x, y, side)."""
    if side > min(width, height):
        return None
    for _ in range(_PLACES_TRIED):
        x, y = int(random.integers(width - side + 1)), int(random.integers(height - side + 1))
        if all(
            x >= tx + size or tx >= x + side or y >= ty + size or ty >= y + side
            for tx, ty, size in taken
        ):
            return x, y
    return None


def _background(
    backgrounds: Sequence[Image], width: int, height: int, random: np.random.Generator
) -> Pixels:
    if not backgrounds:
        return _clouds(width, height, random)
    source = backgrounds[int(random.integers(len(backgrounds)))].pixels
    # The largest part of the background that has the scene's shape.
    scale = min(source.shape[1] / width, source.shape[0] / height)
    part_w, part_h = max(1, int(width * scale)), max(1, int(height * scale))
    x = int(random.integers(source.shape[1] - part_w + 1))
    y = int(random.integers(source.shape[0] - part_h + 1))
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    part = cv2.resize(source[y : y + part_h, x : x + part_w], (width, height), interpolation=method)
    return np.ascontiguousarray(part, dtype=np.uint8)


def _clouds(width: int, height: int, random: np.random.Generator) -> Pixels:
    """Blotches of every size, the larger the stronger, as surfaces in photographs have them."""
    levels = np.full((height, width, 3), 128.0, np.float32)
    cells = 2
    while cells < max(width, height):
        rows = max(2, cells * height // max(width, height))
        columns = max(2, cells * width // max(width, height))
        blotches = random.normal(0, 100 / cells**0.5, (rows, columns, 3)).astype(np.float32)
        levels += cv2.resize(blotches, (width, height), interpolation=cv2.INTER_LINEAR)
        cells *= 3
    return np.clip(levels, 0, 255).astype(np.uint8)
