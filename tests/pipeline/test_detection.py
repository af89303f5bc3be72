"""Which faces are found, and how they lie, in pictures of any size; which of them count."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.detection import find_faces, judge
from pipeline.geometry import iou
from pipeline.loading import load_finder
from pipeline.request import DetailRequest
from pipeline.types import FaceBox, Image
from weights.manifest import profile_folder
from weights.training.damage import Damage, apply_damage

Pixels = NDArray[np.uint8]
Find = Callable[[Pixels], list[FaceBox]]

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.png"
# Where the face is in astronaut.png, by eye: forehead to chin, cheek to cheek.
FACE = FaceBox(180, 70, 272, 178, 1.0)


@pytest.fixture(scope="module")
def find() -> Find:
    """The embedded detector's faces."""
    finder = load_finder(profile_folder("tiny"), "cpu")
    return lambda pixels: finder(Image(np.ascontiguousarray(pixels)))


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    bgr = cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def head(astronaut: Pixels, face_px: float) -> tuple[Pixels, FaceBox]:
    """The head alone, its face `face_px` high, and the face's box in it."""
    scale = face_px / FACE.height_px
    part = astronaut[0:240, 100:340]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=method)
    box = [(FACE.x0 - 100) * scale, FACE.y0 * scale, (FACE.x1 - 100) * scale, FACE.y1 * scale]
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

    def detect(self, images: Sequence[Image], threshold: float) -> list[list[FaceBox]]:
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
    # An upright one is looked at twice; else the first look and the one at no suspects come before.
    assert detector.looks == (2 if turns == 0 else 4)


class OnlyOnce(RedOverBlue):
    """Sees nothing in every second picture of a look at crops."""

    def detect(self, images: Sequence[Image], threshold: float) -> list[list[FaceBox]]:
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


def request(**values: object) -> DetailRequest:
    return DetailRequest(Image(scene(200, 200)), "", 0.4, **values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [(2, None), (0, None), (3, "score"), (1, "size")]),
        ({"min_face_px": 11}, [(2, None), (0, None), (1, None), (3, "score")]),
        ({"min_face_px": 0, "max_faces": 1}, [(2, None), (0, "count"), (1, "count"), (3, "score")]),
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
    found = judge(FACES, 0.3, request(**values))
    counting = [(FACES.index(find.box), None) for find in found if find.left_out is None]
    assert counting == [entry for entry in expected if entry[1] is None]
    # What was left out follows, the best first.
    rest = [(FACES.index(find.box), find.left_out) for find in found[len(counting) :]]
    assert rest == sorted(
        (entry for entry in expected if entry[1]), key=lambda entry: -FACES[entry[0]].score
    )
