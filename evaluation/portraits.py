"""Pictures and labels of their faces, read from folders and files."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evaluation.errors import EvaluationError
from pipeline.errors import InvalidImage, InvalidValue
from pipeline.images import decode
from pipeline.types import FaceBox, Image

Finder = Callable[[Image], list[FaceBox]]
Label = TypeVar("Label")

NO_PORTRAIT = "No picture has an upright face."
NO_LONE_PORTRAIT = "No picture has exactly one upright face."

_BOXES = '{"a.jpg": [{"box": [x0, y0, x1, y1]}]}'
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_MAX_PIXELS = 50_000_000
_MAX_SIDE_PX = 8192


@dataclass(frozen=True, slots=True)
class Portrait:
    """A picture and its face, which is upright."""

    image: Image
    face: FaceBox


def read_portraits(files: Sequence[Path], labels: Path | None, find: Finder) -> list[Portrait]:
    """All of `each_portrait` with no second face.

    Raises:
        EvaluationError: a file cannot be read, or no picture is left.
    """
    portraits = [portrait for _, portrait in each_portrait(files, labels, find, alone=True)]
    if not portraits:
        raise EvaluationError(NO_LONE_PORTRAIT)
    return portraits


def each_portrait(
    files: Iterable[Path], labels: Path | None, find: Finder, *, alone: bool = False
) -> Iterator[tuple[Path, Portrait]]:
    """The pictures with an upright face, and the largest one: by `labels`, else by what `find`
    finds. `alone`: pictures with a second face, whichever way up, are left out.

    Raises:
        EvaluationError: a file cannot be read.
    """
    known = None if labels is None else read_labels(labels, _box, _BOXES)
    for file in files:
        image = read_image(file)
        faces = find(image) if known is None else known.get(file.name, [])
        upright = [face for face in faces if face.quarter_turns == 0]
        if upright and not (alone and len(faces) > 1):
            yield file, Portrait(image, max(upright, key=lambda face: face.longer_px))


def picture_files(folder: Path, every: int) -> list[Path]:
    """Every `every`-th picture below a folder, in the order of their paths.

    Raises:
        EvaluationError: there is none.
    """
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise EvaluationError(f"There are no pictures in {folder}.")
    return found[::every]


def read_image(file: Path) -> Image:
    """One picture, without its transparency.

    Raises:
        EvaluationError: it cannot be read.
    """
    try:
        return decode(file.read_bytes(), max_pixels=_MAX_PIXELS, max_side_px=_MAX_SIDE_PX).image
    except InvalidImage as error:
        raise EvaluationError(f"{file}: {error}") from error


def read_labels(
    file: Path, read: Callable[[dict[str, Any]], Label], form: str
) -> dict[str, list[Label]]:
    """What a JSON file says of the faces of each picture, by the pictures' names.

    Args:
        file: `{"a.jpg": [{…}, …], …}`.
        read: makes a label of a face's entry.
        form: how such a file looks, for the error's sentence.

    Raises:
        EvaluationError: the file cannot be read, or is of another form.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {name: [read(face) for face in faces] for name, faces in entries.items()}
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, InvalidValue) as error:
        raise EvaluationError(f"{file} should be JSON such as {form}.") from error


def _box(face: dict[str, Any]) -> FaceBox:
    x0, y0, x1, y1 = map(float, face["box"])
    return FaceBox(x0, y0, x1, y1, score=1.0)
