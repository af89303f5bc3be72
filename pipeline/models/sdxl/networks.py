"""SDXL's networks: read from a diffusers folder or a single file, LoRAs merged in, laid out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from diffusers.models.attention_processor import (
    Attention,
    FusedAttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
)
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from pipeline.config_inpainter import InpainterConfig
from pipeline.errors import WeightsError
from pipeline.models.sdxl.embeddings import add_words
from pipeline.models.sdxl.ip_adapter import FaceTokens, add_adapter
from pipeline.models.sdxl.lora import merge_lora
from pipeline.models.sdxl.prompts import Words
from pipeline.models.sdxl.schedule import read_noise_model

# `pipeline.loading` says so by the environment, too late where transformers was imported first.
disable_progress_bar()

# Where a single file of SDXL keeps the UNet's first convolution, which tells its input channels.
FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"

# What a ControlNet's configuration has in common with the UNet's that it is made for.
_OF_ONE_KIND = (
    "addition_embed_type",
    "block_out_channels",
    "cross_attention_dim",
    "layers_per_block",
    "projection_class_embeddings_input_dim",
    "transformer_layers_per_block",
)


@dataclass(frozen=True, slots=True)
class SdxlNetworks:
    """All that repainting needs. Encoders, tokenizers and a user's own words in SDXL's order."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoders: tuple[Any, Any]
    tokenizers: tuple[Any, Any]
    scheduler_config: dict[str, Any]
    words: tuple[Words, Words] = ({}, {})
    control: ControlNetModel | None = None
    face_tokens: FaceTokens | None = None

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """Everything that has weights."""
        optional = filter(None, (self.face_tokens, self.control))
        return (*self.encoders, self.unet, *optional, self.vae)


def precision_of(config: InpainterConfig, device: str) -> torch.dtype:
    """The profile's precision; "auto": float16 on a GPU and float32 on a CPU."""
    if config.precision != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[
            config.precision
        ]
    return torch.float32 if device == "cpu" else torch.float16


def vae_precision(vae_config: Mapping[str, Any], dtype: torch.dtype, device: str) -> torch.dtype:
    """The VAE's precision beside networks of `dtype`.

    One whose configuration says `force_upcast`, as SDXL's own does, overflows in float16. bfloat16
    has float32's range; where the device has no arithmetic for it, float32 serves.
    """
    if dtype != torch.float16 or not vae_config.get("force_upcast", True):
        return dtype
    place = torch.device(device)
    # What is counted on "meta" is a GPU's.
    ampere = place.type == "cuda" and torch.cuda.get_device_capability(place) >= (8, 0)
    return torch.bfloat16 if ampere or place.type == "meta" else torch.float32


def read_networks(folder: Path, config: InpainterConfig, device: str) -> SdxlNetworks:
    """Read a profile's networks, on the CPU, in the precision that they are to have on `device`.

    Raises:
        WeightsError: a part is missing, cannot be read, or does not fit.
    """
    root = folder / config.folder
    dtype = precision_of(config, device)
    try:
        text = (root / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
        read_noise_model(json.loads(text))
        tokenizers = tuple(
            CLIPTokenizer.from_pretrained(root / name, local_files_only=True)
            for name in ("tokenizer", "tokenizer_2")
        )
        unet_folder = folder / config.unet if config.unet else root / "unet"
        if config.checkpoint:
            unet, encoders = _from_single_file(folder / config.checkpoint, root, dtype)
        else:
            unet = _from_folder(UNet2DConditionModel, unet_folder, dtype)
            encoders = (
                _from_folder(CLIPTextModel, root / "text_encoder", dtype),
                _from_folder(CLIPTextModelWithProjection, root / "text_encoder_2", dtype),
            )
        vae_folder = folder / config.vae if config.vae else root / "vae"
        vae_config = AutoencoderKL.load_config(vae_folder, local_files_only=True)
        vae = _from_folder(AutoencoderKL, vae_folder, vae_precision(vae_config, dtype, device))
        control = config.control and _read_control(folder / config.control.folder, unet, dtype)
        for lora in config.loras:
            merge_lora((unet, *encoders), folder / lora.file, lora.scale)
        embeddings = [(folder / own.file, own.token) for own in config.embeddings]
        face_tokens = None
        if config.ip_adapter is not None:
            face_tokens = add_adapter(unet, folder, config.ip_adapter, dtype)
        words = add_words(encoders, tokenizers, embeddings)
    # tokenizers raises bare Exceptions, and each other library its own.
    except Exception as error:
        raise WeightsError(f"the inpainter of {folder.name} cannot be loaded: {error}") from error
    return SdxlNetworks(
        unet, vae, encoders, tokenizers, json.loads(text), words, control, face_tokens
    )


def lay_out(networks: SdxlNetworks) -> None:
    """Make the networks ready to run: weights fixed, channels last, attention in fewer products."""
    for network in networks.modules:
        network.eval().requires_grad_(requires_grad=False)
    for painter in filter(None, (networks.unet, networks.control)):
        fuse_attention(painter)
        painter.to(memory_format=torch.channels_last)
    networks.vae.to(memory_format=torch.channels_last)


def fuse_attention(network: UNet2DConditionModel | ControlNetModel) -> None:
    """One product for query, key and value, of self-attention; one for key and value, of cross."""
    # As the UNet's own `fuse_qkv_projections`, which a ControlNet does not have.
    for module in network.modules():
        # Of an IP-Adapter, each has more products than these.
        if isinstance(module, Attention) and not isinstance(
            module.processor, IPAdapterAttnProcessor2_0
        ):
            module.fuse_projections(fuse=True)
            module.set_processor(FusedAttnProcessor2_0())
            # diffusers keeps the separate ones beside: a quarter of SDXL's UNet twice.
            if not module.is_cross_attention:
                del module.to_q
            del module.to_k, module.to_v


def _read_control(folder: Path, unet: UNet2DConditionModel, dtype: torch.dtype) -> ControlNetModel:
    """A ControlNet, which has to be one for a UNet like this."""
    config = ControlNetModel.load_config(folder, local_files_only=True)
    kind = config.get("_class_name")
    if kind != ControlNetModel.__name__:
        raise WeightsError(f"{folder.name} has a {kind}, which is not supported")
    if any(config.get(key) != unet.config.get(key) for key in _OF_ONE_KIND):
        raise WeightsError(f"the ControlNet in {folder.name} is not made for this UNet")
    control: ControlNetModel = _from_folder(ControlNetModel, folder, dtype)
    return control


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
