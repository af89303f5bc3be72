"""Reads Qt's compiled resource files, in which GCompris stores its pictures."""

import struct
from collections.abc import Iterator

DIRECTORY = 2
COMPRESSED = 1 | 4  # with zlib or zstd; never used for pictures


def read_resources(rcc: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file that is stored uncompressed.

    Format: https://doc.qt.io/qt-6/rcc.html, as written by qtbase's src/tools/rcc/rcc.cpp.

    Raises:
        ValueError: `rcc` is not a compiled resource file.
    """
    if rcc[:4] != b"qres":
        raise ValueError("expected a compiled Qt resource file")
    version, tree, data, names = struct.unpack_from(">4I", rcc, 4)
    entry_bytes = 14 if version == 1 else 22
    folders = [("", 0)]
    while folders:
        parent, number = folders.pop()
        children, first = struct.unpack_from(">2I", rcc, tree + number * entry_bytes + 6)
        for child in range(first, first + children):
            name, flags = struct.unpack_from(">IH", rcc, tree + child * entry_bytes)
            (letters,) = struct.unpack_from(">H", rcc, names + name)
            start = names + name + 6
            path = f"{parent}/{rcc[start : start + 2 * letters].decode('utf-16-be')}"
            if flags & DIRECTORY:
                folders.append((path, child))
            elif not flags & COMPRESSED:
                (offset,) = struct.unpack_from(">I", rcc, tree + child * entry_bytes + 10)
                (size,) = struct.unpack_from(">I", rcc, data + offset)
                yield path, rcc[data + offset + 4 : data + offset + 4 + size]
