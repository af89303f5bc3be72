"""Which file each result of `face-detailer detail` is written to, and in which format."""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from server.cli.sources import RESULT, STANDARD, Source, is_folder, real_path
from server.errors import OperatorError, UsageError
from server.types import DetailOptions, ImageFormat

FORMATS: Final[Mapping[str, ImageFormat]] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}
_ENDINGS: Final[Mapping[ImageFormat, str]] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}


@dataclass(frozen=True, slots=True)
class Task:
    """One picture. `outputs`: a file per sample; `STANDARD` alone is standard output."""

    source: Source
    outputs: tuple[Path, ...]
    options: DetailOptions


def plan(
    sources: Sequence[Source],
    output: Path | None,
    options: DetailOptions,
    *,
    missing: int,
    by_ending: bool,
    to_folder: bool,
) -> list[Task]:
    """A task per picture.

    Args:
        sources: the pictures.
        output: the file of the only result, a folder, or `STANDARD`; None: beside each picture.
        missing: how many more were asked for, which are not there.
        options: as asked for. Each task has the format of its outputs.
        by_ending: no format was asked for: the endings of files say it.
        to_folder: whether `output` is a folder, be it one to make.

    Raises:
        OperatorError: the paths do not fit each other or the format.
    """
    is_several = len(sources) + missing > 1
    if output is None and all(source.data is None for source in sources):
        return _beside(sources, options, by_ending=by_ending)
    if output is None or output == STANDARD:
        if is_several or options.recipe.samples > 1:
            raise UsageError("Standard output takes one picture and one sample: give --output.")
        image_format = _format_of(sources[0], options, by_ending=by_ending)
        return [_task(sources[0], STANDARD, options, image_format)]
    ending = output.suffix.lower()
    if to_folder:
        return _into(output, sources, options, by_ending=by_ending)
    if is_several:
        raise UsageError(f"{output} is not a folder: several pictures need one.")
    if ending not in FORMATS:
        raise UsageError(
            f"{output} should end in .jpg, .jpeg, .png or .webp, or in / for a folder."
        )
    if not by_ending and options.encoding.image_format != FORMATS[ending]:
        raise UsageError(f"{output} does not end like a {options.encoding.image_format} file.")
    return [_task(sources[0], output, options, FORMATS[ending])]


def means_folder(output: str, *, many: bool) -> bool:
    """Whether results go into a folder of this name: it is one or ends like one or, where there may
    be several pictures (`many`), does not exist and does not end like a picture.
    """
    path = Path(output)
    to_make = many and path.suffix.lower() not in FORMATS and not os.path.lexists(path)
    return output.endswith(os.sep) or is_folder(path) or to_make


def place_of(output: Path) -> Path:
    """The one path of a result's file, by whichever links its folder is reached. A link in the
    file's own place is replaced and not followed.
    """
    return real_path(output.parent) / output.name


def check(tasks: Sequence[Task], *, overwrite: bool) -> None:
    """See that no result takes the place of another or, unless it may, of an input.

    Raises:
        OperatorError: one does.
    """
    inputs = {real_path(task.source.path) for task in tasks if task.source.data is None}
    seen: set[Path] = set()
    for target in (real_path(output) for task in tasks for output in task.outputs):
        if target in seen:
            raise OperatorError(f"Two results would be written to {target}.")
        if target in inputs and not overwrite:
            raise OperatorError(f"{target} is an input: use --overwrite to replace it.")
        seen.add(target)


def check_folders(files: Sequence[Path]) -> None:
    """See that these files can be written, as far as their folders tell.

    Raises:
        OperatorError: one cannot.
    """
    for folder in dict.fromkeys(file.absolute().parent for file in files if file != STANDARD):
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise OperatorError(f"Nothing can be written to {there}: {error.strerror}") from error
    for file in files:
        try:
            is_a_folder = file.is_dir()
        except OSError as error:
            raise OperatorError(f"{file}: {error.strerror}") from error
        if is_a_folder:
            raise OperatorError(f"{file} is a folder, and a result would be written there.")


def _beside(sources: Sequence[Source], options: DetailOptions, *, by_ending: bool) -> list[Task]:
    formats = [_format_of(source, options, by_ending=by_ending) for source in sources]
    pairs = zip(sources, formats, strict=True)
    places = _apart([(s.path.with_name(f"{s.path.stem}{RESULT}"), s, f) for s, f in pairs], RESULT)
    return [
        _task(source, place, options, image_format)
        for source, place, image_format in zip(sources, places, formats, strict=True)
    ]


def _into(
    folder: Path, sources: Sequence[Source], options: DetailOptions, *, by_ending: bool
) -> list[Task]:
    formats = [_format_of(source, options, by_ending=by_ending) for source in sources]
    below = [source.below for source in sources]
    homes: dict[Path, set[Path]] = {}
    for source in sources:
        homes.setdefault(source.below.with_suffix(""), set()).add(source.path.absolute().parent)
    if any(len(folders) > 1 for folders in homes.values()):
        files = [source.path.absolute() for source in sources]
        common = Path(os.path.commonpath([file.parent for file in files]))
        below = [file.relative_to(common) for file in files]
    triples = zip(below, sources, formats, strict=True)
    places = _apart([(folder / path.with_suffix(""), s, f) for path, s, f in triples], "")
    return [
        _task(source, place, options, image_format)
        for source, place, image_format in zip(sources, places, formats, strict=True)
    ]


def _apart(wanted: Sequence[tuple[Path, Source, ImageFormat]], added: str) -> list[Path]:
    """The results' files: with their formats' endings, and with their pictures' own ones before
    that where two would have one name.
    """
    names = [place.with_name(place.name + _ENDINGS[f]) for place, _, f in wanted]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else name.with_name(f"{source.path.name}{added}{name.suffix}")
        for name, (_, source, _) in zip(names, wanted, strict=True)
    ]


def _format_of(source: Source, options: DetailOptions, *, by_ending: bool) -> ImageFormat:
    own = FORMATS.get(source.path.suffix.lower()) if by_ending else None
    return own or options.encoding.image_format


def _task(source: Source, target: Path, options: DetailOptions, image_format: ImageFormat) -> Task:
    encoding = replace(options.encoding, image_format=image_format)
    samples = options.recipe.samples
    outputs: tuple[Path, ...] = (target,)
    if samples > 1:
        numbers = range(1, samples + 1)
        outputs = tuple(target.with_stem(f"{target.stem}-{number}") for number in numbers)
    return Task(source, outputs, replace(options, encoding=encoding))
