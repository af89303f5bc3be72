"""Where crops lie: every way there has its way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import PassConfig
from pipeline.geometry import (
    box_to_crop,
    box_to_image,
    covered_rows_cols,
    crop_matrix,
    grown,
    invert,
    plan_crop,
    regions_overlap,
    rounds,
)
from pipeline.types import CropRegion, FaceBox

CONFIG = PassConfig(crop_factor=2.0, work_px=(192, 256), grow=0.1, feather=0.1, strength=1.0)


@st.composite
def boxes(draw, limit=2000.0):
    x0, y0 = (draw(st.floats(-100, limit)) for _ in "xy")
    width, height = (draw(st.floats(4, limit)) for _ in "wh")
    return FaceBox(x0, y0, x0 + width, y0 + height, 0.5)


regions = st.builds(
    CropRegion,
    centre_xy=st.tuples(st.floats(-50, 3000), st.floats(-50, 3000)),
    side_px=st.floats(8, 5000),
    work_px=st.sampled_from([64, 192, 256, 1024]),
    quarter_turns=st.integers(0, 3),
)


def at(matrix, x, y):
    return (matrix @ (x, y, 1)).tolist()


def test_a_face_gets_a_square_twice_its_longer_side_centred_on_it():
    region = plan_crop(FaceBox(10, 20, 50, 80, 0.9), CONFIG)
    assert region == CropRegion((30, 50), 120, 192, 0)


@pytest.mark.parametrize(
    ("face_px", "work_px"), [(4, 192), (96, 192), (96.1, 256), (128, 256), (129, 256), (4000, 256)]
)
def test_the_work_size_does_not_shrink_the_crop_until_the_cap(face_px, work_px):
    assert plan_crop(FaceBox(0, 0, face_px / 2, face_px, 0.9), CONFIG).work_px == work_px


def test_a_face_in_the_corner_stays_in_the_middle_of_its_crop():
    region = plan_crop(FaceBox(0, 0, 40, 40, 0.9), CONFIG)
    assert region.centre_xy == (20, 20)
    assert box_to_crop(FaceBox(0, 0, 40, 40, 0.9), region).centre_xy == (96, 96)


def test_the_matrix_maps_corners_to_corners():
    region = CropRegion((30, 50), 20, 40)
    matrix = crop_matrix(region)
    assert at(matrix, 20, 40) == [0, 0]
    assert at(matrix, 40, 60) == [40, 40]
    assert at(matrix, 20.5, 40.5) == [1, 1]  # the first pixel's centre, between its 2 × 2 samples


@pytest.mark.parametrize(
    ("turns", "right_becomes"), [(0, (1, 0)), (1, (0, -1)), (2, (-1, 0)), (3, (0, 1))]
)
def test_turns_are_counter_clockwise(turns, right_becomes):
    linear = crop_matrix(CropRegion((5, 5), 8, 8, turns))[:, :2]
    assert tuple(linear @ (1, 0)) == right_becomes


@settings(deadline=None)
@given(region=regions, x=st.floats(-100, 4000), y=st.floats(-100, 4000))
def test_invert_leads_back(region, x, y):
    matrix = crop_matrix(region)
    there = at(matrix, x, y)
    assert at(invert(matrix), *there) == pytest.approx([x, y], abs=1e-6)


@settings(deadline=None)
@given(box=boxes(), region=regions)
def test_boxes_go_there_and_back(box, region):
    there = box_to_crop(box, region)
    back = box_to_image(there, region)
    assert (back.x0, back.y0, back.x1, back.y1) == pytest.approx(
        (box.x0, box.y0, box.x1, box.y1), abs=1e-6
    )
    sides = sorted([there.width_px, there.height_px])
    assert sides == pytest.approx(
        sorted([box.width_px * region.scale, box.height_px * region.scale])
    )


@settings(deadline=None)
@given(region=regions, height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_covered_pixels_are_those_that_the_square_touches(region, height, width):
    spans = covered_rows_cols(region, height, width)
    for span, size, centre in zip(spans, (height, width), region.centre_xy[::-1], strict=True):
        assert 0 <= span.start <= span.stop <= size
        pixels = np.arange(size)
        low, high = centre - region.side_px / 2, centre + region.side_px / 2
        touched = pixels[(pixels + 1 > low) & (pixels < high)]
        assert np.array_equal(pixels[span], touched)


def test_boxes_that_only_touch_do_not_overlap():
    left, right = FaceBox(0, 0, 10, 10, 1), FaceBox(10, 0, 20, 10, 1)
    below = FaceBox(0, 10, 10, 20, 1)
    assert not any(regions_overlap(a, b) for a, b in ((left, right), (right, left)))
    assert not any(regions_overlap(a, b) for a, b in ((left, below), (below, left)))
    assert regions_overlap(grown(left, 0.01), right)


def test_overlapping_faces_go_in_successive_rounds():
    a, b, c = (FaceBox(x, 0, x + 10, 10, 1) for x in (0, 8, 16))
    far = FaceBox(100, 0, 110, 10, 1)
    assert rounds([a, b, c, far], grow=0.0) == [[0, 3], [1], [2]]
    assert rounds([a, c, b, far], grow=0.0) == [[0, 1, 3], [2]]
    assert rounds([a, c], grow=0.31) == [[0], [1]]
    assert rounds([], grow=0.1) == []


@settings(deadline=None)
@given(faces=st.lists(boxes(limit=300.0), max_size=12), grow=st.floats(0, 0.5))
def test_rounds_keep_every_face_apart_and_in_order(faces, grow):
    order = rounds(faces, grow)
    assert sorted(index for turn in order for index in turn) == list(range(len(faces)))
    turn_of = {index: turn for turn, indices in enumerate(order) for index in indices}
    for later in range(len(faces)):
        for earlier in range(later):
            if regions_overlap(grown(faces[earlier], grow), grown(faces[later], grow)):
                assert turn_of[earlier] < turn_of[later]
