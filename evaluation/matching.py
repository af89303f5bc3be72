"""Which detection belongs to which face."""

from collections.abc import Sequence

from pipeline.geometry import iou
from pipeline.types import FaceBox

FOUND_IOU = 0.5


def match(faces: Sequence[FaceBox], detections: Sequence[FaceBox]) -> list[FaceBox | None]:
    """The detection of each face, or None: each goes to the face that it covers best, if that has
    none yet and the IoU is at least `FOUND_IOU`.
    """
    matches: list[FaceBox | None] = [None] * len(faces)
    for detection in detections:
        free = [index for index, taken in enumerate(matches) if taken is None]
        best = max(free, key=lambda index: iou(faces[index], detection), default=None)
        if best is not None and iou(faces[best], detection) >= FOUND_IOU:
            matches[best] = detection
    return matches
