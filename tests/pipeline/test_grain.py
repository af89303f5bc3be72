"""A face repainted smooth in a grainy picture gets the picture's grain back."""

import cv2
import numpy as np
import pytest
from detail_requests import asking
from example_calls import SOUND
from repainters import Repainter, rebuilt

from pipeline.types import FaceBox, Image

Pixels = np.ndarray

PORTRAIT = SOUND.pixels[:300, 60:400]
FACE = FaceBox(117, 68, 209, 178, 0.9)
GRAINS = [
    pytest.param(25, 0.0, 3, id="sensor noise"),
    pytest.param(12, 0.0, 3, id="less of it"),
    pytest.param(18, 0.0, 1, id="fine film"),
    pytest.param(15, 0.8, 1, id="coarse film"),
    pytest.param(15, 1.4, 1, id="coarser film"),
]
SCALES = [pytest.param(0.6, id="66 px"), 1.0, pytest.param(2.5, id="275 px")]


def grain(shape: tuple[int, ...], sigma: float, size_px: float, channels: int) -> Pixels:
    """(H, W, 3) levels."""
    noise = np.random.default_rng(3).normal(size=(*shape[:2], channels)).astype(np.float32)
    if size_px:
        noise = cv2.GaussianBlur(noise, (0, 0), size_px).reshape(noise.shape)
    return np.broadcast_to(noise * sigma / noise.std(), (*shape[:2], 3))


def portrait(scale: float = 1.0) -> tuple[Pixels, FaceBox]:
    """Without grain: what the scan has of its own is blurred away. (H, W, 3) float32."""
    smooth = cv2.GaussianBlur(PORTRAIT.astype(np.float32), (0, 0), 1.5)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    sides = (scale * side for side in (FACE.x0, FACE.y0, FACE.x1, FACE.y1))
    return cv2.resize(smooth, None, fx=scale, fy=scale, interpolation=how), FaceBox(*sides, 0.9)


def picture(levels: Pixels) -> Image:
    return Image(np.clip(levels + 0.5, 0, 255).astype(np.uint8))


def residual(image: Image, smooth: Pixels) -> Pixels:
    """What lies on the portrait, of luma, fine parts only."""
    apart = (image.pixels - smooth).astype(np.float32) @ np.float32((0.299, 0.587, 0.114))
    return apart - cv2.GaussianBlur(apart, (0, 0), 3)


def cheeks(values: Pixels, face: FaceBox) -> Pixels:
    """The middle of the face."""
    (x, y), half = face.centre_xy, 0.25 * face.longer_px
    return values[round(y - half) : round(y + half), round(x - half) : round(x + half)]


def neighbours(values: Pixels) -> float:
    """Correlation of pixels side by side: how coarse the grain is."""
    return float(np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1])


def repainted(smoothing, levels: Pixels, face: FaceBox, **changes) -> Image:
    asked = asking(picture(levels), denoise=0.4, **changes)
    return smoothing.detail_faces(asked, [face]).images[0]


@pytest.fixture
def smoothing(detailer):
    """A detailer whose model takes all grain away, and whatever else is fine: what it gives of a
    picture without grain is what the grain lies on.
    """

    def paint(levels: Pixels) -> Pixels:
        return cv2.GaussianBlur(cv2.medianBlur(levels.astype(np.float32), 5), (0, 0), 4)

    return rebuilt(detailer, Repainter(paint))


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("sigma", "size_px", "channels"), GRAINS)
def test_the_face_is_as_grainy_as_the_picture(smoothing, scale, sigma, size_px, channels):
    smooth, face = portrait(scale)
    grainy = smooth + grain(smooth.shape, sigma, size_px, channels)
    plain, result = (repainted(smoothing, levels, face) for levels in (smooth, grainy))
    before = cheeks(residual(picture(grainy), smooth), face)
    after = cheeks(residual(result, plain.pixels.astype(float)), face)
    assert 0.8 < after.std() / before.std() < 1.25
    assert abs(neighbours(after) - neighbours(before)) < 0.2


@pytest.mark.parametrize("scale", SCALES)
def test_without_it_faces_of_all_sizes_are_smooth(smoothing, scale):
    smooth, face = portrait(scale)
    grainy = smooth + grain(smooth.shape, 20, 0, 3)
    plain = repainted(smoothing, smooth, face)
    result = repainted(smoothing, grainy, face, keep_grain=False)
    before = cheeks(residual(picture(grainy), smooth), face)
    after = cheeks(residual(result, plain.pixels.astype(float)), face)
    assert after.std() < 0.5 * before.std()


@pytest.mark.slow
def test_grain_is_the_seeds_and_can_be_turned_off(smoothing):
    smooth, face = portrait()
    grainy = picture(smooth + grain(smooth.shape, 20, 0, 3))

    def run(**changes) -> Image:
        return smoothing.detail_faces(asking(grainy, denoise=0.4, **changes), [face]).images[0]

    first, again, other, off = run(), run(), run(seed=1), run(keep_grain=False)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)
    assert not np.array_equal(first.pixels, off.pixels)
    reach = round(0.4 * face.longer_px)
    beside = np.ones(smooth.shape[:2], bool)
    beside[round(face.y0) - reach : round(face.y1) + reach] = False
    for image in (first, other, off):
        assert np.array_equal(image.pixels[beside], grainy.pixels[beside])


@pytest.mark.slow
def test_grain_that_is_nearly_all_left_gets_none_added(detailer):
    """A face hardly changed keeps the pixels it has."""
    smooth, face = portrait()
    grainy = smooth + grain(smooth.shape, 15, 0, 3)
    softer = rebuilt(
        detailer, Repainter(lambda levels: levels - 0.06 * (levels - cv2.blur(levels, (9, 9))))
    )
    first, second = (repainted(softer, grainy, face, seed=seed) for seed in (1, 2))
    assert not np.array_equal(first.pixels, picture(grainy).pixels)
    assert np.array_equal(first.pixels, second.pixels)


def test_a_black_and_white_films_grain_is_grey(smoothing):
    smooth, face = portrait()
    grey = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    result = repainted(smoothing, grey + grain(grey.shape, 20, 0.6, 1), face)
    plain = repainted(smoothing, grey, face).pixels.astype(float)
    assert np.ptp(result.pixels.astype(int), axis=2).max() <= 1
    assert cheeks(residual(result, plain), face).std() > 8


def test_dark_parts_with_less_grain_get_less(smoothing):
    """As a sensor's noise does, it grows with the light."""
    smooth, face = portrait()
    side = np.linspace(0.25, 1.1, smooth.shape[1], dtype=np.float32)[:, None]
    light = cv2.GaussianBlur(smooth, (0, 0), 6) * side
    noise = grain(light.shape, 1, 0, 1) * light.mean(axis=2, keepdims=True) / 8
    result = repainted(smoothing, light + noise, face)
    plain = repainted(smoothing, light, face).pixels.astype(float)
    middle = round(face.centre_xy[0]) - round(face.centre_xy[0] - 0.25 * face.longer_px)
    before = cheeks(residual(picture(light + noise), light), face)
    after = cheeks(residual(result, plain), face)
    for half in (np.s_[:, :middle], np.s_[:, middle:]):
        assert 0.7 < after[half].std() / before[half].std() < 1.35


@pytest.mark.parametrize("sigma", [pytest.param(0.0, marks=pytest.mark.slow), 1.5])
def test_a_picture_without_visible_grain_gets_next_to_none(smoothing, sigma):
    smooth, face = portrait()
    image = picture(smooth + grain(smooth.shape, sigma, 0, 3))
    kept, off = (
        smoothing.detail_faces(asking(image, denoise=0.4, keep_grain=keep), [face]).images[0]
        for keep in (True, False)
    )
    assert np.abs(kept.pixels.astype(int) - off.pixels).mean() < 0.2


def test_a_smooth_face_before_a_rough_wall_stays_smooth(smoothing):
    smooth, face = portrait()
    wall = grain(smooth.shape, 25, 0, 3).copy()
    y, x = np.mgrid[: smooth.shape[0], : smooth.shape[1]]
    cx, cy = face.centre_xy
    wall[np.hypot((x - cx) / 75, (y - cy) / 95) < 1] = 0
    result = repainted(smoothing, smooth + wall, face)
    plain = repainted(smoothing, smooth, face).pixels.astype(float)
    assert cheeks(residual(result, plain), face).std() < 4
