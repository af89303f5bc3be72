"""A repainted face has the picture's colours: what the model's encoding moved is moved back."""

import cv2
import numpy as np
import pytest
from detail_requests import asking
from example_calls import FACE, SOUND, disc_mask

from pipeline.colours import keep_tone, match_colour
from pipeline.compositing import cut
from pipeline.types import CropRegion, FaceCrop, Image, SoftMask


def astronaut_crop() -> FaceCrop:
    return cut(SOUND, FACE, CropRegion((223.3, 113.9), 200, 256))


def test_a_crop_without_colour_shift_keeps_its_bytes():
    crop = astronaut_crop()
    mask = disc_mask()
    repainted = np.where(mask.pixels[:, :, None] > 0, 255 - crop.image.pixels, crop.image.pixels)
    matched = match_colour(Image(repainted), crop.image, mask)
    assert np.array_equal(matched.pixels, repainted)


def test_the_colour_shift_is_measured_outside_and_taken_away_inside():
    """The model paints something new inside; its encoding moves all colours and blurs."""
    crop, mask = astronaut_crop(), disc_mask()
    new = np.where(mask.pixels[:, :, None] > 0, crop.image.pixels[:, ::-1], crop.image.pixels)
    noise = np.random.default_rng(0).normal(0, 2, new.shape)
    shifted = cv2.GaussianBlur(new, (0, 0), 1).astype(np.float64) * 0.97 + (8, -3, 5) + noise
    painted = Image(np.clip(shifted + 0.5, 0, 255).astype(np.uint8))
    matched = match_colour(painted, crop.image, mask)
    core = mask.pixels == 1
    before = (painted.pixels[core].astype(float) - new[core]).mean(axis=0)
    after = (matched.pixels[core].astype(float) - new[core]).mean(axis=0)
    assert np.abs(before).max() > 3
    assert np.abs(after).max() < 2


def test_what_the_model_did_to_a_part_of_the_ring_does_not_count():
    crop, mask = astronaut_crop(), disc_mask()
    painted = crop.image.pixels.copy()
    painted[:70] = 255
    matched = match_colour(Image(painted), crop.image, mask)
    assert np.abs(matched.pixels[70:].astype(int) - painted[70:]).max() <= 1


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_without_a_ring_colours_stay(level):
    crop = astronaut_crop()
    painted = Image(255 - crop.image.pixels)
    mask = SoftMask(np.full((256, 256), level, np.float32))
    assert match_colour(painted, crop.image, mask) is painted


def test_keep_tone_takes_coarse_colours_from_the_picture_and_fine_detail_from_the_model():
    rng = np.random.default_rng(0)
    original = Image(np.full((96, 96, 3), (150, 120, 100), np.uint8))
    detail = rng.integers(-8, 9, (96, 96, 1))
    painted = Image((np.array((120, 130, 115)) + detail).astype(np.uint8))
    kept = keep_tone(painted, original, 16.0).pixels.astype(float)
    assert np.abs(kept.mean(axis=(0, 1)) - (150, 120, 100)).max() < 1
    assert np.corrcoef((kept - kept.mean((0, 1))).mean(2).ravel(), detail.ravel())[0, 1] > 0.95


def test_keep_tone_changes_nothing_where_nothing_differs():
    picture = Image(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert np.array_equal(keep_tone(picture, picture, 8.0).pixels, picture.pixels)


@pytest.mark.parametrize(
    ("picture", "painted"),
    [((190, 140, 115), (60, 100, 110)), ((190, 140, 115), (80, 110, 190))],
    ids=["turquoise on skin", "blue on skin"],
)
def test_keep_tone_lets_no_small_part_take_the_opposite_hue(picture, painted):
    original = np.full((96, 96, 3), picture, np.uint8)
    paint = original.copy()
    paint[40:52, 40:52] = painted
    kept = keep_tone(Image(paint), Image(original), 18.0).pixels[40:52, 40:52].astype(int)
    assert (kept[..., 0] - kept[..., 2]).min() >= -4, "neutral, or of the skin's hue"
    assert kept.mean() < paint[0, 0].mean() - 15, "as dark as it was painted"


def test_keep_tone_leaves_what_is_blue_in_the_picture_blue():
    original = np.full((96, 96, 3), (190, 140, 115), np.uint8)
    original[40:52, 40:52] = 90, 120, 170
    paint = cv2.GaussianBlur(original, (0, 0), 0.8)
    kept = keep_tone(Image(paint), Image(original), 18.0).pixels[43:49, 43:49].astype(int)
    assert np.abs(kept - (90, 120, 170)).max() < 8


@pytest.mark.parametrize("shrink", [pytest.param(12, marks=pytest.mark.slow), 16])
def test_soft_brown_eyes_do_not_turn_turquoise(detailer, shrink):
    portrait = cv2.resize(SOUND.pixels[:260, 100:360], (512, 512), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(portrait, (512 // shrink,) * 2, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
    (result,) = detailer(asking(Image(soft), "detailed face", 0.4)).images
    eyes = result.pixels[185:245, 160:332]
    assert np.abs(eyes.astype(int) - soft[185:245, 160:332]).max() > 20
    lab = cv2.cvtColor(eyes.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    assert np.count_nonzero(lab[..., 1] < -2) <= 8
    assert np.count_nonzero(lab[..., 2] < -4) <= 8
