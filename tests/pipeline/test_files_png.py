"""PNG files: what is beside the picture never refuses it, as in browsers."""

import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest
from picture_files import (
    PNG_SIGNATURE,
    file_of,
    photograph,
    png_chunk,
    png_of,
    read,
    with_png_chunk,
)
from PIL import ExifTags

from pipeline.errors import InvalidImage
from pipeline.headers import read_header

PLAIN = png_of(2, photograph())
# The tools that make such pictures write their workflow into them.
WORKFLOW = b"{" + b'"node": 1, ' * 250_000 + b"}"
LARGE_PROFILE = bytes(range(256)) * 12_000


def wrong_crc(chunk: bytes) -> bytes:
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


def wrong_length(chunk: bytes, by: int) -> bytes:
    length = int.from_bytes(chunk[:4], "big") + by
    return length.to_bytes(4, "big") + chunk[4:]


BESIDE = {
    "2 MB of text, zTXt": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(WORKFLOW)),
    "2 MB of text, iTXt": png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(WORKFLOW)),
    "2 MB of text, tEXt": png_chunk(b"tEXt", b"workflow\0" + WORKFLOW),
    "70 MB of text": png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000))),
    "2 MB of XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(WORKFLOW)),
    "text of an unknown compression": png_chunk(b"zTXt", b"workflow\0\7" + b"abc"),
    "text without a keyword's end": png_chunk(b"zTXt", b"workflow"),
    "an empty text": png_chunk(b"tEXt", b""),
    "a profile of 3 MB that is none": png_chunk(
        b"iCCP", b"large\0\0" + zlib.compress(LARGE_PROFILE)
    ),
    "a profile of an unknown compression": png_chunk(b"iCCP", b"odd\0\1abc"),
    "a profile that is no zlib": png_chunk(b"iCCP", b"odd\0\0abcdefgh"),
    "a text's wrong CRC": wrong_crc(png_chunk(b"tEXt", b"Comment\0hello")),
    "a profile's wrong CRC": wrong_crc(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(b"icc"))),
    "a gamma's wrong CRC": wrong_crc(png_chunk(b"gAMA", struct.pack(">I", 100_000))),
    "a private chunk's wrong CRC": wrong_crc(png_chunk(b"prVt", b"whatever")),
    "a text that is longer than it says": wrong_length(
        png_chunk(b"tEXt", b"Comment\0hello, this is a text"), -9
    ),
    "a text that is shorter than it says": wrong_length(
        png_chunk(b"tEXt", b"Comment\0hello, this is a text"), 5
    ),
    "a text that says it is longer than the file": wrong_length(
        png_chunk(b"tEXt", b"Comment\0hello"), 2**30
    ),
    "a short gAMA": png_chunk(b"gAMA", b"\0\1"),
    "a short cHRM": png_chunk(b"cHRM", bytes(8)),
    "a short pHYs": png_chunk(b"pHYs", bytes(4)),
    "an empty sRGB": png_chunk(b"sRGB", b""),
    "a short tRNS": png_chunk(b"tRNS", b"\0"),
    "a gAMA of 0": png_chunk(b"gAMA", bytes(4)),
    "an animation's broken count": png_chunk(b"acTL", b"\0"),
    "an animation's broken frame": png_chunk(b"acTL", struct.pack(">II", 2, 0))
    + png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 7, 900, 900, 5, 5, 1, 10, 0, 0)),
}


@pytest.mark.parametrize("what", BESIDE)
@pytest.mark.parametrize("colour_type", [0, 2])
def test_what_is_beside_the_picture_does_not_refuse_it(what, colour_type):
    pixels = photograph() if colour_type == 2 else photograph()[:, :, 0]
    data = png_of(colour_type, pixels, BESIDE[what])
    picture = read(data)
    expected = pixels if colour_type == 2 else np.repeat(pixels[:, :, None], 3, axis=2)
    assert np.array_equal(picture.image.pixels, expected)
    assert picture.alpha is None
    assert read_header(data, max_pixels=10**6, max_side_px=4096).width_px == 64


@pytest.mark.parametrize("what", BESIDE)
def test_what_is_behind_the_pixels_does_not_refuse_them(what):
    data = PLAIN[:-12] + BESIDE[what] + PLAIN[-12:]
    assert np.array_equal(read(data).image.pixels, photograph())


@pytest.mark.parametrize("end", [b"", b"\0\0\0\0IEND", b"\0\0\0\0IEND\0\0\0\0", b"junk" * 9])
def test_a_file_without_a_sound_end_is_read(end):
    assert np.array_equal(read(PLAIN[:-12] + end).image.pixels, photograph())


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_what_is_the_picture_must_be_sound(kind):
    data = bytearray(PLAIN)
    data[data.index(kind) + 8] ^= 0x40
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(bytes(data))


def test_how_the_picture_is_turned_is_read_from_imagemagicks_text_too():
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    packed = b"Exif\0\0" + exif.tobytes()[6:]
    text = f"\nexif\n{len(packed):8}\n{packed.hex()}\n".encode()
    chunk = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    assert read(with_png_chunk(PLAIN, chunk)).image.width_px == 48


def test_a_chunk_that_looks_like_many_others_costs_no_time():
    decoys = b"\x02\0\0\0IDAT" * 3_000_000
    data = with_png_chunk(PLAIN, wrong_length(png_chunk(b"tEXt", decoys), -100))
    started = time.process_time()
    with pytest.raises(InvalidImage):
        read(data)
    assert time.process_time() - started < 2


def test_an_animations_still_picture_is_read():
    """The animation proper starts with another picture, for those who show animations."""
    frame = struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 10, 0, 0)
    other = zlib.compress(bytes(48 * (1 + 3 * 64)))
    data = with_png_chunk(PLAIN, png_chunk(b"acTL", struct.pack(">II", 1, 0)))
    animated = png_chunk(b"fcTL", frame) + png_chunk(b"fdAT", struct.pack(">I", 1) + other)
    data = data[:-12] + animated + data[-12:]
    assert np.array_equal(read(data).image.pixels, photograph())


def test_pixels_in_many_pieces_are_read():
    at = PLAIN.index(b"IDAT") - 4
    body = PLAIN[at + 8 : -16]
    pieces = [png_chunk(b"IDAT", body[start : start + 3]) for start in range(0, len(body), 3)]
    data = PLAIN[:at] + b"".join(pieces) + png_chunk(b"IDAT", b"") + PLAIN[-12:]
    assert np.array_equal(read(data).image.pixels, photograph())


def test_a_palette_and_its_alphas_are_kept():
    palette = PIL.Image.fromarray(photograph()).quantize(16)
    data = file_of(palette, "PNG", transparency=bytes([0, 128] + [255] * 14))
    picture = read(with_png_chunk(data, BESIDE["a text's wrong CRC"]))
    assert np.array_equal(picture.image.pixels, np.array(palette.convert("RGB")))
    assert set(np.unique(picture.alpha)) == {0, 128, 255}


@pytest.mark.parametrize("key", [0, 257 * 7, 65535, 65534])
def test_sixteen_bit_grey_has_a_transparent_value(key):
    values = np.tile(np.arange(0, 256, 4, dtype=np.uint16) * 257, (4, 1))
    values[:2] = key
    picture = read(png_of(0, values, png_chunk(b"tRNS", struct.pack(">H", key)), depth=16))
    assert np.array_equal(picture.alpha == 0, values == key)
    assert np.array_equal(picture.image.pixels[:, :, 1], values >> 8)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("beyond", [0, 0x100, 0xFF00])
def test_grey_of_few_bits_has_a_transparent_value(depth, beyond):
    """Of the key, the bits beyond the depth don't count."""
    top = 2**depth - 1
    levels = np.resize(np.arange(top + 1), (3, 64)).astype(np.uint8)
    bits = (levels[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    packed = np.packbits(bits.reshape(3, -1), axis=1)
    for key in {0, 1, top // 2, top}:
        chunk = png_chunk(b"tRNS", struct.pack(">H", key + beyond))
        data = bytearray(png_of(0, packed, chunk))
        data[16:29] = struct.pack(">IIBBBBB", 64, 3, depth, 0, 0, 0, 0)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        picture = read(bytes(data))
        assert np.array_equal(picture.alpha == 0, levels == key), key
        assert np.array_equal(picture.image.pixels[:, :, 1], levels.astype(int) * 255 // top)


@pytest.mark.parametrize("beyond", [0, 0x100, 0xFF00])
def test_eight_bit_rgb_has_a_transparent_colour(beyond):
    values = np.full((2, 3, 3), 200, np.uint8)
    values[:, 1] += 1
    chunk = png_chunk(b"tRNS", struct.pack(">3H", *[200 + beyond] * 3))
    assert read(png_of(2, values, chunk)).alpha.tolist() == [[0, 255, 0]] * 2


def test_sixteen_bit_rgb_has_a_transparent_colour():
    """Exactly that one: its neighbours of the same high bytes are opaque."""
    values = np.full((2, 3, 3), 51400, np.uint16)
    values[:, 1] += 1
    chunk = png_chunk(b"tRNS", struct.pack(">3H", 51400, 51400, 51400))
    picture = read(png_of(2, values, chunk, depth=16))
    assert picture.alpha.tolist() == [[0, 255, 0]] * 2
    assert set(picture.image.pixels.ravel().tolist()) == {200}


def test_only_the_first_bytes_say_that_it_is_one():
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read(PNG_SIGNATURE + png_chunk(b"IEND", b""))
