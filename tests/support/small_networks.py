"""SDXL's layout in fewer and narrower blocks than the tiny profile's."""

from dataclasses import replace

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from pipeline.models.sdxl.networks import SdxlNetworks


def small(networks: SdxlNetworks) -> SdxlNetworks:
    """With random weights, which are the same at every call."""
    torch.manual_seed(0)
    unet = dict(networks.unet.config)
    unet |= {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1),
        "attention_head_dim": (2, 4),
        "norm_num_groups": 8,
    }
    vae = dict(networks.vae.config) | {"layers_per_block": 1, "block_out_channels": (8, 8, 8)}
    vae |= {"norm_num_groups": 4}
    return replace(
        networks,
        unet=UNet2DConditionModel.from_config(unet).eval(),
        vae=AutoencoderKL.from_config(vae).eval(),
    )


def with_channels(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """One of so many input channels: this one, or one of its sizes with random weights."""
    if unet.config.in_channels == channels:
        return unet
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config({**unet.config, "in_channels": channels}).eval()
