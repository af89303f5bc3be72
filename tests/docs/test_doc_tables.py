"""The tables of fields and settings in docs/ are what `docs/tables.py` makes of the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of the script and its pages, to be changed."""
    for name in ("tables.py", "api.md", "settings.md"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the script that lies in `folder`; its exit code and what it said."""
    command = [sys.executable, folder / "tables.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_table_is_up_to_date() -> None:
    assert run(ROOT / "docs", "--check") == (0, "")


@pytest.mark.parametrize(
    ("page", "old", "new"),
    [
        ("api.md", "| 15–75 |", "| 15–76 |"),
        pytest.param(
            "api.md",
            "| `overlay` | bool | `false` |",
            "| `overlay` | bool | `true` |",
            marks=pytest.mark.slow,
        ),
        ("settings.md", "| `8000` |", "| `80` |"),
        pytest.param(
            "settings.md", "Address to listen on", "Where to listen", marks=pytest.mark.slow
        ),
    ],
)
def test_a_cell_that_the_code_does_not_say_is_noticed_and_rewritten(
    docs: Path, page: str, old: str, new: str
) -> None:
    before = (docs / page).read_text()
    assert old in before
    (docs / page).write_text(before.replace(old, new))
    code, said = run(docs, "--check")
    assert (code, said.split()[0]) == (1, f"{page}:")
    assert run(docs) == (0, f"{page}: rewritten\n")
    assert (docs / page).read_text() == before


@pytest.mark.parametrize(
    ("page", "pattern", "new", "problem"),
    [
        ("settings.md", r" queue_size ", " ", "queue_size: listed 0 times, should be 1"),
        ("settings.md", r" queue_size ", " queue_sise ", "queue_sise: listed 1 times, should be 0"),
        ("api.md", r"<!-- table: own fields -->", "", "own fields: listed 0 times, should be 1"),
    ],
)
def test_a_setting_or_table_that_is_not_listed_is_named(
    docs: Path, page: str, pattern: str, new: str, problem: str
) -> None:
    text, count = re.subn(pattern, new, (docs / page).read_text())
    assert count == 1
    (docs / page).write_text(text)
    code, said = run(docs)
    assert code == 1
    assert problem in said.splitlines()
