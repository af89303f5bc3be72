"""HEIC and HEIF files, by libheif."""

import io

from pillow_heif import HeifImageFile


def open_heif(data: bytes, _header_only: bool) -> HeifImageFile:
    """A HEIF file's primary picture, with its header read.

    libheif turns the picture upright itself, and decodes no larger one than the header tells.

    Raises:
        SyntaxError: it is broken, or its codec is not HEVC.
    """
    return HeifImageFile(io.BytesIO(data))
