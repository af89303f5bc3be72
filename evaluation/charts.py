"""Charts of what was measured, for people who would rather look than read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evaluation.errors import EvaluationError
from weights.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL_INCHES: Final = (4.8, 3.6)
_DPI: Final = 120
_COLOURS: Final = ("#9aa5b1", "#2563a8", "#d9822b", "#3a9d5d", "#8e5ea2", "#444444")
# What a bar's group takes of the room between two groups.
_GROUP: Final = 0.8


@dataclass(frozen=True, slots=True)
class Bars:
    """A group of bars for each of `groups`, and in each a bar per series where that is a finite
    number. `unit`: what the height is; `across`: what the groups are, where their names do not say.
    """

    unit: str
    groups: tuple[str, ...]
    series: Mapping[str, Sequence[float | None]]
    across: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """A line per series, through (x, y) points. `across` and `unit`: what x and y are."""

    across: str
    unit: str
    series: Mapping[str, Sequence[tuple[float, float]]]


def chart_beside(file: Path) -> Path:
    """Where the chart of a measurement goes that is written to `file`: `a.json` has
    `a-chart.png`.
    """
    return file.with_name(f"{file.stem}-chart.png")


def draw(panels: Sequence[Bars | Lines], title: str, file: Path) -> None:
    """Write the panels, side by side below `title`, as a PNG.

    Raises:
        EvaluationError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(panels), height), layout="constrained")
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        if isinstance(panel, Bars):
            _bars(axes, panel)
        else:
            _lines(axes, panel)
        axes.set_ylabel(panel.unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.margins(y=0.15)
        axes.legend(frameon=False, fontsize="small")
    figure.suptitle(title, fontsize="medium", wrap=True)
    try:
        with replacing(file) as part:
            figure.savefig(part, format="png", dpi=_DPI)
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from error


def _bars(axes: "Axes", panel: Bars) -> None:
    width = _GROUP / len(panel.series)
    for number, (name, heights) in enumerate(panel.series.items()):
        shift = (number - (len(panel.series) - 1) / 2) * width
        there = [
            (at + shift, height)
            for at, height in enumerate(heights)
            if height is not None and math.isfinite(height)
        ]
        places, shown = [at for at, _ in there], [height for _, height in there]
        bars = axes.bar(places, shown, width, label=name, color=_COLOURS[number % len(_COLOURS)])
        axes.bar_label(bars, fmt="%.3g", fontsize="x-small", padding=2)
    axes.set_xticks(range(len(panel.groups)), panel.groups)
    axes.set_xlim(-0.5, len(panel.groups) - 0.5)
    axes.set_xlabel(panel.across)


def _lines(axes: "Axes", panel: Lines) -> None:
    for name, points in panel.series.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xlabel(panel.across)
    axes.set_xticks(sorted({x for points in panel.series.values() for x, _ in points}))
    axes.set_ylim(bottom=0)
