"""A profile as data: which files it loads, how each pass runs. `pipeline.config_reading` reads it.

Every value is checked where it is built. docs/weights.md says what each key means and allows.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.config_inpainter import InpainterConfig
from pipeline.config_values import (
    TABLE,
    CropFactor,
    Feather,
    File,
    InputSide,
    Name,
    Note,
    OptionalFile,
    OptionalWorkSizes,
    Share,
    TileSide,
    UpscalerFiles,
    WorkSizes,
    disagreement,
)

RecogniserName = Annotated[
    Literal["sface", "dlib"], Field(description='"sface", with weights and landmarks, or "dlib"')
]

_A_TABLE = Field(description="a table")


@dataclass(frozen=True, slots=True, config=TABLE)
class DetectorConfig:
    """`yaml`: the network's dimensions. `input_px`: the longer side of what it looks at.
    `threshold`: the score from which on a detection counts, where the request says nothing else.
    """

    yaml: File
    weights: File
    input_px: InputSide
    threshold: Share


@dataclass(frozen=True, slots=True, config=TABLE)
class SegmenterConfig:
    """`config`: JSON with segment-anything's dimensions. `min_quality`: a mask whose predicted IoU
    is lower is replaced by an ellipse.
    """

    config: File
    weights: File
    min_quality: Share


@dataclass(frozen=True, slots=True, config=TABLE)
class PassConfig:
    """How one pass cuts, masks and repaints. All lengths are shares of the face's longer side.

    `crop_factor`: side of the crop over the face; the grown mask has room in it. `work_px`: the
    work sizes to choose from; the smallest that does not shrink the crop is taken, else the
    largest. `grow`: how far the mask is widened; `feather`: the width of the paste's ramp, inside
    the mask. `strength`: share of the request's `denoise`; at 0 the pass is skipped.
    `tone`: how coarse the colours are that a face keeps from the picture, the sigma of a Gaussian;
    0 for a model that knows complexions, which is matched to the ring around the mask alone.
    `low_work_px`: the work sizes in the memory mode "low"; None: no others.
    """

    crop_factor: CropFactor
    work_px: WorkSizes
    grow: Share
    feather: Feather
    strength: Share
    tone: Share = 0.0
    low_work_px: OptionalWorkSizes = None

    def __post_init__(self) -> None:
        if self.crop_factor < 1 + 2 * self.grow:
            raise disagreement("crop_factor")

    def for_little_memory(self) -> "PassConfig":
        """The same, at the work sizes for it."""
        return replace(self, work_px=self.low_work_px or self.work_px)


@dataclass(frozen=True, slots=True, config=TABLE)
class UpscalerConfig:
    """`weights`: a file per factor, which spandrel loads; without one for 4, the file for 2 runs
    twice. `tile_px`: the side of the tiles in which a picture is enlarged; 0: all at once.
    """

    weights: UpscalerFiles
    tile_px: TileSide


@dataclass(frozen=True, slots=True, config=TABLE)
class IdentityConfig:
    """What the identity gate asks, where it is on. `recogniser`: "sface", which is OpenCV's, or
    "dlib". `threshold`: the cosine below which a repainted face counts as another person's, where
    the setting names none. `weights`, `landmarks`: ONNX files of SFace and YuNet, for "sface".
    """

    recogniser: RecogniserName
    threshold: Share
    weights: OptionalFile = None
    landmarks: OptionalFile = None

    def __post_init__(self) -> None:
        if self.recogniser == "sface" and None in (self.weights, self.landmarks):
            raise disagreement("recogniser")


@dataclass(frozen=True, slots=True, config=TABLE)
class Profile:
    """All that `loading` needs to assemble a `FaceDetailer`. `folder`: where its paths start.
    `note`: what its users should know of each result.
    """

    name: Name
    folder: Path
    detector: Annotated[DetectorConfig, _A_TABLE]
    segmenter: Annotated[SegmenterConfig, _A_TABLE]
    outline: Annotated[PassConfig, _A_TABLE]
    detail: Annotated[PassConfig, _A_TABLE]
    inpainter: Annotated[InpainterConfig, _A_TABLE]
    upscaler: Annotated[UpscalerConfig, _A_TABLE]
    identity: Annotated[IdentityConfig | None, _A_TABLE] = None
    note: Note = ""

    def for_little_memory(self) -> "Profile":
        """The same, at the work sizes for the memory mode "low"."""
        return replace(
            self,
            outline=self.outline.for_little_memory(),
            detail=self.detail.for_little_memory(),
        )
