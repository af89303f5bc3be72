"""A fetched profile's folder while files are added: one process at a time, by atomic renames."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import filelock

from weights.errors import NoSpace, PullError, WrongFile
from weights.files import write_file
from weights.manifest import sha256_of
from weights.records import Record, read_records, record_of, shipped, write_records
from weights.sources import Download

_PARTS = ".parts"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of one file. "waiting": for another process; "pausing": `wait_s`, because the server
    asks for it; "kept": see `Store.place`.
    """

    path: str
    stage: Literal["waiting", "fetching", "pausing", "checking", "converting", "done", "kept"]
    done_bytes: int = 0
    total_bytes: int | None = None
    wait_s: float = 0.0


OnEvent = Callable[[Event], None]


class Store:
    """The folder, locked by this process. Created by `open_store`."""

    def __init__(self, folder: Path, on_event: OnEvent) -> None:
        self.folder = folder
        self._on_event = on_event
        self._records = read_records(folder)

    def missing(self, files: Collection[Download]) -> list[Download]:
        """The files that are not there as the manifest wants them.

        Files unchanged since they were stored are not read again. Others are; correct files that
        were put there by hand are adopted.
        """
        return [file for file in files if not self._is_right(file)]

    def part(self, file: Download) -> Path:
        """The partial file. Named after its content, so that parts of two files never mix."""
        return self.folder / _PARTS / f"{file.sha256[:16]}-{Path(file.name).name}"

    def check_space(self, files: Collection[Download]) -> None:
        """Check that there is space for these files before the first one is downloaded.

        Raises:
            NoSpace: there is not.
        """
        sizes = [file.bytes for file in files]
        parts = [self.part(file) for file in files]
        there = sum(part.stat().st_size for part in parts if part.exists())
        # During its conversion a file exists twice.
        twice = [file.bytes for file in files if file.is_pickle]
        needed = sum(sizes) - there + max(twice, default=0)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise NoSpace(
                f"expected {needed / 1e9:.2f} GB free for {self.folder}, got {free / 1e9:.2f} GB. "
                "Free some space, or choose another data folder"
            )

    def settle(self, file: Download, origin: str) -> None:
        """Check the part's hash, convert it if it is a pickle, and rename it into place.

        Args:
            file: which file; `part(file)` must be complete, and is gone afterwards in any case.
            origin: where it came from, for the message.

        Raises:
            WrongFile: the hash differs.
            BadPickle: see `weights.convert`.
        """
        part = self.part(file)
        self._on_event(Event(file.path, "checking"))
        digest, size = sha256_of(part), part.stat().st_size
        if digest != file.sha256:
            part.unlink()
            raise WrongFile(
                f"expected sha256 {file.sha256}, got sha256 {digest} ({size} bytes) from {origin}. "
                "Existing files are untouched. Try again; if the result is the same, that place "
                "has a different file"
            )
        if not file.is_pickle:
            self.put(file, part, digest)
            return
        # Imported here because torch is slow to import.
        from weights.convert import convert

        self._on_event(Event(file.path, "converting"))
        converted = part.with_suffix(".safetensors")
        try:
            convert(part, converted)
        finally:
            part.unlink()
        self.put(file, converted, digest)

    def put(self, file: Download, finished: Path, source_sha256: str) -> None:
        """Move a finished file into place, durably, and record it."""
        with finished.open("rb") as stream:
            os.fsync(stream.fileno())
        stored = self.folder / file.path
        stored.parent.mkdir(parents=True, exist_ok=True)
        finished.replace(stored)
        self._record(file.path, record_of(stored, file.origin, source_sha256))
        self._on_event(Event(file.path, "done", stored.stat().st_size))

    def place(self, package: Path) -> None:
        """Copy the files that ship with a profile (profile.toml, the networks' dimensions) here.

        A copy that was modified is kept; an unmodified one is updated to the package's version.
        """
        for relative in shipped(package):
            source, path = package / relative, relative.as_posix()
            stored, record = self.folder / path, self._records.get(path)
            if stored.exists():
                digest = sha256_of(stored)
                if digest == sha256_of(source):
                    continue
                if record is None or digest != record.sha256:
                    self._on_event(Event(path, "kept"))
                    continue
            write_file(stored, source.read_bytes())
            self._record(path, record_of(stored, "package"))

    def clear_parts(self) -> None:
        """Remove leftovers of interrupted pulls of other versions."""
        for part in (self.folder / _PARTS).iterdir():
            if part.name != _LOCK:
                part.unlink()

    def _is_right(self, file: Download) -> bool:
        stored, record = self.folder / file.path, self._records.get(file.path)
        if not stored.is_file():
            return False
        ours = record if record is not None and record.is_of(file) else None
        status = stored.stat()
        if ours and (status.st_size, status.st_mtime_ns) == (ours.bytes, ours.modified_ns):
            return True
        self._on_event(Event(file.path, "checking"))
        digest = sha256_of(stored)
        if ours and digest == ours.sha256:
            found = replace(ours, modified_ns=status.st_mtime_ns)
        elif digest == file.sha256 and not file.is_pickle:
            found = record_of(stored, file.origin)
        else:
            return False
        self._record(file.path, found)
        self._on_event(Event(file.path, "done", status.st_size))
        return True

    def _record(self, path: str, record: Record) -> None:
        self._records[path] = record
        write_records(self.folder, self._records)


@contextlib.contextmanager
def open_store(folder: Path, on_event: OnEvent) -> Iterator[Store]:
    """Lock a profile's folder, creating it if necessary; wait while another process has the lock.

    Raises:
        PullError: the folder cannot be created or written, or its `lock.json` is damaged.
    """
    with about(str(folder)):
        parts = folder / _PARTS
        parts.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(parts / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            on_event(Event(str(folder), "waiting"))
            lock.acquire()
    try:
        with about(str(folder)):
            store = Store(folder, on_event)
        yield store
    finally:
        lock.release()


@contextlib.contextmanager
def about(subject: str) -> Iterator[None]:
    """Prefix every error with its subject."""
    try:
        yield
    except PullError as error:
        raise type(error)(f"{subject}: {error}.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sentence = "the disk is full. What was received is kept: free some space, and try again"
            raise NoSpace(f"{subject}: {sentence}.") from error
        reason = f"{error.filename or 'a file'} cannot be used: {error.strerror}"
        raise PullError(f"{subject}: {reason}. Fix this, and try again.") from error
