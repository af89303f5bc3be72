"""What a file's header tells: the size that decoding gives, and refusals, without any pixel."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import FORMATS, file_of, photograph, png_chunk, read
from PIL import ExifTags

from pipeline.errors import ImageTooLarge, InvalidImage
from pipeline.headers import read_header

LIMITS = {"max_pixels": 1_000_000, "max_side_px": 4096}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def size_of(data: bytes) -> tuple[int, int]:
    header = read_header(data, **LIMITS)
    return header.width_px, header.height_px


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size_wh", [(64, 48), (1, 1), (1, 7)])
def test_the_size_is_that_of_the_decoded_picture(orientation, image_format, size_wh):
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    width, height = size_wh
    data = file_of(PIL.Image.fromarray(photograph(height, width)), image_format, exif=exif)
    image = read(data).image
    assert size_of(data) == (image.width_px, image.height_px)
    turned = orientation >= 5 and image_format not in ("BMP", "GIF", "JPEG2000")
    assert size_of(data) == ((height, width) if turned else size_wh)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "TIFF"])
def test_a_turn_that_stands_in_the_xmp_alone(image_format):
    options = {"tiffinfo": {700: XMP}} if image_format == "TIFF" else {"xmp": XMP}
    data = file_of(PIL.Image.fromarray(photograph(48, 64)), image_format, **options)
    image = read(data).image
    assert size_of(data) == (image.width_px, image.height_px) == (48, 64)


def test_broken_exif_turns_nothing():
    broken = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    assert size_of(file_of(PIL.Image.fromarray(photograph()), "PNG", exif=broken)) == (64, 48)


def test_the_limits_are_decodes_own_and_turned_sides_count():
    data = file_of(PIL.Image.new("L", (1000, 10)), "PNG")
    assert read_header(data, max_pixels=10_000, max_side_px=1000).width_px == 1000
    for limits in ({"max_pixels": 9_999, "max_side_px": 1000}, {"max_pixels": 10_000}):
        limits = {"max_side_px": 999, **limits}
        with pytest.raises(ImageTooLarge) as by_header:
            read_header(data, **limits)
        with pytest.raises(ImageTooLarge) as by_decoding:
            read(data, **limits)
        assert str(by_header.value) == str(by_decoding.value)


def gif_with_frame(width, height):
    data = bytearray(file_of(PIL.Image.new("P", (8, 8)), "GIF"))
    frame = data.index(b",\0\0\0\0")
    data[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def test_a_gif_frame_beyond_its_screen_counts():
    assert size_of(gif_with_frame(90, 70)) == (90, 70)
    with pytest.raises(ImageTooLarge, match="9000 × 9000 pixels, at most 4096 pixels a side"):
        size_of(gif_with_frame(9000, 9000))


@pytest.mark.parametrize("image_format", FORMATS)
def test_pixels_that_are_missing_are_not_missed(image_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = file_of(PIL.Image.fromarray(noise), image_format)
    half = data[: len(data) // 2]
    if image_format in ("WEBP", "AVIF"):  # whose libraries count the bytes at once
        with pytest.raises(InvalidImage, match="broken or incomplete"):
            size_of(half)
    else:
        assert size_of(half) == (64, 64)
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        size_of(data[:12])


@settings(deadline=None)
@given(
    image_format=st.sampled_from(FORMATS),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_what_the_header_refuses_decoding_refuses_with_the_same_sentence(image_format, places):
    data = bytearray(file_of(PIL.Image.fromarray(photograph(16, 16)), image_format))
    for share, value in places:
        data[int(share * len(data))] = value
    refusal = refusal_of(lambda: read_header(bytes(data), **LIMITS))
    if refusal is not None:
        assert refusal_of(lambda: read(bytes(data))) == refusal


def refusal_of(work):
    try:
        work()
    except InvalidImage as error:
        return type(error), str(error)
    return None


def large_png(side):
    """All black, hence small; its pixels take 3 · side² bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + 3 * side)), 1)
    parts = png_chunk(b"IHDR", header), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_the_header_of_a_file_of_50_megabytes_costs_nothing():
    side = 4000
    data = large_png(side)[:-12]
    data += png_chunk(b"fdAT", bytes(50_000_000 - len(data))) + png_chunk(b"IEND", b"")
    jpeg = file_of(PIL.Image.fromarray(photograph()), "JPEG") + bytes(50_000_000)
    tiff = file_of(PIL.Image.new("RGB", (side, side)), "TIFF")
    for file, width in ((data, side), (jpeg, 64), (tiff, side)):
        started = time.process_time()
        tracemalloc.start()
        header = read_header(file, max_pixels=10**8, max_side_px=side)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert header.width_px == width
        assert peak < 5_000_000
        assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "data",
    [
        large_png(4)[:33] + png_chunk(b"fdAt", b"") * 4_000_000,
        b"\xff\xd8" + b"\xff\xe5\x00\x02" * 12_000_000,
        file_of(PIL.Image.new("P", (8, 8)), "GIF")[:13] + b"!\xfe\x01a\x00" * 10_000_000,
    ],
    ids=["png", "jpeg", "gif"],
)
def test_a_header_in_millions_of_pieces_is_refused_at_once(data):
    started = time.process_time()
    with pytest.raises(InvalidImage, match="broken or incomplete"):
        read_header(data, **LIMITS)
    assert time.process_time() - started < 3


def test_a_png_that_says_behind_its_pixels_how_it_is_turned_is_decoded_upright():
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = file_of(PIL.Image.fromarray(photograph(48, 64)), "PNG")
    late = data[:-12] + png_chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:]
    image = read(late).image
    assert (image.width_px, image.height_px) == (48, 64)
    assert size_of(late) == (48, 64)
