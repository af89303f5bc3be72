"""Random crops of faces with masks and prompt boxes, to train the masker on."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.outlines import Points, fill_oval
from training import common
from training.composites import Composer
from training.labelled import Pixels
from training.negatives import Negatives

# Errors of a detector's boxes: the standard deviation of each side, as a share of the box. Most
# boxes are accurate; some of turned faces are not.
BOX_SPREADS = (0.03, 0.03, 0.03, 0.1)
NO_FACE_SHARE = 0.06
OCCLUDED_SHARE = 0.2
NEIGHBOUR_SHARE = 0.15
SMALL_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Face:
    """A portrait and one of its ovals, (36, 2) in its pixels."""

    rgb: Pixels
    oval: Points


@dataclass(frozen=True, slots=True)
class Example:
    """A crop (S, S, 3), its mask (S, S) of 0 and 1, and the prompt box (4,) in crop pixels."""

    rgb: Pixels
    mask: Pixels
    box: NDArray[np.float32]


def load_faces(data: Path, labels: Path, *, validation: bool) -> list[Face]:
    """The faces with an oval on one side of the split; `labels`: faces.json, by `teachers.py`."""
    known = json.loads(labels.read_text(encoding="utf-8"))
    return [
        Face(common.load_rgb(file), np.array(face["oval"], np.float32))
        for file in common.face_files(data, validation=validation)
        for face in known[file.name]
        if face["oval"]
    ]


def cut(face: Face, side_px: int, *, factor: float, degrees: float, errors: Points) -> Example:
    """The face, turned, in a square crop `factor` times its box, as the pipeline cuts it.

    `errors`: (4,), the errors of the box's sides as shares of the box.
    """
    turn = cv2.getRotationMatrix2D((0.0, 0.0), degrees, 1.0)[:, :2]
    turned = face.oval @ turn.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    box = np.concatenate([low, high]) + np.tile(high - low, 2) * errors
    scale = side_px / (factor * float((box[2:] - box[:2]).max()))
    offset = side_px / 2 - scale * (box[:2] + box[2:]) / 2
    rgb = cv2.warpAffine(
        face.rgb,
        np.column_stack([scale * turn, offset]),
        (side_px, side_px),
        flags=cv2.INTER_AREA,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = fill_oval(scale * turned + offset, side_px, side_px)
    prompt = (scale * box + np.tile(offset, 2)).astype(np.float32)
    return Example(np.ascontiguousarray(rgb, dtype=np.uint8), mask, prompt)


class Cutter:
    """Draws training crops at random."""

    def __init__(self, faces: list[Face], scenes: list[Pixels], side_px: int, seed: int) -> None:
        self.faces = faces
        self.side_px = side_px
        self.rng = random.Random(seed)
        self.negatives = Negatives(scenes, [], seed)
        self.composer = Composer([], self.negatives, seed)

    def draw(self) -> Example:
        """A crop with a face, or occasionally one without."""
        rng = self.rng
        example = self._cut(rng.uniform(1.3, 2.1))
        rgb, mask, box = example.rgb, example.mask, example.box
        kind = rng.random()
        if kind < NO_FACE_SHARE:
            rgb, mask = self.negatives.scene(self.side_px), np.zeros_like(mask)
        elif kind < NO_FACE_SHARE + OCCLUDED_SHARE:
            rgb, mask = self._occluded(rgb, mask, box)
        elif kind < NO_FACE_SHARE + OCCLUDED_SHARE + NEIGHBOUR_SHARE:
            rgb, mask = self._beside_another(rgb, mask, box)
        if rng.random() < 0.5:
            rgb, mask = rgb[:, ::-1], mask[:, ::-1]
            mirrored = (self.side_px - box[2], box[1], self.side_px - box[0], box[3])
            box = np.array(mirrored, np.float32)
        if rng.random() < SMALL_SHARE:
            rgb = self._small(rgb)
        rgb = self.composer.damage(np.ascontiguousarray(rgb))
        return Example(rgb, np.ascontiguousarray(mask), box)

    def _cut(self, factor: float) -> Example:
        """Any face, in a box as inaccurate as a detector's."""
        rng = self.rng
        spread = rng.choice(BOX_SPREADS)
        return cut(
            rng.choice(self.faces),
            self.side_px,
            factor=factor,
            degrees=rng.gauss(0, rng.choice((8, 20))),
            errors=np.array([rng.gauss(0, spread) for _ in range(4)], np.float32),
        )

    def _occluded(
        self, rgb: Pixels, mask: Pixels, box: NDArray[np.float32]
    ) -> tuple[Pixels, Pixels]:
        """A bar or a blob of a scene or of skin in front of the face; the mask ends at it."""
        covered = np.zeros_like(mask)
        width, height = float(box[2] - box[0]), float(box[3] - box[1])
        x = int(self.rng.uniform(box[0], box[2]))
        y = int(self.rng.uniform(box[1], box[3]))
        axes = (
            int(width * self.rng.uniform(0.08, 0.5)),
            int(height * self.rng.uniform(0.05, 0.25)),
        )
        cv2.ellipse(covered, (x, y), axes, self.rng.uniform(0, 180), 0, 360, 1, -1)
        if self.rng.random() < 0.3:
            cover = self._cut(0.3).rgb
        else:
            cover = self.negatives.scene(self.side_px)
        return np.where(covered[..., None] > 0, cover, rgb), mask * (1 - covered)

    def _beside_another(
        self, rgb: Pixels, mask: Pixels, box: NDArray[np.float32]
    ) -> tuple[Pixels, Pixels]:
        """Another head near the face, before or behind it: the box says whose mask is wanted."""
        extent = float((box[2:] - box[:2]).max())
        other = self._cut(self.side_px / extent * self.rng.uniform(0.8, 1.25))
        low, high = other.box[:2], other.box[2:]
        head = np.zeros_like(mask)
        size = (high - low) * 0.62
        middle = (low + high) / 2 - (0, 0.1 * size[1])
        axes = (int(size[0]), int(size[1] * 1.1))
        cv2.ellipse(head, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, 1, -1)
        offset = (box[:2] + box[2:]) / 2 - self.side_px / 2
        offset[0] += self.rng.choice((-1, 1)) * self.rng.uniform(0.8, 1.2) * extent
        offset[1] += self.rng.gauss(0, 0.15) * extent
        matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32)
        size_wh = (self.side_px, self.side_px)
        head = np.asarray(cv2.warpAffine(head, matrix, size_wh), np.uint8)
        drawn = cv2.warpAffine(other.rgb, matrix, size_wh, borderMode=cv2.BORDER_REPLICATE)
        if self.rng.random() < 0.5:
            head = head * (1 - mask)
        return np.where(head[..., None] > 0, drawn, rgb), mask * (1 - head)

    def _small(self, rgb: Pixels) -> Pixels:
        """The crop as a face looks that was only a few pixels wide."""
        small = int(self.side_px / 8 ** self.rng.uniform(0.3, 1))
        reduced = cv2.resize(rgb, (small, small), interpolation=cv2.INTER_AREA)
        size_wh = (self.side_px, self.side_px)
        method = self.rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC))
        return np.asarray(cv2.resize(reduced, size_wh, interpolation=method), np.uint8)
