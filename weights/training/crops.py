"""Crops of faces with masks and prompt boxes, drawn at random: what the masker learns from."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from weights.training import common
from weights.training.composites import Composer
from weights.training.labelled import Pixels, Points, fill_oval

PROMPTS = 4
BOX_JITTER = 0.05  # standard deviation of each side, as a share of the box
NO_FACE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Face:
    """A portrait and one of its ovals, (36, 2) in its pixels."""

    rgb: Pixels
    oval: Points


@dataclass(frozen=True, slots=True)
class Example:
    """A crop (S, S, 3), its mask (S, S) of 0 and 1, and prompt boxes (PROMPTS, 4) in its pixels."""

    rgb: Pixels
    mask: Pixels
    boxes: NDArray[np.float32]


def load_faces(data: Path, labels: Path, *, validation: bool) -> list[Face]:
    """The faces with an oval on one side of the split; `labels`: faces.json, by `teachers.py`."""
    known = json.loads(labels.read_text(encoding="utf-8"))
    return [
        Face(common.load_rgb(file), np.array(face["oval"], np.float32))
        for file in common.face_files(data, validation=validation)
        for face in known[file.name]
        if face["oval"]
    ]


def cut(face: Face, side_px: int, *, factor: float, degrees: float, shift: Points) -> Example:
    """A square crop `factor` times the face, turned, its centre off by `shift` faces."""
    low, high = face.oval.min(axis=0), face.oval.max(axis=0)
    extent = float((high - low).max())
    centre = (low + high) / 2 + shift * extent
    matrix = cv2.getRotationMatrix2D(
        (float(centre[0]), float(centre[1])), degrees, side_px / (factor * extent)
    )
    matrix[:, 2] += side_px / 2 - centre
    rgb = cv2.warpAffine(
        face.rgb, matrix, (side_px, side_px), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    oval = face.oval @ matrix[:, :2].T + matrix[:, 2]
    mask = fill_oval(oval, side_px, side_px)
    box = np.concatenate([oval.min(axis=0), oval.max(axis=0)]).astype(np.float32)
    return Example(np.ascontiguousarray(rgb, dtype=np.uint8), mask, box[None])


class Cutter:
    """Draws training crops at random."""

    def __init__(self, faces: list[Face], scenes: list[Pixels], side_px: int, seed: int) -> None:
        self.faces = faces
        self.side_px = side_px
        self.rng = random.Random(seed)
        self.composer = Composer([], scenes, seed)

    def jittered(self, box: NDArray[np.float32]) -> NDArray[np.float32]:
        """(PROMPTS, 4) boxes about `box`, as a detector's are."""
        size = np.tile(box[2:] - box[:2], 2)
        return np.stack(
            [
                box + size * np.array([self.rng.gauss(0, BOX_JITTER) for _ in range(4)], np.float32)
                for _ in range(PROMPTS)
            ]
        )

    def draw(self) -> Example:
        """A crop with a face, or now and then one without."""
        example = cut(
            self.rng.choice(self.faces),
            self.side_px,
            factor=self.rng.uniform(1.5, 3.2),
            degrees=self.rng.gauss(0, 15),
            shift=np.array([self.rng.gauss(0, 0.1) for _ in range(2)], np.float32),
        )
        rgb, mask, box = example.rgb, example.mask, example.boxes[0]
        if self.rng.random() < NO_FACE_SHARE:
            rgb, mask = self.composer.scene(self.side_px), np.zeros_like(mask)
        elif self.rng.random() < 0.3:
            rgb, mask = self._occluded(rgb, mask, box)
        if self.rng.random() < 0.5:
            rgb, mask = rgb[:, ::-1], mask[:, ::-1]
            box = np.array([self.side_px, 0, self.side_px, 0], np.float32) + box[[2, 1, 0, 3]] * (
                np.array([-1, 1, -1, 1], np.float32)
            )
        rgb = self.composer.damage(np.ascontiguousarray(rgb))
        return Example(rgb, np.ascontiguousarray(mask), self.jittered(box))

    def _occluded(
        self, rgb: Pixels, mask: Pixels, box: NDArray[np.float32]
    ) -> tuple[Pixels, Pixels]:
        """A bar or a blob of a scene in front of the face; the mask ends at it."""
        covered = np.zeros_like(mask)
        width, height = float(box[2] - box[0]), float(box[3] - box[1])
        x = int(self.rng.uniform(box[0], box[2]))
        y = int(self.rng.uniform(box[1], box[3]))
        axes = (
            int(width * self.rng.uniform(0.08, 0.5)),
            int(height * self.rng.uniform(0.05, 0.25)),
        )
        cv2.ellipse(covered, (x, y), axes, self.rng.uniform(0, 180), 0, 360, 1, -1)
        scene = self.composer.scene(self.side_px)
        return np.where(covered[..., None] > 0, scene, rgb), mask * (1 - covered)
