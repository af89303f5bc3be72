"""Restores held-out damaged faces as the pipeline does, and measures the result."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler

from evaluation.damages import Damage
from training.eye import Eye
from training.network import SCHEDULER_CONFIG
from training.pairs import PairRing
from training.prompts import DEFAULT_NEGATIVE
from training.vae import FACTOR

STRENGTH = 0.04
GUIDANCE = 1.05
LEVELS = {
    "heavy": Damage(shrink=6, noise=6, jpeg_quality=45),
    "medium": Damage(shrink=3.5, noise=3, jpeg_quality=75),
    "none": Damage(),
}


@torch.inference_mode()
def restore(model: Any, ring: PairRing, prompts: Any) -> torch.Tensor:
    """Run the first pass: one Euler step from STRENGTH on the ring's damaged latents.

    It uses the default negative prompt, and as much of the default guidance as the profile applies.

    Args:
        model: an `Inpainter`; left in training mode.
        ring: the pairs; all of them are restored.
        prompts: a `Prompts`, for its tokenizers.

    Returns:
        (len(ring), 4, h, w) scaled latents on the model's device.
    """
    model.eval()
    device = next(model.parameters()).device
    count = len(ring)
    context, pooled = model.embed(
        *(
            ids.to(device)
            for ids in prompts.tokenize(["a portrait, high quality", DEFAULT_NEGATIVE])
        )
    )
    context, pooled = context.repeat_interleave(count, 0), pooled.repeat_interleave(count, 0)
    scheduler = EulerDiscreteScheduler(**{**SCHEDULER_CONFIG, "timestep_spacing": "trailing"})
    scheduler.set_timesteps(round(1 / STRENGTH))
    timestep = scheduler.timesteps[-1]
    scheduler.set_begin_index(len(scheduler.timesteps) - 1)
    noise = torch.randn(ring.damaged[:count].shape, generator=torch.Generator().manual_seed(0))
    latents: torch.Tensor = scheduler.add_noise(ring.damaged[:count], noise, timestep[None]).to(
        device
    )
    fixed = torch.cat([ring.mask[:count], ring.masked[:count]], dim=1).to(device)
    sample = torch.cat([scheduler.scale_model_input(latents, timestep), fixed], dim=1)
    wanted, unwanted = model(
        sample.repeat(2, 1, 1, 1), timestep.expand(2 * count).to(device), context, pooled
    ).chunk(2)
    predicted = unwanted + GUIDANCE * (wanted - unwanted)
    latents = scheduler.step(predicted, timestep, latents).prev_sample
    model.train()
    return latents


@torch.inference_mode()
def measure(restored: torch.Tensor, eye: Eye, ring: PairRing, folder: Path) -> str:
    """Measure damaged and restored faces as the product shows them; writes a sheet to `folder`.

    Returns:
        Per level, PSNR inside the masks and the distance of the embeddings, to the clean faces.
    """
    rows = torch.arange(len(ring))
    sight, mask = ring.sight(rows).to(restored.device), ring.mask[rows].to(restored.device)
    seen = eye.picture(restored, sight, mask).clamp(-1, 1)
    inside = F.interpolate(mask, scale_factor=float(FACTOR))
    clean = eye.embed(sight.aim, sight.chips)
    report = []
    for name, pictures in (("damaged", sight.original), ("restored", seen)):
        errors = ((pictures - sight.aim).square() * inside).sum(dim=(1, 2, 3))
        psnr = 10 * torch.log10(4 / (errors / (3 * inside.sum(dim=(1, 2, 3)))).clamp_min(1e-5))
        distance = (eye.embed(pictures, sight.chips) - clean).norm(dim=1)
        levels = [
            f"{level} {psnr[row :: len(LEVELS)].mean():.2f} dB"
            f" {distance[row :: len(LEVELS)].mean():.3f}"
            for row, level in enumerate(LEVELS)
        ]
        report.append(f"{name}: {', '.join(levels)}")
    columns = torch.cat([sight.original, seen, sight.aim], dim=2)[:16].cpu()
    halves = [torch.cat(list(half), dim=2) for half in columns.chunk(2)]
    sheet = ((torch.cat(halves, dim=1).permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    cv2.imwrite(str(folder / "sheet.png"), np.ascontiguousarray(sheet[..., ::-1]))
    return "; ".join(report)
