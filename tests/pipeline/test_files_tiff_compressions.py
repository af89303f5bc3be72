"""TIFF files of every compression that can be read here; others are named."""

import numpy as np
import pytest
from picture_files import photograph, read
from tiff_files import assert_shows, tiff, widened, with_tags

from pipeline.errors import InvalidImage
from pipeline.headers import read_header

RGB = photograph()
ALPHA = RGB[:, :, 1]
PICTURES = ["webp", "jpegxl", "jpeg2000", "png", "jpegxr", "lerc"]


@pytest.mark.parametrize("compression", PICTURES)
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("channels", [3, 4])
def test_eight_bits_in_any_known_compression(compression, tile, channels):
    stored = RGB if channels == 3 else np.dstack([RGB, ALPHA])
    data = tiff(
        stored,
        photometric="rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        compression=compression,
        compressionargs={"lossless": True} if compression in ("webp", "jpegxl") else None,
        tile=tile,
    )
    assert_shows(data, RGB, tolerance=4)
    alpha = read(data).alpha
    assert alpha is None if channels == 3 else np.abs(alpha.astype(int) - ALPHA).max() <= 4


@pytest.mark.parametrize("compression", PICTURES)
@pytest.mark.parametrize("side", [32, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_strip_of_another_size_than_the_header_tells_is_refused(compression, side):
    """What is in it would pass the limits."""
    large = tiff(
        np.zeros((side, side, 3), np.uint8),
        photometric="rgb",
        compression=compression,
        rowsperstrip=side,
    )
    told = with_tags(large, {256: 64, 257: 48})
    assert read_header(told, max_pixels=10**6, max_side_px=4096).width_px == 64
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(told)


@pytest.mark.parametrize("options", [{}, {"tile": (48, 64)}])
def test_a_jpeg_of_another_size_than_the_header_tells_is_refused(options):
    """As a camera's raw file, which Pillow does not know."""
    data = tiff(ALPHA, photometric="minisblack", compression="jpeg", **options)
    told = with_tags(data, {259: 34892})
    assert_shows(told, ALPHA, tolerance=9)
    frame = told.index(b"\xff\xc0") + 5
    large = told[:frame] + (4000).to_bytes(2, "big") * 2 + told[frame + 4 :]
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(large)


def test_a_tile_may_be_larger_than_the_picture_but_not_by_much():
    stored = widened(RGB, np.uint16)
    for side in (256, 1024):
        data = tiff(stored, photometric="rgb", compression="zlib", tile=(side, side))
        assert_shows(data, RGB)
    data = tiff(stored, photometric="rgb", compression="zlib", tile=(4096, 4096))
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(data)


@pytest.mark.parametrize("compression", ["jpegxl", "jpeg2000", "png", "lerc"])
def test_channels_apart_in_any_known_compression(compression):
    channels = np.ascontiguousarray(np.moveaxis(RGB, 2, 0))
    lossless = {"lossless": True} if compression == "jpegxl" else None
    data = tiff(
        channels,
        photometric="rgb",
        planarconfig="separate",
        compression=compression,
        compressionargs=lossless,
    )
    assert_shows(data, RGB, tolerance=4)


@pytest.mark.parametrize("compression", [9, 32766, 32908, 34661, 34715, 34718, 60000])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_compression_that_nobody_reads_is_named(compression, dtype):
    data = tiff(widened(RGB, dtype), photometric="rgb", compression="zlib")
    with pytest.raises(InvalidImage, match=r"^this kind of TIFF is not supported$"):
        read(with_tags(data, {259: compression}))


@pytest.mark.parametrize("compression", ["jpegxl", "jpeg2000", "png", "jpegxr", "lerc"])
@pytest.mark.parametrize("rows", [20, 48])
def test_grey_of_16_bits_in_any_known_compression(compression, rows):
    stored = widened(ALPHA, np.uint16)
    lossless = {"lossless": True} if compression == "jpegxl" else None
    data = tiff(
        stored,
        photometric="minisblack",
        compression=compression,
        compressionargs=lossless,
        rowsperstrip=rows,
    )
    assert_shows(data, ALPHA, tolerance=4)
