"""The part of a profile that says what repaints: networks, what is added to them, how they run."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.config_values import (
    TABLE,
    BatchSizes,
    ControlScale,
    File,
    Folder,
    GuidanceShare,
    LoraScale,
    OptionalFile,
    OptionalFolder,
    PositiveShare,
    Share,
    Switch,
    Token,
    ToldSide,
    disagreement,
)

StepRule = Annotated[Literal["all", "diffusers"], Field(description='"all" or "diffusers"')]
SchedulerName = Annotated[
    Literal["euler", "dpmpp_2m_karras", "ddim"],
    Field(description='"euler", "dpmpp_2m_karras" or "ddim"'),
]
Spacing = Annotated[
    Literal["linspace", "trailing"],
    Field(description='"linspace", or "trailing", which needs the step_rule "all"'),
]
Precision = Annotated[
    Literal["auto", "float32", "float16", "bfloat16"],
    Field(description='"auto", "float32", "float16" or "bfloat16"'),
]


@dataclass(frozen=True, slots=True, config=TABLE)
class LoraConfig:
    """`file`: safetensors. `scale`: how much of it is added to the weights."""

    file: File
    scale: LoraScale = 1.0


@dataclass(frozen=True, slots=True, config=TABLE)
class EmbeddingConfig:
    """`file`: safetensors. `token`: the word for it in prompts; empty: the file's name without its
    ending.
    """

    file: File
    token: Token = ""


@dataclass(frozen=True, slots=True, config=TABLE)
class ControlConfig:
    """`folder`: a ControlNet as diffusers saves it, for what it is shown to be the picture itself
    ("tile"). `scale`: how much its answer weighs.
    """

    folder: Folder
    scale: ControlScale = 0.5


@dataclass(frozen=True, slots=True, config=TABLE)
class IpAdapterConfig:
    """`file`: safetensors, of the kind "plus". `encoder`: a folder with the CLIP image encoder that
    it was trained with. `scale`: how much what it tells weighs.
    """

    file: File
    encoder: Folder
    scale: Share = 0.5


@dataclass(frozen=True, slots=True, config=TABLE)
class InpainterConfig:
    """`folder`: diffusers layout (unet, vae, both text encoders and tokenizers, scheduler).
    `checkpoint`: a single file in SDXL's original layout, whose UNet (of 4 or 9 channels) and text
    encoders replace the folder's. `unet`, `vae`: folders with another UNet and another VAE.
    `loras`: added to the weights. `embeddings`: words of a user's own (textual inversion).
    `control`: a ControlNet that holds the repaint to what the crop shows.
    `ip_adapter`: tells the UNet, beside the prompt, what the face in the crop looks like.
    `precision`: "auto" is float16 on a GPU and float32 on a CPU. A VAE whose configuration says
    `force_upcast` does not run in float16.
    `batch_sizes`: the numbers of rows that the UNet is called with.
    `steps`: the share of the request's steps that is executed, for models that need few.
    `spacing`: of the schedule under the step rule "all"; few steps want "trailing", which wastes
    none at the end.
    `guidance`: the share of the request's guidance beyond 1 that acts, for models that want less
    of it than SDXL.
    `residual`: whether what the VAE's round trip loses of a crop is given back where the
    model changes little, so that its change is painted and not the trip's; for small VAEs.
    `told_px`: the least picture side that the UNet is told, as the size of the original and of the
    target; a larger crop's own is told as it is. What SDXL is told to be small, it makes blurred.
    `mirrored`: whether each crop is also repainted mirrored and the mean of both taken, for models
    that restore in one step: see `pipeline.models.sdxl.mirrored`.
    """

    folder: Folder
    scheduler: SchedulerName
    step_rule: StepRule
    batch_sizes: BatchSizes
    guidance: GuidanceShare = 1.0
    residual: Switch = False
    mirrored: Switch = False
    checkpoint: OptionalFile = None
    unet: OptionalFolder = None
    vae: OptionalFolder = None
    loras: Annotated[
        tuple[LoraConfig, ...], Field(description="a list of tables with file and scale")
    ] = ()
    embeddings: Annotated[
        tuple[EmbeddingConfig, ...], Field(description="a list of tables with file and token")
    ] = ()
    control: Annotated[ControlConfig | None, Field(description="a table with folder and scale")] = (
        None
    )
    ip_adapter: Annotated[
        IpAdapterConfig | None, Field(description="a table with file, encoder and scale")
    ] = None
    precision: Precision = "auto"
    steps: PositiveShare = 1.0
    spacing: Spacing = "linspace"
    told_px: ToldSide = 0

    def __post_init__(self) -> None:
        if self.step_rule == "diffusers" and self.spacing != "linspace":
            raise disagreement("spacing")
