"""Portraits damaged, detailed by the whole pipeline, and measured against what they were."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from evaluation.damages import damaged
from evaluation.likeness import Likeness, Yardstick
from evaluation.matching import FOUND_IOU
from evaluation.measures import seam_step
from evaluation.portraits import Portrait
from pipeline.detailer import FaceDetailer
from pipeline.geometry import iou
from pipeline.models.dlib_faces import Embedder
from pipeline.request import DetailRequest, Recipe
from pipeline.types import FaceBox, Image

# Below this a face at the heaviest level would be 4 px, and dlib could not frame it either.
SMALLEST_PX = 32.0


@dataclass(frozen=True, slots=True)
class Case:
    """One picture at one level. `seam_delta_e`: None where nothing changed. `seconds`: the whole
    request, decoding and encoding left out.
    """

    damaged: Likeness
    result: Likeness
    found: bool
    seam_delta_e: float | None
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """One portrait at the size it was measured at; per level its damaged picture, its result and
    the figures.
    """

    name: str
    clean: Portrait
    pictures: dict[str, tuple[Image, Image]]
    cases: dict[str, Case]


def restore(
    portraits: Iterable[tuple[Path, Portrait]],
    detailer: FaceDetailer,
    recipe: Recipe,
    *,
    levels: Sequence[str],
    side_px: int,
    seed: int,
) -> Iterator[Restored]:
    """Damage each portrait at every level, detail it, measure; one at a time is in memory.

    Args:
        portraits: where from, and the picture; those whose face is below SMALLEST_PX at `side_px`
            are left out.
        detailer: what details.
        recipe: how it repaints the faces that it finds by default.
        levels: of `damages.LEVELS`.
        side_px: the longer side of the pictures that are damaged.
        seed: of the damage.
    """
    embedder = Embedder()
    for file, portrait in portraits:
        clean = at_size(portrait, side_px)
        if min(clean.face.width_px, clean.face.height_px) < SMALLEST_PX:
            continue
        yardstick = Yardstick(clean.image, clean.face, embedder)
        pictures, cases = {}, {}
        for level in levels:
            before = damaged(clean.image, file.name, level, seed)
            request = DetailRequest(before, recipe)
            started = perf_counter()
            faces = detailer.find_faces(before, request.selection)
            after = detailer.detail_faces(request, faces).images[0]
            seconds = perf_counter() - started
            pictures[level] = (before, after)
            cases[level] = Case(
                damaged=yardstick.measure(before),
                result=yardstick.measure(after),
                found=any(iou(face, clean.face) >= FOUND_IOU for face in faces),
                seam_delta_e=seam_step(before, after, yardstick.inside, clean.face.longer_px),
                seconds=seconds,
            )
        yield Restored(file.name, clean, pictures, cases)


def at_size(portrait: Portrait, side_px: int) -> Portrait:
    """The portrait with a longer side of `side_px`."""
    height, width = portrait.image.pixels.shape[:2]
    scale = side_px / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(portrait.image.pixels, size_wh, interpolation=method)
    face, x, y = portrait.face, size_wh[0] / width, size_wh[1] / height
    box = FaceBox(face.x0 * x, face.y0 * y, face.x1 * x, face.y1 * y, face.score)
    return Portrait(Image(np.ascontiguousarray(pixels, dtype=np.uint8)), box)
