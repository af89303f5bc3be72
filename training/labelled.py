"""Training data of detector and masker: labelled portraits, and pictures without a face."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.outlines import Points
from training import common

Pixels = NDArray[np.uint8]

PORTRAIT_PX = 256
# A face stays labelled as long as this share of its box is inside the picture and not covered by a
# later portrait.
VISIBLE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Portrait:
    """One portrait, PORTRAIT_PX a side; per face, points whose bounding box is the face's box."""

    rgb: Pixels
    faces: tuple[Points, ...]


def load_portraits(data: Path, labels: Path, *, validation: bool) -> list[Portrait]:
    """The labelled portraits of one side of the split; `labels`: `faces.json` of `teachers.py`."""
    known = json.loads(labels.read_text(encoding="utf-8"))
    portraits = []
    for file in common.face_files(data, validation=validation):
        rgb = common.load_rgb(file)
        scale = np.array([PORTRAIT_PX / rgb.shape[1], PORTRAIT_PX / rgb.shape[0]], np.float32)
        faces = []
        for face in known[file.name]:
            x0, y0, x1, y1 = face["box"]
            # The midpoints of the sides: turned, they keep the box of an ellipse, as a turned face
            # does.
            points = face["oval"] or [
                [(x0 + x1) / 2, y0],
                [x1, (y0 + y1) / 2],
                [(x0 + x1) / 2, y1],
                [x0, (y0 + y1) / 2],
            ]
            faces.append(np.array(points, np.float32) * scale)
        if faces:
            small = cv2.resize(rgb, (PORTRAIT_PX, PORTRAIT_PX), interpolation=cv2.INTER_AREA)
            portraits.append(Portrait(np.ascontiguousarray(small, dtype=np.uint8), tuple(faces)))
    return portraits


def _split(folder: Path, pattern: str, *, validation: bool) -> list[Path]:
    """One side of the split of what `training/photos.py` wrote.

    Raises:
        FileNotFoundError: the folder contains none.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(f"no pictures in {folder}: run python -m training.photos first")
    every = common.VALIDATION_EVERY
    return [file for index, file in enumerate(files) if (index % every == 0) == validation]


def load_scenes(work_dir: Path, *, validation: bool) -> list[Pixels]:
    """The backgrounds on one side of the split, (H, W, 3)."""
    return [common.load_rgb(f) for f in _split(work_dir / "scenes", "*.jpg", validation=validation)]


def load_objects(work_dir: Path, *, validation: bool) -> list[Pixels]:
    """The cut-out objects of one side of the split: (H, W, 4), RGB premultiplied by alpha."""
    objects = []
    for file in _split(work_dir / "objects", "*.png", validation=validation):
        with Image.open(file) as picture:
            rgba = np.array(picture.convert("RGBA"))
        rgba[..., :3] = rgba[..., :3] * (rgba[..., 3:] / 255)
        objects.append(rgba)
    return objects


def boxes_of(faces: list[Points], width: int, height: int) -> NDArray[np.float32]:
    """(N, 4) x0, y0, x1, y1, clipped to the picture; without faces that are mostly outside."""
    rows = []
    for points in faces:
        low, high = points.min(axis=0), points.max(axis=0)
        clipped = np.concatenate([low.clip(0), np.minimum(high, (width, height))])
        area = np.prod((clipped[2:] - clipped[:2]).clip(0))
        if area >= VISIBLE_SHARE * np.prod(high - low) and min(clipped[2:] - clipped[:2]) >= 4:
            rows.append(clipped)
    return np.array(rows, np.float32).reshape(-1, 4)
