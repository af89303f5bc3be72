"""Pictures and masks as the networks take and give them."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.types import Image, InpaintJob


def mask_of(job: InpaintJob) -> torch.Tensor:
    """(1, 1, S, S)."""
    return torch.from_numpy(job.mask.pixels)[None, None]


def to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in [−1, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def to_image(decoded: torch.Tensor) -> Image | None:
    """(3, H, W) float32 in about [−1, 1] → picture; None where any value is not finite."""
    if not bool(torch.isfinite(decoded).all()):
        return None
    levels = ((decoded.clamp(-1, 1) + 1) * 127.5 + 0.5).permute(1, 2, 0)
    return Image(np.ascontiguousarray(levels.to(torch.uint8).numpy()))
