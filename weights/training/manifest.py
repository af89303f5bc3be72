"""Write the tiny profile's manifest, from the files themselves. Run after every export.

python -m weights.training.manifest
"""

import json
from dataclasses import asdict
from pathlib import Path

from weights.manifest import MANIFEST_NAME, PACKAGE_DIR, WeightFile, sha256_of

PROJECT_LICENCE = "AGPL-3.0-or-later"
# CLIP's own vocabulary, as open_clip ships it.
LICENCES = {"tokenizer": "MIT", "tokenizer_2": "MIT"}
# What a profile does without: cards and figures.
LEFT_OUT = (MANIFEST_NAME, "README.md", "metrics.json")


def describe(file: Path, folder: Path) -> WeightFile:
    """The manifest's entry for one file below `folder`; its role is the sub-folder's name."""
    path = file.relative_to(folder)
    role = path.parts[0] if len(path.parts) > 1 else "profile"
    licence = LICENCES.get(role, PROJECT_LICENCE)
    return WeightFile(path.as_posix(), file.stat().st_size, sha256_of(file), role, licence)


def write_manifest(folder: Path) -> tuple[WeightFile, ...]:
    """Describe all files below `folder` and write them to `folder/manifest.json`, by a rename."""
    found = sorted(file for file in folder.rglob("*") if file.is_file() and not _left_out(file))
    entries = tuple(describe(file, folder) for file in found)
    beside = folder / f".{MANIFEST_NAME}.part"
    table = {"files": [asdict(entry) for entry in entries]}
    beside.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / MANIFEST_NAME)
    return entries


def _left_out(file: Path) -> bool:
    return file.name in LEFT_OUT or file.name.startswith(".")


def main() -> None:
    """Write it and say how much there is."""
    entries = write_manifest(PACKAGE_DIR / "tiny")
    megabytes = sum(entry.bytes for entry in entries) / 1e6
    print(f"{len(entries)} files, {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
