"""The files of stored jobs: pictures that wait, and results until they expire. Blocking, safe from
any thread and from several servers on one folder.

    <folder>/store-id                   which store this is: no server claims another store's jobs
    <folder>/inputs/<job>               the picture of a job that waits or runs
    <folder>/results/<token>/<n>.jpg    a job's results; the token cannot be guessed
    <folder>/assets/<account>/<token>   uploaded pictures, which their owner's requests name by URL
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from server.errors import StorageAway, StorageFull

Kind = Literal["inputs", "results", "assets"]

_ENDINGS: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PROBE_BYTES: Final = 2**16
_TOKEN_BYTES: Final = 24
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_RESULT_NAME = re.compile(r"\d{1,2}\.(jpg|png|webp)")
_log = logging.getLogger(__name__)


class JobFiles:
    """A folder of files, bounded in bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """`folder` is made where it is missing, for its owner alone.

        Raises:
            OSError: it cannot be made, read or written.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        for kind in ("inputs", "results", "assets"):
            (folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = self._read_id()
        self._lock = threading.Lock()
        self._used_bytes = self.measure()
        self._failed = False

    def check(self) -> None:
        """See whether the folder can be written again, if it could not be.

        Raises:
            StorageAway, StorageFull: it cannot.
        """
        if self._failed:
            probe = self._folder / f".{secrets.token_hex(8)}"
            try:
                with self._disk_faults():
                    probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                _unlink(probe)

    @property
    def used_bytes(self) -> int:
        """What the files take, as far as this server knows."""
        return self._used_bytes

    def measure(self) -> int:
        """Add up what lies there now: other servers on the folder write and delete too."""
        sizes = (path.stat().st_size for path in self._all() if path.is_file())
        with contextlib.suppress(FileNotFoundError):
            self._used_bytes = sum(sizes)
        return self._used_bytes

    def put_input(self, job_id: str, data: bytes) -> None:
        """Keep a job's picture.

        Raises:
            StorageAway, StorageFull: it cannot be written, or no room is left; nothing was.
        """
        self._write(self._folder / "inputs" / job_id, data)

    def input(self, job_id: str) -> bytes:
        """A job's picture.

        Raises:
            FileNotFoundError: there is none.
        """
        return (self._folder / "inputs" / job_id).read_bytes()

    def put_results(self, pictures: Sequence[bytes], image_format: str) -> tuple[str, list[str]]:
        """Keep a job's results; their token, and their names in order.

        Raises:
            StorageAway, StorageFull: they cannot be written, or no room is left; nothing was.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        names = [f"{number}.{_ENDINGS[image_format]}" for number in range(len(pictures))]
        folder = self._folder / "results" / token
        with self._disk_faults():
            folder.mkdir(mode=0o700)
        try:
            for name, picture in zip(names, pictures, strict=True):
                self._write(folder / name, picture)
        except BaseException:
            self.drop("results", token)
            raise
        return token, names

    def result(self, token: str, name: str) -> Path | None:
        """Where a result lies, if there is one."""
        if not _TOKEN.fullmatch(token) or not _RESULT_NAME.fullmatch(name):
            return None
        path = self._folder / "results" / token / name
        return path if path.is_file() else None

    def put_asset(self, account_id: int, data: bytes) -> str:
        """Keep an account's uploaded picture; its token.

        Raises:
            StorageAway, StorageFull: it cannot be written, or no room is left; nothing was.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        folder = self._folder / "assets" / str(account_id)
        with self._disk_faults():
            folder.mkdir(mode=0o700, exist_ok=True)
        self._write(folder / token, data)
        return token

    def asset(self, account_id: int, token: str) -> bytes | None:
        """An account's uploaded picture, if there is one."""
        if not _TOKEN.fullmatch(token):
            return None
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "assets" / str(account_id) / token).read_bytes()
        return None

    def assets_bytes(self, account_id: int) -> int:
        """What an account's uploaded pictures take."""
        files = _files(self._folder / "assets" / str(account_id))
        return sum(file.stat().st_size for file in files)

    def drop_asset(self, account_id: int, token: str) -> None:
        """Delete an account's uploaded picture, if there is one."""
        self.drop("assets", f"{account_id}/{token}")

    def drop(self, kind: Kind, name: str) -> None:
        """Delete what has this name, if there is something."""
        path = self._folder / kind / name
        # Another server on the folder may delete it at the same time.
        with contextlib.suppress(FileNotFoundError):
            freed = sum(file.stat().st_size for file in _files(path))
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._count(-freed)

    def older_than(self, kind: Kind, age_s: float) -> list[str]:
        """Names of what was written so many seconds ago or earlier."""
        oldest = time.time() - age_s
        names = []
        for path in (self._folder / kind).glob("*/*" if kind == "assets" else "*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime <= oldest:
                    names.append(str(path.relative_to(self._folder / kind)))
        return names

    def _read_id(self) -> str:
        file = self._folder / "store-id"
        with contextlib.suppress(FileExistsError):
            # Written elsewhere and linked into place: no other server reads half of it.
            draft = file.with_name(f".{secrets.token_hex(8)}")
            draft.write_text(secrets.token_hex(16), encoding="ascii")
            try:
                os.link(draft, file)
            finally:
                draft.unlink()
        return file.read_text(encoding="ascii")

    def _write(self, path: Path, data: bytes) -> None:
        """Renamed when complete. The room is taken before, so that threads cannot share it."""
        with self._lock:
            if self._used_bytes + len(data) > self._max_bytes:
                raise StorageFull
            self._used_bytes += len(data)
        part = path.with_name(f".{path.name}.part")
        try:
            with self._disk_faults():
                part.write_bytes(data)
                part.replace(path)
        except StorageAway:
            self._count(-len(data))
            _unlink(part)
            raise

    @contextlib.contextmanager
    def _disk_faults(self) -> Iterator[None]:
        """Name them, and remember whether the last thing that was written failed."""
        try:
            yield
        except OSError as error:
            if not self._failed:
                _log.error("the pictures' folder cannot be written: %s", error)
            self._failed = True
            raise (StorageFull() if error.errno in _FULL else StorageAway()) from error
        self._failed = False

    def _count(self, change_bytes: int) -> None:
        with self._lock:
            self._used_bytes = max(0, self._used_bytes + change_bytes)

    def _all(self) -> Iterator[Path]:
        for kind in ("inputs", "results", "assets"):
            yield from _files(self._folder / kind)


def _unlink(file: Path) -> None:
    """Delete what may be there, and where the disk refuses that too, leave it."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file()]
    return [path] if path.is_file() else []
