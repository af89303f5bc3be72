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


LAYOUTS = [
    {},
    {"subsampling": 0},
    {"restart_marker_blocks": 5},
    {"progressive": True},
    {"progressive": True, "subsampling": 0},
]


def jpeg(mode="RGB", **options) -> bytes:
    return file_of(PIL.Image.fromarray(NOISY).convert(mode), "JPEG", **options)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        *(b"\xff", b"", b"\0", b"\r\n", bytes(500)),
        *(b"\xff" * 2, b"\xff" * 5000, bytes(500) + b"\xff" * 500, b"\xff" * 500 + bytes(500)),
    ],
)
def test_a_file_that_lacks_only_its_end_marker_is_read(mode, quality, progressive, end):
    whole = jpeg(mode, quality=quality, progressive=progressive)
    unended = whole[:-2] + end
    assert np.array_equal(read(unended).image.pixels, read(whole).image.pixels)
    assert read_header(unended, max_pixels=10**6, max_side_px=4096).width_px == 300


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("options", LAYOUTS)
def test_fill_bytes_before_the_end_marker_are_overlooked(mode, quality, options):
    whole = jpeg(mode, quality=quality, **options)
    filled = whole[:-2] + b"\xff" * 5000 + whole[-2:]
    assert np.array_equal(read(filled).image.pixels, read(whole).image.pixels)


@pytest.mark.parametrize("lacking", [1, 3, 10, 24, 100, 400])
@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("end", [b"", b"\xff" * 9, bytes(500)])
def test_a_file_that_lacks_little_is_read(lacking, quality, options, mode, end):
    """Browsers show it; of the picture, a bit of the last rows is grey or less sharp."""
    file = PIL.Image.fromarray(np.tile(NOISY, (2, 2, 1))).convert(mode)
    whole = file_of(file, "JPEG", quality=quality, **options)
    cut = read(whole[: -2 - lacking] + end).image.pixels
    expected = read(whole).image.pixels
    shown = 304 if options.get("progressive") else 367
    assert np.array_equal(cut[:shown], expected[:shown])
    assert cut.shape == expected.shape


@pytest.mark.parametrize("lacking", [0.15, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("end", [b"", bytes(500), b"\xff" * 500])
def test_a_file_that_lacks_much_is_refused(lacking, quality, options, end):
    whole = jpeg(quality=quality, **options)
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(whole[: -2 - int(lacking * len(whole))] + end)


@pytest.mark.parametrize("marker", range(12, 30))
def test_a_file_that_breaks_off_at_a_restart_marker_is_refused(marker):
    whole = jpeg(quality=30, restart_marker_blocks=5)
    at = [i for i in range(len(whole)) if whole[i] == 0xFF and 0xD0 <= whole[i + 1] <= 0xD7][marker]
    for cut in (at, at + 1, at + 2):
        with pytest.raises(InvalidImage, match="broken or incomplete"):
            read(whole[:cut])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_file_that_lacks_its_last_scans_is_refused(mode):
    """Wherever it breaks off, also right behind a scan."""
    whole = jpeg(mode, quality=75, progressive=True)
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    for begin in scans[1:]:
        for cut in (begin, begin + 14, begin + 20):
            with pytest.raises(InvalidImage, match="broken or incomplete"):
                read(whole[:cut])


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
