"""Picture files to arrays."""

import io
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from pipeline.files.levels import eight_bit
from pipeline.files.metadata import Metadata, read_metadata
from pipeline.headers import SIDEWAYS, check_size, reading, upright_transpose
from pipeline.types import Image

# Modes that ICC profiles of a colour space speak of.
_PROFILE_MODES: Final = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded file: sRGB pixels, upright.

    `alpha`: (H, W) uint8, 255 = opaque; None where the file has no transparency. `metadata`: what
    results keep of the file, turned with the picture.
    """

    image: Image
    alpha: NDArray[np.uint8] | None
    metadata: Metadata = field(default_factory=Metadata)


def decode(data: bytes, *, max_pixels: int, max_side_px: int, keep_exif: bool = False) -> Picture:
    """Read a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, TIFF, GIF or BMP file; of several pictures the
    first, or the one that the file calls its primary.

    EXIF orientation is applied, an embedded ICC profile is converted to sRGB (a broken one is
    ignored), transparency is set aside; grey, palette, CMYK, 16-bit and float pictures become
    8-bit RGB. The resolution is kept, and EXIF with `keep_exif`.

    Raises:
        ImageTooLarge: the header tells more than `max_pixels`, or a side longer than
            `max_side_px`; no pixel was decoded.
        InvalidImage: the bytes are no picture of these formats, or a broken one.
    """
    with reading(data, max_pixels, max_side_px, header_only=False) as image:
        # Of TIFF it is not there any more once the pixels are.
        metadata = read_metadata(image, keep_exif=keep_exif)
        image.load()
        # A GIF frame may reach beyond the size in the header.
        check_size(image.size, max_pixels, max_side_px)
        transpose = upright_transpose(image)
        if transpose in SIDEWAYS and metadata.dpi is not None:
            metadata = replace(metadata, dpi=metadata.dpi[::-1])
        upright = image if transpose is None else image.transpose(transpose)
        return Picture(*_convert(upright), metadata)


def _convert(image: PIL.Image.Image) -> tuple[Image, NDArray[np.uint8] | None]:
    """The picture in sRGB, and its alpha."""
    profile = image.info.get("icc_profile")
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
    alpha: NDArray[np.uint8] | None = None
    if image.mode.startswith("I;16"):
        image = _eight_bit_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
    if image.mode != "CMYK":
        image = image.convert("RGB").convert("L") if grey else image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    return Image(np.array(image.convert("RGB"))), alpha


def _eight_bit_grey(image: PIL.Image.Image) -> PIL.Image.Image:
    """A picture of 16-bit grey; "LA" if one of its values is transparent."""
    values, key = np.asarray(image), image.info.get("transparency")
    grey = PIL.Image.fromarray(eight_bit(values, 16))
    if key is not None:
        grey.putalpha(PIL.Image.fromarray(np.where(values == key, np.uint8(0), np.uint8(255))))
    return grey


def _to_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """An L, RGB or CMYK picture as sRGB; as it came if the profile is broken or of another kind."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES.get(source.profile.xcolor_space)
        grey = image.mode == "L"
        if mode == "RGB" and grey:
            image = image.convert("RGB")
        if mode != image.mode:
            return image
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
    if converted is None:
        return image
    return converted.convert("L") if grey else converted
