"""Random pictures without a face: backgrounds, and what a detector must not mistake for one."""

import random
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from training.labelled import Pixels

MOST_MISTAKES = 600
MISTAKE_PX = 256


class Negatives:
    """Draws squares of scenes, of scenes with objects scattered over them, and of past mistakes.

    `objects`: cut-out objects, (H, W, 4) premultiplied RGBA, see `labelled.load_objects`.
    """

    def __init__(self, scenes: list[Pixels], objects: list[Pixels], seed: int) -> None:
        self.scenes = scenes
        self.objects = objects
        self.rng = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self._mistakes: deque[Pixels] = deque(maxlen=MOST_MISTAKES)

    def draw(self, side_px: int) -> Pixels:
        """Any of these, or coloured blotches, in a random quarter turn."""
        kind = self.rng.random()
        if kind < 0.55 and self._mistakes:
            picture = _resized(self.rng.choice(self._mistakes), side_px)
        elif kind < 0.8:
            picture = self.strewn(side_px)
        elif kind < 0.95:
            picture = self.scene(side_px)
        else:
            cells = self.rng.choice((2, 4, 9, 25))
            blotches = self.noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            picture = _resized(blotches, side_px)
        return self.turned(picture)

    def turned(self, picture: Pixels) -> Pixels:
        """The picture in a random quarter turn."""
        return np.ascontiguousarray(np.rot90(picture, self.rng.randrange(4)))

    def scene(self, side_px: int) -> Pixels:
        """A random square of a random scene."""
        scene = self.rng.choice(self.scenes)
        height, width = scene.shape[:2]
        side = int(min(height, width) * self.rng.uniform(0.25, 1.0))
        x, y = self.rng.randint(0, width - side), self.rng.randint(0, height - side)
        return _resized(scene[y : y + side, x : x + side], side_px)

    def strewn(self, side_px: int) -> Pixels:
        """A scene with a few objects of any size and orientation, some of them partly outside."""
        canvas = self.scene(side_px)
        for _ in range(self.rng.choice((1, 2, 4, 8)) if self.objects else 0):
            thing = self.rng.choice(self.objects)
            longer_px = 12 * (0.95 * side_px / 12) ** self.rng.random()
            scale = longer_px / max(thing.shape[:2])
            size_wh = (max(1, int(thing.shape[1] * scale)), max(1, int(thing.shape[0] * scale)))
            small = cv2.resize(thing, size_wh, interpolation=cv2.INTER_AREA)
            self._lay(canvas, self.turned(np.asarray(small, np.uint8)))
        return canvas

    def _lay(self, canvas: Pixels, thing: Pixels) -> None:
        """Paste an object into `canvas` in place, with its centre inside."""
        side_px, (height, width) = canvas.shape[0], thing.shape[:2]
        x = self.rng.randrange(side_px) - width // 2
        y = self.rng.randrange(side_px) - height // 2
        rows = slice(max(0, y), min(side_px, y + height))
        columns = slice(max(0, x), min(side_px, x + width))
        part = thing[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        beside = canvas[rows, columns] * (1 - part[..., 3:] / 255)
        canvas[rows, columns] = (beside + part[..., :3]).clip(0, 255).astype(np.uint8)

    def remember(self, picture: Pixels, box: NDArray[np.float32]) -> None:
        """Store the surroundings of `box` (x0, y0, x1, y1), which was mistaken for a face."""
        side = float((box[2:] - box[:2]).max()) * self.rng.uniform(1.3, 4)
        centre = (box[:2] + box[2:]) / 2
        scale = min(1.0, MISTAKE_PX / side)
        kept_px = max(8, int(side * scale))
        matrix = np.array([[scale, 0, 0], [0, scale, 0]]) + np.outer(
            kept_px / 2 - centre * scale, [0, 0, 1]
        )
        crop = cv2.warpAffine(
            picture, matrix, (kept_px, kept_px), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        )
        self._mistakes.append(np.asarray(crop, np.uint8))


def _resized(rgb: Pixels, side_px: int) -> Pixels:
    method = cv2.INTER_AREA if rgb.shape[0] > side_px else cv2.INTER_LINEAR
    size_wh = (side_px, side_px)
    return np.ascontiguousarray(cv2.resize(rgb, size_wh, interpolation=method), dtype=np.uint8)
