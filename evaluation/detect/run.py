"""How many faces of composed scenes the detector finds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evaluation.charts import Bars
from evaluation.detect.scenes import compose
from evaluation.detect.scoring import TURNED, TURNS, UPRIGHT, Figures, Tally, measure, size_names
from evaluation.portraits import Finder, picture_files, read_image, read_portraits
from evaluation.report import Report, Table, Track, cell, silent


@dataclass(frozen=True, slots=True)
class Plan:
    """`data`: a folder of portraits; `labels`: a JSON file of their faces, None: ask the detector;
    `backgrounds`: a folder of pictures without faces, None to draw clouds; `every`: takes every
    Nth picture; `scenes`: how many are composed, as `seed` decides.
    """

    data: Path
    labels: Path | None
    backgrounds: Path | None
    every: int
    scenes: int
    seed: int


def run(plan: Plan, load: Callable[[], Finder], track: Track = silent) -> Report:
    """Compose scenes, look for their faces, and count.

    Args:
        plan: what is measured.
        load: gives what finds faces; called once the folders are known to hold pictures.
        track: shows how far it is.

    Raises:
        EvaluationError: a folder or file is not what it should be.
    """
    files = picture_files(plan.data, plan.every)
    empty = [] if plan.backgrounds is None else picture_files(plan.backgrounds, plan.every)
    find = load()
    portraits = read_portraits(files, plan.labels, find)
    backgrounds = [read_image(file) for file in empty]
    started = time.monotonic()
    scenes = (
        compose(portraits, backgrounds, plan.seed, index)
        for index in track(range(plan.scenes), "Scenes")
    )
    counts = measure((scene, find(scene.image)) for scene in scenes)
    seconds = time.monotonic() - started
    boxes = "the detector's own" if plan.labels is None else plan.labels.name
    headline = (
        f"{plan.scenes} scenes (seed {plan.seed}) of {len(portraits)} of {len(files)} portraits, "
        f"boxes: {boxes}; {seconds:.0f} s"
    )
    figures = {
        "scenes": plan.scenes,
        "seed": plan.seed,
        "portraits": len(portraits),
        "boxes": "own" if plan.labels is None else "labels",
        "seconds": round(seconds, 1),
        **as_json(counts),
    }
    tables = (_by_size(counts), _by_turn(counts))
    return Report(headline, tables, figures, (_bars(counts),))


def _bars(figures: Figures) -> Bars:
    rows = _size_rows(figures)
    series = {
        "upright": [upright.recall for _, upright, _ in rows],
        "turned": [turned.recall for _, _, turned in rows],
    }
    return Bars("recall, by the face's size in pixels", tuple(name for name, _, _ in rows), series)


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
    names = ("faces", "recall", "precision")
    columns = [f"{turn} {name}" for turn in ("upright", "turned") for name in names]
    rows = [
        (
            name,
            *(
                text
                for tally in (upright, turned)
                for text in (
                    str(tally.faces),
                    cell(tally.recall, ".3f"),
                    cell(tally.precision, ".3f"),
                )
            ),
        )
        for name, upright, turned in _size_rows(figures)
    ]
    return Table(("longer side", *columns), tuple(rows))


def _by_turn(figures: Figures) -> Table:
    rows = [
        (
            name,
            str(tally.faces),
            cell(tally.recall, ".3f"),
            cell(tally.turn_right, ".3f"),
            str(tally.detections),
            cell(tally.precision, ".3f"),
        )
        for name, tally in _turn_rows(figures)
    ]
    columns = ("turned", "faces", "recall", "turn right", "detections", "precision")
    return Table(columns, tuple(rows))


def as_json(figures: Figures) -> dict[str, object]:
    """The tables' figures, by name."""
    return {
        "sizes": {
            name: {"upright": upright.as_json(), "turned": turned.as_json()}
            for name, upright, turned in _size_rows(figures)
        },
        "turns": {name: tally.as_json() for name, tally in _turn_rows(figures)},
    }
