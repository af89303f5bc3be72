"""`examples/faces.ipynb`: it runs from top to bottom, and shows what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "faces.ipynb"
RUN = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=sys.argv[3])
nbformat.validate(notebook)
nbformat.write(notebook, sys.argv[2])
"""


def cells(file: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return read


def test_it_is_kept_without_what_a_run_has_left() -> None:
    for cell in cells(NOTEBOOK):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """In a process of its own: Jupyter's packages warn of themselves."""
    done = tmp_path / "done.ipynb"
    here = {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_PATH": f"{sys.prefix}/share/jupyter"}
    path = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), str(done), str(NOTEBOOK.parent)],
        env=os.environ | here | path,
        check=True,
    )
    outputs = [output for cell in cells(done) for output in cell.get("outputs", [])]
    texts = "".join("".join(output.get("text", "")) for output in outputs)
    assert "512 × 512 pixels" in texts
    assert "A face of " in texts
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    assert not [output for output in outputs if output["output_type"] == "error"]
