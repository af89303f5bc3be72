"""How the commands print tables."""

from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.cli.texts import printable

# From where on a table of a file or a pipe is no longer drawn.
_WIDE = 80
# Characters of a cell that is kept in one line.
_SHORT = 12
# What a column takes beside its cells, and the table beside its columns.
_PADDING = 2
# What it takes where there is room for everything.
_APART = 3


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], to: TextIO | None = None
) -> None:
    """Print `rows` of as many cells as there are `columns`, to standard output or `to`. Nothing is
    cut: in a narrow terminal long cells go on in the next line, and where even that does not help
    each row is a list. A file or a pipe gets a line a row, with tabs where it would be wide.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    console = Console(file=to)
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if not console.is_terminal:
        if sum(widths) + _APART * len(widths) > _WIDE:
            for row in (columns, *cells):
                print("\t".join(row), file=to)
            return
        console = Console(file=to, width=_WIDE)
    if sum(min(width, _SHORT) + _PADDING for width in widths) + _PADDING > console.width:
        _print_lists(console, columns, cells)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name, width in zip(columns, widths, strict=True):
        table.add_column(Text(name), no_wrap=width <= _SHORT, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_lists(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max(map(cell_len, columns))
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            console.print(Text(f"{name:{width}}  {cell}"), soft_wrap=True)
        console.print()
