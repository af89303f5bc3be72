"""Files come out of Qt's resource files as they went in."""

import struct

import pytest

from training.qt_resources import read_resources


def packed(names: list[str]) -> tuple[bytes, list[int]]:
    """The table of names, and where each begins."""
    table, starts = b"", []
    for name in names:
        starts.append(len(table))
        table += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    return table, starts


def compiled(version: int) -> bytes:
    """`/a/b.txt` with "plain", `/c.txt` with "other", and a compressed file."""
    names, (a, b, c, small) = packed(["a", "b.txt", "c.txt", "small.txt"])
    data = b"".join(struct.pack(">I", len(text)) + text for text in (b"plain", b"other", b"zzzz"))
    dated = b"" if version == 1 else bytes(8)
    tree = dated.join(
        [
            struct.pack(">IHII", 0, 2, 3, 1),
            struct.pack(">IHII", a, 2, 1, 4),
            struct.pack(">IHHHI", c, 0, 0, 1, 9),
            struct.pack(">IHHHI", small, 1, 0, 1, 18),
            struct.pack(">IHHHI", b, 0, 0, 1, 0),
            b"",
        ]
    )
    start = 24
    offsets = (start, start + len(tree), start + len(tree) + len(data))
    return b"qres" + struct.pack(">4I", version, *offsets) + bytes(4) + tree + data + names


@pytest.mark.parametrize("version", [1, 3])
def test_files_are_found_with_their_paths(version: int) -> None:
    found = dict(read_resources(compiled(version)))
    assert found == {"/a/b.txt": b"plain", "/c.txt": b"other"}


def test_another_file_is_named_as_such() -> None:
    with pytest.raises(ValueError, match="expected a compiled Qt resource file"):
        list(read_resources(b"PK\x03\x04"))
