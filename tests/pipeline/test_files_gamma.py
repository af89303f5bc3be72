"""`gAMA` and `cHRM` of PNG files, as browsers take them."""

import struct
import zlib

import numpy as np
import pytest
from picture_files import png_chunk, png_of, read
from PIL import ImageCms

SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
LEVELS = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 3))[None]


def gama(gamma: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", gamma))


def chrm(chromaticities) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *chromaticities))


def shown(*chunks: bytes, samples=LEVELS) -> np.ndarray:
    return read(png_of(2, samples, *chunks)).image.pixels.astype(int)


@pytest.mark.parametrize("gamma", [100_000, 55_556, 30_000, 151_515])
def test_gamma_alone_suits_a_screen_of_2_2(gamma):
    """libpng's rule, by which browsers go: value ^ (1 / (2.2 · gAMA))."""
    expected = 255 * (LEVELS / 255.0) ** (100_000 / 2.2 / gamma)
    assert np.abs(shown(gama(gamma)) - expected).max() <= 1.5


def test_gamma_serves_grey_pictures_which_stay_grey():
    pixels = read(png_of(0, LEVELS[:, :, 0], gama(100_000))).image.pixels
    assert np.ptp(pixels, axis=2).max() == 0
    assert np.abs(pixels[0, :, 0] - 255 * (np.arange(256) / 255) ** (1 / 2.2)).max() <= 1.5


def test_gamma_leaves_alpha_alone():
    samples = np.full((2, 2, 4), 128, np.uint8)
    picture = read(png_of(6, samples, gama(100_000)))
    assert picture.alpha.tolist() == [[128] * 2] * 2
    assert np.abs(picture.image.pixels.astype(int) - 186).max() <= 1


@pytest.mark.parametrize("gamma", [45_455, 45_000, 47_000])
@pytest.mark.parametrize("more", [(), (chrm(SRGB),)], ids=["alone", "with sRGB's colours"])
def test_srgbs_gamma_changes_nothing(gamma, more):
    assert np.array_equal(shown(gama(gamma), *more), LEVELS)


@pytest.mark.parametrize(
    "before",
    [
        png_chunk(b"sRGB", b"\0"),
        png_chunk(b"cICP", bytes([1, 13, 0, 1])),
        png_chunk(
            b"iCCP",
            b"sRGB\0\0"
            + zlib.compress(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        ),
    ],
    ids=["sRGB", "cICP", "iCCP"],
)
def test_other_words_about_colour_come_first(before):
    assert np.abs(shown(gama(100_000), chrm(ADOBE), before) - LEVELS).max() <= 1


@pytest.mark.parametrize("gamma", [0, 15, 700_000_000, 2**32 - 1])
def test_a_gamma_that_makes_no_sense_changes_nothing(gamma):
    assert np.array_equal(shown(gama(gamma)), LEVELS)


def test_colours_alone_change_nothing():
    assert np.array_equal(shown(chrm(ADOBE)), LEVELS)


@pytest.mark.parametrize("broken", [(0,) * 8, (31270, 0, 1, 1, 1, 1, 1, 1), (2**31,) * 8])
def test_colours_that_make_no_sense_are_overlooked(broken):
    assert np.abs(shown(gama(100_000), chrm(broken)) - shown(gama(100_000))).max() == 0


def test_gamma_with_colours_is_a_profile():
    """Adobe RGB (1998): its full green is beyond sRGB, its grey is sRGB's grey of a power 2.2."""
    samples = np.array([[(0, 255, 0), (255, 255, 255), (128, 128, 128), (150, 100, 80)]], np.uint8)
    pixels = shown(gama(45_471), chrm(ADOBE), samples=samples)[0]
    assert pixels[0].tolist()[1:2] == [255]
    assert np.abs(pixels[1] - 255).max() <= 1
    assert np.abs(pixels[2] - 128).max() <= 1
    assert np.abs(pixels[3] - adobe_to_srgb(samples[0, 3])).max() <= 1


def adobe_to_srgb(levels):
    to_xyz = np.array(
        [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    )
    to_srgb = np.array(
        [[3.24045, -1.53714, -0.49853], [-0.96927, 1.87601, 0.04156], [0.05564, -0.20403, 1.05723]]
    )
    light = to_srgb @ to_xyz @ (levels / 255.0) ** 2.19921875
    curve = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    )
    return 255 * curve
