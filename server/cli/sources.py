"""The pictures that `face-detailer detail` is given: files, folders, globs and standard input."""

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.cli.texts import printable
from server.errors import OperatorError

STANDARD: Final = Path("-")
"""Standard input as a picture, standard output as a result."""

RESULT: Final = "-detailed"
"""What a result's name has beyond its picture's, where no other name is given."""

_ENDINGS: Final = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jp2"),
    *(".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
)
_RESULT_STEM: Final = re.compile(rf"(.+){RESULT}(?:-[1-4])?")


@dataclass(frozen=True, slots=True)
class Source:
    """One picture. `path`: its file, or `STANDARD`. `below`: its place below the folder that was
    given, or its name alone. `data`: what standard input held.
    """

    path: Path
    below: Path
    data: bytes | None = None

    @property
    def shown(self) -> str:
        """Its name for a terminal."""
        return "standard input" if self.data is not None else printable(str(self.path))

    @property
    def name(self) -> str:
        """The same without its folders, for lines that have little room."""
        return self.shown if self.data is not None else printable(self.path.name)

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            OSError: it cannot be read.
        """
        return self.path.read_bytes() if self.data is None else self.data


@dataclass(frozen=True, slots=True)
class Missing:
    """What was given and is no picture, nor has any. `why`: a sentence."""

    path: Path
    why: str


def expand(
    inputs: Sequence[Path], leave_out: Path | None
) -> tuple[list[Source], tuple[Missing, ...]]:
    """The pictures, each once, in the order given; and what of it is missing. Results of earlier
    runs, which are named after another one of them, are left out; so is what folders and globs have
    in the folder `leave_out`, unless they begin there.

    Raises:
        OperatorError: there is nothing to read from standard input, or nothing but results.
    """
    found: dict[Path, Source] = {}
    missing: list[Missing] = []
    out = None if leave_out is None else real_path(leave_out)
    for given in inputs:
        apart = None if out is None or _begins_in(given, out) else out
        for source in _of(given):
            if isinstance(source, Missing):
                missing.append(source)
            elif apart is None or not real_path(source.path).is_relative_to(apart):
                found.setdefault(source.path.absolute(), source)
    if not found and not missing:
        raise OperatorError("There are no pictures but results of earlier runs.")
    # With its ending where two pictures differ in that alone.
    named = {(path.parent, name) for path in found for name in (path.stem, path.name)}
    kept = [source for path, source in found.items() if not _is_result(path, named)]
    if len(kept) < len(found):
        count = len(found) - len(kept)
        results = "1 result" if count == 1 else f"{count} results"
        print(f"Left out {results} of earlier runs (…{RESULT}).", file=sys.stderr)
    return kept, tuple(missing)


def is_many(inputs: Iterable[Path]) -> bool:
    """Whether a folder or a glob is among them."""
    return any(is_folder(given) or _is_glob(given) for given in inputs)


def is_folder(path: Path) -> bool:
    """Whether it is one, as far as can be seen; who opens it is told what is wrong."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for names that are too long


def real_path(path: Path) -> Path:
    """Without symbolic links, as far as can be seen; Path.resolve raises for those in a circle."""
    return Path(os.path.realpath(path))


def _begins_in(given: Path, folder: Path) -> bool:
    """Whether it names nothing outside the folder: a file is itself what was asked for."""
    if is_folder(given):
        return real_path(given).is_relative_to(folder)
    if not _is_glob(given):
        return True
    root = next(path for path in given.parents if not glob.has_magic(str(path)))
    return real_path(root).is_relative_to(folder)


def _is_result(path: Path, named: set[tuple[Path, str]]) -> bool:
    match = _RESULT_STEM.fullmatch(path.stem)
    return match is not None and (path.parent, match[1]) in named


def _of(given: Path) -> Iterator[Source | Missing]:
    if given == STANDARD:
        yield Source(given, Path("picture"), _from_standard_input())
    elif is_folder(given):
        yield from _in_folder(given)
    elif _is_glob(given):
        yield from _matching(given)
    else:
        try:
            with given.open("rb"):
                yield Source(given, Path(given.name))
        except OSError as error:
            yield Missing(given, f"{given}: {error.strerror}")


def _from_standard_input() -> bytes:
    if sys.stdin.isatty():
        raise OperatorError("Standard input is a terminal: send a picture into it, as in `< a.jpg`")
    data = sys.stdin.buffer.read()
    if not data:
        raise OperatorError("Standard input is empty.")
    return data


def _is_glob(given: Path) -> bool:
    return glob.has_magic(str(given)) and not os.path.lexists(given)


def _in_folder(folder: Path) -> Iterator[Source | Missing]:
    errors: list[OSError] = []
    paths = list(_walk(folder, errors.append))
    for error in errors:
        yield Missing(Path(error.filename), f"{error.filename}: {error.strerror}")
    if not paths and not errors:
        yield Missing(folder, f"{folder} has no pictures ({', '.join(_ENDINGS)}).")
    for path in paths:
        yield Source(path, path.relative_to(folder))


def _walk(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Its pictures and those of its folders, without hidden ones."""
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _ENDINGS:
                yield Path(parent, name)


def _matching(pattern: Path) -> Iterator[Source | Missing]:
    paths = [Path(found) for found in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute pattern
    paths = [path for path in paths if path.suffix.lower() in _ENDINGS]
    paths = [path for path in paths if os.path.isfile(path)]  # noqa: PTH113 - as in `is_folder`
    if not paths:
        yield Missing(pattern, f"No picture matches {pattern}")
    for path in paths:
        yield Source(path, Path(path.name))
