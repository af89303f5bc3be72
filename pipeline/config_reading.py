"""A profile's file, or a chain of them, read and checked."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import Profile
from pipeline.config_faults import Place, as_toml, sentences, unknown_key
from pipeline.errors import InvalidProfile


def read_profile(path: Path) -> Profile:
    """Read a profile file.

    `base = "…"` in it names another one, whose keys hold where it has none of its own. All paths
    start from the folder of the file that has no base.

    Args:
        path: the file, or a folder with a `profile.toml`.

    Raises:
        InvalidProfile: the file is missing or is no TOML, or a key is missing, misspelt or has a
            value that is not allowed: a line for each fault.
    """
    chain = _read_chain(path if path.suffix == ".toml" else path / "profile.toml")
    merged: dict[str, Any] = {}
    for _, table in reversed(chain):
        for key, value in table.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **value} if both else value

    def origin(place: Place) -> Path:
        """The file that has the value, or else the table where it should be."""
        for depth in (2, 1):
            for file, table in chain:
                if _has(table, place[:depth]):
                    return file
        return chain[0][0]

    faults = [f"{origin(('folder',))}: {unknown_key('folder', Profile)}"] * ("folder" in merged)
    try:
        profile = Profile(**{**merged, "folder": chain[-1][0].parent})
    except ValidationError as error:
        faults += sentences(error, Profile, merged, origin)
    if faults:
        raise InvalidProfile("\n".join(faults))
    return profile


def _has(table: object, place: Place) -> bool:
    for part in place:
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True


def _read_chain(file: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases in turn, each with its keys but `base`."""
    chain = [(file, _read_toml(file))]
    while "base" in chain[-1][1]:
        file, table = chain[-1]
        base = table.pop("base")
        following = file.parent / base if isinstance(base, str) else file
        if not following.is_file() or _is_among(following, chain):
            raise InvalidProfile(
                f"{file}: base should be another profile file, without a circle, "
                f"got {as_toml(base)}"
            )
        chain.append((following, _read_toml(following)))
    return chain


def _is_among(file: Path, chain: Sequence[tuple[Path, object]]) -> bool:
    return any(file.samefile(earlier) for earlier, _ in chain)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidProfile(f"the profile file {file} is missing") from error
    except OSError as error:
        raise InvalidProfile(f"the profile file {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidProfile(f"the profile file {file} is no TOML: {error}") from error
