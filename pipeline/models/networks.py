"""SDXL's networks: read from a diffusers folder or a single file, LoRAs merged in, laid out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from diffusers.models.attention_processor import Attention
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from pipeline.config import InpainterConfig
from pipeline.errors import WeightsError

# `pipeline.loading` says so by the environment, too late where transformers was imported first.
disable_progress_bar()

# Where a single file of SDXL keeps the UNet's first convolution, which tells its input channels.
FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"


@dataclass(frozen=True, slots=True)
class SdxlNetworks:
    """All that repainting needs. Both encoders and tokenizers in SDXL's order."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoders: tuple[Any, Any]
    tokenizers: tuple[Any, Any]
    scheduler_config: dict[str, Any]

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """Everything that has weights."""
        return (*self.encoders, self.unet, self.vae)


def precision_of(config: InpainterConfig, device: str) -> torch.dtype:
    """The profile's precision; "auto": float16 on a GPU and float32 on a CPU."""
    if config.precision != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[
            config.precision
        ]
    return torch.float32 if device == "cpu" else torch.float16


def read_networks(folder: Path, config: InpainterConfig, dtype: torch.dtype) -> SdxlNetworks:
    """Read a profile's networks, on the CPU.

    Raises:
        WeightsError: a part is missing, cannot be read, or does not fit.
    """
    root = folder / config.folder
    try:
        text = (root / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
        tokenizers = tuple(
            CLIPTokenizer.from_pretrained(root / name, local_files_only=True)
            for name in ("tokenizer", "tokenizer_2")
        )
        if config.checkpoint:
            unet, encoders = _from_single_file(folder / config.checkpoint, root, dtype)
        else:
            unet = _from_folder(UNet2DConditionModel, root / "unet", dtype)
            encoders = (
                _from_folder(CLIPTextModel, root / "text_encoder", dtype),
                _from_folder(CLIPTextModelWithProjection, root / "text_encoder_2", dtype),
            )
        vae_folder = folder / config.vae if config.vae else root / "vae"
        vae = _from_folder(AutoencoderKL, vae_folder, dtype)
        networks = SdxlNetworks(unet, vae, encoders, tokenizers, json.loads(text))
        for lora in config.loras:
            _merge(networks, folder / lora.file, lora.scale)
    # tokenizers raises bare Exceptions, and each other library its own.
    except Exception as error:
        raise WeightsError(f"the inpainter of {folder.name} cannot be loaded: {error}") from error
    return networks


def lay_out(networks: SdxlNetworks) -> None:
    """Make the networks ready to run: weights fixed, channels last, attention in fewer products."""
    for network in networks.modules:
        network.eval().requires_grad_(requires_grad=False)
    fuse_attention(networks.unet)
    for network in (networks.unet, networks.vae):
        network.to(memory_format=torch.channels_last)


def fuse_attention(unet: UNet2DConditionModel) -> None:
    """One product for query, key and value, of self-attention; one for key and value, of cross."""
    unet.fuse_qkv_projections()
    for module in unet.modules():
        if isinstance(module, Attention):
            # diffusers keeps the separate ones beside: a quarter of SDXL's UNet twice.
            if not module.is_cross_attention:
                del module.to_q
            del module.to_k, module.to_v


def _from_folder(loader: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network that diffusers or transformers has saved, in whichever precision it was saved."""
    variant = "fp16" if any(folder.glob("*.fp16.*")) else None
    return loader.from_pretrained(
        folder, torch_dtype=dtype, variant=variant, local_files_only=True, use_safetensors=True
    )


def _from_single_file(file: Path, root: Path, dtype: torch.dtype) -> tuple[Any, tuple[Any, Any]]:
    """UNet and text encoders of a checkpoint in SDXL's original layout; sizes as `root` has them.

    Its own VAE is left out: SDXL's overflows in float16, and finetunes keep it as it was.
    """
    with safe_open(file, framework="pt") as checkpoint:
        channels = checkpoint.get_slice(FIRST_CONVOLUTION).get_shape()[1]
    weights = load_file(file)
    options = {"config": str(root), "torch_dtype": dtype, "local_files_only": True}
    first, second = (
        create_diffusers_clip_model_from_ldm(kind, weights, subfolder=name, **options)
        for kind, name in (
            (CLIPTextModel, "text_encoder"),
            (CLIPTextModelWithProjection, "text_encoder_2"),
        )
    )
    unet = UNet2DConditionModel.from_single_file(
        weights, subfolder="unet", in_channels=channels, **options
    )
    return unet, (first, second)


def _merge(networks: SdxlNetworks, file: Path, scale: float) -> None:
    """Add a LoRA to the weights, in any of the formats that diffusers reads."""
    # Here, because few profiles need it and it takes a second to import.
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(
        networks.vae, *networks.encoders, *networks.tokenizers, networks.unet, scheduler=None
    )
    pipeline.load_lora_weights(load_file(file))
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
