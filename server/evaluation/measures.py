"""How alike two pictures are, pixel by pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pipeline.types import Image

# The mean squared error of rounding to levels: no picture can be told to be nearer than that.
_ROUNDING = 1 / 12


def psnr_db(pixels: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two arrays of one shape; 58.9 where they are equal."""
    error = ((pixels.astype(np.float64) - wanted) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, _ROUNDING)))


def ssim_map(pixels: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    """Wang et al., "Image quality assessment: from error visibility to structural similarity",
    2004: (H, W) of (H, W) luma in 0–255, Gaussian windows, 1 where they are equal.
    """
    _, similarity = structural_similarity(
        pixels,
        wanted,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(similarity, np.float64)


def luma(image: Image) -> NDArray[np.float32]:
    """(H, W) in 0–255."""
    grey: NDArray[np.uint8] = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    return grey.astype(np.float32)
