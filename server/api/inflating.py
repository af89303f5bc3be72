"""Bodies with a `Content-Encoding`: inflated step by step, so that a bomb ends at the limit."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from typing import Final

from anyio.lowlevel import checkpoint

from server.errors import BadEncoding

_STEP_BYTES: Final = 2**18
_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
# The first byte of zlib's format; "deflate" is sent with and without it.
_ZLIB_METHOD: Final = 8


class NotInflatable(ValueError):
    """A body is not compressed as its `Content-Encoding` says, or is cut off."""


def encoding_of(headers: Iterable[str]) -> str | None:
    """How a body is compressed: `gzip` or `deflate`; None: not at all.

    Args:
        headers: the values of `Content-Encoding`.

    Raises:
        BadEncoding: in another way, or in several.
    """
    named = [name.strip().lower() for name in ",".join(headers).split(",")]
    match [name for name in named if name not in ("", "identity")]:
        case []:
            return None
        case ["gzip" | "x-gzip" | "deflate" as name]:
            return name.removeprefix("x-")
    raise BadEncoding


async def inflated(chunks: AsyncIterator[bytes], encoding: str) -> AsyncGenerator[bytes, None]:
    """What `chunks` hold, in pieces of bounded size. `encoding`: see `encoding_of`.

    Raises:
        NotInflatable: it is not compressed like that, or is cut off.
    """
    inflater = _Inflater(encoding)
    try:
        async for chunk in chunks:
            for piece in inflater.add(chunk):
                yield piece
                await checkpoint()
        inflater.end()
    except zlib.error as error:
        raise NotInflatable(str(error)) from error


async def limited(
    chunks: AsyncIterator[bytes], max_bytes: int, problem: Exception
) -> AsyncGenerator[bytes, None]:
    """`chunks` as they are; `problem` is raised as soon as there are more than `max_bytes`."""
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > max_bytes:
            raise problem
        yield chunk


class _Inflater:
    """Inflates one stream; gzip may have several members."""

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding == "gzip"
        self._stream = zlib.decompressobj(_GZIP) if self._is_gzip else None

    def add(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes give, at most `_STEP_BYTES` at a time."""
        while data:
            if self._stream is None:
                wrapped = data[0] & 0xF == _ZLIB_METHOD
                self._stream = zlib.decompressobj(zlib.MAX_WBITS if wrapped else _RAW)
            elif self._stream.eof and self._is_gzip:
                self._stream = zlib.decompressobj(_GZIP)
            elif self._stream.eof:
                raise zlib.error("there are bytes after its end")
            piece = self._stream.decompress(data, _STEP_BYTES)
            yield piece
            data = self._stream.unconsumed_tail or self._stream.unused_data
            # A full piece may leave more behind, or the stream's end, though all bytes are taken.
            while not data and not self._stream.eof and len(piece) == _STEP_BYTES:
                piece = self._stream.decompress(b"", _STEP_BYTES)
                yield piece

    def end(self) -> None:
        """The last byte has come.

        Raises:
            zlib.error: that is too early.
        """
        if self._stream is None or not self._stream.eof:
            raise zlib.error("it ends too early")
