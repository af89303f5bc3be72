"""A face cut out and laid back: nothing else changes, nothing shifts, no old noise stays."""

import cv2
import numpy as np
import pytest
from example_calls import FACE, SOUND, disc_mask
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compositing import cut, paste, paste_all, take_out
from pipeline.geometry import crop_matrix
from pipeline.types import CropRegion, FaceBox, Image, Repaint, Share, SoftMask

ASTRONAUT = SOUND.pixels

# A scale above 1, of 1 with the pixels' centres half a pixel apart, and below 1.
SIDES = [64.0, 100.3, 150.7, 230.0, 256.0, 300.0, 500.0]


def region_of(side_px: float, turns: int = 0, work_px: int = 256) -> CropRegion:
    return CropRegion((223.3, 113.9), side_px, work_px, turns)


def inside(region: CropRegion, share: float) -> tuple[slice, slice]:
    """The picture's pixels in the middle of the region."""
    half = region.side_px * share / 2
    x, y = region.centre_xy
    return (
        slice(max(round(y - half), 0), round(y + half)),
        slice(max(round(x - half), 0), round(x + half)),
    )


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 20 * np.log10(255 / rms(a, b))


def gradient_picture(height: int, width: int) -> Image:
    """Levels that grow with x in red and with y in green: a crop tells where it came from."""
    y, x = np.mgrid[:height, :width] + 0.5
    return Image(np.dstack([x * 2, y * 2, x * 0 + 7]).astype(np.uint8))


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("side_px", [25.0, 50.0, 90.0])
def test_a_crop_shows_what_the_matrix_says(turns, side_px):
    image = gradient_picture(100, 120)
    region = CropRegion((60.0, 50.0), side_px, 64, turns)
    crop = cut(image, FaceBox(50, 40, 70, 60, 1.0), region)
    matrix = crop_matrix(region)
    for x, y in ((51.0, 45.0), (60.0, 50.0), (68.0, 41.0)):
        column, row = matrix @ (x, y, 1)
        patch = cv2.getRectSubPix(crop.image.pixels, (1, 1), (column - 0.5, row - 0.5))
        assert patch[0, 0, :2] == pytest.approx([2 * x, 2 * y], abs=2)
    assert crop.box.centre_xy == pytest.approx((32, 32))


def test_an_unscaled_crop_is_the_pixels_themselves():
    crop = cut(Image(ASTRONAUT), FACE, CropRegion((200, 128), 256, 256))
    assert np.array_equal(crop.image.pixels, ASTRONAUT[:256, 72:328])


def test_beyond_the_picture_its_border_is_replicated():
    image = Image(ASTRONAUT)
    crop = cut(image, FaceBox(0, 0, 20, 20, 1.0), CropRegion((0, 0), 64, 64)).image.pixels
    padded = np.pad(ASTRONAUT[:32, :32], ((32, 0), (32, 0), (0, 0)), mode="edge")
    assert np.array_equal(crop, padded)


def test_shrinking_does_not_alias():
    """Stripes finer than the crop's pixels become grey, not coarser stripes."""
    x = np.arange(1000)
    stripes = np.where(x % 3 == 0, 255, 0).astype(np.uint8)
    image = Image(np.ascontiguousarray(np.broadcast_to(stripes[None, :, None], (1000, 1000, 3))))
    crop = cut(image, FaceBox(400, 400, 600, 600, 1.0), CropRegion((500, 500), 900, 256))
    assert np.abs(crop.image.pixels[20:-20, 20:-20].astype(int) - 85).max() <= 3


@pytest.mark.parametrize("side_px", SIDES)
@pytest.mark.parametrize("turns", [0, 1])
def test_an_unchanged_crop_changes_no_pixel(side_px, turns):
    image, region = Image(ASTRONAUT), region_of(side_px, turns)
    crop = cut(image, FACE, region)
    assert np.array_equal(paste(image, crop.image, crop, disc_mask()).pixels, ASTRONAUT)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    centre=st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)),
    side_px=st.floats(8, 200),
    work_px=st.sampled_from([16, 64, 128]),
    turns=st.integers(0, 3),
    radius=st.floats(0.02, 0.8),
)
def test_pixels_without_mask_keep_their_bytes(size, centre, side_px, work_px, turns, radius):
    height, width = size
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = pixels.copy()
    region = CropRegion((centre[0] * width, centre[1] * height), side_px, work_px, turns)
    x, y = region.centre_xy
    crop = cut(Image(pixels), FaceBox(x - 1, y - 1, x + 1, y + 1, 1.0), region)
    mask = disc_mask(work_px, radius)
    result = paste(Image(pixels), Image(255 - crop.image.pixels), crop, mask).pixels
    assert np.array_equal(pixels, before)
    # A pixel may change only where its own area, or the crop pixels around it, have mask.
    reach = 0 if region.scale > 1 else 1
    matrix = crop_matrix(region)
    for row, column in np.argwhere((result != pixels).any(axis=2)):
        corners = matrix @ np.array([[column, column + 1], [row, row + 1], [1, 1]])
        (x0, y0), (x1, y1) = corners.min(axis=1), corners.max(axis=1)
        rows = slice(max(int(np.floor(y0)) - reach, 0), max(int(np.ceil(y1)) + reach, 0))
        columns = slice(max(int(np.floor(x0)) - reach, 0), max(int(np.ceil(x1)) + reach, 0))
        assert mask.pixels[rows, columns].any()


@pytest.mark.parametrize("side_px", SIDES)
@pytest.mark.parametrize("turns", range(4))
def test_a_repainted_crop_arrives_where_it_was_cut(side_px, turns):
    """Another picture's crop, pasted, gives that picture: no shift, and no turn the wrong way."""
    other = np.ascontiguousarray(ASTRONAUT[::-1])
    region = region_of(side_px, turns)
    crop, painted = (cut(Image(p), FACE, region) for p in (ASTRONAUT, other))
    result = paste(Image(ASTRONAUT), painted.image, crop, disc_mask(radius=0.48)).pixels
    middle = inside(region, 0.6)
    got, expected = result[middle], other[middle]
    if region.scale < 1:  # what the crop could not hold stays the old picture's
        got, expected = (cv2.GaussianBlur(p, (0, 0), 2 / region.scale) for p in (got, expected))
    assert rms(got, expected) < 4
    window = cv2.createHanningWindow(got.shape[1::-1], cv2.CV_32F)
    grey = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (got, expected))
    shift, _ = cv2.phaseCorrelate(*grey, window)
    assert np.hypot(*shift) < 0.1


@pytest.mark.parametrize(("side_px", "least_db"), [(64, 48), (128, 48), (200, 46), (254, 40)])
def test_an_enlarged_crop_leaves_the_old_noise_behind(side_px, least_db):
    """The model made a noisy face clean: the picture gets the clean face, as sharp as ever."""
    noise = np.random.default_rng(0).normal(0, 20, ASTRONAUT.shape)
    noisy = Image(np.clip(ASTRONAUT + noise + 0.5, 0, 255).astype(np.uint8))
    region = region_of(side_px)
    clean = cut(Image(ASTRONAUT), FACE, region)
    result = paste(noisy, clean.image, cut(noisy, FACE, region), disc_mask()).pixels
    middle = inside(region, 0.4)
    assert psnr(noisy.pixels[middle], ASTRONAUT[middle]) < 25
    assert psnr(result[middle], ASTRONAUT[middle]) > least_db


@pytest.mark.parametrize(("side_px", "most"), [(64, 0.4), (128, 0.7), (200, 1.0), (255, 1.7)])
def test_the_models_own_noise_is_not_amplified_much(side_px, most):
    region = CropRegion((224.3, 110.6), side_px, 256)
    crop = cut(Image(ASTRONAUT), FACE, region)
    noise = np.random.default_rng(0).normal(0, 5, crop.image.pixels.shape)
    painted = Image(np.clip(crop.image.pixels + noise + 0.5, 0, 255).astype(np.uint8))
    middle = inside(region, 0.4)
    result = paste(Image(ASTRONAUT), painted, crop, disc_mask()).pixels
    assert rms(result[middle], ASTRONAUT[middle]) < 5 * most


def test_a_shrunken_crop_leaves_the_picture_its_fine_detail():
    """A brighter face, painted at a quarter of the picture's size, stays as sharp as it was."""
    grain = np.random.default_rng(0).normal(30, 9, (1024, 1024, 1))
    large = np.clip(cv2.resize(ASTRONAUT, None, fx=2, fy=2) * 0.7 + grain, 0, 255)
    image = Image(large.astype(np.uint8))
    region = CropRegion((446.0, 226.0), 400, 96)
    crop = cut(image, FaceBox(354, 136, 538, 316, 0.9), region)
    brighter = Image(np.clip(crop.image.pixels.astype(int) + 20, 0, 255).astype(np.uint8))
    middle = inside(region, 0.4)
    expected = np.clip(image.pixels[middle].astype(int) + 20, 0, 255)
    assert rms(paste(image, brighter, crop, disc_mask(96)).pixels[middle], expected) < 1


def test_the_mask_mixes_old_and_new():
    image = Image(np.full((64, 64, 3), 100, np.uint8))
    crop = cut(image, FaceBox(16, 16, 48, 48, 1.0), CropRegion((32, 32), 64, 64))
    half = SoftMask(np.full((64, 64), 0.5, np.float32))
    result = paste(image, Image(np.full((64, 64, 3), 201, np.uint8)), crop, half).pixels
    assert np.all(result == 151)  # 150.5, halves upwards


def test_many_faces_are_pasted_in_order():
    image = Image(np.full((64, 64, 3), 100, np.uint8))
    full = SoftMask(np.ones((64, 64), np.float32))
    repaints = []
    for x, level in ((20, 110), (44, 130)):
        crop = cut(image, FaceBox(x - 4, 28, x + 4, 36, 1.0), CropRegion((x, 32), 16, 64))
        repaints.append(Repaint(crop, Image(np.full((64, 64, 3), level, np.uint8)), full))
    result = paste_all(image, repaints).pixels
    assert np.abs(result[26:38, 14:26].astype(int) - 110).max() <= 1
    assert np.abs(result[26:38, 38:50].astype(int) - 130).max() <= 1
    assert np.all(result[:20] == 100)
    one_by_one = paste(image, repaints[0].painted, repaints[0].crop, full)
    one_by_one = paste(one_by_one, repaints[1].painted, repaints[1].crop, full)
    assert np.array_equal(result, one_by_one.pixels)


def test_of_overlapping_faces_the_later_lies_on_top():
    image = Image(np.full((64, 64, 3), 100, np.uint8))
    full = SoftMask(np.ones((16, 16), np.float32))
    repaints = []
    for x, level in ((28, 110), (36, 130)):
        crop = cut(image, FaceBox(x - 4, 28, x + 4, 36, 1.0), CropRegion((x, 32), 16, 16))
        repaints.append(Repaint(crop, Image(np.full((16, 16, 3), level, np.uint8)), full))
    row = paste_all(image, repaints).pixels[32, :, 0]
    assert row.tolist() == [100] * 20 + [110] * 8 + [130] * 16 + [100] * 20


@pytest.mark.parametrize("turns", range(4))
def test_the_mask_is_turned_with_its_crop(turns):
    image = Image(ASTRONAUT)
    region = CropRegion((200, 128), 64, 64, turns)
    crop = cut(image, FaceBox(180, 100, 220, 150, 1.0), region)
    mask = np.zeros((64, 64), np.float32)
    mask[:20, :32] = 1
    painted = Image(255 - crop.image.pixels)
    changed = (paste(image, painted, crop, SoftMask(mask)).pixels != ASTRONAUT).any(axis=2)
    assert np.array_equal(np.rot90(changed[96:160, 168:232], turns), mask > 0)


def test_what_is_taken_out_leaves_a_kept_neighbour_whole():
    before, after = (Image(np.full((40, 40, 3), level, np.uint8)) for level in (0, 200))
    gone = Share(slice(0, 25), slice(0, 40), np.ones((25, 40), np.float32))
    kept = Share(slice(20, 40), slice(0, 40), np.ones((20, 40), np.float32))
    pixels = take_out(after, before, [gone], [kept]).pixels
    assert (pixels[:20] == 0).all()
    assert (pixels[20:] == 200).all()


def test_what_is_painted_beyond_the_picture_does_not_reach_its_border():
    image = Image(np.full((64, 64, 3), 100, np.uint8))
    crop = cut(image, FaceBox(0, 20, 20, 40, 1.0), CropRegion((0, 32), 40, 64))
    painted = np.full((64, 64, 3), 140, np.uint8)
    painted[:, :32] = 255
    full = SoftMask(np.ones((64, 64), np.float32))
    result = paste(image, Image(painted), crop, full).pixels[16:48, :16]
    assert np.abs(result.astype(int) - 140).max() <= 1
