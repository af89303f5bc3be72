"""A fetched profile's folder while files are put into it: one process at a time, by renames."""

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
from weights.manifest import sha256_of
from weights.records import Record, read_records, record_of, write_records
from weights.sources import Download

# A config or a vocabulary whose size nobody wrote down.
TEXT_FILE_BYTES = 2 << 20
_PARTS = ".parts"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Event:
    """How far one file is. "waiting": another process puts files here; "kept": see `place`."""

    path: str
    stage: Literal["waiting", "fetching", "checking", "converting", "done", "kept"]
    done_bytes: int = 0
    total_bytes: int | None = None


OnEvent = Callable[[Event], None]


class Store:
    """The folder, held by this process. Made by `open_store`."""

    def __init__(self, folder: Path, on_event: OnEvent) -> None:
        self.folder = folder
        self._on_event = on_event
        self._records = read_records(folder)

    def missing(self, files: Collection[Download]) -> list[Download]:
        """Those that are not there as the manifest wants them.

        A file that nobody touched since it was stored is not read again; others are, and right
        ones that were put there by hand are taken over.
        """
        return [file for file in files if not self._is_right(file)]

    def part(self, file: Download) -> Path:
        """Where the file grows. Named by its content, so that parts of two files never mix."""
        name = Path(file.name).name
        if file.sha256 is None:
            return self.folder / _PARTS / f"{file.role}-{name}"
        return self.folder / _PARTS / f"{file.sha256[:16]}-{name}"

    def check_space(self, files: Collection[Download]) -> None:
        """See that the disk holds these files before the first one is fetched.

        Raises:
            NoSpace: it does not.
        """
        sizes = [file.size_bytes or TEXT_FILE_BYTES for file in files]
        parts = [self.part(file) for file in files]
        there = sum(part.stat().st_size for part in parts if part.exists())
        # While one is converted, it lies there twice.
        twice = [file.size_bytes or 0 for file in files if file.is_pickle]
        needed = sum(sizes) - there + max(twice, default=0)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise NoSpace(
                f"expected {needed / 1e9:.2f} GB free for {self.folder}, got {free / 1e9:.2f} GB. "
                "Make room there, or choose another data folder"
            )

    def settle(self, file: Download, origin: str, told_sha256: str | None = None) -> None:
        """Check the part's hash, convert it where it is a pickle, and rename it into place.

        Args:
            file: which file; `part(file)` is complete, and gone afterwards, whatever happens.
            origin: where it came from, for the message.
            told_sha256: what its hash should be, where neither the manifest nor an earlier
                download says so.

        Raises:
            WrongFile: the hash differs.
            BadPickle: see `weights.convert`.
        """
        part = self.part(file)
        self._on_event(Event(file.path, "checking"))
        digest, size = sha256_of(part), part.stat().st_size
        record = self._records.get(file.path)
        first = record.source_sha256 if record and record.is_of(file) else None
        wanted = file.sha256 or first or told_sha256
        if wanted not in (None, digest):
            part.unlink()
            raise WrongFile(
                f"expected sha256 {wanted}, got sha256 {digest} ({size} bytes) from {origin}. "
                "What was here before is untouched. Try again; if it comes out the same, that "
                "place has another file"
            )
        if not file.is_pickle:
            self.put(file, part, digest)
            return
        # Here, because torch takes a while to import.
        from weights.convert import convert

        self._on_event(Event(file.path, "converting"))
        converted = part.with_suffix(".safetensors")
        try:
            convert(part, converted)
        finally:
            part.unlink()
        self.put(file, converted, digest)

    def put(self, file: Download, finished: Path, source_sha256: str) -> None:
        """Move a finished file into place, safe from a power cut, and record it."""
        with finished.open("rb") as stream:
            os.fsync(stream.fileno())
        stored = self.folder / file.path
        stored.parent.mkdir(parents=True, exist_ok=True)
        finished.replace(stored)
        self._record(file.path, record_of(stored, file.origin, source_sha256))
        self._on_event(Event(file.path, "done", stored.stat().st_size))

    def place(self, package: Path) -> None:
        """Copy what a profile ships with (its profile.toml, the networks' dimensions) here.

        A copy that somebody has changed is kept; an unchanged one follows the package.
        """
        for shipped in sorted(file for file in package.rglob("*") if file.is_file()):
            path = shipped.relative_to(package).as_posix()
            stored, record = self.folder / path, self._records.get(path)
            if stored.exists():
                digest = sha256_of(stored)
                if digest == sha256_of(shipped):
                    continue
                if record is None or digest != record.sha256:
                    self._on_event(Event(path, "kept"))
                    continue
            stored.parent.mkdir(parents=True, exist_ok=True)
            beside = stored.with_name(f".{stored.name}.part")
            shutil.copyfile(shipped, beside)
            beside.replace(stored)
            self._record(path, record_of(stored, "package"))

    def clear_parts(self) -> None:
        """Remove what interrupted pulls of other versions left behind."""
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
    """Hold a profile's folder, made where it is missing; wait where another process holds it.

    Raises:
        PullError: the folder cannot be made or written, or its lock file is damaged.
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
    """Say in every error what it is about."""
    try:
        yield
    except PullError as error:
        raise type(error)(f"{subject}: {error}.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sentence = "the disk is full. What arrived is kept: make room, and try again"
            raise NoSpace(f"{subject}: {sentence}.") from error
        reason = f"{error.filename or 'a file'} cannot be used: {error.strerror}"
        raise PullError(f"{subject}: {reason}. See to it, and try again.") from error
