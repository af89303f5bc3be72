"""`tests/gpu/run.sh` where there is no card: all its steps, on one that is pretended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "run.sh"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_step_runs_on_a_pretended_card_and_leaves_its_figures(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        [SCRIPT, "--pretend"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["about"][0]["card"] == "a pretended card"
    assert found["tests"][0]["failures"] == found["tests"][0]["errors"] == 0
    assert [row["faces"] for row in found["bench-1024"]] == [1, 2]
    assert all(row["ours_s"] > 0 < row["stock_s"] for row in found["bench-1024"])
    assert [row["mode"] for row in found["modes"]] == ["resident", "offload", "low"]
    assert found["four"][0]["requests"] == 4
    assert found["soak"][-1]["failed"] == 0
    table = (tmp_path / "table.md").read_text()
    assert table in done.stdout
    assert "The card was pretended: no figure below means anything." in table


def test_a_word_that_it_does_not_know_is_refused():
    done = subprocess.run([SCRIPT, "--fast"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: tests/gpu/run.sh [--pretend]\n")
