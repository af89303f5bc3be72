"""The bars of `face-detailer detail`: one per picture at work, and one over all."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

OnStage = Callable[[str, float], None]
"""Told what a picture is at, in words, and the share of its work that is done, in [0, 1); 0 where
nobody can say. May be called from any thread.
"""


class Bars:
    """Bars where somebody watches; nothing in a file or a pipe."""

    def __init__(self, console: Console, pictures: int) -> None:
        shown = console.is_terminal
        words, bar, clock = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        self._bars = Progress(words, bar, clock, console=console, disable=not shown, transient=True)
        self._all = self._bars.add_task("", total=pictures, visible=False)
        self._pictures = pictures
        self._done = 0
        self._shares: dict[TaskID, float] = {}

    def __enter__(self) -> "Bars":
        self._bars.start()
        self._show_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextlib.contextmanager
    def picture(self, name: str) -> Iterator[OnStage]:
        """A bar for the block. It moves to and fro until somebody can say how much is done."""
        bar = self._bars.add_task(escape(name), total=None)

        def show(words: str, share: float) -> None:
            said = escape(f"{name}: {words}")
            if not share:
                self._bars.update(bar, description=said)
                return
            self._bars.update(bar, description=said, completed=share, total=1)
            self._shares[bar] = share
            self._show_all()

        try:
            yield show
        finally:
            self._bars.remove_task(bar)
            self._shares.pop(bar, None)
            self._done += 1
            self._show_all()

    def _show_all(self) -> None:
        said = f"{self._done} of {self._pictures} pictures"
        several = self._pictures > 1
        done = self._done + sum(list(self._shares.values()))
        self._bars.update(self._all, description=said, completed=done, visible=several)
