"""`face-detailer eval`: figures of a profile on pictures whose right answer is known."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from server.cli.interrupting import BEGINS_AGAIN, stoppable
from server.errors import OperatorError

if TYPE_CHECKING:
    from evaluation.report import Report
    from pipeline.detailer import FaceDetailer

Item = TypeVar("Item")

Portraits = Annotated[Path, typer.Option(help="Folder of portraits, one upright face each.")]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help='Their faces: {"a.jpg": [{"box": [x0, y0, x1, y1]}]}. '
        "Default: what the detector finds in each portrait alone."
    ),
]
Every = Annotated[
    int, typer.Option(min=1, help="Take every Nth picture; tiny learned from 9 of every 10.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Of those, take only the first so many.")]
SheetFile = Annotated[
    Path | None, typer.Option("--sheet", help="Draw a contact sheet into this PNG.")
]
Output = Annotated[
    Path | None, typer.Option("--json", help="Write the figures into this file too.")
]
ProfileName = Annotated[str | None, typer.Option("--profile", help="auto, tiny or sdxl.")]
DeviceName = Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, …")]

# The packages of the optional extra `eval`: as they are imported, as they are installed.
_EXTRA = {
    "dlib": "dlib-bin",
    "face_recognition_models": "face-recognition-models",
    "piq": "piq",
    "skimage": "scikit-image",
}

app = typer.Typer(help="Measure a profile.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure a profile on pictures whose right answer is known."""


@app.command()
def detect(
    data: Portraits,
    labels: Boxes = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of pictures without faces. Default: drawn clouds.")
    ] = None,
    every: Every = 1,
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes are composed.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes.")] = 0,
    output: Output = None,
    profile: ProfileName = None,
    device: DeviceName = None,
) -> None:
    """Detection: recall and precision on composed scenes, by the faces' size and turn."""
    from evaluation.detect import Plan, run
    from evaluation.portraits import Finder
    from pipeline.loading import load_finder

    session = _Session(profile, device, output, None)

    def load() -> Finder:
        with session.loading() as (path, device_name):
            return load_finder(path, device_name)

    plan = Plan(data, labels, backgrounds, every, scenes, seed)
    session.show(lambda: run(plan, load, session.track))


@app.command()
def restore(
    data: Portraits,
    labels: Boxes = None,
    every: Every = 1,
    limit: Limit = None,
    denoise: Annotated[float, typer.Option(min=0, max=1, help="As in a request.")] = 0.4,
    prompt: Annotated[str, typer.Option(help="As in a request.")] = "detailed face",
    levels: Annotated[
        str, typer.Option(help="Which damages, with commas.")
    ] = "none,light,medium,heavy",
    side: Annotated[
        int, typer.Option(min=64, help="Longer side, in pixels, of the pictures to damage.")
    ] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same damage.")] = 0,
    sheet: SheetFile = None,
    output: Output = None,
    profile: ProfileName = None,
    device: DeviceName = None,
) -> None:
    """Restoration: known faces are damaged, detailed and compared with what they were."""
    _require("dlib", "face_recognition_models", "piq", "skimage")
    from evaluation.restore import Plan, run

    session = _Session(profile, device, output, sheet)
    names = tuple(level.strip() for level in levels.split(","))
    plan = Plan(data, labels, every, limit, names, side, seed, prompt, denoise)
    session.show(lambda: run(plan, sheet, session.load_detailer, session.track))


@app.command()
def masks(
    data: Annotated[Path, typer.Option(help="Folder of pictures.")],
    labels: Annotated[
        Path,
        typer.Option(help='Outlines of their faces: {"a.jpg": [{"oval": [[x, y], …]}]}.'),
    ],
    every: Every = 1,
    limit: Limit = None,
    sheet: SheetFile = None,
    output: Output = None,
    profile: ProfileName = None,
    device: DeviceName = None,
) -> None:
    """Masks: how well they fit labelled outlines of faces, before they are grown."""
    from evaluation.masks import Plan, Stages, run
    from pipeline.config_reading import read_profile
    from pipeline.loading import load_finder
    from pipeline.models.sam import load_segmenter

    session = _Session(profile, device, output, sheet)

    def load() -> Stages:
        with session.loading() as (path, device_name):
            chosen = read_profile(path)
            segmenter = load_segmenter(chosen.folder, chosen.segmenter, device_name)
            return Stages(load_finder(path, device_name), segmenter, chosen.detail)

    plan = Plan(data, labels, every, limit)
    session.show(lambda: run(plan, sheet, load, session.track))


@app.command()
def upscale(
    data: Annotated[Path, typer.Option(help="Folder of sharp photographs.")],
    every: Every = 1,
    limit: Limit = None,
    side: Annotated[
        int, typer.Option(min=64, help="Take the middle, at most so many pixels a side.")
    ] = 1024,
    sheet: SheetFile = None,
    output: Output = None,
    profile: ProfileName = None,
    device: DeviceName = None,
) -> None:
    """Enlargement: photographs are shrunk by 2 and 4, and enlarged again, also by Lanczos."""
    _require("skimage")
    from evaluation.upscale import Plan, run

    session = _Session(profile, device, output, sheet)
    plan = Plan(data, every, limit, side)
    session.show(lambda: run(plan, sheet, session.load_detailer, session.track))


def _require(*modules: str) -> None:
    """See that these packages of the extra `eval` are installed.

    Raises:
        OperatorError: one is not.
    """
    missing = [_EXTRA[module] for module in modules if find_spec(module) is None]
    if missing:
        raise OperatorError(
            f"Not installed: {', '.join(missing)}. Install the extra face-detailer[eval]."
        )


class _Session:
    """One measurement at a terminal: its profile and device, its progress bar, its report."""

    def __init__(
        self, profile: str | None, device: str | None, output: Path | None, sheet: Path | None
    ) -> None:
        """`output`: where figures are written, `sheet`: pictures; beside either, a chart.

        Raises:
            OperatorError: one cannot be.
        """
        from rich.console import Console

        from evaluation.charts import chart_beside
        from server import logs
        from server.cli.outputs import check_folders
        from server.settings import read_settings

        written = [file for file in (output, sheet) if file is not None]
        self._output = output
        self._chart = chart_beside(written[0]) if written else None
        check_folders([*written, *([self._chart] if self._chart else [])])

        logs.configure("warning")
        self._settings = read_settings(profile=profile, devices=device)
        self._console = Console(stderr=True)
        self._profile = ""
        self._finished = ""

    @contextmanager
    def loading(self) -> Iterator[tuple[Path, str]]:
        """The profile's path and the device, for the block to load from; named on the console."""
        from pipeline.config_reading import read_profile
        from server.cli.models import loading

        with loading(self._settings, self._console) as (path, device):
            self._profile = read_profile(path).name
            yield path, device

    def load_detailer(self) -> "FaceDetailer":
        """The whole profile."""
        from server.cli.models import load_detailer

        detailer = load_detailer(self._settings, self._console)
        self._profile = detailer.profile.name
        return detailer

    def track(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """A progress bar where somebody watches."""
        from rich.progress import track

        hidden = not self._console.is_terminal
        begun = track(items, what, console=self._console, disable=hidden, transient=True)
        for done, item in enumerate(begun, start=1):
            yield item
            self._finished = f"{done} of {len(items)} {what.lower()}"

    def show(self, measure: Callable[[], "Report"]) -> None:
        """Measure and print the report; write its figures as JSON, and a chart of them.

        Raises:
            OperatorError, EvaluationError: a file cannot be written.
            StoppedByUser: by Ctrl-C; no figures are written.
        """
        with stoppable(self._stopped):
            self._write(measure())

    def _stopped(self) -> str:
        """What is said after Ctrl-C."""
        done = f": {self._finished} were measured" if self._finished else " before it was begun"
        unwritten = "" if self._output is None else f" {self._output} was not written."
        return f"Stopped{done}.{unwritten} {BEGINS_AGAIN}"

    def _write(self, report: "Report") -> None:
        from evaluation.charts import draw
        from server.cli.tables import print_table
        from weights.files import write_file

        print(report.headline)
        for table in report.tables:
            print_table(table.columns, table.rows)
        if self._chart is not None:
            draw(report.bars, f"{self._profile}: {report.headline}", self._chart)
        if self._output is None:
            return
        figures = {"profile": self._profile, **report.figures}
        text = json.dumps(figures, indent=2, ensure_ascii=False)
        try:
            write_file(self._output, f"{text}\n".encode())
        except OSError as error:
            raise OperatorError(f"{self._output}: {error.strerror}") from error
