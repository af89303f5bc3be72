"""Pictures as files: JPEG, PNG or WebP."""

import io
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from pipeline.errors import InvalidValue
from pipeline.files.metadata import Metadata
from pipeline.types import Image

ImageFormat = Literal["jpeg", "png", "webp"]

MAX_SIDE_PX: Final[Mapping[ImageFormat, int]] = {"jpeg": 65500, "webp": 16383}
"""The longest side that a format holds: libjpeg's JPEG_MAX_DIMENSION and libwebp's
WEBP_MAX_DIMENSION. PNG's limit, 2³¹ − 1, is never met.
"""

# A third of the time of zlib's default, 6, for 4 % more bytes (2048² photograph: 0.9 s, 2.7 s).
_PNG_LEVEL: Final = 4


def _srgb_profile() -> bytes:
    """The sRGB profile, its creation date (header bytes 24–35) fixed: same picture, same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes([7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]) + profile[36:]


_SRGB: Final = _srgb_profile()


def encode(
    image: Image,
    alpha: NDArray[np.uint8] | None,
    image_format: ImageFormat,
    quality: int,
    metadata: Metadata = Metadata(),  # noqa: B008 - frozen
) -> bytes:
    """The picture as a file with the sRGB profile in it; the same arguments give the same bytes.

    Args:
        image: the picture.
        alpha: (H, W) uint8 of the same size, 255 = opaque, or None. JPEG has no alpha: there the
            picture is laid on white.
        image_format: `jpeg`, `png` or `webp`.
        quality: 1–100, without effect on PNG. From 90 on, JPEG stores colour at full resolution.
        metadata: what the file says beside its pixels. WebP tells its resolution in EXIF.

    Raises:
        InvalidValue: the format holds no picture of this size.
    """
    limit_px = MAX_SIDE_PX.get(image_format)
    if limit_px is not None and max(image.width_px, image.height_px) > limit_px:
        size = f"{image.width_px} × {image.height_px}"
        raise InvalidValue(
            f"expected at most {limit_px} pixels a side for {image_format}, got {size}"
        )
    pixels = image.pixels
    if alpha is not None:
        pixels = _on_white(pixels, alpha) if image_format == "jpeg" else np.dstack([pixels, alpha])
    source, file = PIL.Image.fromarray(pixels), io.BytesIO()
    options: dict[str, Any] = {"icc_profile": _SRGB}
    if metadata.dpi is not None:
        options["dpi"] = metadata.dpi
    if metadata.exif is not None or image_format == "webp":
        options["exif"] = metadata.as_exif() or b""
    if image_format == "jpeg":
        return _jpeg(source, quality, options)
    if image_format == "png":
        source.save(file, "PNG", compress_level=_PNG_LEVEL, **options)
    else:
        source.save(file, "WEBP", quality=quality, method=4, **options)
    return file.getvalue()


def _jpeg(source: PIL.Image.Image, quality: int, options: Mapping[str, Any]) -> bytes:
    def save(*, optimize: bool) -> bytes:
        file = io.BytesIO()
        subsampling = 0 if quality >= 90 else 2
        source.save(
            file, "JPEG", quality=quality, subsampling=subsampling, optimize=optimize, **options
        )
        return file.getvalue()

    try:
        return save(optimize=True)
    except OSError:
        # Pillow's buffer for an optimized file is two bytes a pixel, and noise needs more.
        return save(optimize=False)


def _on_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = alpha[:, :, None].astype(np.uint32)
    return ((pixels * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
