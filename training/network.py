"""The inpainter's networks: SDXL's layout with a few million parameters."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from training.pairs import WORK_PX
from training.vae import FACTOR

TEXT_WIDTH = 16
UNET_CONFIG: dict[str, Any] = {
    "sample_size": WORK_PX // FACTOR,
    "in_channels": 9,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * 2,
    "block_out_channels": (32, 64, 96, 128),
    "layers_per_block": (2, 2, 2, 1),
    "transformer_layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * 32,
}
SCHEDULER_CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 1e-5,
    "beta_end": 0.0027,
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "prediction_type": "sample",
}
IDENTITY_LEVEL = 4.0


class Inpainter(torch.nn.Module):
    """All trained parts in one module, so that they share optimizer, average and checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        text = CLIPTextConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=TEXT_WIDTH,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
        self.text_encoder = CLIPTextModel(text)
        self.text_encoder_2 = CLIPTextModelWithProjection(text)
        for embedding in (self.text_encoder, self.text_encoder_2):
            torch.nn.init.normal_(embedding.get_input_embeddings().weight, std=0.5)
        self.unet = UNet2DConditionModel(**UNET_CONFIG)
        start_as_identity(self.unet)

    def embed(self, ids: torch.Tensor, ids_2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (N, 77) of both tokenizers → (N, 77, 2·TEXT_WIDTH), pooled (N, TEXT_WIDTH).

        The same as in SDXL.
        """
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids_2, output_hidden_states=True)
        return torch.cat(
            [first.hidden_states[-2], second.hidden_states[-2]], dim=-1
        ), second.text_embeds

    def forward(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor,
    ) -> torch.Tensor:
        """Samples (N, 9, h, w) and timesteps (N,) → predicted clean latents (N, 4, h, w)."""
        size = torch.tensor([WORK_PX, WORK_PX, 0, 0, WORK_PX, WORK_PX], dtype=torch.float32)
        added = {"text_embeds": pooled, "time_ids": size.to(sample.device).expand(len(sample), 6)}
        out = self.unet(sample, timesteps, encoder_hidden_states=context, added_cond_kwargs=added)
        return torch.as_tensor(out.sample)


@torch.no_grad()
def start_as_identity(unet: UNet2DConditionModel) -> None:
    """Initialise a UNet so that its output is its first four input channels.

    The last residual block passes on 16 channels of conv_in, in the output norm's groups of four:
    z, −z and the constants ±IDENTITY_LEVEL, which keep the group's norm stable. Because
    silu(x) − silu(−x) = x, the last convolution reproduces z, to about 2 %.
    """
    width = unet.conv_in.out_channels
    last = unet.up_blocks[-1].resnets[-1]
    unet.conv_in.weight[:16] = 0
    unet.conv_in.bias[:16] = 0
    last.conv_shortcut.weight[:16] = 0
    last.conv_shortcut.bias[:16] = 0
    torch.nn.init.zeros_(last.conv2.weight)
    torch.nn.init.zeros_(last.conv2.bias)
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    for channel in range(4):
        plus, minus, high, low = range(4 * channel, 4 * channel + 4)
        unet.conv_in.weight[plus, channel, 1, 1] = 1
        unet.conv_in.weight[minus, channel, 1, 1] = -1
        unet.conv_in.bias[high] = IDENTITY_LEVEL
        unet.conv_in.bias[low] = -IDENTITY_LEVEL
        unet.conv_out.weight[channel, plus, 1, 1] = 1
        unet.conv_out.weight[channel, minus, 1, 1] = -1
    # The block's input: the features from below, then the skip connection, conv_in's output.
    for index in range(16):
        last.conv_shortcut.weight[index, last.in_channels - width + index] = 1
    level = ((1 + IDENTITY_LEVEL**2) / 2) ** 0.5
    unet.conv_norm_out.weight[:16] = level
    unet.conv_norm_out.bias[:16] = 0
