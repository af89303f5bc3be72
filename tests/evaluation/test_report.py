"""What measurements give back, and what measuring asks of the process it runs in."""

import subprocess
import sys

import pytest

from evaluation.report import Table, cell
from pipeline.errors import InvalidValue


def test_a_table_has_a_cell_per_column() -> None:
    assert Table(("a", "b"), (("1", "2"),)).rows == (("1", "2"),)
    with pytest.raises(InvalidValue, match="2 cells a row, got 1"):
        Table(("a", "b"), (("1",),))


def test_what_was_not_measured_is_a_dash() -> None:
    assert (cell(0.25, ".1%"), cell(None, ".1%")) == ("25.0%", "–")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["pipeline.loading", "evaluation.bench"])
def test_the_libraries_are_told_to_stay_off_the_network(module: str) -> None:
    """They ask the environment once, when they are imported."""
    program = f"import {module}, huggingface_hub.constants as hub; print(hub.HF_HUB_OFFLINE)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True\n", 0)
