"""Getting the files of a fetched profile: from their sources, or from a folder without network."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from weights.download import OnBytes, Patience, fetch, new_client, shown
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
    """Fetch what is missing, one file after the other, and stop at the first that cannot be had.

    What was fetched before stays; an interrupted file goes on where it stopped.

    Args:
        files: see `weights.sources.chosen`.
        folder: the profile's folder; see `weights.manifest.profile_folder`.
        package: what the profile ships with, copied beside the weights; see `Store.place`.
        mirrors: see `Mirrors`.
        patience: see `Patience`.
        on_event: told how far each file is.

    Raises:
        PullError: one of its kinds; the text names the file, what was expected, what came, and
            what to do about it.
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
                    if file.sha256 is None:
                        # Small, and nothing would show that its two ends do not belong together.
                        part.unlink(missing_ok=True)
                    on_bytes = _reporting(file, on_event)
                    fetch(client, address, part, file.bytes, patience, on_bytes)
                    store.settle(file, shown(address))
        with about(str(folder)):
            store.place(package)
            store.clear_parts()


def _reporting(file: Download, on_event: OnEvent) -> OnBytes:
    def on_bytes(done: int, total: int | None) -> None:
        on_event(Event(file.path, "fetching", done, total or file.size_bytes))

    return on_bytes


def import_from(
    source: Path, files: Sequence[Download], folder: Path, package: Path, on_event: OnEvent
) -> None:
    """Take what is missing from a folder: one that `pull` has filled elsewhere, or downloads.

    Downloads lie there as `OWNER/REPOSITORY/NAME` (hub) or by their bare name.

    Args:
        source: that folder; it is not changed.
        files: as in `pull`, like the rest.
        folder: see `pull`.
        package: see `pull`.
        on_event: see `pull`.

    Raises:
        Incomplete: it lacks files, all of which the text names; the others are imported.
        PullError: anything else that `pull` raises, but for the network.
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
                on_event(Event(file.path, "fetching", 0, file.size_bytes))
                if not _take(file, source, theirs.get(file.path), store):
                    lacking.append(f"{file.path} (from {Path(file.name).name})")
        with about(str(folder)):
            store.place(package)
    if lacking:
        raise Incomplete(
            f"{source}: expected {len(missing)} files, {len(lacking)} are not there: "
            f"{', '.join(lacking)}. Bring them, and import again."
        )


def _take(file: Download, source: Path, theirs: Record | None, store: Store) -> bool:
    """Bring one file over; whether it was there. `theirs`: what `source` says of its copy."""
    ours = theirs if theirs is not None and theirs.is_of(file) else None
    if ours and file.is_pickle and (source / file.path).is_file():
        converted = store.part(file).with_suffix(".safetensors")
        shutil.copyfile(source / file.path, converted)
        digest = sha256_of(converted)
        if digest != ours.sha256:
            raise WrongFile(
                f"expected sha256 {ours.sha256}, as {source} has recorded, got sha256 {digest}. "
                "Copy that folder again, or bring the original file"
            )
        store.put(file, converted, ours.source_sha256)
        return True
    candidate = next((found for found in _candidates(file, source) if found.is_file()), None)
    if candidate is None:
        return False
    shutil.copyfile(candidate, store.part(file))
    store.settle(file, str(candidate), ours.source_sha256 if ours else None)
    return True


def _candidates(file: Download, source: Path) -> Iterator[Path]:
    """Where the file, unconverted, may lie."""
    if isinstance(file.source, Hub):
        yield source / file.source.repo / file.name
    if file.is_pickle:
        yield source / Path(file.name).name
    else:
        yield source / file.path
