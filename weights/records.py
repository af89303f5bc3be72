"""`lock.json`: which files a fetched profile's folder contains, and what they were made from."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from weights.errors import PullError
from weights.files import write_file
from weights.manifest import Problem, sha256_of
from weights.sources import Download

LOCK_NAME = "lock.json"


@dataclass(frozen=True, slots=True)
class Record:
    """A file as it was stored.

    `bytes` and `sha256`: of the stored file. `source_sha256`: of the file it was made from; the
    same unless it was converted. `origin`: see `Download.origin`. `modified_ns`: its modification
    time, which tells `pull` that it is unchanged without reading gigabytes.
    """

    bytes: int
    sha256: str
    source_sha256: str
    origin: str
    modified_ns: int

    def is_of(self, download: Download) -> bool:
        """Whether it was made from the file that the manifest names now."""
        return self.source_sha256 == download.sha256


def record_of(stored: Path, origin: str, source_sha256: str | None = None) -> Record:
    """Describe a stored file. `source_sha256`: None if it was not converted."""
    digest = sha256_of(stored)
    status = stored.stat()
    source_sha256 = source_sha256 or digest
    return Record(status.st_size, digest, source_sha256, origin, status.st_mtime_ns)


def read_records(folder: Path) -> dict[str, Record]:
    """All records of a folder by path; empty if there is no lock file.

    Raises:
        PullError: the lock file is damaged.
    """
    lock = folder / LOCK_NAME
    try:
        table = json.loads(lock.read_text(encoding="utf-8"))["files"]
        return {path: Record(**record) for path, record in table.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PullError(f"{lock} cannot be read: {error}. Delete it, and pull again") from error


def write_records(folder: Path, records: Mapping[str, Record]) -> None:
    """Replace the lock file atomically."""
    table = {"files": {path: asdict(records[path]) for path in sorted(records)}}
    text = json.dumps(table, indent=2)
    write_file(folder / LOCK_NAME, f"{text}\n".encode())


def verify_fetched(files: Collection[Download], folder: Path, package: Path) -> tuple[Problem, ...]:
    """Compare a folder with the manifest and the lock file, reading every file.

    Missing extras are not a problem. Files that ship with the profile (`package`) may have been
    changed, but must be there. The problems are in the manifest's order.

    Raises:
        PullError: the lock file is damaged.
    """
    records = read_records(folder)
    problems = (
        _problem(file, records.get(file.path), folder / file.path)
        for file in files
        if file.extra is None or file.path in records or (folder / file.path).exists()
    )
    absent = [
        Problem(path.as_posix(), "missing", "a file", "none")
        for path in shipped(package)
        if not (folder / path).is_file()
    ]
    return (*(problem for problem in problems if problem is not None), *absent)


def shipped(package: Path) -> tuple[Path, ...]:
    """The files that come with this program and `pull` puts beside a profile's weights, relative to
    `package`, sorted.
    """
    return tuple(sorted(f.relative_to(package) for f in package.rglob("*") if f.is_file()))


def _problem(download: Download, record: Record | None, stored: Path) -> Problem | None:
    path = download.path
    if not stored.is_file():
        return Problem(path, "missing", "a file", "none")
    if record is None:
        return Problem(path, "unrecorded", "a file that was pulled or imported", "an unknown file")
    if not record.is_of(download):
        wanted, got = (f"one made from sha256 {x}" for x in (download.sha256, record.source_sha256))
        return Problem(path, "source", wanted, got)
    size = stored.stat().st_size
    if size != record.bytes:
        return Problem(path, "size", f"{record.bytes} bytes", f"{size} bytes")
    digest = sha256_of(stored)
    if digest != record.sha256:
        return Problem(path, "hash", f"sha256 {record.sha256}", f"sha256 {digest}")
    return None
