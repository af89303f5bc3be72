"""Gets the files of a fetched profile, from their sources or, without a network, from a folder."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from weights.download import Patience, fetch, new_client, shown
from weights.errors import Incomplete, WrongFile
from weights.manifest import sha256_of
from weights.records import Record, read_records
from weights.sources import Download, Hub, Mirrors
from weights.store import Event, OnEvent, Store, about, open_store


def pull(
    files: Sequence[Download],
    folder: Path,
    package: Path,
    mirrors: Mirrors,
    patience: Patience,
    on_event: OnEvent,
) -> None:
    """Download what is missing, one file after the other, and stop at the first failure.

    Files downloaded before are kept, and an interrupted download is resumed.

    Args:
        files: see `weights.sources.chosen`.
        folder: the profile's folder; see `weights.manifest.profile_folder`.
        package: the folder of the files that ship with the profile; see `Store.place`.
        mirrors: see `Mirrors`.
        patience: see `Patience`.
        on_event: called with the progress of each file.

    Raises:
        PullError: one of its subclasses; the message names the file, what was expected, what was
            received and what to do about it.
    """
    with open_store(folder, on_event) as store:
        with about(str(folder)):
            missing = store.missing(files)
            store.check_space(missing)
        with new_client(patience) as client:
            for file in missing:
                address = mirrors.address(file)
                with about(file.path):
                    part = store.part(file)
                    told = _Reporting(file, on_event)
                    token = mirrors.token(file, address)
                    size = file.bytes
                    fetch(client, address, part, size, patience, told.on_bytes, told.on_wait, token)
                    store.settle(file, shown(address))
        with about(str(folder)):
            store.place(package)
            store.clear_parts()


class _Reporting:
    """Tells of one file's download."""

    def __init__(self, file: Download, on_event: OnEvent) -> None:
        self._file = file
        self._on_event = on_event

    def on_bytes(self, done: int) -> None:
        self._on_event(Event(self._file.path, "fetching", done, self._file.bytes))

    def on_wait(self, seconds: float) -> None:
        self._on_event(Event(self._file.path, "pausing", wait_s=seconds))


def import_from(
    source: Path, files: Sequence[Download], folder: Path, package: Path, on_event: OnEvent
) -> None:
    """Copy what is missing from a folder that `pull` has filled elsewhere, or of downloaded files.

    Downloaded files are `OWNER/REPOSITORY/NAME` (from the hub) or just their name.

    Args:
        source: that folder; it is not changed.
        files: see `pull`.
        folder: see `pull`.
        package: see `pull`.
        on_event: see `pull`.

    Raises:
        Incomplete: files are missing, all of which the message lists; the others are imported.
        PullError: anything else that `pull` raises, except network errors.
    """
    with open_store(folder, on_event) as store:
        with about(str(folder)):
            missing = store.missing(files)
            store.check_space(missing)
        with about(str(source)):
            theirs = read_records(source)
        lacking = []
        for file in missing:
            with about(file.path):
                on_event(Event(file.path, "fetching", 0, file.bytes))
                if not _take(file, source, theirs.get(file.path), store):
                    lacking.append(f"{file.path} (from {Path(file.name).name})")
        with about(str(folder)):
            store.place(package)
    if lacking:
        raise Incomplete(
            f"{source}: expected {len(missing)} files, {len(lacking)} are missing: "
            f"{', '.join(lacking)}. Add them, and import again."
        )


def _take(file: Download, source: Path, theirs: Record | None, store: Store) -> bool:
    """Copy one file; whether it was there. `theirs`: the record of it in `source`, if any."""
    ours = theirs if theirs is not None and theirs.is_of(file) else None
    if ours and file.is_pickle and (source / file.path).is_file():
        converted = store.part(file).with_suffix(".safetensors")
        shutil.copyfile(source / file.path, converted)
        digest = sha256_of(converted)
        if digest != ours.sha256:
            raise WrongFile(
                f"expected sha256 {ours.sha256}, as recorded in {source}, got sha256 {digest}. "
                "Copy that folder again, or add the original file"
            )
        store.put(file, converted, ours.source_sha256)
        return True
    candidate = next((found for found in _candidates(file, source) if found.is_file()), None)
    if candidate is None:
        return False
    shutil.copyfile(candidate, store.part(file))
    store.settle(file, str(candidate))
    return True


def _candidates(file: Download, source: Path) -> Iterator[Path]:
    """Where the unconverted file may be."""
    if isinstance(file.source, Hub):
        yield source / file.source.repo / file.name
    if file.is_pickle:
        yield source / Path(file.name).name
    else:
        yield source / file.path
