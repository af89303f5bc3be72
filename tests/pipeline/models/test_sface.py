"""SFace's and YuNet's adapter, with networks of a few layers that OpenCV reads like theirs."""

import cv2
import numpy as np
import pytest
from tiny_onnx import write_sface, write_yunet

from pipeline.errors import WeightsError
from pipeline.models.sface import SfaceRecogniser, load_sface
from pipeline.types import CropRegion, FaceBox, FaceCrop, Image

SIDE = 320
REGION = CropRegion((SIDE / 2, SIDE / 2), SIDE, SIDE)
BOX = FaceBox(112, 112, 208, 208, 0.9)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> SfaceRecogniser:
    folder = tmp_path_factory.mktemp("recogniser")
    return load_sface(write_sface(folder / "sface.onnx"), write_yunet(folder / "yunet.onnx"))


def crop(seed: int, *, white_at: tuple[int, int] | None = (160, 160)) -> FaceCrop:
    """Dark noise of its own, and the white cell that the tiny YuNet takes for a face."""
    pixels = np.random.default_rng(seed).integers(0, 90, (SIDE, SIDE, 3), np.uint8)
    if white_at is not None:
        x, y = white_at
        pixels[y : y + 16, x : x + 16] = 255
    return FaceCrop(REGION, Image(pixels), BOX)


def mixed(one: FaceCrop, other: FaceCrop, share: float) -> FaceCrop:
    pixels = (1 - share) * one.image.pixels + share * other.image.pixels
    return FaceCrop(REGION, Image(pixels.astype(np.uint8)), BOX)


def test_the_same_face_is_1_and_less_the_more_it_changes(recogniser) -> None:
    before, other = crop(0), crop(1)
    cosines = [recogniser.likeness(before, mixed(before, other, s)) for s in (0, 0.3, 0.6, 1)]
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[-1] < 0.99


def test_it_is_what_opencv_says_of_the_pictures_as_it_reads_them(recogniser) -> None:
    """Blue first, which is not the house's order."""
    crops, features = (crop(0), crop(1)), []
    for picture in crops:
        bgr = np.ascontiguousarray(picture.image.pixels[..., ::-1])
        # Of the same white cell in both.
        (face,) = recogniser._detector.detect(bgr)[1]
        features.append(recogniser._network.feature(recogniser._network.alignCrop(bgr, face)))
    theirs = recogniser._network.match(*features, cv2.FaceRecognizerSF_FR_COSINE)
    assert recogniser.likeness(*crops) == pytest.approx(theirs, abs=1e-6)


def test_a_face_found_in_one_crop_alone_is_looked_for_in_the_same_place(recogniser) -> None:
    before = crop(0)
    unseen = FaceCrop(REGION, Image(np.minimum(before.image.pixels, 120)), BOX)
    assert recogniser.likeness(unseen, unseen) is None
    one, other = recogniser.likeness(before, unseen), recogniser.likeness(unseen, before)
    assert one == pytest.approx(other)
    assert 0 < one < 1


def test_a_neighbours_face_is_not_taken_for_it(recogniser) -> None:
    beside = crop(0, white_at=(16, 16))
    assert recogniser.likeness(beside, beside) is None


def test_both_are_aligned_where_the_face_was(recogniser) -> None:
    """A repaint that moves it makes a difference."""
    before = crop(0)
    moved = FaceCrop(REGION, Image(np.roll(before.image.pixels, 16, axis=(0, 1))), BOX)
    assert recogniser.likeness(before, moved) < 0.995


@pytest.mark.parametrize("broken", ["sface.onnx", "yunet.onnx"])
def test_a_file_that_is_no_such_network_is_named(tmp_path, broken) -> None:
    sface, yunet = write_sface(tmp_path / "sface.onnx"), write_yunet(tmp_path / "yunet.onnx")
    (tmp_path / broken).write_bytes(b"no network")
    with pytest.raises(WeightsError, match=rf"cannot be read: {broken}$"):
        load_sface(sface, yunet)
    swapped = tmp_path / broken
    (write_yunet if broken == "sface.onnx" else write_sface)(swapped)
    with pytest.raises(WeightsError, match=rf"cannot be read: {broken}$"):
        load_sface(sface, yunet)
