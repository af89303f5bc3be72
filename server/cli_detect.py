"""`face-detailer detect`: which faces of a picture would be detailed, and why others would not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from pipeline.errors import InvalidImage
from pipeline.images import Picture, encode
from pipeline.types import Find, LeftOut
from server import logs
from server.cli_models import FORMATS, load_detailer, read_picture, write_file
from server.cli_tables import new_table, print_table
from server.errors import BadParameter, OperatorError
from server.jobs import detection_request
from server.parameters import parse_detect
from server.settings import Settings
from server.types import DetectOptions

_REASONS: Mapping[LeftOut, str] = {
    "score": "score below the threshold",
    "size": "smaller than --min-face-px",
    "count": "beyond --max-faces",
}


def run(
    source: Path,
    overlay: Path | None,
    fields: Mapping[str, str | None],
    settings: Settings,
) -> None:
    """Print what is found in a picture; draw it into `overlay`.

    Raises:
        OperatorError: wrong options, wrong paths, no picture, no weights.
    """
    options = _options(fields, settings)
    if overlay is not None:
        _check_overlay(overlay, source)
    picture = _read(source, settings)
    logs.configure("warning")
    detailer = load_detailer(settings, Console(stderr=True))
    request = detection_request(picture.image, options)
    finds = detailer.inspect(request)
    _print(finds)
    if overlay is not None:
        drawn = detailer.explain(request, finds)
        kind = FORMATS[overlay.suffix.lower()]
        try:
            write_file(overlay, encode(drawn, None, kind, options.image_quality))
        except OSError as error:
            raise OperatorError(f"{overlay}: {error.strerror}") from error
        print(f"Drawn into {overlay}: faces green, their crops blue, what was left out orange.")


def _options(fields: Mapping[str, str | None], settings: Settings) -> DetectOptions:
    """The API's own checks. They want a picture named, which is another's matter here."""
    try:
        return parse_detect({**fields, "image": b"later"}, settings).options
    except BadParameter as error:
        raise OperatorError(str(error)) from error


def _check_overlay(overlay: Path, source: Path) -> None:
    if overlay.suffix.lower() not in FORMATS:
        raise OperatorError(f"{overlay} should end in .jpg, .jpeg, .png or .webp.")
    if overlay.resolve() == source.resolve():
        raise OperatorError(f"{overlay} is the input: the overlay needs a file of its own.")


def _read(source: Path, settings: Settings) -> Picture:
    try:
        return read_picture(source, settings)
    except InvalidImage as error:
        raise OperatorError(f"{source}: {error}") from error
    except OSError as error:
        raise OperatorError(f"{source}: {error.strerror}") from error


def _print(finds: Sequence[Find]) -> None:
    faces = sum(find.left_out is None for find in finds)
    print("1 face." if faces == 1 else f"{faces} faces.")
    if not finds:
        return
    table = new_table("", "score", "x", "y", "width", "height", "turned", "left out")
    for number, find in enumerate(finds, start=1):
        box = find.box
        sizes = (f"{value:.0f}" for value in (box.x0, box.y0, box.width_px, box.height_px))
        turned = f"{90 * box.quarter_turns}°" if box.quarter_turns else ""
        reason = _REASONS[find.left_out] if find.left_out else ""
        table.add_row(str(number), f"{box.score:.2f}", *sizes, turned, reason)
    print_table(table)
