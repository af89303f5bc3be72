"""Bytes in, arrays out, and back: every file form that a client may send."""

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, ImageCms

from pipeline.errors import ImageTooLarge, InvalidImage, InvalidValue
from pipeline.images import Picture, decode, encode, resize_alpha
from pipeline.types import Image

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]


def read(data: bytes, max_pixels: int = 1_000_000, max_side_px: int = 4096) -> Picture:
    return decode(data, max_pixels=max_pixels, max_side_px=max_side_px)


def file_of(image: PIL.Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def photograph(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth RGB, no two sides alike, so that a turn or a swap of channels shows."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / width, y * 255 / height, 60 + 40 * np.sin(x / 9) * np.cos(y / 7)]
    return np.stack(channels, axis=2).astype(np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header_only(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", FORMATS)
def test_reads_each_format(image_format):
    pixels = photograph()
    tolerance = {"JPEG": 16, "WEBP": 16, "GIF": 40}.get(image_format, 0)
    picture = read(file_of(PIL.Image.fromarray(pixels), image_format))
    assert np.abs(picture.image.pixels.astype(int) - pixels).max() <= tolerance
    assert picture.alpha is None


@pytest.mark.parametrize("image_format", ["PPM", "TGA", "ICO", "EPS"])
def test_refuses_other_formats(image_format):
    with pytest.raises(InvalidImage, match="not a PNG, JPEG, WebP, BMP, GIF or TIFF"):
        read(file_of(PIL.Image.fromarray(photograph()), image_format))


def test_the_first_frame_of_an_animation_is_read():
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP", "PNG", "TIFF"):
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
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


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
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


def test_png_gives_the_picture_back_exactly():
    alpha = photograph()[:, :, 1].copy()
    picture = read(encode(Image(photograph()), alpha, "png", 95))
    assert np.array_equal(picture.image.pixels, photograph())
    assert np.array_equal(picture.alpha, alpha)


def test_webp_keeps_alpha():
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :20] = 0
    picture = read(encode(Image(photograph()), alpha, "webp", 95))
    assert np.array_equal(picture.alpha, alpha)


def test_jpeg_lies_on_white():
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, 32:] = 128
    picture = read(encode(Image(np.zeros((48, 64, 3), np.uint8)), alpha, "jpeg", 95))
    assert picture.alpha is None
    assert np.abs(picture.image.pixels[:, :24].astype(int) - 255).max() <= 2
    assert np.abs(picture.image.pixels[:, 40:].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
def test_files_carry_srgb_and_their_format(image_format):
    data = encode(Image(photograph()), None, image_format, 80)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert opened.format == image_format.upper()
        assert opened.size == (64, 48)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert b"\x07\xd0\x00\x01\x00\x01" + bytes(6) in profile.tobytes()[:36]  # no clock in the bytes
    assert data == encode(Image(photograph()), None, image_format, 80)


@pytest.mark.parametrize(("quality", "sampling"), [(95, (1, 1)), (90, (1, 1)), (80, (2, 2))])
def test_jpeg_keeps_full_colour_from_90_on(quality, sampling):
    data = encode(Image(photograph()), None, "jpeg", quality)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert opened.layer[0][1:3] == sampling


def test_quality_counts():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for image_format in ("jpeg", "webp"):
        sizes = [
            len(encode(Image(noise), None, image_format, quality)) for quality in (10, 60, 100)
        ]
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(("image_format", "limit_px"), [("jpeg", 65500), ("webp", 16383)])
def test_a_picture_that_a_format_cannot_hold_gets_a_sentence(image_format, limit_px):
    with pytest.raises(InvalidValue, match=f"at most {limit_px} pixels a side for {image_format}"):
        encode(Image(np.zeros((1, limit_px + 1, 3), np.uint8)), None, image_format, 90)
    assert encode(Image(np.zeros((1, limit_px, 3), np.uint8)), None, image_format, 90)


def test_resize_alpha_is_smooth_and_keeps_flat_parts():
    assert np.array_equal(
        resize_alpha(np.full((3, 5), 255, np.uint8), 4), np.full((12, 20), 255, np.uint8)
    )
    edge = np.zeros((8, 16), np.uint8)
    edge[:, 8:] = 255
    large = resize_alpha(edge, 2)
    assert large.shape == (16, 32)
    assert np.all(large[:, :10] == 0)
    assert np.all(large[:, 22:] == 255)
    assert np.array_equal(large, 255 - large[:, ::-1])
    assert 0 < large[8, 15] < 128 < large[8, 16] < 255
