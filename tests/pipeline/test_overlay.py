"""The picture that shows what was found."""

import numpy as np
import pytest

from pipeline.compositing import cut
from pipeline.overlay import draw, label
from pipeline.types import CropRegion, Detection, FaceBox, Image, SoftMask

GREY = Image(np.full((700, 700, 3), 128, np.uint8))
FACE = FaceBox(200, 300, 300, 420, 0.931)


@pytest.mark.parametrize(
    ("detection", "text"),
    [
        (Detection(FACE), "0.93"),
        (Detection(FaceBox(0, 0, 9, 9, 0.2, 1), "score"), "0.20 turned 90 score too low"),
        (Detection(FACE, "size"), "0.93 too small"),
        (Detection(FACE, "count"), "0.93 enough others"),
        (Detection(FACE, "budget"), "0.93 beyond the budget"),
    ],
)
def test_labels(detection: Detection, text: str) -> None:
    assert label(detection) == text


def test_box_crop_and_mask_are_where_they_belong() -> None:
    crop = cut(GREY, FACE, CropRegion(FACE.centre_xy, 240, 240, 1))
    mask = np.zeros((240, 240), np.float32)
    # Turned upright by a quarter counter-clockwise: the crop's upper left is the picture's upper
    # right.
    mask[:40, :40] = 1
    drawn = draw(GREY, [Detection(FACE)], [(crop, SoftMask(mask))]).pixels.astype(int)
    changed = np.any(drawn != 128, axis=2)
    assert GREY.pixels.min() == GREY.pixels.max() == 128
    assert changed[300:420, 200].all()  # the box's left side
    assert changed[420, 200:300].all()  # and its lower one
    assert changed[240:480, 130].all()  # the crop's left side
    assert (drawn[245:275, 335:365, 1] > drawn[245:275, 335:365, 0]).all()  # the mask, green
    assert not changed[330:400, 210:290].any()
    assert not changed[:230].any()
    assert not changed[490:].any()


@pytest.mark.parametrize(
    "corners",
    [(-30, -30, 30, 30), (670, 670, 730, 730), (690, -20, 750, 40), (-5, -5, 705, 705)],
)
def test_labels_are_whole_at_every_border(corners: tuple[float, ...]) -> None:
    def label_px(corners: tuple[float, ...]) -> int:
        """Pixels of the label's ground."""
        detection = Detection(FaceBox(*corners, 0.5, 2), "count")
        return int((draw(GREY, [detection], []).pixels == 0).all(axis=2).sum())

    assert label_px(corners) == pytest.approx(label_px((300, 300, 360, 360)), rel=0.05)
