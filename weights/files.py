"""Files that are written whole or not at all."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` for the block to write to; what it wrote takes `file`'s place at once.

    A block that raises, a crash or a full disk leaves what was there before. Missing folders are
    made. Two that write one file at a time do not meet: the later one's stays.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def write_file(file: Path, data: bytes) -> None:
    """Write `data` as `replacing` does.

    Raises:
        OSError: the file or its folder cannot be written.
    """
    with replacing(file) as part:
        part.write_bytes(data)
