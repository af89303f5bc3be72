"""JPEG 2000 files, with the colour profile that Pillow passes over.

Format: ISO/IEC 15444-1, annex I.
"""

import io
from typing import Final

from PIL.Jpeg2KImagePlugin import BoxReader, Jpeg2KImageFile

from pipeline.files.limited import open_limited

# METH of a `colr` box: a restricted ICC profile, any ICC profile.
_ICC_METHODS: Final = (2, 3)


def open_jpeg2000(data: bytes, _header_only: bool) -> Jpeg2KImageFile:
    """A JPEG 2000 file, or a bare codestream, with its header read.

    Raises:
        SyntaxError, ValueError, OSError, …: it is broken.
    """
    image = open_limited(Jpeg2KImageFile, data)
    if image.codec == "jp2":
        profile = _profile(data)
        if profile:
            image.info["icc_profile"] = profile
    return image


def _profile(data: bytes) -> bytes | None:
    reader = BoxReader(io.BytesIO(data), len(data))
    while reader.next_box_type() != b"jp2h":
        pass
    header = reader.read_boxes()
    while header.has_next_box():
        if header.next_box_type() == b"colr":
            method, _, _ = header.read_fields(">BBB")
            if method in _ICC_METHODS:
                profile = header.read_fields(f">{header.remaining_in_box}s")[0]
                return profile if isinstance(profile, bytes) else None
    return None
