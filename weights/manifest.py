"""Which profiles exist, where their files are, and what every file must contain."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PACKAGE_DIR = Path(__file__).resolve().parent
# The dimensions of a fetched profile's networks, for use without the weights.
DIMENSIONS = PACKAGE_DIR / "dimensions"
MANIFEST_NAME = "manifest.json"

EMBEDDED = ("tiny",)
FETCHED = ("sdxl", "sdxl-fast", "sdxl-inpainting")
# Profiles that lie in another one's folder: its file there, and the extra that it needs.
VARIANTS = {
    "sdxl-fast": ("sdxl", "fast.toml", "lightning"),
    "sdxl-inpainting": ("sdxl", "inpainting.toml", "inpainting-unet"),
}


class ProfileError(Exception):
    """A profile is unknown, or its files are not listed here."""


class UnknownExtra(ProfileError):
    """A profile has no extra of this name."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a profile.

    `path`: relative to the profile's folder, with forward slashes. `sha256`: 64 lower-case hex
    digits. `role`: the part it belongs to, e.g. "unet". `licence`: an SPDX identifier.
    """

    path: str
    bytes: int
    sha256: str
    role: str
    licence: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not as expected; `kind` says in what respect.

    "unrecorded": `lock.json` does not list it. "source": it was made from another file.
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
    """The folder of a profile's files; it need not exist yet.

    Args:
        name: one of `profile_names()`.
        root: the data folder, which contains fetched profiles; the embedded one needs none.

    Raises:
        ProfileError: the name is unknown, or the profile is fetched and `root` is None.
    """
    _check_name(name)
    if name in EMBEDDED:
        return PACKAGE_DIR / name
    if root is None:
        raise ProfileError(f"the profile {name!r} is stored in a data folder, and none was given")
    return root / "weights" / home(name)


def home(name: str) -> str:
    """The profile in whose folder this one lies: itself, or the one that it is a variant of."""
    return VARIANTS[name][0] if name in VARIANTS else name


def profile_path(name: str, root: Path | None = None) -> Path:
    """What `pipeline.loading` takes: the profile's folder, or a variant's file; see
    `profile_folder`.
    """
    folder = profile_folder(name, root)
    return folder / VARIANTS[name][1] if name in VARIANTS else folder


def profile_at(path: Path) -> str:
    """The name of the profile that has this `profile_path`; of any other file, its own name."""
    for name, (whose, file, _) in VARIANTS.items():
        if (path.parent.name, path.name) == (whose, file):
            return name
    return path.name


def files(name: str) -> tuple[WeightFile, ...]:
    """The files of an embedded profile, sorted by path.

    Raises:
        ProfileError: the name is unknown, or the profile is fetched: see `weights.sources`.
    """
    _check_name(name)
    if name in FETCHED:
        raise ProfileError(f"the profile {name!r} is not embedded")
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
    """Compare a folder with a manifest: the first problem of each file, in the manifest's order."""
    problems = (_problem(file, folder) for file in expected)
    return tuple(problem for problem in problems if problem is not None)
