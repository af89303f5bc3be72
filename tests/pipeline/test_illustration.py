"""A walk told in pictures: which ones, what they show, and the same result."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detail_requests import asking
from repainters import Repainter, negative, rebuilt

from pipeline.detailer import FaceDetailer
from pipeline.illustration import illustrate
from pipeline.images import decode
from pipeline.request import DetailRequest
from pipeline.types import Image

FILE = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"
DAMAGED = decode(FILE.read_bytes(), max_pixels=10**6, max_side_px=1000).image
STEPS = ["detect", "crop", "mask", "outline", "detail", "paste", "upscale"]


@pytest.fixture(scope="module")
def painting(detailer: FaceDetailer) -> FaceDetailer:
    """Paints negatives, whose coarse tone is not taken back: what is repainted is plain to see."""
    profile = detailer.profile
    outline, detail = (replace(p, tone=0.0) for p in (profile.outline, profile.detail))
    return rebuilt(detailer, Repainter(negative), replace(profile, outline=outline, detail=detail))


def request(image: Image = DAMAGED, **changes) -> DetailRequest:
    values = {"prompt": "a face", "denoise": 0.5, "upscale": 2, "keep_healthy": False}
    return asking(image, **{**values, **changes})


@pytest.mark.slow
def test_each_step_has_its_picture_and_the_result_is_the_walks_own(painting):
    result, pictures = illustrate(painting, request())
    assert list(pictures) == STEPS
    plain = painting(request())
    assert np.array_equal(result.images[0].pixels, plain.images[0].pixels)
    assert result.faces == plain.faces
    shapes = {name: picture.pixels.shape[:2] for name, picture in pictures.items()}
    tile, wide, gap = 256, 512, 8
    assert shapes["detect"] == (512, 512)
    assert shapes["crop"] == (tile, tile)
    assert shapes["mask"] == (2 * tile + gap, tile)
    assert shapes["outline"] == shapes["detail"] == (tile, 2 * tile + gap)
    assert shapes["paste"] == (wide, 3 * wide + 2 * gap)


def test_what_is_shown_is_what_happened(painting):
    result, pictures = illustrate(painting, request(passes="detail"))
    before, after, change = np.split(
        pictures["paste"].pixels[:, np.r_[:512, 520:1032, 1040:1552]].astype(int), 3, axis=1
    )
    assert np.array_equal(before, DAMAGED.pixels)
    assert np.array_equal(change, np.clip(128 + 4 * (after - before), 0, 255))
    (face,) = result.faces
    x, y = (round(value) for value in face.centre_xy)
    assert np.abs(change[y - 20 : y + 20, x - 20 : x + 20] - 128).mean() > 30
    crop, mask = pictures["crop"].pixels.astype(int), pictures["mask"].pixels.astype(int)
    assert np.array_equal(mask[118:138, 118:138], crop[118:138, 118:138])
    assert np.abs(mask[:20] - crop[:20] // 4).max() <= 1
    outcome = pictures["detail"].pixels.astype(int)
    assert np.array_equal(outcome[:, :256], crop)
    correlation = np.corrcoef(outcome[:, :256].ravel(), outcome[:, 264:].ravel())[0, 1]
    assert correlation < -0.8


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"passes": "detail"}, {"outline"}),
        ({"upscale": 1}, {"upscale"}),
        ({"denoise": 0.0}, set(STEPS) - {"detect"}),
        ({"max_faces": 0}, set(STEPS) - {"detect"}),
    ],
)
def test_steps_that_were_not_walked_have_no_picture(painting, changes, missing):
    _, pictures = illustrate(painting, request(**changes))
    assert set(STEPS) - set(pictures) == missing


def test_many_faces_are_shown_side_by_side_up_to_four(painting):
    part = DAMAGED.pixels[40:210, 140:310]
    crowd = Image(np.ascontiguousarray(np.tile(part, (1, 6, 1))))
    result, pictures = illustrate(painting, request(crowd, min_face_px=30.0))
    assert len(result.faces) > 4
    assert pictures["crop"].pixels.shape[:2] == (256, 4 * 256 + 3 * 8)
    assert pictures["outline"].pixels.shape[:2] == (4 * 256 + 3 * 8, 2 * 256 + 8)
