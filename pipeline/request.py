"""What one call of `FaceDetailer` is asked to do, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.checks import check, check_array
from pipeline.types import FaceBox, Image

Passes = Literal["both", "detail", "auto"]
FaceOrder = Literal["size", "left-right", "top-bottom", "score"]


@dataclass(frozen=True, slots=True)
class DetailRequest:
    """What one call of `FaceDetailer` is asked to do; the fields and ranges of the wire contract.

    `alpha`: (H, W) uint8 of the picture's size, or None for an opaque one; it is not repainted,
    only enlarged.
    `seed`: any non-negative integer; sample i uses seed + i (modulo 2⁶³). `upscale`: 1, 2 or 4.
    `min_face_px`: faces whose shorter side is smaller stay as they are. `keep_healthy`: large and
    sharp faces are changed less, see `pipeline.health.strength_share`.
    """

    image: Image
    prompt: str
    denoise: float
    alpha: NDArray[np.uint8] | None = None
    negative_prompt: str = "bad quality, painting, blur"
    samples: int = 1
    num_inference_steps: int = 20
    guidance_scale: float = 6.0
    seed: int = 12467
    upscale: int = 1
    passes: Passes = "both"
    keep_healthy: bool = True
    max_faces: int = 20
    min_face_px: float = 12.0
    face_order: FaceOrder = "size"
    detection_threshold: float | None = None

    def __post_init__(self) -> None:
        check(0 <= self.denoise <= 1, "denoise in [0, 1]", self.denoise)
        check(self.samples >= 1, "at least one sample", self.samples)
        check(self.num_inference_steps >= 1, "at least one step", self.num_inference_steps)
        check(self.seed >= 0, "a seed of 0 or more", self.seed)
        check(self.upscale in (1, 2, 4), "an upscale of 1, 2 or 4", self.upscale)
        check(self.max_faces >= 0, "max_faces of 0 or more", self.max_faces)
        if self.alpha is not None:
            check_array(self.alpha, np.uint8, 2, "alpha")
            check(
                self.alpha.shape == self.image.pixels.shape[:2],
                "alpha of the picture's size",
                self.alpha.shape,
            )


@dataclass(frozen=True, slots=True)
class DetailResult:
    """What one call gives back.

    `images`: one per sample, enlarged. `alpha`: enlarged likewise, or None. `faces`: in the input's
    pixels, in the order in which they were repainted. `kept`: how many faces, over all samples,
    kept their old pixels because the model gave nothing usable: not finite, or blank.
    `seconds`: wall time per stage, in the order walked.
    """

    images: tuple[Image, ...]
    alpha: NDArray[np.uint8] | None
    faces: tuple[FaceBox, ...]
    kept: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
