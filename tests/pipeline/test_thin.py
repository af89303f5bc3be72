"""What lies over a soft face, text or lines, neither makes it healthy nor is it lost."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from example_calls import FACE, SOUND

from evaluation.damages import damaged
from pipeline.detailer import FaceDetailer
from pipeline.health import is_badly_damaged, sharpness, strength_share
from pipeline.request import DetailRequest, Recipe
from pipeline.thin import lifted_off
from pipeline.types import FaceBox, Image

Pixels = np.ndarray
Draw = Callable[[Pixels], object]

# The example's face at twice its size, with what is around it.
CORNER = 130, 20
WHOLE = cv2.resize(SOUND.pixels[20:220, 130:330], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
LARGE = FaceBox(
    *(2 * (at - CORNER[axis % 2]) for axis, at in enumerate((FACE.x0, FACE.y0, FACE.x1, FACE.y1))),
    FACE.score,
)

# Of the example's face, before anything was lifted off.
SHARP = 0.0558


def soft(shrunk: int = 8) -> Pixels:
    small = cv2.resize(WHOLE, None, fx=1 / shrunk, fy=1 / shrunk, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, WHOLE.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def line(pixels: Pixels) -> None:
    cv2.line(pixels, (130, 80), (260, 330), (240, 240, 235), 2, cv2.LINE_AA)


def word(pixels: Pixels) -> None:
    cv2.putText(pixels, "SAMPLE", (120, 210), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,) * 3, 2)


@pytest.mark.parametrize("draw", [line, word])
def test_a_soft_face_stays_bad_under_it(draw: Draw) -> None:
    pixels = soft()
    draw(pixels)
    assert is_badly_damaged(Image(pixels), LARGE)
    assert strength_share(Image(pixels), LARGE) == 1


def test_a_face_that_is_well_is_as_sharp_as_it_was() -> None:
    assert sharpness(SOUND, FACE) == pytest.approx(SHARP, abs=0.002)


def test_it_is_lifted_off_and_what_is_below_is_like_what_is_beside() -> None:
    bare = soft()
    under = bare.copy()
    line(under)
    assert np.abs(under.astype(int) - bare).max() > 100
    lifted = lifted_off(under, 9, 28.0)
    drawn = (under != bare).any(axis=2)
    assert np.abs(lifted.astype(int) - bare)[drawn].mean() < 10
    away = cv2.dilate(drawn.astype(np.uint8), np.ones((7, 7))) == 0
    assert (lifted[away] == bare[away]).all()


def test_what_is_short_is_left() -> None:
    bare = soft()
    under = bare.copy()
    # A mark of the size of the light in an eye.
    cv2.circle(under, (150, 160), 2, (250,) * 3, -1, cv2.LINE_AA)
    assert (lifted_off(under, 9, 28.0) != under).any()
    assert (lifted_off(under, 9, 28.0, 32) == under).all()
    line(under)
    assert (lifted_off(under, 9, 28.0, 32) != under).any()


def test_of_a_slightly_damaged_face_nothing_is() -> None:
    """The corners of its mouth are thin and stand out, and so is the light in its eyes."""
    crop = damaged(SOUND, "astronaut.png", "light", seed=0).pixels[30:218, 135:317]
    crop = cv2.resize(crop, (256, 256), interpolation=cv2.INTER_CUBIC)
    face = np.s_[50:210, 55:200]
    assert (lifted_off(crop, 9, 28.0)[face] != crop[face]).any()
    assert (lifted_off(crop, 9, 28.0, 32)[face] == crop[face]).all()


def test_noise_is_not() -> None:
    noise = np.random.default_rng(0).normal(0, 20, WHOLE.shape[:2])
    noisy = (soft() + noise[..., None]).clip(0, 255).astype(np.uint8)
    changed = (lifted_off(noisy, 9, 28.0) != noisy).any(axis=2)
    assert changed.mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("draw", [line, word])
def test_the_face_below_it_is_restored_all_the_same(detailer: FaceDetailer, draw: Draw) -> None:
    bare = soft()
    under = bare.copy()
    draw(under)
    drawn = (under != bare).any(axis=2)
    inside = np.zeros(drawn.shape, bool)
    inside[int(LARGE.y0) : int(LARGE.y1), int(LARGE.x0) : int(LARGE.x1)] = True
    away = inside & (cv2.dilate(drawn.astype(np.uint8), np.ones((9, 9))) == 0)

    def change(pixels: Pixels) -> Pixels:
        request = DetailRequest(Image(pixels), Recipe("detailed face", 0.4))
        return detailer.detail_faces(request, [LARGE]).images[0].pixels - pixels.astype(int)

    changed = change(under)
    alone = np.abs(change(bare)[away]).mean()
    assert np.abs(changed[away]).mean() > 0.7 * alone > 1
    # It is still there: nobody asked to take it away.
    ink = cv2.erode(drawn.astype(np.uint8), np.ones((2, 2))) > 0
    assert np.abs(changed[ink]).mean() < 25
