"""Strips and tiles of TIFF files, whose sizes nobody has compared with the limits.

Those that are picture files themselves tell one of their own.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from pipeline.files.jpeg import segments
from pipeline.files.limited import open_limited

if TYPE_CHECKING:
    from tifffile import TiffPage

# Tiles may reach beyond a picture, but not further than those that programs write.
_LARGEST_TILE_PX: Final = 1024
_OTHER_SIZE: Final = "a strip or tile of another size than the directory says"
_JPEG: Final = frozenset((6, 7, 33007, 34892))
# SOF0 to SOF15, without the other markers among them.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_2000: Final = frozenset((33003, 33004, 33005, 34712))
# JPEG XR, LERC, PNG, WebP, JPEG XL.
_OTHERS: Final = frozenset((22610, 34934, 34887, 34933, 34927, 50001, 50002, 52546))


def bound(page: "TiffPage", decompress: Callable[..., Any]) -> None:
    """Make `page` decode no strip and no tile that is larger than its directory says.

    Args:
        page: of a file that stays open.
        decompress: imagecodecs' function for its compression.

    Raises:
        ValueError: the directory's tiles are much larger than the picture.
    """
    beyond = max(page.tilewidth - page.imagewidth, page.tilelength - page.imagelength)
    if beyond > _LARGEST_TILE_PX:
        raise ValueError("tiles that are larger than the picture")
    if page.compression not in _JPEG | _JPEG_2000 | _OTHERS:
        return
    decode = page.decode

    def decode_bounded(data: bytes | None, index: int, **options: Any) -> Any:
        # Without data, it tells where the segment lies and how large it should be.
        _, place, shape = decode(None, index, **options)
        if data is None or shape is None:
            return None, place, shape
        _, height, width, samples = shape
        if page.compression in _JPEG:
            # The last strip may be as high as the others, whose rows are not all in the picture.
            _check_jpeg(data, math.prod(decode(None, 0, **options)[2]))
            return decode(data, index, **options)
        if page.compression in _JPEG_2000:
            _check_jpeg2000(data, (width, height))
        # The codecs compare sizes before they decode anything, but for that of JPEG 2000.
        out = np.empty((height, width) if samples == 1 else (height, width, samples), page.dtype)
        return decompress(data, out=out).reshape(shape), place, shape

    page.decode = decode_bounded


def _check_jpeg(data: bytes, samples: int) -> None:
    # Cameras lay two rows side by side, or two pixels into one: only the product tells.
    for kind, body in segments(data):
        if kind in _JPEG_FRAMES:
            height, width = (int.from_bytes(body[at : at + 2], "big") for at in (1, 3))
            if height * width * body[5] > samples:
                raise ValueError(_OTHER_SIZE)


def _check_jpeg2000(data: bytes, size_wh: tuple[int, int]) -> None:
    if open_limited(Jpeg2KImageFile, data).size != size_wh:
        raise ValueError(_OTHER_SIZE)
