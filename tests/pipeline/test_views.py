"""What the detector gets to see, and the way back to the picture."""

import numpy as np
import pytest

from pipeline.geometry import turned
from pipeline.types import FaceBox, Image
from pipeline.views import View, coarse, tiles, wholes


def blank(width: int, height: int) -> Image:
    return Image(np.zeros((height, width, 3), np.uint8))


def marked(width: int, height: int, box: FaceBox) -> Image:
    """Black, the box white."""
    image = blank(width, height)
    image.pixels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 255
    return image


def white_box(view: View) -> FaceBox:
    rows, columns = np.nonzero(view.picture.pixels[..., 0] > 127)
    return FaceBox(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 1.0)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize(("width", "height"), [(300, 200), (900, 1700), (2600, 1300)])
def test_what_is_seen_is_where_it_is_in_the_picture(width: int, height: int, turns: int) -> None:
    box = FaceBox(120, 60, 220, 180, 1.0)
    picture = marked(width, height, box)
    seen = []
    for view in [*wholes(picture, 640), coarse(picture, 640), *tiles(picture, 640)]:
        turned_view = view.turned(turns)
        if turned_view.picture.pixels.any():
            back = turned_view.to_image(white_box(turned_view))
            # A pixel of the view is up to 8.1 px of the picture, of the coarse one up to 16.3.
            seen.append((back, max(8.2, 1 / min(view.scale_xy))))
    assert len(seen) >= 2
    for back, within_px in seen:
        assert back is not None
        assert back.quarter_turns == turns
        for name in ("x0", "y0", "x1", "y1"):
            assert getattr(back, name) == pytest.approx(getattr(box, name), abs=within_px)


@pytest.mark.parametrize(
    ("width", "height", "sizes"),
    [
        (640, 480, [(320, 240), (640, 480), (160, 120)]),
        (4000, 3000, [(320, 240), (640, 480), (160, 120)]),
        (200, 100, [(320, 160), (400, 200), (160, 80)]),
        (100, 160, [(200, 320), (100, 160)]),
        (1, 1, [(2, 2), (2, 2)]),
        (8000, 3, [(320, 1), (640, 1), (160, 1)]),
    ],
)
def test_the_whole_picture_fits_the_detector(
    width: int, height: int, sizes: list[tuple[int, int]]
) -> None:
    picture = blank(width, height)
    views = [*wholes(picture, 640), coarse(picture, 640)]
    found = [(view.picture.width_px, view.picture.height_px) for view in views]
    assert found == sizes


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [(1599, 1599, 0), (1600, 1600, 4), (1600, 900, 2), (4000, 3000, 12), (8192, 500, 8)],
)
def test_tiles_cover_large_pictures_and_overlap(width: int, height: int, count: int) -> None:
    views = list(tiles(blank(width, height), 640))
    assert len(views) == count
    assert all(max(v.picture.pixels.shape) <= 640 for v in views)
    covered = np.zeros((height, width), bool)
    for view in views:
        x, y = view.origin_xy
        covered[
            y : y + round(view.picture.height_px / view.scale_xy[1]),
            x : x + round(view.picture.width_px / view.scale_xy[0]),
        ] = True
    assert covered.all() == (count > 0)
    starts = sorted({view.origin_xy[0] for view in views})
    assert all(np.diff(starts) <= 1280 * 0.8 + 1)


def test_a_face_that_a_tile_cuts_is_left_to_the_others() -> None:
    left, right = list(tiles(blank(2000, 1000), 640))
    assert (left.cut_xyxy, right.cut_xyxy) == (
        (False, False, True, False),
        (True, False, False, False),
    )
    # 640 px wide; the left tile begins with the picture, the right one at 720.
    for view, box, whole in [
        (left, FaceBox(600, 100, 637, 150, 1.0), False),
        (left, FaceBox(590, 100, 630, 150, 1.0), True),
        (left, FaceBox(0, 0, 40, 50, 1.0), True),
        (right, FaceBox(3, 100, 40, 150, 1.0), False),
        (right, FaceBox(600, 450, 640, 500, 1.0), True),
    ]:
        for turns in range(4):
            seen = turned(box, 640, 500, turns)
            assert (view.turned(turns).to_image(seen) is not None) == whole


@pytest.mark.parametrize("turns", range(-4, 5))
def test_a_box_turns_as_its_picture_does(turns: int) -> None:
    box = FaceBox(2, 3, 5, 9, 0.5, quarter_turns=1)
    picture = marked(20, 12, box)
    after = np.rot90(picture.pixels, turns)
    found = turned(box, 20, 12, turns)
    rows, columns = np.nonzero(after[..., 0])
    assert (found.x0, found.y0) == (columns.min(), rows.min())
    assert (found.x1, found.y1) == (columns.max() + 1, rows.max() + 1)
    assert found.quarter_turns == (1 - turns) % 4
