"""What a picture file tells before any pixel is decoded: its format, its size, its orientation."""

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import PIL.Image
from PIL import ExifTags, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pipeline.errors import ImageTooLarge, InvalidImage
from pipeline.files.heif import open_heif
from pipeline.files.jpeg import open_jpeg
from pipeline.files.jpeg2000 import open_jpeg2000
from pipeline.files.limited import open_limited
from pipeline.files.png import open_png
from pipeline.files.tiff import open_tiff

# Nobody here could act on remarks on odd files, and `decode` checks sizes itself. Set once, because
# `warnings.catch_warnings` around a call is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
for _library in ("PIL", "tifffile"):
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)

# Of a file, and whether only its header is needed.
Opener = Callable[[bytes, bool], ImageFile.ImageFile]


def _by_pillow(reader: type[ImageFile.ImageFile]) -> Opener:
    return lambda data, _header_only: open_limited(reader, data)


# Called directly, not through PIL.Image.open: no other format is tried on foreign bytes, and the
# size limits are `decode`'s arguments, not Pillow's process-wide one. An ISO file's brand, or one
# of those that it is compatible with, tells AVIF from HEIF.
_OPENERS: Final[tuple[tuple[re.Pattern[bytes], Opener], ...]] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), open_png),
    (re.compile(rb"\xff\xd8\xff"), open_jpeg),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _by_pillow(WebPImageFile)),
    (re.compile(rb"BM"), _by_pillow(BmpImageFile)),
    (re.compile(rb"GIF8[79]a"), _by_pillow(GifImageFile)),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), open_tiff),
    (
        re.compile(rb".{4}ftyp(?:avi[fs]|m(?:if1|sf1|iaf).{4}(?:.{4}){0,20}?avi[fs])", re.DOTALL),
        _by_pillow(AvifImageFile),
    ),
    (re.compile(rb".{4}ftyp(?:he[iv][cxms]|m(?:if1|sf1|iaf))", re.DOTALL), open_heif),
    (re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"), open_jpeg2000),
)

# EXIF 2.32, tag 0x0112: what stands a picture of this orientation upright.
_TRANSPOSES: Final = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
SIDEWAYS: Final = frozenset(_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8))


@dataclass(frozen=True, slots=True)
class Header:
    """A file's size, upright, in pixels."""

    width_px: int
    height_px: int


def read_header(data: bytes, *, max_pixels: int, max_side_px: int) -> Header:
    """What a file tells about its picture before any pixel is decoded.

    A PNG file of very many pieces may say in its last ones how it must be turned. These are not
    looked at: width and height are then the other way round.

    Raises:
        ImageTooLarge: more than `max_pixels`, or a side longer than `max_side_px`.
        InvalidImage: the bytes are no picture of the formats that `decode` reads, or break off
            before the pixels begin.
    """
    with reading(data, max_pixels, max_side_px, header_only=True) as image:
        width_px, height_px = image.size
        # Pillow has turned a TIFF file's size already, unless its orientation stands in its XMP.
        turned = isinstance(image, TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation)
        if not turned and upright_transpose(image) in SIDEWAYS:
            width_px, height_px = height_px, width_px
        return Header(width_px, height_px)


@contextlib.contextmanager
def reading(
    data: bytes, max_pixels: int, max_side_px: int, *, header_only: bool
) -> Iterator[ImageFile.ImageFile]:
    """A file with its header read and checked, for a block that decodes its pixels or, with
    `header_only`, does not.

    Raises:
        ImageTooLarge: from the header alone, or in place of Pillow's own error from the block.
        InvalidImage: no picture, a broken one, or in place of what else the block raises.
    """
    opener = next((opener for magic, opener in _OPENERS if magic.match(data)), None)
    if opener is None:
        raise InvalidImage(
            "the file is not a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, GIF or BMP picture"
            if data
            else "the file is empty"
        )
    try:
        image = opener(data, header_only)
        check_size(image.size, max_pixels, max_side_px)
        yield image
    except InvalidImage:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"the picture is too large, at most {max_pixels} pixels are allowed"
        ) from error
    except Exception as error:
        # A broken file makes Pillow's readers raise whatever they like.
        raise InvalidImage("the file is broken or incomplete and cannot be read") from error


def check_size(size_wh: tuple[int, int], max_pixels: int, max_side_px: int) -> None:
    """Refuse a picture of more pixels, or with a longer side.

    Raises:
        ImageTooLarge: the text names the limit.
    """
    width, height = size_wh
    size = f"the picture has {width} × {height} pixels"
    if max(size_wh) > max_side_px:
        raise ImageTooLarge(f"{size}, at most {max_side_px} pixels a side are allowed")
    if width * height > max_pixels:
        raise ImageTooLarge(f"{size}, at most {max_pixels} pixels are allowed")


def upright_transpose(image: PIL.Image.Image) -> PIL.Image.Transpose | None:
    """What stands the picture upright, as far as is known of it. Decodes nothing."""
    try:
        # Not the method of PNG files, which decodes the pixels to look behind them.
        exif = PIL.Image.Image.getexif(image)
    except Exception:  # noqa: BLE001 - as in decode; broken metadata is no reason to refuse good pixels
        return None
    orientation = exif.get(ExifTags.Base.Orientation)
    return _TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
