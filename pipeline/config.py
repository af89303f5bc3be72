"""A profile as data, read from its `profile.toml`: which files, and how each pass runs."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import WeightsError

StepRule = Literal["all", "diffusers"]
SchedulerName = Literal["euler", "dpmpp_2m_karras", "ddim"]


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """`yaml` and `weights`: files below the profile's folder. `input_px`: the detector's longer
    side. `threshold`: 0–1.
    """

    yaml: str
    weights: str
    input_px: int
    threshold: float


@dataclass(frozen=True, slots=True)
class SegmenterConfig:
    """`config`: JSON with segment-anything's dimensions. `min_quality`: below this predicted IoU
    the ellipse serves.
    """

    config: str
    weights: str
    min_quality: float


@dataclass(frozen=True, slots=True)
class PassConfig:
    """How one pass cuts, masks and repaints. All lengths are shares of the face's longer side.

    `crop_factor`: side of the crop over the face. `work_px`: menu of work sizes, ascending,
    multiples of 64; the smallest that does not shrink the crop is taken, else the largest.
    `grow`: how far the mask is widened; `feather`: the width of the paste's ramp, inside the mask.
    `strength`: share of the request's `denoise`.
    `tone`: how coarse the colours are that a face keeps from the picture, the sigma of a Gaussian;
    0 for a model that knows complexions, which is matched to the ring around the mask alone.
    """

    crop_factor: float
    work_px: tuple[int, ...]
    grow: float
    feather: float
    strength: float
    tone: float = 0.0


@dataclass(frozen=True, slots=True)
class InpainterConfig:
    """`folder`: diffusers layout (unet, vae, both text encoders and tokenizers, scheduler).
    `guidance`: the share of the request's guidance beyond 1 that acts, for models that want less
    of it than SDXL.
    """

    folder: str
    scheduler: SchedulerName
    step_rule: StepRule
    batch_sizes: tuple[int, ...]
    guidance: float = 1.0


@dataclass(frozen=True, slots=True)
class UpscalerConfig:
    """`weights`: a file per factor that spandrel loads; a factor without one runs the ×2 file
    twice. `tile_px` 0: no tiles.
    """

    weights: dict[int, str]
    tile_px: int


@dataclass(frozen=True, slots=True)
class Profile:
    """All that `loading` needs to assemble a `FaceDetailer`."""

    name: str
    folder: Path
    detector: DetectorConfig
    segmenter: SegmenterConfig
    outline: PassConfig
    detail: PassConfig
    inpainter: InpainterConfig
    upscaler: UpscalerConfig


def _pass(table: dict[str, Any]) -> PassConfig:
    return PassConfig(**{**table, "work_px": tuple(table["work_px"])})


def read_profile(folder: Path) -> Profile:
    """Read `folder/profile.toml`.

    Raises:
        WeightsError: the file is missing, or lacks or misspells a key.
    """
    file = folder / "profile.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        inpainter = {**table["inpainter"], "batch_sizes": tuple(table["inpainter"]["batch_sizes"])}
        upscaler = table["upscaler"]
        weights = {int(factor): name for factor, name in upscaler["weights"].items()}
        return Profile(
            name=table["name"],
            folder=folder,
            detector=DetectorConfig(**table["detector"]),
            segmenter=SegmenterConfig(**table["segmenter"]),
            outline=_pass(table["outline"]),
            detail=_pass(table["detail"]),
            inpainter=InpainterConfig(**inpainter),
            upscaler=UpscalerConfig(weights=weights, tile_px=upscaler["tile_px"]),
        )
    except FileNotFoundError as error:
        raise WeightsError(f"profile file is missing: {file.name} in {folder.name}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file.name} of {folder.name} cannot be read: {error}") from error
