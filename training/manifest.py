"""Writes the profile's manifest from its files. Run it after every export.

python -m training.manifest
"""

import json
from dataclasses import asdict
from pathlib import Path

from weights.files import write_file
from weights.manifest import MANIFEST_NAME, PACKAGE_DIR, WeightFile, sha256_of

PROJECT_LICENCE = "AGPL-3.0-or-later"
# CLIP's own vocabulary, as open_clip ships it.
LICENCES = {"tokenizer": "MIT", "tokenizer_2": "MIT"}
# What a profile does not need: its card, licence text and figures.
LEFT_OUT = (MANIFEST_NAME, "README.md", "LICENSE-MIT", "metrics.json")


def describe(file: Path, folder: Path) -> WeightFile:
    """The manifest's entry for one file in `folder`; its role is the sub-folder's name."""
    path = file.relative_to(folder)
    role = path.parts[0] if len(path.parts) > 1 else "profile"
    licence = LICENCES.get(role, PROJECT_LICENCE)
    return WeightFile(path.as_posix(), file.stat().st_size, sha256_of(file), role, licence)


def write_manifest(folder: Path) -> tuple[WeightFile, ...]:
    """Describe all files below `folder` and write them to `folder/manifest.json`, by a rename."""
    found = sorted(file for file in folder.rglob("*") if file.is_file() and not _left_out(file))
    entries = tuple(describe(file, folder) for file in found)
    table = {"files": [asdict(entry) for entry in entries]}
    text = json.dumps(table, indent=2)
    write_file(folder / MANIFEST_NAME, f"{text}\n".encode())
    return entries


def _left_out(file: Path) -> bool:
    return file.name in LEFT_OUT or file.name.startswith(".")


def main() -> None:
    """Write the manifest and print the total size."""
    entries = write_manifest(PACKAGE_DIR / "tiny")
    megabytes = sum(entry.bytes for entry in entries) / 1e6
    print(f"{len(entries)} files, {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
