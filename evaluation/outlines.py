"""Labelled outlines of faces."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.portraits import read_labels

# (N, 2) x and y in pixels, in order along the outline.
Points = NDArray[np.float32]

_FORM = '{"a.jpg": [{"oval": [[x, y], …], "box": [x0, y0, x1, y1]}]}'
_MIN_POINTS = 3


def read_ovals(file: Path) -> Mapping[str, list[Points]]:
    """The outlines of the faces of each picture, by the pictures' names; faces without one are
    left out. The file is what `training/teachers.py` writes.

    Raises:
        EvaluationError: the file cannot be read, or is of another form.
    """
    known = read_labels(file, _oval, _FORM)
    return {
        name: [oval for oval in ovals if len(oval) >= _MIN_POINTS] for name, ovals in known.items()
    }


def fill_oval(oval: Points, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """(height_px, width_px) uint8: 1 inside the outline, 0 elsewhere."""
    mask = np.zeros((height_px, width_px), np.uint8)
    cv2.fillPoly(mask, [np.round(oval).astype(np.int32)], 1)
    return mask


def _oval(face: dict[str, Any]) -> Points:
    return np.array(face["oval"], np.float32).reshape(-1, 2)
