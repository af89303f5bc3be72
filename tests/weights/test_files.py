"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from weights.files import replacing, write_file


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "new" / "figures.json"
    write_file(file, b"{}")
    assert file.read_bytes() == b"{}"
    assert list(file.parent.iterdir()) == [file]


def test_what_was_there_stays_until_the_new_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(file) as part:
            part.write_bytes(b"half")
            assert file.read_bytes() == b"old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_two_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with replacing(file) as slow:
        slow.write_bytes(b"slow")
        write_file(file, b"quick")
    assert file.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [file]
