"""Faces that lie or stand on their heads are repainted as if they stood upright."""

import numpy as np
import pytest
from detail_requests import asking
from example_calls import SOUND, softened

from pipeline.detailer import FaceDetailer
from pipeline.geometry import turned
from pipeline.request import DetailRequest
from pipeline.types import FaceBox, Image

# Soft, and without grain, which is drawn in a picture as it lies.
PICTURE = softened(SOUND)
FACE = FaceBox(180, 70, 272, 178, 0.9)


def request(image: Image) -> DetailRequest:
    return asking(image, "a face", 0.5, num_inference_steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_gives_the_turned_result(detailer: FaceDetailer, turns: int) -> None:
    (upright,) = detailer.detail_faces(request(PICTURE), [FACE]).images
    picture = Image(np.ascontiguousarray(np.rot90(PICTURE.pixels, turns)))
    box = turned(FACE, PICTURE.width_px, PICTURE.height_px, turns)
    (result,) = detailer.detail_faces(request(picture), [box]).images
    back = np.rot90(result.pixels, -turns).astype(int)
    change = np.abs(upright.pixels.astype(int) - PICTURE.pixels)
    assert change.max() > 20
    # Resampling is exact but for the last bit of a float, which may round to another level.
    difference = np.abs(back - upright.pixels)
    assert difference.mean() < 0.02 * change.mean()
    assert difference.max() <= 4


@pytest.mark.slow
def test_an_upside_down_face_is_found_and_repainted(detailer: FaceDetailer) -> None:
    picture = Image(np.ascontiguousarray(np.rot90(PICTURE.pixels, 2)))
    result = detailer(request(picture))
    face = result.faces[0]
    assert face.quarter_turns == 2
    x, y = face.centre_xy
    change = np.abs(result.images[0].pixels.astype(int) - picture.pixels)
    assert change[round(y) - 20 : round(y) + 20, round(x) - 20 : round(x) + 20].mean() > 1
