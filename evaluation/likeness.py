"""How like the clean picture a face is: in pixels, in structure, to the eye, as a person."""

from dataclasses import dataclass

import cv2
import numpy as np
import piq
import torch
from numpy.typing import NDArray

from evaluation.measures import luma, psnr_db, ssim_map
from pipeline.models.dlib_faces import Embedder
from pipeline.types import FaceBox, Image


@dataclass(frozen=True, slots=True)
class Likeness:
    """One face against the clean one.

    `psnr_db`: 58.9 is equal. `ssim`: 1 is equal. `haarpsi`: 1 − HaarPSI, 0 is
    equal. `identity`: distance of dlib's embeddings, 0 is equal. `sharpness`: share of the clean
    face's.
    """

    psnr_db: float
    ssim: float
    haarpsi: float
    identity: float
    sharpness: float


class Yardstick:
    """One clean picture and its face, to measure others of the same size by.

    All but two figures are of the ellipse in the face's box. HaarPSI is of the box, and the
    identity of what dlib's landmarks in the clean picture frame: a face that is not found again is
    measured too.
    """

    def __init__(self, clean: Image, face: FaceBox, embedder: Embedder) -> None:
        self.inside = ellipse_in(face, clean.height_px, clean.width_px)
        self._box = box_slices(face, clean.height_px, clean.width_px)
        self._pixels = clean.pixels
        self._grey = luma(clean)
        self._sharpness = self._gradient(self._grey)
        self._embedder = embedder
        self._landmarks = embedder.landmarks(clean, face)
        self._embedding = embedder.embed(clean, self._landmarks)

    def measure(self, image: Image) -> Likeness:
        """A picture of the clean one's size."""
        grey = luma(image)
        embedding = self._embedder.embed(image, self._landmarks)
        return Likeness(
            psnr_db=psnr_db(image.pixels[self.inside], self._pixels[self.inside]),
            ssim=float(ssim_map(grey, self._grey)[self.inside].mean()),
            haarpsi=self._haarpsi(image),
            identity=float(np.linalg.norm(embedding - self._embedding)),
            sharpness=self._gradient(grey) / max(self._sharpness, 1e-6),
        )

    def _haarpsi(self, image: Image) -> float:
        """Reisenhofer et al., "A Haar wavelet-based perceptual similarity index for image quality
        assessment", 2018.
        """
        clean, other = (_tensor(pixels[self._box]) for pixels in (self._pixels, image.pixels))
        return max(0.0, 1 - float(piq.haarpsi(other, clean, data_range=255.0)))

    def _gradient(self, grey: NDArray[np.float32]) -> float:
        """The mean magnitude of Sobel's gradient. Noise counts as sharp."""
        across, along = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
        return float(np.hypot(across, along)[self.inside].mean())


def ellipse_in(face: FaceBox, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """(height_px, width_px) bool: the ellipse that touches the box's four sides."""
    x, y = np.arange(width_px) + 0.5, np.arange(height_px)[:, None] + 0.5
    across = (x - face.centre_xy[0]) / (face.width_px / 2)
    along = (y - face.centre_xy[1]) / (face.height_px / 2)
    inside: NDArray[np.bool_] = across**2 + along**2 <= 1
    return inside


def box_slices(face: FaceBox, height_px: int, width_px: int) -> tuple[slice, slice]:
    """The rows and columns of a picture that a box covers."""
    return (
        slice(max(0, round(face.y0)), min(height_px, round(face.y1))),
        slice(max(0, round(face.x0)), min(width_px, round(face.x1))),
    )


def _tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(1, 3, H, W) float32 in 0–255."""
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
