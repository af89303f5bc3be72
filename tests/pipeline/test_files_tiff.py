"""TIFF files of every depth, byte order and layout come back as the picture they show."""

import contextlib
import io
import warnings

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import file_of, photograph, read
from PIL import ExifTags, ImageCms
from tiff_files import assert_shows, tiff, widened

from pipeline.errors import ImageTooLarge, InvalidImage

RGB = photograph()
GREY = photograph()[:, :, 0]
ALPHA = photograph()[:, :, 1]


DEPTHS = [np.uint16, np.uint32, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, *DEPTHS])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_grey(byteorder, dtype, photometric, compression):
    stored = widened(GREY if photometric == "minisblack" else 255 - GREY, dtype)
    stored[0, :2] = widened(np.array([0, 255]), dtype)  # both ends, so that the range is told
    data = tiff(stored, byteorder=byteorder, photometric=photometric, compression=compression)
    expected = GREY.copy()
    expected[0, :2] = [0, 255] if photometric == "minisblack" else [255, 0]
    assert_shows(data, expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, *DEPTHS])
@pytest.mark.parametrize("layout", ["contig", "separate", "tiles", "zstd", "predictor", "big"])
def test_rgb(byteorder, dtype, layout):
    stored = widened(RGB, dtype)
    stored[0, 0] = widened(np.array(255), dtype)
    expected = RGB.copy()
    expected[0, 0] = 255
    options = {
        "tiles": {"tile": (16, 16), "compression": "zlib"},
        "zstd": {"compression": "zstd"},
        "predictor": {"compression": "zlib", "predictor": True},
        "big": {"bigtiff": True},
        "separate": {"planarconfig": "separate"},
    }.get(layout, {})
    if layout == "separate":
        stored = np.ascontiguousarray(np.moveaxis(stored, 2, 0))
    data = tiff(stored, byteorder=byteorder, photometric="rgb", **options)
    assert_shows(data, expected)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_odd_bits(bits, channels, byteorder):
    levels = (RGB if channels == 3 else GREY).astype(np.uint16)
    stored = levels << (bits - 8) | levels >> (16 - bits)
    data = packed_tiff(stored, bits, byteorder)
    assert_shows(data, levels.astype(np.uint8))


def packed_tiff(samples: np.ndarray, bits: int, byteorder: str) -> bytes:
    """Uncompressed; rows of samples of `bits` bits, the highest first, padded to whole bytes."""
    height = samples.shape[0]
    rows = samples.reshape(height, -1)
    unpacked = (rows[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(unpacked.reshape(height, -1).astype(np.uint8), axis=1)
    channels = samples.shape[2] if samples.ndim == 3 else 1
    order = {"<": "little", ">": "big"}[byteorder]
    fields = [
        (256, samples.shape[1]),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 2 if channels == 3 else 1),
        (273, 8),
        (277, channels),
        (278, height),
        (279, packed.size),
    ]
    directory = len(fields).to_bytes(2, order)
    for tag, value in fields:
        entry = tag.to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order)
        directory += entry + value.to_bytes(4, order)
    start = 8 + packed.size + packed.size % 2
    magic = {"<": b"II*\0", ">": b"MM\0*"}[byteorder] + start.to_bytes(4, order)
    return magic + packed.tobytes() + b"\0" * (packed.size % 2) + directory + bytes(4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_alpha_beside_the_colours(dtype):
    stored = widened(np.dstack([RGB, ALPHA]), dtype)
    stored[0, 0] = widened(np.array(255), dtype)
    picture = read(tiff(stored, photometric="rgb", extrasamples=["unassalpha"]))
    assert np.abs(picture.alpha[1:].astype(int) - ALPHA[1:]).max() <= 1
    assert np.abs(picture.image.pixels[1:].astype(int) - RGB[1:]).max() <= 1


def test_alpha_that_the_colours_are_multiplied_with():
    alpha = np.maximum(ALPHA, 40).astype(np.float64) / 255
    stored = np.dstack([RGB / 255 * alpha[:, :, None], alpha])
    data = tiff((stored * 65535).astype(np.uint16), photometric="rgb", extrasamples=["assocalpha"])
    picture = read(data)
    assert np.abs(picture.alpha.astype(int) - np.maximum(ALPHA, 40)).max() <= 1
    assert np.abs(picture.image.pixels.astype(int) - RGB).max() <= 7  # of a level times 255 / 40


def test_grey_with_alpha():
    stored = widened(np.dstack([GREY, ALPHA]), np.uint16)
    picture = read(tiff(stored, photometric="minisblack", extrasamples=["unassalpha"]))
    assert np.array_equal(picture.alpha, ALPHA)
    assert np.array_equal(picture.image.pixels[:, :, 2], GREY)


def test_further_samples_are_overlooked():
    stored = widened(np.dstack([RGB, ALPHA, ALPHA]), np.uint16)
    data = tiff(stored, photometric="rgb", extrasamples=["unspecified", "unspecified"])
    assert read(data).alpha is None
    assert_shows(data, RGB)


def test_cmyk_of_16_bits():
    stored = np.zeros((8, 8, 4), np.uint16)
    stored[:, :, 1:3] = 65535
    pixels = read(tiff(stored, photometric="separated")).image.pixels
    assert np.abs(pixels[4, 4].astype(int) - (255, 0, 0)).max() <= 2


def test_a_palette_of_16_bits():
    colours = np.zeros((3, 65536), np.uint16)
    colours[:, 300] = (65535, 0, 25700)
    data = tiff(np.full((4, 4), 300, np.uint16), photometric="palette", colormap=colours)
    assert read(data).image.pixels[2, 2].tolist() == [255, 0, 100]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_files_are_turned_upright(orientation):
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }[orientation]
    tag = (int(ExifTags.Base.Orientation), 3, 1, orientation, True)
    stored = widened(np.ascontiguousarray(turned), np.uint16)
    assert_shows(tiff(stored, photometric="rgb", extratags=[tag]), RGB)


def test_an_icc_profile_of_a_deep_file_is_applied():
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    stored = np.full((8, 8, 3), (51400, 10280, 23130), np.uint16)
    pixels = read(tiff(stored, photometric="rgb", iccprofile=bytes(profile))).image.pixels
    assert np.abs(pixels[4, 4].astype(int) - (40, 200, 90)).max() <= 2


def test_the_first_page_is_read():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(widened(RGB, np.uint16), photometric="rgb")
        writer.write(widened(255 - RGB, np.uint16), photometric="rgb")
    assert_shows(file.getvalue(), RGB)


@pytest.mark.parametrize(
    "data",
    [
        tiff(np.zeros((4, 4), np.complex64)),
        tiff(np.zeros((4, 4, 9), np.uint16), photometric="minisblack", planarconfig="contig"),
        tiff(np.zeros((4, 4, 3), np.uint16), photometric="cielab"),
        tiff(np.zeros((4, 4), np.uint16), photometric="cfa"),
    ],
    ids=["complex", "nine channels", "Lab of 16 bits", "raw of a camera"],
)
def test_other_kinds_are_named(data):
    with pytest.raises(InvalidImage, match=r"^this kind of TIFF is not supported$"):
        read(data)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_deep_file_is_refused(dtype, compression, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    data = tiff(widened(noise, dtype), photometric="rgb", compression=compression)
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(data[: int(len(data) * share)])


@settings(deadline=None)
@given(
    options=st.sampled_from(
        [{}, {"compression": "lzw"}, {"tile": (16, 16), "compression": "zlib", "predictor": True}]
    ),
    dtype=st.sampled_from([np.uint16, np.float32]),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_flipped_bytes_give_a_picture_or_a_sentence(options, dtype, places):
    data = bytearray(tiff(widened(photograph(16, 16), dtype), photometric="rgb", **options))
    for share, value in places:
        data[int(share * len(data))] = value
    with warnings.catch_warnings(), contextlib.suppress(InvalidImage):
        warnings.simplefilter("ignore")
        assert read(bytes(data)).image.pixels.ndim == 3


def test_the_limits_hold_before_any_pixel_is_decoded():
    data = tiff(np.zeros((2000, 2000), np.float32), compression="zlib")
    with pytest.raises(ImageTooLarge, match="2000 × 2000 pixels, at most 1000000"):
        read(data)


def test_what_pillow_writes_is_read_as_before():
    for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        image = PIL.Image.fromarray(RGB).convert(mode)
        data = file_of(image, "TIFF")
        expected = np.array(image.convert("RGB")).astype(int)
        assert np.abs(read(data).image.pixels - expected).max() <= 2, mode
