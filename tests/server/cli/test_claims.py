"""Claims of pictures by processes."""

import errno
import fcntl
import threading
from pathlib import Path

import pytest
from other_runs import claimed_by_another

from server.cli.claims import Claims
from server.settings import Settings


def test_a_claim_keeps_others_off_until_its_process_is_dead(tmp_path: Path) -> None:
    data, mine, theirs = tmp_path / "data", tmp_path / "a.jpg", tmp_path / "b.jpg"
    claims = Claims(Settings(data_dir=data))
    with claimed_by_another(data, theirs) as process:
        assert (claims.is_free(mine), claims.is_free(theirs)) == (True, False)
        (tmp_path / "link").symlink_to(tmp_path)
        assert not claims.is_free(tmp_path / "link" / "b.jpg")
        with claims.claimed(mine) as is_ours, claims.claimed(theirs) as is_theirs:
            assert (is_ours, is_theirs) == (True, False)
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        with claims.claimed(theirs, stop) as is_ours:
            assert not is_ours
        threading.Timer(0.3, process.kill).start()
        with claims.claimed(theirs, threading.Event()) as is_ours:
            assert is_ours
    claims.close()
    assert [file.name for file in data.iterdir()] == ["claims.lock"]


def test_without_a_data_folder_nothing_is_claimed_and_all_is_done() -> None:
    claims = Claims(Settings(data_dir=Path("/proc/none")))
    with claims.claimed(Path("a.jpg")) as is_ours:
        assert is_ours
    claims.close()


@pytest.mark.parametrize(
    ("number", "is_free"), [(errno.EAGAIN, False), (errno.EACCES, False), (errno.ENOLCK, True)]
)
def test_a_lock_that_another_holds_has_either_error_of_posix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_free: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no lock")

    claims = Claims(Settings(data_dir=tmp_path))
    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert claims.is_free(tmp_path / "a.jpg") is is_free
    claims.close()
