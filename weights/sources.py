"""Where the files of a fetched profile come from: `manifest.toml`, and the mirrors before it."""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from weights.manifest import PACKAGE_DIR, ProfileError

MANIFEST = PACKAGE_DIR / "manifest.toml"
# Pickles, which are never kept: `weights.convert` makes safetensors of them.
PICKLE_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the model hub, at one revision (a commit; a branch only beside a hash)."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return self.repo


@dataclass(frozen=True, slots=True)
class Site:
    """A web address that file names are appended to; ends with a slash."""

    prefix: str

    def __str__(self) -> str:
        return self.prefix.removeprefix("https://").rstrip("/")


@dataclass(frozen=True, slots=True)
class Download:
    """One file to fetch.

    `path`: where it is stored, below the profile's folder, with forward slashes. `name`: its path
    at the source. `bytes`: exact size, `about_bytes`: a rough one, as downloaded; None where
    unknown. `sha256`: of the file as downloaded, 64 lower-case hex digits; None: whatever comes
    first counts. `extra`: what asks for it; None: every pull fetches it.
    """

    path: str
    name: str
    source: Hub | Site
    licence: str
    bytes: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    extra: str | None = None

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise ValueError(f"expected a path below the profile's folder, got {self.path!r}")
        if self.is_pickle and self.sha256 is None:
            raise ValueError(f"expected a sha256, because {self.name} is a pickle; got none")
        if self.is_pickle != (PurePosixPath(self.path).suffix != PurePosixPath(self.name).suffix):
            raise ValueError(f"expected {self.name} to be stored as it is, got {self.path}")

    @property
    def role(self) -> str:
        """The part that the file serves: its folder's name."""
        return PurePosixPath(self.path).parts[0]

    @property
    def origin(self) -> str:
        """Source, revision and name in one text."""
        match self.source:
            case Hub(repo, revision):
                return f"{repo}@{revision}/{self.name}"
            case Site(prefix):
                return prefix + self.name

    @property
    def is_pickle(self) -> bool:
        """Whether it is read once and stored as safetensors."""
        return self.name.endswith(PICKLE_SUFFIXES)

    @property
    def size_bytes(self) -> int | None:
        """The best that is known of its size."""
        return self.bytes if self.bytes is not None else self.about_bytes


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Other addresses of the same files.

    `hub_endpoint`: in place of the hub's own address. `prefixes`: (old, new) beginnings of
    addresses; the longest that fits is replaced.
    """

    hub_endpoint: str | None = None
    prefixes: tuple[tuple[str, str], ...] = ()

    def address(self, download: Download) -> str:
        """Where to fetch a file from."""
        match download.source:
            case Hub(repo, revision):
                # Here, because the hub's library takes a while to import.
                from huggingface_hub import hf_hub_url

                address = hf_hub_url(
                    repo, download.name, revision=revision, endpoint=self.hub_endpoint
                )
            case Site(prefix):
                address = prefix + download.name
        fitting = [pair for pair in self.prefixes if address.startswith(pair[0])]
        if not fitting:
            return address
        old, new = max(fitting, key=lambda pair: len(pair[0]))
        return new + address.removeprefix(old)


def downloads(profile: str) -> tuple[Download, ...]:
    """All files that a fetched profile downloads, extras too, in `MANIFEST`'s order.

    Raises:
        ProfileError: the manifest does not know the profile.
        ValueError: an entry of the manifest is wrong.
    """
    table: dict[str, list[dict[str, Any]]] = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    if profile not in table:
        raise ProfileError(f"the profile {profile!r} downloads nothing")
    return tuple(
        Download(**{"name": file["path"], **file}, source=_source(group), licence=group["licence"])
        for group in table[profile]
        for file in group["files"]
    )


def _source(group: dict[str, Any]) -> Hub | Site:
    return Hub(group["hub"], group["revision"]) if "hub" in group else Site(group["url"])


def chosen(files: Collection[Download], extras: Collection[str]) -> tuple[Download, ...]:
    """Those that every pull fetches, and those of these extras.

    Raises:
        ProfileError: there is no such extra.
    """
    known = sorted({file.extra for file in files if file.extra})
    for extra in extras:
        if extra not in known:
            raise ProfileError(f"unknown extra {extra!r}: expected one of {', '.join(known)}")
    return tuple(file for file in files if file.extra is None or file.extra in extras)


def absent(files: Collection[Download], folder: Path) -> tuple[Download, ...]:
    """Those that are not in the folder at all; what is there is not read."""
    return tuple(file for file in files if not (folder / file.path).is_file())
