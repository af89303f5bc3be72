"""Which profiles there are, where each one's files lie, and what every file must be."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PACKAGE_DIR = Path(__file__).resolve().parent
# Sizes of a fetched profile's networks, for those who want them without the weights.
DIMENSIONS = PACKAGE_DIR / "dimensions"
MANIFEST_NAME = "manifest.json"

EMBEDDED = ("tiny",)
FETCHED = ("sdxl",)


class ProfileError(Exception):
    """A profile is unknown, or nothing says what its files are."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a profile.

    `path`: relative to the profile's folder, with forward slashes. `sha256`: 64 lower-case hex
    digits. `role`: the part that it serves, e.g. "unet". `licence`: an SPDX identifier.
    """

    path: str
    bytes: int
    sha256: str
    role: str
    licence: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not what it should be: `kind` differs, from `expected` to `got`.

    "unrecorded": nothing is known of it. "source": it was made from another file.
    """

    path: str
    kind: Literal["missing", "size", "hash", "unrecorded", "source"]
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


def profile_names() -> tuple[str, ...]:
    """All profiles, sorted."""
    return tuple(sorted(EMBEDDED + FETCHED))


def _check_name(name: str) -> None:
    if name not in profile_names():
        raise ProfileError(
            f"unknown profile {name!r}: expected one of {', '.join(profile_names())}"
        )


def profile_folder(name: str, root: Path | None = None) -> Path:
    """The folder that holds a profile's files; it need not exist yet.

    Args:
        name: one of `profile_names()`.
        root: the data folder, below which fetched profiles lie; the embedded one does not need it.

    Raises:
        ProfileError: the name is unknown, or the profile is a fetched one and `root` is None.
    """
    _check_name(name)
    if name in EMBEDDED:
        return PACKAGE_DIR / name
    if root is None:
        raise ProfileError(f"the profile {name!r} lies below a data folder, and none was given")
    return root / "weights" / name


def files(name: str) -> tuple[WeightFile, ...]:
    """What an embedded profile consists of, sorted by path.

    Raises:
        ProfileError: the name is unknown, or the profile is a fetched one: see `weights.sources`.
    """
    _check_name(name)
    if name in FETCHED:
        raise ProfileError(f"the profile {name!r} is a fetched one")
    manifest = PACKAGE_DIR / name / MANIFEST_NAME
    entries: list[dict[str, Any]] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return tuple(WeightFile(**entry) for entry in entries)


def sha256_of(file: Path) -> str:
    """The file's SHA-256 as 64 lower-case hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _problem(file: WeightFile, folder: Path) -> Problem | None:
    found = folder / file.path
    if not found.is_file():
        return Problem(file.path, "missing", f"a file of {file.bytes} bytes", "none")
    size = found.stat().st_size
    if size != file.bytes:
        return Problem(file.path, "size", f"{file.bytes} bytes", f"{size} bytes")
    digest = sha256_of(found)
    if digest != file.sha256:
        return Problem(file.path, "hash", f"sha256 {file.sha256}", f"sha256 {digest}")
    return None


def verify(expected: Iterable[WeightFile], folder: Path) -> tuple[Problem, ...]:
    """Compare a folder with a manifest: each file's first difference, in the manifest's order."""
    problems = (_problem(file, folder) for file in expected)
    return tuple(problem for problem in problems if problem is not None)
