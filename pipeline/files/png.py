"""PNG files as browsers read them: what is not the picture itself never refuses it.

Pillow calls a file broken for a long text or a wrong checksum beside the pixels. So it gets the
file without those: the chunks that make the picture and, where they are sound, the few others that
say how to show it. Format: PNG specification, third edition.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pipeline.files.gamma import gamma_profile

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

# libpng's limit for what a compressed chunk grows to (PNG_USER_CHUNK_MALLOC_MAX); larger ones are
# overlooked.
_LONGEST: Final = 8_000_000
# Pillow's own limit for texts.
_LONGEST_TEXT: Final = 1_000_000
# What is kept beside the picture, in Pillow's order, and how long it may be.
_LENGTHS: Final[Mapping[bytes, range]] = {
    b"tRNS": range(1, 257),
    b"gAMA": range(4, 5),
    b"cHRM": range(32, 33),
    b"sRGB": range(1, 2),
    b"cICP": range(4, 5),
    b"pHYs": range(9, 10),
    b"iCCP": range(4, _LONGEST),
    b"eXIf": range(8, _LONGEST),
    b"tEXt": range(1, _LONGEST_TEXT),
    b"zTXt": range(1, _LONGEST_TEXT),
    b"iTXt": range(1, _LONGEST_TEXT),
}
# By colour type: grey and RGB name one transparent colour, palettes list alphas.
_TRNS_LENGTHS: Final[Mapping[int, range]] = {
    0: range(2, 3),
    2: range(6, 7),
    3: _LENGTHS[b"tRNS"],
}
# Of the texts only those that say how the picture is turned: Adobe's, and ImageMagick's EXIF.
_TEXT: Final = re.compile(
    rb"(?:XML:com\.adobe\.xmp|Raw profile type (?:exif|APP1))\0"
    rb"(?:\0(?P<zTXt>.*)|\x01(?P<iTXt>\0[^\0]*\0[^\0]*\0.*)|.*)",
    re.DOTALL,
)

# A file is broken if its pixels have not begun after so many chunks; for the header alone it is not
# looked through any further.
_HEADER_CHUNKS: Final = 50_000
# After a wrong length, so many places are tried that look like the next chunk.
_RESYNC_TRIES: Final = 20
_KNOWN: Final = re.compile(b"IDAT|PLTE|IEND|" + b"|".join(_LENGTHS))
_UINT16: Final = struct.Struct(">H")
# Bit depth and colour type of RGB of 16 bits.
_RGB_16: Final = b"\x10\x02"


class _KeyedPngFile(PngImageFile):
    """RGB of 16 bits with one transparent colour; RGBA once it is loaded.

    Pillow keeps the high bytes alone, which many colours share.
    """

    def load(self) -> Any:
        keyed = self.info.pop("transparency", None) is not None
        file = self.fp.getvalue() if keyed and isinstance(self.fp, io.BytesIO) else None
        pixels = super().load()
        if file is None:
            return pixels
        # Loads its codecs for a third of a second, which most processes never need.
        import imagecodecs

        alpha = imagecodecs.png_decode(file)[:, :, 3] >> 8
        self.putalpha(Image.fromarray(alpha.astype(np.uint8)))
        return super().load()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """`body`: what it holds, as far as the file goes; `crc`: what stands behind it."""

    kind: bytes
    body: memoryview
    crc: bytes

    @property
    def is_sound(self) -> bool:
        return self.crc == _crc(self.kind, self.body)


def open_png(data: bytes, header_only: bool) -> PngImageFile:
    """A PNG file with its header read; of an animation, the still picture that comes first.

    `info["icc_profile"]` is the colour profile, also where that follows from `gAMA` and `cHRM`.

    Args:
        data: the file.
        header_only: for its size and orientation; pixels and profile are left out.

    Raises:
        SyntaxError, ValueError, OSError, struct.error: it is broken.
    """
    found, pixels = dict[bytes, memoryview](), list[memoryview]()
    for number, chunk in enumerate(_walk(data)):
        if number == _HEADER_CHUNKS and (header_only or not pixels):
            break
        if chunk.kind == b"IDAT":
            pixels.append(chunk.body[:0] if header_only else chunk.body)
        elif chunk.kind in (b"IHDR", b"PLTE") and not chunk.is_sound:
            raise SyntaxError(f"a broken chunk: {chunk.kind!r}")
        elif chunk.kind in (b"IHDR", b"PLTE") or _is_useful(chunk):
            found.setdefault(chunk.kind, chunk.body)
    if not pixels or len(found.get(b"IHDR", b"")) < 13:
        raise SyntaxError("no header or no pixels")
    if len(found.get(b"tRNS", b"")) not in _TRNS_LENGTHS.get(found[b"IHDR"][9], ()):
        found.pop(b"tRNS", None)
    elif found[b"IHDR"][9] in (0, 2):
        found[b"tRNS"] = memoryview(_key(found[b"tRNS"], *found[b"IHDR"][8:10]))
    profile = None if header_only else _profile(found)
    kept = [kind for kind in (b"IHDR", b"PLTE", *_LENGTHS) if kind in found and kind != b"iCCP"]
    parts = [part for kind in kept for part in _encoded(kind, found[kind])]
    file = b"".join([_SIGNATURE, *parts, *_encoded(b"IDAT", *pixels), *_encoded(b"IEND")])
    reader = (
        _KeyedPngFile
        if bytes(found[b"IHDR"][8:10]) == _RGB_16 and b"tRNS" in found
        else PngImageFile
    )
    image = reader(io.BytesIO(file))
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def _key(body: memoryview, depth: int, colour_type: int) -> bytes:
    """The transparent colour as Pillow compares it.

    Bits beyond the depth don't count. Pillow spreads grey of 2 and 4 bits over 8, but not the key;
    of 1 bit, it does.
    """
    top = 2**depth - 1
    is_spread = colour_type == 0 and depth in (2, 4)
    values = [
        (value & top) * (255 // top if is_spread else 1) for (value,) in _UINT16.iter_unpack(body)
    ]
    return struct.pack(f">{len(values)}H", *values)


def _walk(data: bytes) -> Iterator[_Chunk]:
    """The file's chunks, up to IEND or to where it breaks off."""
    view, at = memoryview(data), len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if not kind.isalpha() or kind == b"IEND":
            return
        end = at + 8 + length
        chunk = _Chunk(kind, view[at + 8 : end], data[end : end + 4])
        yield chunk
        is_right = kind == b"IDAT" or _begins_chunk(data, end + 4) or chunk.is_sound
        at = end + 4 if is_right else _resync(data, at + 8)


def _begins_chunk(data: bytes, at: int) -> bool:
    if at + 12 > len(data):
        return False
    length, kind = struct.unpack_from(">I4s", data, at)
    return bool(kind.isalpha()) and at + 12 + length <= len(data)


def _resync(data: bytes, start: int) -> int:
    """Where the next chunk begins after one of a wrong length; the file's end if none does."""
    matches = _KNOWN.finditer(data, start)
    for _, match in zip(range(_RESYNC_TRIES), matches, strict=False):
        begin, body = match.start() - 4, match.end()
        end = body + int.from_bytes(data[begin : begin + 4], "big")
        if _Chunk(match[0], memoryview(data)[body:end], data[end : end + 4]).is_sound:
            return begin
    return len(data)


def _is_useful(chunk: _Chunk) -> bool:
    if len(chunk.body) not in _LENGTHS.get(chunk.kind, ()):
        return False
    if chunk.kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return chunk.is_sound
    text = _TEXT.fullmatch(chunk.body)
    if text is None or not chunk.is_sound:
        return False
    deflated = text.groupdict().get(chunk.kind.decode())
    if deflated is None:
        return True
    packed = deflated.split(b"\0", 3)[3] if chunk.kind == b"iTXt" else deflated
    return _inflated(packed, _LONGEST_TEXT) is not None


def _inflated(packed: bytes | memoryview, limit: int) -> bytes | None:
    """What was compressed; None if it is broken, or longer than `limit`."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, limit)
    except zlib.error:
        return None
    return text if unpacker.eof else None


def _profile(found: Mapping[bytes, memoryview]) -> bytes | None:
    """The profile that the pixels are in; None: sRGB, or no word of it.

    What stands first counts: cICP, iCCP, sRGB, gAMA with or without cHRM. cICP names spaces of
    video, and is taken for sRGB.
    """
    if b"cICP" in found:
        return None
    if b"iCCP" in found:
        _name, _, packed = bytes(found[b"iCCP"]).partition(b"\0")
        profile = _inflated(packed[1:], _LONGEST) if packed[:1] == b"\0" else None
        if profile is not None:
            return profile
    if b"sRGB" in found or b"gAMA" not in found:
        return None
    chromaticities = struct.unpack(">8I", found[b"cHRM"]) if b"cHRM" in found else None
    return gamma_profile(int.from_bytes(found[b"gAMA"], "big"), chromaticities)


def _encoded(kind: bytes, *bodies: memoryview) -> list[bytes | memoryview]:
    length = sum(map(len, bodies))
    return [struct.pack(">I", length), kind, *bodies, _crc(kind, *bodies)]


def _crc(kind: bytes, *bodies: memoryview) -> bytes:
    value = zlib.crc32(kind)
    for body in bodies:
        value = zlib.crc32(body, value)
    return value.to_bytes(4, "big")
