"""What comes back: each format as its quality and limits ask."""

import io

import numpy as np
import PIL.Image
import pytest
from picture_files import photograph, read
from PIL import ImageCms

from pipeline.encoding import encode
from pipeline.errors import InvalidValue
from pipeline.types import Image


def test_png_gives_the_picture_back_exactly():
    alpha = photograph()[:, :, 1].copy()
    picture = read(encode(Image(photograph()), alpha, "png", 95))
    assert np.array_equal(picture.image.pixels, photograph())
    assert np.array_equal(picture.alpha, alpha)


def test_webp_keeps_alpha():
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :20] = 0
    picture = read(encode(Image(photograph()), alpha, "webp", 95))
    assert np.array_equal(picture.alpha, alpha)


def test_jpeg_lies_on_white():
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, 32:] = 128
    picture = read(encode(Image(np.zeros((48, 64, 3), np.uint8)), alpha, "jpeg", 95))
    assert picture.alpha is None
    assert np.abs(picture.image.pixels[:, :24].astype(int) - 255).max() <= 2
    assert np.abs(picture.image.pixels[:, 40:].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("quality", [95, 100])
def test_noise_fits_in_a_jpeg(quality):
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)
    picture = read(encode(Image(noise), None, "jpeg", quality))
    assert np.abs(picture.image.pixels.astype(int) - noise).mean() < 4


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
def test_files_carry_srgb_and_their_format(image_format):
    data = encode(Image(photograph()), None, image_format, 80)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert opened.format == image_format.upper()
        assert opened.size == (64, 48)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert b"\x07\xd0\x00\x01\x00\x01" + bytes(6) in profile.tobytes()[:36]  # no clock in the bytes
    assert data == encode(Image(photograph()), None, image_format, 80)


@pytest.mark.parametrize(("quality", "sampling"), [(95, (1, 1)), (90, (1, 1)), (80, (2, 2))])
def test_jpeg_keeps_full_colour_from_90_on(quality, sampling):
    data = encode(Image(photograph()), None, "jpeg", quality)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert opened.layer[0][1:3] == sampling


def test_quality_counts():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for image_format in ("jpeg", "webp"):
        sizes = [
            len(encode(Image(noise), None, image_format, quality)) for quality in (10, 60, 100)
        ]
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(("image_format", "limit_px"), [("jpeg", 65500), ("webp", 16383)])
def test_a_picture_that_a_format_cannot_hold_gets_a_sentence(image_format, limit_px):
    with pytest.raises(InvalidValue, match=f"at most {limit_px} pixels a side for {image_format}"):
        encode(Image(np.zeros((1, limit_px + 1, 3), np.uint8)), None, image_format, 90)
    assert encode(Image(np.zeros((1, limit_px, 3), np.uint8)), None, image_format, 90)
