"""Faces that lie or stand on their heads are repainted as if they stood upright."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.detailer import FaceDetailer
from pipeline.geometry import turned
from pipeline.images import decode
from pipeline.request import DetailRequest
from pipeline.types import FaceBox, Image

FILE = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"
DAMAGED = decode(FILE.read_bytes(), max_pixels=10**6, max_side_px=1000).image
FACE = FaceBox(180, 70, 272, 178, 0.9)


def request(image: Image) -> DetailRequest:
    return DetailRequest(image, "a face", 0.5, num_inference_steps=4)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_gives_the_turned_result(detailer: FaceDetailer, turns: int) -> None:
    (upright,) = detailer.detail_faces(request(DAMAGED), [FACE]).images
    picture = Image(np.ascontiguousarray(np.rot90(DAMAGED.pixels, turns)))
    box = turned(FACE, DAMAGED.width_px, DAMAGED.height_px, turns)
    (result,) = detailer.detail_faces(request(picture), [box]).images
    back = np.rot90(result.pixels, -turns).astype(int)
    change = np.abs(upright.pixels.astype(int) - DAMAGED.pixels)
    assert change.max() > 20
    # Resampling is exact but for the last bit of a float, which may round to another level.
    difference = np.abs(back - upright.pixels)
    assert difference.mean() < 0.02 * change.mean()
    assert difference.max() <= 4


def test_an_upside_down_face_is_found_and_repainted(detailer: FaceDetailer) -> None:
    picture = Image(np.ascontiguousarray(np.rot90(DAMAGED.pixels, 2)))
    result = detailer(request(picture))
    face = result.faces[0]
    assert face.quarter_turns == 2
    x, y = face.centre_xy
    change = np.abs(result.images[0].pixels.astype(int) - picture.pixels)
    assert change[round(y) - 20 : round(y) + 20, round(x) - 20 : round(x) + 20].mean() > 1
