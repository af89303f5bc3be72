"""What holds of every detection: a lower threshold never finds less, boxes lie in the picture."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from composed import Pixels, head, put, scene
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detailer import FaceDetailer
from pipeline.detection import find_faces
from pipeline.geometry import clipped
from pipeline.request import Selection
from pipeline.types import FaceBox, Image

THRESHOLDS = (0.0, 0.01, 0.05, 0.1, 0.3, 0.55, 0.71, 0.9, 0.98, 1.0)


def several_turned(astronaut: Pixels) -> Pixels:
    canvas = scene(800, 240)
    pixels, _ = head(astronaut, 80)
    for turns in range(4):
        put(canvas, np.rot90(pixels, -turns), 10 + 195 * turns, 30)
    return canvas


def small_ones(astronaut: Pixels) -> Pixels:
    canvas = scene(440, 200)
    for number, face_px in enumerate((14, 18, 24, 32, 44)):
        pixels, _ = head(astronaut, face_px)
        put(canvas, pixels, 10 + 80 * number, 20 + 12 * number)
    return canvas


def one_that_lies(astronaut: Pixels) -> Pixels:
    return np.ascontiguousarray(np.rot90(astronaut[:300, 60:380]))


def none_at_all(_astronaut: Pixels) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (180, 240, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("make", [several_turned, small_ones, one_that_lies, none_at_all])
def test_a_lower_threshold_finds_the_same_faces_and_perhaps_more(
    detailer: FaceDetailer, astronaut: Pixels, make
) -> None:
    image = Image(make(astronaut))
    found = [
        set(detailer.find_faces(image, Selection(threshold, max_faces=1000, min_face_px=0)))
        for threshold in THRESHOLDS
    ]
    for lower, higher in pairwise(found):
        assert lower >= higher
    own = detailer.profile.detector.threshold
    assert found[THRESHOLDS.index(own)] == set(
        detailer.find_faces(image, Selection(max_faces=1000, min_face_px=0))
    )


class Certain:
    """Takes the middle of every picture for a face, with the scores that it is given in turn."""

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = scores

    def detect(
        self, images: Sequence[Image], threshold: float, _should_stop: object = None
    ) -> list[list[FaceBox]]:
        found = []
        for number, image in enumerate(images):
            width, height = image.width_px, image.height_px
            corners = (0.3 * width, 0.2 * height, 0.7 * width, 0.8 * height)
            score = self._scores[number % len(self._scores)]
            found.append([FaceBox(*corners, score)] if score >= threshold else [])
        return found


@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 0.5, 5e-324]), min_size=1, max_size=4),
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_no_score_is_too_low_or_too_high(scores: list[float], threshold: float) -> None:
    faces = find_faces(Image(scene(90, 60)), Certain(scores), 640, threshold)
    assert all(0 <= face.score <= 1 for face in faces)


def test_the_surest_face_scores_1() -> None:
    (face,) = find_faces(Image(scene(90, 60)), Certain([1.0]), 640, 0.5)
    assert face.score == 1


@pytest.mark.slow
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("face_px", [40, 130])
def test_boxes_of_faces_at_the_border_lie_in_the_picture(
    detailer: FaceDetailer, astronaut: Pixels, turns: int, face_px: int
) -> None:
    pixels, box = head(astronaut, face_px)
    # From each side a fifth of the face is cut off.
    into_x, into_y = (round(side + face_px / 5) for side in (box.x0, box.y0))
    to_x, to_y = (round(side - face_px / 5) for side in (box.x1, box.y1))
    found = []
    for part in (pixels[into_y:], pixels[:to_y], pixels[:, into_x:], pixels[:, :to_x]):
        turned = np.rot90(part, -turns)
        height, width = turned.shape[:2]
        canvas = np.ascontiguousarray(turned)
        for detection in detailer.detect(Image(canvas), Selection(0.0)):
            its = detection.box
            assert 0 <= its.x0 < its.x1 <= width
            assert 0 <= its.y0 < its.y1 <= height
            found.append(its)
    assert len(found) >= 4


@given(
    corners=st.lists(st.floats(-30, 130), min_size=4, max_size=4, unique=True),
    turns=st.integers(0, 3),
)
def test_a_clipped_box_is_the_common_part(corners: list[float], turns: int) -> None:
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    box = clipped(FaceBox(x0, y0, x1, y1, 0.5, turns), 100, 50)
    if box is None:
        assert x1 <= 0 or x0 >= 100 or y1 <= 0 or y0 >= 50
        return
    assert (box.x0, box.y0) == (max(x0, 0), max(y0, 0))
    assert (box.x1, box.y1) == (min(x1, 100), min(y1, 50))
    assert (box.score, box.quarter_turns) == (0.5, turns)
