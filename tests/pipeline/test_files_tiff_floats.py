"""Which value is white in a TIFF file of floats."""

import numpy as np
import pytest
from picture_files import photograph
from tiff_files import assert_shows, tiff

RGB = photograph()
GREY = RGB[:, :, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize("factor", [1, 1.0001, 1.02, 1.5])
def test_floats_slightly_beyond_white_are_white(dtype, white, factor):
    """Sharpening and sums of rounded shares leave such values."""
    levels = np.clip(RGB.astype(float) + np.linspace(0, 120, 64)[:, None], 0, 255)
    stored = (levels * factor * white / 255).astype(dtype)
    expected = np.clip(levels * factor, 0, 255)
    assert_shows(tiff(stored, photometric="rgb"), expected.astype(int))


@pytest.mark.parametrize(("white", "glint"), [(1, 16), (255, 1000), (65535, 262_000)])
def test_a_glint_far_beyond_white_darkens_nothing(white, glint):
    stored = (GREY * (white / 255)).astype(np.float32)
    stored[0, :5] = [white, glint, np.inf, -np.inf, np.nan]
    expected = GREY.copy()
    expected[0, :5] = [255, 255, 255, 0, 0]
    assert_shows(tiff(stored, photometric="minisblack"), expected)


def test_floats_without_any_number_are_black():
    stored = np.full((8, 8), np.nan, np.float32)
    assert_shows(tiff(stored, photometric="minisblack"), np.zeros((8, 8), np.uint8))


def test_a_small_face_on_black_has_its_own_white():
    """Its values beyond 1 are few, but no glint."""
    stored = np.zeros((200, 200), np.float32)
    stored[:10, :10] = 200
    expected = stored.astype(np.uint8)
    assert_shows(tiff(stored, photometric="minisblack"), expected)
