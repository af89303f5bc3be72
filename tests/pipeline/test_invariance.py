"""A face's result does not depend on what else is in the picture, the batch or the order.

Tolerance: three levels at worst, a fiftieth of a level on average. Batches of other sizes round
differently in the last bit of a float, and so now and then to another level, in each of two passes;
bringing an enlarged crop back to the picture makes up to 1.7 of one.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detail_requests import asking
from repainters import rebuilt

from pipeline.detailer import FaceDetailer
from pipeline.geometry import rounds
from pipeline.images import decode
from pipeline.request import DetailRequest
from pipeline.types import FaceBox, Image

MOST_LEVELS, MEAN_LEVELS = 3, 0.02
FILE = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"
DAMAGED = decode(FILE.read_bytes(), max_pixels=10**6, max_side_px=1000).image
PORTRAIT, FACE = DAMAGED.pixels[40:210, 140:310], FaceBox(40, 30, 132, 138, 0.9)
COLUMNS, ROWS = 3, 2


def crowd() -> tuple[Image, list[FaceBox]]:
    """Portraits side by side, every other one mirrored or upside down; in rows from the left."""
    rows, faces = [], []
    for row in range(ROWS):
        tiles = []
        for column in range(COLUMNS):
            x, y = column * 170, row * 170
            box = FACE
            tile = PORTRAIT
            if column % 2:
                tile = tile[:, ::-1]
                box = replace(box, x0=170 - FACE.x1, x1=170 - FACE.x0)
            if row % 2:
                tile = np.rot90(tile, 2)
                box = FaceBox(170 - box.x1, 170 - box.y1, 170 - box.x0, 170 - box.y0, 0.9, 2)
            tiles.append(tile)
            faces.append(replace(box, x0=box.x0 + x, x1=box.x1 + x, y0=box.y0 + y, y1=box.y1 + y))
        rows.append(np.hstack(tiles))
    return Image(np.ascontiguousarray(np.vstack(rows))), faces


PICTURE, FACES = crowd()


@pytest.fixture(scope="module")
def strong(detailer: FaceDetailer) -> FaceDetailer:
    """The embedded profile at small work sizes, at strengths that leave nothing as it was, and with
    masks narrow enough that neighbours share a round.
    """
    profile = detailer.profile
    outline = replace(profile.outline, work_px=(64,), strength=1.0, grow=0.12)
    detail = replace(profile.detail, work_px=(128,), strength=0.6, grow=0.04)
    small = replace(profile, outline=outline, detail=detail)
    return rebuilt(detailer, detailer._inpainter, small)


def request(**changes) -> DetailRequest:
    values = {"prompt": "a face", "denoise": 0.6, "num_inference_steps": 2, "keep_healthy": False}
    return asking(PICTURE, **{**values, **changes})


def around(face: FaceBox, image: Image) -> np.ndarray:
    """All that a face's paint may reach."""
    pad = 0.3 * face.longer_px
    rows = slice(max(0, round(face.y0 - pad)), round(face.y1 + pad))
    columns = slice(max(0, round(face.x0 - pad)), round(face.x1 + pad))
    return image.pixels[rows, columns].astype(int)


def alike(face: FaceBox, a: Image, b: Image) -> bool:
    """Whether two results are the same about a face."""
    apart = np.abs(around(face, a) - around(face, b))
    return bool(apart.max() <= MOST_LEVELS and apart.mean() <= MEAN_LEVELS)


@pytest.fixture(scope="module")
def alone(strong: FaceDetailer) -> list[Image]:
    """Each face's result when it is the only one."""
    images = [strong.detail_faces(request(), [face]).images[0] for face in FACES[:4]]
    for face, image in zip(FACES, images, strict=False):
        assert np.abs(around(face, image) - around(face, PICTURE)).mean() > 5
    return images


def test_the_crowd_is_close(strong):
    """Paint of neighbours in a row just cannot meet; that of rows could: they take turns."""
    assert rounds(FACES, strong._reach()) == [[0, 1, 2], [3, 4, 5]]
    assert FACES[1].x0 - FACES[0].x1 < 0.8 * FACE.longer_px


@pytest.mark.parametrize(
    "order", [1, pytest.param(-1, marks=pytest.mark.slow)], ids=["in order", "in reverse"]
)
def test_a_face_is_the_same_alone_and_in_a_crowd_in_any_order(strong, alone, order):
    (together,) = strong.detail_faces(request(), FACES[::order]).images
    for face, image in zip(FACES, alone, strict=False):
        assert alike(face, image, together)


def test_a_face_is_the_same_in_a_batch_of_samples(strong, alone):
    first, second = strong.detail_faces(request(samples=2), FACES[:2]).images
    for face, image in zip(FACES[:2], alone, strict=False):
        assert alike(face, image, first)
        assert not alike(face, image, second)


@pytest.mark.slow
def test_overlapping_faces_elsewhere_change_nothing(strong, alone):
    """They take rounds of their own; the faces beside them do not."""
    far = FACES[-1]
    overlapping = replace(far, x0=far.x0 - 30, x1=far.x1 - 30)
    faces = [far, *FACES[:2], overlapping]
    assert len(rounds(faces, strong._reach())) == 2
    (together,) = strong.detail_faces(request(), faces).images
    for face, image in zip(FACES[:2], alone, strict=False):
        assert alike(face, image, together)


def test_a_face_is_the_same_whoever_else_is_served_at_the_time(strong, alone):
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(strong.detail_faces, request(), [face]) for face in FACES[:2]]
        together = [call.result().images[0] for call in calls]
    for face, image, got in zip(FACES, alone, together, strict=False):
        assert alike(face, image, got)
