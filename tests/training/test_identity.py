"""That training's face embedding is dlib's."""

from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
import torch

from training import common
from training.identity import CHIP_PX, ChipFinder, FaceEmbedding, cut_chips
from weights.dlib_models import embedding_file, model_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.png"
# Of the example's face, as the detector finds it.
BOX = (166.0, 50.0, 280.0, 205.0)


@pytest.fixture(scope="module")
def embedding() -> FaceEmbedding:
    return FaceEmbedding()


def test_the_embedding_of_a_chip_is_dlibs_own(embedding: FaceEmbedding) -> None:
    rgb = common.load_rgb(EXAMPLE)
    chip = np.ascontiguousarray(cv2.resize(rgb[40:220, 140:320], (CHIP_PX, CHIP_PX)))
    network = dlib.face_recognition_model_v1(str(embedding_file()))
    wanted = np.array(network.compute_face_descriptor(chip))
    got = embedding(common.to_tensor(chip)[None])[0].numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_the_chip_is_cut_where_dlib_cuts_it() -> None:
    rgb = common.load_rgb(EXAMPLE)
    matrix = torch.from_numpy(ChipFinder().find(rgb, BOX))
    chip = cut_chips(common.to_tensor(rgb)[None], matrix[None])[0]
    x0, y0, x1, y1 = (round(v) for v in BOX)
    side = round(0.94 * (y1 - y0))
    left, top = (x0 + x1 - side) // 2, (y0 + y1 - side) // 2 + round(0.02 * (y1 - y0))
    square = dlib.rectangle(left, top, left + side, top + side)
    landmarks = dlib.shape_predictor(str(model_file("shape_predictor_5_face_landmarks.dat")))
    wanted = dlib.get_face_chip(rgb, landmarks(rgb, square), CHIP_PX, 0.25)
    got = ((chip.permute(1, 2, 0) + 1) * 127.5).numpy()
    assert np.abs(got - wanted).mean() < 8
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.98
