"""The values that flow between the stages: frozen, checked where built, trusted afterwards.

One picture convention inside the house: RGB, uint8, (height, width, 3), C-contiguous. Coordinates
are pixels of the picture they speak of, x to the right and y down, with the origin in the upper
left corner of the upper left pixel.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.checks import check, check_array

Rejection = Literal["score", "size", "count", "budget"]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture. `pixels`: (H, W, 3) uint8 RGB, C-contiguous; never written to."""

    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_array(self.pixels, np.uint8, 3, "pixels")
        check(self.pixels.shape[2] == 3, "three channels", self.pixels.shape[2])

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
        check_array(self.pixels, np.bool_, 2, "pixels")


@dataclass(frozen=True, slots=True, eq=False)
class SoftMask:
    """What share of the repainted pixel is kept. `pixels`: (H, W) float32 in [0, 1]."""

    pixels: NDArray[np.float32]

    def __post_init__(self) -> None:
        check_array(self.pixels, np.float32, 2, "pixels")
        low, high = float(self.pixels.min()), float(self.pixels.max())
        check(low >= 0 and high <= 1, "values in [0, 1]", f"{low}–{high}")


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
        check(
            bool(np.isfinite(box).all()) and self.x0 < self.x1 and self.y0 < self.y1,
            "x0 < x1 and y0 < y1",
            box,
        )
        check(0 <= self.score <= 1, "a score in [0, 1]", self.score)
        check(self.quarter_turns in range(4), "0 to 3 quarter turns", self.quarter_turns)

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
class Detection:
    """What the detector took for a face. `rejected`: None where it counts, else why it does not.

    "score": below the threshold; "size": the shorter side is too small; "count": there are enough
    larger ones; "budget": the request's steps do not suffice for it, after the larger ones.
    """

    box: FaceBox
    rejected: Rejection | None = None


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
        check(self.side_px > 0, "a side above 0 px", self.side_px)
        check(
            self.work_px > 0 and self.work_px % 8 == 0,
            "a work size that is a multiple of 8 px",
            self.work_px,
        )
        check(self.quarter_turns in range(4), "0 to 3 quarter turns", self.quarter_turns)

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
        check(shape == (side, side, 3), f"a crop of {side} × {side} px", shape)


@dataclass(frozen=True, slots=True, eq=False)
class Repaint:
    """A crop, what the model made of it, and how much of that is kept; all of one size."""

    crop: FaceCrop
    painted: Image
    mask: SoftMask


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """How much of a repaint the picture takes. `values`: float32 in [0, 1], of these rows and
    columns; elsewhere it is 0.
    """

    rows: slice
    columns: slice
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InpaintJob:
    """One face × one sample × one pass, for the denoise loop.

    `image`: square crop at work size. `mask`: same size, float32 in [0, 1]: 1 where the model
    repaints from the first step, 0 where it never does, and between where it joins later
    (differential diffusion). `steps`: UNet calls, all executed.
    `strength`: 0–1, how much noise the tail of the schedule starts with. `seed`: of its noise, any
    non-negative integer below 2⁶³.
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
        check(
            self.image.pixels.shape[:2] == self.mask.pixels.shape,
            "a mask of the picture's size",
            self.mask.pixels.shape,
        )
        check(self.steps >= 1, "at least one step", self.steps)
        check(0 < self.strength <= 1, "a strength in (0, 1]", self.strength)
        check(0 <= self.seed < 2**63, "a seed in [0, 2^63)", self.seed)
