"""A profile as data, read from its `profile.toml`: which files, and how each pass runs."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import WeightsError

StepRule = Literal["all", "diffusers"]
SchedulerName = Literal["euler", "dpmpp_2m_karras", "ddim"]
Spacing = Literal["linspace", "trailing"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]


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
class LoraConfig:
    """`file`: safetensors. `scale`: how much of it is added to the weights."""

    file: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class InpainterConfig:
    """`folder`: diffusers layout (unet, vae, both text encoders and tokenizers, scheduler).
    `checkpoint`: a single file in SDXL's original layout, whose UNet (of 4 or 9 channels) and text
    encoders replace the folder's. `vae`: a folder with another VAE. `loras`: added to the weights.
    `precision`: "auto" is float16 on a GPU and float32 on a CPU.
    `steps`: the share of the request's steps that is executed, for models that need few.
    `spacing`: of the schedule under the step rule "all"; few steps want "trailing", which wastes
    none at the end.
    `guidance`: the share of the request's guidance beyond 1 that acts, for models that want less
    of it than SDXL.
    `residual`: whether what the VAE's round trip loses of a crop is given back where the walk
    changes little, so that what the walk changed is painted and not the trip; for small VAEs.
    `mirrored`: whether each crop is also repainted mirrored and the mean of both taken, for models
    that restore in one step: see `pipeline.models.mirrored`.
    """

    folder: str
    scheduler: SchedulerName
    step_rule: StepRule
    batch_sizes: tuple[int, ...]
    guidance: float = 1.0
    residual: bool = False
    mirrored: bool = False
    checkpoint: str | None = None
    vae: str | None = None
    loras: tuple[LoraConfig, ...] = ()
    precision: Precision = "auto"
    steps: float = 1.0
    spacing: Spacing = "linspace"


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


def _inpainter(table: dict[str, Any]) -> InpainterConfig:
    loras = tuple(LoraConfig(**lora) for lora in table.get("loras", []))
    return InpainterConfig(**{**table, "batch_sizes": tuple(table["batch_sizes"]), "loras": loras})


def _read_table(file: Path) -> tuple[dict[str, Any], Path]:
    """The file's keys over those of its `base`, table by table; and the folder of the last base."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    if "base" not in table:
        return table, file.parent
    merged, folder = _read_table(file.parent / table.pop("base"))
    for key, value in table.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged, folder


def read_profile(path: Path) -> Profile:
    """Read a profile file.

    `base = "…"` in it names another one, whose keys hold where it has none of its own. All paths
    start from the folder of the file that has no base.

    Args:
        path: the file, or a folder with a `profile.toml`.

    Raises:
        WeightsError: the file is missing, or lacks or misspells a key.
    """
    file = path if path.suffix == ".toml" else path / "profile.toml"
    try:
        table, folder = _read_table(file)
        upscaler = table["upscaler"]
        weights = {int(factor): name for factor, name in upscaler["weights"].items()}
        return Profile(
            name=table["name"],
            folder=folder,
            detector=DetectorConfig(**table["detector"]),
            segmenter=SegmenterConfig(**table["segmenter"]),
            outline=_pass(table["outline"]),
            detail=_pass(table["detail"]),
            inpainter=_inpainter(table["inpainter"]),
            upscaler=UpscalerConfig(weights=weights, tile_px=upscaler["tile_px"]),
        )
    except FileNotFoundError as error:
        missing = Path(error.filename)
        raise WeightsError(
            f"profile file is missing: {missing.name} in {missing.parent.name}"
        ) from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{file.name} of {file.parent.name} cannot be read: {error}") from error
