"""Random pictures with exact face boxes: portraits in scenes, alone and in groups."""

import random

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.damages import Damage, apply_damage
from evaluation.outlines import Points
from training.labelled import PORTRAIT_PX, Pixels, Portrait, boxes_of
from training.negatives import Negatives

# The largest factor by which a picture is shrunk before it is enlarged again. Its smallest face
# keeps `KEPT_FACE_PX`, if it had that many.
MOST_SHRINK = 8.0
KEPT_FACE_PX = 12.0


class Composer:
    """Draws training pictures; the same seed gives the same sequence."""

    def __init__(self, portraits: list[Portrait], negatives: Negatives, seed: int) -> None:
        self.portraits = portraits
        self.negatives = negatives
        self.rng = random.Random(seed)
        self.noise = np.random.default_rng(seed)

    def draw(self, side_px: int) -> tuple[Pixels, NDArray[np.float32]]:
        """A picture (side_px, side_px, 3) and its face boxes (N, 4), x0, y0, x1, y1 in pixels."""
        kind = self.rng.random()
        if kind < 0.37:
            rgb, faces = self._scattered(side_px)
        elif kind < 0.62:
            rgb, faces = self._alone(side_px, self.rng.choice(self.portraits))
        elif kind < 0.70:
            rgb, faces = self._group(side_px)
        else:
            rgb, faces = self.without_face(side_px), []
        if self.rng.random() < 0.5:
            rgb = np.ascontiguousarray(rgb[:, ::-1])
            faces = [points * (-1, 1) + (side_px, 0) for points in faces]
        boxes = boxes_of(faces, side_px, side_px)
        smallest_px = min((max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes), default=side_px)
        most = min(MOST_SHRINK, max(2.0, smallest_px / KEPT_FACE_PX))
        return self.damage(rgb, most), boxes

    def without_face(self, side_px: int) -> Pixels:
        """No face: a scene, a person whose face is covered, or clothes and hands."""
        kind = self.rng.random()
        if kind < 0.2:
            return self._alone(side_px, self._faceless())[0]
        if kind < 0.3:
            portrait = self.rng.choice(self.portraits)
            chin = max(points[:, 1].max() for points in portrait.faces)
            if PORTRAIT_PX - chin >= 40:
                part = portrait.rgb[int(chin) + 4 :, :]
                x = self.rng.randint(0, PORTRAIT_PX - part.shape[0])
                square = part[:, x : x + part.shape[0]]
                return np.ascontiguousarray(cv2.resize(square, (side_px, side_px)), dtype=np.uint8)
        return self.negatives.draw(side_px)

    def _faceless(self) -> Portrait:
        """A portrait whose faces are covered by a blob, cut from a scene or of a single colour."""
        portrait = self.rng.choice(self.portraits)
        cover = self.negatives.scene(PORTRAIT_PX)
        if self.rng.random() < 0.5:
            cover = np.full_like(cover, self.noise.integers(0, 256, 3))
        blob = np.zeros((PORTRAIT_PX, PORTRAIT_PX), np.float32)
        for points in portrait.faces:
            low, high = points.min(axis=0), points.max(axis=0)
            middle, size = (low + high) / 2, (high - low) / 2 * self.rng.uniform(1.15, 1.6)
            axes = (int(size[0]), int(size[1]))
            cv2.ellipse(blob, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, 1.0, -1)
        share = cv2.blur(blob, (7, 7))[..., None]
        rgb = (portrait.rgb * (1 - share) + cover * share).astype(np.uint8)
        return Portrait(rgb, portrait.faces)

    def _matrix(
        self, portrait: Portrait, face_px: float, centre: tuple[float, float], degrees: float
    ) -> NDArray[np.float64]:
        points = portrait.faces[0]
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        scale = face_px / float((points.max(axis=0) - points.min(axis=0)).max())
        matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), degrees, scale)
        matrix[:, 2] += np.array(centre) - middle
        # Perspective distorts faces in photographs a little.
        matrix[0] = (matrix[0] - [0, 0, centre[0]]) * self.rng.uniform(0.88, 1.12) + [
            0,
            0,
            centre[0],
        ]
        return np.asarray(matrix, np.float64)

    def _paste(
        self, canvas: Pixels, portrait: Portrait, matrix: NDArray[np.float64]
    ) -> list[Points]:
        """Paste the portrait, cut out in one of three ways, into `canvas` in place."""
        alpha = np.zeros((PORTRAIT_PX, PORTRAIT_PX), np.float32)
        kind = self.rng.random()
        if kind < 0.35:
            alpha[:] = 1
        else:
            points = np.concatenate(portrait.faces)
            low, high = points.min(axis=0), points.max(axis=0)
            middle, size = (low + high) / 2, (high - low) / 2
            grow = self.rng.uniform(1.15, 1.9)
            axes = (int(size[0] * grow), int(size[1] * grow))
            centre = (int(middle[0]), int(middle[1]))
            cv2.ellipse(alpha, centre, axes, 0, 0, 360, 1.0, -1)
            if kind < 0.75:  # with the body below
                cv2.rectangle(
                    alpha,
                    (centre[0] - 2 * axes[0], centre[1] + axes[1] // 2),
                    (centre[0] + 2 * axes[0], 255),
                    1.0,
                    -1,
                )
            alpha = np.asarray(cv2.blur(alpha, (9, 9)), np.float32)
        size_wh = (canvas.shape[1], canvas.shape[0])
        shrinks = abs(np.linalg.det(matrix[:, :2])) < 0.16
        source = cv2.blur(portrait.rgb, (3, 3)) if shrinks else portrait.rgb
        drawn = cv2.warpAffine(source, matrix, size_wh, flags=cv2.INTER_LINEAR)
        share = cv2.warpAffine(alpha, matrix, size_wh, flags=cv2.INTER_LINEAR)[..., None]
        canvas[:] = (canvas * (1 - share) + drawn * share).astype(np.uint8)
        return [self._moved(points, matrix) for points in portrait.faces]

    def _moved(self, points: Points, matrix: NDArray[np.float64]) -> Points:
        return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)

    def _scattered(self, side_px: int) -> tuple[Pixels, list[Points]]:
        canvas = self.negatives.strewn(side_px)
        faces: list[Points] = []
        for _ in range(self.rng.choice((1, 1, 2, 3, 4, 6))):
            # Log-uniform: as many faces of 12 to 24 px as of 120 to 240 px, at the training size.
            face_px = 12 * (0.75 * side_px / 12) ** self.rng.random()
            centre = (self.rng.uniform(0, side_px), self.rng.uniform(0, side_px))
            portrait = self.rng.choice(self.portraits)
            matrix = self._matrix(portrait, face_px, centre, self.rng.gauss(0, 14))
            reach = [
                self._moved(np.array([[0, 0], [255, 0], [255, 255], [0, 255]], np.float32), matrix)
            ]
            low, high = reach[0].min(axis=0), reach[0].max(axis=0)
            if any(
                np.all(points.max(axis=0) > low) and np.all(points.min(axis=0) < high)
                for points in faces
            ):
                continue  # it would cover a labelled face
            if self.rng.random() < 0.2:
                self._paste(canvas, self._faceless(), matrix)
            else:
                faces += self._paste(canvas, portrait, matrix)
        return canvas, faces

    def _alone(self, side_px: int, portrait: Portrait) -> tuple[Pixels, list[Points]]:
        face_px = side_px * self.rng.uniform(0.3, 1.15)
        spread = max(0.06, 0.5 - face_px / side_px / 2) * side_px
        centre = (
            side_px / 2 + self.rng.uniform(-spread, spread),
            side_px / 2 + self.rng.uniform(-spread, spread),
        )
        matrix = self._matrix(portrait, face_px, centre, self.rng.gauss(0, 14))
        border = self.rng.choice((cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT))
        drawn = cv2.warpAffine(
            portrait.rgb, matrix, (side_px, side_px), borderMode=border, borderValue=(114, 114, 114)
        )
        return np.ascontiguousarray(drawn, dtype=np.uint8), [
            self._moved(points, matrix) for points in portrait.faces
        ]

    def _group(self, side_px: int) -> tuple[Pixels, list[Points]]:
        cells = self.rng.choice((2, 3, 4, 5))
        cell = side_px / cells
        canvas = self.negatives.scene(side_px)
        faces: list[Points] = []
        for row in range(cells):
            for column in range(cells):
                portrait = self.rng.choice(self.portraits)
                scale = cell / PORTRAIT_PX
                matrix = np.array([[scale, 0, column * cell], [0, scale, row * cell]])
                drawn = cv2.warpAffine(
                    portrait.rgb, matrix, (side_px, side_px), flags=cv2.INTER_AREA
                )
                y, x = int(row * cell), int(column * cell)
                window = np.s_[y : int((row + 1) * cell), x : int((column + 1) * cell)]
                canvas[window] = drawn[window]
                faces += [self._moved(points, matrix) for points in portrait.faces]
        return canvas, faces

    def damage(self, rgb: Pixels, most_shrink: float = MOST_SHRINK) -> Pixels:
        """The picture with the light, colour, blur, noise and JPEG of poor cameras and services.

        It is shrunk by at most `most_shrink`.
        """
        rng = self.rng
        out: cv2.typing.MatLike = rgb
        if rng.random() < 0.45:
            shrunk = Damage(
                shrink=1.3 * (most_shrink / 1.3) ** rng.random(),
                noise=rng.uniform(1, 10) if rng.random() < 0.5 else 0.0,
                jpeg_quality=rng.randint(30, 90) if rng.random() < 0.5 else 0,
            )
            out = apply_damage(rgb, shrunk, self.noise)
        if rng.random() < 0.2:
            out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 2.0))
        values = out.astype(np.float32)
        if rng.random() < 0.6:
            gain = rng.uniform(0.5, 1.4) * np.array(
                [rng.uniform(0.85, 1.15) for _ in range(3)], np.float32
            )
            values = (values - 110) * gain + 110 + rng.uniform(-45, 45)
        if rng.random() < 0.15:
            values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
        if rng.random() < 0.35:
            values = values + self.noise.normal(0, rng.uniform(2, 22), values.shape).astype(
                np.float32
            )
        out = values.clip(0, 255).astype(np.uint8)
        if rng.random() < 0.4:
            _, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(20, 80)])
            out = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(out, dtype=np.uint8)
