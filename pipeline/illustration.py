"""A picture of each step of a picture's walk, for people who want to see what became of a face."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.detailer import FaceDetailer
from pipeline.overlay import draw
from pipeline.progress import OnProgress, Progress, ignore
from pipeline.request import DetailRequest, DetailResult
from pipeline.run import PassDone
from pipeline.stages import ShouldStop, never
from pipeline.transparency import extend
from pipeline.types import FaceBox, Image, Repaint

Pixels = NDArray[np.uint8]

# Crops are shown at this side, whole pictures at twice that; of more faces than these, the first.
_TILE_PX = 256
_MOST_FACES = 4
_GAP_PX = 8
_GAP_LEVEL = 255
# What is not repainted is shown this dark; what the walk changed, this many times as strong.
_DIMMED = 0.25
_AMPLIFIED = 4


def illustrate(
    detailer: FaceDetailer,
    request: DetailRequest,
    on_progress: OnProgress = ignore,
    should_stop: ShouldStop = never,
) -> tuple[DetailResult, dict[str, Image]]:
    """As `detailer(request, …)`, and pictures of the first sample's steps by name, in their order.

    `detect`: boxes and scores. `crop`: what the model sees of each face. `mask`: how much of that
    is repainted, per pass. `outline`, `detail`: each crop before and after the pass. `paste`: the
    picture before and after both, and four times what changed, on grey. `upscale`: the first face
    before and after. A step that was not walked has none.

    Raises:
        Stopped: `should_stop` answered True.
    """
    on_progress(Progress("detecting"))
    detections = detailer.detect(request.image, request.selection, should_stop)
    faces = [detection.box for detection in detections if detection.rejected is None]
    passes: list[PassDone] = []
    result = detailer.detail_faces(request, faces, on_progress, should_stop, passes.append)
    result = replace(result, rejected=tuple(detections[len(faces) :]))
    pictures = {"detect": draw(request.image, detections, [])}
    if not passes:
        return result, pictures
    profile = detailer.profile
    outlines, details = (
        [paint for done in passes if done.config is config for paint in done.repaints[0]]
        for config in (profile.outline, profile.detail)
    )
    # Side by side, a face's two passes: the crops of the first one and all masks.
    pictures["crop"] = _grid([[_crop(paint) for paint in max(outlines, details, key=len)]])
    pictures["mask"] = _grid([[_dimmed(paint) for paint in laid] for laid in (outlines, details)])
    for name, laid in (("outline", outlines), ("detail", details)):
        if laid:
            pictures[name] = _grid([[_crop(paint), _tile(paint.painted)] for paint in laid])
    pasted = passes[-1].pictures[0]
    pictures["paste"] = _pasted(extend(request.image, request.alpha), pasted)
    if request.recipe.upscale > 1:
        pictures["upscale"] = _enlarged(pasted, result.images[0], result.faces[0])
    return result, pictures


def _crop(paint: Repaint) -> Pixels:
    return _tile(paint.crop.image)


def _dimmed(paint: Repaint) -> Pixels:
    share = _DIMMED + (1 - _DIMMED) * paint.mask.pixels[:, :, None]
    return _tile(Image(np.ascontiguousarray((paint.crop.image.pixels * share).astype(np.uint8))))


def _pasted(before: Image, after: Image) -> Image:
    change = after.pixels.astype(np.int16) - before.pixels
    shown = np.clip(128 + _AMPLIFIED * change, 0, 255).astype(np.uint8)
    return _grid([[_fit(pixels) for pixels in (before.pixels, after.pixels, shown)]])


def _enlarged(small: Image, large: Image, face: FaceBox) -> Image:
    """The face and a third around it, its pixels made large as they are, and by the upscaler."""
    factor = large.width_px // small.width_px
    reach = face.longer_px * 2 / 3
    (x, y), sides = face.centre_xy, (small.width_px, small.height_px)
    (left, right), (top, bottom) = (
        (max(0, round(at - reach)), min(side, round(at + reach)))
        for at, side in zip((x, y), sides, strict=True)
    )
    blocks = small.pixels[top:bottom, left:right].repeat(factor, axis=0).repeat(factor, axis=1)
    its = large.pixels[top * factor : bottom * factor, left * factor : right * factor]
    return _grid([[_fit(blocks), _fit(its)]])


def _tile(image: Image) -> Pixels:
    return _resized(image.pixels, (_TILE_PX, _TILE_PX))


def _fit(pixels: Pixels) -> Pixels:
    """Shrunk so that no side passes twice a tile's."""
    height, width = pixels.shape[:2]
    scale = min(1.0, 2 * _TILE_PX / max(height, width))
    return _resized(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))


def _resized(pixels: Pixels, size_wh: tuple[int, int]) -> Pixels:
    how = cv2.INTER_AREA if pixels.shape[1] > size_wh[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size_wh, interpolation=how), np.uint8)


def _grid(rows: Sequence[Sequence[Pixels]]) -> Image:
    """Tiles in rows with white gaps; of more than `_MOST_FACES` in a row or column, the first."""
    shown = [row[:_MOST_FACES] for row in rows if row][:_MOST_FACES]
    widths = [sum(tile.shape[1] + _GAP_PX for tile in row) - _GAP_PX for row in shown]
    heights = [max(tile.shape[0] for tile in row) for row in shown]
    canvas = np.full(
        (sum(heights) + _GAP_PX * (len(shown) - 1), max(widths), 3), _GAP_LEVEL, np.uint8
    )
    top = 0
    for row, height in zip(shown, heights, strict=True):
        left = 0
        for tile in row:
            canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            left += tile.shape[1] + _GAP_PX
        top += height + _GAP_PX
    return Image(canvas)
