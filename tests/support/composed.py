"""Pictures composed of the example's head, and where its face is in them."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import FaceBox

Pixels = NDArray[np.uint8]

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
# Where the face is in astronaut.png, by eye: forehead to chin, cheek to cheek.
FACE = FaceBox(180, 70, 272, 178, 1.0)


def astronaut_pixels() -> Pixels:
    """The whole example, (512, 512, 3) RGB."""
    bgr = cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def head(astronaut: Pixels, face_px: float, *, mirrored: bool = False) -> tuple[Pixels, FaceBox]:
    """The head alone, its face `face_px` high, and the face's box in it."""
    scale = face_px / FACE.height_px
    part = astronaut[0:240, 100:340]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=method)
    box = [(FACE.x0 - 100) * scale, FACE.y0 * scale, (FACE.x1 - 100) * scale, FACE.y1 * scale]
    if mirrored:
        small = np.ascontiguousarray(small[:, ::-1])
        box[0], box[2] = small.shape[1] - box[2], small.shape[1] - box[0]
    return np.asarray(small, np.uint8), FaceBox(*box, 1.0)


def scene(width: int, height: int) -> Pixels:
    """A soft gradient."""
    across = np.linspace(60, 180, width)[None, :, None]
    along = np.linspace(0, 40, height)[:, None, None]
    return np.broadcast_to(across + along, (height, width, 3)).astype(np.uint8)


def put(canvas: Pixels, pixels: Pixels, x: int, y: int) -> None:
    canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels


def moved(box: FaceBox, x: float, y: float) -> FaceBox:
    return FaceBox(box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y, 1.0, box.quarter_turns)


def turned_clockwise(box: FaceBox, height_px: float) -> FaceBox:
    """The box after its picture was turned by 90° clockwise."""
    turns = (box.quarter_turns + 1) % 4
    return FaceBox(height_px - box.y1, box.x0, height_px - box.y0, box.x1, 1.0, turns)
