"""Walk held-out damaged faces to restored ones as the pipeline will, and measure the result."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from weights.training.damage import Damage
from weights.training.network import SCHEDULER_CONFIG
from weights.training.pairs import PairRing
from weights.training.prompts import DEFAULT_NEGATIVE
from weights.training.vae import FACTOR, decode

STRENGTH = 0.04
GUIDANCE = 1.05
LEVELS = {
    "heavy": Damage(shrink=6, noise=6, jpeg_quality=45),
    "medium": Damage(shrink=3.5, noise=3, jpeg_quality=75),
    "none": Damage(),
}


@torch.inference_mode()
def restore(model: Any, ring: PairRing, prompts: Any) -> torch.Tensor:
    """One Euler step from STRENGTH over the ring's damaged latents, with what the profile lets act
    of the default guidance, and the default negative prompt: the first pass.

    Args:
        model: an `Inpainter`; in training mode afterwards.
        ring: the pairs; all are walked.
        prompts: what tokenizes.

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
def measure(restored: torch.Tensor, vae: AutoencoderKL, ring: PairRing, folder: Path) -> str:
    """PSNR inside the masks, damaged and restored, against the clean faces as the VAE keeps them; a
    sheet in `folder`.
    """
    latents = {
        "damaged": ring.damaged[: len(ring)],
        "restored": restored,
        "clean": ring.clean[: len(ring)],
    }
    pictures = {
        name: decode(vae, values.to(vae.device)).clamp(-1, 1).cpu()
        for name, values in latents.items()
    }
    mask = torch.nn.functional.interpolate(ring.mask[: len(ring)], scale_factor=float(FACTOR))
    report = []
    for name in ("damaged", "restored"):
        error = ((pictures[name] - pictures["clean"]).pow(2) * mask).sum(dim=(1, 2, 3)) / (
            3 * mask.sum(dim=(1, 2, 3))
        )
        psnr = 10 * torch.log10(4 / error.clamp_min(1e-5))
        levels = [
            f"{level} {psnr[row :: len(LEVELS)].mean():.2f}" for row, level in enumerate(LEVELS)
        ]
        report.append(f"{name}: {', '.join(levels)} dB")
    columns = [
        torch.cat([pictures[name][row] for name in latents], dim=1)
        for row in range(min(16, len(ring)))
    ]
    rows = torch.cat([torch.cat(columns[:8], dim=2), torch.cat(columns[8:], dim=2)], dim=1)
    sheet = ((rows.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    cv2.imwrite(str(folder / "sheet.png"), np.ascontiguousarray(sheet[..., ::-1]))
    return "; ".join(report)
