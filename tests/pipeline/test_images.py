"""What is read, and what is refused: formats, broken files, limits."""

import contextlib
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import FORMATS, file_of, photograph, png_chunk, read

from pipeline.errors import ImageTooLarge, InvalidImage


def png_header_only(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", FORMATS)
def test_reads_each_format(image_format):
    pixels = photograph()
    tolerance = {"JPEG": 16, "WEBP": 16, "GIF": 40, "AVIF": 16, "HEIF": 16}.get(image_format, 0)
    picture = read(file_of(PIL.Image.fromarray(pixels), image_format))
    assert np.abs(picture.image.pixels.astype(int) - pixels).max() <= tolerance
    assert picture.alpha is None


@pytest.mark.parametrize("image_format", ["PPM", "TGA", "ICO", "EPS"])
def test_refuses_other_formats(image_format):
    with pytest.raises(InvalidImage, match="not a PNG, JPEG, WebP, AVIF, HEIC"):
        read(file_of(PIL.Image.fromarray(photograph()), image_format))


def test_the_first_frame_of_an_animation_is_read():
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        data = file_of(frames[0], image_format, save_all=True, append_images=frames[1:])
        colour = read(data).image.pixels[4, 4].astype(int)
        assert np.abs(colour - (255, 0, 0)).max() <= 4, image_format


def test_a_picture_of_one_pixel_is_read():
    picture = read(file_of(PIL.Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"))
    assert picture.image.pixels.tolist() == [[[9, 8, 7]]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file is empty"),
        (b"GIF8", "not a PNG"),
        (b"<html><body>not found</body></html>", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "broken or incomplete"),
        (b"\xff\xd8\xff", "broken or incomplete"),
        (b"II*\0" + b"\xff" * 40, "broken or incomplete"),
        (b"RIFF\x10\0\0\0WEBPVP8 junkjunk", "broken or incomplete"),
        (b"BM" + b"\x01" * 60, "broken or incomplete"),
    ],
)
def test_junk_gets_a_plain_sentence(data, why):
    with pytest.raises(InvalidImage, match=why) as caught:
        read(data)
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(image_format, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = file_of(PIL.Image.fromarray(noise), image_format)
    with pytest.raises(InvalidImage):
        read(data[: int(len(data) * share)])


def test_a_corrupt_png_is_refused():
    data = bytearray(file_of(PIL.Image.fromarray(photograph()), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(bytes(data))


@settings(deadline=None)
@given(
    image_format=st.sampled_from(FORMATS),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_flipped_bytes_give_a_picture_or_the_sentence(image_format, places):
    data = bytearray(file_of(PIL.Image.fromarray(photograph(16, 16)), image_format))
    for share, value in places:
        data[int(share * len(data))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(InvalidImage):
            assert read(bytes(data)).image.pixels.ndim == 3


@pytest.mark.parametrize(
    ("width", "height", "limit"),
    [(2000, 2000, "1000000 pixels"), (5000, 1, "4096 pixels a side"), (1, 4097, "4096")],
)
def test_limits_are_named(width, height, limit):
    with pytest.raises(ImageTooLarge, match=f"{width} × {height} pixels, at most {limit}"):
        read(png_header_only(width, height))


def test_limits_themselves_are_allowed():
    data = file_of(PIL.Image.new("L", (1000, 1000)), "PNG")
    assert read(data, max_pixels=1_000_000, max_side_px=1000).image.width_px == 1000


def test_a_bomb_is_refused_from_its_header():
    # Pillow would warn from 89 million pixels on; warnings are errors here, so none may arise.
    for side in (10_000, 60_000, 2**31 - 1):
        with pytest.raises(ImageTooLarge, match="pixels"):
            read(png_header_only(side, side), max_pixels=40_000_000, max_side_px=8192)


def test_a_file_above_pillows_own_limit_is_read_when_allowed():
    with pytest.raises(InvalidImage, match="broken or incomplete"):  # and not: too large
        read(png_header_only(20_000, 20_000), max_pixels=10**9, max_side_px=20_000)


@pytest.mark.parametrize("compression", [b"VP8L", b"VP8X"])
def test_a_webp_bomb_is_refused(compression):
    if compression == b"VP8L":
        body = b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + b"\0" * 20
    else:
        body = b"\0\0\0\0" + (16382).to_bytes(3, "little") * 2
    chunk = compression + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    with pytest.raises(InvalidImage):
        read(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk)


def test_a_gif_frame_beyond_its_screen_does_not_pass_the_limit():
    data = bytearray(file_of(PIL.Image.new("P", (8, 8)), "GIF"))
    frame = data.index(b",\0\0\0\0")
    data[frame + 5 : frame + 9] = struct.pack("<HH", 9000, 9000)
    with pytest.raises(InvalidImage):
        read(bytes(data))
