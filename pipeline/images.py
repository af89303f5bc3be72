"""Bytes to arrays and back. The only module that knows Pillow."""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ExifTags, ImageCms, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pipeline.errors import ImageTooLarge, InvalidImage, InvalidValue
from pipeline.types import Image

ImageFormat = Literal["jpeg", "png", "webp"]

# Nobody here could act on Pillow's remarks on odd files, and `decode` checks sizes itself. Set
# once, because `warnings.catch_warnings` around a call is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Called directly, not through PIL.Image.open: no other format is tried on foreign bytes, and the
# size limits are `decode`'s arguments, not Pillow's process-wide one.
_READERS: Final[tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...]] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
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

# Modes that ICC profiles of a colour space speak of.
_PROFILE_MODES: Final = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}

# libjpeg's JPEG_MAX_DIMENSION and libwebp's WEBP_MAX_DIMENSION; PNG's limit, 2³¹ − 1, is never met.
_MAX_SIDE_PX: Final[dict[ImageFormat, int]] = {"jpeg": 65500, "webp": 16383}

# A third of the time of zlib's default, 6, for 4 % more bytes (2048² photograph: 0.9 s, 2.7 s).
_PNG_LEVEL: Final = 4


def _srgb_profile() -> bytes:
    """The sRGB profile, its creation date (header bytes 24–35) fixed: same picture, same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes([7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]) + profile[36:]


_SRGB: Final = _srgb_profile()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded file: sRGB pixels, upright.

    `alpha`: (H, W) uint8, 255 = opaque; None where the file has no transparency.
    """

    image: Image
    alpha: NDArray[np.uint8] | None


def decode(data: bytes, *, max_pixels: int, max_side_px: int) -> Picture:
    """Read a PNG, JPEG, WebP, BMP, GIF (first frame) or TIFF file.

    EXIF orientation is applied, an embedded ICC profile is converted to sRGB (a broken one is
    ignored), transparency is set aside; grey, palette, CMYK, 16-bit and float pictures become
    8-bit RGB.

    Raises:
        ImageTooLarge: the header tells more than `max_pixels`, or a side longer than
            `max_side_px`; no pixel was decoded.
        InvalidImage: the bytes are no picture of these formats, or a broken one.
    """
    reader = next((reader for magic, reader in _READERS if magic.match(data)), None)
    if reader is None:
        raise InvalidImage(
            "the file is not a PNG, JPEG, WebP, BMP, GIF or TIFF picture"
            if data
            else "the file is empty"
        )
    try:
        image: PIL.Image.Image = reader(io.BytesIO(data))
        _check_size(image.size, max_pixels, max_side_px)
        image.load()
        # A GIF frame may reach beyond the size in the header.
        _check_size(image.size, max_pixels, max_side_px)
        return _convert(_upright(image))
    except InvalidImage:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"the picture is too large, at most {max_pixels} pixels are allowed"
        ) from error
    except Exception as error:
        # A broken file makes Pillow's readers raise whatever they like.
        raise InvalidImage("the file is broken or incomplete and cannot be read") from error


def _check_size(size_wh: tuple[int, int], max_pixels: int, max_side_px: int) -> None:
    width, height = size_wh
    size = f"the picture has {width} × {height} pixels"
    if max(size_wh) > max_side_px:
        raise ImageTooLarge(f"{size}, at most {max_side_px} pixels a side are allowed")
    if width * height > max_pixels:
        raise ImageTooLarge(f"{size}, at most {max_pixels} pixels are allowed")


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - as in decode; broken metadata is no reason to refuse good pixels
        return image
    transpose = _TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
    return image if transpose is None else image.transpose(transpose)


def _convert(image: PIL.Image.Image) -> Picture:
    profile = image.info.get("icc_profile")
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F"))
    alpha: NDArray[np.uint8] | None = None
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
    if image.mode != "CMYK":
        image = image.convert("RGB").convert("L") if grey else image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    return Picture(Image(np.array(image.convert("RGB"))), alpha)


def _eight_bit(image: PIL.Image.Image) -> PIL.Image.Image:
    """Grey of 16 bits, 32 bits or floats as 8 bits.

    16-bit values keep their high byte, as Pillow does for 16-bit RGB: a value of 8 bits that was
    widened, by shifting or by repeating, comes back exactly. Other modes don't tell which value is
    white: the smallest usual one that holds them all is taken.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        bits = 12 if isinstance(image, TiffImageFile) and image.tag_v2.get(258) == (12,) else 16
        return PIL.Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    levels = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(levels.max())
    white = next((white for white in (1.0, 255.0, 65535.0) if top <= white), top)
    return PIL.Image.fromarray((np.clip(levels / white, 0, 1) * 255 + 0.5).astype(np.uint8))


def _to_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """An L, RGB or CMYK picture as sRGB; as it came if the profile is broken or of another kind."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES.get(source.profile.xcolor_space)
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if mode != image.mode:
            return image
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
    return image if converted is None else converted


def encode(
    image: Image, alpha: NDArray[np.uint8] | None, image_format: ImageFormat, quality: int
) -> bytes:
    """The picture as a file with the sRGB profile in it; the same arguments give the same bytes.

    Args:
        image: the picture.
        alpha: (H, W) uint8 of the same size, 255 = opaque, or None. JPEG has no alpha: there the
            picture is laid on white.
        image_format: `jpeg`, `png` or `webp`.
        quality: 1–100, without effect on PNG. From 90 on, JPEG stores colour at full resolution.

    Raises:
        InvalidValue: the format holds no picture of this size.
    """
    limit_px = _MAX_SIDE_PX.get(image_format)
    if limit_px is not None and max(image.width_px, image.height_px) > limit_px:
        size = f"{image.width_px} × {image.height_px}"
        raise InvalidValue(
            f"expected at most {limit_px} pixels a side for {image_format}, got {size}"
        )
    pixels = image.pixels
    if alpha is not None:
        pixels = _on_white(pixels, alpha) if image_format == "jpeg" else np.dstack([pixels, alpha])
    source, file = PIL.Image.fromarray(pixels), io.BytesIO()
    if image_format == "jpeg":
        subsampling = 0 if quality >= 90 else 2
        source.save(
            file, "JPEG", quality=quality, subsampling=subsampling, optimize=True, icc_profile=_SRGB
        )
    elif image_format == "png":
        source.save(file, "PNG", compress_level=_PNG_LEVEL, icc_profile=_SRGB)
    else:
        source.save(file, "WEBP", quality=quality, method=4, icc_profile=_SRGB)
    return file.getvalue()


def _on_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = alpha[:, :, None].astype(np.uint32)
    return ((pixels * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def resize_alpha(alpha: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Alpha, (H, W) uint8, `factor` times as wide and as high, by Lanczos."""
    height, width = alpha.shape
    size_wh = (width * factor, height * factor)
    return np.array(PIL.Image.fromarray(alpha).resize(size_wh, PIL.Image.Resampling.LANCZOS))
