"""What a measurement gives back: tables for people, and the same figures as data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from evaluation.charts import Bars
from pipeline.checks import check

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Table:
    """Text in `columns`, which are headings, and `rows` with one cell per column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            check(len(row) == len(self.columns), f"{len(self.columns)} cells a row", len(row))


@dataclass(frozen=True, slots=True)
class Report:
    """`headline`: what was measured, in a line. `figures`: everything, ready for JSON. `bars`: what
    of it is shown in a chart.
    """

    headline: str
    tables: tuple[Table, ...]
    figures: Mapping[str, object]
    bars: tuple[Bars, ...]


class Track(Protocol):
    """Shows how far a loop has come."""

    def __call__(self, items: Sequence[Item], what: str) -> Iterable[Item]:
        """The items, one by one. `what`: their name in the plural, such as "Pictures"."""


def silent(items: Sequence[Item], what: str) -> Iterable[Item]:  # noqa: ARG001
    """A `Track` that shows nothing."""
    return items


def cell(value: float | None, form: str) -> str:
    """A figure, formatted by the format specification `form`; a dash for None."""
    return "–" if value is None else format(value, form)
