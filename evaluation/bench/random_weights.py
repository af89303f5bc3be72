"""SDXL's networks at full size with random weights: nothing is downloaded to time them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from spandrel.architectures.ESRGAN import ESRGAN
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.config import Profile
from pipeline.loading import Stages
from pipeline.models.esrgan import EsrganUpscaler, make_network
from pipeline.models.sam import build_sam, make_segmenter
from pipeline.models.sdxl.networks import SdxlNetworks, precision_of
from pipeline.models.yolo import build_detector, make_detector
from pipeline.stages import Inpainter

# Small enough that activations stay finite in float16 through SDXL's depth.
DEVIATION = 0.01


def random_networks(
    profile: Profile, dimensions: Path, tokenizers: Path, device: str
) -> SdxlNetworks:
    """The inpainter's networks, made where they will work; on "meta" without values.

    Args:
        profile: for its precision.
        dimensions: a folder with `unet/config.json` and so on.
        tokenizers: a folder with `tokenizer` and `tokenizer_2`; SDXL's vocabulary.
        device: as torch names it.
    """
    dtype = precision_of(profile.inpainter, device)

    def make(build: Callable[[], torch.nn.Module]) -> Any:
        standard = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device("meta"):
                network = build()
        finally:
            torch.set_default_dtype(standard)
        return network if device == "meta" else fill(network.to_empty(device=device))

    def diffusers(kind: Any, name: str) -> Any:
        return make(lambda: kind.from_config(_read(dimensions / name / "config.json")))

    def encoder(kind: Any, name: str) -> Any:
        # Some configurations name a precision of their own.
        return make(lambda: kind(CLIPTextConfig.from_pretrained(dimensions / name)).to(dtype))

    first, second = (
        CLIPTokenizer.from_pretrained(tokenizers / name, local_files_only=True)
        for name in ("tokenizer", "tokenizer_2")
    )
    return SdxlNetworks(
        unet=diffusers(UNet2DConditionModel, "unet"),
        vae=diffusers(AutoencoderKL, "vae"),
        encoders=(
            encoder(CLIPTextModel, "text_encoder"),
            encoder(CLIPTextModelWithProjection, "text_encoder_2"),
        ),
        tokenizers=(first, second),
        scheduler_config=_read(dimensions / "scheduler" / "scheduler_config.json"),
    )


def random_stages(profile: Profile, inpainter: Inpainter, dimensions: Path, device: str) -> Stages:
    """As `pipeline.loading.load_stages`, with random weights; for "meta" they are on the CPU."""
    device = "cpu" if device == "meta" else device
    folder, segmenter = profile.folder, profile.segmenter
    upscalers = {
        int(factor): make_network(ESRGAN(**sizes).state_dict(), int(factor), device, factor)
        for factor, sizes in _read(dimensions / "upscaler.json").items()
    }
    return Stages(
        detector=make_detector(build_detector(folder / profile.detector.yaml), device),
        segmenter=make_segmenter(build_sam(_read(folder / segmenter.config)), segmenter, device),
        inpainter=inpainter,
        upscaler=EsrganUpscaler(upscalers, profile.upscaler.tile_px),
    )


@torch.no_grad()
def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Give every tensor values: matrices random ones, vectors those that change nothing."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, DEVIATION)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for buffer in network.buffers():
        # CLIP's only one: the tokens' positions.
        buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return network


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
