"""`face-detailer eval detect`: composes, finds, prints, writes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.loading import load_finder
from pipeline.types import FaceBox, Image
from server import logs
from server.cli_models import loading
from server.cli_tables import new_table, print_table
from server.evaluation.detection import TURNED, TURNS, UPRIGHT, Figures, Tally, measure, size_names
from server.evaluation.output import cell, write_json
from server.evaluation.portraits import Finder, picture_files, read_image, read_portraits
from server.evaluation.scenes import Portrait, Scene, compose
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, as the command's options say."""

    data: Path
    labels: Path | None
    backgrounds: Path | None
    every: int
    scenes: int
    seed: int


def run(plan: Plan, output: Path | None, settings: Settings) -> None:
    """Print the figures as tables, and write them to `output` as JSON.

    Raises:
        OperatorError: a folder or file is not what it should be, or the weights are not there.
    """
    logs.configure("warning")
    console = Console(stderr=True)
    files = picture_files(plan.data, plan.every)
    empty = [] if plan.backgrounds is None else picture_files(plan.backgrounds, plan.every)
    with loading(settings, console) as (folder, device):
        find = load_finder(folder, device)
    portraits = read_portraits(files, plan.labels, find)
    backgrounds = [read_image(file) for file in empty]
    started = time.monotonic()
    figures = measure(_looked_at(plan, portraits, backgrounds, find, console))
    seconds = time.monotonic() - started
    boxes = "the detector's own" if plan.labels is None else plan.labels.name
    print(
        f"{plan.scenes} scenes (seed {plan.seed}) of {len(portraits)} of {len(files)} portraits, "
        f"boxes: {boxes}; {seconds:.0f} s"
    )
    print_table(_by_size(figures))
    print_table(_by_turn(figures))
    if output is not None:
        report = {
            "profile": folder.name,
            "scenes": plan.scenes,
            "seed": plan.seed,
            "portraits": len(portraits),
            "boxes": "own" if plan.labels is None else "labels",
            "seconds": round(seconds, 1),
            **as_json(figures),
        }
        write_json(output, report)


def _looked_at(
    plan: Plan,
    portraits: Sequence[Portrait],
    backgrounds: Sequence[Image],
    find: Finder,
    console: Console,
) -> Iterator[tuple[Scene, list[FaceBox]]]:
    bar = not console.is_terminal
    for index in track(range(plan.scenes), "Scenes", console=console, disable=bar, transient=True):
        scene = compose(portraits, backgrounds, plan.seed, index)
        yield scene, find(scene.image)


def _size_rows(figures: Figures) -> list[tuple[str, Tally, Tally]]:
    """Per size, and for those from 32 px on together: the upright faces, the turned ones."""
    sizes = size_names()
    groups = [*((size, [size]) for size in sizes), ("all from 32 px", sizes[1:])]
    return [
        (name, figures.sum(group, [UPRIGHT]), figures.sum(group, TURNED)) for name, group in groups
    ]


def _turn_rows(figures: Figures) -> list[tuple[str, Tally]]:
    """Per turn, and for all together."""
    groups = [*((turn, [turn]) for turn in TURNS), ("all", list(TURNS))]
    return [(name, figures.sum(size_names(), group)) for name, group in groups]


def _by_size(figures: Figures) -> Table:
    columns = ("faces", "recall", "precision")
    table = new_table(
        "longer side", *(f"upright {name}" for name in columns), *(f"turned {c}" for c in columns)
    )
    for name, upright, turned in _size_rows(figures):
        cells = [
            text
            for tally in (upright, turned)
            for text in (str(tally.faces), cell(tally.recall, ".3f"), cell(tally.precision, ".3f"))
        ]
        table.add_row(name, *cells)
    return table


def _by_turn(figures: Figures) -> Table:
    table = new_table("turned", "faces", "recall", "turn right", "finds", "precision")
    for name, tally in _turn_rows(figures):
        table.add_row(
            name,
            str(tally.faces),
            cell(tally.recall, ".3f"),
            cell(tally.turn_right, ".3f"),
            str(tally.finds),
            cell(tally.precision, ".3f"),
        )
    return table


def as_json(figures: Figures) -> dict[str, object]:
    """The tables' figures, by name."""
    return {
        "sizes": {
            name: {"upright": upright.as_json(), "turned": turned.as_json()}
            for name, upright, turned in _size_rows(figures)
        },
        "turns": {name: tally.as_json() for name, tally in _turn_rows(figures)},
    }
