"""How `face-detailer weights` shows its progress: bars in a terminal, lines in a log."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from weights.store import Event, OnEvent

# In a log, a large file gets a line per tenth of its size; others get one when they begin.
_LARGE_BYTES = 100_000_000
_WAITING = "Waiting for another process that is writing to {}."
_PAUSING = "{}: the server asks to wait {:.0f} s."
_KEPT = "{} was changed by hand and is kept; this version comes with a different one."


@contextlib.contextmanager
def reporting() -> Iterator[OnEvent]:
    """Shows what `weights.pull` and `import_from` report while they run."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Reporter(progress)


class _Reporter:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._announced: set[str] = set()

    def __call__(self, event: Event) -> None:
        match event.stage:
            case "waiting":
                self._progress.console.print(_WAITING.format(event.path))
            case "pausing":
                self._progress.console.print(_PAUSING.format(event.path, event.wait_s))
            case "kept":
                self._progress.console.print(_KEPT.format(event.path))
            case "done":
                self._close(event.path)
                self._progress.console.print(f"{event.path}: {decimal(event.done_bytes)}")
            case stage:
                self._show(event, f"{stage} {event.path}")

    def _show(self, event: Event, text: str) -> None:
        if self._progress.disable:
            total = event.total_bytes or 0
            if event.stage == "fetching" and total >= _LARGE_BYTES:
                text += f", {event.done_bytes * 10 // total * 10} %"
            if text not in self._announced:
                self._announced.add(text)
                self._progress.console.print(text)
            return
        if event.path not in self._tasks:
            self._tasks[event.path] = self._progress.add_task(text)
        task = self._tasks[event.path]
        self._progress.update(task, description=text)
        if event.stage == "fetching":
            self._progress.update(task, completed=event.done_bytes, total=event.total_bytes)

    def _close(self, path: str) -> None:
        if path in self._tasks:
            self._progress.remove_task(self._tasks.pop(path))
