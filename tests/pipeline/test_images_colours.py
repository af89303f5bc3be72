"""A picture is read as it looks: turned, in sRGB, 8 bits a channel, its transparency aside."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
from picture_files import file_of, photograph, png_chunk, read
from PIL import ExifTags, ImageCms


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation_is_applied(orientation, image_format):
    upright = photograph()
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = PIL.Image.fromarray(np.ascontiguousarray(turned))
    options = {"lossless": True} if image_format == "WEBP" else {}
    pixels = read(file_of(stored, image_format, exif=exif, **options)).image.pixels
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= 16


def test_orientation_turns_alpha_too():
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    alpha = photograph()[:, :, 0]
    rgba = PIL.Image.fromarray(np.dstack([photograph(), alpha]))
    picture = read(file_of(rgba, "PNG", exif=exif))
    assert np.array_equal(picture.alpha, np.rot90(alpha, -1))


def test_broken_exif_is_ignored():
    data = file_of(PIL.Image.fromarray(photograph()), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(read(data).image.pixels, photograph())


def wide_profile() -> bytes:
    """An RGB profile with sRGB's curve and red and green primaries swapped: hard to overlook."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_the_icc_profile_is_applied(image_format):
    source = PIL.Image.new("RGB", (16, 16), (200, 40, 90))
    options = {"quality": 100} if image_format != "PNG" else {}
    pixels = read(file_of(source, image_format, icc_profile=wide_profile(), **options)).image.pixels
    assert np.abs(pixels[8, 8].astype(int) - (40, 200, 90)).max() <= 6


def test_the_icc_profile_leaves_alpha_alone_and_serves_palettes():
    source = PIL.Image.new("RGBA", (4, 4), (200, 40, 90, 77))
    picture = read(file_of(source, "PNG", icc_profile=wide_profile()))
    assert np.abs(picture.image.pixels[0, 0].astype(int) - (40, 200, 90)).max() <= 1
    assert picture.alpha.tolist() == [[77] * 4] * 4
    palette = source.convert("RGB").convert("P", palette=PIL.Image.Palette.ADAPTIVE)
    pixels = read(file_of(palette, "PNG", icc_profile=wide_profile())).image.pixels
    assert np.abs(pixels[0, 0].astype(int) - (40, 200, 90)).max() <= 1


def test_a_grey_profile_is_applied():
    """Gamma 1.0: linear light. Half the light is sRGB level 188 (IEC 61966-2-1)."""
    grey = b"curv\0\0\0\0\0\0\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    header = bytearray(128)
    header[8:12], header[12:24] = b"\x02\x10\0\0", b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">iii", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"kTRC", 156, 12, b"wtpt", 168, 20)
    profile = bytes(header) + tags + grey + white
    profile = struct.pack(">I", len(profile)) + profile[4:]
    pixels = read(file_of(PIL.Image.new("L", (4, 4), 128), "PNG", icc_profile=profile)).image.pixels
    assert np.abs(pixels[0, 0].astype(int) - 188).max() <= 2


def test_an_rgb_profile_serves_grey_pictures_too():
    """The same half of the light, by an RGB profile whose curve is a line."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = profile.index(b"para")
    profile[curve + 8 : curve + 16] = struct.pack(">HHi", 0, 0, 65536)  # gamma 1.0
    data = file_of(PIL.Image.new("L", (4, 4), 128), "PNG", icc_profile=bytes(profile))
    assert np.abs(read(data).image.pixels[0, 0].astype(int) - 188).max() <= 1


@pytest.mark.parametrize("profile", [b"junk", b"\0" * 200, wide_profile()[:150]])
def test_a_broken_profile_is_ignored(profile):
    data = file_of(PIL.Image.fromarray(photograph()), "PNG", icc_profile=profile)
    assert np.array_equal(read(data).image.pixels, photograph())


def test_a_profile_of_another_colour_space_is_ignored():
    cmyk = PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixels = read(file_of(cmyk, "TIFF", icc_profile=wide_profile())).image.pixels
    assert np.abs(pixels[4, 4].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_is_converted(image_format):
    cmyk = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = read(file_of(cmyk, image_format)).image.pixels
    assert np.abs(pixels[8, 8].astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_set_aside(mode):
    alpha = photograph()[:, :, 0]
    source = PIL.Image.fromarray(photograph()).convert("L").convert(mode)
    source.putalpha(PIL.Image.fromarray(alpha))
    picture = read(file_of(source, "PNG"))
    assert np.array_equal(picture.alpha, alpha)
    assert np.array_equal(picture.image.pixels, np.array(source.convert("RGB")))


def test_palette_transparency_becomes_alpha():
    source = PIL.Image.new("P", (2, 1))
    source.putpalette([255, 0, 0, 0, 0, 255])
    source.putpixel((1, 0), 1)
    for image_format, transparency, expected in (
        ("GIF", 1, [[255, 0]]),
        ("PNG", 1, [[255, 0]]),
        ("PNG", bytes([128, 255]), [[128, 255]]),
    ):
        picture = read(file_of(source, image_format, transparency=transparency))
        assert picture.alpha.tolist() == expected
        assert picture.image.pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_transparent_colour_becomes_alpha(mode):
    source = PIL.Image.new(mode, (2, 1))
    source.putpixel((1, 0), (255, 255, 255) if mode == "RGB" else 255)
    black = (0, 0, 0) if mode == "RGB" else 0
    picture = read(file_of(source, "PNG", transparency=black))
    assert picture.alpha.tolist() == [[0, 255]]
    assert picture.image.pixels.tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(image_format):
    values = np.array([[0, 128, 257 * 100, 256 * 100, 257 * 200, 65535]], dtype=np.uint16)
    pixels = read(file_of(PIL.Image.fromarray(values), image_format)).image.pixels
    assert pixels[0, :, 0].tolist() == [0, 0, 100, 100, 200, 255]


def test_sixteen_bit_rgb_and_rgba_are_scaled():
    for colour_type, values in ((2, [51400, 25700, 65535]), (6, [51400, 25700, 65535, 32896])):
        header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
        row = b"\0" + struct.pack(f">{len(values)}H", *values)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
        picture = read(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
        assert picture.image.pixels[0, 0].tolist() == [200, 100, 255]
        assert picture.alpha is None if colour_type == 2 else picture.alpha.tolist() == [[128]]


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_tiff_is_scaled_by_its_range(white):
    values = np.array([[0, 0.5, 1, np.nan]], dtype=np.float32) * np.float32(white)
    pixels = read(file_of(PIL.Image.fromarray(values), "TIFF")).image.pixels
    assert pixels[0, :, 1].tolist() == [0, 128, 255, 0]


def test_pictures_are_decoded_in_many_threads_alike():
    data = file_of(PIL.Image.fromarray(photograph()), "PNG", icc_profile=wide_profile())
    expected = read(data).image.pixels
    with ThreadPoolExecutor(8) as pool:
        assert all(
            np.array_equal(picture.image.pixels, expected)
            for picture in pool.map(read, [data] * 64)
        )
