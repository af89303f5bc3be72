"""What the documentation shows, taken apart."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    ROOT / "training" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "weights").rglob("README.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks in one language."""
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def shell_lines(page: Path) -> list[list[str]]:
    """The words of every command in the page's shell blocks."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def tables(page: Path) -> list[list[list[str]]]:
    """Every table: its rows, heading included, as cells."""
    found: list[list[list[str]]] = [[]]
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not set("".join(cells)) <= set("-: "):
                found[-1].append(cells)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def code(cell: str) -> str:
    """What a cell holds between backticks, if that is all of it."""
    return cell[1:-1] if len(cell) > 2 and cell[0] == cell[-1] == "`" else cell
