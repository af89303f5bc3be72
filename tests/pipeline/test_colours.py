"""A repainted face has the picture's colours: what the model's encoding moved is moved back."""

import cv2
import numpy as np
import pytest
from example_calls import FACE, SOUND, disc_mask

from pipeline.colours import keep_grey, keep_tone, match_colour
from pipeline.compositing import cut
from pipeline.request import DetailRequest
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


# --- black and white ---


def spread(pixels: np.ndarray) -> int:
    """By how many levels the channels of a pixel differ, at most."""
    return int(np.ptp(pixels.astype(int), axis=2).max())


# Enlarging may tint by a few levels, which nobody sees.
@pytest.mark.parametrize(("upscale", "most"), [(1, 1), (2, 4)])
def test_a_black_and_white_photograph_stays_one(detailer, upscale, most):
    grey = cv2.cvtColor(SOUND.pixels[:256, 96:352], cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
    picture = Image(np.repeat(soft[..., None], 3, axis=2))
    asked = DetailRequest(picture, prompt="blue eyes, red lips", denoise=0.4, upscale=upscale)
    result = detailer(asked)
    assert len(result.faces) == 1
    if upscale == 1:
        assert np.abs(result.images[0].pixels.astype(int) - picture.pixels).max() > 8
    assert spread(result.images[0].pixels) <= most


def test_grey_keeps_what_a_codec_made_of_it_and_takes_the_lightness_of_the_paint():
    rng = np.random.default_rng(2)
    codec = rng.integers(-1, 2, (64, 64, 3))
    original = Image((rng.integers(20, 200, (64, 64, 1)) + codec).astype(np.uint8))
    assert np.array_equal(keep_grey(original, original).pixels, original.pixels)
    warmer = original.pixels + np.array((40, 10, -20))
    painted = Image(warmer.clip(0, 255).astype(np.uint8))
    change = keep_grey(painted, original).pixels.astype(int) - original.pixels
    assert spread(change) == 0
    lightness = cv2.COLOR_RGB2GRAY
    wanted = cv2.cvtColor(painted.pixels, lightness).astype(int)
    wanted -= cv2.cvtColor(original.pixels, lightness)
    assert np.array_equal(change[..., 0], wanted)


def test_a_picture_with_any_colour_takes_the_paint_as_it_is():
    original = np.full((64, 64, 3), 90, np.uint8)
    original[30, 30] = 90, 90, 100
    painted = Image(np.full((64, 64, 3), (120, 80, 60), np.uint8))
    assert keep_grey(painted, Image(original)) is painted
