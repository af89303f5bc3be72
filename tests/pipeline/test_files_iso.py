"""AVIF, HEIC and JPEG 2000: colours, alpha, depth, limits, and which is which."""

import struct

import numpy as np
import PIL.Image
import pytest
from picture_files import file_of, photograph, read
from PIL import ImageCms

from pipeline.errors import ImageTooLarge, InvalidImage
from pipeline.headers import read_header

RGBA = np.dstack([photograph(), photograph()[:, :, 0]])
BEST = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444},
    "JPEG2000": {},
}


@pytest.mark.parametrize("image_format", BEST)
def test_alpha_is_set_aside(image_format):
    picture = read(file_of(PIL.Image.fromarray(RGBA), image_format, **BEST[image_format]))
    assert np.abs(picture.alpha.astype(int) - RGBA[:, :, 3]).max() <= 2
    visible = RGBA[:, :, 3] > 40
    difference = picture.image.pixels.astype(int) - RGBA[:, :, :3]
    assert np.abs(difference[visible]).max() <= 5


@pytest.mark.parametrize("image_format", BEST)
def test_grey_stays_grey(image_format):
    grey = PIL.Image.fromarray(photograph()).convert("L")
    pixels = read(file_of(grey, image_format, **BEST[image_format])).image.pixels
    assert np.ptp(pixels, axis=2).max() == 0
    assert np.abs(pixels[:, :, 0].astype(int) - np.array(grey)).max() <= 2


def test_jpeg_2000_of_16_bits():
    values = np.array([[0, 128, 257 * 100, 257 * 200, 65535] * 4] * 20, np.uint16)
    pixels = read(file_of(PIL.Image.fromarray(values), "JPEG2000")).image.pixels
    assert pixels[0, :5, 0].tolist() == [0, 0, 100, 200, 255]


def test_a_bare_codestream_of_jpeg_2000_is_read():
    data = file_of(PIL.Image.fromarray(photograph()), "JPEG2000", no_jp2=True)
    assert data.startswith(b"\xff\x4f\xff\x51")
    assert np.array_equal(read(data).image.pixels, photograph())


def test_the_icc_profile_of_jpeg_2000_is_applied():
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    data = file_of(PIL.Image.new("RGB", (16, 16), (200, 40, 90)), "JPEG2000")
    at = data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + bytes(profile)
    header = data.index(b"jp2h") - 4
    grown = int.from_bytes(data[header : header + 4], "big") + len(box) - length
    data = (
        data[:header] + grown.to_bytes(4, "big") + data[header + 4 : at] + box + data[at + length :]
    )
    assert np.abs(read(data).image.pixels[8, 8].astype(int) - (40, 200, 90)).max() <= 2


def with_brands(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """The file with other brands; what they take less is filled, since places are counted."""
    length = int.from_bytes(data[:4], "big")
    head = struct.pack(">I4s4sI", 16 + 4 * len(compatible), b"ftyp", major, 0)
    head += b"".join(compatible)
    rest = length - len(head)
    return head + struct.pack(">I4s", rest, b"free").ljust(rest, b"\0") + data[length:]


@pytest.mark.parametrize(
    ("image_format", "major", "compatible"),
    [
        ("AVIF", b"mif1", [b"avif"]),
        ("HEIF", b"mif1", [b"heic"]),
        ("HEIF", b"heix", [b"mif1"]),
        ("AVIF", b"avis", []),
    ],
)
def test_a_brand_tells_which_it_is(image_format, major, compatible):
    if major == b"avis":
        frames = [PIL.Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
        data = file_of(frames[0], "AVIF", save_all=True, append_images=frames[1:])
        assert data[8:12] == b"avis"
    else:
        data = file_of(PIL.Image.new("RGB", (64, 48), "red"), image_format)
        data = with_brands(data, major, *compatible)
    assert np.abs(read(data).image.pixels[20, 20].astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"qt  ", b"crx "])
def test_films_are_no_pictures(brand):
    with pytest.raises(InvalidImage, match="not a PNG, JPEG, WebP, AVIF, HEIC"):
        read(struct.pack(">I4s4s12x", 24, b"ftyp", brand) + bytes(500))


@pytest.mark.parametrize("image_format", BEST)
def test_limits_are_told_from_the_header(image_format):
    data = file_of(PIL.Image.new("RGB", (1500, 1000)), image_format)
    for check in (read, lambda data: read_header(data, max_pixels=10**6, max_side_px=4096)):
        with pytest.raises(ImageTooLarge, match="1500 × 1000 pixels, at most 1000000 pixels"):
            check(data)


@pytest.mark.parametrize("image_format", BEST)
def test_a_header_that_tells_a_smaller_picture_than_there_is(image_format):
    """Is refused, or gives a picture of the size that it told."""
    data = bytearray(file_of(PIL.Image.new("RGB", (1500, 1000)), image_format))
    if image_format == "JPEG2000":
        at = data.index(b"ihdr") + 4
        data[at : at + 8] = struct.pack(">II", 48, 64)
    else:
        at = data.index(b"ispe") + 8
        data[at : at + 8] = struct.pack(">II", 64, 48)
    try:
        image = read(bytes(data)).image
    except InvalidImage:
        return
    assert (image.width_px, image.height_px) == (64, 48)
