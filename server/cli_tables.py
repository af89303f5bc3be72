"""How the commands print tables."""

from rich import box
from rich.console import Console
from rich.table import Table

_UNLIMITED_WIDTH = 1000


def new_table(*columns: str) -> Table:
    """An empty table with these columns."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Print, cut to the terminal's width; a file or a pipe gets it whole."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNLIMITED_WIDTH)
    console.print(table)
