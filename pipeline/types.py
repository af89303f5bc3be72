"""The values that flow between the stages: frozen, checked where built, trusted afterwards.

One picture convention inside the house: RGB, uint8, (height, width, 3), C-contiguous. Coordinates
are pixels of the picture they speak of, x to the right and y down, with the origin in the upper
left corner of the upper left pixel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidValue

Passes = Literal["both", "detail", "auto"]
FaceOrder = Literal["size", "left-right", "top-bottom", "score"]
LeftOut = Literal["score", "size", "count"]


def _check(condition: bool, expected: str, got: object) -> None:
    if not condition:
        raise InvalidValue(f"expected {expected}, got {got}")


def _check_array(array: NDArray[np.generic], dtype: type[np.generic], ndim: int, name: str) -> None:
    _check(
        array.dtype == dtype
        and array.ndim == ndim
        and array.flags.c_contiguous
        and min(array.shape) > 0,
        f"{name} as a C-contiguous {ndim}-dimensional {np.dtype(dtype).name} array, no side empty",
        f"{array.dtype} {array.shape}, C-contiguous: {array.flags.c_contiguous}",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture. `pixels`: (H, W, 3) uint8 RGB, C-contiguous; never written to."""

    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        _check_array(self.pixels, np.uint8, 3, "pixels")
        _check(self.pixels.shape[2] == 3, "three channels", self.pixels.shape[2])

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class HardMask:
    """What the model may repaint. `pixels`: (H, W) bool."""

    pixels: NDArray[np.bool_]

    def __post_init__(self) -> None:
        _check_array(self.pixels, np.bool_, 2, "pixels")


@dataclass(frozen=True, slots=True, eq=False)
class SoftMask:
    """What share of the repainted pixel is kept. `pixels`: (H, W) float32 in [0, 1]."""

    pixels: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_array(self.pixels, np.float32, 2, "pixels")
        low, high = float(self.pixels.min()), float(self.pixels.max())
        _check(low >= 0 and high <= 1, "values in [0, 1]", f"{low}–{high}")


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face: half-open box [x0, x1) × [y0, y1) in image pixels, and a score in [0, 1].

    `quarter_turns`: how often the picture must be turned by 90° counter-clockwise to stand the face
    upright (0–3).
    """

    x0: float
    y0: float
    x1: float
    y1: float
    score: float
    quarter_turns: int = 0

    def __post_init__(self) -> None:
        box = (self.x0, self.y0, self.x1, self.y1)
        _check(
            bool(np.isfinite(box).all()) and self.x0 < self.x1 and self.y0 < self.y1,
            "x0 < x1 and y0 < y1",
            box,
        )
        _check(0 <= self.score <= 1, "a score in [0, 1]", self.score)
        _check(self.quarter_turns in range(4), "0 to 3 quarter turns", self.quarter_turns)

    @property
    def width_px(self) -> float:
        """Horizontal side."""
        return self.x1 - self.x0

    @property
    def height_px(self) -> float:
        """Vertical side."""
        return self.y1 - self.y0

    @property
    def longer_px(self) -> float:
        """The longer side: what all shares of a face's size are of."""
        return max(self.width_px, self.height_px)

    @property
    def centre_xy(self) -> tuple[float, float]:
        """The middle of the box."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2


@dataclass(frozen=True, slots=True)
class Find:
    """What the detector took for a face. `left_out`: None where it counts, else why it does not.

    "score": below the threshold; "size": the shorter side is too small; "count": there are enough
    larger ones.
    """

    box: FaceBox
    left_out: LeftOut | None = None


@dataclass(frozen=True, slots=True)
class CropRegion:
    """A similarity from a square of the picture to a square work picture.

    `centre_xy` in image pixels; `side_px`: side of the square in image pixels; `quarter_turns`: how
    often the picture is turned by 90° counter-clockwise to stand the face upright (0–3); `work_px`:
    side of the work picture, a multiple of 8. The square may reach beyond the picture: its border
    pixels are replicated there.
    """

    centre_xy: tuple[float, float]
    side_px: float
    work_px: int
    quarter_turns: int = 0

    def __post_init__(self) -> None:
        _check(self.side_px > 0, "a side above 0 px", self.side_px)
        _check(
            self.work_px > 0 and self.work_px % 8 == 0,
            "a work size that is a multiple of 8 px",
            self.work_px,
        )
        _check(self.quarter_turns in range(4), "0 to 3 quarter turns", self.quarter_turns)

    @property
    def scale(self) -> float:
        """Work pixels per image pixel."""
        return self.work_px / self.side_px


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """One face, cut out: `image` is a square of `region.work_px`, `box` is in its pixels."""

    region: CropRegion
    image: Image
    box: FaceBox

    def __post_init__(self) -> None:
        side = self.region.work_px
        shape = self.image.pixels.shape
        _check(shape == (side, side, 3), f"a crop of {side} × {side} px", shape)


@dataclass(frozen=True, slots=True, eq=False)
class Repaint:
    """A crop, what the model made of it, and how much of that is kept; all of one size."""

    crop: FaceCrop
    painted: Image
    mask: SoftMask


@dataclass(frozen=True, slots=True)
class InpaintJob:
    """One face × one sample × one pass, for the denoise loop.

    `image`: square crop at work size. `mask`: same size, float32 in [0, 1]: 1 where the model
    repaints from the first step, 0 where it never does, and between where it joins later
    (differential diffusion). `steps`: UNet calls, all executed.
    `strength`: 0–1, how much noise the tail of the schedule starts with. `seed`: any non-negative
    integer below 2⁶³.
    """

    image: Image
    mask: SoftMask
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    strength: float

    def __post_init__(self) -> None:
        _check(
            self.image.pixels.shape[:2] == self.mask.pixels.shape,
            "a mask of the picture's size",
            self.mask.pixels.shape,
        )
        _check(self.steps >= 1, "at least one step", self.steps)
        _check(0 < self.strength <= 1, "a strength in (0, 1]", self.strength)
        _check(0 <= self.seed < 2**63, "a seed in [0, 2^63)", self.seed)


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
        _check(0 <= self.denoise <= 1, "denoise in [0, 1]", self.denoise)
        _check(self.samples >= 1, "at least one sample", self.samples)
        _check(self.num_inference_steps >= 1, "at least one step", self.num_inference_steps)
        _check(self.seed >= 0, "a seed of 0 or more", self.seed)
        _check(self.upscale in (1, 2, 4), "an upscale of 1, 2 or 4", self.upscale)
        _check(self.max_faces >= 0, "max_faces of 0 or more", self.max_faces)
        if self.alpha is not None:
            _check_array(self.alpha, np.uint8, 2, "alpha")
            _check(
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
