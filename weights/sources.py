"""Where the files of a fetched profile come from: `manifest.toml`, and mirrors."""

import os
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from weights.manifest import PACKAGE_DIR, VARIANTS, ProfileError, UnknownExtra, home

MANIFEST = PACKAGE_DIR / "manifest.toml"
# Pickles are never kept: `weights.convert` converts them to safetensors.
PICKLE_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the model hub, at one revision: a commit or a branch."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return self.repo


@dataclass(frozen=True, slots=True)
class Site:
    """A URL prefix to which file names are appended; ends with a slash."""

    prefix: str

    def __str__(self) -> str:
        return self.prefix.removeprefix("https://").rstrip("/")


@dataclass(frozen=True, slots=True)
class Download:
    """One file to download.

    `path`: where it is stored in the profile's folder, with forward slashes. `name`: its path at
    the source. `bytes`: its size as downloaded. `sha256`: of the file as downloaded, 64 lower-case
    hex digits. `extra`: the extra it belongs to; None: every pull downloads it.
    """

    path: str
    name: str
    source: Hub | Site
    licence: str
    bytes: int
    sha256: str
    extra: str | None = None

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise ValueError(f"expected a path inside the profile's folder, got {self.path!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"expected the sha256 of {self.name}, got {self.sha256!r}")
        if self.is_pickle != (PurePosixPath(self.path).suffix != PurePosixPath(self.name).suffix):
            raise ValueError(f"expected {self.name} to be stored as it is, got {self.path}")

    @property
    def role(self) -> str:
        """The part the file belongs to: the name of its folder."""
        return PurePosixPath(self.path).parts[0]

    @property
    def origin(self) -> str:
        """Source, revision and name as one string."""
        match self.source:
            case Hub(repo, revision):
                return f"{repo}@{revision}/{self.name}"
            case Site(prefix):
                return prefix + self.name

    @property
    def is_pickle(self) -> bool:
        """Whether it is read once and converted to safetensors."""
        return self.name.endswith(PICKLE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Other addresses of the same files.

    `hub_endpoint`: replaces the hub's own address. `prefixes`: (old, new) beginnings of addresses;
    the longest one that matches is replaced.
    """

    hub_endpoint: str | None = None
    prefixes: tuple[tuple[str, str], ...] = ()

    def address(self, download: Download) -> str:
        """The URL to download a file from."""
        match download.source:
            case Hub(repo, revision):
                # Imported here because it is slow.
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

    def token(self, download: Download, address: str) -> str | None:
        """`HF_TOKEN`, for an address at the hub itself; None for every other, mirrors too."""
        if not isinstance(download.source, Hub):
            return None
        from huggingface_hub import constants

        hub, asked = urlsplit(constants.ENDPOINT), urlsplit(address)
        same = (hub.scheme, hub.netloc) == (asked.scheme, asked.netloc)
        return os.environ.get("HF_TOKEN") or None if same else None


def downloads(profile: str) -> tuple[Download, ...]:
    """All files of a fetched profile, including extras, in the order of `MANIFEST`. What a variant
    needs beyond the profile that it lies beside is no extra of it.

    Raises:
        ProfileError: the profile is not in the manifest.
        ValueError: an entry of the manifest is invalid.
    """
    table: dict[str, list[dict[str, Any]]] = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    if home(profile) not in table:
        raise ProfileError(f"the profile {profile!r} has nothing to download")
    needed = VARIANTS[profile][2] if profile in VARIANTS else None
    found = [
        Download(**{"name": file["path"], **file}, source=_source(group), licence=group["licence"])
        for group in table[home(profile)]
        for file in group["files"]
    ]
    return tuple(replace(file, extra=None) if file.extra == needed else file for file in found)


def _source(group: dict[str, Any]) -> Hub | Site:
    return Hub(group["hub"], group["revision"]) if "hub" in group else Site(group["url"])


def chosen(files: Collection[Download], extras: Collection[str]) -> tuple[Download, ...]:
    """The files that every pull downloads, and those of these extras.

    Raises:
        UnknownExtra: the profile has no such extra.
    """
    known = sorted({file.extra for file in files if file.extra})
    for extra in extras:
        if extra not in known:
            raise UnknownExtra(f"unknown extra {extra!r}: expected one of {', '.join(known)}")
    return tuple(file for file in files if file.extra is None or file.extra in extras)


def absent(files: Collection[Download], folder: Path) -> tuple[Download, ...]:
    """The files that do not exist in the folder; existing ones are not read."""
    return tuple(file for file in files if not (folder / file.path).is_file())
