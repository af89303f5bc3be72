"""`face-detailer detect`: which faces of pictures would be detailed, and why others would not."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.api.contract import DETECT_FIELDS
from server.cli.options import Device, Key, Profile, Texts, Url, takes_fields
from server.cli.texts import printable
from server.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from face_detailer_client.values import Detections, Face
    from server.cli.sources import Source
    from server.settings import Settings
    from server.types import DetectOptions

_REASONS: Mapping[str, str] = {
    "score": "score below the threshold",
    "size": "smaller than --min-face-px",
    "count": "beyond --max-faces",
    "budget": "beyond the budget of steps",
}
# The pictures are arguments; an overlay is a file, whose ending says its format.
_OPTIONS = tuple(
    field for field in DETECT_FIELDS if field.name not in ("image", "image_format", "overlay")
)


EXAMPLES = """Examples:

\b
  face-detailer detect photo.jpg
  face-detailer detect photo.jpg --overlay faces.jpg --max-faces 5
  face-detailer detect holidays --overlay drawn/      a folder, and all below it
  face-detailer detect photo.jpg --url https://faces.example --key SG_... --json"""


@takes_fields(_OPTIONS)
def detect(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN", help="Pictures, folders of them, globs, or - to read one."),
    ],
    *,
    overlay: Annotated[
        str | None,
        typer.Option(
            help="Draw boxes, scores, crops and masks into this file or, of several pictures, into "
            "files in this folder.",
            metavar="OUT",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object a line in place of tables.")
    ] = False,
    url: Url = None,
    key: Key = None,
    profile: Profile = None,
    device: Device = None,
    fields: Texts,
) -> None:
    """Show which faces of pictures would be detailed, and why others would not."""
    from server import logs
    from server.cli.finders import Here, There
    from server.cli.interrupting import BEGINS_AGAIN, finished, stoppable, whole
    from server.cli.results import PictureFailed
    from server.cli.sources import expand, is_folder, is_many
    from server.cli.variables import warn_of_unknown_variables
    from server.settings import read_settings

    warn_of_unknown_variables()
    settings = read_settings(profile=profile, devices=device)
    logs.configure("warning")
    options = _options(fields, settings)
    folder = Path(overlay) if overlay and is_folder(Path(overlay)) else None
    sources, missing = expand(inputs, leave_out=folder)
    many = len(inputs) > 1 or is_many(inputs)
    places = _places(sources, overlay, settings, missing=len(missing), many=many)
    for item in missing:
        _say_failed(item.path, item.why, as_json=as_json)
    failed = len(missing)
    done = 0
    with stoppable(lambda: finished(done, len(sources), BEGINS_AGAIN)):
        if sources:
            finder = Here(settings) if url is None else There(url, key, fields)
        for source, place in zip(sources, places, strict=True):
            try:
                found = finder.find(source, _drawing(options, place))
                with whole():
                    _show(source if many else None, found, place, as_json=as_json)
                    done += 1
            except PictureFailed as error:
                _say_failed(source.path, f"{source.shown}: {error}", as_json=as_json)
                failed += 1
    raise typer.Exit(int(failed > 0))


def _options(fields: Texts, settings: "Settings") -> "DetectOptions":
    from server.api.parameters import parse_detect
    from server.cli.models import api_errors

    with api_errors():
        # The API wants a picture too; here it is read afterwards.
        return parse_detect({**fields, "image": b"read later"}, settings).options


def _places(
    sources: "Sequence[Source]",
    overlay: str | None,
    settings: "Settings",
    *,
    missing: int,
    many: bool,
) -> list[Path | None]:
    """The file of each picture's overlay: where `detail` would put its result."""
    from server.api.parameters import parse
    from server.cli.outputs import check_folders, means_folder, plan
    from server.cli.sources import STANDARD, real_path

    if overlay is None or not sources:
        return [None] * len(sources)
    if Path(overlay) == STANDARD:
        raise UsageError("--overlay should be a file or a folder.")
    options = parse({"image": b"read later", "prompt": "", "denoise": "0"}, settings).options
    to_folder = means_folder(overlay, many=many)
    tasks = plan(
        sources, Path(overlay), options, missing=missing, by_ending=True, to_folder=to_folder
    )
    places = [place for task in tasks for place in task.outputs]
    inputs = {real_path(source.path) for source in sources}
    for place in places:
        if real_path(place) in inputs:
            raise OperatorError(f"{place} is the input: the overlay needs a file of its own.")
    check_folders(places)
    return list(places)


def _drawing(options: "DetectOptions", place: Path | None) -> "DetectOptions":
    """The same options with an overlay for that file."""
    from server.cli.outputs import FORMATS

    if place is None:
        return options
    encoding = replace(options.encoding, image_format=FORMATS[place.suffix.lower()])
    return replace(options, encoding=encoding, overlay=True)


def _show(
    source: "Source | None", found: "Detections", place: Path | None, *, as_json: bool
) -> None:
    """Draw and print what was found.

    Raises:
        PictureFailed: the drawing cannot be written; all else is printed.
    """
    drawn = None
    try:
        drawn = _draw(found, place)
    finally:
        _print(source, found, drawn, as_json=as_json)


def _draw(found: "Detections", place: Path | None) -> Path | None:
    """The file that holds the drawing; None: none was asked for.

    Raises:
        PictureFailed: it cannot be written.
    """
    from server.cli.results import PictureFailed
    from weights.files import write_file

    if place is None or found.overlay is None:
        return None
    try:
        write_file(place, found.overlay)
    except OSError as error:
        raise PictureFailed(f"{place}: {error.strerror}") from error
    return place


def _complain(sentence: str) -> None:
    print("face-detailer:", printable(sentence), file=sys.stderr, flush=True)


def _say_failed(path: Path, why: str, *, as_json: bool) -> None:
    """For whoever looks on, and as an object for whatever reads the others."""
    _complain(why)
    if as_json:
        print(json.dumps({"source": str(path), "error": why}))


def _print(
    source: "Source | None", found: "Detections", drawn: Path | None, *, as_json: bool
) -> None:
    """`source`: named where there may be several. `drawn`: the drawing's file, if there is one."""
    from server.cli.reporting import faces

    if as_json:
        report = asdict(found)
        report["overlay"] = None if drawn is None else str(drawn)
        print(json.dumps(report if source is None else {"source": str(source.path), **report}))
        return
    heading = "" if source is None else f"{source.shown}: "
    print(f"{heading}{faces(len(found.faces))}.")
    _print_faces((*found.faces, *found.rejected))
    if drawn is not None:
        print(
            f"Drawn into {printable(str(drawn))}: faces green, their crops blue, "
            "rejected detections orange."
        )


def _print_faces(every: "Sequence[Face]") -> None:
    from server.cli.tables import print_table

    if not every:
        return
    rows = []
    for number, face in enumerate(every, start=1):
        x0, y0, x1, y1 = face.box
        sizes = (f"{value:.0f}" for value in (x0, y0, x1 - x0, y1 - y0))
        turned = f"{90 * face.quarter_turns}°" if face.quarter_turns else ""
        reason = _REASONS.get(face.reason, face.reason) if face.reason else ""
        rows.append((str(number), f"{face.score:.2f}", *sizes, turned, reason))
    print_table(("", "score", "x", "y", "width", "height", "turned", "rejected"), rows)
