"""JPEG files, also those that lack little but their end, or have odd parts beside the picture.

Format: ITU-T T.81.
"""

import io
import re
from collections.abc import Iterator
from typing import Any, Final

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.files.limited import open_limited

_END: Final = b"\xff\xd9"
_START_OF_SCAN: Final = b"\xff\xda"
# Bits of which no code table makes only zeros, also behind the restart marker that is due.
_BITS: Final = bytes(range(0x11, 0x99)) * 4
_FILLER: Final = _BITS + b"".join(bytes((0xFF, marker)) + _BITS for marker in range(0xD0, 0xD8))
# Markers with a length behind them: what is left out stands within scans and around the file.
_MARKER: Final = re.compile(rb"\xff([^\0\x01\xd0-\xd9\xff])")
_SEQUENTIAL, _PROGRESSIVE, _SCAN = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA), 0xDA
_COEFFICIENTS: Final = 64

# How much of its last scan a file needs: what is missing is grey; or, where that scan only refines
# what others have told, it lacks the last bit.
_LEAST_SHARE: Final = 0.95
_LEAST_REFINED: Final = 0.8
# Less than a row of blocks.
_STRIP_PX: Final = 8

# How long application segments are at least that Pillow looks into, by how they begin.
_SHORTEST: Final = ((b"JFIF", 14), (b"ICC_PROFILE", 15), (b"Adobe", 12))
# APP0 to APP15, and comments.
_BESIDE: Final = frozenset((*range(0xE0, 0xF0), 0xFE))
# More zeros than this at a file's end belong to no picture.
_PADDING: Final = bytes(4)


class UnendedJpegFile(JpegImageFile):
    """A file without end marker, which Pillow waits for before it shows anything.

    The marker is put there. How much else was missing shows by other bits in front of it: they
    change the picture from where its last scan breaks off.
    """

    def __init__(self, data: bytes) -> None:
        self._data = _without_padding(data)
        super().__init__(io.BytesIO(self._data + _END))

    def load(self) -> Any:
        """As Pillow's.

        Raises:
            OSError: more is missing than a small part of the last scan.
        """
        if not self.tile:
            return super().load()
        is_told, refines = _scans(self._data)
        if not is_told:
            raise OSError("scans are missing")
        pixels = super().load()
        other = JpegImageFile(io.BytesIO(self._data + _FILLER + _END))
        difference = ImageChops.difference(self.convert("RGB"), other.convert("RGB"))
        if _equal_share(difference) < (_LEAST_REFINED if refines else _LEAST_SHARE):
            raise OSError("the last scan is incomplete")
        return pixels


def _without_padding(data: bytes) -> bytes:
    """The file without what fills it up: neither bytes of ones nor many zeros belong to a scan."""
    while data.endswith((_END[:1], _PADDING)):
        ones = data.rstrip(_END[:1])
        data = ones.rstrip(b"\0") if ones.endswith(_PADDING) else ones
    return data


def _scans(data: bytes) -> tuple[bool, bool]:
    """Whether the scans tell every bit of every coefficient, if the last one is whole, and whether
    that one only refines what others have told.
    """
    components, told = b"", set[tuple[int, int]]()
    is_progressive = refines = False
    for kind, body in segments(data):
        if kind in _SEQUENTIAL + _PROGRESSIVE:
            is_progressive = kind in _PROGRESSIVE
            components = body[6 : 6 + 3 * body[5] : 3]
        elif kind == _SCAN:
            named = 1 + 2 * body[0]
            first, last, bits = body[named : named + 3] if is_progressive else (0, 63, 0)
            # Its high half: which bit was the last one told before; its low half: which one is now.
            refines = bits >> 4 > 0
            if bits & 0xF == 0:
                told.update((name, i) for name in body[1:named:2] for i in range(first, last + 1))
    return len(told) >= _COEFFICIENTS * len(components), refines


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments of a file that have a length, each by its marker's second byte."""
    at = 0
    while marker := _MARKER.search(data, at):
        begin = marker.end()
        at = begin + max(2, int.from_bytes(data[begin : begin + 2], "big"))
        yield marker[1][0], data[begin + 2 : at]


def _equal_share(difference: Image.Image) -> float:
    """The share of the picture, row by row, before the first block that differs."""
    box = difference.getbbox()
    if box is None:
        return 1
    width, height = difference.size
    top = box[1]
    strip = difference.crop((0, top, width, min(height, top + _STRIP_PX))).getbbox()
    left = strip[0] if strip else 0
    return (top * width + left) / (width * height)


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
