"""Charts of measurements."""

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from evaluation.charts import Bars, Lines, chart_beside, draw
from evaluation.errors import EvaluationError


def blue(file: Path) -> int:
    """How many pixels have the second series' colour."""
    with PIL.Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((abs(pixels - (0x25, 0x63, 0xA8)).max(axis=2) < 8).sum())


def test_a_bar_is_as_high_as_its_figure(tmp_path: Path) -> None:
    file = chart_beside(tmp_path / "figures.json")
    assert file == tmp_path / "figures-chart.png"
    areas = []
    for height in (1.0, 2.0, math.inf, None):
        bars = Bars("dB", ("light", "heavy"), {"before": [4.0, 4.0], "after": [height, height]})
        draw([bars], "A title", file)
        areas.append(blue(file))
    # What is no number has no bar, but its colour in the legend.
    legend = areas[3]
    assert areas[2] == legend < areas[0] / 5
    assert areas[1] - legend == pytest.approx(2 * (areas[0] - legend), rel=0.05)


def test_panels_are_side_by_side(tmp_path: Path) -> None:
    lines = Lines("faces", "seconds a face", {"ours": [(1.0, 3.0), (4.0, 1.0)]})
    for count in (1, 2):
        draw([lines] * count, "A title", tmp_path / f"{count}.png")
    with PIL.Image.open(tmp_path / "1.png") as one, PIL.Image.open(tmp_path / "2.png") as two:
        assert two.size == (2 * one.width, one.height)
    with pytest.raises(EvaluationError, match=r"^/proc/none/chart\.png: "):
        draw([lines], "A title", Path("/proc/none/chart.png"))
