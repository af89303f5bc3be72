"""How commands show that they go on, and how figures are written."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from server.cli_models import write_file


def shown(files: Sequence[Path], console: Console) -> Iterable[Path]:
    """The files, with a bar that tells how far they are; none where nobody watches."""
    hidden = not console.is_terminal
    return track(files, "Pictures", console=console, disable=hidden, transient=True)


def cell(value: float | None, form: str) -> str:
    """A figure in a table, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def write_json(file: Path, report: Mapping[str, object]) -> None:
    """Renamed when complete."""
    text = json.dumps(report, indent=2, ensure_ascii=False)
    write_file(file, f"{text}\n".encode())
