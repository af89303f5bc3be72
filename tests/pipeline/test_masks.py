"""What is repainted and how much of it stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.masks import clean, ellipse, feather_inside, grow, spare
from pipeline.types import FaceBox, HardMask

BOX = FaceBox(16, 12, 48, 52, 0.9)


def blank(side: int = 64) -> np.ndarray:
    return np.zeros((side, side), bool)


def disc(radius: float, side: int = 64, centre: float = 32) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5
    return np.hypot(x - centre, y - centre) <= radius


def test_the_ellipse_fills_the_box_and_reaches_the_forehead():
    rows, columns = np.nonzero(ellipse(BOX, 64).pixels)
    assert (columns.min(), columns.max() + 1) == (16, 48)
    assert rows.max() + 1 == 52
    assert rows.min() == 8  # a tenth of 40 px above 12
    assert ellipse(BOX, 64).pixels.sum() == pytest.approx(np.pi / 4 * 32 * 44, rel=0.02)


def test_a_mask_spares_the_boxes_of_others_up_to_half_of_what_overlaps():
    whole = HardMask(np.ones((64, 64), bool))
    beside = FaceBox(48, 12, 80, 52, 0.9)
    kept = spare(whole, BOX, [beside]).pixels
    assert not kept[12:52, 48:].any()
    assert kept[:, :48].all()
    assert kept[:12].all()
    overlapping = FaceBox(40, 12, 72, 52, 0.9)
    kept = spare(whole, BOX, [overlapping]).pixels
    assert kept[28:36, :44].all(), "nearer to its own middle"
    assert not kept[28:36, 44:].any()
    larger = FaceBox(0, 0, 64, 64, 0.9)
    kept = spare(whole, FaceBox(36, 36, 60, 60, 0.9), [larger]).pixels
    assert kept[44:52, 44:52].all(), "a face in front of a larger one is not taken away"


@settings(deadline=None)
@given(
    x=st.floats(-10, 70),
    y=st.floats(-10, 70),
    width=st.floats(0.01, 90),
    height=st.floats(0.01, 90),
)
def test_the_ellipse_is_never_empty_nor_too_wide(x, y, width, height):
    mask = ellipse(FaceBox(x, y, x + width, y + height, 0.5), 64).pixels
    assert mask.shape == (64, 64)
    assert mask.any()
    assert mask.sum() <= max(1, (width + 2) * (height * 1.1 + 2))


def test_clean_keeps_the_face_alone_and_fills_its_holes():
    face = disc(18)
    damaged = face.copy()
    damaged[24:28, 22:42] = False  # glasses
    damaged[2:5, 2:5] = True  # a speck
    damaged[58:62, :] = True  # a collar, apart from the face
    assert np.array_equal(clean(HardMask(damaged), BOX).pixels, face)


def test_a_bay_at_the_edge_is_no_hole():
    face = disc(18)
    face[30:34, 40:64] = False
    assert np.array_equal(clean(HardMask(face), BOX).pixels, face)


def test_a_hole_closed_only_by_diagonals_is_filled():
    y, x = np.mgrid[:64, :64]
    outline = np.abs(x - 32) + np.abs(y - 32) == 20  # pixels that touch at their corners alone
    face = outline | (np.abs(x - 32) + np.abs(y - 32) <= 17)
    whole = np.abs(x - 32) + np.abs(y - 32) <= 20
    joined = face | (whole & (y == 32))
    assert np.array_equal(clean(HardMask(joined), BOX).pixels, whole)


@pytest.mark.parametrize(
    "mask",
    [blank(), disc(5), ~blank(), disc(8, centre=8)],
    ids=["nothing", "an eye", "everything", "beside the box"],
)
def test_an_implausible_mask_is_refused(mask):
    assert clean(HardMask(mask), BOX) is None


@settings(deadline=None)
@given(mask=st.lists(st.booleans(), min_size=144, max_size=144))
def test_what_clean_returns_is_one_piece_without_holes(mask):
    box = FaceBox(2, 2, 10, 10, 0.5)
    pixels = np.array(mask).reshape(12, 12)
    result = clean(HardMask(pixels), box)
    if result is not None:
        again = clean(result, box)
        assert again is not None
        assert np.array_equal(again.pixels, result.pixels)
        assert 0.25 * 64 <= result.pixels.sum() <= 2 * 64


def test_grow_widens_by_the_distance_asked_for():
    point = blank()
    point[32, 32] = True
    y, x = np.mgrid[:64, :64]
    assert np.array_equal(grow(HardMask(point), 5).pixels, np.hypot(x - 32, y - 32) <= 5)
    assert np.array_equal(grow(HardMask(point), 0).pixels, point)
    assert not grow(HardMask(blank()), 5).pixels.any()
    assert grow(HardMask(~blank()), 5).pixels.all()


def test_the_feather_lies_inside_and_rises_to_1():
    hard = disc(20)
    soft = feather_inside(HardMask(hard), 8).pixels
    assert np.array_equal(soft > 0, hard)
    row = soft[32, 32:52]
    assert np.all(np.diff(row) <= 0)
    assert np.all(row[:11] == 1)
    assert row[16] == pytest.approx(0.5, abs=0.15)  # half way up the ramp, 4 px deep
    assert row[19] < 0.05


def test_the_crops_border_counts_as_an_edge():
    soft = feather_inside(HardMask(~blank()), 8).pixels
    assert soft[0].max() < 0.05
    assert soft[32, 32] == 1


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_a_thin_mask_still_reaches_1(width):
    strip = blank()
    strip[:, 30 : 30 + width] = True
    soft = feather_inside(HardMask(strip), 12).pixels
    assert soft.max() == 1
    assert np.array_equal(soft > 0, strip)


def test_no_feather_is_the_hard_mask():
    hard = disc(20)
    assert np.array_equal(feather_inside(HardMask(hard), 0).pixels, hard.astype(np.float32))
    assert not feather_inside(HardMask(blank()), 5).pixels.any()
