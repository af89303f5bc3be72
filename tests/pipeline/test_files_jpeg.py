"""JPEG files that lack their end, or have odd parts beside the picture."""

import struct
import warnings

import numpy as np
import PIL.Image
import pytest
from picture_files import file_of, photograph, read

from pipeline.errors import InvalidImage
from pipeline.headers import read_header

NOISY = np.clip(
    photograph(200, 300) + np.random.default_rng(0).normal(0, 12, (200, 300, 3)), 0, 255
).astype(np.uint8)


def jpeg(mode="RGB", **options) -> bytes:
    return file_of(PIL.Image.fromarray(NOISY).convert(mode), "JPEG", **options)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"\xff", b"", b"\0", b"\r\n", bytes(500)])
def test_a_file_that_lacks_only_its_end_marker_is_read(mode, quality, progressive, end):
    whole = jpeg(mode, quality=quality, progressive=progressive)
    unended = whole[:-2] + end
    assert np.array_equal(read(unended).image.pixels, read(whole).image.pixels)
    assert read_header(unended, max_pixels=10**6, max_side_px=4096).width_px == 300


@pytest.mark.parametrize("lacking", [24, 100, 1000, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"", bytes(500)])
def test_a_file_that_lacks_pixels_is_refused(lacking, quality, progressive, end):
    whole = jpeg(quality=quality, progressive=progressive)
    missing = lacking if isinstance(lacking, int) else int(lacking * len(whole))
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(whole[: -2 - missing] + end)


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2 if length is None else length) + body


@pytest.mark.parametrize(
    "beside",
    [
        segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE0, b"JFIF\0"),
        segment(0xE2, b"ICC_PROFILE\0\x01\x02" + b"half of a profile"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\x01"),
        segment(0xE2, b"MPF\0junk"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x02ab"),
        segment(0xED, b"Photoshop 3.0\x008BIM"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b""),
        segment(0xE5, b"short", length=3),
    ],
)
def test_what_is_beside_the_picture_does_not_refuse_it(beside):
    whole = jpeg(quality=90)
    data = whole[:2] + beside + whole[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(read(data).image.pixels, read(whole).image.pixels)
