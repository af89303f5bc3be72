"""JPEG files, also those that lack nothing but their end, or have odd parts beside the picture."""

import io
from typing import Any, Final

from PIL import ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.files.limited import open_limited

_END: Final = b"\xff\xd9"
_START_OF_SCAN: Final = b"\xff\xda"
# Bits of which no code table makes only zeros.
_FILLER: Final = bytes(range(0x11, 0x99)) * 4


# How long application segments are at least that Pillow looks into, by how they begin.
_SHORTEST: Final = ((b"JFIF", 14), (b"ICC_PROFILE", 15), (b"Adobe", 12))
# APP0 to APP15, and comments.
_BESIDE: Final = frozenset((*range(0xE0, 0xF0), 0xFE))
# More zeros than this at a file's end belong to no picture.
_PADDING: Final = bytes(4)


class UnendedJpegFile(JpegImageFile):
    """A file without end marker, which Pillow waits for before it shows anything.

    The marker is put there. Whether only that was missing shows by other bits in front of it: they
    change the picture, unless its last scan was complete.
    """

    def __init__(self, data: bytes) -> None:
        end = data.rstrip(b"\0") if data.endswith(_PADDING) else data
        self._data = end.removesuffix(_END[:1])
        super().__init__(io.BytesIO(self._data + _END))

    def load(self) -> Any:
        """As Pillow's.

        Raises:
            OSError: more is missing than the end marker.
        """
        if not self.tile:
            return super().load()
        pixels = super().load()
        other = JpegImageFile(io.BytesIO(self._data + _FILLER + _END))
        if ImageChops.difference(self.convert("RGB"), other.convert("RGB")).getbbox():
            raise OSError("the last scan is incomplete")
        return pixels


def open_jpeg(data: bytes, header_only: bool) -> JpegImageFile:
    """A JPEG file with its header read.

    Raises:
        SyntaxError, OSError, …: it is broken.
    """
    try:
        image = open_limited(JpegImageFile, data)
    except SyntaxError:
        data = _without_odd_segments(data)
        image = open_limited(JpegImageFile, data)
    is_unended = data.rfind(_END) < data.rfind(_START_OF_SCAN)
    return UnendedJpegFile(data) if is_unended and not header_only else image


def _without_odd_segments(data: bytes) -> bytes:
    """The file without application segments that are too short for what they begin with."""
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] in _BESIDE:
        segment = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        body = segment[4:]
        if not any(body.startswith(name) and len(body) < least for name, least in _SHORTEST):
            kept.append(segment)
        at += max(len(segment), 2)
    return b"".join([*kept, data[at:]])
