"""Which faces are found, and how they lie, in pictures of any size; which of them count."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from composed import FACE, Pixels, head, moved, put, scene, turned_clockwise
from numpy.typing import NDArray

from evaluation.damages import Damage, apply_damage
from pipeline.detection import find_faces, judge
from pipeline.errors import InvalidValue, Stopped
from pipeline.geometry import iou
from pipeline.loading import load_finder
from pipeline.request import Selection
from pipeline.types import FaceBox, Image
from weights.manifest import profile_folder

Find = Callable[[Pixels], list[FaceBox]]


@pytest.fixture(scope="module")
def find() -> Find:
    """The embedded detector's faces."""
    finder = load_finder(profile_folder("tiny"), "cpu")
    return lambda pixels: finder(Image(np.ascontiguousarray(pixels)))


def assert_found(found: Sequence[FaceBox], wanted: Sequence[FaceBox]) -> None:
    """Each of the faces once, nothing else, each with its turn."""
    assert len(found) == len(wanted)
    for face in wanted:
        best = max(found, key=lambda other: iou(face, other))
        assert iou(face, best) > 0.5
        assert best.quarter_turns == face.quarter_turns


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_face_is_found_whichever_way_the_picture_lies(
    find: Find, astronaut: Pixels, turns: int
) -> None:
    picture, box = astronaut[:400], FACE
    for _ in range(turns):
        box = turned_clockwise(box, len(picture))
        picture = np.rot90(picture, -1)
    assert_found(find(picture), [box])


def test_faces_that_lie_and_stand_side_by_side(find: Find, astronaut: Pixels) -> None:
    pixels, box = head(astronaut, 90)
    canvas, wanted = scene(1000, 300), []
    for turns in range(4):
        put(canvas, pixels, 20 + 245 * turns, 40)
        wanted.append(moved(box, 20 + 245 * turns, 40))
        box = turned_clockwise(box, len(pixels))
        pixels = np.rot90(pixels, -1)
    assert_found(find(canvas), wanted)


@pytest.mark.slow
def test_no_number_of_faces_is_too_large(find: Find, astronaut: Pixels) -> None:
    pixels, box = head(astronaut, 31)
    canvas, wanted = scene(10 * 78, 12 * 78), []
    for row in range(12):
        for column in range(10):
            x, y = 78 * column, 78 * row
            put(canvas, pixels if (row + column) % 2 else pixels[:, ::-1], x, y)
            wanted.append(moved(box, x, y))
    assert len(find(canvas)) >= 0.95 * len(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.3, 0.45, 0.6])
@pytest.mark.parametrize("across", [-0.45, 0.0, 0.45])
@pytest.mark.parametrize("along", [0.4, 0.55])
def test_a_face_in_front_of_a_larger_one_is_a_face(
    find: Find, astronaut: Pixels, ratio: float, across: float, along: float
) -> None:
    """A child held up, cheek to cheek: over half of the smaller box lies in the larger one."""
    canvas = cv2.resize(astronaut[:400], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    large = FaceBox(*(2 * side for side in (FACE.x0, FACE.y0, FACE.x1, FACE.y1)), score=1.0)
    pixels, box = head(astronaut, ratio * large.height_px, mirrored=True)
    oval = np.zeros(pixels.shape[:2], np.float32)
    middle = (round(box.centre_xy[0]), round(box.centre_xy[1] - 0.08 * box.height_px))
    axes = (round(0.68 * box.width_px), round(0.66 * box.height_px))
    cv2.ellipse(oval, middle, axes, 0, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(oval, (0, 0), 1.5)[..., None]
    x = round(large.centre_xy[0] + across * large.width_px - box.centre_xy[0])
    y = round(large.centre_xy[1] + along * large.height_px - box.centre_xy[1])
    under = canvas[y : y + len(pixels), x : x + pixels.shape[1]]
    put(canvas, (under + soft * (pixels.astype(np.float32) - under)).astype(np.uint8), x, y)
    found = find(canvas)
    best = max(iou(moved(box, x, y), face) for face in found)
    assert best > 0.5
    assert len(found) <= 2


@pytest.mark.parametrize("side_px", [96, 700, 1400])
def test_a_face_that_fills_the_picture(find: Find, astronaut: Pixels, side_px: int) -> None:
    scale = side_px / 120
    close = cv2.resize(astronaut[64:184, 166:286], (side_px, side_px))
    box = [(FACE.x0 - 166), (FACE.y0 - 64), (FACE.x1 - 166), (FACE.y1 - 64)]
    assert_found(find(np.asarray(close)), [FaceBox(*(value * scale for value in box), 1.0)])


@pytest.mark.parametrize("left_px", [14, 16])
def test_a_face_of_which_damage_left_a_few_pixels(
    find: Find, astronaut: Pixels, left_px: int
) -> None:
    pixels, box = head(astronaut, 160)
    damage = Damage(shrink=160 / left_px, noise=6, jpeg_quality=40)
    assert_found(find(apply_damage(pixels, damage, np.random.default_rng(0))), [box])


def test_small_faces_in_a_large_picture_wherever_tiles_meet(find: Find, astronaut: Pixels) -> None:
    pixels, box = head(astronaut, 32)
    canvas, wanted = scene(2400, 1300), []
    # Tiles of 1280 px begin at 0 and 1120, so they meet from 1120 to 1280.
    for x, y in [(0, 0), (1092, 400), (1180, 20), (1252, 900), (2328, 1228)]:
        put(canvas, pixels, x, y)
        wanted.append(moved(box, x, y))
    assert_found(find(canvas), wanted)


@pytest.mark.slow
def test_a_face_larger_than_a_tile_is_one_face(find: Find, astronaut: Pixels) -> None:
    pixels, box = head(astronaut, 1000)
    canvas = scene(3000, 2300)
    put(canvas, pixels, 300, 40)
    assert_found(find(canvas), [moved(box, 300, 40)])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 2000), (3000, 2), (640, 480)])
def test_nothing_in_a_flat_picture_of_any_shape(find: Find, width: int, height: int) -> None:
    assert find(np.full((height, width, 3), 90, np.uint8)) == []


class RedOverBlue:
    """A detector that knows one thing, and only upright: red above blue. It takes the red half
    alone for a face too, less surely.
    """

    def __init__(self) -> None:
        self.looks = 0

    def detect(
        self, images: Sequence[Image], threshold: float, _should_stop: object = None
    ) -> list[list[FaceBox]]:
        self.looks += 1
        return [self._faces(image.pixels.astype(int), threshold) for image in images]

    def _faces(self, pixels: NDArray[np.int_], threshold: float) -> list[FaceBox]:
        red, blue = (
            np.argwhere((pixels[..., a] > 180) & (pixels[..., b] < 80)) for a, b in ((0, 2), (2, 0))
        )
        if min(len(red), len(blue)) == 0 or red[:, 0].mean() >= blue[:, 0].mean() - 2:
            return []
        (y0, x0), (middle, x1) = red.min(axis=0), red.max(axis=0) + 1
        y1 = blue[:, 0].max() + 1
        found = [FaceBox(x0, y0, x1, y1, 0.9), FaceBox(x0, y0, x1, middle, 0.6)]
        return [face for face in found if face.score >= threshold]


def test_while_faces_are_looked_for_it_can_be_stopped(detailer, astronaut):
    questions: list[None] = []

    def should_stop() -> bool:
        questions.append(None)
        return len(questions) > 1

    with pytest.raises(Stopped):
        detailer.detect(Image(astronaut), Selection(), should_stop)


def red_over_blue(turns: int) -> tuple[Image, FaceBox]:
    """A picture with such a "face" turned clockwise, and where it is."""
    pixels = np.full((200, 200, 3), 128, np.uint8)
    pixels[40:80, 60:120] = (255, 0, 0)
    pixels[80:120, 60:120] = (0, 0, 255)
    box = FaceBox(60, 40, 120, 120, 1.0)
    for _ in range(turns):
        box = turned_clockwise(box, 200)
    return Image(np.ascontiguousarray(np.rot90(pixels, -turns))), box


@pytest.mark.parametrize("turns", range(4))
def test_the_picture_is_turned_where_nothing_stands_upright(turns: int) -> None:
    picture, box = red_over_blue(turns)
    detector = RedOverBlue()
    (face,) = find_faces(picture, detector, 640, 0.45)
    assert iou(face, box) > 0.95
    assert face.quarter_turns == turns
    assert face.score == pytest.approx(0.9)
    # An upright one is looked at twice; else a first look that shows nothing comes before.
    assert detector.looks == (2 if turns == 0 else 3)


class OnlyOnce(RedOverBlue):
    """Sees nothing in every second picture of a look at crops."""

    def detect(
        self, images: Sequence[Image], threshold: float, _should_stop: object = None
    ) -> list[list[FaceBox]]:
        found = super().detect(images, threshold)
        return [[] if self.looks == 2 and i % 2 else faces for i, faces in enumerate(found)]


def test_what_looks_like_a_face_from_one_distance_only_scores_little() -> None:
    found = find_faces(red_over_blue(0)[0], OnlyOnce(), 640, 0.45)
    assert 0.1 < found[0].score < 0.45


FACES = [
    FaceBox(0, 0, 30, 40, 0.9),
    FaceBox(100, 50, 120, 61, 0.8),
    FaceBox(50, 100, 100, 150, 0.5),
    FaceBox(70, 10, 80, 30, 0.2),
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [(2, None), (0, None), (3, "score"), (1, "size")]),
        ({"min_face_px": 11}, [(2, None), (0, None), (1, None), (3, "score")]),
        ({"min_face_px": 0, "max_faces": 1}, [(2, None), (0, "count"), (1, "count"), (3, "score")]),
        (
            {"min_face_px": 0, "max_faces": 2, "affordable": 1},
            [(2, None), (0, "budget"), (1, "count"), (3, "score")],
        ),
        ({"affordable": 0}, [(0, "budget"), (1, "size"), (2, "budget"), (3, "score")]),
        ({"affordable": 9}, [(2, None), (0, None), (3, "score"), (1, "size")]),
        ({"max_faces": 0}, [(0, "count"), (1, "size"), (2, "count"), (3, "score")]),
        ({"face_order": "left-right"}, [(0, None), (2, None), (1, "size"), (3, "score")]),
        ({"face_order": "score"}, [(0, None), (2, None), (1, "size"), (3, "score")]),
        (
            {"min_face_px": 0, "face_order": "top-bottom"},
            [(0, None), (1, None), (2, None), (3, "score")],
        ),
    ],
)
def test_which_faces_count_in_which_order(
    values: dict[str, object], expected: list[tuple[int, str | None]]
) -> None:
    found = judge(FACES, 0.3, Selection(**values))
    counting = [
        (FACES.index(detection.box), None) for detection in found if detection.rejected is None
    ]
    assert counting == [entry for entry in expected if entry[1] is None]
    # What was left out follows, the best first.
    rest = [
        (FACES.index(detection.box), detection.rejected) for detection in found[len(counting) :]
    ]
    assert rest == sorted(
        (entry for entry in expected if entry[1]), key=lambda entry: -FACES[entry[0]].score
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"affordable": -1},
        {"max_faces": -1},
        {"min_face_px": -1.0},
        {"min_face_px": float("nan")},
        {"detection_threshold": 1.1},
    ],
)
def test_a_selection_of_wrong_values_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=f"got {next(iter(wrong.values()))}"):
        Selection(**wrong)
