"""The files of stored jobs: found again, bounded, and out of a stranger's reach."""

import os
import resource
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.api.files import JobFiles
from server.errors import StorageFull

JOB = "a" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "requests"


@pytest.fixture
def files(folder: Path) -> JobFiles:
    return JobFiles(folder, max_bytes=1000)


def test_an_input_is_kept_until_it_is_dropped(files: JobFiles) -> None:
    files.put_input(JOB, b"picture")
    assert (files.input(JOB), files.used_bytes) == (b"picture", 7)
    files.drop("inputs", JOB)
    files.drop("inputs", JOB)
    assert files.used_bytes == 0
    with pytest.raises(FileNotFoundError):
        files.input(JOB)


def test_results_are_found_by_their_token_alone(files: JobFiles) -> None:
    token, names = files.put_results([b"one", b"two"], "jpeg")
    assert names == ["0.jpg", "1.jpg"]
    found = [files.result(token, name) for name in names]
    assert [path.read_bytes() for path in found if path] == [b"one", b"two"]
    other, _ = files.put_results([b"three"], "png")
    assert len({token, other}) == 2
    assert files.result(other, "0.jpg") is None
    files.drop("results", token)
    assert (files.result(token, "0.jpg"), files.used_bytes) == (None, 5)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "../inputs", "a" * 31, "a/b", "%2e%2e", "a" * 300]
)
@pytest.mark.parametrize("name", ["0.jpg", "../store-id", "store-id", "", "0.jpg/.."])
def test_no_token_or_name_leads_out_of_the_results(files: JobFiles, token: str, name: str) -> None:
    files.put_input(JOB, b"secret")
    assert files.result(token, name) is None
    assert files.asset(1, token) is None
    real, _ = files.put_results([b"one"], "jpeg")
    assert files.result(real, name) is None or name == "0.jpg"


def test_what_is_full_says_so_and_keeps_nothing_of_it(files: JobFiles) -> None:
    files.put_input(JOB, bytes(600))
    with pytest.raises(StorageFull):
        files.put_results([bytes(300), bytes(300)], "png")
    with pytest.raises(StorageFull):
        files.put_asset(1, bytes(500))
    assert files.used_bytes == 600
    files.drop("inputs", JOB)
    files.put_results([bytes(300), bytes(300)], "png")


def test_threads_cannot_share_the_same_room(files: JobFiles) -> None:
    start = threading.Barrier(8)

    def put(_: int) -> bool:
        start.wait()
        try:
            files.put_asset(1, bytes(300))
        except StorageFull:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(put, range(8))) == 3
    assert files.used_bytes == files.measure() == 900


def test_a_server_that_starts_again_counts_what_is_there(files: JobFiles, folder: Path) -> None:
    files.put_input(JOB, bytes(100))
    token, _ = files.put_results([bytes(50)], "webp")
    again = JobFiles(folder, max_bytes=1000)
    assert (again.used_bytes, again.id) == (150, files.id)
    assert again.result(token, "0.webp") is not None


def test_stores_have_ids_of_their_own(tmp_path: Path, files: JobFiles) -> None:
    assert JobFiles(tmp_path / "other", 1000).id != files.id


def test_nobody_else_on_the_machine_may_look(files: JobFiles, folder: Path) -> None:
    files.put_results([b"one"], "png")
    for path in [folder / kind for kind in ("inputs", "results", "assets")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_old_files_are_named(files: JobFiles, folder: Path) -> None:
    old, new = files.put_asset(1, b"old"), files.put_asset(1, b"new")
    os.utime(folder / "assets" / "1" / old, (0, 0))
    assert files.older_than("assets", 3600) == [f"1/{old}"]
    assert set(files.older_than("assets", -1)) == {f"1/{old}", f"1/{new}"}


def test_an_uploaded_picture_is_its_owners(files: JobFiles) -> None:
    token = files.put_asset(1, b"picture")
    assert (files.asset(1, token), files.asset(2, token)) == (b"picture", None)
    assert (files.assets_bytes(1), files.assets_bytes(2)) == (7, 0)
    files.drop_asset(1, token)
    assert (files.asset(1, token), files.used_bytes) == (None, 0)


def test_a_folder_that_cannot_be_written_says_so_until_it_can(folder: Path) -> None:
    files = JobFiles(folder, max_bytes=1_000_000)
    files.check()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        files.check()
        with pytest.raises(StorageFull):
            files.put_results([bytes(8192)], "png")
        with pytest.raises(StorageFull):
            files.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    files.check()
    assert files.used_bytes == files.measure() == 0
