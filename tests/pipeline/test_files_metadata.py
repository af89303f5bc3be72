"""Results keep the resolution, and on demand the EXIF: not where, how turned, or thumbnails."""

import io

import numpy as np
import PIL.Image
import pytest
from picture_files import file_of, photograph
from PIL.ExifTags import IFD, Base

from pipeline.encoding import encode
from pipeline.images import decode
from pipeline.types import Image

FORMATS = ["jpeg", "png", "webp"]
LIMITS = {"max_pixels": 10**6, "max_side_px": 4096}
UPRIGHT = PIL.Image.fromarray(photograph())


def camera_exif(orientation: int = 1) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Nikon", "D850"
    exif[Base.Artist], exif[Base.Copyright] = "Jörg", "© Jörg"
    exif[Base.DateTime] = "2020:02:03 04:05:06"
    exif[Base.Orientation] = orientation
    exif[Base.XResolution] = exif[Base.YResolution] = 240.0
    exif[Base.ResolutionUnit] = 2
    exif.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: "2020:02:03 04:05:06",
            Base.ExposureTime: 0.008,
            Base.LensModel: "50 mm f/1.4",
            Base.MakerNote: b"Nikon\0" + bytes(500),
            Base.ColorSpace: 65535,
            Base.ExifImageWidth: 64,
        }
    )
    exif.get_ifd(IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return exif


def result_of(data: bytes, image_format: str, keep_exif: bool = False) -> PIL.Image.Image:
    """What becomes of a file, twice as large, opened."""
    picture = decode(data, **LIMITS, keep_exif=keep_exif)
    large = Image(np.ascontiguousarray(picture.image.pixels.repeat(2, axis=0).repeat(2, axis=1)))
    file = encode(large, None, image_format, 90, picture.metadata)
    return PIL.Image.open(io.BytesIO(file))


def dpi_of(image: PIL.Image.Image) -> tuple[float, float] | None:
    exif = image.getexif()
    if image.format == "WEBP" and Base.XResolution in exif:
        assert exif[Base.ResolutionUnit] == 2
        return float(exif[Base.XResolution]), float(exif[Base.YResolution])
    return image.info.get("dpi")


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "BMP"])
def test_the_resolution_is_kept(source, image_format):
    dpi = dpi_of(result_of(file_of(UPRIGHT, source, dpi=(300, 200)), image_format))
    assert dpi == pytest.approx((300, 200), abs=0.02)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "WEBP", "AVIF", "HEIF", "PNG"])
def test_a_resolution_that_stands_in_exif_is_kept(source, image_format):
    data = file_of(UPRIGHT.copy(), source, exif=camera_exif())
    assert dpi_of(result_of(data, image_format)) == pytest.approx((240, 240), abs=0.02)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_turned_picture_has_its_resolution_turned(image_format):
    exif = PIL.Image.Exif()
    exif[Base.Orientation] = 6
    data = file_of(UPRIGHT, "JPEG", dpi=(300, 200), exif=exif)
    assert dpi_of(result_of(data, image_format)) == pytest.approx((200, 300), abs=0.02)


def test_pixels_per_centimetre_count():
    data = file_of(UPRIGHT, "TIFF", resolution_unit="cm", x_resolution=100.0, y_resolution=100.0)
    assert dpi_of(result_of(data, "png")) == pytest.approx((254, 254), abs=0.02)


def without_resolution() -> bytes:
    exif = camera_exif()
    del exif[Base.XResolution], exif[Base.YResolution]
    return file_of(UPRIGHT, "JPEG", exif=exif)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize(
    "data",
    [
        file_of(UPRIGHT, "JPEG"),
        file_of(UPRIGHT, "PNG"),
        file_of(UPRIGHT, "GIF"),
        file_of(UPRIGHT, "TIFF"),
        without_resolution(),
        file_of(UPRIGHT, "PNG", dpi=(0, 0)),
        file_of(UPRIGHT, "PNG", dpi=(10_000_000, 10_000_000)),
    ],
)
def test_none_is_made_up(data, image_format):
    result = result_of(data, image_format)
    assert dpi_of(result) is None
    assert not result.getexif()


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "WEBP", "PNG"])
def test_exif_is_dropped(source, image_format):
    exif = result_of(file_of(UPRIGHT, source, exif=camera_exif()), image_format).getexif()
    resolution = {Base.XResolution, Base.YResolution, Base.ResolutionUnit}
    assert set(exif) == (resolution if image_format == "webp" else set())


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "WEBP", "PNG", "AVIF", "HEIF"])
def test_exif_is_kept_on_demand_without_places_turns_and_thumbnails(source, image_format):
    data = file_of(UPRIGHT.copy(), source, exif=camera_exif(orientation=6))
    result = result_of(data, image_format, keep_exif=True)
    exif, details = result.getexif(), result.getexif().get_ifd(IFD.Exif)
    assert result.size == (96, 128)
    assert (exif[Base.Make], exif[Base.Model]) == ("Nikon", "D850")
    assert exif[Base.DateTime] == "2020:02:03 04:05:06"
    assert details[Base.DateTimeOriginal] == "2020:02:03 04:05:06"
    assert details[Base.LensModel] == "50 mm f/1.4"
    assert float(details[Base.ExposureTime]) == pytest.approx(0.008)
    assert details[Base.ColorSpace] == 1
    assert float(exif[Base.XResolution]) == pytest.approx(240)
    assert not {Base.Orientation, Base.GPSInfo, Base.StripOffsets, Base.ImageWidth} & set(exif)
    assert not {Base.MakerNote, Base.ExifImageWidth} & set(details)
    assert not exif.get_ifd(IFD.GPSInfo)
    assert not exif.get_ifd(IFD.IFD1)


def test_of_tiffs_tags_those_are_kept_that_describe_the_picture():
    data = file_of(UPRIGHT, "TIFF", exif=camera_exif(orientation=6), compression="tiff_lzw")
    exif = result_of(data, "png", keep_exif=True).getexif()
    described = {Base.Make, Base.Model, Base.Artist, Base.Copyright, Base.DateTime}
    resolution = {Base.XResolution, Base.YResolution, Base.ResolutionUnit}
    assert set(exif) == described | resolution


def test_a_thumbnail_is_left_behind():
    thumbnail = file_of(UPRIGHT.resize((16, 12)), "JPEG")
    exif = bytearray(camera_exif().tobytes())
    first = 6 + 8 + 2 + 12 * int.from_bytes(exif[14:16], "big" if exif[6:8] == b"MM" else "little")
    order = "big" if exif[6:8] == b"MM" else "little"
    exif[first : first + 4] = (len(exif) - 6).to_bytes(4, order)
    places = [(513, len(exif) - 6 + 30), (514, len(thumbnail))]
    exif += len(places).to_bytes(2, order)
    for tag, value in places:
        exif += tag.to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order)
        exif += value.to_bytes(4, order)
    exif += bytes(4) + thumbnail
    data = file_of(UPRIGHT, "JPEG", exif=bytes(exif))
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert opened.getexif().get_ifd(IFD.IFD1)[514] == len(thumbnail)
    picture = decode(data, **LIMITS, keep_exif=True)
    assert picture.metadata.exif is not None
    assert thumbnail[:100] not in picture.metadata.exif
    assert len(picture.metadata.exif) < 500


@pytest.mark.parametrize("image_format", FORMATS)
def test_broken_or_endless_exif_is_dropped(image_format):
    endless = PIL.Image.Exif()
    endless.get_ifd(IFD.Exif)[Base.UserComment] = bytes(70_000)
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\0\x03junkjunkjunkjunk", endless):
        data = file_of(UPRIGHT, "PNG", exif=exif)
        assert not result_of(data, image_format, keep_exif=True).getexif()
