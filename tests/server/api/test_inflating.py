"""Compressed bodies are inflated whole, wherever their pieces end."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from server.api.inflating import inflated

PIECE = 2**18


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
    ids=["gzip", "zlib", "raw"],
)
@pytest.mark.parametrize("level", [PIECE, 2 * PIECE])
def test_bodies_of_every_size_around_a_piece_are_whole(
    encoding: str, pack: Callable[[bytes], bytes], level: int
) -> None:
    async def arriving(packed: bytes, step: int) -> AsyncIterator[bytes]:
        for begin in range(0, len(packed), step):
            yield packed[begin : begin + step]

    async def whole(size: int) -> int:
        packed = pack(b"x" * size)
        pieces = inflated(arriving(packed, len(packed) if size % 2 else 100), encoding)
        return sum([len(piece) async for piece in pieces])

    async def all_sizes() -> None:
        for size in range(level - 2, level + 262):
            assert await whole(size) == size

    asyncio.run(all_sizes())
