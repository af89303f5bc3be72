"""A picture of what was found in a picture, and why each find is or isn't detailed."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.compositing import paste_all
from pipeline.types import CropRegion, Detection, FaceCrop, Image, Rejection, Repaint, SoftMask

Colour = tuple[int, int, int]

# Of the picture's longer side; text is as high as 14 such lines.
_LINE = 1 / 700
_TEXT_LINES = 14
_TINT = 0.45
_COUNTS: Colour = (40, 220, 90)
_CROP: Colour = (90, 170, 255)
_REJECTED: Colour = (255, 120, 30)
_REASONS: dict[Rejection, str] = {
    "score": "score too low",
    "size": "too small",
    "count": "enough others",
    "budget": "beyond the budget",
}


def draw(
    image: Image, detections: Sequence[Detection], masked: Sequence[tuple[FaceCrop, SoftMask]]
) -> Image:
    """A copy of the picture with boxes, scores, turns and reasons, crops and masks.

    Args:
        image: the picture.
        detections: what was found in it.
        masked: the crops of the faces that count, and what of them is repainted.
    """
    tinted = [Repaint(crop, _tint(crop.image), mask) for crop, mask in masked]
    pixels = paste_all(image, tinted).pixels.copy()
    for crop, _ in masked:
        _square(pixels, crop.region)
    # Those that count last: nothing is drawn over them.
    for detection in reversed(detections):
        _find(pixels, detection)
    return Image(pixels)


def label(detection: Detection) -> str:
    """What stands beside a box: score, turn, reason. `0.93`, or `0.21 turned 90 score too low`."""
    turn = f" turned {90 * detection.box.quarter_turns}" if detection.box.quarter_turns else ""
    reason = f" {_REASONS[detection.rejected]}" if detection.rejected else ""
    return f"{detection.box.score:.2f}{turn}{reason}"


def _tint(image: Image) -> Image:
    pixels = image.pixels * (1 - _TINT) + np.array(_COUNTS) * _TINT
    return Image(np.ascontiguousarray(pixels.astype(np.uint8)))


def _line_px(pixels: NDArray[np.uint8]) -> int:
    height, width = pixels.shape[:2]
    return max(1, round(_LINE * int(max(height, width))))


def _square(pixels: NDArray[np.uint8], region: CropRegion) -> None:
    (x, y), half = region.centre_xy, region.side_px / 2
    corner, other = (round(x - half), round(y - half)), (round(x + half), round(y + half))
    cv2.rectangle(pixels, corner, other, _CROP, _line_px(pixels))


def _find(pixels: NDArray[np.uint8], detection: Detection) -> None:
    line_px, box = _line_px(pixels), detection.box
    colour = _REJECTED if detection.rejected else _COUNTS
    x0, y0, x1, y1 = (round(value) for value in (box.x0, box.y0, box.x1, box.y1))
    cv2.rectangle(pixels, (x0, y0), (x1, y1), colour, 2 * line_px)
    font, text = cv2.FONT_HERSHEY_SIMPLEX, label(detection)
    scale = cv2.getFontScaleFromHeight(font, _TEXT_LINES * line_px, line_px)
    (width, height), below = cv2.getTextSize(text, font, scale, line_px)
    # Above the box where there is room, and never beyond the picture's right and lower sides.
    under = min(y1 + height + below, len(pixels) - below - 1)
    y = y0 - below if y0 >= height + 2 * below else under
    corner = (max(0, min(x0, pixels.shape[1] - width)), y)
    cv2.rectangle(
        pixels,
        (corner[0], y - height - below // 2),
        (corner[0] + width, y + below),
        (0, 0, 0),
        cv2.FILLED,
    )
    cv2.putText(pixels, text, corner, font, scale, colour, line_px, cv2.LINE_AA)
